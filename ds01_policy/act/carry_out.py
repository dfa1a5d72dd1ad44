"""Carries enforced decisions out: warnings first, then stops side by side, each written down before and after.

Owns the order of recording and acting, and that one decision never stops the others. Decides nothing, and calls Docker
only through the engine. Records are written from the calling thread alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeVar

from ds01_policy.act.expected import Expected
from ds01_policy.model import Action, Decision, Outcome, State, Status
from ds01_policy.text import plain

if TYPE_CHECKING:
    from ds01_policy.act.notify import Delivery

Result = tuple[Status, str]  # what became of it, and in words why
Recheck = Callable[[Sequence[Decision]], Mapping[str, str]]  # decision id → why it is no longer due; empty: it still is
Epilog = Callable[[Decision], Result]

_ENDED = frozenset({State.EXITED, State.DEAD})
_GOES_ON = frozenset({Status.DONE, Status.NOOP})
T = TypeVar("T")


class ContainerEngine(Protocol):
    """What stops and removes. Called from several threads at once."""

    def stop(self, container_id: str, grace: timedelta, expect: Expected) -> Result:
        """Stop it if it is still what is expected."""

    def remove(self, container_id: str, expect: Expected) -> Result:
        """Remove it if it is still what is expected."""


class Messenger(Protocol):
    """What tells people. Called from several threads at once."""

    def warn(self, decision: Decision) -> Delivery:
        """Tell the owner what will happen."""

    def stopped(self, decision: Decision, outcomes: Sequence[Outcome]) -> Delivery:
        """Tell the owner what has happened."""


class Record(Protocol):
    """Where each action is written down: ledger and audit log."""

    def intend(self, decision: Decision, action: Action, at: datetime) -> None:
        """Write down that an action is about to be done. An exception means: it must not be done."""

    def conclude(self, decision: Decision, outcome: Outcome, at: datetime) -> None:
        """Write down what became of an action, also of one that was not even tried."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """An exception, in words."""

    words: str


@dataclass(slots=True)
class _Course:
    """One decision on its way through its actions."""

    decision: Decision
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def next(self) -> Action | None:
        """The action that has no outcome yet; None: through."""
        actions = self.decision.actions
        return actions[len(self.outcomes)] if len(self.outcomes) < len(actions) else None

    def expected(self) -> Expected:
        """Tell what must be found there: the same life, in the state decided about or the one our own stop left."""
        container = self.decision.container
        stopped = any(one.action is Action.STOP and one.status is Status.DONE for one in self.outcomes)
        # A container that ended by itself after the decision is not removed for it: nobody decided about that.
        states = _ENDED if stopped else frozenset({container.state})
        return Expected(container.name, container.started_at, states, stopped=stopped)


@dataclass(frozen=True, slots=True)
class DockerActuator:
    """Acts on a real host. `grace_of` is the time from SIGTERM to SIGKILL; `parallel`: how many decisions side by side.

    Epilogs run one at a time: they look at, and may reset, GPUs that containers share.
    """

    engine: ContainerEngine
    messenger: Messenger
    record: Record
    clock: Callable[[], datetime]
    grace_of: Callable[[Decision], timedelta]
    epilog: Epilog
    parallel: int = 16
    _one_epilog: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def carry_out(self, decisions: Sequence[Decision], recheck: Recheck) -> list[Outcome]:
        """Carry out every enforced decision; one outcome for each of its actions, in the order given.

        `recheck` is asked about each batch of destructive decisions right before it is acted on.
        """
        courses = [_Course(decision) for decision in decisions if decision.enforced]
        for batch in _batches([course for course in courses if not course.decision.destructive], self.parallel):
            self._side_by_side(batch)
        for batch in _batches([course for course in courses if course.decision.destructive], self.parallel):
            self._side_by_side(self._still_due(batch, recheck))
        return [outcome for course in courses for outcome in course.outcomes]

    def _still_due(self, batch: list[_Course], recheck: Recheck) -> list[_Course]:
        answer = _contained(partial(recheck, [course.decision for course in batch]))
        due = []
        for course in batch:
            if isinstance(answer, _Failure):
                why = f"could not look again: {answer.words}"
            else:
                # What the fresh look says nothing about was not looked at.
                why = answer.get(course.decision.id, "the fresh look does not show it")
            if why:
                self._conclude(course, Status.STALE, why)
            else:
                due.append(course)
        return due

    def _side_by_side(self, courses: list[_Course]) -> None:
        """Run each decision's actions in order, all decisions at once. Threads act; this one writes down."""
        if not courses:
            return
        with ThreadPoolExecutor(max_workers=len(courses)) as pool:
            running: dict[Future[Outcome], _Course] = {}
            for course in courses:
                self._begin(course, pool, running)
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    course, outcome = running.pop(future), future.result()
                    self._conclude(course, outcome.status, outcome.detail, delivered=outcome.delivered)
                    self._begin(course, pool, running)

    def _begin(self, course: _Course, pool: ThreadPoolExecutor, running: dict[Future[Outcome], _Course]) -> None:
        """Write down that the next action is about to be done, and have it done; without the one never the other."""
        action = course.next
        if action is None:
            return
        written = _contained(partial(self.record.intend, course.decision, action, self.clock()))
        if isinstance(written, _Failure):
            self._conclude(course, Status.WITHHELD, f"it could not be written down first: {written.words}")
        else:
            running[pool.submit(self._act, course, action)] = course

    def _conclude(self, course: _Course, status: Status, detail: str, *, delivered: bool | None = None) -> None:
        """Write down what became of the next action; unless that went well, the actions after it are withheld."""
        action = course.next
        while action is not None:
            at = self.clock()
            outcome = Outcome(course.decision.id, action, status, detail, delivered, at)
            written = _contained(partial(self.record.conclude, course.decision, outcome, at))
            if isinstance(written, _Failure):
                outcome = replace(outcome, detail=_joined(detail, f"could not be written down: {written.words}"))
            course.outcomes.append(outcome)
            if status in _GOES_ON:
                return
            if status is not Status.WITHHELD:
                status, detail, delivered = Status.WITHHELD, f"as {action} was {status}", None
            action = course.next

    # ── in threads ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _act(self, course: _Course, action: Action) -> Outcome:
        outcome = _contained(partial(self._perform, course, action))
        if isinstance(outcome, _Failure):
            return Outcome(course.decision.id, action, Status.FAILED, f"unexpected: {outcome.words}")
        return outcome

    def _perform(self, course: _Course, action: Action) -> Outcome:
        decision, delivered = course.decision, None
        match action:
            case Action.WARN:
                delivery = self.messenger.warn(decision)
                status, detail = Status.DONE if delivery.attempted else Status.FAILED, delivery.detail
                delivered = delivery.delivered
            case Action.STOP:
                status, detail = self.engine.stop(decision.container.id, self.grace_of(decision), course.expected())
                if status is Status.DONE:
                    detail = _joined(detail, self._tell(decision, Outcome(decision.id, action, status, detail)))
            case Action.REMOVE:
                status, detail = self.engine.remove(decision.container.id, course.expected())
            case Action.EPILOG:
                with self._one_epilog:
                    status, detail = self.epilog(decision)
        return Outcome(decision.id, action, status, detail, delivered)

    def _tell(self, decision: Decision, outcome: Outcome) -> str:
        """Tell the owner at once: a shell has just died under them. Whatever comes of it, the stop is done."""
        delivery = _contained(partial(self.messenger.stopped, decision, [outcome]))
        return f"owner not told: {delivery.words}" if isinstance(delivery, _Failure) else f"owner: {delivery.detail}"


def _contained(call: Callable[[], T]) -> T | _Failure:
    """Call, and turn any exception into words.

    One of the program's two places that catch everything: what is wrong with one container, with its owner's terminal
    or with one record must never leave the others of this tick unhandled.
    """
    try:
        return call()
    except Exception as error:  # noqa: BLE001  see above
        return _Failure(plain(f"{type(error).__name__}: {error}", 300))


def _batches(courses: list[_Course], size: int) -> Iterator[list[_Course]]:
    for start in range(0, len(courses), size):
        yield courses[start : start + size]


def _joined(*words: str) -> str:
    return "; ".join(word for word in words if word)
