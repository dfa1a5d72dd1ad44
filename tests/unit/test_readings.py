"""Intervals: the mean over a window lies in [low, high] whatever the missing samples were."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy import readings
from ds01_policy.clauses import ask, compare
from ds01_policy.logic import Truth
from ds01_policy.model import Answer, Container, GpuClaim, GpuRef, JoinKey, Missing, Reading, Sample, Snapshot, State
from ds01_policy.readings import read
from ds01_policy.rules import Clause
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


INSTANCE = GpuRef("GPU-a", 7)


def on_an_instance(since: datetime | None, answer: Answer) -> Reading:
    claim = GpuClaim(wants=True, refs=(INSTANCE,), since={} if since is None else {INSTANCE: since})
    return read(GAUGE, [answer], replace(BOX, gpus=claim), HOUR, NOW)


@pytest.mark.parametrize("looks", [False, True], ids=["Prometheus' samples", "looks of our own"])
@pytest.mark.parametrize(
    ("ago", "high", "missing"),
    [
        pytest.param(None, 0.0, None, id="nobody knows: nothing is cut"),
        pytest.param(70, 0.0, None, id="re-partitioned before the window"),
        pytest.param(60, 0.0, None, id="re-partitioned as the window began"),
        pytest.param(30, 0.5, Missing.LOW_COVERAGE, id="re-partitioned inside the window"),
        pytest.param(0, 1.0, Missing.LOW_COVERAGE, id="re-partitioned just now"),
    ],
)
def test_what_another_instance_under_this_number_did_is_not_read(
    ago: int | None, high: float, missing: Missing | None, *, looks: bool
) -> None:
    """Idle samples of it make nobody idle: the time they stood for is uncovered, and the reason is said."""
    samples = tuple(every(60, 0.0, 4200))
    answer = Answer("any", {INSTANCE: samples}, 60, looks=tuple(time for time, _ in samples) if looks else ())
    reading = on_an_instance(None if ago is None else NOW - timedelta(minutes=ago), answer)
    assert reading.high == pytest.approx(high)
    assert reading.missing is missing
    words = f"its GPU was re-partitioned, seen {NOW - timedelta(minutes=ago or 0):%Y-%m-%d %H:%M} UTC"
    assert (words in reading.detail) == (missing is not None)


def test_nor_does_its_work_keep_anybody_busy() -> None:
    """Half an hour of work on the instance that was there before is none on this one."""
    samples = (*every(30, 1.0, 3630, 1830), *every(30, 0.0, 1800))
    reading = on_an_instance(NOW - timedelta(minutes=30), Answer("any", {INSTANCE: samples}, 30))
    assert (reading.low, reading.value) == (0.0, 0.0)
    assert reading.high == pytest.approx(0.5)


def test_an_instance_older_than_the_container_changes_nothing() -> None:
    """What another container did on it before is still not this one's."""
    samples = (*every(30, 1.0, 20000, 10801), *every(30, 0.0, 10799))
    claim = GpuClaim(wants=True, refs=(INSTANCE,), since={INSTANCE: NOW - 5 * HOUR})
    box = replace(BOX, gpus=claim)
    reading = read(GAUGE, [Answer("any", {INSTANCE: samples}, 30)], box, 3 * HOUR, NOW)
    assert reading.value == 0
    late = read(GAUGE, [Answer("any", {INSTANCE: samples[:-20]}, 30)], box, 3 * HOUR, NOW)
    assert late.missing is Missing.STALE
    assert "re-partitioned" not in late.detail


def test_the_reason_of_a_gap_is_said_only_where_there_is_one() -> None:
    """A source that could not sample the instance just now, or ever, has said why; a whole reading needs no excuse."""
    why: dict[JoinKey, str] = {INSTANCE: "NVML did not answer"}
    whole = on_an_instance(None, Answer("any", {INSTANCE: tuple(every(30, 0.0, 3630))}, 30, unsampled=why))
    late = on_an_instance(None, Answer("any", {INSTANCE: tuple(every(30, 0.0, 3630, 300))}, 30, unsampled=why))
    never = on_an_instance(None, Answer("any", {}, 30, unsampled=why))
    assert whole.detail == ""
    assert late.detail == "the newest sample is 300s old; NVML did not answer"
    assert never.detail == "any has no series for it in its present life; NVML did not answer"


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


def test_the_first_source_whose_data_is_whole_speaks() -> None:
    """A source that is down, or has holes, gives way to one that has none; where all have holes, to what is covered."""
    down = Answer("prometheus", missing=Missing.SOURCE_DOWN)
    holes = Answer("prometheus", {GPU: tuple(every(30, 0, 1800))}, 30)
    whole = Answer("local", {GPU: tuple(every(30, 0, 3630))}, 30)
    assert read(GAUGE, [down, whole], BOX, HOUR, NOW).source == "local"
    assert read(GAUGE, [holes, whole], BOX, HOUR, NOW).source == "local"
    assert read(GAUGE, [holes, down], BOX, HOUR, NOW).source == "prometheus"
    assert read(GAUGE, [down], BOX, HOUR, NOW).missing is Missing.SOURCE_DOWN
    assert read(GAUGE, [], BOX, HOUR, NOW).missing is Missing.SOURCE_DOWN


# ── this host's own looks ────────────────────────────────────────────────────────────────────────────────────────────

TICK = 300.0


def ticks(*values: float | None, every: float = TICK, late: float = 0.0) -> tuple[list[Sample], tuple[float, ...]]:
    """Give samples and looks, one a tick, the last one `late` seconds ago; None: that look had no sample."""
    times = [END - late - every * (len(values) - 1 - number) for number in range(len(values))]
    return [(time, value) for time, value in zip(times, values, strict=True) if value is not None], tuple(times)


def local(*values: float | None, window: timedelta = HOUR, late: float = 0.0, every: float = TICK) -> Reading:
    samples, looks = ticks(*values, late=late, every=every)
    return read(GAUGE, [Answer("local", {GPU: tuple(samples)}, TICK, TICK, looks=looks)], BOX, window, NOW)


IDLE_HOUR = [0.0] * 13


@pytest.mark.parametrize(
    ("values", "window", "low", "high", "truth"),
    [
        pytest.param(IDLE_HOUR, 60, 0, 0, Truth.TRUE, id="thirteen quiet looks cover an hour, and prove it"),
        pytest.param(IDLE_HOUR[1:], 60, 0, 1 / 12, Truth.UNKNOWN, id="twelve don't"),
        pytest.param([*IDLE_HOUR[:6], 1.0, *IDLE_HOUR[7:]], 60, 1 / 12, 2 / 12, Truth.FALSE, id="one busy look is 8%"),
        pytest.param([*IDLE_HOUR[:6], 0.5, *IDLE_HOUR[7:]], 60, 0.5 / 12, 1 / 12, Truth.UNKNOWN, id="half busy: maybe"),
        pytest.param([*IDLE_HOUR[:6], None, *IDLE_HOUR[7:]], 60, 0, 2 / 12, Truth.UNKNOWN, id="a look that failed"),
        pytest.param([*IDLE_HOUR[:12], None], 60, 0, 1 / 12, Truth.UNKNOWN, id="the newest look failed"),
        pytest.param([0.0, 0.0], 5, 0, 0, Truth.TRUE, id="two quiet looks cover the last five minutes"),
        pytest.param([0.0, 1.0], 5, 0.5, 1, Truth.FALSE, id="it woke up: this tick's own look says so"),
        pytest.param([1.0, 0.0], 5, 0.5, 1, Truth.FALSE, id="it worked five minutes ago"),
        pytest.param([1.0], 5, 0.5, 1, Truth.FALSE, id="a single busy look refutes at once"),
        pytest.param([0.0], 5, 0, 1, Truth.UNKNOWN, id="a single quiet look proves nothing"),
        pytest.param([0.04] * 13, 60, 0.04, 0.04, Truth.TRUE, id="a little all the time is the mean"),
        pytest.param([], 60, 0, 1, Truth.UNKNOWN, id="none"),
    ],
)
def test_looks_far_apart_refute_at_once_and_prove_only_together(
    values: list[float | None], window: int, low: float, high: float, truth: Truth
) -> None:
    """With a tick every five minutes, asked whether the mean is below 5%."""
    reading = local(*values, window=timedelta(minutes=window))
    assert (reading.low, reading.high) == pytest.approx((low, high))
    assert compare(reading, "below", 0.05) is truth
    # What any value would answer is answered by data as well, or not at all.
    known = bool(reading.coverage or reading.low)
    assert compare(reading, "below", 1.5) is (Truth.TRUE if known else Truth.UNKNOWN)
    assert compare(reading, "at_least", 1.01) is (Truth.FALSE if known else Truth.UNKNOWN)
    assert known is (values not in ([], [0.0]))
    assert reading.low <= (reading.value if reading.value is not None else math.inf) <= reading.high or not values


@pytest.mark.parametrize(
    ("every", "whole"),
    [(60, True), (270, True), (300, True), (449, True), (451, False), (600, False)],
    ids=str,
)
def test_a_tick_may_be_late_by_half_an_interval(every: float, whole: bool) -> None:  # noqa: FBT001  a table's column
    """Each sample stands for at most one and a half intervals, in both directions together."""
    reading = local(*[0.0] * 61, every=every)
    assert (reading.missing is None) is whole
    assert reading.high == (0 if whole else 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param([0.0, 0.0], "known from 12:55 UTC on, when samples cover 60m", id="since five minutes ago"),
        pytest.param([0.0], "known from 13:00 UTC on, when samples cover 60m", id="the very first look"),
        pytest.param([0.0] * 9 + [None] + [0.0] * 3, "known from 12:50 UTC on, when samples cover 60m", id="a hole"),
        pytest.param([0.0] * 12 + [None], "known 60m after it is sampled again", id="not even now"),
    ],
)
def test_a_cold_ledger_says_when_it_will_know(values: list[float | None], words: str) -> None:
    """If ticks go on as they do, the answer is there then."""
    reading = local(*values)
    assert (reading.missing, reading.detail) == (Missing.LOW_COVERAGE, words)


def counted(*values: float | None, window: timedelta = HOUR) -> Reading:
    samples, looks = ticks(*values)
    return read(COUNTER, [Answer("local", {BOX.id: tuple(samples)}, TICK, TICK, looks=looks)], BOX, window, NOW)


@pytest.mark.parametrize(
    ("values", "window", "truth", "missing"),
    [
        pytest.param([7.0] * 13, 60, Truth.TRUE, None, id="it stood still"),
        pytest.param([7.0, *[None] * 11, 7.0], 60, Truth.TRUE, None, id="looks between tell a counter nothing new"),
        pytest.param([7.0] * 12 + [50.0], 60, Truth.FALSE, None, id="43 seconds in the last five minutes"),
        pytest.param([7.0, 7.0], 5, Truth.TRUE, None, id="the last five minutes"),
        pytest.param([7.0, 60.0], 5, Truth.UNKNOWN, None, id="it woke up"),
        pytest.param([7.0] * 12 + [None], 60, Truth.UNKNOWN, Missing.STALE, id="the newest look failed"),
        pytest.param([7.0] * 12, 60, Truth.UNKNOWN, Missing.LOW_COVERAGE, id="55 minutes are no hour"),
        pytest.param([7.0] * 6 + [1.0] * 7, 60, Truth.UNKNOWN, Missing.CONFLICT, id="it went backwards"),
        pytest.param([None] * 13, 60, Truth.UNKNOWN, Missing.NO_SERIES, id="never counted"),
    ],
)
def test_counters_of_this_host_are_exact_between_looks(
    values: list[float | None], window: int, truth: Truth, missing: Missing | None
) -> None:
    """Asked whether less than 1% of a core was used."""
    reading = counted(*values, window=timedelta(minutes=window))
    assert compare(reading, "below", 0.01) is truth
    assert reading.missing is missing


def test_what_was_sampled_before_this_life_is_not_read() -> None:
    """The tenant before worked; a container that came back is not known until its own looks cover the window."""
    young = Container(BOX.id, "b", "i", State.RUNNING, NOW, NOW - timedelta(minutes=61), gpus=BOX.gpus)
    samples, looks = ticks(*[1.0] * 12, *IDLE_HOUR)
    answer = Answer("local", {GPU: tuple(samples)}, TICK, TICK, looks=looks)
    assert read(GAUGE, [answer], young, HOUR, NOW).high == 0
    later = Container(BOX.id, "b", "i", State.RUNNING, NOW, NOW - timedelta(minutes=60), gpus=BOX.gpus)
    samples, looks = ticks(*[1.0] * 12, *IDLE_HOUR, late=10)
    answer = Answer("local", {GPU: tuple(samples)}, TICK, TICK, looks=looks)
    assert read(GAUGE, [answer], later, HOUR, NOW).high == pytest.approx(300 / 3600)


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from([0.0, 0.04, 0.5, 1.0]), min_size=2, max_size=40),
    st.sampled_from([45.0, 150.0, 290.0, 300.0, 400.0, 500.0]),
    st.sampled_from([0.0, 17.0, 120.0, 310.0]),
    st.data(),
)
def test_deleting_samples_of_looks_only_widens(
    values: list[float], every: float, late: float, data: st.DataObject
) -> None:
    """However dense the looks are: that one took place and told nothing is known, and its time counts as anything."""
    samples, looks = ticks(*values, every=every, late=late)
    kept = [sample for sample in samples if data.draw(st.booleans())]

    def reading(some: list[Sample]) -> Reading:
        return read(GAUGE, [Answer("local", {GPU: tuple(some)}, TICK, TICK, looks=looks)], BOX, HOUR, NOW)

    before, after = reading(samples), reading(kept)
    assert after.low <= before.low + 1e-12
    assert after.high >= before.high - 1e-12
    assert after.coverage <= before.coverage + 1e-12
    assert 0 <= before.low <= before.high <= 1


# ── two sources ──────────────────────────────────────────────────────────────────────────────────────────────────────


def both(prometheus: list[Sample], *values: float | None) -> Reading:
    samples, looks = ticks(*values)
    answers = [Answer("prometheus", {GPU: tuple(prometheus)}), Answer("local", {GPU: tuple(samples)}, 300, looks=looks)]
    return read(GAUGE, answers, BOX, HOUR, NOW)


@pytest.mark.parametrize(
    ("prometheus", "values", "truth", "source", "missing"),
    [
        pytest.param(every(30, 0, 3630), IDLE_HOUR, Truth.TRUE, "prometheus", None, id="both idle"),
        pytest.param(every(30, 0.9, 3630), [0.9] * 13, Truth.FALSE, "prometheus", None, id="both busy"),
        pytest.param(every(30, 0, 3630), [None], Truth.TRUE, "prometheus", None, id="nothing sampled here"),
        pytest.param(every(30, 0, 3630), [0.0], Truth.TRUE, "prometheus", None, id="a cold ledger takes nothing away"),
        pytest.param([], IDLE_HOUR, Truth.TRUE, "local", None, id="no series: this host answers"),
        pytest.param(every(30, 0, 3600, 1200), IDLE_HOUR, Truth.TRUE, "local", None, id="stale: this host answers"),
        pytest.param(
            every(30, 0, 3630), [0.9] * 13, Truth.UNKNOWN, "prometheus", Missing.CONFLICT, id="an exporter stuck at 0"
        ),
        pytest.param(
            every(30, 0, 3630), [*IDLE_HOUR[:12], 1.0, 1.0], Truth.UNKNOWN, "prometheus", Missing.CONFLICT, id="it woke"
        ),
        pytest.param(
            every(30, 0.9, 3630), IDLE_HOUR, Truth.UNKNOWN, "prometheus", Missing.CONFLICT, id="looks that met pauses"
        ),
        pytest.param(
            every(30, 0.9, 3600, 1200), IDLE_HOUR, Truth.UNKNOWN, "local", Missing.CONFLICT, id="busy, then hung"
        ),
        pytest.param(every(30, 0.003, 3630), IDLE_HOUR, Truth.TRUE, "prometheus", Missing.CONFLICT, id="0.3% or 0%"),
        pytest.param(every(30, 0, 1800), [0.0] * 4, Truth.UNKNOWN, "prometheus", Missing.LOW_COVERAGE, id="both short"),
    ],
)
def test_what_one_source_proves_holds_unless_the_other_proves_the_contrary(
    prometheus: list[Sample], values: list[float | None], truth: Truth, source: str, missing: Missing | None
) -> None:
    """Asked whether the mean is below 5%."""
    reading = both(prometheus, *values)
    assert compare(reading, "below", 0.05) is truth
    assert (reading.source, reading.missing) == (source, missing)


def test_sources_together_are_never_more_lenient_than_what_either_proves() -> None:
    """For every pair of intervals and every threshold: proven by one and refuted by none, or not at all.

    Of looks that samples contradict, one thing more: they prove nothing, neither the one nor the other.
    """
    bounds = [0.0, 0.02, 0.05, 0.3]
    spans = [(low, high) for low in bounds for high in bounds if low <= high]
    base = gauge(*every(30, 0, 3630))
    for one, other, looks in itertools.product(spans, spans, [False, True]):
        sources = [replace(base, low=low, high=high) for low, high in (one, other)]
        sources[1] = replace(sources[1], looks=looks)
        made = readings._together(sources)  # noqa: SLF001  the rule itself, without samples that make it so
        assert made is not None
        meet = max(one[0], other[0]) <= min(one[1], other[1])
        for threshold in (0.0, 0.01, 0.02, 0.04, 0.05, 0.1, 0.3, 0.4):
            truths = {compare(source, "below", threshold) for source in sources}
            said = truths - {Truth.UNKNOWN}
            expected = said.pop() if len(said) == 1 else Truth.UNKNOWN
            if looks and not meet and compare(sources[0], "below", threshold) is Truth.UNKNOWN:
                expected = Truth.UNKNOWN
            assert compare(made, "below", threshold) is expected, (one, other, looks, threshold)


def test_what_a_hole_of_the_one_hides_the_other_proves_only_if_it_saw_the_rest() -> None:
    """Bursts that always fall between two looks: Prometheus, with a hole, saw 4 % of them, this host none.

    This host's word is worth nothing then, and Prometheus' leaves room for more than 5 %.
    """
    bursts = [(END - 3630 + 30 * step, 0.8 if step % 10 == 5 else 0.0) for step in range(122)]
    hole = [sample for sample in bursts if not END - 2400 < sample[0] < END - 750]
    assert 0.03 < gauge(*hole).low < 0.05 < gauge(*hole).high
    assert gauge(*bursts).low > 0.05
    reading = both(hole, *IDLE_HOUR)
    assert compare(reading, "below", 0.05) is Truth.UNKNOWN
    assert reading.missing is Missing.CONFLICT


def test_a_source_that_is_down_and_a_cold_ledger_both_say_why() -> None:
    """Which of the two to mend is the admin's choice."""
    samples, looks = ticks(0.0, 0.0)
    down = Answer("prometheus", missing=Missing.SOURCE_DOWN, detail="connection refused")
    reading = read(GAUGE, [down, Answer("local", {GPU: tuple(samples)}, TICK, looks=looks)], BOX, HOUR, NOW)
    assert (reading.missing, reading.source) == (Missing.SOURCE_DOWN, "local")
    assert reading.detail == ("prometheus: connection refused; local: known from 12:55 UTC on, when samples cover 60m")


VALUES = st.sampled_from([0.0, 0.0, 0.0, 0.04, 0.06, 0.9])
ASKED = [("below", 0.05), ("at_most", 0.04), ("above", 0.05), ("at_least", 0.06)]


def drawn(data: st.DataObject) -> tuple[Answer, Answer]:
    """Draw what Prometheus and this host saw of one GPU for an hour: the same or not, with holes or without."""
    pieces = data.draw(st.lists(st.tuples(VALUES, st.integers(1, 122)), min_size=1, max_size=4))
    values = [value for value, length in pieces for _ in range(length)][:122]
    there = [(END - 30 * (len(values) - 1 - step), value) for step, value in enumerate(values)]
    hole = data.draw(st.tuples(st.integers(0, 121), st.integers(0, 60)))
    there = [sample for step, sample in enumerate(there) if not hole[0] <= step < sum(hole)]
    here, looks = ticks(*data.draw(st.lists(st.none() | VALUES | VALUES, min_size=1, max_size=15)))
    return Answer("prometheus", {GPU: tuple(there)}), Answer("local", {GPU: tuple(here)}, TICK, TICK, looks=looks)


def thinned(data: st.DataObject, answer: Answer) -> Answer:
    series = {key: tuple(one for one in some if data.draw(st.booleans())) for key, some in answer.series.items()}
    return replace(answer, series=series)


def truths(*answers: Answer) -> list[Truth]:
    reading = read(GAUGE, answers, BOX, HOUR, NOW)
    return [compare(reading, comparator, threshold) for comparator, threshold in ASKED]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_another_source_never_turns_an_answer_into_its_contrary(data: st.DataObject) -> None:
    """Whatever this host's samples say, true to what happened or not: what Prometheus refutes stays unproven."""
    there, here = drawn(data)
    for alone, both_say in zip(truths(there), truths(there, here), strict=True):
        assert {alone, both_say} != {Truth.TRUE, Truth.FALSE}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_is_lost_of_two_sources_only_a_whole_proof_of_one_acts(data: st.DataObject) -> None:
    """If something is proven with what is left, one of them alone proved it with all it had.

    So what is lost can take away that the other source spoke against it, and nothing else: see the next test.
    """
    there, here = drawn(data)
    left = truths(thinned(data, there), thinned(data, here))
    for after, *alone in zip(left, truths(there), truths(here), strict=True):
        assert after is Truth.UNKNOWN or after in alone


def test_a_source_that_falls_silent_takes_its_objection_with_it() -> None:
    """The one exception: the exporter is stuck at 0, and this host, which saw the work, forgets that it did."""
    stuck = Answer("prometheus", {GPU: tuple(every(30, 0, 3630))})
    work, looks = ticks(*[0.9] * 13)
    saw = Answer("local", {GPU: tuple(work)}, TICK, TICK, looks=looks)
    assert truths(stuck, saw)[0] is Truth.UNKNOWN
    assert truths(stuck, replace(saw, series={}))[0] is Truth.TRUE, "as if there were no samples of its own"
    assert truths(replace(stuck, series={}), saw)[0] is Truth.FALSE


@pytest.mark.parametrize(
    ("there", "here", "truth", "source", "low"),
    [
        pytest.param(every(30, 0, 3600, 1200), [0.0, 1.0], Truth.FALSE, "local", 1 / 24, id="this look saw it work"),
        pytest.param(every(30, 0.9, 3600, 1200), [None], Truth.FALSE, "prometheus", None, id="it worked, then hung"),
        pytest.param(every(30, 0, 3600, 1200), IDLE_HOUR, Truth.TRUE, "local", 0, id="only this host proves the hour"),
        pytest.param(every(30, 0, 3630), [0.0, 0.0], Truth.TRUE, "prometheus", 0, id="only Prometheus does"),
        pytest.param(every(30, 0, 3630), IDLE_HOUR, Truth.TRUE, "prometheus", 0, id="both do: the better one"),
    ],
)
def test_evidence_names_the_source_whose_word_decides(
    there: list[Sample], here: list[float | None], truth: Truth, source: str, low: float | None
) -> None:
    """Not the one that covers more of the window: asked whether the mean is below 3%."""
    samples, looks = ticks(*here)
    answers = (Answer("prometheus", {GPU: tuple(there)}), Answer("local", {GPU: tuple(samples)}, TICK, looks=looks))
    snapshot = Snapshot(NOW, "gpu01", (BOX,), answers={GAUGE.name: answers})
    found, (piece,) = ask(Clause(GAUGE.name, "below", 0.03), {GAUGE.name: GAUGE}, snapshot, BOX, HOUR)
    assert (found, piece.truth, piece.reading.source) == (truth, truth, source)
    assert low is None or piece.reading.low == pytest.approx(low)
    assert [part.source for part in piece.reading.parts] == ["prometheus", "local"]
