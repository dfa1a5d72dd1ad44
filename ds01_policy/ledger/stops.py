"""Rows of stops, and the sums of what came of them over all runs.

Owns their reading and writing. What counts as reclaimed, and as regretted, is decided in ds01_policy/stops.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ds01_policy.ledger.inventory import gpus_of
from ds01_policy.ledger.schema import instant, instant_or_none, stamp
from ds01_policy.model import UNSEEN, Stop, Totals
from ds01_policy.stops import REACH, advanced

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from datetime import datetime

    from ds01_policy.model import GpuClaim, GpuRef, Snapshot

_SUM = (
    "INSERT INTO totals (rule, stops, regrets, gpu_seconds) VALUES (?, ?, ?, ?) ON CONFLICT (rule) DO UPDATE SET"
    " stops = stops + excluded.stops, regrets = regrets + excluded.regrets,"
    " gpu_seconds = gpu_seconds + excluded.gpu_seconds"
)


def held(claim: GpuClaim) -> str:
    """Write down which GPUs a container holds; one that may only look at them (privileged) holds none."""
    return _text(claim.refs if claim.holds else ())


def begin(connection: sqlite3.Connection, action: int, at: datetime) -> None:
    """Count a stop that was done: the row of its action says whose container it was and what that held."""
    connection.execute(
        "INSERT INTO stops (container, name, owner, rule, started_at, looked_at, at, counted_until, gpus)"
        " SELECT container, name, owner, rule, started_at,"
        # The tick that decided was written down before anything was done.
        " coalesce((SELECT at FROM ticks WHERE settled ORDER BY id DESC LIMIT 1), intent_at), :at, :at, gpus"
        " FROM actions WHERE id = :action",
        {"action": action, "at": stamp(at)},
    )
    (rule,) = connection.execute("SELECT rule FROM actions WHERE id = ?", (action,)).fetchone()
    connection.execute(_SUM, (rule, 1, 0, 0.0))


def advance(connection: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Count what this tick shows of the stops before it. To be called after the inventory has seen the snapshot.

    Raises ValueError or TypeError for a row that makes no sense.
    """
    before = _open(connection)
    if not before:
        return
    at = snapshot.at
    unseen = any(problem.code in UNSEEN for problem in snapshot.problems)
    after = advanced(
        list(before.values()),
        snapshot.containers,
        at,
        lambda container, stop: _was_up(connection, container, stop),
        unseen=unseen,
    )
    for number, old, new in zip(before, before.values(), after, strict=True):
        over = at - new.at >= REACH
        if new == old and not over:
            continue
        connection.execute(
            "UPDATE stops SET counted_until = ?, gpus = ?, gpu_seconds = ?, regretted = ?, over = ? WHERE id = ?",
            (stamp(new.counted_until), _text(new.gpus), new.gpu_seconds, new.regretted, over, number),
        )
        connection.execute(_SUM, (new.rule, 0, new.regretted - old.regretted, new.gpu_seconds - old.gpu_seconds))


def totals(connection: sqlite3.Connection) -> Totals:
    """Read the sums."""
    rows = connection.execute("SELECT rule, stops, regrets, gpu_seconds FROM totals").fetchall()
    return Totals(
        {rule: float(stops) for rule, stops, _, _ in rows},
        {rule: float(regrets) for rule, _, regrets, _ in rows},
        {rule: float(gpu_seconds) for rule, _, _, gpu_seconds in rows},
    )


def _open(connection: sqlite3.Connection) -> dict[int, Stop]:
    """Read the stops that something may still be counted for, oldest first."""
    rows = connection.execute(
        "SELECT id, container, name, owner, rule, started_at, looked_at, at, counted_until, gpus, gpu_seconds,"
        " regretted FROM stops WHERE NOT over ORDER BY id"
    )
    return {
        number: Stop(
            container,
            name,
            owner,
            rule,
            instant_or_none(started_at),
            instant(looked_at),
            instant(at),
            instant(counted_until),
            gpus_of(gpus),
            float(gpu_seconds),
            bool(regretted),
        )
        for (
            number, container, name, owner, rule, started_at, looked_at, at, counted_until, gpus, gpu_seconds, regretted
        ) in rows
    }  # fmt: skip


def _was_up(connection: sqlite3.Connection, container: str, stop: Stop) -> bool:
    """Whether a life of a container went on when another one was stopped, as far as is known."""
    row = connection.execute(
        "SELECT 1 FROM inventory WHERE container = ? AND started_at <= ? AND (ended_at IS NULL OR ended_at >= ?)",
        # That it ended while others were being stopped is told to the tick, at best: it was up when decided.
        (container, stamp(stop.at), stamp(stop.looked_at)),
    ).fetchone()
    return row is not None


def _text(refs: Iterable[GpuRef]) -> str:
    return json.dumps([{"uuid": ref.uuid, "gpu_instance": ref.gpu_instance} for ref in refs])
