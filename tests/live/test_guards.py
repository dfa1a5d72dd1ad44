"""What holds the program back on a real host: budgets, the breaker, wrong data, a lost memory, people's own files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rig.age_proxy import AgeProxy
from rig.cli import Result
from rig.engine import Engine
from rig.history import History
from rig.host import (
    GPUS,
    IDLE_AT_ONCE,
    OVERTIME,
    Host,
    about,
    acted,
    audit,
    outcomes,
    plan,
    problems,
    rule,
    run_all,
)
from rig.proxy import Proxy

STOPPED_AND_REMOVED = "stop done, remove done, epilog done"
LIST = r"^/containers/json"


# ── how much at once ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_ends_no_more_than_its_share_and_stops_side_by_side(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """Of eight containers due at once a quarter goes, the longest overdue first; without that bound all go together."""
    names = [f"c{number}" for number in range(8)]
    ids = run_all(engine, proxy, {name: {} for name in names}, "3h")
    for number, container in enumerate(ids):
        proxy.age(container, started=f"{3 + (number in {2, 5})}h")
    budget = {"per_run": 5, "share": "25%"}
    first = host(rules=OVERTIME, budget=budget)("evaluate", "--json")
    assert first.rc == 4, first.stderr
    assert outcomes(first.json) == {"c2": STOPPED_AND_REMOVED, "c5": STOPPED_AND_REMOVED}
    left = {name for name in names if name not in {"c2", "c5"}}
    assert plan(first.json) == {f"{name} stop+remove+epilog": "budget" for name in left} | {
        "c2 stop+remove+epilog": "enforce",
        "c5 stop+remove+epilog": "enforce",
    }
    assert {"at most 2 of 8 running GPU containers in one run"} == {
        one["detail"] for one in first.json["plan"] if one["held_by"]
    }

    # No stop is passed on before all of them are under way: one after the other, the first would never end.
    together = threading.Barrier(6)
    proxy.fault("POST", r"/stop", action=lambda: together.wait(30), times=None)
    second = host(rules=OVERTIME, budget={"per_run": 6, "share": "100%"})("evaluate", "--json")
    assert second.rc == 0, second.stderr
    assert outcomes(second.json) == dict.fromkeys(left, STOPPED_AND_REMOVED)
    assert not together.broken
    assert engine.ids() == []
    assert acted(proxy) == {(call, container): 1 for call in ("stop", "remove") for container in ids}


def test_what_cannot_be_ended_takes_nobodys_turn(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """The longest overdue cannot be stopped: the others get their turn, and then it is tried again."""
    stuck, other = run_all(engine, proxy, {"stuck": {}, "other": {}}, "3h")
    proxy.age(stuck, started="5h")
    proxy.fault("POST", about(stuck, "/stop"), kind="status:500", times=2)
    host_cli = host(rules=OVERTIME, budget={"per_run": 1, "share": "100%"})
    runs = [host_cli("evaluate", "--json") for _ in range(4)]
    failed = {"stuck": "stop failed, remove withheld, epilog withheld"}
    ended = [{name: STOPPED_AND_REMOVED} for name in ("other", "stuck")]
    assert [outcomes(run.json) for run in runs] == [failed, ended[0], failed, ended[1]]
    assert [run.rc for run in runs] == [1, 4, 1, 0]
    assert acted(proxy)["stop", other] == 1


def test_a_whole_host_that_turns_idle_at_once_is_a_fault_of_the_metrics(
    engine: Engine, proxy: AgeProxy, host: Host, now: float
) -> None:
    """Four containers that worked a tick ago all read idle: everything is withheld, until one is seen working again."""
    names: dict[str, dict[str, Any]] = {f"c{at}": {"gpus": f"device={GPUS[at]}"} for at in range(4)}
    ids = run_all(engine, proxy, names, "3h")

    def history(*loads: float) -> History:
        told = History(now, span="2h")
        for gpu, container, load in zip(GPUS, ids, loads, strict=False):
            told.gpu(gpu, load).cpu(container, load / 100)
        return told

    working = host(history(80, 80, 80, 80), rules=IDLE_AT_ONCE)("evaluate", "--json")
    assert (working.rc, working.json["plan"]) == (0, []), working.stderr
    host_cli = host(history(0, 0, 0, 0), rules=IDLE_AT_ONCE)
    for _ in range(2):  # it holds, whatever the tick in between found
        told = host_cli("evaluate", "--json")
        assert told.rc == 4, told.stderr
        assert plan(told.json) == {f"{name} stop+remove+epilog": "breaker" for name in names}
        assert told.json["outcomes"] == []
        assert "turned idle in one tick" in told.json["plan"][0]["detail"]
    one_works = host(history(0, 0, 0, 80), rules=IDLE_AT_ONCE)("evaluate", "--json")
    assert one_works.rc == 0, one_works.stderr
    assert outcomes(one_works.json) == dict.fromkeys(list(names)[:3], STOPPED_AND_REMOVED)
    assert engine.ids() == [ids[3]]


def test_a_docker_that_lists_nothing_ends_no_spell(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """An empty list after a full one is a problem, not an empty host: what was warned stays warned."""
    names: dict[str, dict[str, Any]] = {f"c{at}": {} for at in range(3)}
    ids = run_all(engine, proxy, names, "3h")
    rules = OVERTIME.replace("    then:", "    warn: {at: 80%, notice: 1s}\n    then:")
    host_cli = host(rules=rules)
    assert outcomes(host_cli("evaluate", "--json").json) == dict.fromkeys(names, "warn done")

    proxy.fault("GET", LIST, kind="body:[]", times=2)
    for _ in range(2):  # the second one is as suspicious as the first
        empty = host_cli("evaluate", "--json")
        assert empty.rc == 0, empty.stderr
        assert (empty.json["plan"], empty.json["containers"]) == ([], [])
        assert "3 with GPUs ran at the last tick" in problems(empty.json)["docker_empty"]
    time.sleep(1.2)
    after = host_cli("evaluate", "--json")
    assert outcomes(after.json) == dict.fromkeys(names, STOPPED_AND_REMOVED), "a second warning, or none left"
    assert engine.ids() == []
    assert len(ids) == [line[:2] for line in audit(host_cli)].count(("outcome", "warn"))


# ── a memory that fails ──────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(arguments[-1])], check=True, capture_output=True, timeout=60)


@contextmanager
def garbage(state: Path) -> Iterator[None]:
    kept = (state / "ledger.db").read_bytes()
    (state / "ledger.db").write_bytes(b"\x00garbage" * 4000)
    yield
    (state / "ledger.db").write_bytes(kept)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    with mounted("--bind", path, path):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True, capture_output=True, timeout=60)
        yield


def ledger_read_only(state: Path) -> Any:
    return read_only(state / "ledger.db")


@contextmanager
def full(state: Path) -> Iterator[None]:
    """Put what lies there on a disk of its own that has no space left."""
    kept = {path.name: path.read_bytes() for path in state.iterdir() if path.is_file()}
    with mounted("-t", "tmpfs", "-o", "size=256k", "tmpfs", state):
        for name, content in kept.items():
            (state / name).write_bytes(content)
        fill(state)
        yield


@contextmanager
def audit_full(state: Path) -> Iterator[None]:
    """Leave the ledger where it is, and put the audit log alone on a full disk."""
    disk = state.parent / "disk"
    disk.mkdir()
    (state / "audit.jsonl").unlink()
    with mounted("-t", "tmpfs", "-o", "size=16k", "tmpfs", disk):
        (disk / "audit.jsonl").touch()
        fill(disk)
        (state / "audit.jsonl").symlink_to(disk / "audit.jsonl")
        yield
        (state / "audit.jsonl").unlink()


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            return


def test_without_a_memory_nothing_is_ended(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """With a ledger or an audit log that cannot be written a run only looks, exit 1, and says what to do."""
    (doomed,) = run_all(engine, proxy, {"doomed": {}}, "3h")
    host_cli = host(mode="observe", rules=OVERTIME)
    assert plan(host_cli("evaluate", "--json").json) == {"doomed stop+remove+epilog": "mode"}
    host_cli = host(rules=OVERTIME)
    ways: dict[str, tuple[Callable[[Path], Any], str]] = {
        "garbage": (garbage, r"ledger\.db is damaged .*: move it away with `mv "),
        "ledger read-only": (
            ledger_read_only,
            r"ledger\.db cannot be opened or written \(Read-only",
        ),
        "read-only": (read_only, r"Read-only file system\): run as root, and see that the disk is writable"),
        "full": (full, r"(no space left to write .*ledger\.db: free some|cannot write .*audit\.jsonl \(No space left)"),
        "audit on a full disk": (audit_full, r"cannot write .*audit\.jsonl \(No space left on device\): free space"),
    }
    for way, (failing, words) in ways.items():
        with failing(host_cli.state):
            told = host_cli("evaluate", "--json")
            shown = host_cli("evaluate") if way == "garbage" else None
        assert told.rc == 1, (way, told.stdout, told.stderr)
        assert re.search(words, problems(told.json).get("ledger", "")), (way, told.json["problems"])
        if shown is not None:
            assert re.search(words, re.sub(r"\s+", " ", shown.stdout)), shown.stdout
        assert {one["status"] for one in told.json["outcomes"]} <= {"withheld"}, way
        if way != "audit on a full disk":  # which shows only when the first line is to be written
            assert plan(told.json) == {"doomed stop+remove+epilog": "ledger"}, way
    assert engine.state(doomed) == "running"
    assert acted(proxy) == {}

    whole = host_cli("evaluate", "--json")
    assert whole.rc == 0, whole.stderr
    assert outcomes(whole.json) == {"doomed": STOPPED_AND_REMOVED}
    assert "recovery" not in {line[0] for line in audit(host_cli)}, "what was withheld is not what a killed run began"


# ── metrics that cannot be believed ──────────────────────────────────────────────────────────────────────────────────

WARNED = {
    "status": "success",
    "warnings": ["PromQL: store 10.0.0.7 did not answer"],
    "data": {"resultType": "vector", "result": []},
}
ILLS = {  # what Prometheus does → what the problem says
    "hang": "gave no whole answer within 1s",
    "reset": "broke the connection off",
    "status:500": "HTTP 500",
    "status:503": "HTTP 503",
    "status:422": "refuses the query",
    "body:<html><title>Please log in</title></html>": "answers with an HTML page",
    "truncate": "cut off|broke the connection off",
    f"body:{json.dumps(WARNED)}": "warns about its own answer",
    'body:{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}': "answers a scalar",
    "refuse": "refuses the connection",
}


def test_a_prometheus_that_is_wrong_stops_nobody(
    engine: Engine,
    proxy: AgeProxy,
    host: Host,
    now: float,
    prometheus_with: Callable[..., str],
    faulty: Callable[[str], Proxy],
) -> None:
    """Whatever is wrong with its answers, nobody is stopped, exit 0 and the reason; a right one ends the idle one."""
    (idle,) = run_all(engine, proxy, {"idle": {}}, "3h")
    server = faulty(prometheus_with(History(now, span="2h").gpu(GPUS[0], 0).cpu(idle, 0)))

    def told(url: str, timeout: str = "10s") -> Result:
        return host(url, rules=IDLE_AT_ONCE, prometheus={"timeout": timeout})("evaluate", "--json", timeout=30)

    for ill, words in ILLS.items():
        server.clear_faults()
        server.fault("GET", "/api/v1/query", kind="pass" if ill == "refuse" else ill, times=None)
        url = "http://127.0.0.1:9" if ill == "refuse" else server.url
        result = told(url, "1s" if ill == "hang" else "10s")
        assert result.rc == 0, (ill, result.stderr)
        found = rule(result.json, "idle")
        assert found["verdict"] == "unknown", ill
        assert {one["missing"] for one in found["evidence"]} == {"source_down"}, ill
        said = problems(result.json)
        assert re.search(words, said.get("source_down") or said["query_failed"]), (ill, said)
        assert result.json["outcomes"] == [], ill
    assert engine.state(idle) == "running"
    server.clear_faults()
    assert outcomes(told(server.url).json) == {"idle": STOPPED_AND_REMOVED}


# ── what people do, and what was recorded ────────────────────────────────────────────────────────────────────────────


def bridge(answer: dict[str, Any]) -> None:
    """Show it on a bridge, which this engine has not."""
    answer["HostConfig"]["NetworkMode"] = "bridge"


def told_alike(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the instant of asking changes: times, numbers that were measured, and names made of times."""
    text = json.dumps({key: value for key, value in document.items() if key not in {"command", "at"}})
    text = re.sub(r'"(due_at|act_at|value|low|high|coverage)": ("[^"]*"|[^,}]*)', r'"\g<1>": null', text)
    alike: dict[str, Any] = json.loads(re.sub(r'"id": "[0-9a-f]{16}"', '"id": ""', text))
    return alike


def test_people_keep_what_they_use_and_a_recording_shows_the_same(
    engine: Engine, proxy: AgeProxy, host: Host, now: float, tmp_path: Path
) -> None:
    """Networks, keep-alive files and time zones, live; recorded and replayed without the host it all reads alike."""
    fresh, old = tmp_path / "fresh", tmp_path / "old"
    for folder in (fresh, old):
        folder.mkdir()
        (folder / ".keep-alive").touch()
    os.utime(old / ".keep-alive", (now - 25 * 3600, now - 25 * 3600))
    names: dict[str, dict[str, Any]] = {
        "no-network": {},
        "quiet": {},
        "downloading": {},
        "unmeasured": {},
        "kept": {"flags": ["--volume", f"{fresh}:/workspace"]},
        "kept-too-long": {"flags": ["--volume", f"{old}:/workspace"]},
    }
    ids = dict(zip(names, run_all(engine, proxy, names, "3h"), strict=True))
    history = History(now, span="2h").gpu(GPUS[0], 0)
    for container in ids.values():
        history.cpu(container, 0.0005)
    history.network(ids["quiet"], 100).network(ids["downloading"], 40e6)
    for name in ("quiet", "downloading", "unmeasured"):
        proxy.edit(ids[name], bridge)
    # As the zone's database has Europe/Berlin; by its rule, so that the test needs no database.
    berlin = {"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
    host_cli = host(history, rules=IDLE_AT_ONCE)

    live = host_cli("preview", "--json", env=berlin)
    assert live.rc == 0, live.stderr
    assert {name: rule(live.json, name)["verdict"] for name in names} == {
        "no-network": "act",
        "quiet": "act",
        "downloading": "clear",
        "unmeasured": "unknown",
        "kept": "exempt",
        "kept-too-long": "act",
    }
    assert rule(live.json, "kept")["held_by"] == "keep_alive"
    asked = {name: {one["signal"] for one in rule(live.json, name)["evidence"]} for name in names}
    assert asked["no-network"] == {"gpu_utilization", "cpu_usage"}
    assert asked["quiet"] == {"gpu_utilization", "cpu_usage", "network_io"}
    missing = {(one["signal"], one["missing"]) for one in rule(live.json, "unmeasured")["evidence"] if one["missing"]}
    assert missing == {("network_io", "no_series")}

    recording = tmp_path / "recording"
    assert host_cli("record", str(recording), env=berlin).rc == 0
    engine.clean()
    calls = len(proxy.requests)
    replayed = host_cli("--replay", str(recording), "preview", "--json")
    assert (replayed.rc, replayed.stderr) == (0, "")
    assert told_alike(replayed.json) == told_alike(live.json)
    assert host_cli("--replay", str(recording), "preview", "--json", env=berlin).stdout == replayed.stdout
    evaluated = host_cli("--replay", str(recording), "evaluate", "--json")
    assert {one["status"] for one in evaluated.json["outcomes"]} == {"withheld"}
    assert evaluated.json["plan"] == replayed.json["plan"]
    assert len(proxy.requests) == calls
    assert not (host_cli.state / "audit.jsonl").exists()
