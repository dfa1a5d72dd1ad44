"""Durations, ratios, sizes and rates: parse what people write, format what they read.

Owns every conversion between text and numbers with a unit. A bare number is never a duration.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from enum import StrEnum

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+\Z", re.ASCII)
_BYTE_UNITS = {
    "B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4,
}  # fmt: skip
_NUMBER_WITH_UNIT = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([A-Za-z%/]*)\Z", re.ASCII)

# Longer than any server lives; keeps `now - duration` inside the calendar.
MAX_DURATION = timedelta(days=3650)


class Unit(StrEnum):
    """What a signal is measured in."""

    RATIO = "ratio"  # 0 to 1, written as a percentage
    CORES = "cores"  # CPU seconds per second; 1 = one core, written as a percentage of one core or `2 cores`
    BYTES = "bytes"
    BYTES_PER_S = "bytes_per_s"
    WATTS = "watts"
    COUNT = "count"


def parse_duration(text: str) -> timedelta:
    """Read `30m`, `2h`, `1d12h`, `1.5h`.

    Raises:
        ValueError: for a bare number, an unknown unit, anything over ten years, or no text at all.

    """
    text = text.strip()
    if not _DURATION.match(text):
        if re.fullmatch(r"[+-]?\d+(\.\d+)?", text, re.ASCII):
            message = f"{text!r} has no unit; write {text}s, {text}m or {text}h"
        else:
            message = f"{text!r} is not a duration; write it like 30m, 2h or 1d12h"
        raise ValueError(message)
    parts = _DURATION_PART.findall(text)
    units = [unit for _, unit in parts]
    if len(units) != len(set(units)):
        message = f"{text!r} names a unit twice"
        raise ValueError(message)
    try:
        duration = timedelta(seconds=sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts))
    except OverflowError:
        duration = timedelta.max
    if duration > MAX_DURATION:
        message = f"{text!r} is longer than ten years; write never to switch a limit off"
        raise ValueError(message)
    return duration


def parse_ratio(text: str) -> float:
    """Read `80%` as 0.8.

    Raises:
        ValueError: for anything that is not a percentage.

    """
    match = _NUMBER_WITH_UNIT.match(text.strip())
    if not match or match[2] != "%":
        message = f"{text!r} is not a percentage; write it like 80%"
        raise ValueError(message)
    return float(match[1]) / 100


def parse_quantity(text: str, unit: Unit) -> float:
    """Read a threshold in the unit of its signal: `5%`, `2 cores`, `10KiB/s`, `100W`, `3`.

    Raises:
        ValueError: when the number or its unit does not fit.

    """
    match = _NUMBER_WITH_UNIT.match(text.strip())
    if match:
        number, suffix = float(match[1]), match[2]
        if unit in (Unit.RATIO, Unit.CORES) and suffix == "%":
            return number / 100
        if unit is Unit.CORES and suffix in ("core", "cores"):
            return number
        if unit is Unit.BYTES and suffix in _BYTE_UNITS:
            return number * _BYTE_UNITS[suffix]
        if unit is Unit.BYTES_PER_S and suffix.endswith("/s") and suffix[:-2] in _BYTE_UNITS:
            return number * _BYTE_UNITS[suffix[:-2]]
        if unit is Unit.WATTS and suffix == "W":
            return number
        if unit is Unit.COUNT and suffix == "":
            return number
    message = f"{text!r} is not a value in {unit}; write it like {_EXAMPLES[unit]}"
    raise ValueError(message)


_EXAMPLES = {
    Unit.RATIO: "5%",
    Unit.CORES: "1% (of one core) or 2 cores",
    Unit.BYTES: "64MiB",
    Unit.BYTES_PER_S: "10KiB/s",
    Unit.WATTS: "100W",
    Unit.COUNT: "3",
}


def format_duration(duration: timedelta) -> str:
    """Write `90m` as `1h30m`, at most two units, rounded down; under a second is `0s`.

    Minutes stay minutes up to two hours where that is exact (`60m`, `90m`), as people name windows that way.
    """
    seconds = int(duration.total_seconds())
    if seconds < 0:
        return "-" + format_duration(-duration)
    if seconds and seconds % 60 == 0 and seconds < 7200:  # noqa: PLR2004  two hours
        return f"{seconds // 60}m"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
        elif parts:
            break
    return "".join(parts[:2]) or "0s"


def promql_duration(duration: timedelta) -> str:
    """Write whole milliseconds the way PromQL reads them in every version: `3600s`, or `1500ms`."""
    milliseconds = round(duration.total_seconds() * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def format_quantity(value: float | None, unit: Unit) -> str:  # noqa: PLR0911  one line a unit
    """Write a measured value the way its unit is read: `0.3%`, `12 B/s`, `1.5 KiB/s`; unknown is `?`."""
    if value is None or math.isnan(value):
        return "?"
    if math.isinf(value):
        return "unbounded"
    match unit:
        case Unit.RATIO | Unit.CORES:
            return f"{_trim(value * 100)}%"
        case Unit.BYTES:
            return _bytes(value)
        case Unit.BYTES_PER_S:
            return f"{_bytes(value)}/s"
        case Unit.WATTS:
            return f"{_trim(value)} W"
        case Unit.COUNT:
            return _trim(value)


def _trim(value: float) -> str:
    """One decimal where it says something, more only for what would read as zero."""
    if value and abs(value) < 0.05:  # noqa: PLR2004  rounds to 0.0 at one decimal
        return f"{value:.2g}"
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def _bytes(value: float) -> str:
    size, unit = value, "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:  # noqa: PLR2004  the next unit begins here
            break
        if unit != "TiB":
            size /= 1024
    return f"{_trim(size)} {unit}"
