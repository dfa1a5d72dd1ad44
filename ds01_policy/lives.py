"""PURE: the lives of one container, and which of them followed each other at once.

Owns what counts as one uninterrupted run: a restart is no way around a maximum runtime. And what cannot change within
one life. Asks nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.limits import UNKNOWN

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Container, Life

# A life that begins within this of the end of the one before belongs to the same run.
RESTART_GAP = timedelta(minutes=15)
# Docker shows only the end of the last life. If nobody looked for longer than this before that end, there may have
# been a stop and a start in between that nobody saw, so the run is not held to have gone on.
UNSEEN_AT_MOST = timedelta(hours=1)


def running_since(container: Container, previous: Life | None) -> datetime | None:
    """Find the start of the run that the container's present life belongs to; None: it never started.

    What is not known breaks the run: it can only make a container look younger than it is.
    """
    started = container.started_at
    if started is None or previous is None or previous.started_at > started:
        return started
    if previous.started_at == started:
        return min(previous.running_since, started)
    return previous.running_since if _followed_at_once(container, started, previous) else started


def remembered(container: Container, previous: Life | None) -> Container:
    """Hold what is found of a life against what was found of it before: neither its GPUs nor its owner can change.

    A GPU that is named by its number is looked up by Docker at the start, and numbers move when a GPU goes away. A
    directory that does not answer looks like a user who does not exist.
    """
    if previous is None or previous.started_at != container.started_at:
        return container
    if container.owner == UNKNOWN and previous.owner not in ("", UNKNOWN):
        via = f"as found earlier in its life; now {container.owner_via or 'nothing says whose it is'}"
        container = replace(container, owner=previous.owner, owner_via=via, owner_proven=False)
    was, now = ({ref.uuid.casefold() for ref in refs} for refs in (previous.gpus, container.gpus.refs))
    if was - now and now - was:
        names = ", ".join(sorted({ref.uuid for ref in previous.gpus}))
        unclear = f"was given {names} when it started, and what it names is another GPU now: the host's were renumbered"
        container = replace(container, gpus=replace(container.gpus, refs=previous.gpus, unclear=unclear))
    return container


def _followed_at_once(container: Container, started: datetime, previous: Life) -> bool:
    """Whether the container was down for at most RESTART_GAP between the previous life and this one."""
    if started - (previous.ended_at or previous.last_seen) <= RESTART_GAP:
        return True
    finished = container.finished_at
    if previous.ended_at is not None or finished is None or finished > started:
        return False
    return started - finished <= RESTART_GAP and finished - previous.last_seen <= UNSEEN_AT_MOST
