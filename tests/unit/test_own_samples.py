"""Hosts judged by their own ticks, through time: nobody at work is stopped, and nobody idle is kept for ever.

Whole ticks with a real ledger between them; see whole_lab.py for the host.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from whole_host import AT, HOUR, MINUTE, A, B, C, when
from whole_lab import Hands, Lab, Life, Work, enforcing, evidence, found

from ds01_policy.config.load import load
from ds01_policy.model import Kind, Missing
from ds01_policy.observe.ports import SourceError
from ds01_policy.policy import LocalSamples, Policy, PrometheusSettings

GPU, CPU, NETWORK = "gpu_utilization", "cpu_usage", "network_io"
AWAKE = 5 * MINUTE
IDLE, BUSY = A, B


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return load(None, unix_group=lambda _: None)


@pytest.fixture
def life(shipped: Policy) -> Iterator[Life]:
    """One idle container and one at work, on a host without Prometheus."""
    memory = Path("/dev/shm")  # noqa: S108  hundreds of ticks, each of which waits for the disk several times
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as state:
        made = Life(enforcing(shipped), Path(state))
        made.lab.runs(IDLE, 0)
        made.lab.runs(BUSY, 1, gpu=0.6, cores=0.8)
        yield made


def with_prometheus(life: Life) -> Life:
    life.policy = replace(life.policy, settings=replace(life.policy.settings, prometheus=PrometheusSettings()))
    life.prometheus = life.lab
    return life


def every(seconds: float, hours: float = 2.5) -> list[float]:
    """List a timer's ticks, in minutes."""
    return [number * seconds / 60 for number in range(int(hours * 3600 / seconds) + 1)]


def jittered(seconds: float, by: float) -> list[float]:
    """Let a timer come up to so many seconds late, never the same."""
    return [(number * seconds + (number * 7919 % 101) / 101 * by) / 60 for number in range(int(9000 / seconds) + 1)]


# ── how often ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cores", [0.0, 0.0065], ids=["at rest", "with an idle server in it"])
@pytest.mark.parametrize(
    "minutes",
    [
        pytest.param(every(300), id="on the minute"),
        pytest.param(every(303), id="five minutes after the last one ended"),
        pytest.param(jittered(300, 30), id="up to half a minute late"),
        pytest.param(every(60), id="every minute"),
        pytest.param(every(240), id="every four minutes"),
        pytest.param(every(440), id="as late as may be"),
    ],
)
def test_a_quiet_container_is_found_idle_however_the_timer_runs(life: Life, minutes: list[float], cores: float) -> None:
    """Within an hour and some ticks it is stopped, over the whole hour and over the last minutes; the other one never.

    The second look comes twenty seconds later, and follows the first.
    """
    life.lab.work.append(Work(IDLE, cores=cores))
    first = None
    for each in minutes:
        hands = Hands(life.lab, wait=timedelta(seconds=20))
        report = life.tick(AT + each * MINUTE, hands)
        assert found(report, BUSY) is Kind.CLEAR
        if hands.stopped:
            first = each
            break
    assert life.stopped == ["ca"], [found(report, IDLE) for report in life.reports]
    assert first is not None
    assert 58 < first <= 90, "not before an hour is covered, but for what cannot matter, and soon after"


def test_ticks_that_come_too_rarely_prove_nothing_and_that_is_said(life: Life) -> None:
    """Every ten minutes where five were promised: unknown for ever, and the report names the setting."""
    for minute in range(0, 180, 10):
        report = life.ticks(minute)
        assert found(report, IDLE) is Kind.UNKNOWN
        assert found(report, BUSY) is Kind.CLEAR, "one busy look is enough"
    problems = {problem.code: problem.detail for problem in report.snapshot.problems}
    assert "ran every 10m of late, not every 5m" in problems["sampled_rarely"]
    assert "`local_samples.interval` in settings.yaml" in problems["sampled_rarely"]
    assert evidence(report, IDLE, GPU).reading.detail.endswith("when samples cover 60m, one every 5m")
    assert life.stopped == []


@pytest.mark.parametrize("every_min", [10, 30])
def test_saying_how_often_it_runs_makes_rare_ticks_count(life: Life, every_min: int) -> None:
    """With the interval that is really kept the same ticks prove an hour."""
    rarer = replace(life.policy.settings, local_samples=LocalSamples(every_min * MINUTE))
    life.policy = replace(life.policy, settings=rarer)
    report = life.ticks(*range(0, 61, every_min))
    assert life.stopped == ["ca"]
    assert "sampled_rarely" not in {problem.code for problem in report.snapshot.problems}


@pytest.mark.parametrize("interval", [5 * MINUTE, 2 * HOUR], ids=["as it is kept", "two hours, which nobody keeps"])
def test_a_wrong_setting_makes_nothing_more_lenient(life: Life, interval: timedelta) -> None:
    """Half an hour without a tick is a hole, whatever the setting says that a sample stands for."""
    life.policy = replace(life.policy, settings=replace(life.policy.settings, local_samples=LocalSamples(interval)))
    life.lab.work.append(Work(IDLE, AT + 31 * MINUTE, AT + 59 * MINUTE, gpu=0.9))
    report = life.ticks(0, 5, 10, 15, 20, 25, 30, 60, 65, 70, 75, 80, 85)
    assert found(report, IDLE) is Kind.UNKNOWN
    assert life.stopped == []


@pytest.mark.parametrize("every_min", [5, 10])
def test_an_admin_who_looks_again_and_again_takes_nothing_away(life: Life, every_min: int) -> None:
    """Some runs by hand within a minute do not make the timer's samples count for less."""
    local = LocalSamples(every_min * MINUTE)
    life.policy = replace(life.policy, settings=replace(life.policy.settings, local_samples=local))
    by_hand = [32 + number / 10 for number in range(3)]
    life.ticks(*sorted([*range(-60, 65, every_min), *by_hand]))
    assert "ca" in life.stopped
    assert found(life.reports[-1], IDLE) is Kind.ACT


# ── what could not be sampled ────────────────────────────────────────────────────────────────────────────────────────


def test_a_gpu_that_could_not_be_read_once_is_unknown_for_an_hour_and_then_known(life: Life) -> None:
    """It may have computed for as long as nobody saw."""
    life.ticks(*range(0, 30, 5))
    life.lab.blind = {"gpu"}
    life.ticks(30)
    life.lab.blind = set()
    for minute in range(35, 95, 5):
        assert found(life.ticks(minute), IDLE) is Kind.UNKNOWN
    life.ticks(95)
    assert life.stopped == ["ca"]


@pytest.mark.parametrize("blind", ["files", "proc"], ids=["no container could be counted", "nothing could be counted"])
def test_work_that_began_just_before_a_look_that_failed_is_not_quiet(life: Life, blind: str) -> None:
    """The counters are of five minutes ago; GPUs cannot be read either, but Prometheus says that they rest.

    What was sampled before the work began must not speak for the present.
    """
    with_prometheus(life)
    life.lab.blind = {"cadvisor"}
    life.ticks(*(minute - 0.2 for minute in range(-120, 0, 5)))
    life.stopped.clear()
    life.lab.work.append(Work(IDLE, AT - 4 * MINUTE, cores=7.0))
    life.lab.blind = {"cadvisor", "driver", blind}
    del life.lab.inspects[BUSY]
    life.lab.gpus = ()
    report = life.ticks(-0.5)
    assert evidence(report, IDLE, CPU, AWAKE).reading.high > 0.01
    assert life.stopped == []


def test_a_busy_gpu_is_kept_in_mind_when_counters_fail(life: Life) -> None:
    """The driver's word is worth as much without them: the exporter that is stuck at 0 stays refuted."""
    life.lab.work.append(Work(IDLE, AT + 59 * MINUTE, AT + 61 * MINUTE, gpu=1.0))
    life.ticks(*range(0, 60, 5))
    life.lab.blind = {"proc"}
    life.ticks(60)
    life.lab.blind = set()
    for minute in (65, 70, 75, 80):
        assert found(life.ticks(minute), IDLE) is Kind.CLEAR
    assert life.stopped == []


def test_a_tick_that_sampled_nothing_at_all_is_still_a_look(life: Life) -> None:
    """Ticks every minute: one that saw nothing is a hole of two minutes, not a stretch between two quiet looks."""
    life.ticks(*range(70))
    life.stopped.clear()
    life.lab.blind = {"proc", "gpu"}
    life.ticks(70)
    life.lab.blind = set()
    report = life.ticks(71)
    assert evidence(report, IDLE, GPU, AWAKE).reading.coverage == pytest.approx(3 / 5, abs=0.01)
    assert life.stopped == []


# ── lives, clocks ────────────────────────────────────────────────────────────────────────────────────────────────────


def restart(lab: Lab, container: str, minute: float, gpu: int) -> None:
    raw = lab.inspects[container]
    assert isinstance(raw, dict)
    raw["State"]["StartedAt"] = when(AT + minute * MINUTE)
    raw["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] = [str(gpu)]


def test_a_restart_on_another_gpu_begins_anew(life: Life) -> None:
    """Neither the old GPU's rest nor the new one's under its last tenant is its own; its counters start over."""
    life.lab.work.append(Work(IDLE, until=AT + 50 * MINUTE, cores=0.5, gpu=0.5))
    life.ticks(*range(0, 55, 5))
    restart(life.lab, IDLE, 52, gpu=3)
    for minute in range(55, 115, 5):
        assert found(life.ticks(minute), IDLE) in (Kind.YOUNG, Kind.UNKNOWN)
    assert life.stopped == [], "the first sample of its own life is three minutes younger than it"
    life.ticks(115)
    assert life.stopped == ["ca"]


@pytest.mark.parametrize("to", [-180.0, -32.0, -7.0, 7.0, 55.0, 300.0], ids=lambda to: f"by {to:g} minutes")
def test_a_clock_that_is_set_never_ends_work(life: Life, to: float) -> None:
    """Forward or back, at any tick: one that works between two looks is not stopped, one that rests is found again."""
    for minute in range(-200, 600, 10):  # works from each look that is a multiple of ten on, for six minutes
        start = AT + minute * MINUTE + 2 * MINUTE
        life.lab.work.append(Work(C, start, start + 6 * MINUTE, gpu=0.9, cores=0.9))
    life.lab.runs(C, 2)
    for minute in range(0, 50, 5):
        life.ticks(minute)
    for minute in range(50, 190, 5):
        life.ticks(minute + to)
    assert set(life.stopped) <= {"ca"}
    assert found(life.reports[-1], IDLE) is Kind.ACT or to < -60, "its own start lies ahead then"


def test_a_counter_that_starts_over_within_one_life_is_no_rest(life: Life) -> None:
    """A cgroup that was made anew counts from nothing: growth before it is lost, so nothing is known for an hour."""
    life.lab.work.append(Work(IDLE, AT, AT + MINUTE, cores=0.1))
    life.ticks(*range(0, 45, 5))
    shift = life.lab.spent(IDLE, life.lab.at, "cores") - 1.0
    life.lab.lost[IDLE] = shift
    for minute in range(45, 100, 5):
        report = life.ticks(minute)
        if minute >= 60:
            assert evidence(report, IDLE, CPU).reading.missing is Missing.CONFLICT
    assert life.stopped == []
    life.ticks(100, 105)
    assert set(life.stopped) == {"ca"}


def test_two_runs_at_the_same_instant_are_one_look(life: Life) -> None:
    """Whatever let them both through, what is kept is kept once and proves no more."""
    life.ticks(*(minute for minute in range(0, 60, 5) for _ in range(2)))
    assert life.stopped == []
    life.ticks(60)
    assert life.stopped == ["ca"]


# ── waking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wakes", "again", "kind"),
    [
        pytest.param(65.0, None, Kind.CLEAR, id="at the look itself"),
        pytest.param(61.0, None, Kind.CLEAR, id="four minutes before"),
        pytest.param(64.9, None, Kind.CLEAR, id="six seconds before"),
        pytest.param(63.0, 64.0, Kind.CLEAR, id="for a minute between two looks: the counters have it"),
    ],
)
def test_who_woke_up_is_not_stopped(life: Life, wakes: float, again: float | None, kind: Kind) -> None:
    """After an hour of rest, whatever the hour's mean says."""
    until = AT + (again or 999) * MINUTE
    life.lab.work.append(Work(IDLE, AT + wakes * MINUTE, until, gpu=0.9, cores=1.0))
    life.ticks(*range(0, 65, 5))
    assert life.stopped == ["ca"], "it would be stopped"
    assert found(life.ticks(65), IDLE) is kind
    assert life.stopped == ["ca"]


def test_work_that_begins_between_the_two_looks_is_seen(life: Life) -> None:
    """The second look, ten seconds later, has the driver's word and the counters' growth since the first."""
    life.ticks(*range(0, 60, 5))
    hands = Hands(life.lab, wait=timedelta(seconds=10))
    hands.before = lambda: life.lab.work.append(Work(IDLE, AT + 60 * MINUTE + timedelta(seconds=5), gpu=0.9, cores=1.0))
    report = life.tick(AT + 60 * MINUTE, hands)
    assert found(report, IDLE) is Kind.ACT
    assert life.stopped == []
    assert "in use" in life.spared["ca"] or "unknown" in life.spared["ca"]


def test_a_look_by_hand_counts_as_much_as_the_timers(life: Life) -> None:
    """One busy look a minute before the end refutes the last minutes, though both the timer's were quiet."""
    life.lab.work.append(Work(IDLE, AT + 63.5 * MINUTE, AT + 64.5 * MINUTE, gpu=0.9))
    life.ticks(*range(0, 65, 5))
    life.stopped.clear()
    report = life.ticks(64, 65)
    assert evidence(report, IDLE, GPU, AWAKE).reading.low > 0.05
    assert life.stopped == []


# ── beside Prometheus ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cold_ledger_takes_nothing_away_from_prometheus(life: Life) -> None:
    """The very first tick stops who is idle, on Prometheus' word."""
    report = with_prometheus(life).ticks(0)
    assert life.stopped == ["ca"]
    assert {evidence(report, IDLE, signal).reading.source for signal in (GPU, CPU)} == {"prometheus"}


def test_each_container_falls_back_by_itself(life: Life) -> None:
    """One that cAdvisor has lost is answered here, signal by signal; the others there."""
    with_prometheus(life).lab.runs(C, 2, network="bridge")
    life.lab.unseen = {C}
    cold = life.ticks(0)
    assert found(cold, C) is Kind.UNKNOWN
    assert evidence(cold, C, CPU).reading.missing is Missing.NO_SERIES
    assert "known from 13:00 UTC on" in evidence(cold, C, CPU).reading.detail
    warm = life.ticks(*range(5, 70, 5))
    assert found(warm, C) is Kind.ACT
    told = {signal: evidence(warm, C, signal).reading.source for signal in (GPU, CPU, NETWORK)}
    assert told == {GPU: "prometheus", CPU: "local", NETWORK: "local"}
    assert {evidence(warm, IDLE, signal).reading.source for signal in (GPU, CPU)} == {"prometheus"}


@pytest.mark.parametrize("mode", ["none", "host", f"container:{B}"])
def test_a_network_that_is_not_its_own_says_nothing(life: Life, mode: str) -> None:
    """What goes over the host's or a neighbour's network neither keeps the container nor is asked about."""
    life.lab.runs(C, 2, network=mode, bytes_s=1e9)
    report = life.ticks(*range(0, 70, 5))
    assert found(report, C) is Kind.ACT
    assert NETWORK not in {piece.reading.signal for one in report.evaluation.verdicts for piece in one.evidence}


def test_traffic_of_its_own_is_work(life: Life) -> None:
    """It downloads, and nothing else."""
    life.lab.runs(C, 2, network="bridge", bytes_s=4e7)
    assert found(life.ticks(*range(0, 65, 5)), C) is Kind.CLEAR


def outage(life: Life) -> None:
    life.lab.blind = {"prometheus"}
    life.lab.metrics = SourceError("refuses the connection")


def dcgm_lost(life: Life) -> None:
    life.lab.blind = {"dcgm"}


def cadvisor_lost(life: Life) -> None:
    life.lab.blind = {"cadvisor"}


@pytest.mark.parametrize("lose", [outage, dcgm_lost, cadvisor_lost])
def test_the_verdicts_stay_when_a_source_goes_and_when_it_comes_back(life: Life, lose: Callable[[Life], None]) -> None:
    """Every tick of two hours: idle, at work on the GPU, and at work on the CPU alone."""
    with_prometheus(life)
    life.lab.runs(C, 2, cores=0.3)
    for minute in range(-65, 70, 5):
        life.lab.blind = set()
        if 0 <= minute < 30:
            lose(life)
        report = life.ticks(minute)
        assert found(report, BUSY) is Kind.CLEAR
        assert found(report, C) is Kind.CLEAR
        assert found(report, IDLE) is Kind.ACT, minute
    assert set(life.stopped) == {"ca"}
