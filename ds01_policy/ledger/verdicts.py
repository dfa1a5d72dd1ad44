"""Rows of verdicts: what each rule found for each container, from which tick to which, for whoever asks later.

Owns their writing and reading. One row a stretch of ticks that found the same: where nothing happens none is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.ledger.schema import clean, instant, instant_or_none, stamp, stamp_or_none

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection
    from datetime import datetime

    from ds01_policy.model import Verdict


@dataclass(frozen=True, slots=True)
class Stretch:
    """Ticks in a row in which one rule found the same for one life of one container."""

    container: str  # 64 hex
    started_at: datetime | None  # the life; None: it was never started
    name: str
    owner: str
    rule: str
    kind: str  # a Kind
    held_by: str  # name of the exemption; empty: none
    why: str  # at the last tick of the stretch
    since: datetime  # first tick
    seen: datetime  # last tick


def keep(connection: sqlite3.Connection, verdicts: Collection[Verdict], at: datetime) -> None:
    """Take every stretch one tick further, or begin another one."""
    rows = connection.execute(
        "SELECT container, rule, since, started_at, kind, held_by FROM verdicts"
        " WHERE seen = (SELECT at FROM ticks WHERE settled ORDER BY id DESC LIMIT 1)"  # the tick before this one
    )
    last = {(container, rule): (since, told) for container, rule, since, *told in rows}
    longer, begun = [], []
    for verdict in verdicts:
        container = verdict.container
        told = [stamp_or_none(container.started_at), verdict.kind.value, verdict.held_by or ""]
        since, before = last.get((container.id, verdict.rule), ("", None))
        if before == told:
            longer.append((stamp(at), clean(verdict.why), container.id, verdict.rule, since))
        else:
            who = (clean(container.name), clean(container.owner))
            begun.append((container.id, verdict.rule, stamp(at), stamp(at), *told, *who, clean(verdict.why)))
    connection.executemany(
        "UPDATE verdicts SET seen = ?, why = ? WHERE container = ? AND rule = ? AND since = ?", longer
    )
    connection.executemany(
        "INSERT OR REPLACE INTO verdicts (container, rule, since, seen, started_at, kind, held_by, name, owner, why)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        begun,
    )


def prune(connection: sqlite3.Connection, before: str) -> None:
    """Drop stretches that ended before then."""
    connection.execute("DELETE FROM verdicts WHERE seen < ?", (before,))


def of(connection: sqlite3.Connection, who: str) -> list[Stretch]:
    """Read what was found for containers of this name, or whose id begins so, oldest first. Raises ValueError."""
    rows = connection.execute(
        "SELECT container, started_at, name, owner, rule, kind, held_by, why, since, seen FROM verdicts"
        " WHERE name = ? OR substr(container, 1, length(?)) = ? ORDER BY since, rule",
        (who, who, who),
    )
    return [
        Stretch(
            container, instant_or_none(started), name, owner, rule, kind, held_by, why, instant(since), instant(seen)
        )
        for container, started, name, owner, rule, kind, held_by, why, since, seen in rows
    ]
