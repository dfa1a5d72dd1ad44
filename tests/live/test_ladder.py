"""A real host, end to end: seen, warned, given notice, stopped, removed; on a real engine and a real Prometheus."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rig.age_proxy import AgeProxy
from rig.cli import Cli
from rig.engine import Engine
from rig.history import History
from rig.nvidia_smi import SmiGpu, write_nvidia_smi

# busybox's sleep takes no SIGTERM as process 1, so every stop takes its whole grace.
LIMITS = """\
version: 1
defaults: {idle_timeout: 60m, max_runtime: 24h, gpu_hold_after_stop: 15m, container_hold_after_stop: 30m, stop_grace: 1s}
default_group: student
groups: {student: {}}
container_types: {docker: {}, native: {}, compose: {}, devcontainer: {idle_timeout: never}, unknown: {idle_timeout: 30m}}
unknown_owner: {idle_timeout: 30m}
"""

GPUS = ("GPU-aaaa", "GPU-bbbb", "GPU-cccc", "GPU-dddd", "GPU-eeee", "GPU-ffff")

# The shipped rule with a notice that a test can wait for.
RULES = """\
version: 1
rules:
  - id: idle-gpu
    summary: Holds a GPU and has used neither it nor the CPU for its owner's idle timeout.
    match: {state: running, gpu: true, type: {not: devcontainer}}
    except: [infrastructure, exempted, keep_alive, {younger_than: 30m}]
    when:
      all:
        - {signal: gpu_utilization, below: 5%}
        - {signal: cpu_usage, below: 1%}
        - {signal: network_io, below: 10KiB/s}
    for: {limit: idle_timeout}
    warn: {at: 80%, notice: 1s}
    then: [stop, remove, epilog]
  - id: stopped-retention
    summary: Ended a while ago.
    match: {state: [exited, dead], gpu: true}
    for: {limit: container_hold_after_stop}
    then: [remove]
  - id: created-never-started
    summary: Never started.
    match: {state: created, gpu: true}
    for: 30m
    then: [remove]
"""


@pytest.fixture
def host(cli: Cli, proxy: AgeProxy, prometheus_with: Callable[..., str], tmp_path: Path) -> Callable[..., Cli]:
    """Configure the program for the test's engine, a history and a scripted nvidia-smi."""

    def configured(history: History | None, mode: str = "enforce", **settings: Any) -> Cli:
        smi = write_nvidia_smi(tmp_path / "nvidia-smi", [SmiGpu(uuid) for uuid in GPUS])
        return cli.configure(
            docker=proxy.url,
            prometheus=prometheus_with(history) if history else "never",
            nvidia_smi=smi,
            settings={"mode": mode, "notify": {"channels": []}, "budget": {"per_run": 5, "share": "100%"}, **settings},
            files={"rules/rules.yaml": RULES, "limits.yaml": LIMITS},
        )

    return configured


def rule(document: dict[str, Any], name: str, rule_id: str = "idle-gpu") -> dict[str, Any]:
    """Pick what one rule found for one container."""
    container = next(one for one in document["containers"] if one["name"] == name)
    found: dict[str, Any] = next(one for one in container["rules"] if one["rule"] == rule_id)
    return found


def plan(document: dict[str, Any]) -> dict[str, str]:
    """Shorten the plan to `name action+action: what`."""
    return {f"{one['name']} {'+'.join(one['actions'])}": one["held_by"] or one["disposition"] for one in document["plan"]}


def test_idle_is_warned_then_stopped_and_removed_and_work_goes_on(
    engine: Engine, proxy: AgeProxy, host: Callable[..., Cli], now: float
) -> None:
    """The whole ladder for one idle container beside a busy one, a woken one, one without metrics and a CPU one."""
    idle = engine.run(gpus='"device=GPU-aaaa"', name="idle", labels={"ds01.user": "alice"})
    busy = engine.run(gpus='"device=GPU-bbbb"', name="busy")
    woke = engine.run(gpus='"device=GPU-cccc"', name="woke")
    blind = engine.run(gpus='"device=GPU-dddd"', name="blind")
    web = engine.run(name="web")
    for container in (idle, busy, woke, blind, web):
        proxy.age(container, started="3h")
    history = History(now, span="3h").gpu("GPU-aaaa", 0).gpu("GPU-bbbb", 80).gpu("GPU-cccc", "0x178m 100x2m")
    for container in (idle, woke):
        history.cpu(container, 0.0005)
    history.cpu(busy, 0.9).cpu(blind, 0.0)
    host_cli = host(history)

    seen = host_cli("preview", "--json", "--all")
    assert seen.rc == 0, seen.stderr
    document = seen.json
    assert rule(document, "idle")["verdict"] == "act", rule(document, "idle")
    assert rule(document, "busy")["verdict"] == "clear"
    assert rule(document, "woke")["verdict"] == "clear"
    assert rule(document, "blind")["verdict"] == "unknown"
    assert next(one for one in document["containers"] if one["name"] == "web")["rules"] == []
    assert plan(document) == {"idle warn": "enforce", "idle stop+remove+epilog": "notice"}
    assert document["sources"]["prometheus"]["queries"] <= 12
    assert not [one for one in document["problems"] if one["code"] in ("source_down", "query_failed")]

    first = host_cli("evaluate", "--json")
    assert first.rc == 0, first.stderr
    assert [(one["action"], one["status"]) for one in first.json["outcomes"]] == [("warn", "done")]
    assert engine.state(idle) == "running", "one tick never both warns for the first time and stops"

    time.sleep(2.5)
    second = host_cli("evaluate", "--json")
    assert second.rc == 0, second.stdout + second.stderr
    assert [(one["action"], one["status"]) for one in second.json["outcomes"]] == [
        ("stop", "done"),
        ("remove", "done"),
        ("epilog", "done"),
    ], second.json["outcomes"]
    assert set(engine.ids()) == {busy, woke, blind, web}

    third = host_cli("evaluate", "--json")
    assert third.json["outcomes"] == []
    lines = [json.loads(line) for line in (host_cli.state / "audit.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["action"]) for line in lines] == [
        ("intent", "warn"),
        ("outcome", "warn"),
        ("intent", "stop"),
        ("outcome", "stop"),
        ("intent", "remove"),
        ("outcome", "remove"),
        ("intent", "epilog"),
        ("outcome", "epilog"),
    ]


def test_observe_records_and_touches_nothing(
    engine: Engine, proxy: AgeProxy, host: Callable[..., Cli], now: float
) -> None:
    """In mode observe the ladder is simulated; switching to enforce starts with a real warning."""
    idle = engine.run(gpus='"device=GPU-aaaa"', name="idle")
    proxy.age(idle, started="3h")
    host_cli = host(History(now, span="3h").gpu("GPU-aaaa", 0).cpu(idle, 0), mode="observe")
    assert plan(host_cli("evaluate", "--json").json) == {"idle warn": "mode", "idle stop+remove+epilog": "notice"}
    time.sleep(1.2)
    assert plan(host_cli("evaluate", "--json").json) == {"idle stop+remove+epilog": "mode"}
    text = (host_cli.config / "settings.yaml").read_text().replace("mode: observe", "mode: enforce")
    (host_cli.config / "settings.yaml").write_text(text)
    assert plan(host_cli("evaluate", "--json").json) == {"idle warn": "enforce", "idle stop+remove+epilog": "notice"}
    assert engine.state(idle) == "running"
    assert not [one for one in proxy.requests if one.method in ("POST", "DELETE")]


def test_leftovers_are_removed_and_permanent_ones_stay(
    engine: Engine, proxy: AgeProxy, host: Callable[..., Cli]
) -> None:
    """Rules over clocks need Docker alone: created-never-started and stopped-too-long, never one without a GPU."""
    created = engine.create(gpus='"device=GPU-aaaa"', name="created")
    fresh = engine.create(gpus='"device=GPU-aaaa"', name="fresh")
    ended = engine.run(gpus='"device=GPU-bbbb"', name="ended")
    plain = engine.run(name="plain")
    engine.cli("stop", "-t", "0", ended, plain)
    proxy.age(created, created="2h")
    proxy.age(ended, started="5h", finished="2h")
    proxy.age(plain, started="5h", finished="400h")
    done = host(None)("evaluate", "--json")
    assert done.rc == 0, done.stderr
    assert {(one["action"], one["status"]) for one in done.json["outcomes"]} == {("remove", "done")}
    assert set(engine.ids()) == {fresh, plain}


def test_everything_stays_when_prometheus_is_down(
    engine: Engine, proxy: AgeProxy, host: Callable[..., Cli], now: float
) -> None:
    """An outage is no error of evaluate: idle rules say unknown and why, exit 0."""
    idle = engine.run(gpus='"device=GPU-aaaa"', name="idle")
    proxy.age(idle, started="3h")
    host_cli = host(History(now, span="3h").gpu("GPU-aaaa", 0).cpu(idle, 0))
    host_cli("evaluate", "--json")
    time.sleep(2.2)
    text = (host_cli.config / "settings.yaml").read_text()
    (host_cli.config / "settings.yaml").write_text(re.sub(r"http://127.0.0.1:\d+", "http://127.0.0.1:9", text))
    blind = host_cli("evaluate", "--json")
    assert blind.rc == 0, blind.stderr
    assert rule(blind.json, "idle")["verdict"] == "unknown"
    assert {one["missing"] for one in rule(blind.json, "idle")["evidence"]} == {"source_down"}
    assert blind.json["sources"]["prometheus"]["up"] is False
    assert "source_down" in {one["code"] for one in blind.json["problems"]}
    assert engine.state(idle) == "running"
