"""A host for epilogs: real processes that pass for whose the test says, a Docker and a driver that answer as told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ds01_policy.act.epilog.held import Held
from ds01_policy.act.epilog.ports import Clock, Unanswered
from ds01_policy.model import Gpu, GpuProcess, GpuRef, GpuStatus, GpuStatuses, HostTask, Xid
from ds01_policy.observe.processes import Processes
from ds01_policy.ownership import Gone, Hidden

MINE, OTHER = "a1" * 32, "b2" * 32
A, B = "GPU-aaaaaaaa-0000-4000-8000-000000000001", "GPU-bbbbbbbb-0000-4000-8000-000000000002"
MIB, GIB = 2**20, 2**30

DOCKER = {MINE: f"0::/system.slice/docker-{MINE}.scope\n", OTHER: f"0::/docker/{OTHER}\n"}
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"
PLAIN = "print(flush=True); input()"

Start = Callable[..., subprocess.Popen[bytes]]


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def held(*gpus: str | GpuRef, container: str = MINE, started: datetime | None = None, unclear: str = "") -> Held:
    refs = tuple(GpuRef(gpu) if isinstance(gpu, str) else gpu for gpu in (gpus or (A,)))
    return Held(container, "train", started or ago(3600), ago(1), refs, unclear)


def gpu(uuid: str = A, *processes: GpuProcess | int, **facts: Any) -> GpuStatus:
    """Give a healthy GPU without NVLink and MIG, with these processes on it."""
    listed = tuple(one if isinstance(one, GpuProcess) else GpuProcess(one, "C", "", 300 * MIB) for one in processes)
    status = GpuStatus(
        uuid,
        "00000000:07:00.0",
        0,
        "NVIDIA A40",
        mig_current=False,
        mig_pending=False,
        utilization_ratio=0.0,
        memory_used_bytes=4 * MIB,
        memory_total_bytes=40 * GIB,
        processes=listed,
        display_active=False,
        persistence_mode=False,
        recovery_action="none",
        nvlink="none",
        fabric=False,
    )
    return replace(status, **facts)


def raw(container: str, status: str = "running", started: datetime | None = None, **host: Any) -> dict[str, Any]:
    """Give an inspect; `host` goes into HostConfig."""
    return {
        "Id": container,
        "Name": f"/n{container[:6]}",
        "State": {"Status": status, "StartedAt": (started or ago(3600)).isoformat(), "ExitCode": 0},
        "Config": {"Env": [], "Labels": {}},
        "HostConfig": {"RestartPolicy": {"Name": "no"}, **host},
    }


@dataclass
class FakeEngine:
    """Docker. `there`: its containers; `broken`: why it does not answer; `inspects`: called with each look at one."""

    there: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: str = ""
    inspects: Callable[[str], None] = lambda _: None

    def containers(self) -> list[dict[str, Any]]:
        if self.broken:
            raise Unanswered(self.broken)
        return [{"Id": container} for container in self.there]

    def inspect(self, container_id: str) -> dict[str, Any] | None:
        if self.broken:
            raise Unanswered(self.broken)
        self.inspects(container_id)
        return self.there.get(container_id)


@dataclass
class FakeDriver:
    """The driver. `looks` are its answers in turn, the last one for ever; a text: it does not answer."""

    looks: list[Sequence[GpuStatus] | str]
    inventory: tuple[Gpu, ...] = (Gpu(A, 0, minor=0), Gpu(B, 1, minor=1))
    via: str = "nvml"
    unreadable: tuple[str, ...] = ()
    refuses: dict[str, str] = field(default_factory=dict)  # by call: why
    calls: list[str] = field(default_factory=list)

    def look(self, within: timedelta) -> GpuStatuses:
        self.calls.append("look")
        if within <= timedelta(0):
            raise Unanswered("no time")
        told = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(told, str):
            raise Unanswered(told)
        return GpuStatuses({one.uuid: one for one in told}, self.unreadable, self.via)

    def gpus(self, within: timedelta) -> Sequence[Gpu]:
        del within
        self._may("gpus")
        return self.inventory

    def persist(self, uuid: str, within: timedelta, *, on: bool) -> None:
        del within
        call = f"persist {'on' if on else 'off'}"
        self.calls.append(f"{call} {uuid[:5]}")
        self._may(call)

    def reset(self, uuid: str, within: timedelta) -> None:
        assert within > timedelta(0)
        self.calls.append(f"reset {uuid[:5]}")
        self._may("reset")

    def _may(self, call: str) -> None:
        if call in self.refuses:
            raise Unanswered(self.refuses[call])


@dataclass
class FakeTasks:
    """Processes of a test's own under numbers of its own, each of which stands for a real process or for none.

    The numbers are beyond what any kernel gives out: who goes by the number instead of the handle meets nobody.
    """

    real: dict[int, int] = field(default_factory=dict)
    facts: dict[int, dict[str, Any]] = field(default_factory=dict)  # what /proc tells differently, by number
    hidden: dict[int, str] = field(default_factory=dict)
    open_by: dict[int, tuple[int, ...]] = field(default_factory=dict)  # by minor
    holders_hidden: str = ""
    tended_by_shim: frozenset[str] = frozenset()
    opened: Callable[[int], None] = lambda _: None  # called after a handle was opened
    looked: Callable[[int], None] = lambda _: None  # called after a process was looked at

    def add(self, number: int, real: int, cgroup: str | None, **facts: Any) -> int:
        self.real[number] = real
        self.facts[number] = {"cgroup": cgroup, **facts}
        return number

    def look(self, pid: int) -> HostTask:
        if pid in self.hidden:
            raise Hidden(self.hidden[pid])
        if pid not in self.real:
            raise Gone
        found = replace(Processes().look(self.real[pid]), **{"pid": pid, **self.facts[pid]})
        self.looked(pid)
        return found

    def open(self, pid: int) -> int:
        if pid not in self.real:
            raise Gone
        handle = Processes().open(self.real[pid])
        self.opened(pid)
        return handle

    def holders(self, minor: int) -> tuple[int, ...]:
        if self.holders_hidden:
            raise Hidden(self.holders_hidden)
        return self.open_by.get(minor, ())

    def tended(self, container: str) -> bool:
        return container in self.tended_by_shim


@dataclass
class FakeXids:
    told: tuple[Xid, ...] | str = ()

    def since(self, at: datetime) -> tuple[Xid, ...]:
        if isinstance(self.told, str):
            raise Unanswered(self.told)
        return tuple(xid for xid in self.told if xid.at >= at)


@dataclass
class FakeTime:
    """Time that passes only where it is waited for."""

    at: float = 1000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.at, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def spawn(code: str = PLAIN) -> subprocess.Popen[bytes]:
    """Start a real process; it is ready when this returns."""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


@contextmanager
def spawning() -> Iterator[Start]:
    """Start real processes, all of which are gone afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def one(*args: str) -> subprocess.Popen[bytes]:
        started.append(spawn(*args))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.communicate()
