"""What other metrics say against idleness, asked of a real Prometheus with the shipped signals and rules."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rig.history import History
from rig.prometheus import Prometheus

from ds01_policy.config.load import load
from ds01_policy.evaluate import evaluate
from ds01_policy.model import Container, Evaluation, GpuClaim, GpuRef, Kind, Missing, Snapshot, State
from ds01_policy.observe.measure import measure
from ds01_policy.observe.prometheus import LivePrometheus
from ds01_policy.observe.promql import changes_query, subjects
from ds01_policy.policy import Policy, PrometheusSettings
from ds01_policy.span import own_signals

pytestmark = pytest.mark.live

HOURS = timedelta(hours=1)
WINDOWS = frozenset({HOURS, 0.8 * HOURS, timedelta(minutes=5)})
A, B = "GPU-aaaa", "GPU-bbbb"
ENGINE, POWER, TEMPERATURE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_GPU_TEMP"


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Load what ships."""
    return load(None, unix_group=lambda _: None)


class Host:
    """Containers without network that have used no CPU for hours, each on one GPU."""

    def __init__(self, policy: Policy, now: float, prometheus_with: Callable[..., str]) -> None:
        self.policy, self.now, self.serve = policy, now, prometheus_with
        self.queries = 0

    def look(self, history: History, **held: GpuRef) -> dict[str, Kind]:
        """Tell what the idle rule finds, by container; the rest of the answer is in `evaluation`."""
        at = datetime.fromtimestamp(self.now, UTC)
        ids = {name: hashlib.sha256(name.encode()).hexdigest() for name in held}
        for one in ids.values():
            history.cpu(one, 0.001)
        containers = [
            Container(
                ids[name], name, "image", State.RUNNING, at - 5 * HOURS, at - 5 * HOURS,
                gpus=GpuClaim(wants=True, refs=(ref,)), network_mode="none",
            )
            for name, ref in held.items()
        ]  # fmt: skip
        source = LivePrometheus(PrometheusSettings(url=self.serve(history)))
        questions = dict.fromkeys(own_signals(self.policy), WINDOWS)
        answers, problems, state = measure(self.policy, questions, containers, source, at)
        assert state.up, state.detail
        self.queries = source.queries
        found = {name: (answer,) for name, answer in answers.items()}
        snapshot = Snapshot(at, "gpu01", tuple(containers), answers=found, problems=tuple(problems))
        self.evaluation: Evaluation = evaluate(self.policy, snapshot)
        self.problems = [*problems, *self.evaluation.problems]
        return {one.container.name: one.kind for one in self.evaluation.verdicts if one.rule == "idle-gpu"}

    def why(self, name: str) -> str:
        return next(
            one.why for one in self.evaluation.verdicts if one.rule == "idle-gpu" and one.container.name == name
        )

    def missing(self, name: str) -> set[Missing | None]:
        return {
            piece.reading.missing
            for one in self.evaluation.verdicts
            for piece in one.evidence
            if one.container.name == name and piece.label == "gpu"
        }

    def codes(self) -> list[str]:
        return [problem.code for problem in self.problems]


@pytest.fixture
def host(policy: Policy, now: float, prometheus_with: Callable[..., str]) -> Host:
    """Put a host over whatever history a test writes."""
    return Host(policy, now, prometheus_with)


def alive(history: History, uuid: str, watts: float | str = 72, instance: int | None = None) -> History:
    """Export what an idle GPU's exporter does beside utilisation: energy that rises, a temperature that stands."""
    return history.energy(uuid, watts, gpu_instance=instance).gpu(
        uuid, 31, metric=TEMPERATURE, gpu_instance=instance, profile="1g.10gb"
    )


def test_an_idle_gpu_that_all_agree_about_is_idle(host: Host) -> None:
    """Utilisation, engines and 72 W: nothing speaks against it, in five questions and one for CPU."""
    history = alive(History(host.now).gpu(A, 0).gpu(A, 0.0, metric=ENGINE), A)
    assert host.look(history, train=GpuRef(A)) == {"train": Kind.ACT}
    assert host.problems == []
    assert host.queries == 5


def test_utilisation_stuck_at_zero_beside_busy_engines_is_a_conflict(host: Host) -> None:
    """Both sides are named, with numbers and units."""
    history = alive(History(host.now).gpu(A, 0).gpu(A, 0.9, metric=ENGINE), A, 180)
    assert host.look(history, train=GpuRef(A)) == {"train": Kind.UNKNOWN}
    assert f"conflict (DCGM_FI_DEV_GPU_UTIL says 0%, {ENGINE} says 90%)" in host.why("train")
    assert host.codes() == ["conflict"]
    assert "train" in host.problems[0].detail


def test_a_profiling_metric_that_is_silently_zero_stops_nobody(host: Host) -> None:
    """GPU_UTIL says 99, GR_ENGINE_ACTIVE 0: the busy container is neither idle nor known to be busy."""
    history = alive(History(host.now).gpu(A, 99).gpu(A, 0.0, metric=ENGINE), A, 420)
    assert host.look(history, train=GpuRef(A)) == {"train": Kind.UNKNOWN}
    assert host.missing("train") == {Missing.CONFLICT}


def test_everything_at_zero_but_the_energy_counter(host: Host) -> None:
    """420 W for an hour is no idle GPU, whatever the two utilisations say."""
    history = alive(History(host.now).gpu(A, 0).gpu(A, 0.0, metric=ENGINE), A, 420)
    assert host.look(history, train=GpuRef(A)) == {"train": Kind.UNKNOWN}
    assert "above 200 W" in host.why("train")


@pytest.mark.parametrize("watts", [40, 120, 195])
def test_a_small_or_waiting_gpu_is_not_kept_by_its_power(host: Host, watts: float) -> None:
    """Below the bound the witness is silent: memory in use and clocks up cost power too."""
    history = alive(History(host.now).gpu(A, 0), A, watts)
    assert host.look(history, train=GpuRef(A)) == {"train": Kind.ACT}
    assert host.problems == []


def test_an_exporter_without_any_witness_is_believed(host: Host) -> None:
    """Utilisation and nothing else, the same for hours: that is what an idle GPU looks like there."""
    history = History(host.now).gpu(A, 0).gpu(A, 4, metric="DCGM_FI_DEV_FB_USED")
    assert host.look(history, train=GpuRef(A)) == {"train": Kind.ACT}
    assert host.problems == []


@pytest.mark.parametrize(
    ("energy", "power", "minutes"),
    [
        pytest.param("72x50m 0x70m", None, 15, id="the energy counter has stood still for an hour"),
        pytest.param("72x112m 0x8m", None, 5, id="it has stood still for eight minutes, and so has all else"),
        pytest.param(None, "71.3x60m 70.9x60m", 15, id="there is only a power, and it has not moved for an hour"),
        pytest.param("72x50m 0x70m", "71.3x60m 70.9x60m", 15, id="both"),
    ],
)
def test_a_frozen_exporter_is_stale(host: Host, energy: str | None, power: str | None, minutes: int) -> None:
    """Fresh times, old values: GPUs are reported together, and those of a live exporter are judged as ever."""
    history = alive(History(host.now), "GPU-cccc").gpu("GPU-cccc", 0)
    for uuid in (A, B):
        history.gpu(uuid, 0).gpu(uuid, 31, metric=TEMPERATURE)
        if energy is not None:
            history.energy(uuid, energy)
        if power is not None:
            history.gpu(uuid, power, metric=POWER)
    found = host.look(history, one=GpuRef(A), two=GpuRef(B), live=GpuRef("GPU-cccc"))
    assert found == {"one": Kind.UNKNOWN, "two": Kind.UNKNOWN, "live": Kind.ACT}
    assert f"stale (exporter frozen: nothing of {A} has changed for {minutes}m, although" in host.why("one")
    assert host.codes() == ["exporter_frozen"]
    assert f"{A}, {B} " in host.problems[0].detail


@pytest.mark.parametrize(
    ("energy", "power"),
    [
        pytest.param(0, "71.3x60m 70.9x59m 71.2x1m", id="an energy counter that this GPU does not have"),
        pytest.param("_x117m 0x3m", None, id="a counter that has only been there for three minutes"),
        pytest.param(None, "_x110m 71.3x10m", id="a power that has only been there for ten minutes"),
        pytest.param(None, "71.3x108m 71.2x12m", id="a power that moved twelve minutes ago"),
    ],
)
def test_what_only_looks_frozen_is_judged(host: Host, energy: float | str | None, power: str | None) -> None:
    """Something moved, or nothing that must move has been there for long."""
    history = History(host.now).gpu(A, 0)
    if energy is not None:
        history.energy(A, energy)
    if power is not None:
        history.gpu(A, power, metric=POWER)
    assert host.look(history, train=GpuRef(A)) == {"train": Kind.ACT}
    assert host.problems == []


def test_a_frozen_busy_exporter_holds_nobody_either(host: Host) -> None:
    """What it says for ever is not believed: neither busy nor idle, so that local samples can tell."""
    history = History(host.now).gpu(A, 97).gpu(A, 0.9, metric=ENGINE).energy(A, "400x30m 0x90m")
    assert host.look(history, train=GpuRef(A)) == {"train": Kind.UNKNOWN}
    assert host.missing("train") == {Missing.STALE}


def slices(history: History, watts: float, **ratios: float) -> History:
    for instance, ratio in ratios.items():
        number = int(instance.removeprefix("gi"))
        alive(history.gpu(A, ratio, gpu_instance=number), A, watts, number)
    return history


def test_a_seventh_of_a_gpu_at_work_is_busy_and_an_idle_one_idle(host: Host) -> None:
    """Raw 0.14 is all that a busy 1g may show; 0.02 is a seventh of the time of one; 0 is nothing."""
    history = slices(History(host.now), 350, gi7=1 / 7, gi8=0.0, gi9=0.02, gi10=0.9)
    held = {name: GpuRef(A, number) for name, number in (("full", 7), ("idle", 8), ("some", 9), ("large", 10))}
    found = host.look(history, **held)
    assert found == {"full": Kind.CLEAR, "idle": Kind.ACT, "some": Kind.CLEAR, "large": Kind.CLEAR}
    assert host.why("full") == "in use: gpu 100% ≥ 5%"
    assert host.why("some") == "in use: gpu 14% ≥ 5%"
    assert host.problems == []
    assert host.queries == 4, "whole GPUs are not asked about where none is held"


def test_a_parents_power_that_a_sibling_explains_is_no_conflict(host: Host) -> None:
    """Also where no container that is asked about holds the sibling."""
    history = slices(History(host.now), 420, gi7=0.0, gi8=0.5)
    assert host.look(history, train=GpuRef(A, 7)) == {"train": Kind.ACT}
    assert host.problems == []


def test_a_parents_power_that_nobody_explains_is_a_conflict(host: Host) -> None:
    """Profiling is silently zero on all slices, and the GPU draws 420 W: nobody knows whose work it is."""
    history = slices(History(host.now), 420, gi7=0.0, gi8=0.0)
    found = host.look(history, one=GpuRef(A, 7), two=GpuRef(A, 8))
    assert found == {"one": Kind.UNKNOWN, "two": Kind.UNKNOWN}
    assert f"for all of {A}, above 200 W" in host.why("one")
    assert host.codes() == ["conflict"]


@pytest.mark.parametrize("value", ["NaN", "9223372036854775794", "-1", "140737488355328"])
def test_impossible_values_of_witnesses_are_silent_and_counted(host: Host, value: str) -> None:
    """They are no readings, neither of utilisation nor of energy."""
    history = History(host.now).gpu(A, 0).gpu(A, f"{value}x120m", metric=ENGINE)
    history.gpu(A, f"{value}x120m", metric="DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION")
    history.gpu(A, "71.3x60m 71.1x59m 71.2x1m", metric=POWER)
    assert host.look(history, train=GpuRef(A)) == {"train": Kind.ACT}
    assert set(host.codes()) == {"impossible_values"}
    assert {"gpu_engine", "gpu_power"} == {problem.detail.split()[1].rstrip(":") for problem in host.problems}


def test_a_witness_that_cannot_be_asked_costs_nobody_an_answer(host: Host, policy: Policy) -> None:
    """Its own mistake is reported, and the signal is answered without it."""
    gpu, engine = policy.signals["gpu_utilization"], policy.signals["gpu_engine"]
    broken = replace(engine, queries=(replace(engine.queries[0], expr="nonsense[{{ range }}"),))
    frozen = replace(gpu.frozen, changes="changes([{{ range }}])") if gpu.frozen else None
    host.policy = replace(
        policy, signals={**policy.signals, "gpu_engine": broken, "gpu_utilization": replace(gpu, frozen=frozen)}
    )
    assert host.look(alive(History(host.now).gpu(A, 0), A), train=GpuRef(A)) == {"train": Kind.ACT}
    assert host.codes() == ["query_failed", "query_failed"]
    assert [problem.detail.partition(":")[0] for problem in host.problems] == [
        "witness gpu_engine", "witness gpu_utilization frozen",
    ]  # fmt: skip


def test_what_has_changed_is_counted_by_gpu_over_all_its_fields(policy: Policy, host: Host) -> None:
    """The question about frozen exporters itself: every field of a GPU, and of its instances, in one number."""
    history = History(host.now)
    alive(history.gpu(A, "0x119m 50x1m"), A).gpu(B, 0)
    slices(history, 90, gi3=0.0)
    frozen = policy.signals["gpu_utilization"].frozen
    assert frozen is not None
    awake = timedelta(minutes=5)
    promql = changes_query(frozen, subjects([A, B], ()), [frozen.after, awake])
    rows = Prometheus(host.serve(history)).query(promql, host.now)
    counted = {(row["metric"]["UUID"], row["metric"]["ds01_ago"]): float(row["value"][1]) for row in rows}
    assert set(counted) == {(A, "900"), (A, "300")}, "the one without power or energy is left out"
    assert 28 * 2 <= counted[A, "900"] <= 31 * 2
    assert 8 * 2 <= counted[A, "300"] <= 11 * 2
