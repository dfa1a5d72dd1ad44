"""Rows of epilogs: which ended lives of GPU containers are still owed one, who is at it, what came of it.

Owns that each life gets exactly one, however many processes try. Looks at no GPU and at no process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.ledger.inventory import gpus_of
from ds01_policy.ledger.schema import clean, instant, instant_or_none, stamp
from ds01_policy.model import GpuRef, Status

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from datetime import datetime

# An epilog that failed, or whose process was killed, is tried anew: so often in all.
MOST_TRIES = 3
# Lives that ended longer ago get none: whoever came after them has long used the GPU.
REACH = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class EndedLife:
    """One life that has ended, as far as is known, and what it held."""

    container: str  # 64 hex
    name: str
    owner: str
    started_at: datetime
    ended_at: datetime
    gpus: tuple[GpuRef, ...]
    unclear: str  # why `gpus` may not be all of them


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of the epilog of one life."""

    holder: str  # who is at it, or was
    claimed_at: datetime
    tries: int
    hands: bool
    status: Status | None  # None: it has not come to an end
    detail: str
    finished_at: datetime | None  # None: it may be tried anew


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who wants to run an epilog, and how to judge whoever claimed it before."""

    holder: str  # names one process for good, across restarts of the host
    is_gone: Callable[[str], bool]  # whether a holder has provably ended
    patience: timedelta  # so long a claim of a holder that may still live is respected
    hands: bool = True  # whether it may end processes and reset GPUs


def claim(connection: sqlite3.Connection, container: str, started_at: datetime, who: Claimant, at: datetime) -> bool:
    """Take the epilog of one life; False: it is done, has been tried often enough, or somebody else is at it."""
    before = told(connection, container, started_at)
    if before is not None:
        if before.finished_at is not None or before.tries >= MOST_TRIES:
            return False
        # However the clock was set: what lies far ahead was not claimed just now.
        if abs(at - before.claimed_at) < who.patience and (before.status is not None or not who.is_gone(before.holder)):
            return False
    connection.execute(
        "INSERT INTO epilogs (container, started_at, holder, claimed_at, tries, hands) VALUES (?, ?, ?, ?, 1, ?)"
        " ON CONFLICT (container, started_at) DO UPDATE SET holder = excluded.holder, claimed_at = excluded.claimed_at,"
        " tries = tries + 1, hands = excluded.hands, status = NULL, detail = ''",
        (container, stamp(started_at), clean(who.holder), stamp(at), who.hands),
    )
    return True


def finish(
    connection: sqlite3.Connection, container: str, started_at: datetime, status: Status, detail: str, at: datetime
) -> None:
    """Write down what became of it. A failed one may be tried anew, unless it has been tried often enough."""
    connection.execute(
        "UPDATE epilogs SET status = :status, detail = :detail,"
        " finished_at = CASE WHEN :status != 'failed' OR tries >= :most THEN :at END"
        " WHERE container = :container AND started_at = :started_at AND finished_at IS NULL",
        {
            "status": status.value,
            "detail": clean(detail),
            "most": MOST_TRIES,
            "at": stamp(at),
            "container": container,
            "started_at": stamp(started_at),
        },
    )


def release(connection: sqlite3.Connection, container: str, started_at: datetime) -> None:
    """Give a claim back as if it had not been made: nothing was begun."""
    of = (container, stamp(started_at))
    connection.execute(
        "DELETE FROM epilogs WHERE container = ? AND started_at = ? AND tries = 1 AND finished_at IS NULL", of
    )
    connection.execute(
        "UPDATE epilogs SET tries = tries - 1, status = 'failed'"
        " WHERE container = ? AND started_at = ? AND finished_at IS NULL",
        of,
    )


def told(connection: sqlite3.Connection, container: str, started_at: datetime) -> Told | None:
    """Read what is known of one life's epilog; None: nobody began it. Raises ValueError for an unreadable row."""
    row = connection.execute(
        "SELECT holder, claimed_at, tries, hands, status, detail, finished_at FROM epilogs"
        " WHERE container = ? AND started_at = ?",
        (container, stamp(started_at)),
    ).fetchone()
    if row is None:
        return None
    holder, claimed_at, tries, hands, status, detail, finished_at = row
    return Told(
        holder,
        instant(claimed_at),
        int(tries),
        bool(hands),
        None if status is None else Status(status),
        detail,
        instant_or_none(finished_at),
    )


def owed(connection: sqlite3.Connection, at: datetime, container: str | None = None) -> list[EndedLife]:
    """List the newest lives of GPU containers that have ended and had no epilog yet, the newest first.

    Only what ended within REACH, and after this ledger was first used by a program that runs epilogs: what it knew
    before is history. Raises ValueError for a row that makes no sense.
    """
    since = max(known_since(connection, at), at - REACH)
    rows = connection.execute(
        "SELECT i.container, i.name, i.owner, i.started_at, i.ended_at, i.gpus, i.gpus_unclear"
        " FROM inventory AS i LEFT JOIN epilogs AS e ON e.container = i.container AND e.started_at = i.started_at"
        " WHERE i.gpus_via != '' AND i.ended_at >= ? AND (? IS NULL OR i.container = ?)"
        " AND i.started_at = (SELECT max(started_at) FROM inventory WHERE container = i.container)"
        " AND (e.container IS NULL OR (e.finished_at IS NULL AND e.tries < ?))"
        " ORDER BY i.ended_at DESC, i.started_at DESC",
        (stamp(since), container, container, MOST_TRIES),
    )
    return [
        EndedLife(container, name, owner, instant(started), instant(ended), gpus_of(gpus), unclear)
        for container, name, owner, started, ended, gpus, unclear in rows
    ]


def known_since(connection: sqlite3.Connection, at: datetime) -> datetime:
    """Tell since when whatever ends is owed an epilog: `at`, where nobody has asked before."""
    since = noted(connection, "known_since")
    if since is None:
        note(connection, "known_since", at)
    return since or at


def note(connection: sqlite3.Connection, what: str, at: datetime) -> None:
    """Write down a time under a name."""
    connection.execute("INSERT OR REPLACE INTO moments (what, at) VALUES (?, ?)", (what, stamp(at)))


def noted(connection: sqlite3.Connection, what: str) -> datetime | None:
    """Read the time that stands under a name."""
    row = connection.execute("SELECT at FROM moments WHERE what = ?", (what,)).fetchone()
    return instant(row[0]) if row else None
