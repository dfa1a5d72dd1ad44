"""Without Prometheus: the engine's own samples of real containers answer the same questions, and never more loosely."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from rig.age_proxy import AgeProxy
from rig.cli import Cli
from rig.engine import Engine
from rig.history import History
from rig.host import GPUS, LIMITS, Host, outcomes, plan, problems, rule
from rig.nvidia_smi import SmiGpu
from rig.prometheus import backfill, serve
from rig.samples import sampled

BUSY_LOOP = ("sh", "-c", "while :; do :; done")
# Windows of seconds, so that real ticks cover them.
SWIFT = LIMITS.replace("idle_timeout: 60m", "idle_timeout: 16s").replace("idle_timeout: 30m", "idle_timeout: 16s")
EVERY_S = 4.0


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: rule(document, one["name"])["verdict"] for one in document["containers"] if one["rules"]}


def sources(document: dict[str, Any], name: str) -> set[str]:
    return {str(piece["source"]) for piece in rule(document, name)["evidence"]}


def metric(folder: Path, source: str, missing: str) -> float:
    """Read how many containers' GPU utilisation was answered by this source."""
    labels = f'signal="gpu_utilization",source="{source}",missing="{missing}"'
    lines = (folder / "ds01_policy.prom").read_text().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"ds01_policy_readings{{{labels}}}"))


def kept(cli: Cli) -> int:
    """Count the ticks that are kept."""
    with closing(sqlite3.connect(cli.state / "ledger.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM samples").fetchone()
        return int(count)


def test_an_outage_of_prometheus_changes_no_verdict(
    engine: Engine, proxy: AgeProxy, host: Host, now: float, tmp_path: Path
) -> None:
    """Up, killed, and back: idle stays idle, work stays work, and everything that is written says who answered."""
    names = {"idle": "GPU-aaaa", "busy": "GPU-bbbb", "woke": "GPU-cccc"}
    ids = {name: engine.run(gpus=f'"device={uuid}"', name=name) for name, uuid in names.items()}
    for container in ids.values():
        proxy.age(container, started="5h")
    history = History(now, span="3h").gpu("GPU-aaaa", 0).gpu("GPU-bbbb", 80).gpu("GPU-cccc", "0x178m 100x2m")
    for container in ids.values():
        history.cpu(container, 0.0)
    folder = tmp_path / "prometheus"
    folder.mkdir()
    backfill(history.openmetrics(), folder)
    server = serve(folder)
    gpus = [SmiGpu(uuid, utilization={"GPU-bbbb": 80, "GPU-cccc": 100}.get(uuid, 0)) for uuid in GPUS]
    cli = host(server.url, mode="observe", gpus=gpus, metrics_file=str(tmp_path / "ds01_policy.prom"))
    used = {"GPU-aaaa": 0.0, "GPU-bbbb": 0.8, "GPU-cccc": 0.0}
    sampled(cli, now, gpus=used, cores=dict.fromkeys(ids.values(), 0.0))
    expected = {"idle": "act", "busy": "clear", "woke": "clear"}

    up = cli("evaluate", "--json").json
    assert verdicts(up) == expected
    assert sources(up, "idle") == {"prometheus"}
    assert up["sources"]["local"]["up"] is True
    assert metric(tmp_path, "prometheus", "") == 3
    assert "readings: all from prometheus\n" in cli("preview").stdout
    before = kept(cli)

    server.stop()
    for _ in range(2):
        down = cli("evaluate", "--json")
        assert down.rc == 0, down.stderr
        assert verdicts(down.json) == expected, down.stdout
        assert sources(down.json, "idle") == {"local"}
        assert down.json["sources"]["prometheus"]["up"] is False
        assert "this host's own samples answer instead" in problems(down.json)["source_down"]
        assert {one["instead_of"] for one in rule(down.json, "idle")["evidence"]} == {"prometheus: source_down"}
        assert metric(tmp_path, "local", "source_down") == 3
        assert metric(tmp_path, "prometheus", "") == 0
    after = kept(cli)
    assert after > before, "every tick keeps samples"
    shown = cli("preview", "--json").json
    assert verdicts(shown) == expected
    assert "readings: all from local samples (prometheus: source_down)\n" in cli("preview").stdout
    assert "gpu by local, not prometheus: source_down" in " ".join(cli("explain", "idle").stdout.split())
    assert kept(cli) == after, "a preview keeps none"

    server = serve(folder)
    try:
        settings = cli.config / "settings.yaml"
        settings.write_text(re.sub(r"http://127\.0\.0\.1:\d+", server.url, settings.read_text()))
        back = cli("evaluate", "--json").json
        assert verdicts(back) == expected
        assert sources(back, "idle") == {"prometheus"}
        assert metric(tmp_path, "prometheus", "") == 3
    finally:
        server.stop()


def test_a_host_without_prometheus_is_judged_by_its_own_ticks(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """`prometheus: never`, nothing prepared: real ticks on real cgroup counters warn, stop and remove the idle one."""
    idle = engine.run(gpus='"device=GPU-aaaa"', name="idle", labels={"ds01.user": "alice"})
    cpu_busy = engine.run("--cpus", "0.2", gpus='"device=GPU-bbbb"', name="cpu-busy", command=BUSY_LOOP)
    gpu_busy = engine.run(gpus='"device=GPU-cccc"', name="gpu-busy")
    web = engine.run(name="web")
    for container in (idle, cpu_busy, gpu_busy, web):
        proxy.age(container, started="3h")
    gpus = [SmiGpu(uuid, utilization=60 if uuid == "GPU-cccc" else 0) for uuid in GPUS]
    cli = host(
        None,
        gpus=gpus,
        files={"limits.yaml": SWIFT},
        awake="10s",
        local_samples={"interval": "10s", "retain": "1h"},  # on a slow machine a tick takes longer than EVERY_S
    )
    first = cli("evaluate", "--json").json
    cold = rule(first, "idle")
    assert cold["verdict"] == "unknown"
    assert "known from " in cold["why"], cold["why"]
    assert {piece["missing"] for piece in cold["evidence"]} == {"low_coverage"}
    assert first["sources"]["prometheus"] == {"up": False, "detail": "switched off in settings.yaml"}
    assert verdicts(first)["gpu-busy"] == "clear", "one busy look refutes idleness at once"

    seen: list[dict[str, Any]] = []
    deadline = time.monotonic() + 120
    began = time.monotonic()
    while engine.state(idle) != "gone":
        assert time.monotonic() < deadline, json.dumps(seen[-1], indent=1)[:6000]
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))
        began = time.monotonic()
        tick = cli("evaluate", "--json")
        assert tick.rc == 0, tick.stderr
        seen.append(tick.json)
    done = [outcomes(one)["idle"] for one in seen if one["outcomes"]]
    assert done[0] == "warn done"
    assert done[-1] == "stop done, remove done, epilog done"
    assert set(engine.ids()) == {cpu_busy, gpu_busy, web}
    assert rule(seen[-1], "cpu-busy")["verdict"] == "clear"
    assert "cpu" in rule(seen[-1], "cpu-busy")["why"]
    assert rule(seen[-1], "gpu-busy")["verdict"] == "clear"
    assert sources(seen[-1], "cpu-busy") == {"local"}
    assert not any(one["rules"] for one in seen[-1]["containers"] if one["name"] == "web")


def test_local_work_stands_against_a_quiet_prometheus(engine: Engine, proxy: AgeProxy, host: Host, now: float) -> None:
    """An exporter that says 0 while the driver says 90 stops nobody: conflict, and both are named."""
    work = engine.run(gpus='"device=GPU-aaaa"', name="work")
    proxy.age(work, started="5h")
    history = History(now, span="3h").gpu("GPU-aaaa", 0).cpu(work, 0.0)
    cli = host(history, gpus=[SmiGpu(uuid, utilization=90) for uuid in GPUS])
    sampled(cli, now, gpus={"GPU-aaaa": 0.9}, cores={work: 0.0})
    document = cli("evaluate", "--json").json
    assert rule(document, "work")["verdict"] == "unknown"
    gpu = next(one for one in rule(document, "work")["evidence"] if one["signal"] == "gpu_utilization")
    assert gpu["missing"] == "conflict"
    assert "contradict each other: prometheus 0%, local " in gpu["detail"]
    assert plan(document) == {}
    assert engine.state(work) == "running"


def test_a_recording_holds_local_samples(engine: Engine, proxy: AgeProxy, host: Host, now: float) -> None:
    """What was decided without Prometheus is decided again on a machine that has none of it."""
    idle = engine.run(gpus='"device=GPU-aaaa"', name="idle")
    proxy.age(idle, started="5h")
    cli = host(None, mode="observe")
    sampled(cli, now, gpus={"GPU-aaaa": 0.0}, cores={idle: 0.0})
    assert cli("record", str(cli.base / "recorded")).rc == 0
    live = cli("preview", "--json").json
    shutil.rmtree(cli.state)
    replayed = cli("--replay", str(cli.base / "recorded"), "preview", "--json")
    assert replayed.stderr == ""
    assert verdicts(replayed.json) == verdicts(live) == {"idle": "act"}
    assert sources(replayed.json, "idle") == {"local"}
    assert verdicts(cli("--replay", str(cli.base / "recorded"), "evaluate", "--json").json) == {"idle": "act"}


def test_no_gpu_stack_leaves_idleness_unknown_and_clocks_going(
    engine: Engine, proxy: AgeProxy, host: Host, now: float
) -> None:
    """Without a driver nobody samples GPUs: nothing is idle for it, and rules over clocks go on."""
    idle = engine.run(gpus='"device=GPU-aaaa"', name="idle")
    ended = engine.run(gpus='"device=GPU-bbbb"', name="ended")
    engine.cli("stop", "-t", "0", ended)
    proxy.age(idle, started="5h")
    proxy.age(ended, started="9h", finished="5h")
    cli = host(None, gpu={"nvidia_smi": "/nowhere/nvidia-smi"})
    sampled(cli, now, cores={idle: 0.0})
    document = cli("evaluate", "--json").json
    assert rule(document, "idle")["verdict"] == "unknown"
    assert outcomes(document) == {"ended": "remove done"}
    assert engine.state(idle) == "running"
