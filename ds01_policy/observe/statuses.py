"""How the host's GPUs are and who is on them: the driver's library where it answers, else `nvidia-smi -q -x`.

Owns what the library's answer means, which way is tried first, and the only calls that change anything on a GPU.
Decides nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds01_policy.model import GpuProcess, GpuStatus, GpuStatuses, MigSlot
from ds01_policy.observe import nvidia_smi, nvml, nvml_health
from ds01_policy.observe.ports import SourceError
from ds01_policy.text import plain

if TYPE_CHECKING:
    from ds01_policy.policy import GpuSettings

_ACTIONS = {  # nvmlDeviceGpuRecoveryAction_t, in nvidia-smi's words
    0: "none",
    1: "reset",
    2: "reboot",
    3: "drain p2p",
    4: "drain and reset",
    5: "recover imex domain",
    6: "bus reset",
    7: "system reboot",
}


@dataclass(frozen=True, slots=True)
class HostStatuses:
    """The driver, asked as `gpu` in settings.yaml says."""

    settings: GpuSettings

    def look(self, within: timedelta) -> GpuStatuses:
        """Look at every GPU, in the time given; the library gets half of it. `notes` says what failed first.

        Raises:
            SourceError: when neither answers.

        """
        if self.settings.nvml == "never":
            return self._command(within)
        deadline = time.monotonic() + within.total_seconds()
        try:
            return _of_library(nvml.call((_asker(),), self._at_most(within / 2)))
        except SourceError as error:
            first = error
        try:
            found = self._command(timedelta(seconds=max(0.1, deadline - time.monotonic())))
        except SourceError as second:
            raise SourceError(f"{first}; {second}") from None
        return replace(found, notes=(f"{first}; asked nvidia-smi instead", *found.notes))

    def persist(self, uuid: str, within: timedelta, *, on: bool) -> None:
        """Switch persistence mode of one GPU: on, the driver stays on it when nobody uses it.

        Raises:
            SourceError: when the library may not be asked, or refuses.

        """
        if self.settings.nvml == "never":
            raise SourceError("gpu.nvml is `never` in settings.yaml")
        nvml.call((_asker(), "persistence", uuid, "on" if on else "off"), self._at_most(within))

    def reset(self, uuid: str, within: timedelta) -> None:
        """Reset one GPU: everything on it is lost. Whether that may be done, the caller has made sure of.

        Raises:
            SourceError: when it is refused or fails, or did not end in time and may still be going on.

        """
        nvidia_smi.reset(self.settings.nvidia_smi, uuid, within)

    def _command(self, within: timedelta) -> GpuStatuses:
        query = nvidia_smi.parse_query(nvidia_smi.ask(self.settings.nvidia_smi, ("-q", "-x"), self._at_most(within)))
        unreadable = [str(one) for one in query.remarks.unreadable]
        uncounted = (query.attached or 0) - len(query.gpus) - len(unreadable)
        unreadable += ["a GPU is counted and not told of"] * uncounted
        gpus = {gpu.uuid: gpu for gpu in query.gpus}
        return GpuStatuses(gpus, tuple(unreadable), "nvidia-smi", query.remarks.warnings)

    def _at_most(self, within: timedelta) -> timedelta:
        return min(within, self.settings.timeout)


def _asker() -> str:
    return str(Path(nvml_health.__file__).resolve())


def _of_library(answer: dict[str, Any]) -> GpuStatuses:
    """Check what nvml_health.py printed. Raises SourceError."""
    try:
        read = [entry for entry in answer["gpus"] if "error" not in entry]
        gpus = {entry["uuid"]: _status(entry) for entry in read}
        unreadable = [
            f"GPU {entry['index']} cannot be read: {nvml.words_of(entry)}"
            for entry in answer["gpus"]
            if "error" in entry
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"NVML's answer is not understood: {plain(repr(error), 160)}") from None
    return GpuStatuses(gpus, tuple(unreadable), "nvml")


def _status(entry: dict[str, Any]) -> GpuStatus:
    known = GpuStatus(entry["uuid"], entry["pci_bus_id"].upper(), name=entry["name"], trouble=entry["trouble"])
    if known.trouble:
        return known
    used, total, action = entry["memory_used"], entry["memory_total"], entry["recovery_action"]
    possible = used is not None and 0 <= used <= (total or 0)
    return replace(
        known,
        minor=entry["minor"],
        mig_current=entry["mig_current"],
        mig_pending=entry["mig_pending"],
        mig=tuple(MigSlot(**slot) for slot in entry["mig"]),
        utilization_ratio=_ratio(entry["utilization"]),
        memory_used_bytes=used if possible else None,
        memory_total_bytes=total if possible else None,
        processes=None if entry["processes"] is None else tuple(map(_process, entry["processes"])),
        display_active=entry["display_active"],
        persistence_mode=entry["persistence_mode"],
        recovery_action="" if action is None else _ACTIONS.get(action, f"action {int(action)}"),
        remap_pending=entry["remap_pending"],
        remap_failure=entry["remap_failure"],
        ecc_uncorrected=entry["ecc_uncorrected"],
        nvlink=entry["nvlink"],
        fabric=entry["fabric"],
    )


def _process(entry: dict[str, Any]) -> GpuProcess:
    return GpuProcess(
        int(entry["pid"]), entry["kind"], "", entry["memory"], entry["gpu_instance"], entry["compute_instance"]
    )


def _ratio(percent: int | None) -> float | None:
    return percent / 100 if percent is not None and 0 <= percent <= 100 else None  # noqa: PLR2004  percent
