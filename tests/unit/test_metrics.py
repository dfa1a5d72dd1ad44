"""The engine's own metrics: readable by Prometheus, and last success means success."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from exposition_reader import read

from ds01_policy.config.load import load
from ds01_policy.evaluate import evaluate
from ds01_policy.metrics import LAST_SUCCESS, families, last_success, success, text, write
from ds01_policy.metrics.watching import Watching, watch_families
from ds01_policy.model import Action, HeldBy, Mode, Outcome, Problem, SourceState, Status, Totals
from ds01_policy.plan import make_plan
from ds01_policy.scenario import NOON, scenario
from ds01_policy.tick import Report

HOLDERS = "ds01_policy_container_gpu_info"


@pytest.fixture
def report() -> Report:
    policy = load(None, unix_group=lambda _: None)
    row = {
        "containers": {
            "train": {"gpu": "0x180", "cpu": "0x180", "network": "0x180"},
            "blind": {"gpus": ["b"], "cpu": "0x180", "network": "0x180"},
        }
    }
    built = scenario(policy, row)
    snapshot = replace(
        built.snapshot,
        sources={"docker": SourceState(up=True), "prometheus": SourceState(up=False)},
        problems=(Problem("no_series", 'a "quoted"\nline'),),
    )
    evaluation = evaluate(policy, snapshot)
    return Report(snapshot, evaluation, make_plan(policy, snapshot, evaluation, built.history), built.history)


def written(report: Report | None, succeeded: float | None = 1.0) -> str:
    return text(families(report, Mode.OBSERVE, NOON, NOON + timedelta(seconds=2), succeeded, ["idle-gpu"]))


def test_a_tick_tells_what_it_found_and_what_held_it_back(report: Report) -> None:
    """Each verdict, decision, source and problem is counted under its own words."""
    told = written(report)
    for line in (
        'ds01_policy_verdicts{rule="idle-gpu",verdict="act"} 1.0',
        'ds01_policy_verdicts{rule="idle-gpu",verdict="unknown"} 1.0',
        'ds01_policy_decisions{rule="idle-gpu",actions="warn",disposition="suppress",held_by="mode"} 1.0',
        'ds01_policy_source_up{source="prometheus"} 0.0',
        'ds01_policy_problems{code="no_series"} 1.0',
        "ds01_policy_unknown_ratio 0.25",
        "ds01_policy_duration_seconds 2.0",
    ):
        assert line in told.splitlines(), told


def test_what_is_switched_off_is_not_down(report: Report) -> None:
    """Nobody is woken for a Prometheus that settings.yaml does without."""
    sources = {**report.snapshot.sources, "prometheus": SourceState(up=False, off=True)}
    told = read(written(replace(report, snapshot=replace(report.snapshot, sources=sources))))
    assert told["ds01_policy_source_up"] == {(("source", "docker"),): 1.0}


@pytest.mark.parametrize(("mode", "withheld"), [(Mode.ENFORCE, 1.0), (Mode.OBSERVE, 0.0)], ids=str)
def test_a_rehearsed_budget_withholds_nothing(report: Report, mode: Mode, withheld: float) -> None:
    """Below enforce it only shows what it would withhold."""
    decision = report.plan.decisions[0]
    plan = replace(report.plan, decisions=(replace(decision, held_by=HeldBy.BUDGET, mode=mode),))
    told = read(written(replace(report, plan=plan)))
    assert told["ds01_policy_budget_withheld"] == {(): withheld}


def test_one_metric_alone_holds_what_a_user_wrote(report: Report) -> None:
    """Names of containers are hostile and endless: the one that joins GPUs with people is bounded, no other has any."""
    told = written(report)
    for word in ("train", "blind"):
        assert {name for name, samples in read(told).items() if word in str(samples)} == {HOLDERS}
    assert "quoted" not in told


def test_the_totals_are_counters_and_begin_at_nothing(report: Report) -> None:
    """Each rule there is has its own, also one that has stopped nobody yet; a rule that is gone keeps its number."""
    totals = Totals({"gone": 2.0}, {"idle-gpu": 1.0}, {"idle-gpu": 90.5})
    told = written(replace(report, totals=totals))
    found = read(told)
    assert found["ds01_policy_stops_total"] == {(("rule", "gone"),): 2.0, (("rule", "idle-gpu"),): 0.0}
    assert found["ds01_policy_regrets_total"] == {(("rule", "idle-gpu"),): 1.0}
    assert found["ds01_policy_gpu_seconds_reclaimed_total"] == {(("rule", "idle-gpu"),): 90.5}
    assert told.count(" counter\n") == 3


@pytest.mark.parametrize("without", ["a ledger", "Docker"])
def test_what_is_not_known_is_left_out(report: Report, without: str) -> None:
    """A 0 would say that nothing was ever stopped, or that nobody holds a GPU."""
    found = read(written(None if without == "Docker" else report))
    assert not [name for name in found if name.endswith("_total")]
    assert (HOLDERS in found) is (without == "a ledger")


def test_problems_are_those_that_are_shown(report: Report) -> None:
    """Of every stage, each once: as in the JSON."""
    twice = Problem("odd", "one")
    plan = replace(report.plan, problems=(twice, Problem("odd", "two")))
    found = read(written(replace(report, plan=plan, problems=(twice,))))
    assert found["ds01_policy_problems"] == {(("code", "no_series"),): 1.0, (("code", "odd"),): 2.0}


def test_prometheus_reads_it(report: Report) -> None:
    """`promtool check metrics` finds nothing to say, about a full tick and about one without Docker."""
    promtool = shutil.which("promtool")
    if promtool is None:
        (pytest.fail if os.environ.get("DS01_POLICY_REQUIRE_LIVE") == "1" else pytest.skip)("promtool is not installed")
    hostile = replace(report.snapshot.containers[0], name='a"\\\n\x1b{} 1', owner="…\u202e", group="x" * 500)
    everything = replace(
        report,
        snapshot=replace(report.snapshot, containers=(hostile, *report.snapshot.containers[1:])),
        totals=Totals({"idle-gpu": 3.0}, {"idle-gpu": 1.0}, {"idle-gpu": 90.5}),
    )
    watching = text(watch_families(Watching(following=True, last_event=NOON, waiting=0, epilogs={Status.DONE: 2})))
    for told in (written(report), written(None), written(everything) + watching, watching):
        read(told)
        done = subprocess.run([promtool, "check", "metrics"], input=told, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), told


@pytest.mark.parametrize(
    ("status", "writable", "well"),
    [(Status.DONE, True, True), (Status.STALE, True, True), (Status.FAILED, True, False), (Status.DONE, False, False)],
)
def test_success_is_more_than_having_run(report: Report, status: Status, *, writable: bool, well: bool) -> None:
    """A tick that fails at what it wanted, or that cannot remember, has not succeeded."""
    outcome = Outcome("d", Action.STOP, status)
    assert success(replace(report, outcomes=(outcome,), history=replace(report.history, writable=writable))) is well


def test_the_last_success_survives_ticks_that_fail(report: Report, tmp_path: Path) -> None:
    """Enforcement that silently stops working shows as a last success that grows old."""
    path = tmp_path / "ds01_policy.prom"
    assert last_success(path) is None
    write(path, written(report, 1234.5))
    assert last_success(path) == 1234.5
    write(path, written(None, last_success(path)))
    assert f"{LAST_SUCCESS} 1234.5" in path.read_text()
    write(path, written(None, None))
    assert last_success(path) is None
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["ds01_policy.prom"]
