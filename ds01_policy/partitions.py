"""PURE: what each GPU is divided into, and since when: re-partitioned, a GPU gives the same instance numbers out again.

Owns when an instance counts as another one, and what that means for a container that runs on it. Asks nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ds01_policy.model import GpuRef, Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ds01_policy.model import Gpu, GpuClaim


def partitions(gpus: Iterable[Gpu], known: Mapping[GpuRef, Partition], at: datetime) -> dict[GpuRef, Partition]:
    """Say of every GPU that is listed now, and of its instances, since when each has consisted of the same MIG devices.

    `known` is what the look before this one found. What consists of others now, or was not there then though its GPU
    was, has been so since this look. Of a GPU that was never listed before (a cold ledger, a host's first look) nobody
    knows, and nothing is held against it: containers that started later have their own start to go by. Nor can an
    instance be told that was destroyed and made anew between two looks under the same numbers: its devices' names are
    the same then. A driver that was reloaded, or a host that booted, is no re-partitioning as long as the same devices
    came back; no container lived through either.
    """
    found: dict[GpuRef, Partition] = {}
    for gpu in gpus:
        for ref, devices in gpu.made_of.items():
            before = known.get(ref)
            if before is None or before.devices != devices:
                since = at if GpuRef(gpu.uuid) in known else None
            else:
                since = before.since and min(before.since, at)  # a clock that was set back must not cut what is to come
            found[ref] = Partition(devices, since)
    return found


def dated(claim: GpuClaim, started_at: datetime | None, now: Mapping[GpuRef, Partition]) -> GpuClaim:
    """Add to a claim when its GPU instances came to be what they are.

    A place like `0:1` was looked up when the container started; another device may stand there by now. So after a
    re-partitioning of that GPU nobody knows what the container holds.
    """
    since = {ref: at for ref in claim.refs if ref.gpu_instance is not None and (at := _since(now, ref)) is not None}
    moved = [
        f"names MIG devices by their place on {uuid}, which was re-partitioned under it (seen {at:%Y-%m-%d %H:%M} UTC)"
        for uuid in claim.by_place
        if (at := _since(now, GpuRef(uuid))) is not None and (started_at is None or at > started_at)
    ]
    if not since and not moved:
        return claim
    return replace(claim, since=since, unclear="; ".join(filter(None, (claim.unclear, *moved))))


def _since(now: Mapping[GpuRef, Partition], ref: GpuRef) -> datetime | None:
    partition = now.get(ref)
    return partition.since if partition is not None else None
