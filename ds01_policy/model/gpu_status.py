"""What the driver tells of a GPU's health and of who is on it, whichever way it was asked.

None, or empty text, everywhere means: the driver does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class MigSlot:
    """Which instances one MIG device is made of. Its UUID is not told here."""

    index: int  # 0-based per GPU, the same as in `nvidia-smi -L`
    gpu_instance: int
    compute_instance: int


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a GPU, as the driver tells it. The name is written by users: hostile text."""

    pid: int  # on the host
    kind: str  # C, G, C+G, M+C (an MPS client); empty before driver 352
    name: str  # empty where NVML told
    used_memory_bytes: int | None
    gpu_instance: int | None = None
    compute_instance: int | None = None


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """One GPU.

    `processes` holds every process the driver lists. From nvidia-smi it may hold more: a name that imitates the output
    adds entries, and nothing in the text tells them apart. So ask the kernel about a process before acting on it.
    """

    uuid: str
    pci_bus_id: str = ""
    minor: int | None = None
    name: str = ""
    mig_current: bool | None = None
    mig_pending: bool | None = None
    mig: tuple[MigSlot, ...] = ()
    utilization_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    processes: tuple[GpuProcess, ...] | None = None  # None: no list, or one that a name made unreadable
    display_active: bool | None = None
    persistence_mode: bool | None = None
    # "none", "reset", "reboot", "drain p2p", "drain and reset", "recover imex domain", "bus reset", "system reboot"
    recovery_action: str = ""
    remap_pending: bool | None = None
    remap_failure: bool | None = None
    ecc_uncorrected: int | None = None  # errors since the driver was loaded
    nvlink: str = ""  # "none": it has no ports, "idle": none is connected, "active"
    fabric: bool | None = None  # part of an NVLink fabric (NVSwitch); told from Hopper on
    trouble: str = ""  # what stands in place of readings: "GPU is lost"


@dataclass(frozen=True, slots=True)
class GpuStatuses:
    """Every GPU the driver told of in one look."""

    gpus: Mapping[str, GpuStatus] = field(default_factory=dict)  # by UUID
    unreadable: tuple[str, ...] = ()  # in words, of each GPU that is counted and cannot be read
    via: str = ""  # nvml, nvidia-smi
    notes: tuple[str, ...] = ()  # what was tried first and failed

    @property
    def count(self) -> int:
        """How many GPUs the driver counts, those it cannot read among them."""
        return len(self.gpus) + len(self.unreadable)


@dataclass(frozen=True, slots=True)
class Xid:
    """An error of a GPU as the driver reports it to the kernel's log."""

    code: int
    pci_bus_id: str  # as NVML prints it, the function left out: `00000000:07:00`
    at: datetime
