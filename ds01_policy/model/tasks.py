"""Processes of the host, as its kernel tells them.

Names of commands and of cgroups are written by users: hostile text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class HostTask:
    """One process of the host."""

    pid: int
    uid: int  # effective
    user: str | None  # None: nobody is called that
    command: str  # up to 15 characters
    start_ticks: int  # clock ticks since the host was started: with the number, which process it is
    started_at: datetime  # the same, to about a second
    cgroup: str | None  # the text of its cgroup file; None: it may not be read
    state: str = "S"  # as in proc_pid_stat(5): R S D Z T …


@dataclass(frozen=True, slots=True)
class HostProcess:
    """A process on a GPU that belongs to no container of this engine."""

    gpu: str  # UUID of the physical GPU
    pid: int
    command: str  # empty: not known
    user: str  # its name, else `uid N`; empty: not known
    place: str  # the unit or session it runs in, or whose container it is
    memory_bytes: int | None = None  # on that GPU
    gpu_instance: int | None = None
    started_at: datetime | None = None
    uid: int | None = None  # effective; None: not known
