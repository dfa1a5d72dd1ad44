"""The real parts behind an epilog's seams: Docker, the driver, the kernel's processes and its log.

Owns which part stands where, and that each of their failures is one the epilog knows. Decides nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.act.epilog import Epilog
from ds01_policy.act.epilog.ports import Unanswered
from ds01_policy.cli.wiring import now
from ds01_policy.observe.capabilities import may_reset
from ds01_policy.observe.docker import EngineDocker
from ds01_policy.observe.gpus import HostGpus
from ds01_policy.observe.host import LocalHost
from ds01_policy.observe.ports import DockerSource, Json, SourceError
from ds01_policy.observe.processes import Processes
from ds01_policy.observe.statuses import HostStatuses
from ds01_policy.observe.xids import KernelLog
from ds01_policy.reset_requests import FOLDER, Request, ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ds01_policy.model import Gpu, GpuStatuses, Xid
    from ds01_policy.policy import GpuSettings, Policy

# A Docker that takes longer leaves the epilog no time to do anything with its answer.
PATIENCE = timedelta(seconds=5)


def epilog_of(policy: Policy, *, hands: bool, docker: DockerSource | None = None, by: str = "epilog") -> Epilog:
    """Build the epilog that this policy asks for. Without `hands` it only looks. One thread at a time may use it.

    `by`: which command runs it, for whoever is asked for a reset.
    """
    settings = policy.settings
    patience = min(settings.docker.timeout, PATIENCE).total_seconds()
    return Epilog(
        driver=_Driver(HostStatuses(settings.gpu), settings.gpu),
        engine=_Engine(docker or EngineDocker(settings.docker.url, patience)),
        tasks=Processes(host=LocalHost()),
        settings=settings.epilog,
        hands=hands,
        xids=_Log(KernelLog()),
        resets=_Resets(Path(settings.state_dir) / FOLDER, by),
    )


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise Unanswered(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Engine:
    """Docker."""

    docker: DockerSource

    def containers(self) -> list[Json]:
        with _answered():
            return self.docker.containers()

    def inspect(self, container_id: str) -> Json | None:
        with _answered():
            return self.docker.inspect(container_id)


@dataclass(frozen=True, slots=True)
class _Driver:
    """The driver."""

    statuses: HostStatuses
    settings: GpuSettings

    def look(self, within: timedelta) -> GpuStatuses:
        with _answered():
            return self.statuses.look(within)

    def gpus(self, within: timedelta) -> Sequence[Gpu]:
        with _answered():
            return HostGpus(replace(self.settings, timeout=min(within, self.settings.timeout))).inventory().gpus

    def persist(self, uuid: str, within: timedelta, *, on: bool) -> None:
        with _answered():
            self.statuses.persist(uuid, within, on=on)

    def reset(self, uuid: str, within: timedelta) -> None:
        with _answered():
            self.statuses.reset(uuid, within)


@dataclass(frozen=True, slots=True)
class _Log:
    """The kernel's log."""

    log: KernelLog

    def since(self, at: datetime) -> tuple[Xid, ...]:
        with _answered():
            return self.log.since(at)


@dataclass(frozen=True, slots=True)
class _Resets:
    """This process if it may, else requests in the state directory."""

    folder: Path
    by: str

    def here(self) -> bool:
        return may_reset()

    def hand_over(self, uuid: str, container: str, why: str) -> None:
        try:
            ask(self.folder, Request(uuid, container, now(), why, self.by))
        except OSError as error:
            raise Unanswered(f"{self.folder} cannot be written ({error.strerror})") from error
