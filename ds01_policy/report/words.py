"""Words for what is decided and done, shared by every page: a tag, and what stands beside it.

Owns the wording of decisions and outcomes. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.logic import Truth
from ds01_policy.model import Kind, Status
from ds01_policy.text import LINE_LIMIT, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ds01_policy.model import Decision, Outcome, Verdict
    from ds01_policy.report.layout import Clock, Style

STYLES: dict[str, tuple[Style, ...]] = {
    "next": ("bold", "red"),
    "act": ("bold", "red"),
    "failed": ("bold", "red"),
    "unsure": ("bold", "red"),
    "held": ("yellow",),
    "stale": ("yellow",),
    "unknown": ("yellow",),
    "warn": ("yellow",),
    "done": ("green",),
}

_WORST_FIRST = (Status.FAILED, Status.STALE, Status.WITHHELD, Status.DONE, Status.NOOP)


def what(decision: Decision, outcomes: Iterable[Outcome], clock: Clock, *, carried_out: bool) -> tuple[str, str]:
    """Tag one decision (a key of STYLES, or `noop`) and say what happens, or happened, or why nothing does.

    `carried_out`: the decisions were handed to an actuator, so one that is enforced should have an outcome.
    """
    mine = [outcome for outcome in outcomes if outcome.decision == decision.id]
    if mine:
        worst = min((outcome.status for outcome in mine), key=_WORST_FIRST.index)
        return "held" if worst is Status.WITHHELD else worst.value, ", ".join(map(result, mine))
    words = ", ".join(decision.actions)
    if decision.enforced and carried_out:
        return "unsure", f"{words}: nothing is known of what became of it"
    if not decision.enforced:
        detail = plain(decision.detail)
        words += f" ({decision.held_by}: {detail})" if detail else f" ({decision.held_by})"
    if decision.act_at is not None:
        words += f"; the act may follow {clock.both(decision.act_at)}"
    elif decision.verdict.due_at is not None and decision.verdict.due_at < clock.at:
        words += f"; due since {clock.absolute(decision.verdict.due_at)}"
    return "next" if decision.enforced else "held", words


def reason(verdict: Verdict, limit: int = LINE_LIMIT) -> str:
    """Say why a rule finds what it finds; signals that lack the same thing are named together."""
    gaps: dict[str, list[str]] = {}
    for piece in verdict.evidence:
        if verdict.kind is Kind.UNKNOWN and piece.truth is Truth.UNKNOWN and piece.reading.missing is not None:
            detail = f" ({plain(piece.reading.detail)})" if piece.reading.detail else ""
            gaps.setdefault(f"{piece.reading.missing}{detail}", []).append(piece.label)
    if any(len(labels) > 1 for labels in gaps.values()):
        together = (f"{', '.join(dict.fromkeys(labels))}: {what}" for what, labels in gaps.items())
        return plain("; ".join(together), limit)
    return plain(verdict.why, limit)


def result(outcome: Outcome) -> str:
    """Say what became of one action: `stop done (exit code 137)`."""
    notes = [plain(outcome.detail)] if outcome.detail else []
    if outcome.delivered is False:
        notes.append("nobody was provably reached")
    return f"{outcome.action} {outcome.status}" + (f" ({'; '.join(notes)})" if notes else "")
