"""The seams to the outside: what a source can be asked, and how it fails.

Owns the protocols only. A live source, a recording and a replay all look like this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ds01_policy.model import Gpu, GpuStatuses, HostTask

Json = dict[str, Any]


class SourceError(Exception):
    """A source did not answer, or answered something that cannot be believed. The text is for the admin."""


class SourceSlow(SourceError):
    """A source did not answer in time."""


class NotRecorded(SourceError):
    """A recording has no answer: what is asked now was not asked when it was made."""


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file inside a container, as Docker's archive stat header shows it."""

    modified_at: datetime
    name: str = ""
    link_target: str = ""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One PromQL answer, checked: no warnings, not partial, the expected shape."""

    result_type: str  # vector or matrix
    result: Sequence[Json]  # [{"metric": {...}, "value": [t, "v"]}] or [{"metric": {...}, "values": [[t, "v"], …]}]


@dataclass(frozen=True, slots=True)
class Inventory:
    """The host's GPUs, and who told."""

    gpus: tuple[Gpu, ...] = ()
    via: str = ""  # nvml, nvidia-smi
    notes: tuple[str, ...] = field(default=())  # what was tried first and failed
    # Share of the last moments in which it worked, 0 to 1, of GPUs and MIG instances of which the driver says it; and
    # why it does not say it of others. Both by GpuRef as text.
    utilization: Mapping[str, float] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counters:
    """What containers have used since they started. One that is not in a mapping could not be counted."""

    at: float  # Unix seconds at which counting began
    cpu_s: Mapping[str, float] = field(default_factory=dict)  # by container id
    network_bytes: Mapping[str, float] = field(default_factory=dict)  # received and sent, by container id
    notes: tuple[str, ...] = ()  # what could not be counted, and why


@dataclass(frozen=True, slots=True)
class OnGpus:
    """Who is on the host's GPUs. Of each GPU only its processes are told; those that ended meanwhile are left out."""

    statuses: GpuStatuses
    tasks: Mapping[int, HostTask] = field(default_factory=dict)  # by PID; one that may not be looked at is not in it


class DockerSource(Protocol):
    """The engine's raw JSON. Every call has a timeout."""

    def containers(self) -> list[Json]:
        """`GET /containers/json?all=1`. Raises SourceError."""

    def inspect(self, container_id: str) -> Json | None:
        """`GET /containers/ID/json`; None: it is gone. Raises SourceError."""

    def stat(self, container_id: str, path: str) -> FileStat | None:
        """`HEAD /containers/ID/archive?path=…`; None: no such file, or no such container. Raises SourceError."""


class PrometheusSource(Protocol):
    """PromQL instant queries."""

    def query(self, promql: str, at: datetime) -> QueryResult:
        """Ask at one instant. Raises SourceError for every answer that cannot be believed whole."""


class GpuSource(Protocol):
    """The driver."""

    def inventory(self) -> Inventory:
        """List GPUs and MIG devices. Raises SourceError when nothing can be asked (no driver, hung, unreadable)."""


class HostSource(Protocol):
    """What only the host itself knows."""

    def name(self) -> str:
        """Host name, as reports show it."""

    def uid_of_process(self, pid: int) -> int | None:
        """Effective UID of a host process; None: gone or unreadable."""

    def user_of_uid(self, uid: int) -> str | None:
        """User name of a UID; None: nobody has it."""


class LocalSource(Protocol):
    """Counters of running containers, from the host itself."""

    def counters(self, pids: Mapping[str, int]) -> Counters:
        """Count for these containers; each with its first process on the host. Raises SourceError where none can be."""


class TaskSource(Protocol):
    """The driver and the kernel, asked together who is on the GPUs."""

    def look(self) -> OnGpus:
        """List every GPU's processes. Raises SourceError, in a bounded time, where they cannot be listed."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything a tick can ask.

    `prometheus` None: switched off in settings; `local`, `tasks` None: not in this recording, or not asked for.
    """

    docker: DockerSource
    prometheus: PrometheusSource | None
    gpu: GpuSource
    host: HostSource
    local: LocalSource | None = None
    tasks: TaskSource | None = None
