"""PURE: everything that speaks against resetting a GPU. A reset takes away whatever anybody has on it.

Owns the gates, each with what an admin reads when it stands. What is not known speaks against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.text import plain

if TYPE_CHECKING:
    from ds01_policy.model import GpuStatus

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Scene:
    """What one look showed. None: it could not be found out."""

    status: GpuStatus | None
    via: str = ""  # who told of it: nvml, nvidia-smi
    gpus: int = 0  # how many the host has, those that cannot be read among them
    containers: Sequence[str] | None = None  # those, in whatever state, that may use this GPU
    open_by: Sequence[str] | None = None  # processes that have its device open
    why_unknown: str = ""


def against(scene: Scene) -> tuple[str, ...]:
    """Say what speaks against a reset; empty: nothing does."""
    status = scene.status
    if status is None:
        return ("the driver does not tell of it",)
    reasons = [
        *_of_driver(status, scene.via),
        *_of_people(status, scene),
        _of_peers(status, scene.gpus),
    ]
    return tuple(reason for reason in reasons if reason)


def _of_driver(status: GpuStatus, via: str) -> list[str]:
    reasons = []
    if via != "nvml":
        reasons.append("NVML does not answer: without it nobody can switch persistence mode off and on again")
    if status.mig_current is not False or status.mig_pending is not False:
        reasons.append(
            "MIG mode is on or about to be: a reset may destroy everybody's instances"
            if status.mig_current or status.mig_pending
            else "whether MIG mode is on is not told"
        )
    if status.minor is None:
        reasons.append("which device it is (/dev/nvidiaN) is not told")
    if status.persistence_mode is None:
        reasons.append("whether persistence mode is on is not told")
    if status.display_active is not False:
        reasons.append("a display is on it" if status.display_active else "whether a display is on it is not told")
    return reasons


def _of_people(status: GpuStatus, scene: Scene) -> list[str]:
    reasons = []
    if status.processes is None:
        reasons.append("who is on it is not told")
    elif status.processes:
        reasons.append(f"{len(status.processes)} on it by the driver's list")
    if scene.containers is None:
        reasons.append(f"which containers may use it is not known{_because(scene)}")
    elif scene.containers:
        reasons.append(f"containers that may use it: {_some(scene.containers)}; remove them first")
    if scene.open_by is None:
        reasons.append(f"who has its device open is not known{_because(scene)}")
    elif scene.open_by:
        reasons.append(f"its device is open in {_some(scene.open_by)}")
    return reasons


def _of_peers(status: GpuStatus, gpus: int) -> str:
    """Say whether other GPUs would have to be reset along with it, or could not be told from those that do."""
    if status.nvlink == "active" or status.fabric:
        return "NVLink connects it: its peers may have to be reset along with it"
    # Before Hopper a board for NVSwitch tells nothing of a fabric, and without its manager no link is up either.
    alone = status.nvlink == "none" or (status.nvlink == "idle" and status.fabric is False and "SXM" not in status.name)
    if alone or gpus == 1:
        return ""
    return "whether NVLink connects it with other GPUs is not known"


def _because(scene: Scene) -> str:
    return f": {plain(scene.why_unknown, 160)}" if scene.why_unknown else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(plain(name, 60) for name in names[:_SHOWN]) + more
