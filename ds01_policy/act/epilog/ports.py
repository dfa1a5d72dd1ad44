"""The seams of an epilog: what it asks of Docker, the driver, the kernel and the clock.

Owns the protocols, and the one way in which they fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ds01_policy.model import Gpu, GpuStatuses, HostTask, Xid

Json = dict[str, Any]


class Unanswered(Exception):
    """Docker, the driver or the kernel's log gave no answer that can be believed. The text is for the admin."""


class Engine(Protocol):
    """Docker, asked anew each time. Raises Unanswered."""

    def containers(self) -> list[Json]:
        """List every container in whatever state, as `GET /containers/json?all=1` does."""

    def inspect(self, container_id: str) -> Json | None:
        """Inspect one; None: it is gone."""


class Driver(Protocol):
    """The driver of the host's GPUs. Each call ends within its time, or a second later. Raises Unanswered."""

    def look(self, within: timedelta) -> GpuStatuses:
        """Look at every GPU and who is on it."""

    def gpus(self, within: timedelta) -> Sequence[Gpu]:
        """List the GPUs by index, as containers ask for them."""

    def persist(self, uuid: str, within: timedelta, *, on: bool) -> None:
        """Switch persistence mode of one GPU."""

    def reset(self, uuid: str, within: timedelta) -> None:
        """Reset one GPU: everything on it is lost."""


class Tasks(Protocol):
    """The processes of the host. Raises ownership.Gone and ownership.Hidden."""

    def look(self, pid: int) -> HostTask:
        """Read what is told of one process, all of it of the same."""

    def open(self, pid: int) -> int:
        """Open a pidfd, to be closed by the caller."""

    def holders(self, minor: int) -> tuple[int, ...]:
        """List who has /dev/nvidiaN open. Hidden: not everybody's files can be read."""

    def tended(self, container: str) -> bool:
        """Whether a container runtime's shim still tends this container. Hidden: that cannot be read."""


class Resets(Protocol):
    """Who resets GPUs: this process, or one that may do more than it. Raises Unanswered."""

    def here(self) -> bool:
        """Whether this process may reset a GPU itself."""

    def hand_over(self, uuid: str, container: str, why: str) -> None:
        """Ask the other one for the reset of a GPU that this container (64 hex) held; `why` is for people."""


class Xids(Protocol):
    """Errors that the driver reports to the kernel's log. Raises Unanswered."""

    def since(self, at: datetime) -> tuple[Xid, ...]:
        """List those from `at` on."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, to be waited for. Replaced in tests."""

    seconds: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Deadline:
    """When all of an epilog must be over."""

    clock: Clock
    at: float  # on the clock

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.at - self.clock.seconds())

    def within(self, most_s: float | None = None) -> timedelta:
        """Time for one call: what is left, at most `most_s`."""
        left = self.left_s
        return timedelta(seconds=left if most_s is None else min(left, most_s))

    def pause(self, seconds: float) -> bool:
        """Wait; False, at once: that much is not left."""
        if self.left_s <= seconds:
            return False
        self.clock.sleep(seconds)
        return True
