"""The one piece of code that calls the driver's library, NVML. A program of its own: prints JSON, nothing else.

A call into the driver can hang where no signal reaches it, and loading the library can hang or crash the interpreter.
Whoever wants the answer starts this as a child, can kill it, and ends when it likes. Imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

Json = dict[str, Any]

BUFFER_S = 60.0  # what the driver keeps from before is not the present; it usually keeps the last twenty seconds

NO_BINDING = -1  # beside NVML's own codes, which are positive


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


def _answer() -> Json:
    try:
        import pynvml
    except ImportError as error:
        return {"error": NO_BINDING, "text": str(error)}
    try:
        pynvml.nvmlInit()
        try:
            return inventory(pynvml)
        finally:
            with contextlib.suppress(pynvml.NVMLError):  # it says nothing about the answer
                pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return {"error": error.value, "text": str(error)}


def main() -> None:
    """Answer on standard output, where nothing the library prints can get in between."""
    answer = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answer, "w", encoding="utf-8") as out:
        json.dump(_answer(), out)


if __name__ == "__main__":
    main()
