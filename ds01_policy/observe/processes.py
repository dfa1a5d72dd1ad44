"""What the kernel tells of a process: whose it is, since when, in which cgroup; and a handle that stays its own.

Owns reading /proc without mistaking one process for the next that got its number. Signals nobody.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from ds01_policy.model import HostTask
from ds01_policy.observe.host import LocalHost
from ds01_policy.ownership import Gone, Hidden

_LIMIT = 2**16  # bytes of one file in /proc
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENOTDIR})


@dataclass(frozen=True)
class Processes:
    """The processes of the host that `proc` belongs to. Users' names are asked of `host`, which keeps them."""

    proc: Path = Path("/proc")
    host: LocalHost | None = None

    def look(self, pid: int) -> HostTask:
        """Read what is told of one process.

        All of it is of one and the same process: the directory that is opened first stays that process' own, and reads
        nothing once it is gone, whoever gets its number next.

        Raises:
            Gone: when there is none.
            Hidden: when it may not be read, or is not of the shape of proc(5).

        """
        try:
            with self._directory(pid) as task:
                status = _fields(_read(task, "status"))
                name, stat = _stat(_read(task, "stat"))
                cgroup = _optional(task, "cgroup")
                uid = int(status["Uid"].split()[1])  # real, effective, saved, file system
                ticks = int(stat[19])  # field 22 of proc_pid_stat(5); the first two are cut off
                started_at = self._booted + timedelta(seconds=ticks / self._hertz)
        except OSError as error:
            if error.errno in _GONE:
                raise Gone(f"process {pid} is gone") from None
            raise Hidden(f"process {pid} cannot be looked at: {error.strerror}") from None
        except (KeyError, ValueError, IndexError, OverflowError):
            raise Hidden(f"what /proc tells of process {pid} is not understood") from None
        return HostTask(
            pid=pid,
            uid=uid,
            user=(self.host or LocalHost(self.proc)).user_of_uid(uid),
            command=name,
            start_ticks=ticks,
            started_at=started_at,
            cgroup=cgroup,
            state=stat[0],
        )

    def open(self, pid: int) -> int:
        """Open a handle of one process, to be closed by the caller: it never means another one.

        Raises:
            Gone: when there is none.
            Hidden: when the kernel gives none out.

        """
        try:
            return os.pidfd_open(pid)
        except OSError as error:
            if error.errno in _GONE:
                raise Gone(f"process {pid} is gone") from None
            raise Hidden(f"process {pid} cannot be opened: {error.strerror}") from None

    def holders(self, minor: int) -> tuple[int, ...]:
        """List who has /dev/nvidiaN open, by any path that ends so.

        Raises:
            Hidden: when not everybody's files can be read: then nobody knows.

        """
        device = re.compile(rf"/nvidia{minor}(?: \(deleted\))?\Z")
        return tuple(pid for pid in self._pids() if any(map(device.search, self._files(pid))))

    def tended(self, container: str) -> bool:
        """Whether a container runtime's shim still tends this container, whatever the engine says of it.

        Raises:
            Hidden: when not everybody's arguments can be read.

        """
        return any(_tends(self._arguments(pid), container) for pid in self._pids())

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _booted(self) -> datetime:
        """When this host was started, to the second."""
        for line in (self.proc / "stat").read_text().splitlines():
            if line.startswith("btime "):
                return datetime.fromtimestamp(int(line.split()[1]), UTC)
        raise ValueError("there is no btime in /proc/stat")

    @cached_property
    def _hertz(self) -> int:
        return os.sysconf("SC_CLK_TCK")

    def _pids(self) -> list[int]:
        try:
            return sorted(int(entry.name) for entry in self.proc.iterdir() if entry.name.isdecimal())
        except OSError as error:
            raise Hidden(f"{self.proc} cannot be listed: {error.strerror}") from None

    def _files(self, pid: int) -> list[str]:
        """Read where one process' open files lie."""
        found: list[str] = []
        folder = self.proc / str(pid) / "fd"
        try:
            for entry in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    found.append(str(entry.readlink()))
        except OSError as error:
            if error.errno not in _GONE:
                raise Hidden(f"the open files of process {pid} cannot be read: {error.strerror}") from None
        return found

    def _arguments(self, pid: int) -> list[bytes]:
        try:
            return (self.proc / str(pid) / "cmdline").read_bytes()[:_LIMIT].split(b"\0")
        except OSError as error:
            if error.errno in _GONE:
                return []
            raise Hidden(f"the arguments of process {pid} cannot be read: {error.strerror}") from None

    @contextlib.contextmanager
    def _directory(self, pid: int) -> Iterator[int]:
        task = os.open(self.proc / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield task
        finally:
            os.close(task)


def _read(task: int, name: str) -> str:
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=task), "rb") as file:  # noqa: PTH123  relative to task
        return file.read(_LIMIT).decode(errors="replace")


def _optional(task: int, name: str) -> str | None:
    try:
        return _read(task, name)
    except PermissionError:
        return None


def _fields(status: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in status.split("\n"))}


def _stat(text: str) -> tuple[str, list[str]]:
    """Split into the name, which may hold anything, and the fields after it, the state first."""
    before, closed, after = text.rpartition(")")
    if not closed:
        raise ValueError("no name")
    return before.partition("(")[2], after.split()


def _tends(arguments: list[bytes], container: str) -> bool:
    """Whether these are the arguments of a shim: `containerd-shim-runc-v2 -namespace moby -id ID …`, or `… ID …`."""
    program = arguments[0].rpartition(b"/")[2] if arguments else b""
    return program.startswith((b"containerd-shim", b"docker-containerd-shim")) and container.encode() in arguments
