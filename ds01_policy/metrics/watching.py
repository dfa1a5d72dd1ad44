"""PURE: what `watch` tells of itself; no name that a tick's metrics have.

Owns names and meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ds01_policy.metrics.exposition import Family, by
from ds01_policy.model import Status


@dataclass(frozen=True, slots=True)
class Watching:
    """How a watch is doing."""

    following: bool  # connected to Docker's events
    last_event: datetime | None  # None: none since it was started
    waiting: int  # containers to be seen to
    epilogs: Mapping[Status, int]  # run by this process


def watch_families(watching: Watching) -> dict[str, Family]:
    """Lay them out. They begin at 0 with each start of `watch`."""
    last = watching.last_event.timestamp() if watching.last_event else 0.0
    ran: dict[tuple[str, ...], float] = {(status.value,): float(watching.epilogs.get(status, 0)) for status in Status}
    return {
        "ds01_policy_watch_up": Family("That watch runs.", {(): 1.0}),
        "ds01_policy_watch_following": Family(
            "Whether watch is connected to Docker's events.", {(): float(watching.following)}
        ),
        "ds01_policy_watch_last_event_timestamp_seconds": Family(
            "When the last container that watch saw started or ended; 0 if none did since watch was started.",
            {(): last},
        ),
        "ds01_policy_watch_epilogs_total": Family(
            "Checks of GPUs that watch has run after containers.", by(("status",), ran), "counter"
        ),
        "ds01_policy_watch_epilog_queue": Family("Containers that wait to be seen to.", {(): float(watching.waiting)}),
    }
