"""What the ledger knows of containers that may be gone, and of the ticks of then. Reads only.

Owns the reading of whole lives; what of them a question is about, hindsight.py decides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.ledger.schema import instant, instant_or_none, stamp

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class PastLife:
    """One life of one container, as ticks saw it."""

    container: str  # 64 hex
    name: str
    started_at: datetime
    first_seen: datetime
    last_seen: datetime
    ended_at: datetime | None
    owner: str
    owner_via: str
    group: str
    type: str
    image: str
    gpus: tuple[str, ...]  # `GPU-…`, `GPU-…/gi7`


@dataclass(frozen=True, slots=True)
class PastTick:
    """One tick: when, and under which policy."""

    at: datetime
    mode: str
    digest: str
    next_at: datetime | None  # when the one after it began; None: it is the newest


def lives_of(connection: sqlite3.Connection, who: str) -> list[PastLife]:
    """Read the lives of containers of this name, or whose id begins so, oldest first. Raises ValueError."""
    rows = connection.execute(
        "SELECT container, name, started_at, first_seen, last_seen, ended_at, owner, owner_via, owner_group, type,"
        " image, gpus FROM inventory WHERE name = ? OR substr(container, 1, length(?)) = ? ORDER BY started_at",
        (who, who, who),
    )
    return [
        PastLife(
            container,
            name,
            started_at=instant(started),
            first_seen=instant(first),
            last_seen=instant(last),
            ended_at=instant_or_none(ended),
            owner=owner,
            owner_via=via,
            group=group,
            type=kind,
            image=image,
            gpus=_gpus(gpus),
        )
        for container, name, started, first, last, ended, owner, via, group, kind, image, gpus in rows
    ]


def _gpus(text: str) -> tuple[str, ...]:
    refs = json.loads(text)
    return tuple(
        ref["uuid"] if ref["gpu_instance"] is None else f"{ref['uuid']}/gi{ref['gpu_instance']}" for ref in refs
    )


def tick_at(connection: sqlite3.Connection, at: datetime) -> PastTick | None:
    """Find the last tick that began at or before then."""
    row = connection.execute(
        "SELECT at, mode, digest, (SELECT min(later.at) FROM ticks AS later WHERE later.at > ticks.at) FROM ticks"
        " WHERE at <= ? ORDER BY at DESC LIMIT 1",
        (stamp(at),),
    ).fetchone()
    return None if row is None else PastTick(instant(row[0]), row[1], row[2], instant_or_none(row[3]))


def first_tick(connection: sqlite3.Connection) -> datetime | None:
    """Tell from when on the ledger knows anything."""
    (first,) = connection.execute("SELECT min(at) FROM ticks").fetchone()
    return instant_or_none(first)
