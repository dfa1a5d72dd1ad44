"""Witnesses: what other metrics say against a reading makes it less certain, and never more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01_policy.clauses import ask, compare
from ds01_policy.config.load import load
from ds01_policy.evaluate import evaluate
from ds01_policy.logic import Truth
from ds01_policy.model import (
    Answer,
    Container,
    GpuClaim,
    GpuRef,
    JoinKey,
    Kind,
    Missing,
    Problem,
    Reading,
    Sample,
    Snapshot,
    State,
)
from ds01_policy.policy import Policy
from ds01_policy.rules import COMPARATORS, Clause
from ds01_policy.scenario import scenario
from ds01_policy.signals import Query, Signal, Witness
from ds01_policy.units import Unit
from ds01_policy.witnesses import heard

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
END = NOW.timestamp()
HOUR = timedelta(hours=1)
A, B = GpuRef("GPU-a"), GpuRef("GPU-b")
SLICES = [GpuRef("GPU-m", number) for number in (1, 2, 3)]
GPU = Signal(
    "gpu", "gpu", Unit.RATIO, "gauge", "gpu",
    (Query("UTIL{x}[{{ range }}]", devices="whole"), Query("SLICE{x}[{{ range }}]", devices="instance")),
    ceiling=1.0, witnesses=(Witness("engine"), Witness("power", above=200.0, explained_by=0.05)),
)  # fmt: skip
ENGINE = Signal("engine", "engine", Unit.RATIO, "gauge", "gpu", (Query("ENGINE{x}[{{ range }}]"),), ceiling=1.0)
POWER = Signal("power", "power", Unit.WATTS, "counter", "gpu", (Query("ENERGY{x}", devices="parent"),))
SIGNALS = {signal.name: signal for signal in (GPU, ENGINE, POWER)}


def box(*refs: GpuRef) -> Container:
    claim = GpuClaim(wants=True, refs=refs or (A,))
    return Container("a" * 64, "box", "img", State.RUNNING, NOW - 9 * HOUR, NOW - 3 * HOUR, gpus=claim)


def gauge(value: float, minutes: float = 90, ended: float = 0) -> tuple[Sample, ...]:
    """Sample a value every thirty seconds for so many minutes, until `ended` minutes ago."""
    return tuple((END - 30 * step, value) for step in range(int(minutes * 2), int(ended * 2) - 1, -1))


def energy(watts: float, minutes: float = 90) -> tuple[Sample, ...]:
    """Count joules at so many watts."""
    return tuple((time, 1e6 + watts * (time - END + 7200)) for time, _ in gauge(0, minutes))


def of(*answers: Mapping[JoinKey, tuple[Sample, ...]] | None) -> dict[str, tuple[Answer, ...]]:
    """Give what Prometheus answered about gpu, engine and power."""
    return {
        name: (Answer("prometheus", series),)
        for name, series in zip(SIGNALS, answers, strict=False)
        if series is not None
    }


def hear(
    answers: Mapping[str, tuple[Answer, ...]], *refs: GpuRef, window: timedelta = HOUR, signal: Signal = GPU
) -> Reading:
    return heard(signal, SIGNALS, answers, box(*refs), window, NOW)


SAME: dict[str, tuple[Any, Any, float, float, bool]] = {
    "it says the same": (gauge(0.3), gauge(0.3), 0.3, 0.3, False),
    "it says more": (gauge(0), gauge(0.9), 0, 0.9, True),
    "it says less": (gauge(0.9), gauge(0), 0, 0.9, True),
    "it has no sample": (gauge(0.3), (), 0.3, 0.3, False),
    "its interval meets the reading": (gauge(0.3), gauge(0, minutes=30), 0.3, 0.3, False),
    "its interval ends below the reading": (gauge(0.9), gauge(0, minutes=30), 0.5, 0.9, True),
    "its interval begins above the reading": (gauge(0), gauge(1, minutes=30), 0, 0.5, True),
    "the reading's own interval reaches to it": (gauge(0, minutes=30), gauge(0.4), 0, 0.5, False),
    "it ended twenty minutes ago": (gauge(0), gauge(0.9, ended=20), 0, 0.6, True),
}


@pytest.mark.parametrize(("own", "told", "low", "high", "changed"), SAME.values(), ids=SAME)
def test_a_witness_in_the_same_unit_spans_to_the_bound_that_faces_it(
    own: Any,
    told: Any,
    low: float,
    high: float,
    *,
    changed: bool,
) -> None:
    """Disjoint intervals: the truth may be anything between what the one and the other prove."""
    reading = hear(of({A: own}, {A: told}))
    assert (reading.low, reading.high) == pytest.approx((low, high), abs=0.01)
    assert (reading.missing is Missing.CONFLICT) is changed
    assert reading.sides == (("UTIL", "ENGINE") if changed else ())


POWERS: dict[str, tuple[Any, Any, bool]] = {
    "an idle GPU": (0, energy(72), False),
    "a GPU with memory in use": (0, energy(199), False),
    "more than an idle GPU draws": (0, energy(230), True),
    "much more, at 4 %": (0.04, energy(500), True),
    "much more, at 5 %": (0.05, energy(500), False),
    "much more, at 60 %": (0.6, energy(500), False),
    "much more, but for half the hour only": (0, energy(350, minutes=30), False),
    "much more, but the reading itself leaves room for it": ((0.0, 30), energy(500), False),
    "so much for half the hour that it suffices": (0, energy(500, minutes=30), True),
    "no counter": (0, (), False),
    "a single sample": (0, energy(500)[-1:], False),
    "a counter that stands still": (0, energy(0), False),
}


@pytest.mark.parametrize(("own", "told", "changed"), POWERS.values(), ids=POWERS)
def test_a_power_that_nothing_explains_leaves_room_up_to_the_ceiling(own: Any, told: Any, *, changed: bool) -> None:
    """What was proven from below stays; above it anything may be true."""
    value, minutes = own if isinstance(own, tuple) else (own, 90)
    alone = hear(of({A: gauge(value, minutes)}))
    reading = hear(of({A: gauge(value, minutes)}, {}, {A: told}))
    assert (reading.low, reading.high) == (alone.low, 1.0 if changed else alone.high)
    assert (reading.missing is Missing.CONFLICT) is changed


def test_both_sides_are_named_with_numbers_and_units() -> None:
    """As an admin knows them, and what is only the whole GPU's is said to be."""
    assert hear(of({A: gauge(0)}, {A: gauge(0.9)})).detail == "UTIL says 0%, ENGINE says 90%"
    alone = hear(of({SLICES[0]: gauge(0)}, {}, {SLICES[0]: energy(450)}), SLICES[0])
    assert alone.detail == "SLICE says 0%, ENERGY says at least 446.2 W for all of GPU-m, above 200 W"
    here = {"gpu": (Answer("local", {A: gauge(0)}),), "engine": (Answer("prometheus", {A: gauge(0.9)}),)}
    assert hear(here).detail == "this host says 0%, ENGINE says 90%"


def test_what_sources_contradict_each_other_in_is_said_as_well() -> None:
    """A witness comes on top: the interval spans all three."""
    answers = of({A: gauge(0.2)}, {A: gauge(0.9)})
    answers["gpu"] += (Answer("local", {A: gauge(0.5)}),)
    reading = hear(answers)
    assert (reading.low, reading.high) == pytest.approx((0.2, 0.9))
    assert (
        reading.detail
        == "sources contradict each other: prometheus 20%, local 50%; UTIL says 20% to 50%, ENGINE says 90%"
    )
    assert reading.sides == ("prometheus", "local", "ENGINE")


def test_a_conflict_beside_the_question_is_none() -> None:
    """Whether 40 or 90 %: it is above five."""
    answers = of({A: gauge(0.9)}, {A: gauge(0.4)})
    snapshot = Snapshot(NOW, "gpu01", (box(),), answers=answers)
    truth, (piece,) = ask(Clause("gpu", "below", 0.05), SIGNALS, snapshot, box(), HOUR)
    assert (truth, piece.reading.missing, piece.reading.detail, piece.reading.sides) == (Truth.FALSE, None, "", ())
    truth, (piece,) = ask(Clause("gpu", "below", 0.5), SIGNALS, snapshot, box(), HOUR)
    assert (truth, piece.reading.missing) == (Truth.UNKNOWN, Missing.CONFLICT)


def test_what_was_measured_before_this_life_is_no_witness() -> None:
    """The last tenant drew 500 W; this one has drawn nothing since it started."""
    started = replace(box(), started_at=NOW - HOUR)
    told = tuple((time, min(time - END + 3600, 0) * 500) for time, _ in energy(0, 180))
    answers = of(
        {A: gauge(0)}, {A: (*((END - 3600 - 30 * n, 1.0) for n in range(99, 0, -1)), *gauge(0, 60))}, {A: told}
    )
    assert heard(GPU, SIGNALS, answers, started, HOUR, NOW).high == 0


SIBLINGS: dict[str, tuple[list[tuple[int, Any]], bool]] = {
    "that is at work": ([(1, gauge(0.5))], True),
    "that is just at work": ([(1, gauge(0.05))], True),
    "that is idle": ([(1, gauge(0.04))], False),
    "that worked until it was destroyed": ([(1, gauge(0.9, ended=20))], True),
    "that was never sampled": ([(1, ())], False),
    "of two the one is at work": ([(1, gauge(0)), (2, gauge(0.9))], True),
    "none": ([], False),
}


@pytest.mark.parametrize(("siblings", "explained"), SIBLINGS.values(), ids=SIBLINGS)
@pytest.mark.parametrize("asked", [True, False], ids=["asked about", "not asked about"])
def test_a_parents_power_is_explained_by_a_sibling(
    siblings: list[tuple[int, Any]], *, asked: bool, explained: bool
) -> None:
    """Whether any container that is asked about holds the sibling or not."""
    others: dict[JoinKey, tuple[Sample, ...]] = {SLICES[number]: samples for number, samples in siblings}
    own: dict[JoinKey, tuple[Sample, ...]] = {SLICES[0]: gauge(0), B: gauge(1), GpuRef("GPU-x", 5): gauge(1)}
    answer = Answer("prometheus", {**own, **others} if asked else own, beside={} if asked else others)
    answers = {"gpu": (answer,), "power": (Answer("prometheus", {SLICES[0]: energy(450)}),)}
    assert (hear(answers, SLICES[0]).missing is None) is explained


def test_a_frozen_gpu_has_no_reading_and_no_witness() -> None:
    """Its busy witness contradicts nobody, and another source speaks alone."""
    answers: dict[str, tuple[Answer, ...]] = {
        "gpu": (Answer("prometheus", {A: gauge(0.9)}, frozen={"GPU-a": "exporter frozen"}),),
        "engine": (Answer("prometheus", {A: gauge(0.9)}, frozen={"GPU-a": "exporter frozen"}),),
        "power": (Answer("prometheus", {A: energy(400)}, frozen={"GPU-a": "exporter frozen"}),),
    }
    reading = hear(answers)
    assert (reading.value, reading.low, reading.high) == (None, 0, 1)
    assert (reading.missing, reading.detail) == (Missing.STALE, "exporter frozen")
    answers["gpu"] += (Answer("local", {A: gauge(0)}),)
    reading = hear(answers)
    assert (reading.high, reading.missing, reading.source) == (0, None, "local")


def test_witnesses_are_not_heard_for_their_own_witnesses() -> None:
    """Two signals that name each other end nowhere."""
    engine = replace(ENGINE, witnesses=(Witness("gpu"),))
    signals = {**SIGNALS, "engine": engine}
    assert heard(GPU, signals, of({A: gauge(0)}, {A: gauge(0.9)}), box(), HOUR, NOW).high == pytest.approx(0.9)


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────────────

SERIES = st.lists(st.tuples(st.sampled_from([0.0, 0.02, 0.3, 1.0]), st.integers(1, 60)), max_size=5).map(
    lambda pieces: [value for value, times in pieces for _ in range(times)]
)


def drawn(values: list[float], kept: list[bool] | None = None) -> tuple[Sample, ...]:
    samples = [(END - 30 * (len(values) - 1 - number), value) for number, value in enumerate(values)]
    return tuple(one for one, keep in zip(samples, kept or [True] * len(samples), strict=True) if keep)


def counted(values: list[float], kept: list[bool] | None = None) -> tuple[Sample, ...]:
    total, samples = 1e6, []
    for time, value in drawn(values):
        total += value * 700 * 30
        samples.append((time, total))
    return tuple(one for one, keep in zip(samples, kept or [True] * len(samples), strict=True) if keep)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hearing_a_witness_only_widens_and_answers_nothing_new(data: st.DataObject) -> None:
    """Whatever it says, with whichever samples lost: no bound moves inwards, and no open question is answered.

    The other way round, samples of a witness that are lost can end a conflict: then the reading stands as it would if
    there were no witness at all, never better.
    """
    refs = data.draw(st.sampled_from([[A], [A, B], [SLICES[0]], SLICES[:2]]))
    window = data.draw(st.sampled_from([timedelta(minutes=5), timedelta(minutes=30), HOUR]))
    sources = data.draw(st.integers(1, 2))
    gpu = tuple(
        Answer(("prometheus", "local")[number], {ref: drawn(data.draw(SERIES)) for ref in (*refs, SLICES[2])})
        for number in range(sources)
    )
    engine: dict[JoinKey, tuple[Sample, ...]] = {}
    power: dict[JoinKey, tuple[Sample, ...]] = {}
    for ref in refs:
        for series, made in ((engine, drawn), (power, counted)):
            values = data.draw(SERIES)
            kept = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
            series[ref] = made(values, kept)
    answers = {"gpu": gpu, "engine": (Answer("prometheus", engine),), "power": (Answer("prometheus", power),)}
    without = hear({"gpu": gpu}, *refs, window=window)
    reading = hear(answers, *refs, window=window)
    assert reading.low <= without.low
    assert reading.high >= without.high
    assert (reading.value, reading.coverage, reading.source) == (without.value, without.coverage, without.source)
    if (reading.low, reading.high) == (without.low, without.high):
        assert reading == without
    threshold = data.draw(st.sampled_from([0.01, 0.05, 0.5, 1.0]))
    for comparator in COMPARATORS:
        assert compare(reading, comparator, threshold) in (compare(without, comparator, threshold), Truth.UNKNOWN)


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return load(None, unix_group=lambda _: None)


def due(policy: Policy, snapshot: Snapshot) -> set[str]:
    return {one.container.name for one in evaluate(policy, snapshot).verdicts if one.kind in (Kind.ACT, Kind.WARN)}


def words(draw: Any, busy: str) -> str:
    pieces = draw(st.lists(st.tuples(st.sampled_from(["0", "4", busy, "_"]), st.integers(1, 60)), max_size=4))
    return " ".join([*(f"{value}x{length}" for value, length in pieces), f"0x{draw(st.integers(1, 90))}"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_no_witness_and_no_freeze_makes_anybody_stoppable(shipped: Policy, data: st.DataObject) -> None:
    """Over the whole pure core, whole GPUs and slices: who is due with witnesses is due without any.

    A frozen exporter's word is no word: who is due then is due without its answer, by this host's own samples.
    """
    draw = data.draw
    mig = draw(st.booleans())
    quiet = {"cpu": "0x180", "network": "0x180"}
    row = {
        "gpus": {"a": 2 if mig else 0, "b": 2 if mig else 0},
        "containers": {
            name: {
                "gpus": [f"{gpu}/0" if mig else gpu], **quiet, "gpu": words(draw, "90"),
                "engine": words(draw, "80"), "power": words(draw, "500"),
            }
            for name, gpu in (("train", "a"), ("other", "b"))
        },
    }  # fmt: skip
    built = scenario(shipped, row)
    alone = {**built.snapshot.answers, "gpu_engine": (), "gpu_power": ()}
    assert due(shipped, built.snapshot) <= due(shipped, replace(built.snapshot, answers=alone))

    local = tuple(replace(one, source="local") for one in built.snapshot.answers["gpu_utilization"])
    both = {
        name: (*some, *(local if name == "gpu_utilization" else ())) for name, some in built.snapshot.answers.items()
    }
    stuck = {
        name: tuple(replace(one, frozen={"GPU-a": "x", "GPU-b": "x"}) if one.source != "local" else one for one in some)
        for name, some in both.items()
    }
    spoken = due(shipped, replace(built.snapshot, answers=stuck))
    assert spoken == due(shipped, replace(built.snapshot, answers={**alone, "gpu_utilization": local}))
    silent = {**stuck, "gpu_utilization": stuck["gpu_utilization"][:1]}
    assert due(shipped, replace(built.snapshot, answers=silent)) == set()


# ── problems ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def conflicts_of(policy: Policy, row: Mapping[str, Any]) -> list[Problem]:
    found = evaluate(policy, scenario(policy, row).snapshot).problems
    return [problem for problem in found if problem.code == "conflict"]


def test_one_cause_is_one_problem_however_many_it_is_about(shipped: Policy) -> None:
    """Eight GPUs whose utilisation is stuck are one line, which names some and counts the rest."""
    idle = {"gpu": "0x180", "engine": "90x180", "cpu": "0x180", "network": "0x180"}
    row = {"containers": {f"c{number}": {"gpus": [f"g{number}"], **idle} for number in range(8)}}
    (problem,) = conflicts_of(shipped, row)
    sides = "DCGM_FI_DEV_GPU_UTIL and DCGM_FI_PROF_GR_ENGINE_ACTIVE contradict each other"
    assert problem.detail.startswith(f"gpu: {sides} about c0 (")
    assert "on GPU-g4 and 3 more: for c0 (" in problem.detail
    assert (
        "DCGM_FI_DEV_GPU_UTIL says 0%, DCGM_FI_PROF_GR_ENGINE_ACTIVE says 90%; compare with nvidia-smi"
        in problem.detail
    )


def test_different_causes_are_different_problems(shipped: Policy) -> None:
    """One GPU's utilisation is contradicted by its engines, another's by its power."""
    quiet = {"gpu": "0x180", "cpu": "0x180", "network": "0x180"}
    row = {
        "containers": {
            "a": {"gpus": ["a"], **quiet, "engine": "90x180"},
            "b": {"gpus": ["b"], **quiet, "power": "450x180"},
        }
    }
    assert [problem.detail.partition(" contradict")[0] for problem in conflicts_of(shipped, row)] == [
        "gpu: DCGM_FI_DEV_GPU_UTIL and DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "gpu: DCGM_FI_DEV_GPU_UTIL and DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    ]


@pytest.mark.parametrize(
    ("cpu", "codes"),
    [
        pytest.param("0x180", ["conflict"], id="nothing else is known of it: nobody can tell"),
        pytest.param("50x180", [], id="its CPU is at work anyway: who has just begun is seen by one source first"),
    ],
)
def test_sources_that_contradict_each_other_are_a_problem_too(shipped: Policy, cpu: str, codes: list[str]) -> None:
    """Prometheus says idle, this host's own samples say busy."""
    built = scenario(shipped, {"containers": {"train": {"gpu": "0x180", "cpu": cpu, "network": "0x180"}}})
    (answer,) = built.snapshot.answers["gpu_utilization"]
    busy = Answer("local", {key: tuple((time, 0.9) for time, _ in some) for key, some in answer.series.items()})
    answers = {**built.snapshot.answers, "gpu_utilization": (answer, busy)}
    found = evaluate(shipped, replace(built.snapshot, answers=answers)).problems
    assert [problem.code for problem in found] == codes
    start = "gpu: prometheus and local contradict each other about train ("
    assert all(problem.detail.startswith(start) for problem in found)


def test_a_hostile_name_does_not_reach_the_report_raw(shipped: Policy) -> None:
    """Names are written by users."""
    row = {"containers": {"\x1b[31mtrain\n": {"gpu": "0x180", "engine": "90x180", "cpu": "0x180", "network": "0x180"}}}
    (problem,) = conflicts_of(shipped, row)
    assert problem.detail.isprintable()


def test_nobody_who_agrees_is_a_problem(shipped: Policy) -> None:
    """Two metrics never say the same to the digit."""
    quiet = {"cpu": "0x180", "network": "0x180"}
    row = {
        "containers": {
            "busy": {"gpus": ["a"], **quiet, "gpu": "99x180", "engine": "60x180", "power": "450x180"},
            "idle": {"gpus": ["b"], **quiet, "gpu": "0x180", "engine": "0.1x180", "power": "80x180"},
        }
    }
    assert conflicts_of(shipped, row) == []
