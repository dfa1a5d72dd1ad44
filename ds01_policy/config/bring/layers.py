"""Limits of an old file: durations in both spellings, layer by layer.

Owns what an old duration means. A number without a unit is never guessed at; null is never, a missing key is not set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.config.bring.account import slip
from ds01_policy.units import MAX_DURATION, parse_duration

if TYPE_CHECKING:
    from ds01_policy.config.bring.account import Old
    from ds01_policy.config.yaml_strict import Path

Layer = dict[str, timedelta | None]  # None: never

LIMITS = ("idle_timeout", "max_runtime", "gpu_hold_after_stop", "container_hold_after_stop")
HOLDS = ("gpu_hold_after_stop", "container_hold_after_stop")  # these may be nothing at all
GRACE, OLD_GRACE = "stop_grace", "sigterm_grace_seconds"
LONGEST_GRACE = timedelta(minutes=10)
HOURS = "_h"

_START = "a bound on what is started; this project only ends containers"
_RESERVED = "nothing is reserved here; see exemptions.yaml"
UNUSED = {
    **dict.fromkeys(
        (
            "max_mig_instances", "max_mig_per_container", "max_gpus_per_container", "max_gpus_per_user", "max_cpus",
            "max_containers_per_user", "memory", "memory_swap", "shm_size", "pids_limit", "max_tasks", "gpu_memory",
            "io_read_bps", "io_write_bps", "ulimit_nofile", "storage_workspace", "storage_data", "storage_tmp",
            "allow_full_gpu", "default_mig_count", "aggregate",
        ),
        _START,
    ),
    "priority": "it orders who gets a GPU first; this project hands none out",
    "reservation_start": _RESERVED, "reservation_end": _RESERVED, "reserved_gpus": _RESERVED,
    "reason": "limits carry no reasons; write it as a comment",
    "policies": "thresholds stand in rules/*.yaml, the same for every group",
}  # fmt: skip


@dataclass(slots=True)
class Layers:
    """Every layer that was brought along."""

    defaults: Layer = field(default_factory=dict)
    groups: dict[str, Layer] = field(default_factory=dict)
    users: dict[str, Layer] = field(default_factory=dict)
    container_types: dict[str, Layer] = field(default_factory=dict)


def layer(old: Old, path: Path, where: str, *, besides: tuple[str, ...] = ()) -> Layer:
    """Take the limits of one section; `where` is what the new file calls it, `besides` are keys somebody else reads."""
    taken: Layer = {}
    for key in old.mapping(*path):
        at = (*path, key)
        name = key.removesuffix(HOURS)
        if name in LIMITS:
            _take(old, at, name, where, taken)
        elif key == OLD_GRACE:
            found = grace(old, at, where)
            if found is not None:
                taken[GRACE] = found
        elif key not in besides:
            _leave(old, at, key)
    return taken


def _take(old: Old, at: Path, name: str, where: str, taken: Layer) -> None:
    """Take one duration, or say that the other spelling said the same."""
    if old.is_null(at):
        value: timedelta | None = None
        became = f"never: taken as `{name}: never` ({where})"
    else:
        found = duration(old, at, name)
        if found is None:
            return
        value = found
        became = f"taken as `{name}: {exact(value)}` ({where})"
    if name not in taken:
        taken[name] = value
        old.say(at, became)
    elif taken[name] == value:
        old.say(at, f"not used: the other spelling says the same ({name} is taken already)")
    else:
        old.refuse(at, f"{name} stands here twice, in two spellings, with two values: delete one")


def _leave(old: Old, at: Path, key: str) -> None:
    if key in UNUSED:
        why = UNUSED[key]
        for path in _inside(old, at):
            old.say(path, f"not used: {why}")
        return
    meant = slip(key, (*LIMITS, *(f"{name}{HOURS}" for name in LIMITS), OLD_GRACE))
    if meant:
        for path in _inside(old, at):
            old.say(path, f"not used: nothing is called so; is {meant} meant?", loud=True)


def _inside(old: Old, at: Path) -> list[Path]:
    from ds01_policy.config.bring.account import leaves

    return list(leaves(old.document.get(*at), at))


def duration(old: Old, at: Path, name: str) -> timedelta | None:
    """Read one duration: `48h`, `0.5h`; under a key that ends in `_h` a plain number is hours. None: refused."""
    value, hours = old.document.get(*at), str(at[-1]).endswith(HOURS)
    if hours and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0 or value * 3600 > MAX_DURATION.total_seconds():
            old.refuse(at, f"{value} hours cannot be meant; null switches it off")
            return None
        found = timedelta(hours=value)
    elif isinstance(value, str):
        try:
            found = parse_duration(value)
        except ValueError as error:
            old.refuse(at, f"{error}; null switches it off".replace("write never", "write null"))
            return None
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        why = f"{value} has no unit: write {value}h, {value}m or {value}s" if number else "is no duration"
        old.refuse(at, f"{why}; null switches it off")
        return None
    if not found and name not in HOLDS:
        old.refuse(at, "no time at all would end everything at once; null switches it off")
        return None
    return found


def grace(old: Old, at: Path, where: str) -> timedelta | None:
    """Read seconds from SIGTERM to SIGKILL. None: refused, or not used."""
    value = old.document.get(*at)
    if value is None:
        old.say(at, "not used: a stop must end, so there is no `never`; the layer below holds", loud=True)
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_GRACE.total_seconds():
        old.refuse(at, "must be a number of seconds, at most 600")
        return None
    found = timedelta(seconds=value)
    old.say(at, f"taken as `{GRACE}: {exact(found)}` ({where})")
    return found


def exact(value: timedelta | None) -> str:
    """Write a duration so that it is read back as the same one, to the microsecond; None is `never`."""
    if value is None:
        return "never"
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        whole, rest = divmod(value, timedelta(seconds=size))
        if not rest:
            return f"{whole}{unit}"
    return f"{value / timedelta(milliseconds=1):.3f}".rstrip("0").rstrip(".") + "ms"
