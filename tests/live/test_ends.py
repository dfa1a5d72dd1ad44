"""Containers that end by any hand, on a real engine: each gets one epilog, whoever follows and whatever is killed."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rig.cli import Cli
from rig.engine import OBEDIENT, Engine
from rig.host import GPUS, LIMITS, OVERTIME
from rig.nvidia_smi import SmiGpu, write_nvidia_smi
from rig.waiting import until

FOLLOWING = "following Docker's events"
WAITS = ("sh", "-c", "until [ -e /gate/open ]; do sleep 0.1; done")  # ends by itself, when it is let


class Watching:
    """A `watch` that runs beside the test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []  # on stdout
        self.told: list[str] = []  # on stderr
        self._threads = [
            threading.Thread(target=kept.extend, args=(pipe,), daemon=True)
            for kept, pipe in ((self.said, process.stdout), (self.told, process.stderr))
            if pipe is not None
        ]
        for thread in self._threads:
            thread.start()

    def follows(self, times: int = 1) -> None:
        """Wait until it has connected so often."""
        until(lambda: sum(FOLLOWING in line for line in self.told) >= times, "it does not follow")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for its end: its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(30)
        for thread in self._threads:
            thread.join(10)
        return code


Start = Callable[[], Watching]


@pytest.fixture
def host(cli: Cli, engine: Engine) -> Cli:
    """Configure a host that acts, with six GPUs that are well."""
    smi = write_nvidia_smi(cli.base / "nvidia-smi", [SmiGpu(uuid) for uuid in GPUS])
    quiet = {"mode": "enforce", "notify": {"channels": []}, "epilog": {"reset": "never"}}
    return cli.configure(
        docker=f"unix://{engine.socket}", nvidia_smi=smi, settings=quiet, files={"rules/rules.yaml": OVERTIME}
    )


@pytest.fixture
def watching(host: Cli) -> Iterator[Start]:
    """Start as many `watch` as the test asks for; each follows events when it is handed over."""
    started: list[Watching] = []

    def start() -> Watching:
        started.append(Watching(host.start("watch")))
        started[-1].follows()
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait(30)
        for pipe in (one.process.stdout, one.process.stderr):
            if pipe is not None:
                pipe.close()


def epilogs(cli: Cli) -> dict[str, tuple[str | None, int]]:
    """Read status and tries of each container's epilogs from the ledger."""
    with closing(sqlite3.connect(cli.state / "ledger.db", timeout=10)) as connection, contextlib.suppress(IndexError):
        rows = connection.execute("SELECT container, status, tries FROM epilogs").fetchall()
        assert len(rows) == len({row[0] for row in rows})
        return {container: (status, tries) for container, status, tries in rows}
    return {}


def finished(cli: Cli, *containers: str) -> bool:
    found = epilogs(cli)
    return all(found.get(container, (None, 0))[0] is not None for container in containers)


def remembered(cli: Cli, *containers: str) -> bool:
    """Tell whether what each of them holds is written down: what goes before that is owed nothing."""
    with closing(sqlite3.connect(cli.state / "ledger.db", timeout=10)) as connection:
        known = {row[0] for row in connection.execute("SELECT container FROM inventory")}
    return known >= set(containers)


def logged(cli: Cli, kind: str) -> list[dict[str, Any]]:
    """Read the audit log's lines about epilogs."""
    path = cli.state / "audit.jsonl"
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [line for line in lines if line["kind"] == kind and line.get("action") == "epilog"]


def test_every_end_gets_one_epilog_however_many_follow(
    engine: Engine, host: Cli, watching: Start, tmp_path: Path
) -> None:
    """By itself, stopped, removed, removing itself; two watches and ticks at once. One without a GPU gets none."""
    watches = [watching(), watching()]
    gate = f"--volume={tmp_path}:/gate:ro"
    before = engine.run(gpus=f"device={GPUS[0]}", name="stopped", command=OBEDIENT)
    ids = {
        "stopped": before,
        "by-itself": engine.run(gate, gpus=f"device={GPUS[1]}", name="by-itself", command=WAITS),
        "removed": engine.run(gpus=f"device={GPUS[2]}", name="removed"),
        "removes-itself": engine.run("--rm", gate, gpus=f"device={GPUS[3]}", name="removes-itself", command=WAITS),
    }
    without = engine.run(name="without", command=("true",))
    until(lambda: remembered(host, *ids.values()), "they were not remembered")
    ticks = [host.start("evaluate", "--json") for _ in range(2)]
    (tmp_path / "open").touch()
    engine.cli("stop", "--time", "5", ids["stopped"])
    engine.cli("rm", "--force", ids["removed"])
    ticks.append(host.start("evaluate", "--json"))
    until(lambda: finished(host, *ids.values()), "an epilog is missing")
    engine.rm(ids["stopped"], ids["by-itself"], without)  # a removal after the end is no other end
    for tick in ticks:
        stdout, stderr = tick.communicate(timeout=60)
        assert tick.returncode in (0, 5), stdout + stderr  # 5: they met
    last = host("evaluate", "--json")
    assert last.rc == 0, last.stdout + last.stderr
    assert [one.end() for one in watches] == [0, 0]

    assert epilogs(host) == dict.fromkeys(ids.values(), ("done", 1))
    outcomes = logged(host, "outcome")
    assert Counter(line["container"] for line in outcomes) == Counter(ids.values())
    assert Counter(line["container"] for line in logged(host, "intent")) == Counter(ids.values())
    held = {name: [gpu] for name, gpu in zip(ids, GPUS, strict=False)}
    assert {line["name"]: line["gpus"] for line in outcomes} == held
    assert all(line["hands"] and line["findings"][0]["health"] == "ok" for line in outcomes)
    said = [line for one in watches for line in one.said]
    by_watch = [line for line in outcomes if line["by"] == "watch"]
    assert len(said) == len(by_watch)
    assert not any("Traceback" in line for one in watches for line in one.told)


def test_what_a_rule_ends_gets_one_epilog_too(engine: Engine, host: Cli, watching: Start) -> None:
    """The tick that stops and removes it, and the watch that sees it end: the second says what the first found."""
    watch = watching()
    container = engine.run(gpus=f"device={GPUS[0]}", name="overtime", command=OBEDIENT)
    until(lambda: b"overtime" in (host.state / "ledger.db").read_bytes(), "it was not remembered")
    host.write({"rules/rules.yaml": OVERTIME.replace("for: 1h", "for: 1s"), "limits.yaml": LIMITS})
    until(lambda: host("evaluate").rc == 0 and container not in engine.ids(), "it was not ended")
    until(lambda: finished(host, container), "the epilog is missing")
    assert watch.end() == 0
    assert epilogs(host) == {container: ("done", 1)}
    by_watch = [line for line in logged(host, "outcome") if line.get("by") == "watch"]
    (decided,) = (line for line in logged(host, "outcome") if line.get("rule") == "overtime")
    assert (decided["status"], len(by_watch)) in {("done", 0), ("noop", 1)}
    assert f"{GPUS[0]}" in decided["detail"]


def test_a_restart_of_docker_is_outlived(engine: Engine, host: Cli, watching: Start, tmp_path: Path) -> None:
    """What ran ends with the daemon and is seen to; what comes after the restart is followed as before."""
    watch = watching()
    ran = engine.run(gpus=f"device={GPUS[0]}", name="ran", command=OBEDIENT)
    until(lambda: b"ran" in (host.state / "ledger.db").read_bytes(), "it was not remembered")
    engine.down()
    until(lambda: len(watch.told) >= 2, "the loss was not told")
    engine.up()
    watch.follows(2)
    until(lambda: finished(host, ran), "the epilog of what ran is missing")
    gate = f"--volume={tmp_path}:/gate:ro"
    after = engine.run("--rm", gate, gpus=f"device={GPUS[1]}", name="after", command=WAITS)
    until(lambda: remembered(host, after), "it was not remembered")
    (tmp_path / "open").touch()
    until(lambda: finished(host, after), "the epilog of what came after is missing")
    assert watch.end(signal.SIGINT) == 0
    assert epilogs(host) == {ran: ("done", 1), after: ("done", 1)}
    assert [line["name"] for line in logged(host, "outcome")] == ["ran", "after"]


def test_a_killed_epilog_is_resumed(engine: Engine, host: Cli, watching: Start) -> None:
    """SIGKILL while the driver is asked: whoever comes next finishes it at once, and once."""
    watch = watching()
    container = engine.run(gpus=f"device={GPUS[0]}", name="train")
    until(lambda: b"train" in (host.state / "ledger.db").read_bytes(), "it was not remembered")
    smi = host.base / "nvidia-smi"
    write_nvidia_smi(smi, [SmiGpu(uuid) for uuid in GPUS], hang_s=15)
    engine.rm(container)
    until(lambda: container in epilogs(host), "no epilog began")
    watch.process.kill()
    watch.process.wait(30)
    assert epilogs(host) == {container: (None, 1)}
    write_nvidia_smi(smi, [SmiGpu(uuid) for uuid in GPUS])
    resumed = host("watch", "--once")
    assert resumed.rc == 0, resumed.stderr
    assert "epilog of train" in resumed.stdout
    assert epilogs(host) == {container: ("done", 2)}
    assert (len(logged(host, "intent")), len(logged(host, "outcome"))) == (2, 1)
    again = host("watch", "--once")
    assert (again.rc, again.stdout) == (0, "")


def test_a_host_without_watch_loses_only_minutes(engine: Engine, host: Cli) -> None:
    """Each tick sees to what the one before knew and is gone; in mode observe it only looks, and that is that."""
    first, second = (
        engine.run(gpus=f"device={gpu}", name=name) for gpu, name in zip(GPUS, ("one", "two"), strict=False)
    )
    assert host("evaluate", "--json").rc == 0
    engine.rm(first)
    assert host("evaluate", "--json", "--mode", "observe").rc == 0
    assert epilogs(host) == {first: ("done", 1)}
    engine.rm(second)
    for _ in range(2):
        assert host("evaluate", "--json").rc == 0
    assert epilogs(host) == {first: ("done", 1), second: ("done", 1)}
    assert [(line["name"], line["by"], line["hands"]) for line in logged(host, "outcome")] == [
        ("one", "evaluate", False), ("two", "evaluate", True),
    ]  # fmt: skip


def test_an_unfit_gpu_is_told_of_until_it_is_found_well(engine: Engine, host: Cli) -> None:
    """Found lost after a container, it is a problem of every preview, and a metric; a later epilog clears it."""
    metrics = host.base / "ds01.prom"
    host.write({"settings.yaml": (host.config / "settings.yaml").read_text() + f"metrics_file: {metrics}\n"})
    smi = host.base / "nvidia-smi"
    first, second = (engine.run(gpus=f"device={GPUS[0]}", name=name) for name in ("one", "two"))
    assert host("evaluate", "--json").rc == 0
    assert "gpu_unfit{" not in metrics.read_text()
    write_nvidia_smi(smi, [SmiGpu(GPUS[0], used_mib=40_000), *map(SmiGpu, GPUS[1:])])
    engine.rm(first)
    told = host("evaluate", "--json").json
    (problem,) = (one["detail"] for one in told["problems"] if one["code"] == "unfit_gpu")
    assert problem.startswith(f"{GPUS[0]} is unfit since ")
    assert f"ds01-policy epilog --gpu {GPUS[0]} --clear" in problem
    assert f'ds01_policy_gpu_unfit{{gpu="{GPUS[0]}"}} 1.0' in metrics.read_text()
    assert "unfit_gpu" in host("preview").stdout
    write_nvidia_smi(smi, [SmiGpu(uuid) for uuid in GPUS])
    engine.rm(second)
    well = host("evaluate", "--json").json
    assert "unfit_gpu" not in [one["code"] for one in well["problems"]]
    assert "gpu_unfit{" not in metrics.read_text()
