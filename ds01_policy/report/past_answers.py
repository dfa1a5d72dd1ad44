"""A user's questions about what is over: why was it (not) stopped, who was told, what was done, to whom else.

Owns the words. Takes every fact from the ledger and the audit log; what they do not know is said to be unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ds01_policy.hindsight import Hindsight, Line
    from ds01_policy.ledger.verdicts import Stretch
    from ds01_policy.report.layout import Clock

_ENDING = ("stop", "remove")
_OTHERS = 12  # shown; a run that acts on more than that is read in `audit`
_FOUND = {
    "act": "found it due",
    "warn": "found it nearly due",
    "clear": "found nothing to do",
    "unknown": "could not tell, and what is not known never acts",
    "young": "did not ask yet",
    "off": "was off for it",
}


@dataclass(frozen=True, slots=True)
class PastAnswers:
    """The questions and their answers; raw text, not yet safe to print."""

    asked: tuple[str, str, str, str]
    why: tuple[str, ...]
    told: tuple[str, ...]
    done: tuple[str, ...]
    others: tuple[str, ...]


def past_answers(past: Hindsight, clock: Clock) -> PastAnswers:
    """Answer for one container at one past instant."""
    ending = next((line for line in past.lines if _done(line)), None)
    deed = "removed" if past.span.started_at is None or (ending or {}).get("action") == "remove" else "stopped"
    asked = (
        f"Why was it {'' if ending else 'not '}{deed}?",
        "Who was told, and when?",
        "What was done to it?",
        "And to others, in the same run?",
    )
    why = _why_ended(past, ending, clock) if ending else _why_not(past, clock)
    return PastAnswers(asked, why, _told(past, clock), _what(past, clock), _to_others(past))


def at_of(line: Line) -> datetime:
    """Tell when a line was written."""
    return datetime.fromisoformat(line["at"])


def reason_of(past: Hindsight, line: Line) -> Line:
    """Find the line that says why: what an outcome belongs to was written before it was done."""
    return next((one for one in past.lines if one.get("decision") == line.get("decision") and one.get("why")), line)


def _done(line: Line) -> bool:
    return line.get("kind") == "outcome" and line.get("status") == "done" and line.get("action") in _ENDING


# ── why ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _why_ended(past: Hindsight, ending: Line, clock: Clock) -> tuple[str, ...]:
    decided = reason_of(past, ending)
    text = (
        f"{ending.get('rule')}, at {clock.absolute(at_of(ending))}: {decided.get('why') or 'the log does not say why'}."
    )
    limit = decided.get("limit")
    if isinstance(limit, dict) and limit.get("layer"):
        text += f" The limit is {limit.get('key')}, set by {limit['layer']}."
    return (text,)


def _why_not(past: Hindsight, clock: Clock) -> tuple[str, ...]:
    said = [f"{stretch.rule} {_finding(past, stretch)}." for stretch in past.found]
    if past.span.end is not None and past.span.end < past.at:
        said.insert(0, f"It was over by {clock.absolute(past.span.end)}, and this program has not ended it.")
    held = [line for line in past.lines if line.get("kind") == "withheld" and line.get("action") != "warn"]
    if not past.found and held:
        said += [f"{line.get('rule')} found it due ({line.get('why')}), but {_held(line)}." for line in held[-1:]]
    return tuple(said) or ("What the rules found then is not known: no tick of then is in the ledger.",)


def _finding(past: Hindsight, stretch: Stretch) -> str:
    if stretch.kind == "exempt":
        return f"was held off by {stretch.held_by} ({stretch.why})"
    text = f"{_FOUND.get(stretch.kind, stretch.kind)} ({stretch.why})"
    if stretch.kind != "act":
        return text
    held = [
        line
        for line in past.lines
        if line.get("rule") == stretch.rule and line.get("kind") == "withheld" and line.get("action") != "warn"
    ]
    return f"{text}, but {_held(held[-1])}" if held and at_of(held[-1]) >= stretch.since else text


def _held(line: Line) -> str:
    detail = f" ({line['detail']})" if line.get("detail") else ""
    return f"it was held back by {line.get('held_by')}{detail}"


# ── what was said and done ───────────────────────────────────────────────────────────────────────────────────────────


def _told(past: Hindsight, clock: Clock) -> tuple[str, ...]:
    said = []
    for line in past.lines:
        if line.get("action") != "warn" or line.get("kind") == "intent":
            continue
        when = f"{clock.absolute(at_of(line))}, by {line.get('rule')}"
        if line.get("kind") == "withheld":
            said.append(f"{when}: nobody; the warning was held back by {line.get('held_by')} ({line.get('detail')})")
        else:
            said.append(f"{when}: {_outcome(line)}")
    return tuple(said) or ("Nobody: no warning is in the log.",)


def _what(past: Hindsight, clock: Clock) -> tuple[str, ...]:
    said = []
    ended = {(line.get("decision"), line.get("action")) for line in past.lines if line.get("kind") != "intent"}
    for line in past.lines:
        if line.get("action") in (None, "warn") or line.get("kind") == "withheld":
            continue
        when = f"{clock.absolute(at_of(line))}, by {line.get('rule')}: {line.get('action')}"
        if line.get("kind") == "outcome":
            said.append(f"{when} {_outcome(line)}")
        elif line.get("kind") == "recovery":
            said.append(f"{when}: {line.get('detail')}")
        elif (line.get("decision"), line.get("action")) not in ended:
            said.append(f"{when} was begun; nothing is known of what became of it")
    return tuple(said) or ("Nothing.",)


def _outcome(line: Line) -> str:
    notes = [str(line["detail"])] if line.get("detail") else []
    if line.get("delivered") is False:
        notes.append("nobody was provably reached")
    return f"{line.get('status')}" + (f" ({'; '.join(notes)})" if notes else "")


def _to_others(past: Hindsight) -> tuple[str, ...]:
    said = [_other(line) for line in past.others if line.get("kind") in ("outcome", "withheld")]
    more = (f"and {len(said) - _OTHERS} more",) if len(said) > _OTHERS else ()
    return (*said[:_OTHERS], *more) or ("Nothing that is known.",)


def _other(line: Line) -> str:
    became = line.get("status") or f"held back by {line.get('held_by')}"
    actions = line.get("actions")
    what = (
        ", ".join(map(str, actions))
        if isinstance(actions, list) and line.get("kind") == "withheld"
        else line.get("action")
    )
    return f"{line.get('name')} ({line.get('owner')}), by {line.get('rule')}: {what} {became}"
