"""Processes that outlive their container: real ones, in a real cgroup that is called like the container's was.

An engine kills everything in a container's cgroup when it removes it; what a driver would keep alive is made by hand.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rig import parts
from rig.waiting import until

COMMAND = "sleep"

_ROOT = Path("/sys/fs/cgroup")
# Without Docker's own: an engine would find its container's cgroup there. Any hierarchy names it.
_HIERARCHIES = ("pids", "cpuacct", "cpu,cpuacct", "systemd")


class Stray:
    """A real process, and one alone. Whoever ends it, it is reaped at once, and its number is free again.

    `before` is what a shell does before it becomes that process: `trap '' TERM` makes one that is deaf.
    """

    def __init__(self, before: str = ":") -> None:
        # exec, and waited for: a shell that starts a child would leave it in the cgroup, or out of it, by chance.
        self._process = subprocess.Popen(["sh", "-c", f"{before}; exec {COMMAND} 100000"], stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        self._reaper = threading.Thread(target=self._process.wait, daemon=True)
        self._reaper.start()
        until(self._is_itself, "a stray that has become what it is")

    def _is_itself(self) -> bool:
        return Path(f"/proc/{self.pid}/comm").read_text().strip() == COMMAND

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._reaper.is_alive()

    def ended_by(self, timeout_s: float = 20) -> int:
        """Wait for its end: the signal that ended it."""
        self._reaper.join(timeout_s)
        assert not self._reaper.is_alive(), f"process {self.pid} still lives"
        return -int(self._process.returncode)

    def end(self) -> None:
        """End it, if nobody has."""
        if self.lives:
            self._process.kill()
        self._reaper.join(10)


@contextlib.contextmanager
def cgroup_of(container: str, beneath: str = "docker") -> Iterator[Path]:
    """Make a cgroup `/docker/ID` (or `/BENEATH/ID`) and give its folder; write a PID into its cgroup.procs."""
    base = next(
        (_ROOT / name for name in _HIERARCHIES if (_ROOT / name / "cgroup.procs").exists()),
        _ROOT,
    )
    folder = base / beneath / container
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        parts.missing(f"no cgroup can be made below {base}: {error.strerror}")
    try:
        yield folder
    finally:
        _remove(folder)


def move(stray: Stray, folder: Path) -> None:
    """Put a process into a cgroup."""
    (folder / "cgroup.procs").write_text(f"{stray.pid}\n")
    assert folder.name in Path(f"/proc/{stray.pid}/cgroup").read_text()


def _remove(folder: Path) -> None:
    """Remove a cgroup, with what a test that failed has left in it: the failure is what is to be read."""
    deadline = time.monotonic() + 10
    while folder.exists():
        try:
            for pid in (folder / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
