"""What each tick of a selftest proves: the throwaway seen, warned, given notice, stopped, removed, its GPU looked at.

Owns what counts as proof. Reads reports of ticks; asks and does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ds01_policy.model import UNSEEN, Action, Kind, State
from ds01_policy.model import Status as Became
from ds01_policy.selftest.narrow import NOTICE
from ds01_policy.selftest.step import Status, Step
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Container, Outcome
    from ds01_policy.selftest.neighbours import Choice
    from ds01_policy.tick import Report

_RUNGS = ("seen", "warn", "stop", "remove", "epilog")


@dataclass(slots=True)
class Ladder:
    """How far one throwaway has come."""

    container: str  # 64 hex
    user: str  # whose it is to be
    gpu: Choice
    last: str = "no tick has seen it"  # in words, what the latest tick found
    _proven: set[str] = field(default_factory=set)
    _warned_at: datetime | None = None
    _failed: bool = False

    @property
    def next(self) -> str:
        """The step that is to come; empty: all are done."""
        return next((rung for rung in _RUNGS if rung not in self._proven), "")

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._failed or not self.next

    def climb(self, report: Report) -> Iterator[Step]:
        """Tell what one tick has shown, in order; nothing after a failure."""
        for step in self._shown(report):
            yield step
            self._proven.add(step.name)
            if step.status is Status.FAILED:
                self._failed = True
                return

    def _shown(self, report: Report) -> Iterator[Step]:
        it = next((one for one in report.snapshot.containers if one.id == self.container), None)
        self.last = _words(report, it, self.container)
        if "seen" not in self._proven and it is not None:
            yield self._seen(it)
        now = it.state.value if it is not None else "" if _unseen(report, self.container) else "gone"
        if "seen" not in self._proven and now == "gone":
            yield _failed("seen", "Docker has started it, and no longer lists it: somebody removed it")
        if "seen" in self._proven and now not in ("", State.RUNNING):
            yield _failed("stop", f"it is {now}, not through this selftest: it ended by itself, or somebody ended it")
        for problem in report.problems:
            if problem.code == "ledger":
                yield _failed(self.next, f"it could not be written down: {problem.detail}", "see to the disk")
        own = {one.id for one in report.plan.decisions if one.container.id == self.container}
        for outcome in report.outcomes:
            if outcome.decision in own:
                yield from self._became(outcome, report)

    def _seen(self, it: Container) -> Step:
        whose = f"seen as {it.owner}'s ({it.owner_via or 'no sign of anybody'}), group {it.group}, type {it.type}"
        ref = self.gpu.ref
        if ref is not None and (it.gpus.refs != (ref,) or it.gpus.unclear or not it.gpus.holds):
            holds = ", ".join(map(str, it.gpus.refs)) or "none"
            why = f" ({it.gpus.unclear})" if it.gpus.unclear else ""
            return _failed("seen", f"Docker was asked for {self.gpu.name}, and it is seen to hold {holds}{why}")
        if ref is None and it.gpus.wants:
            return _failed("seen", f"Docker was asked for no GPU, and it may use one through {it.gpus.via}")
        if ref is not None:
            whose += f"; holds {ref}"
        if it.owner != self.user:
            do = f"so that warnings reach people, identity.yaml must know whose a container is: it was {self.user}'s"
            return Step("seen", Status.NOTE, whose, do)
        return Step("seen", Status.OK, whose)

    def _became(self, outcome: Outcome, report: Report) -> Iterator[Step]:
        """Tell what the outcome of one action proves. What was stale before the stop is decided anew."""
        name = outcome.action.value
        if outcome.status is Became.STALE and outcome.action is Action.STOP:
            self.last = f"{name}: {outcome.detail}"
        elif outcome.status in (Became.FAILED, Became.STALE):
            yield _failed(name, outcome.detail)
        elif outcome.status is Became.WITHHELD:
            return
        elif outcome.action is Action.WARN:
            self._warned_at = outcome.at
            yield _warned(outcome)
        elif outcome.action is Action.EPILOG:
            yield self._looked(outcome, report)
        elif outcome.status is Became.NOOP:
            yield _failed(name, f"{outcome.detail}: somebody else's doing")
        else:
            if outcome.action is Action.STOP:
                yield self._noticed(report.snapshot.at)
            yield Step(name, Status.OK, outcome.detail or "Docker says it is gone")

    def _noticed(self, at: datetime) -> Step:
        if self._warned_at is None:
            return _failed("notice", "it was stopped without a warning")
        passed = at - self._warned_at
        words = (
            f"nothing was done for {passed.total_seconds():.1f}s after the warning; promised {format_duration(NOTICE)}"
        )
        return Step("notice", Status.OK, words) if passed >= NOTICE else _failed("notice", words)

    def _looked(self, outcome: Outcome, report: Report) -> Step:
        if self.gpu.ref is None:
            do = "--gpu UUID names one, also one that is in use: it is only looked at"
            return Step("epilog", Status.SKIPPED, f"it looked at no GPU: {self.gpu.why}", do)
        if outcome.status is not Became.DONE:
            return _failed("epilog", outcome.detail)
        unfit = report.history.unfit.get(self.gpu.ref.uuid)
        if unfit is not None:
            do = f"ds01-policy epilog --gpu {self.gpu.ref.uuid} looks again"
            return _failed("epilog", f"it was run, and found a GPU that is not well: {outcome.detail}", do)
        return Step("epilog", Status.OK, outcome.detail)


def _warned(outcome: Outcome) -> Step:
    if outcome.delivered:
        return Step("warn", Status.OK, outcome.detail)
    do = "log in on a terminal of this host and run it again, or see to notify.channels in settings.yaml"
    return Step("warn", Status.NOTE, f"it went out, and provably reached nobody: {outcome.detail}", do)


def _failed(name: str, what: str, do: str = "") -> Step:
    return Step(name, Status.FAILED, what, do)


def _unseen(report: Report, container: str) -> str:
    """Say why it may be there though the tick did not see it; empty: it is not."""
    problems = (one for one in report.snapshot.problems if one.code in UNSEEN)
    return "; ".join(one.detail for one in problems if one.code == "docker_slow" or container[:12] in one.detail)


def _words(report: Report, it: Container | None, container: str) -> str:
    """Say what a tick found, for when nothing follows from it."""
    if it is None:
        return f"it is not seen: {_unseen(report, container) or 'Docker does not list it'}"
    for decision in report.plan.decisions:
        if decision.container.id == container and decision.held_by is not None:
            return f"{'+'.join(decision.actions)} is held back by {decision.held_by}: {decision.detail}"
    for verdict in report.evaluation.verdicts:
        if verdict.container.id == container and verdict.kind is not Kind.ACT:
            return f"{verdict.kind}: {verdict.why}"
    return f"it is {it.state}"
