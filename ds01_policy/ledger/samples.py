"""Rows of local samples: what this host measured itself at each tick, and how far back that is kept.

Owns their reading, writing and bounds. What they prove is readings.py's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ds01_policy.ledger.schema import clean

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from ds01_policy.model import Sample

Row = tuple[str, str, float]  # what is sampled (gpu, cpu, network), join key as text, value

# Beyond this the oldest go, however long they were to be kept: 48 h of 400 containers, a tick every five minutes.
MOST_ROWS = 500_000


def keep(connection: sqlite3.Connection, at: float, rows: Iterable[Row], before: float) -> None:
    """Write down what was sampled at `at` (Unix seconds); drop what is older than `before`, or lies ahead of `at`.

    What is no finite number is left out: a sample that is not there proves nothing. What lies ahead was written before
    the clock was set back, and would be believed again once the clock comes by.
    """
    connection.executemany(
        "INSERT OR REPLACE INTO samples (at, kind, key, value) VALUES (?, ?, ?, ?)",
        [(at, kind, clean(key), float(value)) for kind, key, value in rows if math.isfinite(value)],
    )
    connection.execute("DELETE FROM samples WHERE at < ? OR at > ?", (before, at))
    (count,) = connection.execute("SELECT count(*) FROM samples").fetchone()
    if count > MOST_ROWS:
        (oldest,) = connection.execute(
            "SELECT at FROM samples ORDER BY at DESC LIMIT 1 OFFSET ?", (MOST_ROWS,)
        ).fetchone()
        connection.execute("DELETE FROM samples WHERE at <= ?", (oldest,))  # whole ticks, never half of one


def load(connection: sqlite3.Connection, since: float) -> dict[str, dict[str, tuple[Sample, ...]]]:
    """Read what was sampled since then: by kind, by join key as text, ascending in time.

    Raises ValueError or TypeError for a row that makes no sense.
    """
    found: dict[str, dict[str, list[Sample]]] = {}
    rows = connection.execute("SELECT at, kind, key, value FROM samples WHERE at >= ? ORDER BY at", (since,))
    for at, kind, key, value in rows:
        found.setdefault(kind, {}).setdefault(key, []).append((float(at), float(value)))
    return {kind: {key: tuple(some) for key, some in by_key.items()} for kind, by_key in found.items()}


def latest(connection: sqlite3.Connection, reach_s: float) -> dict[str, dict[str, tuple[Sample, ...]]]:
    """Read what was sampled up to so many seconds before the newest sample."""
    (newest,) = connection.execute("SELECT max(at) FROM samples").fetchone()
    return {} if newest is None else load(connection, float(newest) - reach_s)
