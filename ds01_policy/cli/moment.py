"""Times as people type them: `2026-03-02 04:31`, with or without a zone, or `2h ago`.

Owns the reading. A time without a zone is UTC, as in every document of this program.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from ds01_policy.cli.exits import Exit, fail
from ds01_policy.text import plain
from ds01_policy.units import parse_duration

_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_WRITE = "write it like 2026-03-02T04:31 (UTC), 2026-03-02T04:31+01:00 or `2h ago`"


def moment(text: str, now: datetime, option: str, *, end: bool = False) -> datetime:
    """Read a time, or end with what is wrong about it. A date is its begin, with `end` its last instant."""
    try:
        return _read(text.strip(), now, end=end)
    except (ValueError, OverflowError):
        fail(Exit.USAGE, [f"{option} {plain(text, 60)!r} is no time: {_WRITE}"])


def _read(text: str, now: datetime, *, end: bool) -> datetime:
    if text == "now":
        return now
    if text.endswith(" ago"):
        return now - parse_duration(text.removesuffix(" ago"))
    if _DATE.match(text):
        begin = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return begin + timedelta(days=1, microseconds=-1) if end else begin
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
