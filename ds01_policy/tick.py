"""One tick: observe → evaluate → plan → act → record. The only place that sees all of it.

Owns the order of things and what a tick does when its memory fails. Decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ds01_policy.evaluate import evaluate
from ds01_policy.model import UNSEEN, Decision, History, Kind, Plan, Problem, Status
from ds01_policy.observe.fallback import further
from ds01_policy.observe.snapshot import DockerDown, Observed, observe
from ds01_policy.plan import make_plan

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.act.epilog.held import Held, Result
    from ds01_policy.model import Container, Demand, Evaluation, Mode, Outcome, Snapshot, Totals, Unfit, Verdict
    from ds01_policy.observe.ports import Sources
    from ds01_policy.policy import Policy

Recheck = Callable[[Sequence[Decision]], Mapping[str, str]]

# Whoever resets GPUs is told at once; one that still waits after this long has nobody who does.
RESET_WAITS = timedelta(minutes=10)


class MemoryLost(Exception):
    """The ledger or the audit log cannot be written: nothing destructive may follow."""


class Memory(Protocol):
    """What earlier ticks left behind, and where this one is written down."""

    @property
    def lost(self) -> str:
        """Why something could not be written down while acting; empty: all of it was."""

    def recall(self, at: datetime, mode: Mode, digest: str) -> History:
        """Prove that it can be written, finish what a killed tick left open, and tell what is known."""

    def settle(self, observed: Observed, evaluation: Evaluation, plan: Plan) -> None:
        """Write the tick down before anything is done. Raises MemoryLost."""


class Actuator(Protocol):
    """Carries decisions out, or says what it would have done."""

    def carry_out(self, decisions: Sequence[Decision], recheck: Recheck) -> list[Outcome]:
        """Carry out every enforced decision; never raises for one container."""


class Aftermath(Protocol):
    """What is done for containers that have ended by any hand, and what is known of the GPUs they left."""

    def catch_up(self) -> Sequence[tuple[Held, Result]]:
        """Run the epilogs that are owed, as many as fit into a tick. Raises MemoryLost."""

    def unfit(self) -> Mapping[str, Unfit]:
        """Tell which GPUs are unfit now. Raises MemoryLost."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that one tick found and did."""

    snapshot: Snapshot
    evaluation: Evaluation
    plan: Plan
    history: History
    outcomes: tuple[Outcome, ...] = ()
    problems: tuple[Problem, ...] = ()
    epilogs: tuple[tuple[Held, Result], ...] = ()  # of containers that ended by whichever hand since the last tick
    totals: Totals | None = None  # counted over all runs, this one among them; None: the ledger does not say


def look(policy: Policy, sources: Sources, at: datetime, history: History, mode: Mode | None = None) -> Report:
    """Observe and decide; change nothing."""
    observed = observe(policy, sources, at, history)
    evaluation = evaluate(policy, observed.snapshot, observed.demand)
    plan = make_plan(policy, observed.snapshot, evaluation, history, mode)
    return Report(observed.snapshot, evaluation, plan, history, problems=gpu_problems(history, at))


def tick(
    policy: Policy,
    sources: Sources,
    memory: Memory,
    actuator: Actuator,
    clock: Callable[[], datetime],
    mode: Mode | None = None,
    *,
    aftermath: Aftermath | None = None,
) -> Report:
    """Observe, decide, write down, act; then see to what containers that ended by any hand have left behind.

    Raises:
        DockerDown: nothing could be observed, nothing was done.

    """
    at = clock()
    history = memory.recall(at, mode or policy.settings.mode, policy.digest)
    observed = observe(policy, sources, at, history)
    evaluation = evaluate(policy, observed.snapshot, observed.demand)
    plan = make_plan(policy, observed.snapshot, evaluation, history, mode)
    problems: list[Problem] = []
    if not history.writable:
        problems.append(Problem("ledger", history.unwritable_why))
    else:
        try:
            memory.settle(observed, evaluation, plan)
        except MemoryLost as lost:
            problems.append(Problem("ledger", str(lost)))
            history = replace(history, writable=False, unwritable_why=str(lost))
            plan = make_plan(policy, observed.snapshot, evaluation, history, mode)
    known = replace(history, samples=further(history.samples, observed.sampled))  # the second look follows the first
    recheck = partial(still_due, policy, sources, clock, known, observed.demand)
    outcomes = actuator.carry_out([decision for decision in plan.decisions if decision.enforced], recheck)
    if observed.lost_everything:
        aftermath = None  # to a wrong daemon every container is gone
    epilogs, history, found = _afterwards(aftermath, history, memory.lost)
    problems += [*found, *gpu_problems(history, at)]
    return Report(observed.snapshot, evaluation, plan, history, tuple(outcomes), tuple(problems), epilogs)


def _afterwards(
    aftermath: Aftermath | None, history: History, lost: str
) -> tuple[tuple[tuple[Held, Result], ...], History, list[Problem]]:
    """See to what containers have left behind, unless that could not be written down."""
    epilogs: tuple[tuple[Held, Result], ...] = ()
    if aftermath is not None and history.writable and not lost:
        try:
            epilogs = tuple(aftermath.catch_up())
            history = replace(history, unfit=aftermath.unfit())
        except MemoryLost as error:
            lost = str(error)
    problems = []
    if lost:
        problems.append(Problem("ledger", lost))
        history = replace(history, writable=False, unwritable_why=lost)
    # Nobody could look at what a container left: that is tried anew.
    failed = ((held, result) for held, result in epilogs if result.status is Status.FAILED)
    problems += [
        Problem("epilog_failed", f"{held.name} ({held.container[:12]}): {result.detail}") for held, result in failed
    ]
    return epilogs, history, problems


def gpu_problems(history: History, at: datetime) -> tuple[Problem, ...]:
    """Say which GPUs are unfit, since when and why, and what clears that; then whose reset nobody sees to."""
    unfit = (
        Problem(
            "unfit_gpu",
            f"{gpu} is unfit since {one.since:%Y-%m-%d %H:%M} UTC: {one.why}; a later epilog that finds it well clears "
            f"that; once you have seen to it yourself: ds01-policy epilog --gpu {gpu} --clear",
        )
        for gpu, one in sorted(history.unfit.items())
    )
    waiting = (
        Problem(
            "reset_waiting",
            f"{gpu} waits since {since:%Y-%m-%d %H:%M} UTC to be reset: is ds01-policy-reset.path enabled? `systemctl "
            "status ds01-policy-reset.path ds01-policy-reset.service`; by hand, as root: ds01-policy reset-gpus",
        )
        for gpu, since in sorted(history.resets.items())
        if at - since > RESET_WAITS
    )
    return (*unfit, *waiting)


def still_due(
    policy: Policy,
    sources: Sources,
    clock: Callable[[], datetime],
    history: History,
    demand: Demand,
    decisions: Sequence[Decision],
) -> Mapping[str, str]:
    """Look again, right before acting, by the same functions that decided.

    Answers by decision id why it is no longer due; an empty text means that it still is.
    """
    ids = [decision.container.id for decision in decisions]
    try:
        observed = observe(policy, sources, clock(), history, only=ids, demand=demand)
    except DockerDown as down:
        return {decision.id: f"could not look again: {down}" for decision in decisions}
    seen = {container.id: container for container in observed.snapshot.containers}
    found = {
        (verdict.container.id, verdict.rule): verdict
        for verdict in evaluate(policy, observed.snapshot, demand).verdicts
    }
    unseen = "; ".join(problem.detail for problem in observed.snapshot.problems if problem.code in UNSEEN)
    return {
        decision.id: _changed(
            decision, seen.get(decision.container.id), found.get((decision.container.id, decision.verdict.rule)), unseen
        )
        for decision in decisions
    }


def _changed(decision: Decision, after: Container | None, now: Verdict | None, unseen: str) -> str:
    """Say what differs between what was decided about and what is there now."""
    before = decision.container
    if after is None:
        return f"it is gone, or could not be looked at again: {unseen}" if unseen else "it is gone"
    if after.started_at != before.started_at or after.state != before.state or after.name != before.name:
        was, is_now = (f"{one.name}, {one.state} since {one.started_at}" for one in (before, after))
        return f"it was {was}; it is {is_now}"
    if now is None:
        return "the rule no longer matches it"
    return "" if now.kind is Kind.ACT else f"{now.kind}: {now.why}"
