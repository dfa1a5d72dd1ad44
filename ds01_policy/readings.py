"""From samples to intervals: what a signal's mean over a window can be, whatever the missing samples were.

Owns the arithmetic for gauges and counters, the same for every source. Pure; compares with no threshold.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from ds01_policy.looks import JITTER, known_from, looked
from ds01_policy.model import Missing, Reading
from ds01_policy.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from ds01_policy.model import Answer, Container, Sample
    from ds01_policy.signals import Signal


def read(signal: Signal, answers: Iterable[Answer], container: Container, window: timedelta, at: datetime) -> Reading:
    """Read one signal for one container over the window that ends at `at`, from all sources together."""
    blank = Reading(signal.name, window, signal.unit, None, 0.0, _ceiling(signal), 0.0, None, Missing.SOURCE_DOWN)
    if container.started_at is None or at - container.started_at < window:
        return replace(blank, missing=Missing.TOO_YOUNG, detail="not up for the whole window yet")
    if signal.join == "gpu" and (container.gpus.unclear or not container.gpus.refs):
        return replace(blank, missing=Missing.NOT_JOINED, detail=container.gpus.unclear or "holds no known GPU")
    return _together([_from_answer(signal, answer, container, window, at) for answer in answers]) or blank


def _together(found: Sequence[Reading]) -> Reading | None:
    """Make one reading of several sources': what one proves holds, unless another proves the contrary.

    Where their intervals meet, the truth lies in both. Where they don't, one source is wrong and nobody knows which:
    the truth may be anything from what the one proves to what the other does. So a question whose threshold lies
    between has no answer, and one on which both agree has.
    """
    if not found:
        return None
    whole = next((reading for reading in found if reading.missing is None), None)
    main = whole or max(found, key=lambda reading: (reading.value is not None, reading.coverage))
    low, high = max(reading.low for reading in found), min(reading.high for reading in found)
    if low > high:
        said = ", ".join(f"{reading.source} {_span(reading)}" for reading in found if reading.value is not None)
        detail = f"sources contradict each other: {said}"
        return replace(main, low=high, high=low, missing=Missing.CONFLICT, detail=detail)
    if whole is not None or len(found) == 1:
        return replace(main, low=low, high=high)
    details = (f"{reading.source}: {reading.detail}" for reading in found if reading.detail)
    return replace(main, low=low, high=high, missing=found[0].missing, detail="; ".join(details))


def _span(reading: Reading) -> str:
    low, high = (format_quantity(bound, reading.unit) for bound in (reading.low, reading.high))
    return low if low == high else f"{low} to {high}"


def _ceiling(signal: Signal) -> float:
    return math.inf if signal.ceiling is None else signal.ceiling


def _from_answer(signal: Signal, answer: Answer, container: Container, window: timedelta, at: datetime) -> Reading:
    """Combine the container's join keys by the busiest: it is idle only where all its GPUs are."""
    if answer.missing is not None:
        return Reading(
            signal.name,
            window,
            signal.unit,
            None,
            0.0,
            _ceiling(signal),
            0.0,
            answer.source,
            answer.missing,
            answer.detail,
        )
    born = container.started_at.timestamp() if container.started_at else math.inf
    parts = []
    for key in signal.keys(container):
        samples = answer.series.get(key, ())
        samples = samples[bisect_left(samples, (born,)) :]
        interval = _counter if signal.kind == "counter" else looked if answer.looks else _gauge
        parts.append((key, interval(signal, samples, answer, window, at)))
    worst = next((part for part in parts if part[1].missing is not None), None)
    values = [part.value for _, part in parts if part.value is not None]
    return Reading(
        signal.name,
        window,
        signal.unit,
        value=max(values, default=None),
        low=max(part.low for _, part in parts),
        high=max(part.high for _, part in parts),
        coverage=min(part.coverage for _, part in parts),
        source=answer.source,
        missing=worst[1].missing if worst else None,
        detail=f"{worst[0]}: {worst[1].detail}" if worst and len(parts) > 1 else (worst[1].detail if worst else ""),
    )


def _gauge(signal: Signal, samples: Sequence[Sample], answer: Answer, window: timedelta, at: datetime) -> Reading:
    """Weigh each sample by the time it stands for; uncovered time counts as 0 in `low`, as the ceiling in `high`.

    A gap of up to one and a half spacings is scrape jitter and held to be covered; in a longer one, and at the end of
    the window, a sample stands for one spacing only. So a deleted sample uncovers all that it stood for, and deleting
    never moves a bound inwards.
    """
    end = at.timestamp()
    width = window.total_seconds()
    start = end - width
    samples = samples[: bisect_right(samples, (end, math.inf))]
    covered = weighted = 0.0
    first = max(bisect_right(samples, (start, math.inf)) - 1, 0)  # the one before still stands when the window begins
    for index, (time, value) in enumerate(samples[first:], first):
        following = samples[index + 1][0] if index + 1 < len(samples) else math.inf
        until = following if following - time <= JITTER * answer.spacing_s else time + answer.spacing_s
        share = min(until, end) - max(time, start)
        if share > 0:
            covered += share
            weighted += share * value
    covered = min(covered, width)
    ceiling = _ceiling(signal)
    low = weighted / width
    uncovered = width - covered
    high = low if uncovered <= 0 else low + ceiling * uncovered / width
    missing, detail = _complaint([time for time, _ in samples], start, end, answer, covered / width)
    return Reading(
        signal.name, window, signal.unit,
        value=weighted / covered if covered > 0 else None, low=low, high=min(high, ceiling),
        coverage=covered / width, source=answer.source, missing=missing, detail=detail,
    )  # fmt: skip


def _counter(signal: Signal, samples: Sequence[Sample], answer: Answer, window: timedelta, at: datetime) -> Reading:
    """Take the increase between first and last sample as exact; an uncovered end of the window widens to infinity.

    The window's start is covered by the last sample before it: the increase since then bounds the window's from
    above, however long before it lies. The end is covered as long as the newest sample is no later than a healthy
    series' may be; of a source that tells when it looked, no earlier than its last look.
    """
    end = at.timestamp()
    width = window.total_seconds()
    start = end - width
    samples = samples[: bisect_right(samples, (end, math.inf))]
    times = [time for time, _ in samples]
    before = bisect_right(times, start) - 1
    since_before, reset = _increase(samples[max(before, 0) :])
    inside, _ = _increase(samples[before + 1 :])
    span = times[-1] - times[max(before, 0)] if times else 0.0
    last_look = max((look for look in answer.looks if look <= end), default=start)
    late = min(max(JITTER * answer.spacing_s, answer.lag_s), max(end - last_look, 0.0) if answer.looks else math.inf)
    whole = before >= 0 and span > 0 and end - times[-1] <= late and not reset
    covered = (times[-1] - max(times[max(before, 0)], start)) / width if times else 0.0
    value = since_before / span if span > 0 else None
    missing, detail = _complaint(times, start, end, answer, 1.0 if whole else covered)
    if reset:
        missing, detail = Missing.CONFLICT, "the counter went backwards inside the window"
    elif answer.looks and missing is Missing.LOW_COVERAGE:
        if times[-1] < last_look:
            missing, detail = Missing.STALE, "it could not be sampled just now"
        else:
            detail = known_from(times[0], window, at)
    ceiling = _ceiling(signal)
    return Reading(
        signal.name, window, signal.unit, value=value, low=inside / width,
        high=min(max(since_before / width, value or 0.0), ceiling) if whole else ceiling,
        coverage=1.0 if whole else min(max(covered, 0.0), 1.0), source=answer.source, missing=missing, detail=detail,
    )  # fmt: skip


def _increase(samples: Sequence[Sample]) -> tuple[float, bool]:
    """Sum what a counter grew, and say whether it ever went backwards (then growth before the reset is lost)."""
    total, reset = 0.0, False
    for (_, old), (_, new) in pairwise(samples):
        if new >= old:
            total += new - old
        else:
            total += new
            reset = True
    return total, reset


def _complaint(
    times: Sequence[float], start: float, end: float, answer: Answer, coverage: float
) -> tuple[Missing | None, str]:
    """Name what is wrong with the samples of a window, in words."""
    if not times:
        return Missing.NO_SERIES, f"{answer.source} has no series for it in its present life"
    age = end - times[-1]
    if age > max(JITTER * answer.spacing_s, answer.lag_s):
        return Missing.STALE, f"the newest sample is {age:.0f}s old"
    if coverage < 1.0:
        inside = sum(1 for time in times if time >= start)
        return Missing.LOW_COVERAGE, f"{inside} samples account for {coverage:.1%} of the window"
    return None, ""
