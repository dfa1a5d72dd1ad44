"""PURE: `0x60 80x2` → samples: sixty quiet minutes, then two busy ones, ending now.

Owns what the notation means. Knows no container.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ds01_policy.units import Unit, format_quantity, parse_duration, parse_quantity

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Sample
    from ds01_policy.signals import Signal

LONGEST_S = 62 * 86400.0  # of one series: two months hold every window, and a slip of the pen fills no memory
_NOTHING = frozenset({"_", "stale", "nan"})  # a sample that is no number is thrown away where samples are read
_PIECE = re.compile(r"(?P<value>\S+)x(?P<long>\d+(?:\.\d+)?)(?P<unit>[a-z][a-z0-9.]*)?")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_PERCENT = frozenset({Unit.RATIO, Unit.CORES})


class Unreadable(ValueError):
    """The table says something that has no meaning; the text names it, `path` leads to it from the row."""

    def __init__(self, message: str, *path: str | int) -> None:
        """Say what has no meaning, and where it stands."""
        self.path = path
        super().__init__(message)


def samples_of(signal: Signal, text: str, at: datetime, every_s: float) -> tuple[Sample, ...]:
    """Read a series whose newest sample is of `at`, the one before `every_s` seconds older, and so on.

    What is written of a counter is how fast it grows.

    A piece is `VALUExMINUTES`, or `VALUEx2h`. A bare value is a percentage for ratios and cores, else in the signal's
    unit. `_x10` is ten minutes without samples; so is `stalex10`, for a series that ended; `nanx10` are samples that
    are no numbers.

    Raises:
        Unreadable: for words without a meaning.

    """
    pieces = [_piece(signal, token) for token in text.split()]
    long_s = sum(piece_s for _, piece_s in pieces)
    if not pieces or long_s > LONGEST_S:
        raise Unreadable(f"{text[:40]!r}: a series lasts longer than nothing and at most {LONGEST_S / 86400:.0f} days")
    now = at.timestamp()
    samples: list[Sample] = []
    total, begin = 0.0, long_s  # what a counter has grown to where a piece begins, so many seconds before now
    for value, piece_s in pieces:
        end = begin - piece_s
        for step in range(math.ceil(round(begin / every_s, 6)) - 1, math.ceil(round(end / every_s, 6)) - 1, -1):
            if value is not None:
                grown = total + value * (begin - step * every_s)
                samples.append((now - step * every_s, grown if signal.kind == "counter" else value))
        total += (value or 0.0) * piece_s
        begin = end
    return tuple(samples)


def _piece(signal: Signal, token: str) -> tuple[float | None, float]:
    """Read one piece as its value (None: no sample) and how many seconds it lasts."""
    found = _PIECE.fullmatch(token)
    if found is None:
        raise Unreadable(f"{token!r}: write VALUExMINUTES, like 0x58, 80x2 or _x10")
    value, unit = found["value"], found["unit"]
    try:
        long_s = parse_duration(f"{found['long']}{unit}").total_seconds() if unit else float(found["long"]) * 60
        return (None if value in _NOTHING else _value(signal, value)), long_s
    except ValueError as error:
        raise Unreadable(f"{token!r}: {error}") from error


def _value(signal: Signal, text: str) -> float:
    bare = _NUMBER.fullmatch(text)
    value = float(text) / (100 if signal.unit in _PERCENT else 1) if bare else parse_quantity(text, signal.unit)
    if value < 0 or (signal.ceiling is not None and value > signal.ceiling):
        highest = "" if signal.ceiling is None else f" to {format_quantity(signal.ceiling, signal.unit)}"
        raise ValueError(f"{signal.name} is never there: it goes from 0{highest}")
    return value
