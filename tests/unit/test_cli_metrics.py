"""The metrics that commands write and serve: by every tick of this host, by `watch`, and by nothing else."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_host import configured, ended, files_below, on_demo, pretend_demo_is_here, run, start
from epilog_fakes import NOON, A
from events_engine import EventsEngine, event, events_engine, telling
from exposition_reader import Read, read

from ds01_policy.cli.serving import last_written
from ds01_policy.ledger import Ledger, LedgerError
from ds01_policy.lock import RunLock
from ds01_policy.metrics import LAST_SUCCESS

INFO = "ds01_policy_container_gpu_info"
UP = (("source", "docker"),)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the demo's host be this one: where its state is."""
    pretend_demo_is_here(monkeypatch)
    return tmp_path / "state"


def told(state: Path) -> Read:
    return read((state / "metrics.prom").read_text())


# ── evaluate ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_tick_writes_its_metrics_beside_the_ledger(tmp_path: Path, here: Path) -> None:
    """For `watch`, readable by nobody else; the file for node_exporter says the same, to everybody."""
    textfile = tmp_path / "textfile" / "ds01.prom"
    textfile.parent.mkdir()
    ran = run("--config", configured(tmp_path, metrics_file=str(textfile)), "evaluate", "--json")
    assert (ran.code, ran.stderr) == (0, "")
    assert textfile.read_bytes() == (here / "metrics.prom").read_bytes()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (here / "metrics.prom", textfile)] == [0o600, 0o644]
    rows = [dict(row) for row in told(here)[INFO]]
    shown = {
        (one["id"], one["owner"], gpu["uuid"])
        for one in ran.json["containers"]
        for gpu in one["gpus"]
        if one["state"] == "running" and not one["infrastructure"]
    }
    assert shown <= {(row["id"], row["owner"], row.get("gpu_uuid", "")) for row in rows}
    assert {dict(row)["rule"] for row in told(here)["ds01_policy_stops_total"]} == {
        "idle-gpu", "max-runtime", "created-never-started", "stopped-retention"
    }  # fmt: skip


@pytest.mark.parametrize("command", ["preview", "explain train", "check", "audit"])
def test_looking_writes_none(tmp_path: Path, here: Path, command: str) -> None:
    """They are a tick's; whoever only looks leaves no trace."""
    run("--config", configured(tmp_path), *command.split())
    assert not here.exists()


def test_a_recording_writes_none(tmp_path: Path) -> None:
    """What happened then, elsewhere, is not what this host's Prometheus is to be told."""
    config = configured(tmp_path, metrics_file=str(tmp_path / "ds01.prom"), prometheus={"url": "http://localhost:9090"})
    before = files_below(tmp_path)
    assert on_demo("evaluate", config=config).code == 0
    assert files_below(tmp_path) == before


def test_a_run_that_finds_the_lock_held_writes_none(tmp_path: Path, here: Path) -> None:
    """The other run's are newer."""
    config = configured(tmp_path, metrics_file=str(tmp_path / "ds01.prom"))
    with RunLock(here / "lock"):
        assert run("--config", config, "evaluate").code == 5
    assert not (here / "metrics.prom").exists()
    assert not (tmp_path / "ds01.prom").exists()


def test_without_docker_it_says_so_and_when_all_was_well(tmp_path: Path, here: Path, monkeypatch: Any) -> None:
    """What cannot be known is left out; the last success is that of before."""
    config = configured(tmp_path)
    assert run("--config", config, "evaluate").code == 0
    before = told(here)
    monkeypatch.undo()
    assert run("--config", config, "evaluate").code == 3
    after = told(here)
    assert after["ds01_policy_source_up"] == {UP: 0.0}
    assert after[LAST_SUCCESS] == before[LAST_SUCCESS]
    assert after["ds01_policy_last_run_timestamp_seconds"] != before["ds01_policy_last_run_timestamp_seconds"]
    assert not {INFO, "ds01_policy_stops_total"} & set(after)


def test_the_last_success_of_an_older_version_is_still_known(tmp_path: Path) -> None:
    """It wrote no other file than node_exporter's."""
    textfile = tmp_path / "ds01.prom"
    textfile.write_text(f"{LAST_SUCCESS} 1234.5\n")
    run("--config", configured(tmp_path, metrics_file=str(textfile)), "evaluate")
    assert told(tmp_path / "state")[LAST_SUCCESS] == {(): 1234.5}


@pytest.mark.parametrize("what", ["the file", "the state directory"])
def test_that_they_cannot_be_written_changes_nothing_else(tmp_path: Path, here: Path, what: str) -> None:
    """It is told, and the tick is what it would have been; the other file is written all the same."""
    textfile = tmp_path / "ds01.prom"
    if what == "the file":
        (here / "metrics.prom").mkdir(parents=True)
    else:
        here.write_text("a file where the folder should be")
    ran = run("--config", configured(tmp_path, metrics_file=str(textfile)), "evaluate", "--json")
    assert ran.code == (0 if what == "the file" else 1)
    assert ran.json["plan"]
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"metrics: {here}/metrics.prom cannot be written: ")
    found = read(textfile.read_text())
    assert INFO in found
    assert ("ds01_policy_stops_total" in found) is (what == "the file")


@pytest.mark.parametrize("what", ["damaged", "full"])
def test_a_ledger_that_cannot_be_written_has_no_totals(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Nothing is counted in such a tick: an old number, or none, would be read as `nothing was stopped`."""
    config = configured(tmp_path)
    assert run("--config", config, "evaluate").code == 0
    assert "ds01_policy_regrets_total" in told(here)
    if what == "damaged":
        (here / "ledger.db").write_bytes(b"no database at all")
    else:

        def full(*_: Any, **__: Any) -> None:
            raise LedgerError("ledger_full", "no space left")

        monkeypatch.setattr(Ledger, "record", full)
    assert run("--config", config, "evaluate").code == 1
    found = told(here)
    assert not [name for name in found if name.endswith("_total")]
    assert INFO in found


def test_evaluate_loads_no_server() -> None:
    """What only `watch` needs costs the timer nothing."""
    script = "import sys, ds01_policy.metrics, ds01_policy.cli.deciding, ds01_policy.cli.acting; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "ds01_policy.metrics.families" in loaded
    assert not {"http.server", "socketserver", "ds01_policy.metrics.server", "ds01_policy.metrics.watching"} & set(
        loaded
    )


# ── watch ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def engine() -> Iterator[EventsEngine]:
    with events_engine() as opened:
        yield opened


def scraped(port: int) -> Read:
    """Ask as Prometheus does, until somebody answers; a strict reader finds no family twice."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
                return read(response.read().decode())
        except OSError:
            assert time.monotonic() < deadline, "nobody answers"
            time.sleep(0.05)


def one_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_watch_serves_the_last_tick_and_itself(tmp_path: Path, here: Path, engine: EventsEngine) -> None:
    """One page: who holds which GPU, as the last tick wrote it, and how the watch is doing; until it is told to end."""
    engine.scripts = [telling(event("die", A, NOON))]
    docker, port = {"url": engine.url, "timeout": "200ms"}, one_port()
    config = configured(tmp_path, docker=docker, metrics_listen=f"127.0.0.1:{port}")
    assert run("--config", config, "evaluate").code == 0
    watch = start("--config", config, "watch")
    deadline = time.monotonic() + 20
    while not (found := scraped(port))["ds01_policy_watch_last_event_timestamp_seconds"][()]:
        assert time.monotonic() < deadline
    watch.terminate()
    ran = ended(watch)
    assert (ran.code, ran.stdout) == (0, "")
    assert f"metrics at http://127.0.0.1:{port}/metrics\n" in ran.stderr
    assert found["ds01_policy_watch_up"] == {(): 1.0}
    assert found["ds01_policy_watch_following"] == {(): 1.0}
    assert found["ds01_policy_watch_last_event_timestamp_seconds"] == {(): NOON.timestamp()}
    assert (("status", "done"),) in found["ds01_policy_watch_epilogs_total"]
    assert {name: rows for name, rows in found.items() if "_watch_" not in name} == told(here)


def test_watch_without_docker_and_before_any_tick(tmp_path: Path) -> None:
    """It says that it follows nobody; what a tick would tell is missing, not 0."""
    port = one_port()
    watch = start("--config", configured(tmp_path, metrics_listen=f"127.0.0.1:{port}"), "watch")
    found = scraped(port)
    watch.terminate()
    assert ended(watch).code == 0
    assert found["ds01_policy_watch_following"] == {(): 0.0}
    assert found["ds01_policy_watch_last_event_timestamp_seconds"] == {(): 0.0}
    assert all(name.startswith("ds01_policy_watch_") for name in found)


def test_a_taken_port_does_not_keep_watch_from_following(tmp_path: Path, engine: EventsEngine) -> None:
    """One line about it; containers that end are seen to all the same."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        docker = {"url": engine.url, "timeout": "5s"}
        watch = start("--config", configured(tmp_path, docker=docker, metrics_listen=listen), "watch")
        assert watch.stderr is not None
        lines = {watch.stderr.readline(), watch.stderr.readline()}
        watch.terminate()
        ran = ended(watch)
    assert (ran.code, ran.stderr) == (0, "")
    assert "following Docker's events\n" in lines
    assert any("already in use; trying again" in line for line in lines)


def test_watch_serves_nobody_unless_it_is_told_to(tmp_path: Path, engine: EventsEngine) -> None:
    """The shipped setting: no socket is opened."""
    watch = start("--config", configured(tmp_path, docker={"url": engine.url, "timeout": "5s"}), "watch")
    assert watch.stderr is not None
    assert watch.stderr.readline() == "following Docker's events\n"
    sockets = {
        str(link.readlink()) for link in Path(f"/proc/{watch.pid}/fd").iterdir() if "socket" in str(link.readlink())
    }
    inodes = {each.removeprefix("socket:[").removesuffix("]") for each in sockets}
    listening = [line for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[9] in inodes]
    watch.terminate()
    assert (ended(watch).code, listening) == (0, [])


@pytest.mark.parametrize(("kept", "expected"), [("a 1\n", "a 1\n"), ("a 1", "a 1\n"), ("", ""), (None, "")])
def test_what_the_last_tick_wrote_ends_with_its_line(tmp_path: Path, kept: str | None, expected: str) -> None:
    """Whatever is there: what follows begins on a line of its own."""
    if kept is not None:
        (tmp_path / "metrics.prom").write_text(kept)
    assert last_written(tmp_path / "metrics.prom") == expected
