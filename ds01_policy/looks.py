"""PURE: what single looks, far apart, tell about the time between them.

Owns the arithmetic for a gauge that this host samples itself, once a tick, and the words for when it will be known.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
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
_FEWEST_GAPS = 3  # two lonely looks teach nothing about how often is looked
_LATELY = 6  # gaps
_USUALLY = 0.75  # of the gaps are no longer


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
    # From the last look before the window on: what came earlier touches nothing in it.
    looks = answer.looks[max(bisect_right(answer.looks, start) - 1, 0) : bisect_right(answer.looks, end)]
    first = bisect_left(samples, (min(looks[0] if looks else start, start),))
    known = dict(samples[first : bisect_right(samples, (end, math.inf))])
    times = sorted({*known, *looks})
    total = _Sum()
    run = math.inf  # where the covered stretch that lasts until now began
    reach = answer.spacing_s / 2
    longest = JITTER * answer.spacing_s
    for before, after in zip([-math.inf, *times], [*times, math.inf], strict=True):
        half = min((after - before) / 2, reach)
        old, new = known.get(before), known.get(after)
        _stand(total, old, max(before, start), min(before + half, end))
        _stand(total, new, max(after - half, start), min(after, end))
        if old is not None and new is not None and after - before <= longest:
            run = min(run, before)
            share = max(min(after, end) - max(before, start), 0.0)
            total.covered += share
            total.highest += share * max(old, new)
        elif after <= end:
            run = math.inf if new is None else after
    uncovered = width - total.covered
    if uncovered <= _DUST * width:
        uncovered = 0.0
    ceiling = math.inf if signal.ceiling is None else signal.ceiling
    high = (total.highest + (ceiling * uncovered if uncovered else 0.0)) / width
    missing, detail = _complaint(samples, answer, window, at, run) if uncovered else (None, "")
    low = total.weighted / width
    return Reading(
        signal.name, window, signal.unit,
        value=total.weighted / total.stood if total.stood > 0 else None, low=low, high=min(max(low, high), ceiling),
        coverage=1 - uncovered / width, source=answer.source, missing=missing, detail=detail, looks=True,
    )  # fmt: skip


def _stand(total: _Sum, value: float | None, since: float, until: float) -> None:
    if value is not None and until > since:
        total.stood += until - since
        total.weighted += (until - since) * value


def _complaint(
    samples: Sequence[Sample], answer: Answer, window: timedelta, at: datetime, run: float
) -> tuple[Missing, str]:
    """Name what is wrong with the looks of a window, and from when on nothing will be."""
    times = [time for time, _ in samples if time <= at.timestamp()]
    if not times:
        return Missing.NO_SERIES, f"{answer.source} has not sampled it in its present life"
    age = at.timestamp() - times[-1]
    if age > JITTER * answer.spacing_s:
        return Missing.STALE, f"the newest sample is {age:.0f}s old"
    often = format_duration(timedelta(seconds=round(answer.spacing_s)))
    alone = run == times[-1] and len(times) > 1 and times[-1] - times[-2] > JITTER * answer.spacing_s
    return Missing.LOW_COVERAGE, known_from(run, window, at) + (f", one every {often}" if alone else "")


def usual_gap_s(looks: Sequence[float]) -> float | None:
    """Tell how many seconds usually lay between the last looks that were kept, ascending; None: too few to tell."""
    gaps = sorted(after - before for before, after in pairwise(looks[-_LATELY - 1 :]))
    return gaps[len(gaps) // 2] if len(gaps) >= _FEWEST_GAPS else None


def spacing_of(looks: Sequence[float], setting_s: float, awake_s: float) -> float:
    """Settle how long a look may stand for the time beside it: as settings.yaml says, unless looks come more often.

    A setting far beyond what is really done would let two looks an hour apart vouch for that hour. Not the shortest
    gaps teach it: somebody who looks ten times in a row takes nothing away from what is known. Within `awake`, which is
    judged by itself, the setting is believed.
    """
    gaps = sorted(after - before for before, after in pairwise(looks[:-1]))  # this look may come at any time
    if len(gaps) < _FEWEST_GAPS:
        return setting_s
    return min(setting_s, max(gaps[int(_USUALLY * (len(gaps) - 1))], awake_s))


def known_from(since: float, window: timedelta, at: datetime) -> str:
    """Say when samples without a gap since then (Unix seconds; infinite: not even now) will cover the window."""
    if math.isinf(since):
        return f"known {format_duration(window)} after it is sampled again"
    # To the next full minute: what is promised for 13:05 is there at 13:05.
    then = datetime.fromtimestamp(math.ceil((since + window.total_seconds()) / 60) * 60, UTC)
    when = f"{then:%H:%M} UTC" if then - at < _DAY else f"{then:%Y-%m-%d %H:%M} UTC"
    return f"known from {when} on, when samples cover {format_duration(window)}"
