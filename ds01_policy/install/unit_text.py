"""PURE: the text of systemd units, read as far as it matters here and written with every name quoted.

Owns quoting, and how often a timer fires. Knows none of our units.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.text import plain

if TYPE_CHECKING:
    from pathlib import PurePath

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_DELAY_SHARE, _LONGEST_DELAY_S = 10, 30.0  # the shipped timer's own: half a minute of five


class Unwritable(Exception):
    """A path that no unit can name. The text is for the admin."""


def values(unit: str, key: str) -> list[str]:
    """List what a unit sets `key` to, in order. Comments don't count; a line is not continued on the next one."""
    pairs = (line.partition("=") for line in unit.splitlines() if line[:1] not in ("#", ";"))
    return [value.strip() for name, _, value in pairs if name.strip() == key]


def bare(path: PurePath | str) -> str:
    """Write a path where systemd takes the whole line for it, as in PathExistsGlob=: only `%` is doubled.

    Raises:
        Unwritable: for a path with a control character, which no line can hold.

    """
    text = str(path)
    if any(ord(character) < ord(" ") or character == "\x7f" for character in text):
        raise Unwritable(f"{plain(text)}: no systemd unit can name a path with a control character: choose another")
    return text.replace("%", "%%")


def quoted(path: PurePath | str) -> str:
    """Write a path as one word among others: `%` doubled, the rest in quotes where it needs them (systemd.syntax(7)).

    Raises:
        Unwritable: for a path with a control character, which no line can hold.

    """
    doubled = bare(path)
    if not set(doubled) & set(" \t\"'\\;"):
        return doubled
    escaped = doubled.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def executable(path: PurePath) -> str:
    """Write the path of a program that a unit runs.

    Raises:
        Unwritable: for a path with a quote or a backslash, which systemd refuses there, and as `quoted`.

    """
    if set(str(path)) & set("\"'\\"):
        raise Unwritable(f"{plain(str(path))}: systemd runs no program with a quote or a backslash in its path")
    return quoted(path)


def schedule(interval: timedelta) -> list[str]:
    """Say how a timer fires every `interval`: settings of [Timer] that replace what was set before.

    By the calendar where the interval divides it, so that looks stay evenly spaced over restarts; else from one start
    to the next.
    """
    seconds = round(interval.total_seconds())
    calendar = _calendar(seconds)
    if calendar:
        lines = ["OnCalendar=", f"OnCalendar={calendar}"]
    else:
        lines = ["OnCalendar=", "OnActiveSec=1s", f"OnUnitActiveSec={seconds}s"]
    delay_s = min(_LONGEST_DELAY_S, seconds / _DELAY_SHARE)
    return [*lines, f"RandomizedDelaySec={round(delay_s * 1000)}ms"]


def _calendar(seconds: int) -> str:
    """Write the times of day, as systemd-analyze shows them; empty: this interval does not divide the clock."""
    if seconds < _MINUTE:
        return f"*-*-* *:*:00/{seconds}" if _MINUTE % seconds == 0 else ""
    minutes, rest = divmod(seconds, _MINUTE)
    if rest:
        return ""
    if seconds < _HOUR:
        return f"*-*-* *:00/{minutes}:00" if _HOUR % seconds == 0 else ""
    hours, rest = divmod(seconds, _HOUR)
    if rest or _DAY % seconds:
        return ""
    return "*-*-* 00:00:00" if hours == _DAY // _HOUR else f"*-*-* 00/{hours}:00:00"
