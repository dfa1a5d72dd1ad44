"""PURE: which GPUs' exporter repeats old values with fresh times, told by what never stands still.

Owns the judgement and its words. What is asked is promql.py's; what is believed of a frozen GPU is readings.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.model import GpuRef, Problem
from ds01_policy.observe.promql import ago_text
from ds01_policy.readings import mean
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime, timedelta

    from ds01_policy.model import Answer
    from ds01_policy.signals import Frozen, Signal

_NAMED = 4  # GPUs; the rest is a number


def frozen_gpus(
    frozen: Frozen,
    changed: Mapping[str, Mapping[str, float]] | None,
    counter: Signal | None,
    counted: Answer | None,
    uuids: Collection[str],
    awake: timedelta,
    at: datetime,
) -> dict[str, str]:
    """Find the frozen ones among these GPUs: by UUID, since when and how that is known, to follow `nothing of GPU-…`.

    `changed` is how often anything of a GPU has changed (see samples.changes); None: that could not be asked. A counter
    that stands still is no sign where other fields change: then the GPU does not support it.
    """
    found = {}
    for uuid in sorted(uuids):
        of_gpu = (changed or {}).get(uuid, {})
        rises = _rises(counter, counted, uuid, awake, at)
        if of_gpu.get(ago_text(frozen.after)) == 0 and not rises:
            found[uuid] = f"has changed for {format_duration(frozen.after)}, although its power never stands still"
        elif rises is False and of_gpu.get(ago_text(awake), 0.0) == 0:
            found[uuid] = f"has changed for {format_duration(awake)}, although its energy counter never stands still"
    return found


def _rises(counter: Signal | None, counted: Answer | None, uuid: str, awake: timedelta, at: datetime) -> bool | None:
    """Whether what never stands still has risen in the last minutes; None: it was not sampled through them."""
    if counter is None or counted is None:
        return None
    series = [samples for key, samples in counted.series.items() if isinstance(key, GpuRef) and key.uuid == uuid]
    readings = [mean(counter, samples, counted, awake, at) for samples in series]
    if any(reading.low > 0 or (reading.value or 0.0) > 0 for reading in readings):
        return True
    return False if any(reading.high == 0 for reading in readings) else None


def said(uuids: Collection[str], reason: str) -> str:
    """Say of some GPUs what is wrong with their exporter."""
    names = ", ".join(list(uuids)[:_NAMED])
    if len(uuids) > _NAMED:
        names += f" and {len(uuids) - _NAMED} more GPUs"
    return f"exporter frozen: nothing of {names} {reason}"


def problems(frozen: Mapping[str, str]) -> list[Problem]:
    """Report frozen exporters: one problem for each way in which they are known to be."""
    by_reason: dict[str, list[str]] = {}
    for uuid, reason in frozen.items():
        by_reason.setdefault(reason, []).append(uuid)
    advice = "what it says of them is not believed: restart dcgm-exporter"
    return [Problem("exporter_frozen", f"{said(uuids, reason)}; {advice}") for reason, uuids in by_reason.items()]
