"""Rows of partitions: which MIG devices each GPU and GPU instance consisted of when last listed, and since when.

Owns their reading and writing. When an instance counts as another one is decided in ds01_policy/partitions.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ds01_policy.ledger.schema import clean, instant_or_none, stamp, stamp_or_none
from ds01_policy.model import GpuRef, Partition
from ds01_policy.partitions import partitions

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from datetime import datetime

    from ds01_policy.model import Gpu

_WHOLE = -1  # in place of an instance's number; NVML's own begin at 0


def load(connection: sqlite3.Connection) -> dict[GpuRef, Partition]:
    """Read what was listed last of each GPU. Raises ValueError or TypeError for a row that makes no sense."""
    rows = connection.execute("SELECT uuid, gpu_instance, devices, since FROM partitions")
    return {
        GpuRef(uuid, None if instance == _WHOLE else int(instance)): Partition(
            tuple(map(str, json.loads(devices))), instant_or_none(since)
        )
        for uuid, instance, devices, since in rows
    }


def note(connection: sqlite3.Connection, gpus: Iterable[Gpu], at: datetime) -> None:
    """Write down what is listed now. A GPU that is not listed (lost, or the driver is down) keeps what was known."""
    listed = list(gpus)
    now = partitions(listed, load(connection), at)
    connection.executemany("DELETE FROM partitions WHERE uuid = ?", [(clean(gpu.uuid),) for gpu in listed])
    connection.executemany(
        "INSERT INTO partitions (uuid, gpu_instance, devices, since, seen) VALUES (?, ?, ?, ?, ?)",
        [
            (
                clean(ref.uuid),
                _WHOLE if ref.gpu_instance is None else ref.gpu_instance,
                json.dumps(partition.devices),
                stamp_or_none(partition.since),
                stamp(at),
            )
            for ref, partition in now.items()
        ],
    )
