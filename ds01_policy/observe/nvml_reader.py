"""The one piece of code that calls the driver's library, NVML. A program of its own: prints JSON, nothing else.

A call into the driver can hang where no signal reaches it, and loading the library can hang or crash the interpreter.
Whoever wants the answer starts this as a child, can kill it, and ends when it likes. Imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import runpy
import sys
import time
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

BUFFER_S = 60.0  # what the driver keeps from before is not the present; it usually keeps the last twenty seconds

# NVML asks for more than a tenth of a second between two samples of its performance counters.
GAP_S = 0.2

# Beside NVML's own codes, which are positive.
NO_BINDING, NO_NUMBER, CHANGED = -1, -2, -3
NOT_SUPPORTED = 3  # NVML's own


def inventory(nvml: Any) -> Json:
    """List GPUs and MIG devices; one that cannot be read becomes {index, error, text}."""
    return {"gpus": [_gpu_or_error(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]}


def _gpu_or_error(nvml: Any, index: int) -> Json:
    try:
        return _gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index), index)
    except nvml.NVMLError as error:
        return {"index": index, "error": error.value, "text": str(error)}


def _gpu(nvml: Any, handle: Any, index: int) -> Json:
    mig = _mig_mode(nvml, handle)
    return {
        "index": index,
        "uuid": _string(nvml.nvmlDeviceGetUUID(handle)),
        "name": _string(nvml.nvmlDeviceGetName(handle)),
        "pci_bus_id": _string(nvml.nvmlDeviceGetPciInfo(handle).busId),
        "minor": _minor(nvml, handle),
        "mig": mig,
        "mig_devices": _mig_devices(nvml, handle) if mig else [],
        "utilization": None if mig else _utilization(nvml, handle),
    }


def _utilization(nvml: Any, handle: Any) -> float | None:
    """Share of the last moments in which a kernel ran, 0 to 1: the mean of what the driver still has in its buffer.

    Some seconds instead of the last fraction of one. Where the driver keeps no buffer, the last fraction.
    """
    try:
        kind, samples = nvml.nvmlDeviceGetSamples(handle, nvml.NVML_GPU_UTILIZATION_SAMPLES, 0)
        newest = max((sample.timeStamp for sample in samples), default=0)
        if (time.time() - newest / 1e6) < BUFFER_S:
            values = [_value(nvml, kind, each) for each in samples if newest - each.timeStamp < BUFFER_S * 1e6]
            if all(0 <= value <= 100 for value in values):  # noqa: PLR2004  percent
                return sum(values) / len(values) / 100
    except (nvml.NVMLError, AttributeError):  # the latter: a binding older than the call
        pass
    try:
        percent = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
    except (nvml.NVMLError, AttributeError):
        return None
    return percent / 100 if 0 <= percent <= 100 else None  # noqa: PLR2004  percent


def _value(nvml: Any, kind: int, sample: Any) -> float:
    names = {
        nvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    }
    return float(getattr(sample.sampleValue, names.get(kind, "uiVal")))


def _minor(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetMinorNumber(handle))
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return None


def _mig_mode(nvml: Any, handle: Any) -> bool:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):  # before Ampere, before driver 450
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _mig_devices(nvml: Any, handle: Any) -> list[Json]:
    devices = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError_NotFound:  # an empty slot
            continue
        devices.append(
            {
                "index": index,
                "uuid": _string(nvml.nvmlDeviceGetUUID(device)),
                "gpu_instance": nvml.nvmlDeviceGetGpuInstanceId(device),
                "compute_instance": nvml.nvmlDeviceGetComputeInstanceId(device),
            }
        )
    return devices


def _string(value: str | bytes) -> str:
    """Take what some versions of the binding return as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


# ── how busy GPU instances are ───────────────────────────────────────────────────────────────────────────────────────


def instances(nvml: Any) -> Json:
    """Tell how busy each GPU instance is, by NVML's performance counters (GPM): the share of a moment, in percent.

    All first samples, one wait, all second ones. One that cannot be told of gets {error, text} in place of `percent`.
    """
    looks = [look for index in range(nvml.nvmlDeviceGetCount()) for look in _looks_at(nvml, index)]
    try:
        for look in looks:
            _attempt(nvml, look, _sample)
        if any("error" not in look.found for look in looks):
            time.sleep(GAP_S)
        for look in looks:
            _attempt(nvml, look, _sample)
        for look in looks:
            _attempt(nvml, look, _percent)
    finally:
        for sample in (sample for look in looks for sample in look.samples):
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlGpmSampleFree(sample)
    return {"instances": [look.found for look in looks]}


class _Look:
    """One GPU instance: its GPU's handle, the samples taken so far, and what is found."""

    def __init__(self, handle: Any, found: Json) -> None:
        self.handle, self.found = handle, found
        self.samples: list[Any] = []


def _looks_at(nvml: Any, index: int) -> list[_Look]:
    """Find the instances of one GPU. One that cannot be read has none here: the inventory says so."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        made_of = _made_of(nvml, handle) if _mig_mode(nvml, handle) else {}
        uuid = _string(nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError:
        return []
    looks = [
        _Look(handle, {"gpu": uuid, "gpu_instance": instance, "devices": devices})
        for instance, devices in made_of.items()
    ]
    for look in looks:
        _attempt(nvml, look, _supported)
    return looks


def _made_of(nvml: Any, handle: Any) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for device in _mig_devices(nvml, handle):
        found.setdefault(device["gpu_instance"], []).append(device["uuid"])
    return found


def _attempt(nvml: Any, look: _Look, step: Callable[[Any, _Look], None]) -> None:
    """Take one step for one instance, unless an earlier one failed."""
    if "error" in look.found:
        return
    try:
        step(nvml, look)
    except nvml.NVMLError as error:
        look.found.update(error=error.value, text=str(error))
    except AttributeError as error:  # a binding older than GPM
        look.found.update(error=NOT_SUPPORTED, text=str(error))


def _supported(nvml: Any, look: _Look) -> None:
    """Ask of the GPU itself: GPM takes no handle of a MIG device."""
    if not nvml.nvmlGpmQueryDeviceSupport(look.handle).isSupportedDevice:
        look.found.update(error=NOT_SUPPORTED, text="no GPM")


def _sample(nvml: Any, look: _Look) -> None:
    look.samples.append(nvml.nvmlGpmSampleAlloc())
    nvml.nvmlGpmMigSampleGet(look.handle, look.found["gpu_instance"], look.samples[-1])


def _percent(nvml: Any, look: _Look) -> None:
    asked = nvml.c_nvmlGpmMetricsGet_t()
    asked.version = nvml.NVML_GPM_METRICS_GET_VERSION
    asked.numMetrics = 1
    asked.sample1, asked.sample2 = look.samples
    asked.metrics[0].metricId = nvml.NVML_GPM_METRIC_GRAPHICS_UTIL
    told = nvml.nvmlGpmMetricsGet(asked).metrics[0]
    if told.nvmlReturn:  # each metric has a code of its own
        raise nvml.NVMLError(told.nvmlReturn)
    if not math.isfinite(told.value):
        look.found.update(error=NO_NUMBER, text="no number")
    elif _made_of(nvml, look.handle).get(look.found["gpu_instance"]) != look.found["devices"]:
        look.found.update(error=CHANGED, text="re-partitioned meanwhile")
    else:
        look.found["percent"] = told.value


# ── a program of its own ─────────────────────────────────────────────────────────────────────────────────────────────

_QUESTIONS: dict[str, Callable[[Any], Json]] = {"inventory": inventory, "instances": instances}


def _asked() -> Callable[[Any], Json]:
    """Find what is asked: one of the questions above, or what the `ask` of the file named answers to the rest."""
    what, *arguments = sys.argv[1:] or ["inventory"]
    if what in _QUESTIONS:
        return _QUESTIONS[what]
    ask = runpy.run_path(what)["ask"]
    return lambda nvml: ask(nvml, arguments)


def _answer() -> Json:
    ask = _asked()
    try:
        import pynvml
    except ImportError as error:
        return {"error": NO_BINDING, "text": str(error)}
    try:
        pynvml.nvmlInit()
        try:
            return ask(pynvml)
        finally:
            with contextlib.suppress(pynvml.NVMLError):  # it says nothing about the answer
                pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return {"error": error.value, "text": str(error)}


def main() -> None:
    """Answer one question on standard output, where nothing the library prints can get in between."""
    answer = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answer, "w", encoding="utf-8") as out:
        json.dump(_answer(), out)


if __name__ == "__main__":
    main()
