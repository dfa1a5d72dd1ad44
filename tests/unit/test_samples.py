"""From rows to samples: joining, impossible values, several series of one thing, and the spacing that data teach."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.config.load import load
from ds01_policy.model import GpuRef, JoinKey, Sample
from ds01_policy.observe.promql import AGO_LABEL, PART_LABEL, TIME, VALUE
from ds01_policy.observe.samples import counter_samples, gauge_samples, key_of, learn_spacing, merge, merge_counters
from ds01_policy.signals import Query, Signal
from ds01_policy.units import Unit

TRAIN, OTHER = "a1" * 32, "b2" * 32
A, B = GpuRef("GPU-a"), GpuRef("GPU-b")
PERCENT = Query("x", devices="whole", scale=0.01, maximum=100)
PARENT = Query("x", devices="parent")
RATIO = Query("x", devices="instance", maximum=1.5)
GPU = Signal("gpu", "gpu", Unit.RATIO, "gauge", "gpu", (PERCENT, RATIO), ceiling=1.0)
TOTAL = Query("x", time="t")
CPU = Signal("cpu", "cpu", Unit.CORES, "counter", "container", (TOTAL,))


WHERE: dict[str, tuple[Signal, Query, dict[str, str], JoinKey | None]] = {
    "a whole GPU": (GPU, PERCENT, {"UUID": "GPU-a"}, A),
    "a whole GPU, with the instance left empty": (GPU, PERCENT, {"UUID": "GPU-a", "GPU_I_ID": ""}, A),
    "an instance, where whole GPUs were asked for": (GPU, PERCENT, {"UUID": "GPU-a", "GPU_I_ID": "7"}, None),
    "an instance": (GPU, RATIO, {"UUID": "GPU-a", "GPU_I_ID": "7"}, GpuRef("GPU-a", 7)),
    "a whole GPU, where instances were asked for": (GPU, RATIO, {"UUID": "GPU-a"}, None),
    "a whole GPU, for its instances": (GPU, PARENT, {"UUID": "GPU-a"}, A),
    "an instance that repeats what its GPU says": (GPU, PARENT, {"UUID": "GPU-a", "GPU_I_ID": "7"}, A),
    "neither": (GPU, PARENT, {"GPU_I_ID": "7"}, None),
    "an instance without a number": (GPU, RATIO, {"UUID": "GPU-a", "GPU_I_ID": "<<<NULL>>>"}, None),
    "an instance with another script's digit": (GPU, RATIO, {"UUID": "GPU-a", "GPU_I_ID": "٧"}, None),
    "an instance with an endless number": (GPU, RATIO, {"UUID": "GPU-a", "GPU_I_ID": "9" * 5000}, None),
    "the old label of the UUID": (GPU, PERCENT, {"uuid": "GPU-a"}, None),
    "a label of one's own": (GPU, Query("x", uuid_label="gpu_uuid"), {"gpu_uuid": "GPU-a"}, A),
    "cgroupfs": (CPU, TOTAL, {"id": f"/docker/{TRAIN}"}, TRAIN),
    "systemd": (CPU, TOTAL, {"id": f"/system.slice/docker-{TRAIN}.scope"}, TRAIN),
    "a daemon inside a container": (CPU, TOTAL, {"id": f"/docker/{OTHER}/docker/{TRAIN}"}, TRAIN),
    "a service inside a container": (CPU, TOTAL, {"id": f"/docker/{TRAIN}/system.slice/ssh.service"}, None),
    "a roll-up": (CPU, TOTAL, {"id": "/docker"}, None),
    "more hex than an id has": (CPU, TOTAL, {"id": f"/docker/{TRAIN}0"}, None),
    "a name in place of the id": (CPU, TOTAL, {"name": "train"}, None),
}


@pytest.mark.parametrize(("signal", "query", "labels", "key"), WHERE.values(), ids=WHERE)
def test_rows_join_on_what_cannot_be_forged_or_renamed(
    signal: Signal, query: Query, labels: dict[str, str], key: JoinKey | None
) -> None:
    """GPUs join on parent and instance, containers on the full id in the last part of the cgroup path."""
    assert key_of(signal, query, labels) == key


# ── gauges ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def row(values: list[tuple[float, str]], uuid: str = "GPU-a", **labels: str) -> dict[str, Any]:
    return {"metric": {"UUID": uuid, **labels}, "values": [list(value) for value in values]}


def steady(values: str, every: float = 30, start: float = 0) -> list[tuple[float, str]]:
    return [(start + number * every, value) for number, value in enumerate(values.split())]


def test_gauges_come_scaled_and_clamped_to_their_ceiling() -> None:
    """Percent become ratios; a ratio of a little over 1 is flat out."""
    found = gauge_samples(GPU, PERCENT, [row(steady("0 5 100"))], {A}, 30, 75)
    assert found.series == {A: ((0.0, 0.0), (30.0, 0.05), (60.0, 1.0))}
    found = gauge_samples(GPU, RATIO, [row([(0, "1.3")], GPU_I_ID="1")], {GpuRef("GPU-a", 1)}, 30, 75)
    assert found.series == {GpuRef("GPU-a", 1): ((0.0, 1.0),)}


@pytest.mark.parametrize(
    "value", ["NaN", "+Inf", "-Inf", "-1", "101", "9223372036854775794", "140737488355328", "2147483632"]
)
def test_impossible_values_are_dropped_and_counted(value: str) -> None:
    """Sentinels and NaN are holes, neither busy nor idle."""
    found = gauge_samples(GPU, PERCENT, [row(steady(f"0 {value} 0 0 0"))], {A}, 30, 75)
    assert ([time for time, _ in found.series[A]], found.dropped) == ([0, 60, 90, 120], 1)


def test_impossible_values_do_not_teach_a_longer_spacing() -> None:
    """Every other sample NaN: the rest is half of what there should be, not all of it at twice the distance."""
    found = gauge_samples(GPU, PERCENT, [row(steady("0 NaN " * 20))], {A}, 30, 75)
    assert found.spacing_s == 30


def test_rows_nobody_asked_about_are_left_out_and_counted() -> None:
    """The counts tell an empty answer from one that joins nothing."""
    found = gauge_samples(GPU, PERCENT, [row(steady("0"), "GPU-c"), row(steady("0"))], {A, B}, 30, 75)
    assert (set(found.series), found.rows, found.joined) == ({A}, 2, 1)


MERGED: dict[str, tuple[list[tuple[list[Sample], float]], list[Sample]]] = {
    "one series stays as it is": ([([(0, 0.1), (30, 0.2)], 30)], [(0, 0.1), (30, 0.2)]),
    "the busier of two jobs counts": (
        [([(0, 0.1), (30, 0.9)], 30), ([(0, 0.5), (30, 0.0)], 30)],
        [(0, 0.5), (30, 0.9)],
    ),
    "replicas out of step": (
        [([(0, 0.0), (30, 0.9), (60, 0.0)], 30), ([(15, 0.0), (45, 0.0)], 30)],
        [(0, 0.0), (15, 0.0), (30, 0.9), (45, 0.9), (60, 0.0)],
    ),
    "a series that ended fades": (
        [([(0, 0.9)], 30), ([(30, 0.0), (60, 0.0), (90, 0.0)], 30)],
        [(0, 0.9), (30, 0.9), (60, 0.0), (90, 0.0)],
    ),
    "each fades by its own spacing": (
        [([(0, 0.9)], 60), ([(30, 0.0), (60, 0.0), (90, 0.0), (120, 0.0)], 30)],
        [(0, 0.9), (30, 0.9), (60, 0.9), (90, 0.9), (120, 0.0)],
    ),
    "one that came later says nothing of before": (
        [([(0, 0.0), (30, 0.0)], 30), ([(30, 0.9)], 30)],
        [(0, 0.0), (30, 0.9)],
    ),
    "one without a sample": ([([], 30), ([(0, 0.2)], 30)], [(0, 0.2)]),
}


@pytest.mark.parametrize(("series", "merged"), MERGED.values(), ids=MERGED)
def test_several_series_of_one_gpu_merge_to_the_busiest(
    series: list[tuple[list[Sample], float]], merged: list[Sample]
) -> None:
    """At each time of any of them, the highest of what each last said counts."""
    assert list(merge([(tuple(samples), spacing) for samples, spacing in series])) == merged


def test_a_relabelled_series_covers_the_whole_window() -> None:
    """A driver update changes a label: the old and the new series are one history of one GPU."""
    rows = [row(steady("90 90 90 90"), driver="550"), row(steady("0 0 0 0", start=120), driver="560")]
    found = gauge_samples(GPU, PERCENT, rows, {A}, 30, 75)
    assert found.series[A] == (
        (0, 0.9), (30, 0.9), (60, 0.9), (90, 0.9),
        (120, 0.9), (150, 0.0), (180, 0.0), (210, 0.0),
    )  # fmt: skip


LASTING: dict[str, tuple[str, float, list[float]]] = {
    "one and a half of its own spacings": ("0 0 0 0 90", 30, [120, 150]),
    "no longer for having been NaN": ("0 NaN NaN NaN 0 NaN NaN NaN 0 NaN NaN NaN 90", 30, [360, 390]),
    "no longer than is believed of any": ("0 0 0 0 90", 600, [2400, 2430, 2460, 2490]),
}


@pytest.mark.parametrize(("values", "every", "busy"), LASTING.values(), ids=LASTING)
def test_beside_a_quiet_replica_the_last_busy_sample_stands(values: str, every: float, busy: list[float]) -> None:
    """A series that ended fades by its own spacing, learnt from all its samples."""
    quiet = row([(time, "0") for time in range(0, 4000, 30)], job="quiet")
    found = gauge_samples(GPU, PERCENT, [row(steady(values, every)), quiet], {A}, usual_s=30, longest_s=75)
    assert [time for time, value in found.series[A] if value > 0] == busy


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(0, 50), st.sampled_from([0.0, 0.5, 1.0]), max_size=15), st.integers(0, 20)
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None)
def test_merging_never_hides_a_busy_sample(series: list[tuple[dict[int, float], int]]) -> None:
    """Each sample of each series is in the merged one at its time, or a higher one is; times ascend."""
    merged = merge([(tuple(sorted(samples.items())), spacing) for samples, spacing in series])
    values = dict(merged)
    assert list(values) == sorted({time for samples, _ in series for time in samples})
    assert all(values[time] >= value for samples, _ in series for time, value in samples.items())


SPACINGS: dict[str, tuple[list[list[float]], float | None]] = {
    "no series": ([], None),
    "two lonely samples": ([[0, 1800]], None),
    "three": ([[0, 900, 1800]], None),
    "four are enough": ([[0, 30, 60, 90]], 30),
    "the densest series teaches": ([[0, 120, 240, 360], [number * 15 for number in range(100)]], 15),
    "holes do not": ([[0, 30, 60, 90, 120, 600, 630, 1800, 1830]], 30),
    "most samples missing": ([[*range(0, 300, 30), *range(300, 3600, 300)]], 30),
    "jitter": ([[0, 29.9, 60.1, 90, 119.8, 150.2, 180, 210, 240, 270, 300.3, 330]], 29.8),
    "the same time twice": ([[0, 0, 30, 30, 60, 60, 90]], 30),
}


@pytest.mark.parametrize(("series", "spacing"), SPACINGS.values(), ids=SPACINGS)
def test_spacing_is_learnt_from_the_densest_series(series: list[list[float]], spacing: float | None) -> None:
    """What is rare by failure does not teach that samples are rare."""
    learnt = learn_spacing(series)
    assert learnt == (None if spacing is None else pytest.approx(spacing))


# ── counters ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def counted(ago: float, part: str, value: str, path: str = f"/docker/{TRAIN}", **labels: str) -> dict[str, Any]:
    metric = {"id": path, "ds01_ago": f"{ago:g}", "ds01_part": part, **labels}
    return {"metric": metric, "value": [10_000, value]}


def both(ago: float, time: float, value: float, path: str = f"/docker/{TRAIN}", **labels: str) -> list[dict[str, Any]]:
    return [counted(ago, "time", str(time), path, **labels), counted(ago, "value", str(value), path, **labels)]


def test_counters_come_as_values_at_their_own_sample_times() -> None:
    """Not at the instants that were asked about: a lookback may reach minutes further."""
    rows = [*both(0, 9_990, 130), *both(300, 9_690, 128), *both(3600, 6_370, 100)]
    found = counter_samples(CPU, TOTAL, rows, {TRAIN, OTHER})
    assert found.series == {TRAIN: ((6_370, 100), (9_690, 128), (9_990, 130))}
    assert (found.rows, found.joined, found.dropped) == (6, 6, 0)


BROKEN: dict[str, tuple[list[dict[str, Any]], list[Sample], int]] = {
    "a value without its time": ([counted(0, "value", "9"), *both(60, 9_900, 5)], [(9_900, 5)], 0),
    "a time without its value": ([counted(0, "time", "9990"), *both(60, 9_900, 5)], [(9_900, 5)], 0),
    "NaN": ([*both(60, 9_900, 5), counted(0, "time", "9990"), counted(0, "value", "NaN")], [(9_900, 5)], 1),
    "infinity": ([*both(60, 9_900, 5), counted(0, "time", "9990"), counted(0, "value", "+Inf")], [(9_900, 5)], 1),
    "a negative counter": ([*both(60, 9_900, 5), *both(0, 9_990, -1)], [(9_900, 5)], 1),
    "a time that is none": (
        [counted(0, "time", "NaN"), counted(0, "value", "1"), *both(60, 9_900, 5)],
        [(9_900, 5)],
        1,
    ),
    "an instant nobody named": ([counted(0, "value", "1", ds01_ago="soon"), *both(60, 9_900, 5)], [(9_900, 5)], 0),
    "one sample for two instants": ([*both(0, 9_900, 5), *both(60, 9_900, 5)], [(9_900, 5)], 0),
    "nothing now": ([*both(300, 9_690, 4), *both(3600, 6_390, 1)], [(6_390, 1), (9_690, 4)], 0),
}


@pytest.mark.parametrize(("rows", "samples", "dropped"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_a_point_is_left_out(rows: list[dict[str, Any]], samples: list[Sample], dropped: int) -> None:
    """A value needs its time; impossible ones are counted."""
    found = counter_samples(CPU, TOTAL, rows, {TRAIN})
    assert (list(found.series[TRAIN]), found.dropped) == (samples, dropped)


def test_of_nothing_but_halves_there_is_no_series() -> None:
    """An empty series would look like a container that was never seen."""
    assert counter_samples(CPU, TOTAL, [counted(0, "value", "9")], {TRAIN}).series == {}


COUNTERS: dict[str, tuple[list[dict[float, Sample]], list[Sample]]] = {
    "two collectors that agree": (
        [{0: (100, 50), 60: (40, 20)}, {0: (100, 50), 60: (40, 20)}],
        [(40, 20), (100, 50)],
    ),
    "one began to count later": (
        [{0: (100, 1050), 60: (40, 1020)}, {0: (100, 50), 60: (40, 10)}],
        [(40, 1010), (100, 1050)],
    ),
    "the larger one is gone: 30 of the other, not 1050 - 1000": (
        [{60: (40, 1000)}, {0: (100, 1050), 60: (40, 1020)}],
        [(40, 1020), (100, 1050)],
    ),
    "one is gone and the other too young: nothing is known": ([{60: (40, 1000)}, {0: (100, 1050)}], [(100, 1050)]),
    "one of them went backwards": (
        [{0: (100, 5), 60: (40, 1000)}, {0: (100, 50), 60: (40, 20)}],
        [(40, 20), (100, 50)],
    ),
    "the earliest time stands": ([{0: (100, 5), 60: (30, 1)}, {0: (90, 5), 60: (40, 1)}], [(30, 1), (90, 5)]),
    "one time for two instants: the larger increase": (
        [{0: (200, 50), 60: (40, 30), 90: (40, 30)}, {0: (200, 50), 60: (140, 20), 90: (110, 5)}],
        [(40, 5), (200, 50)],
    ),
    "neither is there now": ([{60: (40, 7), 90: (10, 5)}, {90: (10, 9)}], [(10, 5), (40, 7)]),
    "none": ([], []),
}


@pytest.mark.parametrize(("counters", "samples"), COUNTERS.values(), ids=COUNTERS)
def test_counters_are_compared_with_themselves_alone(
    counters: list[dict[float, Sample]], samples: list[Sample]
) -> None:
    """Counters of one container start from different points: the larger increase counts, not the larger value."""
    assert list(merge_counters(counters)) == samples


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([0.0, 60.0, 300.0, 3600.0]), st.tuples(st.integers(0, 60), st.integers(0, 1000)), min_size=1
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None)
def test_merging_never_understates_an_increase(drawn: list[dict[float, tuple[int, int]]]) -> None:
    """What any one counter grew since an instant, the merged one grew at least."""
    counters: list[dict[float, Sample]] = []
    for one in drawn:
        values = sorted(value for _, value in one.values())  # a counter only grows
        counters.append(
            {
                ago: (4000 - ago - one[ago][0], float(value))
                for ago, value in zip(sorted(one, reverse=True), values, strict=True)
            }
        )
    merged = dict(merge_counters(counters))
    now = min(ago for counter in counters for ago in counter)
    last_time = max(merged)
    for counter in counters:
        for ago, (time, value) in counter.items():
            if now in counter and ago != now:
                upto = [grown for when, grown in merged.items() if when <= time]
                assert upto
                assert merged[last_time] - min(upto) >= counter[now][1] - value or min(merged) == last_time


SHIPPED = load(None, unix_group=lambda _: None).signals
QUERIES = [(signal, query) for signal in SHIPPED.values() for query in signal.queries]


@pytest.mark.parametrize("raw", ["NaN", "+Inf", "9.223372036854776e18", "-1", "140737488355328"])
@pytest.mark.parametrize(("signal", "query"), QUERIES, ids=[f"{one.name} {query.devices}" for one, query in QUERIES])
def test_the_marks_for_no_value_are_no_values_of_any_shipped_metric(signal: Signal, query: Query, raw: str) -> None:
    """Gauges, counters and witnesses drop and count them; only so many bytes may really have been sent."""
    key = TRAIN if signal.join == "container" else GpuRef("GPU-a", 7 if query.devices == "instance" else None)
    labels = {"id": f"/docker/{TRAIN}", "UUID": "GPU-a"} | ({"GPU_I_ID": "7"} if query.devices == "instance" else {})
    if signal.kind == "gauge":
        rows: list[Any] = [{"metric": labels, "values": [[1000, raw], [1030, raw]]}]
        found = gauge_samples(signal, query, rows, {key}, 30, 75)
        known = found.series[key]
    else:
        rows = [
            {"metric": labels | {AGO_LABEL: ago, PART_LABEL: part}, "value": [0, raw if part == VALUE else when]}
            for ago, when in (("0", "1030"), ("30", "1000"))
            for part in (VALUE, TIME)
        ]
        found = counter_samples(signal, query, rows, {key})
        known = found.series.get(key, ())
    possible = signal.name == "network_io" and raw == "140737488355328"
    assert (len(known), found.dropped) == ((2, 0) if possible else (0, 2))
