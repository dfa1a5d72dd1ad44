"""The ledger's file: opening it, bringing it up to date, and what its failures mean to an admin.

Owns its opening and the texts of errors; the tables are in migrations.py. Must not know what the rows are for.
"""

from __future__ import annotations

import errno
import os
import shlex
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ds01_policy.ledger import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_S = 5.0  # how long to wait for another program that holds the file
TEXT_LIMIT = 2000  # characters

MIGRATIONS = migrations.MIGRATIONS
VERSION = len(MIGRATIONS)


class LedgerError(Exception):
    """The ledger cannot be used. The text is for the admin; `code` is a stable slug for problems and metrics."""

    def __init__(self, code: str, text: str) -> None:
        """`code`: ledger_damaged, ledger_full, ledger_locked, ledger_newer, ledger_unwritable or ledger_io."""
        super().__init__(text)
        self.code = code


def connect(path: Path) -> sqlite3.Connection:
    """Open the ledger for writing, making it or bringing it up to date; a private file in a private directory.

    Not WAL: one run at a time writes a few rows, and a reader of a WAL file leaves files of its own beside it, where
    `preview` promises to change nothing. EXTRA makes the last commit survive a power cut in this journal mode.

    Raises:
        LedgerError: damaged, read-only, full, locked, or written by a newer version.

    """
    with explained(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
            _verify(connection, path)
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def copy(path: Path) -> sqlite3.Connection | None:
    """Copy the ledger into memory, brought up to date there; None: there is none yet. Touches nothing on disk.

    The copy refuses writes.

    Raises:
        LedgerError: damaged, unreadable, locked, or written by a newer version.

    """
    with explained(path):
        try:
            if path.stat().st_size == 0:
                return None
        except FileNotFoundError:
            return None
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None)
        ) as source:
            # Take the lock here, where waiting for it ends: backup() itself would wait for ever.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            try:
                source.backup(memory)
                _migrate(memory, path)
                memory.execute("PRAGMA query_only = ON")
            except BaseException:
                memory.close()
                raise
        return memory


def _verify(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise damaged(path, str(verdict))


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    while (version := _version(connection)) < VERSION:
        connection.execute("BEGIN IMMEDIATE")
        # The version counts as much as the tables do: both, or neither.
        if _version(connection) == version:
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1:d}")
        connection.execute("COMMIT")
    if version > VERSION:
        text = (
            f"{path} was written by a newer ds01-policy (version {version}, this one knows {VERSION}): "
            "install that one again, or move the file away; then warnings start over, no allocation is lost"
        )
        raise LedgerError("ledger_newer", text)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


# ── what its failures mean ───────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into a LedgerError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _of_sqlite(error, path) from error
    except OSError as error:
        raise _of_system(error, path) from error


def damaged(path: Path, detail: str) -> LedgerError:
    """Say that the file cannot be believed, and how to go on."""
    old, new = shlex.quote(str(path)), shlex.quote(f"{path}.broken")
    text = (
        f"{path} is damaged ({detail}): move it away with `mv {old} {new}`; warnings start over, no allocation is lost"
    )
    return LedgerError("ledger_damaged", text)


def _of_sqlite(error: sqlite3.Error, path: Path) -> LedgerError:
    extended = getattr(error, "sqlite_errorcode", None)  # absent where Python itself refused
    if extended == sqlite3.SQLITE_READONLY_ROLLBACK:
        text = f"a run was killed while it wrote {path}: the next `ds01-policy evaluate` repairs it"
        return LedgerError("ledger_unwritable", text)
    match extended & 0xFF if isinstance(extended, int) else None:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR | sqlite3.SQLITE_CONSTRAINT:
            return damaged(path, str(error))
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            return _unwritable(path, str(error))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            text = f"{path} has been locked by another program for {BUSY_S:g} s: find it with `fuser -v {_q(path)}`"
            return LedgerError("ledger_locked", text)
        case _:
            return _io(path, str(error))


def _of_system(error: OSError, path: Path) -> LedgerError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(path)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _unwritable(path, reason)
    return _io(path, reason)


def _full(path: Path) -> LedgerError:
    text = f"no space left to write {path}: free some (`df -h {_q(path.parent)}`)"
    return LedgerError("ledger_full", text)


def _unwritable(path: Path, reason: str) -> LedgerError:
    text = (
        f"{path} cannot be opened or written ({reason}): run as root, and see that its directory is on a writable disk"
    )
    return LedgerError("ledger_unwritable", text)


def _io(path: Path, reason: str) -> LedgerError:
    return LedgerError("ledger_io", f"{path} cannot be read or written ({reason}): look at the disk (`dmesg | tail`)")


def _q(path: Path) -> str:
    return shlex.quote(str(path))


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def clean(text: str) -> str:
    """Make text that users or other programs wrote storable: what is no character is escaped, the endless is cut."""
    return text[:TEXT_LIMIT].encode("utf-8", "backslashreplace").decode("utf-8")


def stamp(at: datetime) -> str:
    """Write a time so that the order of texts is the order of times."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def stamp_or_none(at: datetime | None) -> str | None:
    """Write a time that may be missing."""
    return None if at is None else stamp(at)


def instant(text: str) -> datetime:
    """Read a time. Raises ValueError for anything but an aware one."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at


def instant_or_none(text: str | None) -> datetime | None:
    """Read a time that may be missing."""
    return None if text is None else instant(text)
