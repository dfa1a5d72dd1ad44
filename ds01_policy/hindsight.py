"""What was known about one container at a past instant, gathered from the ledger and the audit log.

Owns which of several lives of one name is meant, and which lines belong to it. Decides and prints nothing.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ds01_policy.audit import read
from ds01_policy.ledger import Ledger
from ds01_policy.memory import AUDIT, LEDGER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ds01_policy.ledger.past import PastLife, PastTick
    from ds01_policy.ledger.verdicts import Stretch

Line = dict[str, Any]

# Where the ledger does not know when the ticks were, lines this close are taken for one tick.
_ONE_TICK = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Span:
    """One life of one container, from whatever tells of it."""

    container: str  # 64 hex
    name: str
    started_at: datetime | None  # None: it was never started
    begin: datetime
    end: datetime | None  # when it ended, or was last heard of; None: it was there at the newest tick

    def holds(self, at: datetime) -> bool:
        """Whether it was there at that time."""
        return self.begin <= at and (self.end is None or at <= self.end)


@dataclass(frozen=True, slots=True)
class Hindsight:
    """One container at one past instant."""

    who: str
    at: datetime
    span: Span
    life: PastLife | None  # None: only the audit log or verdicts tell of it
    tick: PastTick | None  # the last one that began at or before then
    found: tuple[Stretch, ...]  # of each rule, what it found last at or before then
    lines: tuple[Line, ...]  # of the audit log, about this life, at or before then
    later: tuple[Line, ...]  # after it, as far as the life's end
    others: tuple[Line, ...]  # what became of other containers in the tick of the last line
    spans: tuple[Span, ...]  # every life that this name or id had, oldest first


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing is known about it at that time."""

    since: datetime | None  # from when on anything at all is known; None: nothing is
    spans: tuple[Span, ...] = ()  # lives of this name that are known, all of them later


def hindsight(state_dir: Path, who: str, at: datetime) -> Hindsight | Nothing:
    """Tell what was known about a container, by name or the beginning of its id.

    Raises:
        LedgerError, AuditError: when what is there cannot be read.

    """
    ledger = Ledger.open_readonly(state_dir / LEDGER)
    with ledger or nullcontext():
        stretches = ledger.past_verdicts(who) if ledger else []
        lives = ledger.past_lives(who) if ledger else []
        lines = list(read(state_dir / AUDIT, container=who))
        spans = _spans(who, lives, stretches, lines)
        meant = [span for span in spans if span.begin <= at]
        if not meant:
            known = [
                first for first in (ledger.first_tick() if ledger else None, _first(state_dir)) if first is not None
            ]
            return Nothing(min(known, default=None), tuple(spans))
        span = next((one for one in reversed(meant) if one.holds(at)), meant[-1])
        if ledger:  # by its id: it may have had another name before or after
            stretches, lives = ledger.past_verdicts(span.container), ledger.past_lives(span.container)
        mine = [line for line in read(state_dir / AUDIT, container=span.container) if _about(line, span, spans)]
        before = tuple(line for line in mine if _at(line) <= at)
        moment = _at(before[-1]) if before else at
        return Hindsight(
            who,
            at,
            span,
            next((life for life in lives if life.started_at == span.started_at), None),
            ledger.tick_at(at) if ledger else None,
            _last_of_each_rule(stretches, span, at),
            before,
            tuple(line for line in mine if _at(line) > at),
            _others(state_dir, span, moment, ledger.tick_at(moment) if ledger else None) if before else (),
            tuple(spans),
        )


def _first(state_dir: Path) -> datetime | None:
    """Tell when the audit log begins."""
    return next((_at(line) for line in read(state_dir / AUDIT)), None)


def _at(line: Line) -> datetime:
    return datetime.fromisoformat(line["at"])


def _started(line: Line) -> datetime | None:
    try:
        return datetime.fromisoformat(line["started_at"])
    except (KeyError, TypeError, ValueError):
        return None


# ── lives ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _spans(who: str, lives: Iterable[PastLife], stretches: Iterable[Stretch], lines: Iterable[Line]) -> list[Span]:
    """Put every life together that anything tells of, oldest first."""
    told: dict[tuple[str, datetime | None], list[tuple[str, datetime, datetime]]] = {}
    for stretch in stretches:
        seen = (stretch.name, stretch.since, stretch.seen)
        told.setdefault((stretch.container, stretch.started_at), []).append(seen)
    for line in lines:
        if "started_at" in line:  # what a killed run left open does not know which life it was
            key = (str(line.get("container")), _started(line))
            told.setdefault(key, []).append((str(line.get("name")), _at(line), _at(line)))
    known: dict[tuple[str, datetime | None], PastLife] = {(life.container, life.started_at): life for life in lives}
    spans = []
    for key in known:
        told.setdefault(key, [])
    for (container, started_at), times in told.items():
        life = known.get((container, started_at))
        ends = [end for _, _, end in times] + ([life.last_seen] if life else [])
        begin = started_at or min(begin for _, begin, _ in times)
        end = life.ended_at if life else max(ends)
        name = life.name if life else times[-1][0]
        spans.append(Span(container, name, started_at, begin, max([end, *ends]) if end is not None else None))
    # What is somebody's name is no beginning of an id.
    named = [span for span in spans if span.name == who]
    return sorted(named or spans, key=lambda span: (span.begin, span.container))


def _about(line: Line, span: Span, spans: Iterable[Span]) -> bool:
    """Whether a line is about this life: it says so, or lies between its begin and the next one's."""
    if "started_at" in line:
        return _started(line) == span.started_at
    after = [one.begin for one in spans if one.container == span.container and one.begin > span.begin]
    return span.begin <= _at(line) and all(_at(line) < begin for begin in after)


def _last_of_each_rule(stretches: Iterable[Stretch], span: Span, at: datetime) -> tuple[Stretch, ...]:
    last: dict[str, Stretch] = {}
    for stretch in stretches:
        if (stretch.container, stretch.started_at) == (span.container, span.started_at) and stretch.since <= at:
            last[stretch.rule] = stretch
    return tuple(sorted(last.values(), key=lambda stretch: stretch.rule))


def _others(state_dir: Path, span: Span, moment: datetime, tick: PastTick | None) -> tuple[Line, ...]:
    """List what became of others in the same tick: of each action the last line."""
    since = tick.at if tick else moment - _ONE_TICK
    until = (tick.next_at - timedelta(microseconds=1) if tick.next_at else None) if tick else moment + _ONE_TICK
    last: dict[tuple[str, str], Line] = {}
    for line in read(state_dir / AUDIT, since=since, until=until):
        if line.get("container") != span.container and line.get("action"):
            last[str(line.get("container")), str(line.get("action"))] = line
    return tuple(last.values())
