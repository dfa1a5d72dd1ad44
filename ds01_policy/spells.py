"""PURE: what one more tick makes of a spell: it begins, goes on, ends, or stays as it was.

Owns the continuity of idleness, which is what makes a warning count. One implementation for plan and ledger.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.model import ALIVE, Kind, Spell

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Verdict

KEEP_ALIVE = "keep_alive"
# Exemptions that only an admin can give. When one ends, people are warned anew.
HANDS_OFF = frozenset({"infrastructure", "exempted"})
# A rule over clocks needs no proof of what happened between two ticks, but a warning this old is no notice.
FORGOTTEN = timedelta(days=1)

_DUE = (Kind.ACT, Kind.WARN)
_ENDED = (Kind.CLEAR, Kind.OFF)


def progress(spell: Spell | None, verdict: Verdict, at: datetime) -> Spell | None:
    """Tell what the spell of this (container, rule) is after a tick at `at` found `verdict`; None: there is none.

    UNKNOWN, YOUNG and most exemptions prove nothing either way and leave it untouched. A keep-alive file holds a
    spell back without ending it, and answers its warning: the next act needs a new one.
    """
    if spell is not None and not _trusted(spell, verdict, at):
        spell = None
    if _ends(verdict):
        return None
    kept = verdict.kind is Kind.EXEMPT and verdict.held_by == KEEP_ALIVE and verdict.beneath in _DUE
    if not kept and verdict.kind not in _DUE:
        return spell
    spell = continued(spell, verdict, at) or Spell(verdict.container.id, life_of(verdict), verdict.rule, at, at)
    if kept:
        kept_since = spell.kept_since or at
        answered = replace(spell, warned_at=None, warned_mode=None, delivered=False, promised_at=None)
        return replace(answered, seen=at, kept_since=kept_since)
    return replace(spell, seen=at)


def continued(spell: Spell | None, verdict: Verdict, at: datetime) -> Spell | None:
    """Return the spell if what the verdict finds now goes back to its last tick without a gap; else None.

    Only for a verdict that is due (or would be, but for a keep-alive file).
    """
    if spell is None or not _trusted(spell, verdict, at) or at - spell.seen > _reaches_back(verdict):
        return None
    return spell


def life_of(verdict: Verdict) -> datetime | None:
    """Tell when what is due began to live: a rule over clocks counts through restarts, and so does its warning.

    Else whoever restarts often enough is warned for ever, and never stopped. What was measured is of one life only.
    """
    container = verdict.container
    through_restarts = not verdict.evidence and container.state in ALIVE
    return (container.running_since if through_restarts else None) or container.started_at


def _trusted(spell: Spell, verdict: Verdict, at: datetime) -> bool:
    """Whether it is of this life, and no clock was set back since."""
    if verdict.kind in _DUE:
        of_this_life = spell.started_at == life_of(verdict)
    else:  # which says nothing of what was measured: whose spell it is shows once something is due again
        of_this_life = spell.started_at in (verdict.container.started_at, verdict.container.running_since)
    return of_this_life and spell.seen <= at


def _ends(verdict: Verdict) -> bool:
    """Whether the verdict shows that nothing is due."""
    if verdict.kind is Kind.EXEMPT:
        return verdict.held_by in HANDS_OFF or verdict.beneath in _ENDED
    return verdict.kind in _ENDED


def _reaches_back(verdict: Verdict) -> timedelta:
    """How far back the verdict itself proves that its condition held all the time.

    A warning of a rule over signals was asked over a share of `for_`: of the windows asked, the widest below it.
    """
    if not verdict.evidence or verdict.for_ is None:
        return FORGOTTEN
    if Kind.WARN in (verdict.kind, verdict.beneath):
        windows = {piece.reading.window for piece in verdict.evidence}
        return max((window for window in windows if window < verdict.for_), default=verdict.for_)
    return verdict.for_
