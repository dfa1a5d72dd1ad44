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
from ds01_policy.model import GpuRef, Missing, Reading
from ds01_policy.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from ds01_policy.model import Answer, Container, Sample
    from ds01_policy.signals import Signal

_LATE_START = 0.25  # of a spacing, and of the window: so much later it may begin for a counter of looks


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
    between has no answer. Single looks that samples taken all the time contradict have missed something: they prove
    nothing then, and the truth may also be anything that those samples leave open.
    """
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    parts = tuple(found)
    whole = next((reading for reading in found if reading.missing is None), None)
    main = whole or max(found, key=lambda reading: (reading.value is not None, reading.coverage))
    low, high = max(reading.low for reading in found), min(reading.high for reading in found)
    if low > high:
        heard = [reading for reading in found if reading.value is not None]
        said = ", ".join(f"{reading.source} {span_text(reading)}" for reading in heard)
        sides = tuple(str(reading.source) for reading in heard)
        low, high = high, low
        if any(reading.looks for reading in heard):
            low = min(low, *(reading.low for reading in heard if not reading.looks))
            high = max(high, *(reading.high for reading in heard if not reading.looks))
        detail = f"sources contradict each other: {said}"
        return replace(main, low=low, high=high, missing=Missing.CONFLICT, detail=detail, sides=sides, parts=parts)
    if whole is not None:
        return replace(main, low=low, high=high, parts=parts)
    details = (_said_by(reading) for reading in found if reading.detail)
    return replace(main, low=low, high=high, missing=found[0].missing, detail="; ".join(details), parts=parts)


def _said_by(reading: Reading) -> str:
    """Name the source of a complaint, where it does not name itself."""
    return reading.detail if reading.detail.startswith(f"{reading.source} ") else f"{reading.source}: {reading.detail}"


def span_text(reading: Reading) -> str:
    """Write what a reading says: `12%`, or `0% to 90%`."""
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
        remade = container.gpus.since.get(key) if isinstance(key, GpuRef) else None
        begin = max(born, remade.timestamp()) if remade is not None else born
        samples = samples[bisect_left(samples, (begin,)) :]
        if isinstance(key, GpuRef) and key.uuid in answer.frozen:
            reading = _frozen(signal, answer, key, window)
        else:
            reading = mean(signal, samples, answer, window, at)
        why = [answer.unsampled.get(key, ""), _remade(remade) if remade is not None and at - window < remade else ""]
        parts.append((key, _explained(reading, why)))
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
        looks=any(part.looks for _, part in parts),
        detail=f"{worst[0]}: {worst[1].detail}" if worst and len(parts) > 1 else (worst[1].detail if worst else ""),
    )


def _remade(since: datetime) -> str:
    return f"its GPU was re-partitioned, seen {since:%Y-%m-%d %H:%M} UTC: what was measured before is not its own"


def _explained(reading: Reading, why: Iterable[str]) -> Reading:
    """Say of a reading that lacks something what else is known about that."""
    if reading.missing is None:
        return reading
    return replace(reading, detail="; ".join(filter(None, (reading.detail, *why))))


def mean(signal: Signal, samples: Sequence[Sample], answer: Answer, window: timedelta, at: datetime) -> Reading:
    """Read one series of an answer over the window that ends at `at`, whoever's life it is about."""
    interval = _counter if signal.kind == "counter" else looked if answer.looks else _gauge
    return interval(signal, samples, answer, window, at)


def _frozen(signal: Signal, answer: Answer, key: GpuRef, window: timedelta) -> Reading:
    """Old values repeated say nothing about the present."""
    detail = answer.frozen[key.uuid]
    ceiling = _ceiling(signal)
    return Reading(signal.name, window, signal.unit, None, 0.0, ceiling, 0.0, answer.source, Missing.STALE, detail)


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
    series' may be; of a source that tells when it looked, no earlier than its last look. Such a source may also begin
    the window up to a quarter of a spacing late: a look that a timer makes is a moment too late for the next window,
    and the one before it, twice as far, would make a little background work look like twice as much.
    """
    end = at.timestamp()
    width = window.total_seconds()
    start = end - width
    samples = samples[: bisect_right(samples, (end, math.inf))]
    times = [time for time, _ in samples]
    before = bisect_right(times, start + (_LATE_START * min(answer.spacing_s, width) if answer.looks else 0.0)) - 1
    since_before, reset = _increase(samples[max(before, 0) :])
    inside, _ = _increase(samples[bisect_right(times, start) :])
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
