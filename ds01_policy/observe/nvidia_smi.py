"""Asks the `nvidia-smi` command which GPUs the host has, and how they are.

Owns which commands are run, what their exit codes mean, and how their two answers are joined. Parses nothing itself.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ds01_policy.model import Gpu, MigDevice
from ds01_policy.observe.bounded import Finished, NotInstalled, run
from ds01_policy.observe.nvidia_smi_list import UUID, ListedGpu, Listing, is_remark, parse_list
from ds01_policy.observe.nvidia_smi_query import GpuStatus, Query, parse_query
from ds01_policy.observe.ports import Inventory, SourceError
from ds01_policy.observe.unreadable import Unreadable, with_stand_ins
from ds01_policy.text import plain

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = [
    "GpuStatus",
    "Listing",
    "NotInstalled",
    "Query",
    "ask",
    "inventory",
    "join",
    "parse_list",
    "parse_query",
    "reset",
]

RESET = "nvidia-smi --gpu-reset"
REBOOT = "reboot, or reload the kernel module"
_CODES = {
    2: "this nvidia-smi does not know the option",
    4: "not permitted; run it as root",
    8: "a GPU's external power cables are not attached",
    9: "the NVIDIA driver is not loaded; look at `lsmod` and `dmesg`, then `modprobe nvidia` or reboot",
    10: "the kernel sees an interrupt problem with a GPU",
    12: "the library libnvidia-ml.so.1 is not there or cannot be loaded; reinstall the driver",
    13: "the library libnvidia-ml.so.1 is older than nvidia-smi; reinstall the driver",
    14: "a GPU's infoROM is corrupted",
    15: f"a GPU fell off the bus; {REBOOT}",
}
_MEANINGS = {
    "Driver/library version mismatch": f"the driver was updated under the running kernel module; {REBOOT}",
    "Unknown Error": "after a `systemctl daemon-reload` a process in a container has lost /dev/nvidia*; restart it",
}
# It warns about one GPU in these, and still answers about the others. 6: there is no GPU.
_STILL_AN_ANSWER = frozenset({6, 8, 10, 14, 15})


def inventory(command: str, timeout: timedelta) -> Inventory:
    """List GPUs and MIG devices. `timeout` is for each call of the command: two, or three where there is MIG.

    Raises:
        NotInstalled: when there is no such command.
        SourceError: when it fails, hangs, or its answers cannot be believed.

    """
    listing = parse_list(ask(command, ("-L",), timeout))
    if listing.remarks.no_devices and not listing.gpus:
        return Inventory((), "nvidia-smi", listing.remarks.warnings)
    query = parse_query(ask(command, ("-q", "-x"), timeout))
    # The join is by index, and a re-partitioned GPU hands the same indexes out again.
    if any(gpu.mig for gpu in listing.gpus) and parse_list(ask(command, ("-L",), timeout)).gpus != listing.gpus:
        raise SourceError("nvidia-smi -L changed while it was read: MIG is being re-partitioned")
    return join(listing, query)


def ask(command: str, arguments: tuple[str, ...], timeout: timedelta) -> str:
    """Run the command once and return what it printed: remarks of its standard error first, then the answer.

    Raises:
        NotInstalled: when there is no such command.
        SourceError: when it hangs or fails.

    """
    name = " ".join(("nvidia-smi", *arguments))
    finished = run((command, *arguments), timeout=timeout, env=_environment(), name=name)
    if not _is_an_answer(finished):
        raise SourceError(_failure(finished, name))
    return "\n".join([*filter(is_remark, finished.err.splitlines()), finished.out])


def reset(command: str, uuid: str, timeout: timedelta) -> None:
    """Reset one GPU: everything on it is lost. Whether that may be done, the caller has made sure of.

    Raises:
        SourceError: when it is refused or fails, or did not end in time and may still be going on.

    """
    if not re.fullmatch(UUID, uuid):  # without a GPU's name the command resets all of them
        raise SourceError(f"{plain(uuid, 80)} is no GPU's UUID: nothing was reset")
    finished = run((command, "--gpu-reset", "-i", uuid), timeout=timeout, env=_environment(), name=RESET)
    if finished.code != 0:
        raise SourceError(_failure(finished, RESET))


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _is_an_answer(finished: Finished) -> bool:
    """Tell a failure from an answer about the GPUs that are left."""
    if finished.code == 0:
        return True
    if finished.code in _STILL_AN_ANSWER:
        return bool(finished.out.strip())
    return "(UUID: GPU-" in finished.out or "<uuid>GPU-" in finished.out


def _failure(finished: Finished, name: str) -> str:
    said = next((line for line in (finished.err + "\n" + finished.out).splitlines() if line.strip()), "")
    means = next((text for words, text in _MEANINGS.items() if words in said), "") or _CODES.get(finished.code, "")
    how = f"was ended by signal {-finished.code}" if finished.code < 0 else f"failed with exit code {finished.code}"
    return ": ".join(filter(None, (f"{name} {how}", means, plain(said.strip(), 160))))


def join(listing: Listing, query: Query) -> Inventory:
    """Put the two answers together, by UUID, and for MIG devices by GPU and index.

    Raises:
        SourceError: when they contradict each other, or no GPU can be read though there are some.

    """
    told = {gpu.uuid: gpu for gpu in query.gpus}
    foreign = sorted(told.keys() - {gpu.uuid for gpu in listing.gpus})
    if foreign:
        raise SourceError(f"nvidia-smi -q -x tells of {foreign[0]}, which nvidia-smi -L does not list")
    gpus = [_gpu(gpu, told[gpu.uuid]) for gpu in listing.gpus if gpu.uuid in told]
    unreadable = _unreadable(listing, query, told)
    if unreadable and not gpus:
        raise SourceError(f"nvidia-smi could read none of the GPUs: {unreadable[0]}")
    notes = [str(one) for one in unreadable]
    trouble = {gpu.index: told[gpu.uuid].trouble for gpu in gpus}
    notes += [f"GPU {index} is in trouble: {plain(words, 160)}" for index, words in trouble.items() if words]
    notes += [*listing.remarks.warnings, *query.remarks.warnings]
    used = {gpu.uuid: told[gpu.uuid].utilization_ratio for gpu in gpus if not gpu.mig_enabled}
    utilization = {uuid: ratio for uuid, ratio in used.items() if ratio is not None}
    return Inventory(with_stand_ins(gpus, unreadable), "nvidia-smi", tuple(dict.fromkeys(notes)), utilization)


def _unreadable(listing: Listing, query: Query, told: dict[str, GpuStatus]) -> list[Unreadable]:
    """Find the GPUs that an answer names as unreadable, leaves out, or only counts. Both name the same one alike."""
    named = list({one.where: one for one in (*listing.remarks.unreadable, *query.remarks.unreadable)}.values())
    silent = [
        Unreadable("nvidia-smi -q -x does not tell of it", index=gpu.index)
        for gpu in listing.gpus
        if gpu.uuid not in told
    ]
    found = [*named, *silent[len(named) :]]
    uncounted = (query.attached or 0) - len(told) - len(found)
    return found + [Unreadable("nvidia-smi counts it and does not tell of it")] * uncounted


def _gpu(listed: ListedGpu, told: GpuStatus) -> Gpu:
    slots = {slot.index: slot for slot in told.mig}
    instances = {(slot.gpu_instance, slot.compute_instance) for slot in told.mig}
    indexes = [device.index for device in listed.mig]
    if sorted(slots) != sorted(indexes) or not len(slots) == len(instances) == len(told.mig):
        raise SourceError(f"nvidia-smi's two answers about the MIG devices of {listed.uuid} do not fit each other")
    if listed.mig and not told.mig_current:
        raise SourceError(f"nvidia-smi lists MIG devices of {listed.uuid}, whose MIG mode is not on")
    devices = tuple(
        MigDevice(device.uuid, device.index, slots[device.index].gpu_instance, slots[device.index].compute_instance)
        for device in listed.mig
    )
    for device in devices:  # before driver 470 the name itself says what it is
        spelt = f"MIG-{listed.uuid}/{device.gpu_instance}/{device.compute_instance}"
        if "/" in device.uuid and device.uuid != spelt:
            raise SourceError(f"nvidia-smi's two answers about {device.uuid} do not fit each other")
    return Gpu(listed.uuid, listed.index, told.pci_bus_id, told.minor, listed.name, told.mig_current is True, devices)
