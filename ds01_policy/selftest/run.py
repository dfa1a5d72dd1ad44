"""A selftest from beginning to end: look around, make the throwaway, tick until it is gone, clear up, look again.

Owns the order, and that everything made is cleared up whatever happens. What a tick is, its caller says: the real one.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ds01_policy.audit import AuditError, read
from ds01_policy.lock import LockError
from ds01_policy.memory import AUDIT, remembered
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.snapshot import DockerDown
from ds01_policy.selftest import narrow, neighbours
from ds01_policy.selftest.ladder import Ladder
from ds01_policy.selftest.neighbours import Choice, Neighbours
from ds01_policy.selftest.order import PREFIX, Order, Person, owned
from ds01_policy.selftest.step import Course, Failed, Status, Step
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from ds01_policy.observe.ports import Sources
    from ds01_policy.policy import Policy
    from ds01_policy.tick import Actuator, Report

TICK_S = 1.0
_LONGER_S = 60  # so much longer than the selftest may take, the throwaway lasts
_SHOWN = 3

# Makes what ticks under this policy, on these sources, with this memory; its hands are put behind the wall given.
Ticker = Callable[
    ["Policy", "Sources", Path, Callable[["Actuator"], "Actuator"]], AbstractContextManager[Callable[[], "Report"]]
]


class Place(Protocol):
    """Where the throwaway is made: throwaway.Throwaway."""

    id: str  # 64 hex, once there is one

    def make(self) -> str:
        """Get the image ready. Raises Refused or Failed."""

    def start(self) -> str:
        """Create and start the container. Raises Failed."""

    def clear(self) -> str:
        """Take away what was made. Raises Failed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for."""

    person: Person
    gpu: str | None = None  # None: one that is free for sure
    no_gpu: bool = False
    timeout: timedelta = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a selftest is made of."""

    policy: Policy  # the host's own
    sources: Sources
    place: Callable[[Order], Place]
    ticker: Ticker
    clock: Callable[[], datetime]
    wait: Callable[[float], bool]  # so many seconds; False: the program is to end
    tell: Callable[[Step], None] = lambda _: None  # each step, as it is done
    seconds: Callable[[], float] = time.monotonic
    nonce: Callable[[], str] = lambda: secrets.token_hex(6)


def selftest(parts: Parts, asked: Asked) -> Course:
    """Run it.

    Raises:
        DockerDown: Docker could not be observed; nothing was done.
        Refused: what was asked for cannot be done here; nothing was done.

    """
    return _Run(parts, asked, parts.clock(), parts.seconds()).all()


@dataclass(slots=True)
class _Run:
    """One selftest on its way."""

    parts: Parts
    asked: Asked
    at: datetime
    began: float
    steps: list[Step] = field(default_factory=list)
    ladder: Ladder | None = None
    strayed: list[str] = field(default_factory=list)  # what went beyond the throwaway, in words

    def all(self) -> Course:
        """Do all of it, in order."""
        parts = self.parts
        before = neighbours.look_around(parts.policy, parts.sources, self.at)
        gpu = self._choose(before)
        self._tell_leftovers(before)
        lasts_s = round(self.asked.timeout.total_seconds()) + _LONGER_S
        labels = owned(parts.policy.identity, self.asked.person.user)
        order = Order(parts.nonce(), self.asked.person, self.at, lasts_s, labels, gpu.name or None)
        place = parts.place(order)
        try:
            with self._failing("image", "--image REF uses one that this host has"):
                self._ok("image", place.make())
            if not self._has_failed:
                with self._failing("start", "--no-gpu does without a GPU" if gpu.name else ""):
                    through = place.start()
                    given = f"with {gpu.words} ({gpu.name}) {through}" if gpu.name else "without a GPU"
                    self._ok("start", f"{order.name} ({place.id[:12]}) runs, {given}")
            if not self._has_failed:
                self._climb(order, place, gpu)
        finally:
            with self._failing("cleanup"):
                cleared = place.clear()
                if cleared:
                    self._ok("cleanup", cleared)
        self._compare(before, place.id)
        return Course(parts.sources.host.name(), self.at, tuple(self.steps), place.id, order.name, gpu.name)

    def _choose(self, before: Neighbours) -> Choice:
        if self.asked.no_gpu:
            return Choice(why="none was wanted (--no-gpu)")
        if self.asked.gpu is not None:
            return neighbours.asked_for(self.asked.gpu, before)
        unfit = remembered(Path(self.parts.policy.settings.state_dir)).unfit
        return neighbours.free_one(before, self.parts.sources, unfit)

    def _tell_leftovers(self, before: Neighbours) -> None:
        left = neighbours.leftovers(before, self.at)
        if left:
            names = ", ".join(one.name for one in left[:_SHOWN]) + (", …" if len(left) > _SHOWN else "")
            ids = " ".join(one.short for one in left[:_SHOWN])
            tags = " ".join(":".join(one.name.rsplit("-", 1)) for one in left[:_SHOWN])
            do = f"if they are: docker rm -f {ids}; docker rmi {tags}"
            self._step(Step("leftovers", Status.NOTE, f"{names}: of a selftest that was killed, it seems", do))

    # ── the ticks ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _climb(self, order: Order, place: Place, gpu: Choice) -> None:
        """Tick until the throwaway has gone the whole way, something failed, or the time is over."""
        parts, guards = self.parts, list[narrow.Guard]()
        self.ladder = ladder = Ladder(place.id, self.asked.person.user, gpu)

        def wall(hands: Actuator) -> Actuator:
            guards.append(narrow.Guard(hands, place.id))
            return guards[-1]

        with self._failing(), tempfile.TemporaryDirectory(prefix=f"{PREFIX}-", ignore_cleanup_errors=True) as folder:
            state_dir = Path(folder)
            policy = narrow.policy_for(parts.policy, place.id, order.nonce, state_dir)
            sources = narrow.sources_for(parts.sources, place.id)
            try:
                with parts.ticker(policy, sources, state_dir, wall) as tick:
                    self._tick(tick, ladder)
                if ladder.next == "" and not self._has_failed:
                    self._is_gone(place.id)
            finally:
                self.strayed += [words for guard in guards for words in guard.refused]
                self.strayed += _others_in(state_dir, place.id)

    def _tick(self, tick: Callable[[], Report], ladder: Ladder) -> None:
        while True:
            for step in ladder.climb(tick()):
                self._step(step)
            if ladder.ended:
                return
            if self._elapsed > self.asked.timeout.total_seconds():
                raise Failed(f"not done within {format_duration(self.asked.timeout)}; the last tick: {ladder.last}")
            if not self.parts.wait(TICK_S):
                raise Failed("the selftest was told to end")

    def _is_gone(self, container: str) -> None:
        """See with our own eyes that what was said to be removed is."""
        if any(entry.get("Id") == container for entry in self.parts.sources.docker.containers()):
            self._step(Step("remove", Status.FAILED, "it was said to be removed, and Docker still lists it"))

    # ── everything else ──────────────────────────────────────────────────────────────────────────────────────────────

    def _compare(self, before: Neighbours, own: str) -> None:
        """Say whether anything else was touched, and what changed meanwhile by other hands."""
        if self.strayed:
            words = "; ".join(dict.fromkeys(self.strayed))
            do = "this is a fault of the program: run it on no host where that matters, and report it"
            self._step(Step("others", Status.FAILED, f"what was done went beyond the throwaway: {words}", do))
            return
        count = sum(container != own for container in before.containers)
        try:
            after = neighbours.look_around(self.parts.policy, self.parts.sources, self.parts.clock())
        except DockerDown as down:
            self._step(Step("others", Status.FAILED, f"they could not be looked at again: {down}"))
            return
        changed = neighbours.changes(before, after, own)
        there = f"{count} other container{'' if count == 1 else 's'}"
        if changed:
            more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            words = f"nothing was done to any of {there}; by other hands meanwhile: {'; '.join(changed[:_SHOWN])}{more}"
            self._step(Step("others", Status.NOTE, words))
        else:
            self._ok("others", f"{there} before and after, each in the same life and state")

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _elapsed(self) -> float:
        return self.parts.seconds() - self.began

    @property
    def _has_failed(self) -> bool:
        return any(step.status is Status.FAILED for step in self.steps)

    def _step(self, step: Step) -> None:
        self.steps.append(replace(step, after_s=self._elapsed))
        self.parts.tell(self.steps[-1])

    def _ok(self, name: str, what: str) -> None:
        self._step(Step(name, Status.OK, what))

    @contextmanager
    def _failing(self, name: str = "", do: str = "") -> Iterator[None]:
        """Make a failed step of what goes wrong, of the ladder's next one where none is named."""
        try:
            yield
        except (Failed, DockerDown, SourceError, LockError, OSError) as error:
            name = name or (self.ladder.next if self.ladder else "") or "epilog"
            self._step(Step(name, Status.FAILED, str(error), do))


def _others_in(state_dir: Path, own: str) -> list[str]:
    """Read in the audit log whom the ticks did anything to, other than our own."""
    try:
        lines = [line for line in read(state_dir / AUDIT) if line.get("container") not in (None, own)]
    except AuditError as error:
        return [f"what was done cannot be read back: {error}"]
    return [f"{line.get('kind')} {line.get('action')} of {line.get('name')}" for line in lines]
