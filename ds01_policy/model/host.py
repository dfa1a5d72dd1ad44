"""The host as a tick sees it: GPUs, what a container may use of them, and containers.

Times are aware UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ds01_policy.model.words import State


@dataclass(frozen=True, slots=True)
class GpuRef:
    """What a container can hold and a metric is keyed by: a whole GPU, or one GPU instance (MIG) of it."""

    uuid: str  # of the physical GPU, `GPU-…`
    gpu_instance: int | None = None  # NVML's GPU instance id

    def __lt__(self, other: GpuRef) -> bool:
        """Order by GPU, a whole one before its instances."""
        mine, its = (-1 if ref.gpu_instance is None else ref.gpu_instance for ref in (self, other))
        return (self.uuid, mine) < (other.uuid, its)

    def __str__(self) -> str:
        """`GPU-…` or `GPU-…/gi7`."""
        return self.uuid if self.gpu_instance is None else f"{self.uuid}/gi{self.gpu_instance}"


@dataclass(frozen=True, slots=True)
class MigDevice:
    """One MIG device (a compute instance of a GPU instance) as NVML or `nvidia-smi` lists it."""

    uuid: str  # `MIG-…`
    index: int  # 0-based per parent; what `--gpus device=0:1` counts, not the GPU instance id
    gpu_instance: int
    compute_instance: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU of the host."""

    uuid: str  # `GPU-…`
    index: int  # NVML's index: what `--gpus device=0` counts
    pci_bus_id: str = ""  # as NVML prints it, `00000000:09:00.0`
    minor: int | None = None  # N of /dev/nvidiaN
    name: str = ""
    mig_enabled: bool = False
    mig_devices: tuple[MigDevice, ...] = ()

    @property
    def refs(self) -> tuple[GpuRef, ...]:
        """What can be held of it: each GPU instance once, or the whole GPU where there is none."""
        instances = sorted({device.gpu_instance for device in self.mig_devices})
        return tuple(GpuRef(self.uuid, instance) for instance in instances) or (GpuRef(self.uuid),)

    @property
    def made_of(self) -> dict[GpuRef, tuple[str, ...]]:
        """The MIG devices of the whole GPU and of each of its GPU instances: UUIDs, by index."""
        devices = sorted(self.mig_devices, key=lambda device: device.index)
        found = {GpuRef(self.uuid): tuple(f"{device.index}:{device.uuid}" for device in devices)}
        for device in devices:
            ref = GpuRef(self.uuid, device.gpu_instance)
            found[ref] = (*found.get(ref, ()), device.uuid)
        return found


@dataclass(frozen=True, slots=True)
class Partition:
    """What a GPU or GPU instance consisted of when it was last listed, and since when that has been so."""

    devices: tuple[str, ...] = ()  # as Gpu.made_of tells them
    since: datetime | None = None  # first look that saw it so; None: it was so when the GPU was first seen


@dataclass(frozen=True, slots=True)
class GpuClaim:
    """Which GPUs a container may use, and how that was found."""

    wants: bool = False  # may use a GPU at all
    refs: tuple[GpuRef, ...] = ()  # what it may use, as far as resolved
    unclear: str = ""  # why `refs` may be incomplete; then idleness is UNKNOWN and every GPU counts as protected
    via: str = ""  # e.g. `--gpus`, `NVIDIA_VISIBLE_DEVICES`, `--device`, `privileged`
    holds: bool = True  # False: could look at GPUs but asked for none by name (privileged); no hold for demand
    by_place: tuple[str, ...] = ()  # UUIDs of GPUs whose MIG devices it names by their place, `0:1`
    since: Mapping[GpuRef, datetime] = field(default_factory=dict)  # when an instance came to be what it is, if known


@dataclass(frozen=True, slots=True)
class Mount:
    """Where data survives the container."""

    source: str  # host path, or volume name
    destination: str
    kind: str  # bind, volume, tmpfs
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The keep-alive file, as Docker's archive stat sees it, and since when it has held this idle spell back."""

    modified_at: datetime
    honoured_since: datetime | None = None  # from the ledger: first tick of this idle spell that it held back


@dataclass(frozen=True, slots=True)
class Container:
    """One container: Docker's facts, and who and what identity.yaml says it is."""

    id: str  # 64 hex
    name: str
    image: str
    state: State
    created_at: datetime
    started_at: datetime | None = None  # of the present (or last) life; None: never started
    finished_at: datetime | None = None  # of the last life that ended
    running_since: datetime | None = None  # start of the chain of lives that followed each other at once
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: GpuClaim = GpuClaim()
    type: str = "docker"
    type_via: str = ""
    owner: str = "unknown"
    owner_via: str = ""
    owner_proven: bool = True  # False: rests on a label alone that any user can set
    group: str = ""
    infrastructure: bool = False  # claimed *and* trusted
    keep_alive: KeepAlive | None = None
    keep_alive_unreadable: str = ""  # why the file could not be looked for
    restart_policy: str = "no"
    auto_remove: bool = False
    network_mode: str = "bridge"
    pid: int = 0  # of its first process on the host; 0: none
    mounts: tuple[Mount, ...] = ()

    @property
    def short(self) -> str:
        """The 12 hex people know."""
        return self.id[:12]


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether a source answered, and how. `extra` goes into the JSON as it is."""

    up: bool
    detail: str = ""
    extra: Mapping[str, str | int] = field(default_factory=dict)
    off: bool = False  # settings.yaml switches it off: nobody asked
