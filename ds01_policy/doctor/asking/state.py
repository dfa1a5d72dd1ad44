"""Looks at the state directory: what is there, what may be written, how much room is left. Writes nothing to find out.

Owns reading. Judges nothing.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.doctor.judging.state import StateFacts
from ds01_policy.ledger import Ledger, LedgerError
from ds01_policy.ledger.schema import VERSION
from ds01_policy.memory import AUDIT, LEDGER

if TYPE_CHECKING:
    from ds01_policy.model import History
    from ds01_policy.policy import Settings

_LOCK = "lock"
_USER_VERSION = slice(60, 64)  # big-endian, in the header of every SQLite file: sqlite.org/fileformat2.html


def state(settings: Settings, reach: timedelta) -> StateFacts:
    """Tell what lies there, and of local samples what was taken up to `reach` before the newest."""
    directory = Path(settings.state_dir)
    metrics_file = None if settings.metrics_file is None else str(settings.metrics_file)
    error, history = _history(directory / LEDGER, reach)
    samples = history.samples if history else {}
    free_bytes, free_files = _room(directory)
    return StateFacts(
        str(directory),
        made=os.path.lexists(directory),
        root=os.geteuid() == 0,
        uid=os.geteuid(),
        unwritable=tuple(_unwritable(directory)),
        metrics_file=metrics_file,
        metrics_why=_unwritable_file(Path(metrics_file)) if metrics_file else "",
        free_bytes=free_bytes,
        free_files=free_files,
        ledger=history is not None,
        version=_version(directory / LEDGER),
        newest_version=VERSION,
        error=error,
        last_tick_at=history.last_tick_at if history else None,
        looks=tuple(sorted({at for by_key in samples.values() for some in by_key.values() for at, _ in some})),
        samples=sum(len(some) for by_key in samples.values() for some in by_key.values()),
        audit_bytes=_size(directory / AUDIT),
    )


def _history(path: Path, reach: timedelta) -> tuple[str, History | None]:
    """Read the ledger as `preview` does: a copy in memory. None: there is none yet."""
    try:
        ledger = Ledger.open_readonly(path)
        if ledger is None:
            return "", None
        with ledger:
            return "", ledger.history(reach)
    except LedgerError as error:
        return str(error), None


def _version(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            return int.from_bytes(file.read(_USER_VERSION.stop)[_USER_VERSION], "big")
    except OSError:
        return None


def _unwritable(directory: Path) -> list[str]:
    """List what a tick would have to write and this user may not; permission bits and read-only mounts both count."""
    existing = _existing(directory)
    found = [] if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK) else [str(existing)]
    files = [directory / name for name in (LEDGER, AUDIT, _LOCK)]
    return found + [str(path) for path in files if os.path.lexists(path) and not os.access(path, os.R_OK | os.W_OK)]


def _unwritable_file(path: Path) -> str:
    """Say why a file cannot be replaced; empty: it can."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"{path.parent} is not writable"
    return "it is a folder" if path.is_dir() else ""


def _room(directory: Path) -> tuple[int | None, int | None]:
    """Tell how many bytes and files still fit; None: not to be told, as of files on btrfs."""
    try:
        told = os.statvfs(_existing(directory))
    except OSError:
        return None, None
    return told.f_bavail * told.f_frsize, told.f_favail if told.f_files else None


def _existing(path: Path) -> Path:
    """Find what there is of a path that may have to be made."""
    return next(one for one in (path, *path.parents) if os.path.lexists(one) or one == one.parent)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
