"""Reads the audit log back: which lines match, and how many cannot be read.

Owns tolerance: half a line, or one that is not ours, is counted and skipped. Writes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ds01_policy.audit.lines import LINE_BYTES, Json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    broken: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Json]:
        """Read line by line. No file: no lines. Raises AuditError when it cannot be read."""
        self.broken = 0
        try:
            with self.path.open("rb") as file:
                while raw := file.readline(LINE_BYTES + 1):
                    entry = _entry(raw)
                    if entry is None:
                        self.broken += bool(raw.strip())
                        while raw and not raw.endswith(b"\n"):  # the rest of a line that is too long
                            raw = file.readline(LINE_BYTES)
                    elif self._wanted(*entry):
                        yield entry[1]
        except FileNotFoundError:
            return
        except OSError as error:
            raise AuditError(f"cannot read {self.path} ({error.strerror}): run as root") from error

    def _wanted(self, at: datetime, entry: Json) -> bool:
        return (
            (self.since is None or at >= self.since)
            and (self.owner is None or entry.get("owner") == self.owner)
            and (self.rule is None or entry.get("rule") == self.rule)
            and (self.container is None or _names(entry, self.container))
        )


def read(
    path: Path,
    *,
    container: str | None = None,
    owner: str | None = None,
    rule: str | None = None,
    since: datetime | None = None,
) -> Entries:
    """Read the lines that match everything given."""
    return Entries(path, container, owner, rule, since)


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
