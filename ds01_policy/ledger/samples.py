"""Rows of local samples: what this host measured itself at each tick, and how far back that is kept.

Owns their reading, writing, packing and bounds. What they prove is readings.py's.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from ds01_policy.ledger.schema import clean

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from ds01_policy.model import Sample

Row = tuple[str, str, float]  # what is sampled (gpu, cpu, network), join key as text, value

# Beyond this the oldest ticks go, however long they were to be kept: 48 h of 2400 containers, a tick each five minutes.
MOST_BYTES = 32 * 2**20
# What is sampled is noted to be in use no more often than this: names need not be written at every tick.
NOTED_S = 6 * 3600.0
_EACH = 12  # bytes: number of the series, value


def keep(connection: sqlite3.Connection, at: float, rows: Iterable[Row], before: float) -> None:
    """Write down what was sampled at `at` (Unix seconds); drop what is older than `before`, or lies ahead of `at`.

    A tick is one row: a thousand containers over two days would else be a million of them. What is no finite number is
    left out: a sample that is not there proves nothing. What lies ahead was written before the clock was set back, and
    would be believed again once the clock comes by.
    """
    values = {(kind, clean(key)): float(value) for kind, key, value in rows if math.isfinite(value)}
    if values:
        numbers = _numbers(connection, values, at)
        packed = struct.pack(f"<{len(values)}I{len(values)}d", *(numbers[each] for each in values), *values.values())
        connection.execute("INSERT OR REPLACE INTO samples (at, packed) VALUES (?, ?)", (at, packed))
    connection.execute("DELETE FROM samples WHERE at < ? OR at > ?", (before, at))
    room = MOST_BYTES
    for tick, size in connection.execute("SELECT at, length(packed) FROM samples ORDER BY at DESC").fetchall():
        room -= size
        if room < 0:
            connection.execute("DELETE FROM samples WHERE at <= ?", (tick,))  # whole ticks, never half of one
            break
    connection.execute("DELETE FROM series WHERE seen < ?", (before - NOTED_S,))


def _numbers(
    connection: sqlite3.Connection, values: Mapping[tuple[str, str], float], at: float
) -> dict[tuple[str, str], int]:
    """Give what is sampled its numbers; each outlives the last sample under it."""
    known = {(kind, key): (number, seen) for number, kind, key, seen in connection.execute("SELECT * FROM series")}
    connection.executemany(
        "UPDATE series SET seen = ? WHERE number = ?",
        [(at, known[each][0]) for each in values if each in known and known[each][1] < at - NOTED_S],
    )
    connection.executemany(
        "INSERT INTO series (kind, key, seen) VALUES (?, ?, ?)", [(*each, at) for each in values if each not in known]
    )
    return {(kind, key): number for number, kind, key in connection.execute("SELECT number, kind, key FROM series")}


def load(connection: sqlite3.Connection, since: float) -> dict[str, dict[str, tuple[Sample, ...]]]:
    """Read what was sampled since then: by kind, by join key as text, ascending in time.

    Raises ValueError or TypeError for a row that makes no sense.
    """
    found: dict[int, list[Sample]] = {}
    for at, packed in connection.execute("SELECT at, packed FROM samples WHERE at >= ? ORDER BY at", (since,)):
        count, rest = divmod(len(packed), _EACH)
        if rest:
            raise ValueError(f"half a sample at {at}")
        numbers = struct.unpack(f"<{count}I{count}d", packed)
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"no number at {at}")
        for number, value in zip(numbers[:count], numbers[count:], strict=True):
            found.setdefault(number, []).append((at, value))
    told: dict[str, dict[str, tuple[Sample, ...]]] = {}
    for number, kind, key in connection.execute("SELECT number, kind, key FROM series"):
        if number in found:
            told.setdefault(kind, {})[key] = tuple(found.pop(number))
    if found:
        raise ValueError(f"samples of something without a name: {min(found)}")
    return told


def latest(connection: sqlite3.Connection, reach_s: float) -> dict[str, dict[str, tuple[Sample, ...]]]:
    """Read what was sampled up to so many seconds before the newest sample."""
    (newest,) = connection.execute("SELECT max(at) FROM samples").fetchone()
    return {} if newest is None else load(connection, float(newest) - reach_s)
