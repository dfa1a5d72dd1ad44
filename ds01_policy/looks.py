"""PURE: what single looks, far apart, tell about the time between them.

Owns the arithmetic for a gauge that this host samples itself, once a tick, and the words for when it will be known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ds01_policy.model import Missing, Reading
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds01_policy.model import Answer, Sample
    from ds01_policy.signals import Signal

# A gap of up to one and a half spacings is jitter and held to be covered.
JITTER = 1.5
_DUST = 1e-9  # of a window: what adding up floats leaves over
_DAY = timedelta(days=1)


@dataclass(slots=True)
class _Sum:
    """Seconds of the window, and value × seconds."""

    covered: float = 0.0
    highest: float = 0.0  # of the covered time, at its busiest
    stood: float = 0.0  # seconds that some sample stands for
    weighted: float = 0.0


def looked(signal: Signal, samples: Sequence[Sample], answer: Answer, window: timedelta, at: datetime) -> Reading:
    """Weigh looks: between two neighbours the truth may be as either of them says, so `high` takes the busier one.

    In `low` and in the mean each stands for half the way to its neighbours, at most for one spacing in all: one busy
    look is work that was seen. Where a look has no sample, or the next one is too far, the time counts as uncovered up
    to its neighbours: as 0 in `low`, as the ceiling in `high`. So a sample that is lost never moves a bound inwards,
    however often was looked.
    """
    end = at.timestamp()
    width = window.total_seconds()
    start = end - width
    known = {time: value for time, value in samples if time <= end}
    times = sorted({*known, *(look for look in answer.looks if look <= end)})
    total = _Sum()
    run = math.inf  # where the covered stretch that lasts until now began
    reach = answer.spacing_s / 2
    for before, after in zip([-math.inf, *times], [*times, math.inf], strict=True):
        half = min((after - before) / 2, reach)
        _stand(total, known.get(before), max(before, start), min(before + half, end))
        _stand(total, known.get(after), max(after - half, start), min(after, end))
        if before in known and after in known and after - before <= JITTER * answer.spacing_s:
            run = min(run, before)
            share = max(min(after, end) - max(before, start), 0.0)
            total.covered += share
            total.highest += share * max(known[before], known[after])
        elif after <= end:
            run = after if after in known else math.inf
    uncovered = width - total.covered
    if uncovered <= _DUST * width:
        uncovered = 0.0
    ceiling = math.inf if signal.ceiling is None else signal.ceiling
    high = (total.highest + (ceiling * uncovered if uncovered else 0.0)) / width
    missing, detail = _complaint(sorted(known), answer, window, at, uncovered, run)
    low = total.weighted / width
    return Reading(
        signal.name, window, signal.unit,
        value=total.weighted / total.stood if total.stood > 0 else None, low=low, high=min(max(low, high), ceiling),
        coverage=1 - uncovered / width, source=answer.source, missing=missing, detail=detail,
    )  # fmt: skip


def _stand(total: _Sum, value: float | None, since: float, until: float) -> None:
    if value is not None and until > since:
        total.stood += until - since
        total.weighted += (until - since) * value


def _complaint(
    times: Sequence[float], answer: Answer, window: timedelta, at: datetime, uncovered: float, run: float
) -> tuple[Missing | None, str]:
    """Name what is wrong with the looks of a window, and from when on nothing will be."""
    if not times:
        return Missing.NO_SERIES, f"{answer.source} has not sampled it in its present life"
    age = at.timestamp() - times[-1]
    if age > JITTER * answer.spacing_s:
        return Missing.STALE, f"the newest sample is {age:.0f}s old"
    if uncovered:
        return Missing.LOW_COVERAGE, known_from(run, window, at)
    return None, ""


def known_from(since: float, window: timedelta, at: datetime) -> str:
    """Say when samples without a gap since then (Unix seconds; infinite: not even now) will cover the window."""
    if math.isinf(since):
        return f"known {format_duration(window)} after it is sampled again"
    # To the next full minute: what is promised for 13:05 is there at 13:05.
    then = datetime.fromtimestamp(math.ceil((since + window.total_seconds()) / 60) * 60, UTC)
    when = f"{then:%H:%M} UTC" if then - at < _DAY else f"{then:%Y-%m-%d %H:%M} UTC"
    return f"known from {when} on, when samples cover {format_duration(window)}"
