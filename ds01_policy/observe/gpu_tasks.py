"""Who is on the host's GPUs: what the driver lists, joined with what the kernel tells of each process.

Owns the join, and that it ends in time. Signals nobody and decides nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from ds01_policy.host_processes import looked_up, short_name
from ds01_policy.model import GpuProcess, GpuStatus, GpuStatuses
from ds01_policy.observe.aside import Aside, Late
from ds01_policy.observe.ports import OnGpus, SourceSlow
from ds01_policy.ownership import Gone, Hidden
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from datetime import timedelta

    from ds01_policy.model import HostTask

# The driver's share of the time; the kernel and the user database have the rest.
_DRIVERS = 0.9


class Driver(Protocol):
    """Who lists the processes: statuses.HostStatuses."""

    def look(self, within: timedelta) -> GpuStatuses:
        """Look at every GPU. Raises SourceError."""


class Kernel(Protocol):
    """Who knows them: processes.Processes."""

    def look(self, pid: int) -> HostTask:
        """Read what is told of one process. Raises Gone or Hidden."""


@dataclass(frozen=True, slots=True)
class HostTasks:
    """The host this runs on. A ports.TaskSource."""

    driver: Driver
    kernel: Kernel
    timeout: timedelta

    def look(self) -> OnGpus:
        """List every GPU's processes.

        Raises:
            SourceError: when the driver does not list them, or the time is up: a user database that is a network away
                may hang.

        """
        deadline = time.monotonic() + self.timeout.total_seconds()
        try:
            return Aside(self._look, "gpu-processes").by(deadline)
        except Late:
            raise SourceSlow(f"no answer within {format_duration(self.timeout)}") from None

    def _look(self) -> OnGpus:
        statuses = self.driver.look(self.timeout * _DRIVERS)
        gone: set[int] = set()

        def known(pid: int) -> HostTask | None:
            try:
                return self.kernel.look(pid)
            except Gone:
                gone.add(pid)
            except Hidden:
                pass
            return None

        tasks = looked_up(statuses, known)
        gpus = {uuid: GpuStatus(uuid, processes=_alive(status, gone)) for uuid, status in statuses.gpus.items()}
        return OnGpus(GpuStatuses(gpus, statuses.unreadable, statuses.via, statuses.notes), tasks)


def _alive(status: GpuStatus, gone: set[int]) -> tuple[GpuProcess, ...] | None:
    if status.processes is None:
        return None
    return tuple(replace(one, name=short_name(one.name)) for one in status.processes if one.pid not in gone)
