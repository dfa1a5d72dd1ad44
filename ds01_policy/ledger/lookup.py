"""Finding what the ledger knows of a container by what a person calls it.

Owns the order in which a name and the beginning of an id are believed. Reads the inventory's rows only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.ledger.epilogs import EndedLife
from ds01_policy.ledger.inventory import gpus_of
from ds01_policy.ledger.schema import clean, instant

if TYPE_CHECKING:
    import sqlite3


def lives_named(connection: sqlite3.Connection, text: str) -> list[EndedLife]:
    """List the newest life of each container whose id begins so or that was called so, the newest first.

    One whose end was not seen ended when it was last seen. Raises ValueError for a row that makes no sense.
    """
    rows = connection.execute(
        "SELECT container, name, owner, max(started_at), coalesce(ended_at, last_seen), gpus, gpus_unclear"
        " FROM inventory WHERE name = ? OR substr(container, 1, ?) = ? GROUP BY container ORDER BY 4 DESC",
        (clean(text), len(text), text),  # SQLite takes the other columns from the row with the maximum
    )
    return [
        EndedLife(container, name, owner, instant(started), instant(ended), gpus_of(gpus), unclear)
        for container, name, owner, started, ended, gpus, unclear in rows
    ]
