"""What is shipped for Prometheus: promtool takes it, its own tests pass, and a real Prometheus answers by it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.history import History
from rig.monitoring import PROMETHEUS, dashboard, promtool
from rig.prometheus import Prometheus, backfill, serve

pytestmark = pytest.mark.live

TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))


def test_promtool_takes_the_configuration_and_its_rules() -> None:
    """The example is a whole prometheus.yml; nothing in it or in the rules is wrong, doubtful or double."""
    done = promtool("check", "config", "--lint-fatal", PROMETHEUS / "scrape.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_tests_of_rules_pass(path: Path) -> None:
    """Alerts fire when they should and not before; recordings have the values that they should have."""
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "before", "after", "test"),
    [
        ("alerts.yaml", "[3d])) > 1200", "[3d])) > 1500", "engine"),
        ("alerts.yaml", "{severity: info}", "{severity: warning}", "gpus"),
        ("alerts.yaml", "> 0.2\n        for: 2h", "> 0.2\n        for: 119m", "sources"),
        ("recording.yaml", "7 * max", "6 * max", "recording"),
        ("recording.yaml", "(job, instance) time()", "(instance) time()", "recording"),
    ],
    ids=["a threshold", "a severity", "a patience", "a factor", "a join"],
)
def test_the_tests_of_rules_notice(tmp_path: Path, file: str, before: str, after: str, test: str) -> None:
    """A test that passes whatever the rules say proves nothing: change them a little, and it fails."""
    (tmp_path / "tests").mkdir()
    for path in (*PROMETHEUS.glob("*.yaml"), *TESTS):
        (tmp_path / path.relative_to(PROMETHEUS)).write_text(path.read_text())
    text = (tmp_path / file).read_text()
    assert before in text
    (tmp_path / file).write_text(text.replace(before, after))
    assert promtool("check", "rules", tmp_path / file).returncode == 0
    done = promtool("test", "rules", tmp_path / "tests" / f"{test}.yaml")
    assert done.returncode == 1
    assert "FAILED" in done.stdout + done.stderr


def test_promtool_reads_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    """With Grafana's variables filled in, each is PromQL."""
    rules = [{"record": f"panel:{number}", "expr": promql} for number, promql in enumerate(dashboard().values())]
    path = tmp_path / "dashboard.json"  # which is YAML too
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "$" not in path.read_text()


# ── a real Prometheus ────────────────────────────────────────────────────────────────────────────────────────────────


def written(now: float) -> History:
    """Write an hour of two hosts: on gpu01 alice holds a GPU and a slice, bob the same GPU; on gpu02 carol works."""
    history = History(now, span="1h", ahead="0s")
    for host, docker in (("gpu01", 1), ("gpu02", 0)):
        labels = {"job": "node", "instance": host}
        for name in ("last_run", "last_success"):
            metric = f"ds01_policy_{name}_timestamp_seconds"
            history.points(metric, labels, ((ago, now + ago - ago % 300) for ago in range(-3600, 1, 30)))
        history.gauge("ds01_policy_gpus", labels, 4).gauge("ds01_policy_gpus_held", labels, 3)
        history.gauge("ds01_policy_source_up", labels | {"source": "docker"}, docker)
    for host, owner, uuid, instance in (
        ("gpu01", "alice", "GPU-aaaa", ""),
        ("gpu01", "alice", "GPU-bbbb", "7"),
        ("gpu01", "bob", "GPU-aaaa", ""),
        ("gpu02", "carol", "GPU-cccc", ""),
    ):
        container = {"id": owner[0] * 64, "name": "train", "owner": owner, "group": "student", "type": "docker"}
        labels = {"job": "node", "instance": host, **container, "gpu_uuid": uuid, "gpu_instance": instance}
        history.gauge("ds01_policy_container_gpu_info", labels, 1)
    return history.gpu("GPU-aaaa", 50).gpu("GPU-bbbb", 0.125, gpu_instance=7).gpu("GPU-cccc", 100)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Give what is shipped to a real Prometheus over that hour; it evaluates each second, and waits for no `for`."""
    folder = tmp_path_factory.mktemp("deployed")
    backfill(written(time.time()).openmetrics(), folder)
    for name in ("recording.yaml", "alerts.yaml"):
        hurried = re.sub(r"\b(interval|for): \d+[mh]\b", r"\1: 1s", (PROMETHEUS / name).read_text())
        (folder / name).write_text(hurried)
    running = serve(folder, "rule_files: [recording.yaml, alerts.yaml]\n")
    yield running
    running.stop()


def by_labels(result: list[dict[str, Any]], *labels: str) -> dict[tuple[str, ...], float]:
    return {tuple(each["metric"].get(label, "") for label in labels): float(each["value"][1]) for each in result}


def test_a_real_prometheus_records_who_uses_what(server: Prometheus) -> None:
    """Joined by UUID and GPU instance: each container has its GPU's use, each owner holds what their containers do."""
    used = server.wait_for("ds01:container_gpu_utilization:ratio")
    assert by_labels(used, "instance", "owner", "gpu_uuid", "gpu_instance") == {
        ("gpu01", "alice", "GPU-aaaa", ""): 0.5,
        ("gpu01", "alice", "GPU-bbbb", "7"): 0.875,
        ("gpu01", "bob", "GPU-aaaa", ""): 0.5,
        ("gpu02", "carol", "GPU-cccc", ""): 1.0,
    }
    held = server.wait_for("ds01:owner_gpus_held:count")
    assert by_labels(held, "instance", "owner") == {
        ("gpu01", "alice"): 2.0,
        ("gpu01", "bob"): 1.0,
        ("gpu02", "carol"): 1.0,
    }
    assert by_labels(server.wait_for("ds01:host_gpus_held:ratio"), "instance") == {("gpu01",): 0.75, ("gpu02",): 0.75}


def test_a_real_prometheus_raises_the_alert_of_one_host(server: Prometheus) -> None:
    """Docker does not answer on gpu02: that is the only alert there is."""
    server.wait_for('ALERTS{alertstate="firing"}')
    assert by_labels(server.query("ALERTS"), "alertname", "instance", "source", "severity", "alertstate") == {
        ("Ds01PolicySourceDown", "gpu02", "docker", "warning", "firing"): 1.0
    }


@pytest.mark.parametrize("name", dashboard())
def test_a_real_prometheus_answers_the_dashboard(server: Prometheus, name: str) -> None:
    """No expression fails over real series: no join is ambiguous, and no label is there twice."""
    server.query(dashboard()[name])  # what is no answer raises


def test_the_dashboard_shows_people(server: Prometheus) -> None:
    """The first thing anybody wants to see: who holds how many GPUs, and how busy they are."""
    server.wait_for("ds01:owner_gpu_utilization:ratio")
    shown = dashboard()
    assert by_labels(server.query(shown["GPUs held A"]), "owner") == {("alice",): 2.0, ("bob",): 1.0, ("carol",): 1.0}
    busy = by_labels(server.query(shown["By person, over the time shown C"]), "owner")
    assert busy == {("alice",): 0.6875, ("bob",): 0.5, ("carol",): 1.0}
    assert set(by_labels(server.query(shown["Since the last success A"]), "instance")) == {("gpu01",), ("gpu02",)}
