"""Reads the audit log back, through its rotated files: which lines match, and how many cannot be read.

Owns tolerance: half a line, or one that is not ours, is counted and skipped. Writes nothing.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ds01_policy.audit.lines import LINE_BYTES, Json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO


class AuditError(Exception):
    """The log cannot be written or read. The text is for the admin."""


@dataclass
class Entries:
    """The lines of one log that match, oldest first. Iterate once; then `broken` counts the unreadable ones."""

    path: Path
    container: str | None = None  # name, or the beginning of the id
    owner: str | None = None
    rule: str | None = None
    since: datetime | None = None
    until: datetime | None = None  # that time included
    action: str | None = None
    status: str | None = None
    broken: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Json]:
        """Read line by line. No file: no lines. Raises AuditError when it cannot be read."""
        self.broken = 0
        try:
            with ExitStack() as stack:
                for file in _open_all(self.path, stack):
                    yield from self._lines(file)
        except OSError as error:
            raise AuditError(f"cannot read {self.path} ({error.strerror or error}): run as root") from error

    def _lines(self, file: IO[bytes] | gzip.GzipFile) -> Iterator[Json]:
        try:
            while raw := file.readline(LINE_BYTES + 1):
                entry = _entry(raw)
                if entry is None:
                    self.broken += bool(raw.strip())
                    while raw and not raw.endswith(b"\n"):  # the rest of a line that is too long
                        raw = file.readline(LINE_BYTES)
                elif self._wanted(*entry):
                    yield entry[1]
        except (EOFError, gzip.BadGzipFile, zlib.error):  # a compressed file that is not whole
            self.broken += 1

    def _wanted(self, at: datetime, entry: Json) -> bool:
        return (
            (self.since is None or at >= self.since)
            and (self.until is None or at <= self.until)
            and (self.action is None or entry.get("action") == self.action)
            and (self.status is None or entry.get("status") == self.status)
            and (self.owner is None or entry.get("owner") == self.owner)
            and (self.rule is None or entry.get("rule") == self.rule)
            and (self.container is None or _names(entry, self.container))
        )


def read(  # noqa: PLR0913  one argument a filter
    path: Path,
    *,
    container: str | None = None,
    owner: str | None = None,
    rule: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    action: str | None = None,
    status: str | None = None,
) -> Entries:
    """Read the lines that match everything given."""
    return Entries(path, container, owner, rule, since, until, action, status)


def rotated(path: Path) -> list[Path]:
    """List the files that logrotate made of a log, oldest first: `.1`, `.2.gz`, or with a date for a number."""
    name = re.compile(
        re.escape(path.name) + r"(?:\.(?P<number>\d{1,6})|-(?P<date>\d{4}-?\d\d-?\d\d(?:-\d+)?))(?:\.gz)?"
    )
    try:
        found = [(each, match) for each in path.parent.iterdir() if (match := name.fullmatch(each.name))]
    except (FileNotFoundError, NotADirectoryError):
        return []
    dated = sorted((match["date"], each) for each, match in found if match["date"])
    numbered = sorted(((int(match["number"]), each) for each, match in found if match["number"]), reverse=True)
    return [*(each for _, each in dated), *(each for _, each in numbered)]


def _open_all(path: Path, stack: ExitStack) -> list[IO[bytes] | gzip.GzipFile]:
    """Open a log and what was rotated of it, before any of it is read; give them oldest first.

    The newest is opened first: one that is renamed meanwhile is met twice, and counts once.
    """
    files: dict[tuple[int, int], IO[bytes] | gzip.GzipFile] = {}
    for each in (path, *reversed(rotated(path))):
        with suppress(FileNotFoundError):
            raw = stack.enter_context(each.open("rb"))
            there = os.fstat(raw.fileno())
            packed = each.name.endswith(".gz")
            files.setdefault((there.st_dev, there.st_ino), gzip.GzipFile(fileobj=raw) if packed else raw)
    return list(reversed(files.values()))


def _entry(raw: bytes) -> tuple[datetime, Json] | None:
    """Parse one line; None: it is not one of ours."""
    try:
        entry = json.loads(raw)
        at = datetime.fromisoformat(entry["at"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return (at, entry) if isinstance(entry, dict) and at.tzinfo is not None else None


def _names(entry: Json, container: str) -> bool:
    return entry.get("name") == container or str(entry.get("container", "")).startswith(container)
