"""What happens to an engine at work: containers vanish or change, Docker hangs, somebody kills it, two run at once."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rig.age_proxy import AgeProxy
from rig.cli import Cli, Result
from rig.engine import OBEDIENT, Engine
from rig.host import OVERTIME, Host, about, audit, details, outcomes, plan, problems, rule, run_all, script
from rig.nvidia_smi import write_nvidia_smi
from rig.waiting import until

ALWAYS = {"flags": ["--restart=always"]}
STOPPED_AND_REMOVED = "stop done, remove done, epilog done"
LIST = r"^/containers/json"


def clean(result: Result, rc: int = 0) -> dict[str, Any]:
    """Check that a run ended as a program that is in control: that code, no traceback, one JSON document."""
    assert "Traceback" not in result.stdout + result.stderr
    assert result.rc == rc, result.stdout + result.stderr
    return result.json


# ── containers that vanish or change ─────────────────────────────────────────────────────────────────────────────────


def test_a_container_may_vanish_at_any_call(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """Each of these is removed by somebody else at another call of the same tick: no run fails, and the others go."""
    at: dict[str, tuple[str, str, int, str]] = {  # name → method, path, which of them, what is told
        "when-inspected": ("GET", "/json", 1, ""),
        "when-asked-for-its-file": ("HEAD", "/archive", 1, "stop stale, remove withheld, epilog withheld"),
        "when-looked-at-again": ("GET", "/json", 2, "stop stale, remove withheld, epilog withheld"),
        "when-asked-again": ("HEAD", "/archive", 2, "stop noop, remove noop, epilog done"),
        "before-the-stop": ("GET", "/json", 3, "stop noop, remove noop, epilog done"),
        "at-the-update": ("POST", "/update", 1, "stop noop, remove noop, epilog done"),
        "after-the-update": ("GET", "/json", 4, "stop noop, remove noop, epilog done"),
        "at-the-stop": ("POST", "/stop", 1, "stop noop, remove noop, epilog done"),
        "after-the-stop": ("GET", "/json", 4, STOPPED_AND_REMOVED),
        "before-the-removal": ("GET", "/json", 5, STOPPED_AND_REMOVED),
        "at-the-removal": ("DELETE", "", 1, STOPPED_AND_REMOVED),
    }
    others = {"goes-by-itself": {"flags": ["--rm"]}, "stays-up": {}}
    names = {name: ALWAYS if name.endswith("update") else {} for name in at} | others
    ids = dict(zip(names, run_all(engine, proxy, names, "3h"), strict=True))
    faults = [proxy.fault(method, about(ids[name], path), nth, "vanish") for name, (method, path, nth, _) in at.items()]
    host_cli = host(rules=OVERTIME)

    told = clean(host_cli("evaluate", "--json"))
    assert all(fault.fired.is_set() for fault in faults)
    expected = {name: words for name, (*_, words) in at.items() if words}
    assert outcomes(told) == expected | dict.fromkeys(others, STOPPED_AND_REMOVED)
    assert engine.ids() == []
    after = clean(host_cli("evaluate", "--json"))
    assert (after["plan"], after["outcomes"], after["containers"]) == ([], [], [])


def test_what_is_no_longer_what_was_decided_about_lives(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """Restarted, renamed, paused or kept alive between the plan and the act, a container is left alone: STALE."""

    def touch(container: str) -> None:
        engine.exec(container, "touch", "/workspace/.keep-alive")

    def restart(container: str) -> None:
        engine.cli("restart", "-t", "0", container)

    def rename(container: str) -> None:
        engine.cli("rename", container, f"x-{container[:8]}")

    def pause(container: str) -> None:
        engine.cli("pause", container)

    at: dict[str, tuple[Callable[[str], None], str, int]] = {  # name → what somebody does, at which look
        "restarted": (restart, "/json", 2),
        "renamed": (rename, "/json", 2),
        "paused": (pause, "/json", 2),
        "kept": (touch, "/archive", 2),
        "restarted-late": (restart, "/json", 3),
        "renamed-late": (rename, "/json", 3),
        "paused-late": (pause, "/json", 3),
        "restarted-last": (restart, "/json", 4),
    }
    names = {name: ALWAYS if name == "restarted-last" else {} for name in at} | {"unchanged": {}}
    ids = dict(zip(names, run_all(engine, proxy, names, "3h"), strict=True))
    for name, (change, path, nth) in at.items():
        method = "HEAD" if path == "/archive" else "GET"
        proxy.fault(method, about(ids[name], path), nth, action=partial(change, ids[name]))

    told = clean(host(rules=OVERTIME)("evaluate", "--json"))
    stale = "stop stale, remove withheld, epilog withheld"
    assert outcomes(told) == dict.fromkeys(at, stale) | {"unchanged": STOPPED_AND_REMOVED}
    assert set(engine.ids()) == {ids[name] for name in at}
    words = details(told, "stop")
    assert "keep-alive file" in words["kept"]
    assert f"it is called x-{ids['renamed-late'][:8]} now" in words["renamed-late"]
    assert words["restarted-late"].startswith("started ")
    assert words["restarted-last"].endswith("its restart policy always was put back")
    assert engine.inspect(ids["restarted-last"])["HostConfig"]["RestartPolicy"]["Name"] == "always"


# ── a Docker that does not answer ────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_that_never_comes_is_judged_by_looking(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """Calls that hang or whose answer is lost: what was achieved counts, and one stuck container holds nobody up."""
    faults = {  # name → method, path, which of them, what becomes of the call
        "stop-carried-out-unheard": ("POST", "/stop", 1, "read_timeout"),
        "stop-answer-lost": ("POST", "/stop", 1, "lost"),
        "stop-never-arrived": ("POST", "/stop", 1, "hang"),
        "removal-answer-lost": ("DELETE", "", 1, "lost"),
        "stuck": ("GET", "/json", 1, "hang"),
        "stuck-at-the-second-look": ("GET", "/json", 2, "hang"),
        "no-reason-given": ("POST", "/stop", 1, "status:500"),
    }
    names: dict[str, dict[str, Any]] = {**{name: {} for name in faults}, "well": {}}
    ids = dict(zip(names, run_all(engine, proxy, names, "3h"), strict=True))
    for name, (method, path, nth, kind) in faults.items():
        proxy.fault(method, about(ids[name], path), nth, kind)
    host_cli = host(rules=OVERTIME)  # and its 10 s for each call: what answers is not to be too slow by chance

    told = clean(host_cli("evaluate", "--json", timeout=90), rc=1)
    failed = "stop failed, remove withheld, epilog withheld"
    gone = ("stop-carried-out-unheard", "stop-answer-lost", "removal-answer-lost", "well")
    assert outcomes(told) == {
        **dict.fromkeys(gone, STOPPED_AND_REMOVED),
        "stop-never-arrived": failed,
        "no-reason-given": failed,
        "stuck-at-the-second-look": "stop stale, remove withheld, epilog withheld",
    }
    assert ids["stuck"][:12] in problems(told)["container_unreadable"]
    assert "although Docker did not answer" in details(told, "stop")["stop-carried-out-unheard"]
    assert details(told, "stop")["stop-never-arrived"].startswith("still running after the stop")
    assert set(engine.ids()) == set(ids.values()) - {ids[name] for name in gone}

    proxy.clear_faults()
    after = clean(host_cli("evaluate", "--json", timeout=90))
    assert set(outcomes(after)) == {"stop-never-arrived", "no-reason-given", "stuck", "stuck-at-the-second-look"}
    assert engine.ids() == []


def test_files_that_cannot_be_looked_for_hold_a_run_up_only_so_long(
    engine: Engine, proxy: AgeProxy, host: Host
) -> None:
    """Where keep-alive files lie on a dead network share, three timeouts are enough: the rest is left for later."""
    names: dict[str, dict[str, Any]] = {f"c{number}": {} for number in range(5)}
    run_all(engine, proxy, names, "3h")
    proxy.fault("HEAD", "/archive", kind="hang", times=None)
    told = clean(host(rules=OVERTIME)("evaluate", "--json", timeout=60))
    assert len(proxy.asked("HEAD", "/archive")) == 3
    assert {rule(told, name, "overtime")["verdict"] for name in names} == {"unknown"}
    assert problems(told)["docker_slow"] == "2 more keep-alive files were not looked for"
    assert (told["plan"], len(engine.ids())) == ([], 5)


def test_a_driver_that_hangs_holds_nobody_up(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """With nvidia-smi stuck, rules over clocks go on, and only the check of the GPU after the removal fails."""
    run_all(engine, proxy, {"doomed": {}}, "3h")
    host_cli = host(rules=OVERTIME, gpu={"timeout": "1s"}, epilog={"timeout": "1s"})
    write_nvidia_smi(host_cli.base / "nvidia-smi", [], hang_s=300)
    told = clean(host_cli("evaluate", "--json", timeout=60), rc=1)
    assert told["sources"]["gpu"]["up"] is False
    assert "could not be listed" in problems(told)["gpu_down"]
    assert outcomes(told) == {"doomed": "stop done, remove done, epilog failed"}
    assert engine.ids() == []


@pytest.mark.parametrize("kind", ["hang", "reset", "status:500", "truncate", "body:null"])
def test_a_docker_that_cannot_be_observed_ends_the_run(engine: Engine, proxy: AgeProxy, host: Host, kind: str) -> None:
    """Without a list of containers nothing is known: exit code 3 in time, and nothing was done."""
    del engine
    proxy.fault("GET", LIST, kind=kind, times=None)
    told = clean(host(rules=OVERTIME)("evaluate", "--json", timeout=30), rc=3)
    assert told["sources"]["docker"]["up"] is False
    assert problems(told).keys() == {"docker_down"}
    assert {one.method for one in proxy.requests} == {"GET"}


# ── killed, and run twice ────────────────────────────────────────────────────────────────────────────────────────────

CHAIN = """\
version: 1
rules:
  - id: overtime
    summary: Has run for too long.
    match: {state: running, gpu: true, label: {not: patient=yes}}
    except: [keep_alive]
    for: 1h
    then: [stop, remove, epilog]
  - id: patient
    summary: Is warned, and not yet more.
    match: {state: running, gpu: true, label: patient=yes}
    for: 2h
    warn: {at: 80%, notice: 10m}
    then: [stop]
  - id: leftover
    summary: Ended a while ago.
    match: {state: exited, gpu: true}
    for: 30m
    then: [remove]
"""


def killed_at(host_cli: Cli, proxy: AgeProxy, method: str, path: str, nth: int, *, passed: bool) -> None:
    """Run a tick and kill -9 it at this call, which Docker then hears of (`passed`) or not."""
    victims: list[subprocess.Popen[str]] = []
    begun = threading.Event()

    def kill() -> None:
        begun.wait(30)
        victims[0].kill()
        victims[0].wait(30)

    fault = proxy.fault(method, path, nth, "pass" if passed else "reset", action=kill)
    with host_cli.start("evaluate", "--json") as victim:
        victims.append(victim)
        begun.set()
        stdout, stderr = victim.communicate(timeout=60)
    assert fault.fired.wait(5), f"{method} {path} ({nth}) was never called:\n{stdout}{stderr}"
    assert victim.returncode == -signal.SIGKILL
    proxy.clear_faults()


def test_killed_at_any_call_it_is_finished_by_the_next_run(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """One container, and a tick killed at each call in turn: Docker stops and removes it once, nobody is told twice."""
    patient, doomed = run_all(
        engine, proxy, {"patient": {"labels": {"patient": "yes"}}, "doomed": ALWAYS}, started="110m"
    )
    host_cli = host(rules=CHAIN)
    began = time.time()
    killed_at(host_cli, proxy, "GET", LIST, 1, passed=False)
    killed_at(host_cli, proxy, "GET", about(doomed), 1, passed=False)
    killed_at(host_cli, proxy, "HEAD", about(doomed, "/archive"), 1, passed=False)
    assert audit(host_cli) == []
    killed_at(host_cli, proxy, "GET", about(doomed), 2, passed=False)  # from here on the patient has been warned
    killed_at(host_cli, proxy, "GET", about(doomed), 3, passed=False)  # and from here on a stop has been begun
    killed_at(host_cli, proxy, "POST", about(doomed, "/update"), 1, passed=False)
    assert engine.inspect(doomed)["HostConfig"]["RestartPolicy"]["Name"] == "always"
    killed_at(host_cli, proxy, "POST", about(doomed, "/update"), 1, passed=True)
    until(lambda: engine.inspect(doomed)["HostConfig"]["RestartPolicy"]["Name"] == "no", "it still restarts", 30)
    killed_at(host_cli, proxy, "POST", about(doomed, "/stop"), 1, passed=False)
    assert engine.state(doomed) == "running"
    killed_at(host_cli, proxy, "POST", about(doomed, "/stop"), 1, passed=True)
    until(lambda: engine.state(doomed) == "exited", "it was not stopped", 30)
    proxy.age(doomed, started="110m", finished="40m")
    killed_at(host_cli, proxy, "DELETE", about(doomed, ""), 1, passed=False)
    killed_at(host_cli, proxy, "DELETE", about(doomed, ""), 1, passed=True)
    until(lambda: engine.state(doomed) == "gone", "it was not removed", 30)

    last = clean(host_cli("evaluate", "--json"))
    assert last["outcomes"] == []
    assert clean(host_cli("evaluate", "--json"))["outcomes"] == []
    assert engine.ids() == [patient]
    happened = Counter(happening(engine, began))
    assert (happened["stop doomed"], happened["destroy doomed"]) == (1, 1)
    lines = audit(host_cli)
    assert [line[:2] for line in lines if line[2] == "patient"] == [("intent", "warn"), ("outcome", "warn")]
    assert [line[:2] for line in lines if line[2] == "doomed"] == [
        *[("intent", "stop"), ("recovery", "stop")] * 5,
        *[("intent", "remove"), ("recovery", "remove")] * 2,
    ]
    with sqlite3.connect(host_cli.state / "ledger.db") as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert ledger.execute("SELECT action, count(*) FROM actions WHERE status IS NULL GROUP BY 1").fetchall() == []
        resolved = ledger.execute("SELECT action, status FROM actions WHERE name = 'doomed' ORDER BY id").fetchall()
    ledger.close()
    assert resolved == [*[("stop", "failed")] * 4, ("stop", "done"), ("remove", "failed"), ("remove", "done")]


def test_killed_while_it_warns_it_warns_again(engine: Engine, proxy: AgeProxy, host: Host, tmp_path: Path) -> None:
    """Nobody knows whether that warning went out: notice counts from the next one, and only that one is followed."""
    (patient,) = run_all(engine, proxy, {"patient": {}}, "3h")
    said, mark = tmp_path / "said", tmp_path / "killed"
    # The first time it has said its text it kills the program that waits for it.
    wall = script(tmp_path / "bin" / "wall", f"cat >> {said}; [ -e {mark} ] || {{ touch {mark}; kill -9 $PPID; }}")
    rules = OVERTIME.replace("    then:", "    warn: {at: 80%, notice: 1s}\n    then:")
    host_cli = host(rules=rules, notify={"channels": ["wall"], "unreached_notice": 1})
    env = {"PATH": f"{wall.parent}:{host_cli.env['PATH']}"}
    assert host_cli("evaluate", "--json", env=env).rc == -signal.SIGKILL
    time.sleep(1.2)
    again = clean(host_cli("evaluate", "--json", env=env))
    assert outcomes(again) == {"patient": "warn done"}
    assert engine.state(patient) == "running"
    time.sleep(1.2)
    assert outcomes(clean(host_cli("evaluate", "--json", env=env))) == {"patient": STOPPED_AND_REMOVED}
    assert said.read_text().count("will be stopped and removed") == 2
    warnings = [kind for kind, action, *_ in audit(host_cli) if action == "warn"]
    assert warnings == ["intent", "recovery", "intent", "outcome"]


def test_two_runs_never_meet(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """While one run is at work, a second one says whose turn it is, asks Docker nothing and ends with exit code 5."""
    (doomed,) = run_all(engine, proxy, {"doomed": {}}, "3h")
    host_cli = host(rules=OVERTIME)
    seconds: list[tuple[Result, int]] = []

    def second_run() -> None:
        before = len(proxy.requests)
        seconds.append((host_cli("evaluate", "--json"), len(proxy.requests) - before))

    proxy.fault("POST", about(doomed, "/stop"), action=second_run)
    with host_cli.start("evaluate", "--json") as first:
        stdout, stderr = first.communicate(timeout=60)
    assert first.returncode == 0, stderr
    assert outcomes(json.loads(stdout)) == {"doomed": STOPPED_AND_REMOVED}
    ((second, requests),) = seconds
    assert (second.rc, second.stdout, requests) == (5, "", 0)
    assert f"process {first.pid}" in second.stderr
    assert len(proxy.asked("POST", "/stop")) == 1
    assert [line[:2] for line in audit(host_cli)].count(("intent", "stop")) == 1


def test_what_was_stopped_stays_down_when_docker_restarts(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """A container that always restarts is stopped for good; one that nobody stopped comes back."""
    names: dict[str, dict[str, Any]] = {
        "always": ALWAYS,
        "on-failure": {"flags": ["--restart=on-failure:3"]},
        "not-ours": {**ALWAYS, "gpus": None, "command": OBEDIENT},
    }
    ids = dict(zip(names, run_all(engine, proxy, names, "3h"), strict=True))
    host_cli = host(rules=OVERTIME.replace("[stop, remove, epilog]", "[stop]"))
    told = clean(host_cli("evaluate", "--json"))
    assert outcomes(told) == {"always": "stop done", "on-failure": "stop done"}
    assert "its restart policy was always, is no now" in details(told, "stop")["always"]
    engine.down()
    engine.up()
    assert {name: engine.state(one) for name, one in ids.items()} == {
        "always": "exited",
        "on-failure": "exited",
        "not-ours": "running",
    }
    assert engine.inspect(ids["always"])["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert plan(clean(host_cli("evaluate", "--json"))) == {}


def happening(engine: Engine, since: float) -> list[str]:
    """List Docker's own events since then: `stop NAME`, and so on."""
    shape = "{{.Action}} {{.Actor.Attributes.name}}"
    window = ["--since", f"{since:.3f}", "--until", f"{time.time():.3f}"]
    return engine.cli("events", *window, "--filter", "type=container", "--format", shape).splitlines()
