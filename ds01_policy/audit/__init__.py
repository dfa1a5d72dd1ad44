"""The audit log: one JSON line before and one after each action, never rewritten.

Owns the file it is written to. A line that cannot be written whole and synced is an error: then nothing may be done.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from ds01_policy.audit.lines import LINE_BYTES, intent_fields, line_of, outcome_fields
from ds01_policy.audit.reading import AuditError, Entries, read
from ds01_policy.durable import sync_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from ds01_policy.model import Action, Decision, Outcome

__all__ = ["LINE_BYTES", "Audit", "AuditError", "Entries", "read"]


class Audit:
    """One open log. Every method may be called from any thread."""

    def __init__(self, path: Path, descriptor: int, host: str, digest: str) -> None:
        """Take over an open descriptor; use `open`."""
        self._path = path
        self._descriptor = descriptor
        self._host = host
        self._digest = digest
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, host: str = "", digest: str = "") -> Self:
        """Open for appending, making the file (0600) and its directory (0700) where they are missing.

        `host` and `digest` (of the policy) go into every line.

        Raises:
            AuditError: when it cannot be opened.

        """
        try:
            return cls(path, _opened(path), host, digest)
        except OSError as error:
            raise _unwritable(path, error) from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            os.close(self._descriptor)

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()

    def intent(self, decision: Decision, action: Action, at: datetime) -> None:
        """Write what is about to be done and on what evidence. If this raises AuditError, it must not be done."""
        self._append("intent", at, intent_fields(decision, action))

    def outcome(self, decision: Decision, outcome: Outcome, at: datetime) -> None:
        """Write what became of it. Raises AuditError."""
        self._append("outcome", at, outcome_fields(decision, outcome))

    def withheld(self, decision: Decision, at: datetime) -> None:
        """Write what is due and what holds it back. Raises AuditError."""
        held = {"actions": decision.actions, "held_by": decision.held_by, "detail": decision.detail}
        self._append("withheld", at, {**intent_fields(decision, decision.actions[0]), **held})

    def note(self, kind: str, at: datetime, fields: Mapping[str, object]) -> None:
        """Write anything else worth keeping: a recovery, a switch of mode. Raises AuditError."""
        self._append(kind, at, fields)

    def _append(self, kind: str, at: datetime, fields: Mapping[str, object]) -> None:
        line = line_of({**fields, "kind": kind, "at": at, "host": self._host, "policy": self._digest})
        with self._lock:
            try:
                self._follow_rotation()
                # Another process's half-written line must not be taken for one that a crash left. Held for one line.
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
                if _ends_inside_a_line(self._descriptor):
                    line = b"\n" + line
                written = os.write(self._descriptor, line)
                if written == len(line):
                    os.fsync(self._descriptor)
            except OSError as error:
                raise _unwritable(self._path, error) from error
            finally:
                with suppress(OSError):
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        if written != len(line):
            raise _unwritable(self._path, OSError(0, f"only {written} of {len(line)} bytes were written; is it full?"))

    def _follow_rotation(self) -> None:
        """Open the file anew when another one, or none, stands at its path."""
        mine = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            fresh = _opened(self._path)
            os.close(self._descriptor)
            self._descriptor = fresh


def _opened(path: Path) -> int:
    """Open for appending; a new file's name is on disk before the first line is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        sync_folder(path.parent)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _ends_inside_a_line(descriptor: int) -> bool:
    """Whether a crash, or a disk that filled up, left half a line at the end."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _unwritable(path: Path, error: OSError) -> AuditError:
    return AuditError(
        f"cannot write {path} ({error.strerror}): free space or make it writable; "
        "nothing is stopped or removed until then"
    )
