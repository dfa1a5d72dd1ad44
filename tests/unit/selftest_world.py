"""A host on which a selftest runs in no time: containers as plain values, real ticks, hands that act on the values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from whole_host import AT, GPUS, Host, given_or_raised, inspect, when

from ds01_policy.act.carry_out import DockerActuator
from ds01_policy.act.expected import Expected
from ds01_policy.act.notify import Delivery
from ds01_policy.config.load import load
from ds01_policy.memory import Memory
from ds01_policy.model import Decision, GpuProcess, GpuStatus, GpuStatuses, Outcome, Status
from ds01_policy.observe.ports import Json, OnGpus, SourceError, Sources
from ds01_policy.policy import Policy
from ds01_policy.selftest.order import LABEL, Order, Person, body
from ds01_policy.selftest.run import Asked, Parts, selftest
from ds01_policy.selftest.step import Course, Failed, Step
from ds01_policy.tick import Actuator, Report, tick

NONCE = "0123456789ab"
OWN = "5e1f" * 16  # the throwaway's id
NAME = f"ds01-policy-selftest-{NONCE}"
ALICE = Person("alice", 1001, 1002)
Result = tuple[Status, str]


@cache
def shipped() -> Policy:
    """Load the shipped policy, once."""
    return load(None, unix_group=lambda _: None)


def mine(changes: Callable[[Json], None] = lambda _: None) -> Json:
    """Inspect a running throwaway on GPU 0, changed like this."""
    raw = inspect(OWN, NAME, 0, labels={LABEL: NONCE})
    changes(raw)
    return raw


def alike(container: str, name: str, **options: Any) -> Json:
    """Inspect somebody else's container that carries the throwaway's label."""
    return inspect(container, name, labels={LABEL: NONCE}, **options)


@dataclass
class SelftestHost(Host):
    """The host, the throwaway's place on it, the hands and the people; `on` is what happens at a call instead."""

    at: datetime = AT
    on: dict[str, Callable[[], Any]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)  # every call that does something
    orders: list[Order] = field(default_factory=list)
    id: str = ""
    processes: dict[int, int] = field(default_factory=dict)  # how many are on the GPU of this index
    statuses: GpuStatuses | SourceError | None = None
    waits: int = 0
    told: list[Step] = field(default_factory=list)
    state_dirs: list[Path] = field(default_factory=list)

    def _do(self, what: str, default: Any) -> Any:
        self.log.append(what)
        return self.on[what]() if what in self.on else default()

    # the driver
    def look(self) -> OnGpus:
        some = given_or_raised(self.statuses)
        if some is None:
            on = {gpu.uuid: _processes(self.processes.get(gpu.index, 0)) for gpu in GPUS}
            some = GpuStatuses({uuid: GpuStatus(uuid, processes=each) for uuid, each in on.items()})
        return OnGpus(some)

    # the throwaway
    def make(self) -> str:
        return str(self._do("make", lambda: "imported"))

    def start(self) -> str:
        return str(self._do("start", self.started))

    def started(self) -> str:
        """Let the container run, as it was ordered."""
        order = self.orders[-1]
        wanted = body(order, "sha256:1", ("/selftest",))
        raw = inspect(OWN, order.name, None)
        raw["Created"] = when(self.at)
        raw["State"] |= {"StartedAt": when(self.at)}
        raw["Config"] = {"Image": "ds01-policy-selftest", "Labels": wanted["Labels"], "Env": wanted["Env"]}
        raw["HostConfig"] |= wanted["HostConfig"]
        self.id, self.inspects[OWN] = OWN, raw
        return "through --gpus" if order.gpu else ""

    def clear(self) -> str:
        return str(self._do("clear", self.cleared))

    def cleared(self) -> str:
        self.inspects.pop(OWN, None)
        return "image removed"

    # the hands
    def stop(self, container_id: str, grace: timedelta, expect: Expected) -> Result:
        assert grace == timedelta(seconds=1)
        raw = self.inspects[container_id]
        assert isinstance(raw, dict)
        assert expect.name == raw["Name"].removeprefix("/")

        def end() -> Result:
            raw["State"] |= {"Status": "exited", "FinishedAt": when(self.at), "Pid": 0}
            return Status.DONE, "exit code 137"

        result: Result = self._do(f"stop {container_id[:4]}", end)
        return result

    def remove(self, container_id: str, expect: Expected) -> Result:
        assert expect.stopped

        def end() -> Result:
            del self.inspects[container_id]
            return Status.DONE, ""

        result: Result = self._do(f"remove {container_id[:4]}", end)
        return result

    def epilog(self, decision: Decision) -> Result:
        done = (Status.DONE, "GPU-…: ok: nobody on it") if decision.container.gpus.refs else (Status.NOOP, "no GPU")
        result: Result = self._do(f"epilog {decision.container.id[:4]}", lambda: done)
        return result

    # the people
    def warn(self, decision: Decision) -> Delivery:
        reached = Delivery(delivered=True, attempted=True, detail="tty: pts/0 reached")
        delivery: Delivery = self._do(f"warn {decision.container.owner}", lambda: reached)
        return delivery

    def stopped(self, decision: Decision, outcomes: Sequence[Outcome]) -> Delivery:
        del decision, outcomes
        return Delivery(delivered=True, attempted=True, detail="tty: pts/0 reached")

    # the course
    def wait(self, seconds: float) -> bool:
        """Let so much time pass; what `on` has for this wait happens in it, and False from it ends the selftest."""
        self.at += timedelta(seconds=seconds)
        self.waits += 1
        return self.on.get(f"wait {self.waits}", lambda: True)() is not False

    @contextmanager
    def ticker(
        self, policy: Policy, sources: Sources, state_dir: Path, wall: Callable[[Actuator], Actuator]
    ) -> Iterator[Callable[[], Report]]:
        self.state_dirs.append(state_dir)
        with closing(Memory(state_dir, "gpu01", lambda _: True)) as memory:
            hands = wall(
                DockerActuator(
                    engine=self,
                    messenger=self,
                    record=memory,
                    clock=lambda: self.at,
                    grace_of=lambda _: policy.limits.defaults["stop_grace"] or timedelta(),
                    epilog=self.epilog,
                )
            )
            yield lambda: tick(policy, sources, memory, hands, lambda: self.at)

    def place(self, order: Order) -> SelftestHost:
        self.orders.append(order)
        return self

    def run(
        self,
        *,
        policy: Policy | None = None,
        state: Path | None = None,
        tell: Callable[[Step], None] | None = None,
        **asked: Any,
    ) -> Course:
        """Run a selftest on this host; `state` is the host's own state directory."""
        policy = policy or shipped()
        policy = replace(policy, settings=replace(policy.settings, state_dir=state or Path("/nonexistent")))
        sources = Sources(self, self, self, self, tasks=self)
        began = self.at
        parts = Parts(
            policy,
            sources,
            self.place,
            self.ticker,
            lambda: self.at,
            self.wait,
            tell or self.told.append,
            lambda: (self.at - began) / timedelta(seconds=1),
            lambda: NONCE,
        )
        return selftest(parts, Asked(ALICE, **asked))


def _processes(count: int) -> tuple[GpuProcess, ...]:
    return tuple(GpuProcess(number, "C", "", None) for number in range(count))


def outcome(status: Status, detail: str = "") -> Callable[[], Result]:
    return lambda: (status, detail)


def fails(words: str) -> Callable[[], str]:
    def step() -> str:
        raise Failed(words)

    return step


def ended(course: Course) -> dict[str, str]:
    """Shorten a course to how each step ended."""
    return {step.name: step.status.value for step in course.steps}


def words(course: Course, name: str) -> str:
    """Give what was said of one step, and what to do."""
    return "; ".join(f"{step.what} | {step.do}" for step in course.steps if step.name == name)
