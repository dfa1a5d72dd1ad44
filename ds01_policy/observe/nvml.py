"""Asks NVML, the driver's library, which GPUs the host has.

Owns what its answers and errors mean. Calls the library only through a child that it can kill (nvml_reader.py).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds01_policy.model import Gpu, MigDevice
from ds01_policy.observe import nvml_reader
from ds01_policy.observe.bounded import Finished, run
from ds01_policy.observe.ports import Inventory, SourceError
from ds01_policy.observe.unreadable import Unreadable, with_stand_ins
from ds01_policy.text import plain

if TYPE_CHECKING:
    from datetime import timedelta

LIBRARY_NOT_FOUND = 12
_MEANINGS = {
    4: "not permitted; run it as root",
    9: "the NVIDIA driver is not loaded; look at `lsmod` and `dmesg`, then `modprobe nvidia` or reboot",
    LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not there or cannot be loaded",
    13: "libnvidia-ml.so.1 is too old for this program",
    15: "a GPU fell off the bus; reboot",
    18: "the driver was updated under the running kernel module; reboot, or reload the kernel module",
    999: "a daemon-reload of systemd may have cut this process off from /dev/nvidia*, or a GPU fell off the bus",
    nvml_reader.NO_BINDING: "the Python package nvidia-ml-py is not installed",
}


class NoLibrary(SourceError):
    """The driver's library is not on this host."""


def inventory(timeout: timedelta) -> Inventory:
    """List GPUs and MIG devices.

    Raises:
        NoLibrary: when libnvidia-ml.so.1 is not there.
        SourceError: when the library fails, hangs or crashes, or no GPU can be read though there are some.

    """
    answer = call(("inventory",), timeout)
    try:
        read = [_gpu(entry) for entry in answer["gpus"]]
        used = {entry["uuid"]: entry["utilization"] for entry in answer["gpus"] if "error" not in entry}
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"NVML's answer is not understood: {plain(repr(error), 160)}") from None
    gpus = [gpu for gpu in read if isinstance(gpu, Gpu)]
    unreadable = [gpu for gpu in read if isinstance(gpu, Unreadable)]
    if unreadable and not gpus:
        raise SourceError(f"NVML could read none of the {len(read)} GPUs: {unreadable[0].why}")
    utilization = {uuid: float(ratio) for uuid, ratio in used.items() if ratio is not None}
    return Inventory(with_stand_ins(gpus, unreadable), "nvml", tuple(map(str, unreadable)), utilization)


def call(arguments: tuple[str, ...], timeout: timedelta) -> dict[str, Any]:
    """Run the child once (`arguments` as nvml_reader.py takes them) and return what NVML answered.

    Raises:
        NoLibrary: when libnvidia-ml.so.1 is not there.
        SourceError: when the library fails, hangs or crashes.

    """
    # -P: what lies in the directory somebody happens to stand in is not imported.
    finished = run((sys.executable, "-P", _reader(), *arguments), timeout=timeout, env=os.environ, name="NVML")
    answer = _json(finished)
    if "error" in answer:
        kind = NoLibrary if answer["error"] == LIBRARY_NOT_FOUND else SourceError
        raise kind(f"NVML: {words_of(answer)}")
    return answer


def _reader() -> str:
    return str(Path(nvml_reader.__file__).resolve())


def _json(finished: Finished) -> dict[str, Any]:
    if finished.code < 0:
        raise SourceError(f"NVML crashed (signal {-finished.code})")
    try:
        answer = json.loads(finished.out)
    except ValueError:
        answer = None
    if finished.code or not isinstance(answer, dict):
        last = plain(finished.err.strip().rpartition("\n")[2], 160)
        raise SourceError(f"NVML gave no answer (exit code {finished.code}): {last}")
    return answer


def _gpu(entry: dict[str, Any]) -> Gpu | Unreadable:
    if "error" in entry:
        return Unreadable(words_of(entry), index=entry["index"])
    return Gpu(
        uuid=entry["uuid"],
        index=entry["index"],
        pci_bus_id=entry["pci_bus_id"].upper(),
        minor=entry["minor"],
        name=entry["name"],
        mig_enabled=entry["mig"],
        mig_devices=tuple(MigDevice(**device) for device in entry["mig_devices"]),
    )


def words_of(answer: dict[str, Any]) -> str:
    """Say what an error of NVML means, for the admin."""
    text = plain(str(answer.get("text", "")), 160)
    means = _MEANINGS.get(answer["error"], "")
    return f"{text} (code {answer['error']})" + (f": {means}" if means else "")
