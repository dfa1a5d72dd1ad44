"""What an epilog is asked about and what it answers: values only.

Owns their words. Looks at nothing and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ds01_policy.model import GpuRef, Status


@dataclass(frozen=True, slots=True)
class Held:
    """One ended life of one container, and what it held, as recorded while it was there."""

    container: str  # 64 hex; empty: a GPU is looked at for its own sake
    name: str
    started_at: datetime | None  # of that life; None: it never ran
    ended_at: datetime | None  # None: not known when
    gpus: tuple[GpuRef, ...] = ()
    unclear: str = ""  # why `gpus` may not be all of them


class Health(StrEnum):
    """How a GPU is after a container has left it. UNKNOWN is not unhealthy: nobody could tell."""

    OK = "ok"
    WARN = "warn"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class GpuFinding:
    """What was found on one GPU, in words for the admin."""

    uuid: str
    health: Health
    words: str
    unfit: bool = False  # it counts as unfit whatever its health, until it is found well: its reset is still to come


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one epilog.

    DONE: every GPU it held was looked at, whatever was found. NOOP: nothing to look at. FAILED: some GPU could not be
    looked at, or the time was over before all of it was done; `detail` says what is left.
    """

    status: Status
    detail: str
    findings: tuple[GpuFinding, ...] = ()
    ended: tuple[str, ...] = ()  # processes of the container that were ended, in words
    left: tuple[str, ...] = ()  # processes that are still there, in words, with whose they are
