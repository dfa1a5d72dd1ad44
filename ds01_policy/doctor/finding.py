"""What the doctor finds: a slug, a status, what was found, what to do.

Owns these values and how long lists of names are cut. Finds nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from ds01_policy.text import plain
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMED = 3
_NAME_LIMIT = 200


class Status(StrEnum):
    """How a check ended. Only `bad` makes a host wanting."""

    OK = "ok"
    NOTE = "note"  # worth knowing; may well be meant so
    BAD = "bad"
    SKIPPED = "skipped"  # could not be checked, because of something else that is found


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. `slug` is stable; `do` is empty where there is nothing to do."""

    slug: str
    status: Status
    what: str
    do: str = ""


def ok(slug: str, what: str) -> Finding:
    """Find it in order."""
    return Finding(slug, Status.OK, what)


def note(slug: str, what: str, do: str) -> Finding:
    """Find something that may be meant so."""
    return Finding(slug, Status.NOTE, what, do)


def bad(slug: str, what: str, do: str) -> Finding:
    """Find something wanting."""
    return Finding(slug, Status.BAD, what, do)


def skipped(slug: str, what: str, do: str) -> Finding:
    """Leave something unchecked."""
    return Finding(slug, Status.SKIPPED, what, do)


def some(names: Iterable[str], named: int = _NAMED, *, between: str = ", ") -> str:
    """Name the first few, and how many more there are."""
    every = [plain(name, _NAME_LIMIT) for name in names]
    more = f"{between.rstrip()} and {len(every) - named} more" if len(every) > named else ""
    return between.join(every[:named]) + more


def roughly(duration: timedelta) -> str:
    """Write how long ago: seconds matter to nobody beyond two minutes."""
    if duration >= timedelta(minutes=2):
        duration -= timedelta(seconds=duration.total_seconds() % 60)
    return format_duration(max(duration, timedelta(0)))


def count(number: int, what: str) -> str:
    """Write `1 GPU`, `2 GPUs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
