"""A user's three questions about a container: why is it (not) stopped, when will it be, what to do about it.

Owns the words. Takes every fact from the verdicts and the plan; promises nothing that they do not say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.clauses import OPPOSITES
from ds01_policy.model import ALIVE, Action, HeldBy, Kind, Mode, State
from ds01_policy.report.words import reason
from ds01_policy.rules import AllOf, Clause
from ds01_policy.units import format_duration, format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ds01_policy.model import Decision, Verdict
    from ds01_policy.report.about import About
    from ds01_policy.report.layout import Clock
    from ds01_policy.rules import Condition, Rule

_PENDING = (Kind.ACT, Kind.WARN)


@dataclass(frozen=True, slots=True)
class Answers:
    """The questions, in the words of what can happen to it, and their answers; raw text, not yet safe to print."""

    asked: tuple[str, str, str]
    why: str
    when: tuple[str, ...]
    do: tuple[str, ...]


def answers(about: About, clock: Clock) -> Answers:
    """Answer for one container at one instant."""
    alive = about.container.state in ALIVE
    ending = [each for verdict in about.verdicts for each in about.decisions(verdict.rule) if each.destructive]
    enforced = next((each for each in ending if each.enforced), None)
    deed = "stopped" if alive else "removed"
    asked = (f"Why is it {'' if enforced else 'not '}{deed}?", f"When will it be {deed}?", "What must its owner do?")
    when = tuple(
        f"{verdict.rule}: {_when(about, verdict, clock)}" for verdict in about.verdicts if _ends(about, verdict)
    )
    if when and about.mode is not Mode.ENFORCE:
        when = (*when, f"And that only once the mode is enforce: it is {about.mode}.")
    never = f"Never by a rule: none of them {'stops' if alive else 'removes'} it."
    return Answers(asked, _why(about, enforced), when or (never,), _do(about, clock))


def _ends(about: About, verdict: Verdict) -> bool:
    return Action.STOP in about.rule(verdict).then or Action.REMOVE in about.rule(verdict).then


# ── why ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _why(about: About, enforced: Decision | None) -> str:
    if enforced is not None:
        return f"{enforced.verdict.rule}: {enforced.verdict.why}."
    if not about.verdicts:
        return "No rule is about it."
    reasons = [f"{verdict.rule} {_finding(about, verdict)}" for verdict in about.verdicts]
    return "; ".join(reasons) + "."


def _finding(about: About, verdict: Verdict) -> str:  # noqa: PLR0911  one line a kind
    match verdict.kind:
        case Kind.ACT:
            held = next((each for each in about.decisions(verdict.rule) if each.destructive), None)
            if held is None:
                return "finds it due, another rule goes first"
            return f"finds it due, but {_held(held)}"
        case Kind.WARN:
            return "finds it nearly due"
        case Kind.UNKNOWN:
            return f"cannot tell ({reason(verdict)}), and what is not known never acts"
        case Kind.EXEMPT:
            return f"is held off by {verdict.held_by} ({verdict.why})"
        case Kind.YOUNG:
            return f"does not ask yet ({verdict.why})"
        case Kind.OFF:
            return f"is off for it ({verdict.why})"
        case Kind.CLEAR:
            return f"finds nothing to do ({verdict.why})"


_GUARDS = {
    HeldBy.EXEMPT: "an exemption holds it back",
    HeldBy.STALE: "what was decided about has changed since",
    HeldBy.LEDGER: "the engine's memory cannot be written, so it does nothing that ends work",
    HeldBy.NOTICE: "its notice is not over",
    HeldBy.BREAKER: "too many turned idle at once",
    HeldBy.BUDGET: "this run's budget is spent",
    HeldBy.MODE: "the mode does not act",
}


def _held(decision: Decision) -> str:
    guard = _GUARDS[decision.held_by] if decision.held_by is not None else "nothing is done"
    return f"{guard} ({decision.detail})" if decision.detail else guard


# ── when ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _when(about: About, verdict: Verdict, clock: Clock) -> str:
    span = format_duration(verdict.for_) if verdict.for_ is not None else "long enough"
    match verdict.kind:
        case Kind.ACT:
            return _when_due(about, verdict, clock)
        case Kind.UNKNOWN:
            return "not while data is missing"
        case Kind.EXEMPT:
            return f"not while {verdict.held_by} holds"
        case Kind.OFF:
            return "never"
        case _ if verdict.due_at is not None:
            warning = next((each.act_at for each in about.decisions(verdict.rule) if each.act_at is not None), None)
            return f"at the earliest {clock.both(max(verdict.due_at, warning or verdict.due_at))}" + _mode(
                about, verdict
            )
        case _:
            return f"only once its condition has held for {span}" + _mode(about, verdict)


def _when_due(about: About, verdict: Verdict, clock: Clock) -> str:
    decisions = about.decisions(verdict.rule)
    ending = next((each for each in decisions if each.destructive), None)
    if ending is None:
        return "after what another rule does about it"
    if ending.enforced:
        return "now: the next evaluate does it"
    if ending.held_by is HeldBy.NOTICE:
        known = next((each.act_at for each in (ending, *decisions) if each.act_at is not None), None)
        until = f"at the earliest {clock.both(known)}" if known is not None else ""
        return (until or f"once its notice is over ({ending.detail})") + _mode(about, verdict)
    if ending.held_by is HeldBy.MODE:
        return f"never while the mode is {ending.mode}"
    return "not in this run; every run asks again"


def _mode(about: About, verdict: Verdict) -> str:
    """Say it where the rule's own mode makes a date hypothetical."""
    mode = about.rule(verdict).mode
    return f", if the rule's mode were enforce (it is {mode})" if mode not in (None, Mode.ENFORCE) else ""


# ── what to do ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _do(about: About, clock: Clock) -> tuple[str, ...]:
    pending = [verdict for verdict in about.verdicts if verdict.kind in _PENDING and _ends(about, verdict)]
    if not pending:
        return ("Nothing now.", *_before(about, clock))
    advice = [f"{verdict.rule}: {_advice(about, about.rule(verdict), verdict)}" for verdict in pending]
    if any(Action.REMOVE in about.rule(verdict).then for verdict in pending):
        advice.append(_survives(about))
    return (*advice, "An exemption is an admin's to give.")


def _before(about: About, clock: Clock) -> tuple[str, ...]:
    """Say what comes whatever it does: a clock that runs out for one that lives."""
    if about.container.state not in ALIVE:
        return ()
    coming = [
        (verdict.due_at, verdict.rule)
        for verdict in about.verdicts
        if about.rule(verdict).when is None
        and verdict.kind in (Kind.CLEAR, Kind.YOUNG)
        and verdict.due_at is not None
        and _ends(about, verdict)
    ]
    if not coming:
        return ()
    at, rule = min(coming)
    return (f"Save your work before {clock.absolute(at)}: {rule} goes by the clock, however busy it is.",)


def _advice(about: About, rule: Rule, verdict: Verdict) -> str:
    if rule.when is None:
        return _CLOCK_ADVICE.get(about.container.state, "save what matters: its time is up, whatever it does.")
    needs = _needs(rule.when, verdict)
    last = format_duration(about.policy.settings.awake)
    text = f"let it work: {needs} over the last {last} is enough" if needs else "use it"
    if any(entry.name == "keep_alive" for entry in rule.excepts):
        text += _keep_alive(about)
    return f"{text}."


def _keep_alive(about: About) -> str:
    keep, used = about.policy.settings.keep_alive, about.container.keep_alive
    longest = format_duration(keep.max)
    if used is not None and used.honoured_since is not None and used.honoured_since + keep.max <= about.snapshot.at:
        return f"; its keep-alive file has had its {longest} and counts again only once it has worked"
    return f", or touch {keep.path} in it, which keeps it for up to {longest}"


_CLOCK_ADVICE = {
    State.CREATED: "start it, or remove it.",
    State.EXITED: "copy out what is still needed, or start it again.",
    State.DEAD: "copy out what is still needed.",
}


def _needs(condition: Condition, verdict: Verdict) -> str:
    """Name what refutes the condition, where one clause alone does: in a plain conjunction."""
    parts: Iterable[Condition] = condition.parts if isinstance(condition, AllOf) else (condition,)
    if not all(isinstance(part, Clause) for part in parts):
        return ""
    asked = (
        f"{piece.label} {OPPOSITES[piece.comparator]} {format_quantity(piece.threshold, piece.reading.unit)}"
        for piece in verdict.evidence
    )
    return " or ".join(dict.fromkeys(asked))


def _survives(about: About) -> str:
    what = "save your work elsewhere" if about.container.state in ALIVE else "copy out what matters"
    kept = [mount.destination for mount in about.container.mounts if mount.kind in ("bind", "volume")]
    if not kept:
        return f"Nothing in it survives its removal: {what}."
    spared = f"Its removal spares {', '.join(kept)}; everything else written inside it is lost"
    return f"{spared}: {what}."
