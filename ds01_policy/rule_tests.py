"""PURE: one test of rules: what evaluate and plan say about a scenario, against what an admin wrote that they must.

Owns the comparing, and the words for what was expected and found. Decides nothing: evaluate and plan do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ds01_policy.evaluate import evaluate
from ds01_policy.plan import make_plan
from ds01_policy.scenario import scenario
from ds01_policy.units import format_duration, parse_duration

if TYPE_CHECKING:
    from ds01_policy.model import Decision, Evaluation, Plan, Verdict
    from ds01_policy.policy import Policy

NO_MATCH = "no match"
_NOTHING = "nothing is due"
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one rule must say about one container. None: the test does not say."""

    verdict: str | None = None  # a Kind, or NO_MATCH
    why: tuple[str, ...] = ()  # each must be in the reason
    held_by: str | None = None  # the exemption
    missing: str | None = None  # of some clause
    for_: timedelta | None = None
    due: str | None = None  # now, never, 12m (from now), 12m ago, or a time
    actions: tuple[str, ...] | None = None  # of one decision; empty: nothing is due
    disposition: str | None = None  # enforce, or what holds that decision back


@dataclass(frozen=True, slots=True)
class Case:
    """One test, as it was written and checked."""

    name: str
    line: int
    policy: Policy
    row: Mapping[str, Any]  # what scenario() reads
    # By container, by rule; None: no rule at all is about the container.
    expect: Mapping[str, Mapping[str, Wanted] | None]
    plan: Mapping[str, str] | None = None  # everything that is due: `train idle-gpu stop+remove` → enforce
    problems: tuple[str, ...] = ()  # codes that must be among those reported


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as expected."""

    what: str  # verdict, why, due …
    expected: str
    found: str
    container: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one test; it passed where nothing differs."""

    case: Case
    evaluation: Evaluation
    plan: Plan
    differences: tuple[Difference, ...] = ()
    verdicts: Mapping[tuple[str, str], Verdict] = field(default_factory=dict)  # by container name and rule


def run(case: Case) -> Result:
    """Decide one test's scenario and compare.

    Raises:
        Unreadable: when the scenario says something that has no meaning.

    """
    built = scenario(case.policy, case.row)
    evaluation = evaluate(case.policy, built.snapshot)
    plan = make_plan(case.policy, built.snapshot, evaluation, built.history)
    found = {(verdict.container.name, verdict.rule): verdict for verdict in evaluation.verdicts}
    at = built.snapshot.at
    differences: list[Difference] = []
    for container, rules in case.expect.items():
        about = [rule for name, rule in found if name == container]
        if rules is None and about:
            differences.append(Difference("rules", NO_MATCH, ", ".join(about), container))
        for rule, wanted in (rules or {}).items():
            decisions = [
                each for each in plan.decisions if each.container.name == container and each.verdict.rule == rule
            ]
            verdict = found.get((container, rule))
            differences += (
                Difference(what, expected, seen, container, rule)
                for what, expected, seen in _compared(wanted, verdict, decisions, at)
            )
    differences += _whole(case, plan, evaluation)
    return Result(case, evaluation, plan, tuple(differences), found)


_Differing = tuple[str, str, str]  # what, expected, found


def _compared(wanted: Wanted, verdict: Verdict | None, decisions: list[Decision], at: datetime) -> Iterator[_Differing]:
    """Yield what is not as expected: what it is about, what was expected, what was found."""
    kind = NO_MATCH if verdict is None else verdict.kind.value
    if wanted.verdict != kind and (wanted.verdict is not None or verdict is None):
        yield "verdict", wanted.verdict or "one", kind
    if verdict is None:
        return
    lacking = [part for part in wanted.why if part not in verdict.why]
    if lacking:
        yield "why", " … ".join(lacking), verdict.why
    if wanted.held_by is not None and wanted.held_by != verdict.held_by:
        yield "held_by", wanted.held_by, verdict.held_by or "nothing"
    missing = [str(piece.reading.missing) for piece in verdict.evidence if piece.reading.missing is not None]
    if wanted.missing is not None and wanted.missing not in missing:
        yield "missing", wanted.missing, ", ".join(dict.fromkeys(missing)) or "nothing"
    if wanted.for_ is not None and wanted.for_ != verdict.for_:
        yield "for", _exact(wanted.for_), "never" if verdict.for_ is None else _exact(verdict.for_)
    if wanted.due is not None and not _is_due(wanted.due, verdict.due_at, at):
        yield "due", wanted.due, _due(verdict.due_at, at)
    yield from _of_plan(wanted, decisions)


def _exact(duration: timedelta) -> str:
    rough = format_duration(duration)
    return rough if parse_duration(rough) == duration else f"{duration.total_seconds():g}s"


def _is_due(wanted: str, due: datetime | None, at: datetime) -> bool:
    if due is None or wanted == "never":
        return due is None and wanted == "never"
    if wanted == "now":
        return due <= at
    if wanted.endswith(" ago"):
        return abs(at - due - parse_duration(wanted.removesuffix(" ago"))) < _SECOND
    if "T" in wanted:
        return abs(due - datetime.fromisoformat(wanted)) < _SECOND
    return abs(due - at - parse_duration(wanted)) < _SECOND


def _due(due: datetime | None, at: datetime) -> str:
    if due is None:
        return "never"
    if abs(due - at) < _SECOND:
        return "now"
    return f"{_exact(at - due)} ago" if due < at else _exact(due - at)


def _of_plan(wanted: Wanted, decisions: list[Decision]) -> Iterator[_Differing]:
    """Compare one decision: that with the actions that are named, else the act, else the warning."""
    named = [each for each in decisions if _words(each) == wanted.actions]
    if wanted.actions is not None and not named and (wanted.actions or decisions):
        found = "; ".join(", ".join(_words(each)) for each in decisions)
        yield "actions", ", ".join(wanted.actions) or _NOTHING, found or _NOTHING
    chosen = next(reversed(named or decisions), None)  # in a plan an act comes after its warning
    found = _NOTHING if chosen is None else disposition(chosen)
    if wanted.disposition is not None and wanted.disposition != found:
        yield "disposition", wanted.disposition, found


def _words(decision: Decision) -> tuple[str, ...]:
    return tuple(action.value for action in decision.actions)


def disposition(decision: Decision) -> str:
    """Say `enforce`, or which guard holds a decision back."""
    return str(decision.held_by or decision.disposition)


def _whole(case: Case, plan: Plan, evaluation: Evaluation) -> Iterator[Difference]:
    """Compare the plan as a whole, entry by entry, and the problems."""
    due = {
        f"{each.container.name} {each.verdict.rule} {'+'.join(each.actions)}": disposition(each)
        for each in plan.decisions
    }
    for key in dict.fromkeys((*(case.plan or {}), *due)) if case.plan is not None else ():
        expected, found = case.plan.get(key, "not due") if case.plan else "not due", due.get(key, "not due")
        if expected != found:
            yield Difference(f"plan: {key}", expected, found)
    codes = [problem.code for problem in evaluation.problems]
    for code in case.problems:
        if code not in codes:
            yield Difference("problem", code, ", ".join(codes) or "none")
