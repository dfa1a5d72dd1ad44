"""PURE: (Policy, Snapshot) → Verdicts with evidence. The only place where a rule is decided.

Must not read a clock, a file or the environment; asks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.clauses import ask, leaves, phrase
from ds01_policy.conflicts import conflicts
from ds01_policy.demand import demand_of
from ds01_policy.exceptions import exemption_of, with_exceptions
from ds01_policy.logic import Truth, all_
from ds01_policy.model import ALIVE, Demand, Evaluation, Evidence, Kind, Problem, State, Verdict
from ds01_policy.readings import span_text
from ds01_policy.rules import Rule, matches
from ds01_policy.span import Span, age_of, is_up, span_of
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from ds01_policy.model import Container, Snapshot
    from ds01_policy.policy import Policy


def evaluate(policy: Policy, snapshot: Snapshot, demand: Demand | None = None) -> Evaluation:
    """Ask every rule about every container it matches.

    `demand` overrides what the snapshot itself shows, for a snapshot of a few containers only.
    """
    demand = demand or demand_of(policy, snapshot.containers, snapshot.gpus, snapshot.at)
    verdicts = []
    problems: dict[Problem, None] = {}
    for container in snapshot.containers:
        if container.gpus.wants and container.type not in policy.limits.container_types:
            problems[
                Problem("unlisted_type", f"limits.yaml lists no container type {container.type!r}; other layers apply")
            ] = None
        matching = [rule for rule in policy.rules if matches(rule.match, container, snapshot.host)]
        found = [_verdict(policy, snapshot, demand, rule, container) for rule in matching]
        verdicts += found
        if not container.owner_proven and (how := _favoured(policy, snapshot, matching, found)):
            problems[_unproven(container, how)] = None
    return Evaluation(tuple(verdicts), demand, (*problems, *conflicts(verdicts)))


def _favoured(policy: Policy, snapshot: Snapshot, rules: Sequence[Rule], verdicts: Sequence[Verdict]) -> str:
    """Tell whether one is exempt, or due by no rule at all, because of whose it says it is; empty: neither."""
    for rule, verdict in zip(rules, verdicts, strict=True):
        exemption = exemption_of(policy, snapshot, rule, verdict.container) if verdict.held_by == "exempted" else None
        if exemption is not None and exemption.of_a_person:
            return "exempt"
    layers = {one.limit.layer for one in verdicts if one.kind is Kind.OFF and one.limit is not None}
    all_off = all(one.kind is Kind.OFF for one in verdicts)
    return "left alone for ever" if all_off and verdicts and layers & _layers_of(policy, verdicts[0].container) else ""


def _unproven(container: Container, how: str) -> Problem:
    says = f"only {container.owner_via} says" if container.owner_via else "nothing says"
    who = f"{container.name} ({container.short}) is {how} as {container.owner}'s"
    return Problem("owner_unproven", f"{who}, which {says}")


def _layers_of(policy: Policy, container: Container) -> set[str]:
    """Name the layers of limits that a container gets by whose it is; the default group's are anybody's."""
    group = {f"groups: {container.group}"} if container.group != policy.limits.default_group else set()
    return {f"users: {container.owner}"} | group


def _verdict(policy: Policy, snapshot: Snapshot, demand: Demand, rule: Rule, container: Container) -> Verdict:
    """Decide one rule for one container: off, then what holds, then what the exceptions make of it."""
    try:
        span = span_of(policy, rule, container, demand)
    except KeyError as missing:
        why = f"no limit {missing.args[0]} is set for it: add it to limits.yaml"
        return Verdict(container, rule.id, Kind.UNKNOWN, why)
    if span.act is None:
        why = f"{rule.for_.limit} is never ({span.limit.layer})" if span.limit else "never"
        return Verdict(container, rule.id, Kind.OFF, why, limit=span.limit)
    found = (
        _by_clock(snapshot, rule, container, span)
        if rule.when is None
        else _by_signals(policy, snapshot, rule, container, span)
    )
    return with_exceptions(policy, snapshot, rule, found)


# ── rules over clocks ────────────────────────────────────────────────────────────────────────────────────────────────


def _since(container: Container) -> datetime | None:
    """Find when the present state began."""
    match container.state:
        case State.CREATED:
            return container.created_at
        case State.EXITED | State.DEAD | State.REMOVING:
            return container.finished_at
        case _:
            return container.running_since or container.started_at


def _by_clock(snapshot: Snapshot, rule: Rule, container: Container, span: Span) -> Verdict:
    since = _since(container)
    if since is None or span.act is None:
        return Verdict(container, rule.id, Kind.UNKNOWN, f"Docker shows no time at which it became {container.state}")
    lasted = snapshot.at - since
    due = since + span.act
    kind = (
        Kind.ACT if lasted >= span.act else Kind.WARN if span.warn is not None and lasted >= span.warn else Kind.CLEAR
    )
    sign = "≥" if lasted >= span.act else "<"
    why = f"{container.state} for {format_duration(max(lasted, timedelta()))} {sign} {format_duration(span.act)}"
    if container.state in ALIVE and container.started_at and since < container.started_at:
        why += f" (through restarts, the last {format_duration(snapshot.at - container.started_at)} ago)"
    return Verdict(container, rule.id, kind, why, for_=span.act, limit=span.limit, due_at=due)


# ── rules over signals ───────────────────────────────────────────────────────────────────────────────────────────────


def _by_signals(policy: Policy, snapshot: Snapshot, rule: Rule, container: Container, span: Span) -> Verdict:
    """Ask the whole window and its last minutes, once for acting and once for warning."""

    def verdict(kind: Kind, why: str, due: datetime | None, evidence: Iterable[Evidence]) -> Verdict:
        return Verdict(container, rule.id, kind, why, for_=act, limit=span.limit, due_at=due, evidence=tuple(evidence))

    act, at = span.act, snapshot.at
    if act is None or rule.when is None or not is_up(container):
        return Verdict(container, rule.id, Kind.UNKNOWN, f"{container.state}: nothing can be measured", for_=act)
    age = age_of(container, at)
    asked: dict[timedelta, _Asked] = {}  # the last minutes are part of both questions
    whole = _ask_span(policy, snapshot, rule, container, act, asked)
    if whole.truth is Truth.TRUE:
        return verdict(Kind.ACT, _reason(policy, whole, act, act), at, whole.evidence)
    near = _ask_span(policy, snapshot, rule, container, span.warn, asked) if span.warn is not None else None
    if near is not None and span.warn is not None and near.truth is Truth.TRUE:
        due = max(at + (act - span.warn), at - age + act)
        return verdict(Kind.WARN, _reason(policy, near, span.warn, act), due, (*near.evidence, *whole.evidence))
    if age < act:
        why = f"up {format_duration(age)}, asked about once up {format_duration(act)}"
        return verdict(Kind.YOUNG, why, at - age + act, whole.evidence)
    if whole.truth is Truth.FALSE:
        return verdict(
            Kind.CLEAR, f"in use: {phrase(leaves(whole.evidence, Truth.FALSE), policy.signals)}", None, whole.evidence
        )
    open_ = leaves(whole.evidence, Truth.UNKNOWN)
    # What the last minutes lack, the whole window lacks as well.
    why = _gaps([piece for piece in open_ if piece.reading.window == act] or open_)
    return verdict(Kind.UNKNOWN, why or "no clause of the rule applies to it", None, whole.evidence)


def _gaps(evidence: Iterable[Evidence]) -> str:
    """Say what is missing, each reason once with the signals that it is about."""
    signals: dict[str, dict[str, None]] = {}
    for piece in evidence:
        said = piece.reading.detail if piece.reading.missing else f"anything from {span_text(piece.reading)}"
        gap = f"{piece.missing}{f' ({said})' if said else ''}"
        signals.setdefault(gap, {})[piece.label] = None
    return "; ".join(f"{', '.join(labels)}: {gap}" for gap, labels in signals.items())


@dataclass(frozen=True, slots=True)
class _Asked:
    truth: Truth
    evidence: tuple[Evidence, ...]


def _ask_span(
    policy: Policy,
    snapshot: Snapshot,
    rule: Rule,
    container: Container,
    whole: timedelta,
    asked: dict[timedelta, _Asked],
) -> _Asked:
    """Ask the condition over `whole` and over its last `awake` minutes: both must hold."""
    answers = []
    for window in dict.fromkeys((whole, min(policy.settings.awake, whole))):
        if window not in asked:
            truth, pieces = ask(rule.when, policy.signals, snapshot, container, window)
            asked[window] = _Asked(Truth.UNKNOWN if truth is None else truth, pieces)
        answers.append(asked[window])
    return _Asked(all_(each.truth for each in answers), tuple(piece for each in answers for piece in each.evidence))


def _reason(policy: Policy, asked: _Asked, over: timedelta, act: timedelta) -> str:
    main = [piece for piece in asked.evidence if piece.reading.window == over and piece.truth is Truth.TRUE]
    quiet = all(piece.comparator in ("below", "at_most") for piece in main)
    lasting = format_duration(over) + (f" of {format_duration(act)}" if over != act else "")
    return f"{'idle' if quiet else 'so'} for {lasting}: {phrase(main, policy.signals)}"
