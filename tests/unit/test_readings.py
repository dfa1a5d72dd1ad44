"""Intervals: the mean over a window lies in [low, high] whatever the missing samples were."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.model import Answer, Container, GpuClaim, GpuRef, JoinKey, Missing, Reading, Sample, State
from ds01_policy.readings import read
from ds01_policy.signals import Query, Signal
from ds01_policy.units import Unit

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
END = NOW.timestamp()
HOUR = timedelta(hours=1)
GPU = GpuRef("GPU-a")
BOX = Container(
    "a" * 64, "box", "img", State.RUNNING, NOW - 9 * HOUR, NOW - 3 * HOUR, gpus=GpuClaim(wants=True, refs=(GPU,))
)
GAUGE = Signal("gpu", "gpu", Unit.RATIO, "gauge", "gpu", (Query("q"),), ceiling=1.0)
COUNTER = Signal("cpu", "cpu", Unit.CORES, "counter", "container", (Query("q"),), lag_s=90)


def gauge(*samples: Sample, spacing: float = 30, window: timedelta = HOUR) -> Reading:
    return read(GAUGE, [Answer("prometheus", {GPU: samples}, spacing)], BOX, window, NOW)


def counter(*samples: Sample, window: timedelta = HOUR) -> Reading:
    return read(COUNTER, [Answer("prometheus", {BOX.id: samples}, 30, lag_s=90)], BOX, window, NOW)


def every(seconds: float, value: float, start: float, stop: float = 0) -> list[Sample]:
    """Sample from `start` seconds ago to `stop` seconds ago."""
    count = int((start - stop) / seconds) + 1
    return [(END - start + step * seconds, value) for step in range(count)]


def test_a_whole_window_is_a_point() -> None:
    """Nothing missing, nothing to widen."""
    reading = gauge(*every(30, 0.25, 3630))
    assert (reading.value, reading.low, reading.high, reading.coverage) == pytest.approx((0.25, 0.25, 0.25, 1.0))
    assert reading.missing is None


@pytest.mark.parametrize(
    ("samples", "low", "high", "coverage", "missing"),
    [
        pytest.param([], 0, 1, 0, Missing.NO_SERIES, id="no sample at all could be anything"),
        pytest.param([(END - 10, 0.0)], 0, 1 - 10 / 3600, 10 / 3600, Missing.LOW_COVERAGE, id="a lone zero"),
        pytest.param(
            every(30, 0, 3600, 1200), 0, 1170 / 3600, 2430 / 3600, Missing.STALE, id="hung twenty minutes ago"
        ),
        pytest.param(
            every(30, 1, 3600, 1200), 2430 / 3600, 1, 2430 / 3600, Missing.STALE, id="busy, then hung: busy it was"
        ),
        pytest.param(every(30, 0, 1800), 0, 0.5, 0.5, Missing.LOW_COVERAGE, id="a series that began half an hour ago"),
    ],
)
def test_missing_time_is_idle_in_low_and_flat_out_in_high(
    samples: list[Sample], low: float, high: float, coverage: float, missing: Missing
) -> None:
    """Uncovered time counts as 0 below and as the ceiling above."""
    reading = gauge(*samples)
    assert (reading.low, reading.high, reading.coverage) == pytest.approx((low, high, coverage))
    assert reading.missing is missing


def test_what_came_before_this_life_is_not_read() -> None:
    """The GPU's last tenant worked until a second before this container started."""
    reading = gauge(*every(30, 1, 20000, 10801), *every(30, 0, 10799), window=3 * HOUR)
    assert reading.value == 0


def test_a_life_shorter_than_the_window_has_no_reading() -> None:
    """A window must lie inside the present life."""
    assert gauge(*every(30, 0, 20000), window=4 * HOUR).missing is Missing.TOO_YOUNG


def test_a_counter_is_exact_between_its_ends_however_few_samples() -> None:
    """Two samples tell the hour's CPU time to the millisecond."""
    reading = counter((END - 3610, 100.0), (END - 20, 136.0))
    assert reading.high == pytest.approx(36 / 3590)
    assert reading.low == 0, "the only sample inside the window shows no increase of its own"
    assert reading.missing is None


@pytest.mark.parametrize(
    ("samples", "missing"),
    [
        pytest.param([(END - 3610, 0), (END - 200, 0)], Missing.STALE, id="its end is uncovered"),
        pytest.param([(END - 3500, 0), (END - 10, 0)], Missing.LOW_COVERAGE, id="its start is uncovered"),
        pytest.param([(END - 10, 0)], Missing.LOW_COVERAGE, id="one sample has no increase"),
        pytest.param([(END - 3610, 50), (END - 900, 3), (END - 10, 60)], Missing.CONFLICT, id="it went backwards"),
        pytest.param([], Missing.NO_SERIES, id="it has none"),
    ],
)
def test_a_counter_with_an_uncovered_end_is_unbounded(samples: list[Sample], missing: Missing) -> None:
    """No ceiling: what nobody saw could have been anything."""
    reading = counter(*samples)
    assert math.isinf(reading.high)
    assert reading.missing is missing


def test_the_busiest_gpu_speaks_for_all() -> None:
    """One of four computes: the container is at work, and one that is silent leaves room for anything."""
    refs = tuple(GpuRef(f"GPU-{name}") for name in "abcd")
    box = Container(
        "b" * 64, "box", "img", State.RUNNING, BOX.created_at, BOX.started_at, gpus=GpuClaim(wants=True, refs=refs)
    )
    series: dict[JoinKey, tuple[Sample, ...]] = {
        ref: tuple(every(30, 0.9 if ref.uuid == "GPU-c" else 0, 3630)) for ref in refs
    }
    whole = read(GAUGE, [Answer("prometheus", series, 30)], box, HOUR, NOW)
    assert whole.value == pytest.approx(0.9)
    del series[refs[3]]
    gap = read(GAUGE, [Answer("prometheus", series, 30)], box, HOUR, NOW)
    assert gap.low == pytest.approx(0.9)
    assert gap.high == 1.0
    assert gap.missing is Missing.NO_SERIES


@settings(max_examples=100)
@given(st.lists(st.sampled_from([0.0, 0.04, 0.5, 1.0]), min_size=121, max_size=121), st.data())
def test_deleting_samples_of_a_gauge_only_widens(values: list[float], data: st.DataObject) -> None:
    """Whatever is deleted, the new interval contains the old one."""
    samples = [(END - 3600 + 30 * step, value) for step, value in enumerate(values)]
    kept = [sample for sample in samples if data.draw(st.booleans())]
    before, after = gauge(*samples), gauge(*kept)
    assert after.low <= before.low + 1e-12
    assert after.high >= before.high - 1e-12
    assert after.coverage <= before.coverage + 1e-12


@settings(max_examples=100)
@given(st.lists(st.sampled_from([0.0, 0.1, 30.0]), min_size=130, max_size=130), st.data())
def test_deleting_samples_of_a_counter_only_widens(growth: list[float], data: st.DataObject) -> None:
    """As for gauges, but for the newest samples: a healthy series may be that late."""
    total, samples = 0.0, []
    for step, more in enumerate(growth):
        total += more
        samples.append((END - 3870 + 30 * step, total))
    newest = [sample for sample in samples if END - sample[0] <= 90]
    kept = [sample for sample in samples if sample not in newest and data.draw(st.booleans())]
    before, after = counter(*samples), counter(*kept, *newest)
    assert after.low <= before.low + 1e-12
    assert after.high >= before.high - 1e-12


def test_the_first_source_whose_data_is_whole_answers() -> None:
    """A source that is down, or has holes, gives way to one that has none; else the first with data speaks."""
    down = Answer("prometheus", missing=Missing.SOURCE_DOWN)
    holes = Answer("prometheus", {GPU: tuple(every(30, 0, 1800))}, 30)
    whole = Answer("local", {GPU: tuple(every(30, 0, 3630))}, 30)
    assert read(GAUGE, [down, whole], BOX, HOUR, NOW).source == "local"
    assert read(GAUGE, [holes, whole], BOX, HOUR, NOW).source == "local"
    assert read(GAUGE, [holes, down], BOX, HOUR, NOW).source == "prometheus"
    assert read(GAUGE, [down], BOX, HOUR, NOW).missing is Missing.SOURCE_DOWN
    assert read(GAUGE, [], BOX, HOUR, NOW).missing is Missing.SOURCE_DOWN
