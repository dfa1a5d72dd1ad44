"""Who is on the GPUs: the driver's list joined with what the kernel tells, in a bounded time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from epilog_world import MIB, A, B, gpu

from ds01_policy.model import GpuProcess, GpuStatus, GpuStatuses, HostTask
from ds01_policy.observe.gpu_tasks import HostTasks
from ds01_policy.observe.ports import OnGpus, SourceError, SourceSlow
from ds01_policy.ownership import Gone, Hidden

SINCE = datetime(2026, 3, 2, tzinfo=UTC)
TIMEOUT = timedelta(seconds=60)


def task(pid: int) -> HostTask:
    return HostTask(pid, 1007, "alice", "jupyter-lab", 500, SINCE, "0::/user.slice\n")


def process(pid: int, name: str = "") -> GpuProcess:
    return GpuProcess(pid, "C", name, MIB)


@dataclass
class Driver:
    """A driver that lists what it is told to, or fails, or hangs."""

    statuses: GpuStatuses | SourceError
    asked: list[timedelta] = field(default_factory=list)

    def look(self, within: timedelta) -> GpuStatuses:
        self.asked.append(within)
        if isinstance(self.statuses, SourceError):
            raise self.statuses
        return self.statuses


@dataclass
class Kernel:
    """A kernel that knows some processes and hides some."""

    hidden: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()
    hang: threading.Event | None = None

    def look(self, pid: int) -> HostTask:
        if self.hang is not None:
            self.hang.wait()
        if pid in self.hidden:
            raise Hidden("may not be read")
        if pid in self.gone:
            raise Gone("is gone")
        return task(pid)


def seen(statuses: GpuStatuses, kernel: Kernel | None = None) -> OnGpus:
    return HostTasks(Driver(statuses), kernel or Kernel(), TIMEOUT).look()


def test_the_drivers_list_is_joined_with_the_kernels() -> None:
    """Of each GPU its processes alone are kept; the driver has less than all of the time."""
    driver = Driver(GpuStatuses({A: gpu(A, process(7), process(8)), B: gpu(B)}, ("GPU 2",), "nvml", ("slow",)))
    assert HostTasks(driver, Kernel(), TIMEOUT).look() == OnGpus(
        GpuStatuses(
            {A: GpuStatus(A, processes=(process(7), process(8))), B: GpuStatus(B, processes=())},
            ("GPU 2",),
            "nvml",
            ("slow",),
        ),
        {7: task(7), 8: task(8)},
    )
    assert TIMEOUT / 2 < driver.asked[0] < TIMEOUT


def test_one_that_ended_meanwhile_is_left_out() -> None:
    """And one that is hidden is not: it holds the GPU all the same."""
    found = seen(GpuStatuses({A: gpu(A, 7, 8, 9)}), Kernel(frozenset({8}), frozenset({7})))
    assert [one.pid for one in found.statuses.gpus[A].processes or ()] == [8, 9]
    assert list(found.tasks) == [9]


def test_a_gpu_whose_processes_are_not_listed_is_no_empty_one() -> None:
    """Nobody knows who is on it."""
    found = seen(GpuStatuses({A: gpu(A, processes=None), B: gpu(B)}))
    assert [found.statuses.gpus[uuid].processes for uuid in (A, B)] == [None, ()]


def test_a_drivers_name_loses_what_may_be_arguments() -> None:
    """It is kept in recordings."""
    found = seen(GpuStatuses({A: gpu(A, process(7, "/opt/python train.py --token hunter2"))}))
    assert [one.name for one in found.statuses.gpus[A].processes or ()] == ["python"]


def test_a_driver_that_fails_says_why() -> None:
    """In its own words."""
    with pytest.raises(SourceError, match="nvidia-smi hung"):
        HostTasks(Driver(SourceError("nvidia-smi hung")), Kernel(), TIMEOUT).look()


def test_a_user_database_that_hangs_is_not_waited_for() -> None:
    """The look ends when its time is up."""
    hang = threading.Event()
    try:
        with pytest.raises(SourceSlow, match="no answer within"):
            HostTasks(Driver(GpuStatuses({A: gpu(A, 7)})), Kernel(hang=hang), timedelta(seconds=0.1)).look()
    finally:
        hang.set()
