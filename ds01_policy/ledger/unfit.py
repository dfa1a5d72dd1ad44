"""Rows of unfit GPUs: since when, why, and what made them fit again.

Owns their reading and writing. What makes a GPU unfit is the epilog's to find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.ledger.schema import clean, instant, stamp
from ds01_policy.model import Unfit

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime

UUID_LIMIT = 100  # characters: it becomes a metric's label


def mark(connection: sqlite3.Connection, uuid: str, why: str, at: datetime) -> bool:
    """Note that a GPU is unfit; of one that is so already only the reason is renewed. False: it was so already."""
    gpu, why = clean(uuid)[:UUID_LIMIT], clean(why)
    renewed = connection.execute("UPDATE unfit SET why = ? WHERE gpu = ? AND fit_at IS NULL", (why, gpu))
    if renewed.rowcount:
        return False
    connection.execute("INSERT INTO unfit (gpu, since, why) VALUES (?, ?, ?)", (gpu, stamp(at), why))
    return True


def clear(connection: sqlite3.Connection, uuid: str, how: str, at: datetime) -> bool:
    """Note what made a GPU fit again; False: it was not unfit."""
    gpu = clean(uuid)[:UUID_LIMIT]
    cleared = connection.execute(
        "UPDATE unfit SET fit_at = ?, how = ? WHERE gpu = ? AND fit_at IS NULL", (stamp(at), clean(how), gpu)
    )
    return cleared.rowcount > 0


def unfit(connection: sqlite3.Connection) -> dict[str, Unfit]:
    """Read the GPUs that are unfit now, by UUID. Raises ValueError for a row that makes no sense."""
    rows = connection.execute("SELECT gpu, since, why FROM unfit WHERE fit_at IS NULL ORDER BY gpu")
    return {gpu: Unfit(instant(since), why) for gpu, since, why in rows}
