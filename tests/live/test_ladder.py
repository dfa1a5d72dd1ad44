"""A real host, end to end: seen, warned, given notice, stopped, removed; on a real engine and a real Prometheus."""

from __future__ import annotations

import json
import re
import time

from rig.age_proxy import AgeProxy
from rig.engine import Engine
from rig.history import History
from rig.host import Host, plan, rule


def test_idle_is_warned_then_stopped_and_removed_and_work_goes_on(
    engine: Engine, proxy: AgeProxy, host: Host, now: float
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

    time.sleep(1.2)
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
        ("withheld", "stop"),
        ("intent", "warn"),
        ("outcome", "warn"),
        ("intent", "stop"),
        ("outcome", "stop"),
        ("intent", "remove"),
        ("outcome", "remove"),
        ("intent", "epilog"),
        ("outcome", "epilog"),
    ]


def test_observe_records_and_touches_nothing(engine: Engine, proxy: AgeProxy, host: Host, now: float) -> None:
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


def test_leftovers_are_removed_and_permanent_ones_stay(engine: Engine, proxy: AgeProxy, host: Host) -> None:
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


def test_everything_stays_when_prometheus_is_down(engine: Engine, proxy: AgeProxy, host: Host, now: float) -> None:
    """An outage is no error of evaluate: idle rules say unknown and why, exit 0."""
    idle = engine.run(gpus='"device=GPU-aaaa"', name="idle")
    proxy.age(idle, started="3h")
    host_cli = host(History(now, span="3h").gpu("GPU-aaaa", 0).cpu(idle, 0))
    host_cli("evaluate", "--json")
    time.sleep(1.2)
    text = (host_cli.config / "settings.yaml").read_text()
    (host_cli.config / "settings.yaml").write_text(re.sub(r"http://127.0.0.1:\d+", "http://127.0.0.1:9", text))
    blind = host_cli("evaluate", "--json")
    assert blind.rc == 0, blind.stderr
    assert rule(blind.json, "idle")["verdict"] == "unknown"
    assert {one["missing"] for one in rule(blind.json, "idle")["evidence"]} == {"source_down"}
    assert blind.json["sources"]["prometheus"]["up"] is False
    assert "source_down" in {one["code"] for one in blind.json["problems"]}
    assert engine.state(idle) == "running"
