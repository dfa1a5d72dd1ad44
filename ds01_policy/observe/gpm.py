"""How busy MIG instances are, by NVML's performance counters (GPM), which Hopper and newer GPUs have.

Owns what GPM's values mean, and the words for instances that nothing is known of. Lists no GPUs: an instance that is
not what the inventory says it is gets no value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ds01_policy.model import GpuRef
from ds01_policy.observe import nvml_reader
from ds01_policy.observe.nvml import call, words_of
from ds01_policy.observe.ports import Inventory, SourceError
from ds01_policy.text import plain

if TYPE_CHECKING:
    from datetime import timedelta

NO_INSTANCE = "MIG is on and it has no instance"
_NOT_SUPPORTED = "this GPU, driver or NVML tells nothing of MIG instances (GPM, from Hopper on)"
_REASONS = {
    nvml_reader.NOT_SUPPORTED: _NOT_SUPPORTED,
    13: _NOT_SUPPORTED,  # a library from before GPM
    nvml_reader.CHANGED: "it was re-partitioned while it was looked at",
    nvml_reader.NO_NUMBER: "NVML's value is not a number",
}
# GPM's GRAPHICS_UTIL is what DCGM exports as GR_ENGINE_ACTIVE on these GPUs (it divides it by 100). NVIDIA nowhere says
# that it is scaled to the instance, and the like of it under-reads on slices: busy ones of an A100 were seen at 33 %
# (3g) and 50 % (2g). So it is taken as many times as a GPU has slices: work on one of seven never reads as less.
SLICES = 7
_HIGHEST = 150.0  # percent; a ratio of two counters may exceed 100 a little, what is further off is impossible


def measured(inventory: Inventory, timeout: timedelta) -> Inventory:
    """Add how busy each MIG instance is, by its join key as text; where that is not known, why.

    A failure costs these values only. Asked of the library in a second child, so that counters which hang or crash
    it never take the inventory along, and only where there are instances.
    """
    made_of = {ref: devices for gpu in inventory.gpus for ref, devices in gpu.made_of.items() if _is_instance(ref)}
    if not made_of:
        return unmeasured(inventory, "")
    try:
        entries = _by_ref(call(("instances",), timeout))
    except SourceError as error:
        note = f"how busy MIG instances are could not be read: {error}"
        return unmeasured(replace(inventory, notes=(*inventory.notes, note)), str(error))
    used: dict[str, float] = {}
    reasons: dict[str, str] = {}
    failed: list[str] = []
    for ref, devices in made_of.items():
        value = _value(entries.get(ref), devices)
        if isinstance(value, float):
            used[str(ref)] = value
        else:
            reasons[str(ref)] = value
            failed += [] if value in _REASONS.values() else [f"how busy {ref} is could not be read: {value}"]
    more = f"; and {len(failed) - 1} more instances" if len(failed) > 1 else ""
    notes = (*inventory.notes, failed[0] + more) if failed else inventory.notes
    found = replace(inventory, utilization={**inventory.utilization, **used}, notes=notes)
    return replace(found, unmeasured={**unmeasured(found, "").unmeasured, **reasons})


def unmeasured(inventory: Inventory, why: str) -> Inventory:
    """Say of each MIG instance that has no value why that is so."""
    reasons = {}
    for gpu in inventory.gpus:
        for ref in gpu.refs:
            reason = why if _is_instance(ref) else NO_INSTANCE if gpu.mig_enabled else ""
            if reason and str(ref) not in inventory.utilization:
                reasons[str(ref)] = reason
    return replace(inventory, unmeasured=reasons)


def _is_instance(ref: GpuRef) -> bool:
    return ref.gpu_instance is not None


def _by_ref(answer: dict[str, Any]) -> dict[GpuRef, dict[str, Any]]:
    try:
        return {GpuRef(str(entry["gpu"]), int(entry["gpu_instance"])): entry for entry in answer["instances"]}
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"NVML's answer is not understood: {plain(repr(error), 160)}") from None


def _value(entry: dict[str, Any] | None, devices: tuple[str, ...]) -> float | str:
    """Read one instance: the share of a moment in which it worked, 0 to 1; a text is why that is not known."""
    if entry is None or tuple(entry.get("devices", ())) != devices:
        return _REASONS[nvml_reader.CHANGED]
    if "error" in entry:
        return _REASONS.get(entry["error"]) or words_of(entry)
    percent: Any = entry.get("percent")
    if type(percent) not in (int, float) or not 0 <= percent <= _HIGHEST:
        return f"NVML's value is impossible: {plain(repr(percent), 40)}"
    return min(float(percent) / 100 * SLICES, 1.0)
