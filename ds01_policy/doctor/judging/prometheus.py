"""PURE: what a Prometheus tells of itself → findings.

Owns its reachability, its clock, its secrets' files, and whether it keeps samples for long enough.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.doctor.finding import Finding, bad, note, ok
from ds01_policy.doctor.judging.clocks import skew
from ds01_policy.text import plain
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_WHOLE = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server told. `error`: why it answers no query at all."""

    url: str
    error: str = ""
    version: str = ""
    retention: str = ""  # as /api/v1/status/runtimeinfo says it: `15d`, `15d or 10GiB`
    ahead_s: float | None = None
    notes: tuple[str, ...] = ()  # about the secrets' files


def off() -> Iterator[Finding]:
    """Say that there is none, as configured."""
    do = "nothing, if that is meant: idleness is told from local samples, of which this says more below"
    yield note("prometheus", "switched off in settings.yaml", do)


def server(facts: ServerFacts, reach: timedelta) -> Iterator[Finding]:
    """Judge the server; `reach` is how far back rules ask."""
    for one in facts.notes:
        what, _, do = one.partition(": ")
        yield bad("secret_readable", plain(what), f"{do or 'chmod 600'}, and let root own it")
    if facts.error:
        do = "`systemctl status prometheus`, or correct prometheus.url; meanwhile idleness is told from local samples"
        yield bad("prometheus", plain(facts.error), do)
        return
    kept = retention(facts.retention)
    words = f"Prometheus {plain(facts.version, 40) or 'of unknown version'} at {plain(facts.url, 100)} answers"
    keeps = f"keeps {plain(facts.retention, 40)}" if facts.retention else "how long it keeps samples is unknown"
    yield ok("prometheus", f"{words}; {keeps}")
    if kept is not None and kept < reach:
        what = f"it keeps samples for {format_duration(kept)}, and rules ask {format_duration(reach)} back"
        yield bad("retention_short", what, f"--storage.tsdb.retention.time={_whole_hours(reach)} or more")
    if facts.ahead_s is not None:
        costs = "samples look older than they are, and count as missing"
        yield skew("prometheus_clock", "Prometheus", facts.ahead_s, costs)


def retention(text: str) -> timedelta | None:
    """Read `15d`, or the time in `15d or 10GiB`; None: only a size, no limit, or other words."""
    first = text.partition(" or ")[0].strip()
    if not _WHOLE.fullmatch(first):
        return None
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(first))
    return timedelta(seconds=min(seconds, 1e9)) if seconds else None


def _whole_hours(reach: timedelta) -> str:
    return f"{int(-(-reach.total_seconds() // 3600))}h"
