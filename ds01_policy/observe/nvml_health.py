"""What nvml_reader.py asks NVML about health and processes, in the same child: who is on each GPU, and how it is.

Owns which calls are made of which handle; each fact by itself, so that what one GPU or driver does not know is None.
Loaded by its path into that child: imports nothing of this package.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

Json = dict[str, Any]

_NOT_AN_INSTANCE = 0xFFFFFFFF
# GPU is lost, needs a reset, unknown: then the GPU is in trouble, and nothing else that it says counts.
_TROUBLE = (15, 16, 999)


class Trouble(Exception):
    """The GPU is there and not well. The text is NVML's."""


def ask(nvml: Any, arguments: list[str]) -> Json:
    """Answer: without arguments, how every GPU is; `persistence UUID on|off` sets the mode and answers nothing."""
    if arguments[:1] == ["persistence"]:
        _, uuid, mode = arguments
        nvml.nvmlDeviceSetPersistenceMode(nvml.nvmlDeviceGetHandleByUUID(uuid), int(mode == "on"))
        return {}
    return {"gpus": [_gpu_or_error(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]}


def _gpu_or_error(nvml: Any, index: int) -> Json:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        known = {
            "uuid": _text(nvml.nvmlDeviceGetUUID(handle)),
            "pci_bus_id": _text(nvml.nvmlDeviceGetPciInfo(handle).busId),
            "name": _text(nvml.nvmlDeviceGetName(handle)),
        }
    except nvml.NVMLError as error:
        return {"index": index, "error": error.value, "text": str(error)}
    try:
        return {**known, **_status(nvml, handle), "trouble": ""}
    except Trouble as trouble:
        return {**known, "trouble": str(trouble)}


def _status(nvml: Any, handle: Any) -> Json:
    def told(name: str, *more: Any) -> Any:
        return _told(nvml, lambda: getattr(nvml, name)(handle, *more))

    mig = _told(nvml, lambda: _mig_mode(nvml, handle))
    current, pending = mig or (None, None)
    rows = told("nvmlDeviceGetRemappedRows")
    rates = None if current else told("nvmlDeviceGetUtilizationRates")
    memory = _told(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2))
    memory = memory or told("nvmlDeviceGetMemoryInfo")  # before driver 510; counts the driver's own as used
    devices = _mig_devices(nvml, handle) if current else []
    return {
        "minor": told("nvmlDeviceGetMinorNumber"),
        "mig_current": current,
        "mig_pending": pending,
        "mig": [place for place, _ in devices],
        "utilization": None if rates is None else rates.gpu,
        "memory_used": None if memory is None else memory.used,
        "memory_total": None if memory is None else memory.total,
        "processes": _told(nvml, lambda: _processes(nvml, handle, devices)),
        "display_active": _switch(told("nvmlDeviceGetDisplayActive")),
        "persistence_mode": _switch(told("nvmlDeviceGetPersistenceMode")),
        "recovery_action": _told(nvml, lambda: _field(nvml, handle, nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)),
        "remap_pending": None if rows is None else bool(rows[2]),
        "remap_failure": None if rows is None else bool(rows[3]),
        "ecc_uncorrected": _told(nvml, lambda: _ecc(nvml, handle)),
        "nvlink": _told(nvml, lambda: _nvlink(nvml, handle)) or "",
        "fabric": _told(nvml, lambda: _fabric(nvml, handle)),
    }


def _told(nvml: Any, call: Callable[[], Any]) -> Any:
    """Ask one thing; None: this GPU, driver or binding does not tell. Raises Trouble."""
    try:
        return call()
    except AttributeError:  # a binding older than the call
        return None
    except nvml.NVMLError as error:
        if error.value in _TROUBLE:
            raise Trouble(str(error)) from None
        return None


def _mig_mode(nvml: Any, handle: Any) -> tuple[bool, bool]:
    try:
        current, pending = nvml.nvmlDeviceGetMigMode(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):  # before Ampere, before driver 450
        return False, False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE), bool(pending == nvml.NVML_DEVICE_MIG_ENABLE)


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _mig_devices(nvml: Any, handle: Any) -> list[tuple[Json, Any]]:
    found = []
    for index in range(_told(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0):
        device = _told(nvml, partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index))
        if device is not None:  # else an empty slot
            place = {
                "index": index,
                "gpu_instance": nvml.nvmlDeviceGetGpuInstanceId(device),
                "compute_instance": nvml.nvmlDeviceGetComputeInstanceId(device),
            }
            found.append((place, device))
    return found


def _processes(nvml: Any, handle: Any, devices: list[tuple[Json, Any]]) -> list[Json]:
    """List the processes of one GPU. A GPU in MIG mode is asked as a whole and through each of its MIG devices.

    As a whole it tells only the privileged, and then of all; a MIG device tells of its own.
    """
    found: dict[tuple[int, int | None, int | None], Json] = {}
    kinds: dict[tuple[int, int | None, int | None], set[str]] = {}
    whole = None
    for place, device in [({}, handle), *devices]:
        try:
            listed = _listed(nvml, device)
        except nvml.NVMLError as error:
            if place or not devices:
                raise
            whole = error
            continue
        for kind, process in listed:
            instance, compute = (
                place.get(name) if number == _NOT_AN_INSTANCE else number
                for name, number in (
                    ("gpu_instance", process.gpuInstanceId),
                    ("compute_instance", process.computeInstanceId),
                )
            )
            key = (process.pid, instance, compute)
            kinds.setdefault(key, set()).add(kind)
            memory = [used for used in (found.get(key, {}).get("memory"), process.usedGpuMemory) if used is not None]
            found[key] = {"memory": max(memory, default=None)}
    if whole is not None and whole.value in _TROUBLE:
        raise whole
    return [
        {"pid": pid, "gpu_instance": instance, "compute_instance": compute, "kind": _kind(kinds[key]), **found[key]}
        for key in found
        for pid, instance, compute in [key]
    ]


def _listed(nvml: Any, device: Any) -> list[tuple[str, Any]]:
    """List by kind. Only graphics and MPS may be unknown to a driver; without the compute list there is no list."""
    found = [("C", process) for process in _either(nvml, device, "Compute")]
    for kind, name in (("G", "Graphics"), ("M", "MPSCompute")):
        try:
            found += [(kind, process) for process in _either(nvml, device, name)]
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
            continue
    return found


def _either(nvml: Any, device: Any, kind: str) -> list[Any]:
    """Ask by the present call, else by the one that drivers before 510 have."""
    try:
        answer = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses_v3")(device)
    except nvml.NVMLError_FunctionNotFound:
        answer = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses_v2")(device)
    return list(answer)


def _kind(kinds: set[str]) -> str:
    """Spell it as nvidia-smi does."""
    return "M+C" if "M" in kinds else "+".join(sorted(kinds))


# ── single facts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _ecc(nvml: Any, handle: Any) -> int:
    return int(
        nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    )


def _field(nvml: Any, handle: Any, field: int) -> int | None:
    value = nvml.nvmlDeviceGetFieldValues(handle, [field])[0]
    return int(value.value.uiVal) if value.nvmlReturn == 0 else None


def _nvlink(nvml: Any, handle: Any) -> str:
    """Tell whether anything hangs on its NVLinks: `active`, `idle` or, without ports, `none`; empty: not known."""
    found = set()
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            found.add("active" if nvml.nvmlDeviceGetNvLinkState(handle, link) else "idle")
        except nvml.NVMLError_NotSupported:
            found.add("none")
        except nvml.NVMLError_InvalidArgument:  # beyond its last port
            break
    return next((state for state in ("active", "idle", "none") if state in found), "")


def _fabric(nvml: Any, handle: Any) -> bool:
    info = nvml.c_nvmlGpuFabricInfo_t()
    try:
        nvml.nvmlDeviceGetGpuFabricInfo(handle, ctypes.byref(info))
    except nvml.NVMLError_NotSupported:
        return False
    return bool(info.state != nvml.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED)


def _switch(value: int | None) -> bool | None:
    return None if value is None else value == 1


def _text(value: str | bytes) -> str:
    """Take what some versions of the binding return as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
