"""The engine's own metrics: readable by Prometheus, and last success means success."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ds01_policy.config.load import load
from ds01_policy.evaluate import evaluate
from ds01_policy.metrics import LAST_SUCCESS, families, last_success, success, text, write
from ds01_policy.model import Action, Mode, Outcome, Problem, SourceState, Status
from ds01_policy.plan import make_plan
from ds01_policy.scenario import NOON, scenario
from ds01_policy.tick import Report


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
    return text(families(report, Mode.OBSERVE, NOON, NOON + timedelta(seconds=2), succeeded))


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


def test_no_label_holds_what_a_user_wrote(report: Report) -> None:
    """Names of containers are hostile and endless: none of them is a label."""
    assert "train" not in written(report)
    assert "quoted" not in written(report)


def test_prometheus_reads_it(report: Report) -> None:
    """`promtool check metrics` finds nothing to say, about a full tick and about one without Docker."""
    promtool = shutil.which("promtool")
    if promtool is None:
        (pytest.fail if os.environ.get("DS01_POLICY_REQUIRE_LIVE") == "1" else pytest.skip)("promtool is not installed")
    for told in (written(report), written(None)):
        done = subprocess.run([promtool, "check", "metrics"], input=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


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
