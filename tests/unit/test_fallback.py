"""This host's own samples: what a look takes, what is kept, and which answers are made of old and new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ds01_policy.config.load import load
from ds01_policy.ledger import Ledger
from ds01_policy.limits import Group
from ds01_policy.memory import LEDGER, Memory, remembered
from ds01_policy.model import (
    Container,
    Demand,
    Evaluation,
    Gpu,
    GpuClaim,
    GpuRef,
    LocalSeries,
    Mode,
    Plan,
    Problem,
    Snapshot,
    State,
)
from ds01_policy.observe.fallback import Sampled, answers_of, sample
from ds01_policy.observe.ports import Counters, Inventory, SourceError
from ds01_policy.observe.snapshot import Observed
from ds01_policy.policy import Policy
from ds01_policy.readings import read
from ds01_policy.span import Questions, reach_of
from ds01_policy.tick import MemoryLost

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
AT = NOON.timestamp()
HOUR = timedelta(hours=1)
WHOLE, SLICE = GpuRef("GPU-a"), GpuRef("GPU-b", 7)


def box(mark: str, *refs: GpuRef, **changes: Any) -> Container:
    claim = GpuClaim(wants=bool(refs), refs=refs)
    made = Container(mark * 64, mark, "img", State.RUNNING, NOON - 9 * HOUR, NOON - 5 * HOUR, gpus=claim, pid=7)
    return replace(made, **changes)


@dataclass
class Fake:
    """A host whose containers have used ten seconds and ten bytes each."""

    error: str = ""
    uncounted: frozenset[str] = frozenset()
    asked: list[Mapping[str, int]] = field(default_factory=list)

    def counters(self, pids: Mapping[str, int]) -> Counters:
        self.asked.append(dict(pids))
        if self.error:
            raise SourceError(self.error)
        counted = [one for one in pids if one not in self.uncounted]
        return Counters(AT + 0.7, dict.fromkeys(counted, 10.0), dict.fromkeys(counted, 10.0), ("a note",))


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(None, unix_group=lambda _: None)


def test_every_gpu_container_that_is_up_and_every_gpu_is_sampled() -> None:
    """Whether a rule asks about it or not; nothing else is."""
    up, paused = box("a", WHOLE), box("b", SLICE, state=State.PAUSED)
    others = [
        box("c"),
        box("d", WHOLE, state=State.EXITED),
        box("e", WHOLE, pid=0),
        box("f", WHOLE, state=State.CREATED),
    ]
    source, problems = Fake(), list[Problem]()
    inventory = Inventory((Gpu("GPU-a", 0),), "nvml", utilization={"GPU-a": 0.25, "GPU-z": 0.0})
    known: LocalSeries = {"cpu": {up.id: ((AT - 300, 9.0),)}}
    taken, state = sample(source, [up, paused, *others], inventory, known, NOON, problems)
    assert source.asked == [{up.id: 7, paused.id: 7}]
    assert taken == Sampled(
        AT + 0.7,
        (
            ("cpu", up.id, 10.0),
            ("cpu", paused.id, 10.0),
            ("network", up.id, 10.0),
            ("network", paused.id, 10.0),
            ("gpu", "GPU-a", 0.25),
            ("gpu", "GPU-z", 0.0),
        ),
    )
    assert (state.up, state.extra) == (True, {"samples": 7})
    assert problems == [Problem("local_note", "a note")]


@pytest.mark.parametrize(
    ("source", "containers", "up", "codes"),
    [
        pytest.param(Fake("no /proc"), [box("a", WHOLE)], False, ["local_down"], id="a source that fails"),
        pytest.param(
            Fake(uncounted=frozenset({"a" * 64})), [box("a", WHOLE)], False, ["local_note"], id="none is counted"
        ),
        pytest.param(
            Fake(uncounted=frozenset({"a" * 64})),
            [box("a", WHOLE), box("b", WHOLE)],
            True,
            ["local_note"],
            id="some are",
        ),
        pytest.param(Fake(), [], True, ["local_note"], id="nothing to count is no failure"),
    ],
)
def test_whether_this_host_can_be_sampled_is_said(
    source: Fake, containers: list[Container], *, up: bool, codes: list[str]
) -> None:
    """A source that answers nothing is down, and named."""
    problems: list[Problem] = []
    _, state = sample(source, containers, None, {}, NOON, problems)
    assert state.up is up
    assert [problem.code for problem in problems] == codes


def asked(*containers: Container) -> Questions:
    return {name: {one.id: {HOUR} for one in containers} for name in ("gpu_utilization", "cpu_usage", "network_io")}


def test_old_samples_and_the_new_one_make_an_answer_for_each_signal(policy: Policy) -> None:
    """By join key; the new one counts as taken at the instant the look is about, though it was a little later."""
    one = box("a", WHOLE, SLICE)
    known: LocalSeries = {
        "cpu": {one.id: ((AT - 600, 1.0), (AT - 299.5, 2.0)), "b" * 64: ((AT - 300, 5.0),)},
        "gpu": {"GPU-a": ((AT - 600, 0.5),)},
    }
    taken = Sampled(AT + 0.7, (("cpu", one.id, 3.0), ("gpu", "GPU-a", 0.0), ("gpu", "GPU-z", 1.0)))
    found = answers_of(policy, asked(one), [one], known, taken, NOON)
    (cpu,), (gpu,), (network,) = found["cpu_usage"], found["gpu_utilization"], found["network_io"]
    looks = (AT - 600, AT - 300, AT - 299.5, AT)
    assert cpu.series == {one.id: ((AT - 600, 1.0), (AT - 299.5, 2.0), (AT, 3.0))}
    assert gpu.series == {WHOLE: ((AT - 600, 0.5), (AT, 0.0))}
    assert network.series == {}
    assert {answer.looks for answer in (cpu, gpu, network)} == {looks}
    assert {(answer.source, answer.spacing_s, answer.lag_s) for answer in (cpu, gpu)} == {("local", 300.0, 300.0)}


def test_what_lies_ahead_of_the_look_is_not_used(policy: Policy) -> None:
    """A clock that was set back, or a replay: samples of later are none."""
    one = box("a", WHOLE)
    known: LocalSeries = {"cpu": {one.id: ((AT - 300, 1.0), (AT + 300, 99.0))}}
    (cpu,) = answers_of(policy, asked(one), [one], known, None, NOON)["cpu_usage"]
    assert (cpu.series, cpu.looks) == ({one.id: ((AT - 300, 1.0),)}, (AT - 300, AT))


def test_why_an_instance_has_no_sample_goes_along(policy: Policy) -> None:
    """With the GPU's signal, for the instances that somebody holds; where there is no sample its reading says why."""
    one = box("a", SLICE)
    inventory = Inventory((), "nvml", utilization={"GPU-a": 0.0}, unmeasured={str(SLICE): "no GPM", "GPU-z/gi1": "x"})
    taken, _ = sample(Fake(), [one], inventory, {}, NOON, [])
    found = answers_of(policy, asked(one), [one], {}, taken, NOON)
    (gpu,), (cpu,) = found["gpu_utilization"], found["cpu_usage"]
    assert (gpu.unsampled, cpu.unsampled) == ({SLICE: "no GPM"}, {})
    reading = read(policy.signals["gpu_utilization"], [gpu], one, HOUR, NOON)
    assert (reading.value, reading.high) == (None, 1.0)
    assert reading.detail == "local has not sampled it in its present life; no GPM"


def test_two_containers_on_one_gpu_instance_share_its_reading(policy: Policy) -> None:
    """Each on a compute instance of its own; what is measured is the GPU instance: busy for one is busy for both."""
    left, right, other = box("a", SLICE), box("b", SLICE), box("c", GpuRef("GPU-b", 9))
    times = [AT - 300 * back for back in range(13)][::-1]
    known: LocalSeries = {
        "gpu": {
            str(SLICE): tuple((time, 0.5) for time in times[:-1]),
            "GPU-b/gi9": tuple((time, 0.0) for time in times[:-1]),
        }
    }
    taken = Sampled(AT, (("gpu", str(SLICE), 0.5), ("gpu", "GPU-b/gi9", 0.0)))
    (gpu,) = answers_of(policy, asked(left, right, other), [left, right, other], known, taken, NOON)["gpu_utilization"]
    found = [read(policy.signals["gpu_utilization"], [gpu], one, HOUR, NOON) for one in (left, right, other)]
    assert [(one.value, one.low, one.high) for one in found] == [(0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0)]


def test_a_signal_without_a_fallback_has_no_answer_here(policy: Policy) -> None:
    """What this host does not measure it does not guess at."""
    one = box("a", WHOLE)
    signals = {**policy.signals, "cpu_usage": replace(policy.signals["cpu_usage"], fallback=None)}
    found = answers_of(replace(policy, signals=signals), asked(one), [one], {}, None, NOON)
    assert found.keys() == {"gpu_utilization", "network_io"}


def test_samples_reach_back_as_far_as_any_rule_over_signals_asks(policy: Policy) -> None:
    """The longest limit of any layer, or a rule's own duration; `never` and rules over clocks don't count."""
    interval = policy.settings.local_samples.interval
    assert reach_of(policy) == timedelta(hours=2) + 2 * interval, "faculty may idle for two hours"
    limits = replace(policy.limits, groups={**policy.limits.groups, "lab": Group(limits={"idle_timeout": 7 * HOUR})})
    assert reach_of(replace(policy, limits=limits)) == 7 * HOUR + 2 * interval
    assert reach_of(replace(policy, rules=())) == 2 * interval


def observed(sampled: Sampled | None) -> Observed:
    return Observed(Snapshot(NOON, "gpu01", ()), Demand(0, 0, high=False), sampled=sampled)


def test_a_tick_keeps_its_samples_and_a_reader_finds_them(tmp_path: Path) -> None:
    """At the time they were really taken; nothing kept where nothing was sampled."""
    for number, taken in enumerate((Sampled(AT + 0.7, (("cpu", "a" * 64, 3.0),)), None)):
        memory = Memory(tmp_path, "gpu01", lambda _: None, reach=HOUR)
        history = memory.recall(NOON, Mode.OBSERVE, "sha256:x")
        assert bool(history.samples) is (number == 1)
        memory.settle(observed(taken), Evaluation((), Demand(0, 0, high=False)), Plan())
        memory.close()
    assert remembered(tmp_path, HOUR).samples == {"cpu": {"a" * 64: ((AT + 0.7, 3.0),)}}
    assert remembered(tmp_path).samples == {}


def test_samples_that_cannot_be_kept_cost_the_tick_its_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that takes no samples takes no intents either: nothing destructive may follow."""
    from ds01_policy.ledger import LedgerError

    memory = Memory(tmp_path, "gpu01", lambda _: None)
    memory.recall(NOON, Mode.OBSERVE, "sha256:x")

    def full(*_: object) -> None:
        raise LedgerError("ledger_full", "no space left")

    monkeypatch.setattr(Ledger, "keep_samples", full)
    with pytest.raises(MemoryLost, match="no space left"):
        memory.settle(observed(Sampled(AT)), Evaluation((), Demand(0, 0, high=False)), Plan())
    memory.close()
    assert (tmp_path / LEDGER).exists()
