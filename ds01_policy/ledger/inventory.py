"""Rows of the inventory: which life of which container held which GPUs, from when to when, for whom.

Owns their reading and writing. Which lives form one run is decided in ds01_policy/lives.py.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.ledger.schema import clean, instant, instant_or_none, stamp, stamp_or_none
from ds01_policy.lives import running_since
from ds01_policy.model import ALIVE, GpuRef, Life

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime

    from ds01_policy.model import Container, GpuClaim, Snapshot

# How long before the newest look a container may have been seen last and still be told of.
RECENT = timedelta(days=1)

_UPSERT = """
    INSERT INTO inventory (container, started_at, name, image, owner, owner_via, owner_group, type,
                           gpus, gpus_via, gpus_unclear, running_since, first_seen, last_seen, ended_at)
    VALUES (:container, :started_at, :name, :image, :owner, :owner_via, :owner_group, :type,
            :gpus, :gpus_via, :gpus_unclear, :running_since, :at, :at, :ended_at)
    ON CONFLICT (container, started_at) DO UPDATE SET
        name = :name, image = :image, owner = :owner, owner_via = :owner_via, owner_group = :owner_group, type = :type,
        gpus = CASE WHEN :gpus_unclear != '' AND :gpus = '[]' THEN gpus ELSE :gpus END,
        gpus_via = :gpus_via, gpus_unclear = :gpus_unclear, last_seen = max(last_seen, :at),
        ended_at = CASE WHEN :ended_at IS NULL AND ended_at > :at THEN ended_at ELSE :ended_at END
"""  # what was known of the GPUs outlives a driver that cannot be asked for a while; a later end outlives an older look


def lives(connection: sqlite3.Connection) -> dict[str, Life]:
    """Read the newest life of each container seen lately. Raises ValueError for a row that makes no sense."""
    (newest,) = connection.execute("SELECT max(last_seen) FROM inventory").fetchone()
    if newest is None:
        return {}
    rows = connection.execute(
        "SELECT container, max(started_at), running_since, last_seen, ended_at, owner, gpus FROM inventory"
        " WHERE last_seen >= ? GROUP BY container",  # SQLite takes the other columns from the row with the maximum
        (stamp(instant(newest) - RECENT),),
    )
    return {
        container: Life(
            container, instant(started), instant(since), instant(seen), instant_or_none(ended), owner, gpus_of(gpus)
        )
        for container, started, since, seen, ended, owner, gpus in rows
    }


def observe(connection: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Write down every life the snapshot shows, and close those it shows no longer."""
    known = lives(connection)
    for container in snapshot.containers:
        if container.started_at is None:
            continue
        previous = known.get(container.id)
        if previous is not None and previous.ended_at is None and previous.started_at < container.started_at:
            _close(connection, previous, container)
        connection.execute(_UPSERT, _row(container, running_since(container, previous), snapshot.at))
    listed = {container.id for container in snapshot.containers}
    unended = connection.execute(
        # What somebody saw after this look cannot be missing from it.
        "SELECT container FROM inventory WHERE ended_at IS NULL AND last_seen <= ?",
        (stamp(snapshot.at),),
    ).fetchall()
    connection.executemany(
        # When it ended is not known; that it was there when last seen is.
        "UPDATE inventory SET ended_at = last_seen WHERE container = ? AND ended_at IS NULL",
        [(container,) for (container,) in unended if container not in listed],
    )


def remember(connection: sqlite3.Connection, container: Container, at: datetime) -> None:
    """Write down the life that one container shows, between two ticks; of others this look says nothing."""
    if container.started_at is None:
        return
    row = connection.execute(
        "SELECT max(started_at), running_since, last_seen, ended_at FROM inventory WHERE container = ?", (container.id,)
    ).fetchone()
    previous = None
    if row[0] is not None:
        started, since, seen, ended_at = row
        previous = Life(container.id, instant(started), instant(since), instant(seen), instant_or_none(ended_at))
    if previous is not None and previous.ended_at is None and previous.started_at < container.started_at:
        _close(connection, previous, container)
    connection.execute(_UPSERT, _row(container, running_since(container, previous), at))


def vanished(connection: sqlite3.Connection, container: str, at: datetime) -> None:
    """End whatever life of a container is still open: it is gone, and that was seen at `at`."""
    connection.execute(
        "UPDATE inventory SET ended_at = max(last_seen, ?) WHERE container = ? AND ended_at IS NULL",
        (stamp(at), container),
    )


def going_on(connection: sqlite3.Connection) -> dict[str, datetime]:
    """Tell which lives of GPU containers have not ended as far as is known: by container id, when they started."""
    rows = connection.execute(
        "SELECT container, max(started_at) FROM inventory WHERE ended_at IS NULL AND gpus_via != '' GROUP BY container"
    )
    return {container: instant(started) for container, started in rows}


def _close(connection: sqlite3.Connection, previous: Life, container: Container) -> None:
    """End a life that a newer one of the same container replaced."""
    finished, started = container.finished_at, container.started_at
    believable = finished is not None and started is not None and previous.last_seen <= finished <= started
    connection.execute(
        "UPDATE inventory SET ended_at = ? WHERE container = ? AND started_at = ?",
        (
            stamp(finished if believable and finished is not None else previous.last_seen),
            previous.container,
            stamp(previous.started_at),
        ),
    )


def ended(connection: sqlite3.Connection, container: str, started_at: datetime | None, at: datetime) -> None:
    """End a life by our own hand."""
    connection.execute(
        "UPDATE inventory SET ended_at = ? WHERE container = ? AND started_at = ? AND ended_at IS NULL",
        (stamp(at), container, stamp_or_none(started_at)),
    )


def _row(container: Container, since: datetime | None, at: datetime) -> dict[str, str | None]:
    started, finished = container.started_at, container.finished_at
    ended_at = None
    if container.state not in ALIVE:
        ended_at = finished if finished and started and finished >= started else at
    return {
        "container": container.id,
        "started_at": stamp_or_none(started),
        "name": clean(container.name),
        "image": clean(container.image),
        "owner": clean(container.owner),
        "owner_via": clean(container.owner_via),
        "owner_group": clean(container.group),
        "type": clean(container.type),
        "gpus": _gpus(container.gpus),
        "gpus_via": clean(container.gpus.via),
        "gpus_unclear": clean(container.gpus.unclear),
        "running_since": stamp_or_none(since),
        "at": stamp(at),
        "ended_at": stamp_or_none(ended_at),
    }


def _gpus(claim: GpuClaim) -> str:
    return json.dumps([{"uuid": ref.uuid, "gpu_instance": ref.gpu_instance} for ref in claim.refs])


def gpus_of(text: str) -> tuple[GpuRef, ...]:
    """Read what `_gpus` wrote. Raises ValueError or TypeError."""
    try:
        return tuple(GpuRef(str(ref["uuid"]), ref["gpu_instance"]) for ref in json.loads(text))
    except KeyError as error:
        raise ValueError(f"gpus: {text!r}") from error


def running_gpu_containers(snapshot: Snapshot) -> int:
    """Count the GPU containers that run."""
    return sum(1 for container in snapshot.containers if container.gpus.wants and container.state in ALIVE)
