"""PURE: what was answered. Joins rows to GPUs and containers and turns them into samples in the signal's unit.

Owns joining, throwing away impossible values, merging several series of one thing, and learning how often a healthy
series is sampled. What samples prove is readings.py's.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from ds01_policy.model import GpuRef
from ds01_policy.observe.promql import AGO_LABEL, PART_LABEL, TIME, VALUE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ds01_policy.model import JoinKey, Sample
    from ds01_policy.observe.ports import Json
    from ds01_policy.signals import Frozen, Query, Signal

# A series' sample still stands where another series of the same thing was sampled up to so many spacings later.
STANDS_FOR = 1.5
_FEWEST_GAPS = 3  # two lonely samples must not teach that a sample lasts long
_LOW_QUANTILE = 0.1
_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")

Samples = tuple["Sample", ...]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What one query told."""

    series: Mapping[JoinKey, Samples] = field(default_factory=dict)
    rows: int = 0
    joined: int = 0  # rows that are about what was asked for
    dropped: int = 0  # impossible values
    spacing_s: float | None = None  # learnt from the densest series; None: too few samples to tell
    beside: Mapping[JoinKey, Samples] = field(default_factory=dict)  # instances of the same GPUs, not asked for


def gauge_samples(
    signal: Signal, query: Query, rows: Sequence[Json], keys: Collection[JoinKey], usual_s: float, longest_s: float
) -> Gathered:
    """Read the rows of a matrix of raw samples. Series of one key are merged to the busiest of them.

    `usual_s` is the spacing of a series too short to learn it from, `longest_s` the longest that is believed.
    """
    dropped = joined = 0
    learnt = learn_spacing([time for time, _ in row["values"]] for row in rows)
    found: dict[JoinKey, list[tuple[Samples, float]]] = {}
    parents = {key.uuid for key in keys if isinstance(key, GpuRef)} if query.devices == "instance" else set()
    for row in rows:
        key = key_of(signal, query, row["metric"])
        if key is None or not (key in keys or (isinstance(key, GpuRef) and key.uuid in parents)):
            continue
        joined += key in keys
        samples = [(float(time), _in_unit(signal, query, text)) for time, text in row["values"]]
        kept = tuple((time, value) for time, value in samples if value is not None)
        dropped += len(samples) - len(kept)
        # Learnt from all times: what was thrown away was sampled too, and fewer samples would seem to last longer.
        own = learn_spacing([[time for time, _ in samples]]) or learnt or usual_s
        found.setdefault(key, []).append((kept, min(own, longest_s)))
    merged = {key: merge(some) for key, some in found.items()}
    mine = {key: samples for key, samples in merged.items() if key in keys}
    beside = {key: samples for key, samples in merged.items() if key not in keys}
    return Gathered(mine, len(rows), joined, dropped, learnt, beside)


def counter_samples(signal: Signal, query: Query, rows: Sequence[Json], keys: Collection[JoinKey]) -> Gathered:
    """Read the rows of a counter's values and sample times at several instants.

    Rows of one key that differ in any other label (cgroup path, job) come from different counters.
    """
    dropped = joined = 0
    parts: dict[JoinKey, dict[frozenset[tuple[str, str]], dict[float, dict[str, float]]]] = {}
    for row in rows:
        labels = dict(row["metric"])
        part, ago = labels.pop(PART_LABEL, ""), _seconds(labels.pop(AGO_LABEL, ""))
        key = key_of(signal, query, labels)
        if key not in keys or key is None or ago is None:
            continue
        joined += 1
        text = row["value"][1]
        value = _in_unit(signal, query, text) if part == VALUE else _seconds(text)
        if value is None:
            dropped += 1
            continue
        parts.setdefault(key, {}).setdefault(frozenset(labels.items()), {}).setdefault(ago, {})[part] = value
    series = {
        key: merge_counters(
            [
                {ago: (both[TIME], both[VALUE]) for ago, both in counter.items() if both.keys() >= {TIME, VALUE}}
                for counter in counters.values()
            ]
        )
        for key, counters in parts.items()
    }
    return Gathered({key: samples for key, samples in series.items() if samples}, len(rows), joined, dropped)


def changes(frozen: Frozen, rows: Sequence[Json]) -> dict[str, dict[str, float]]:
    """Read how often each GPU's fields have changed: by UUID, by the window's seconds as the label says them."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        uuid, window = row["metric"].get(frozen.uuid_label, ""), row["metric"].get(AGO_LABEL, "")
        times = _seconds(row["value"][1])
        if uuid and times is not None:
            found.setdefault(uuid, {})[window] = times
    return found


def key_of(signal: Signal, query: Query, labels: Mapping[str, str]) -> JoinKey | None:
    """Tell which GPU or container a row is about; None: neither, or not of the kind this query answers for."""
    if signal.join == "container":
        # Only the last part of a cgroup path is the container's own; a cgroup inside it is counted there already.
        found = _ID.search(labels.get(query.id_label, "").rpartition("/")[2])
        return found[0] if found else None
    uuid, instance = labels.get(query.uuid_label, ""), labels.get(query.instance_label, "")
    if query.devices == "parent":  # rows of its instances repeat what the whole GPU says
        return GpuRef(uuid) if uuid else None
    if not uuid or (query.devices == "whole" and instance) or (query.devices == "instance" and not instance):
        return None
    if not instance:
        return GpuRef(uuid)
    return GpuRef(uuid, int(instance)) if instance.isascii() and instance.isdigit() and len(instance) < 10 else None  # noqa: PLR2004


def merge(series: Sequence[tuple[Samples, float]]) -> Samples:
    """Merge series of one thing (jobs on one GPU, a relabelled series, replicas) to the highest at each time.

    Each comes with its own spacing: a series that ended long ago says nothing about later times.
    """
    if len(series) == 1:
        return series[0][0]
    merged = []
    times = [[time for time, _ in samples] for samples, _ in series]
    for time in sorted({time for some in times for time in some}):
        latest = []
        for (samples, spacing), some in zip(series, times, strict=True):
            index = bisect_right(some, time) - 1
            if index >= 0 and time - some[index] <= STANDS_FOR * spacing:
                latest.append(samples[index][1])
        merged.append((time, max(latest)))
    return tuple(merged)


def merge_counters(counters: Sequence[Mapping[float, Sample]]) -> Samples:
    """Merge counters of one thing, each given by how long ago → sample, so that no increase up to now is understated.

    Two counters have different starting points (one exporter began later, one cgroup was moved), so neither their
    values nor the larger of them can be subtracted: where the one that was larger is gone, the difference would be too
    small. Each counter is compared with itself alone; at each instant the largest increase since counts, counted back
    from the newest value. A counter that is not there at both ends tells nothing about that stretch.

    Of several times the earliest is kept: it never makes the present look better covered, and at a window's start it
    shows whether something from before the container's present life is in the sum.
    """
    agos = sorted({ago for counter in counters for ago in counter})
    if not agos:
        return ()
    if len(counters) == 1:
        return tuple(sorted(dict(counters[0].values()).items()))  # two instants may show the same sample
    now = agos[0]
    current = [counter for counter in counters if now in counter]
    top = max(counter[now][1] for counter in current)
    points: dict[float, float] = {}
    for ago in reversed(agos):
        both = [counter for counter in current if ago in counter]
        if both:
            time = min(counter[ago][0] for counter in both)
            value = top - max(counter[now][1] - counter[ago][1] for counter in both)
            points[time] = min(value, points.get(time, value))
    return tuple(sorted(points.items()))


def learn_spacing(series: Iterable[Sequence[float]]) -> float | None:
    """Learn how many seconds lie between two samples of a healthy series; None: no series has enough to tell.

    A low quantile of the gaps of the densest series: holes do not teach that samples are rare.
    """
    densest: list[float] = []
    for times in series:
        gaps = [after - before for before, after in pairwise(times) if after > before]
        if len(gaps) > len(densest):
            densest = gaps
    if len(densest) < _FEWEST_GAPS:
        return None
    return sorted(densest)[int(_LOW_QUANTILE * (len(densest) - 1))]


def _in_unit(signal: Signal, query: Query, text: str) -> float | None:
    """Read a raw value and scale it; None: impossible (NaN, a sentinel, negative)."""
    raw = float(text)
    if not math.isfinite(raw) or not query.minimum <= raw <= query.maximum:
        return None
    value = raw * query.scale
    return value if signal.ceiling is None or signal.kind == "counter" else min(value, signal.ceiling)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
