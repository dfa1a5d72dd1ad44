"""One run at a time: a lock that the kernel lets go when its holder dies, however it dies.

Owns the lock file. The file itself says nothing: it is never removed, and what stands in it is for people.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

_LINE_BYTES = 64


class LockError(Exception):
    """The lock file cannot be opened or locked. The text is for the admin."""


class Held(LockError):
    """Another run holds the lock."""

    def __init__(self, path: Path, pid: int | None) -> None:
        """`pid`: whose it is, as far as the file says."""
        who = f"process {pid}" if pid else "a process that has not written its number yet"
        super().__init__(f"another run holds {path} ({who}): wait for it, or look at it with `ps -fp {pid or 'PID'}`")
        self.pid = pid


class RunLock:
    """Holds `path` locked inside a `with` block. Never waits.

    Raises:
        Held: another process, or another RunLock of this one, holds it.
        LockError: the file cannot be made, opened or locked.

    """

    def __init__(self, path: Path) -> None:
        """Nothing happens before the block begins."""
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock, and write who has it."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise self._failed(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _pid_in(descriptor)
            os.close(descriptor)
            raise Held(self._path, pid) from None
        except OSError as error:
            os.close(descriptor)
            raise self._failed(error) from error
        self._descriptor = descriptor
        line = f"{os.getpid()} since {datetime.now(UTC).isoformat(timespec='seconds')}\n"
        with suppress(OSError):  # a full disk takes away the words, not the lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, line.encode(), 0)
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _failed(self, error: OSError) -> LockError:
        return LockError(f"cannot lock {self._path} ({error.strerror}): run as root, and see that the disk is writable")


def _pid_in(descriptor: int) -> int | None:
    """Read the number at the start of the file; None: there is none."""
    try:
        word = os.pread(descriptor, _LINE_BYTES, 0).partition(b" ")[0]
    except OSError:
        return None
    return int(word) if word.isdigit() else None
