"""How the doctor asks: whatever hangs, fails or lies costs its own part only, and nothing is written to find out."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_host import files_below, silent_engine
from fault_prometheus import respond, serving, vector

from ds01_policy.doctor.asking import host, surroundings
from ds01_policy.doctor.asking.state import state
from ds01_policy.doctor.judging.surroundings import SERVICE, TIMER
from ds01_policy.ledger import Ledger
from ds01_policy.ledger.schema import VERSION
from ds01_policy.model import Mode
from ds01_policy.observe.aside import Aside, Late
from ds01_policy.observe.envelope import SourceDown
from ds01_policy.observe.ports import Inventory, SourceError
from ds01_policy.observe.prometheus import LivePrometheus
from ds01_policy.policy import DockerSettings, PrometheusSettings, Settings

AT = datetime(2026, 3, 2, 3, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


HANGS = "exec /bin/sleep 60"


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


# ── a thread of its own ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_that_hangs_is_left_behind() -> None:
    """Nothing that waits for ever makes the one who asked wait."""
    over = threading.Event()
    aside = Aside(lambda: over.wait(60), "hangs")
    with pytest.raises(Late):
        aside.by(time.monotonic() + 0.05)
    assert aside.daemon
    over.set()
    assert aside.by(time.monotonic() + 60) is True


def test_what_a_question_raises_comes_back() -> None:
    """In words for the admin."""

    def fail() -> None:
        raise SourceDown("refuses")

    with pytest.raises(SourceDown, match="refuses"):
        Aside(fail, "fails").by(time.monotonic() + 60)


# ── systemd, logind, programs ────────────────────────────────────────────────────────────────────────────────────────


def test_what_systemd_says_of_our_units(programs: Path) -> None:
    """Both units, each with its own properties."""
    timer = f"Id={TIMER} LoadState=loaded 'LastTriggerUSec=Mon 2026-03-02 03:25:04 UTC'"
    program(programs, "systemctl", f"printf '%s\\n' {timer} '' Id={SERVICE} LoadState=loaded Result=exit-code")
    told = surroundings.timer()
    assert told.error == ""
    assert told.units[TIMER]["LastTriggerUSec"] == "Mon 2026-03-02 03:25:04 UTC"
    assert told.units[SERVICE] == {"Id": SERVICE, "LoadState": "loaded", "Result": "exit-code"}


@pytest.mark.parametrize(
    ("said", "state"),
    [("enabled", "enabled"), ("disabled", "disabled"), ("Failed to get it", "old")],
)
def test_whether_the_timer_is_enabled_is_asked_anew(said: str, state: str, programs: Path) -> None:
    """What `show` says of that may be what was so when somebody asked first."""
    shown = f"printf '%s\\n' Id={TIMER} LoadState=loaded UnitFileState=old"
    program(programs, "systemctl", f'[ "$1" = is-enabled ] && {{ echo "{said}"; exit 1; }}; {shown}')
    assert surroundings.timer().units[TIMER]["UnitFileState"] == state


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("echo 'System has not been booted with systemd.' >&2; exit 1", "systemctl failed: System has not been booted"),
        ("exit 4", "systemctl failed: no reason given"),
        (HANGS, "systemctl did not answer within"),
        (None, "systemctl is not installed"),
    ],
    ids=["no systemd", "no reason", "hangs", "not there"],
)
def test_no_word_of_systemd(body: str | None, error: str, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why not, in its own words; never for longer than a while."""
    if body == HANGS:
        monkeypatch.setattr(surroundings, "TIMEOUT", timedelta(seconds=0.2))
    if body is not None:
        program(programs, "systemctl", body)
    assert error in surroundings.timer().error


@pytest.mark.parametrize(
    ("body", "sessions", "error"),
    [
        ('echo \'[{"uid": 0, "tty": "pts/0"}, {"uid": 7, "tty": null}, {"uid": 7, "tty": ""}]\'', 1, ""),
        ("echo '[]'", 0, ""),
        ("echo 'No sessions.'", None, "loginctl answers no list"),
        ("echo 7", None, "loginctl answers no list"),
        ("exit 1", None, "loginctl failed"),
        (None, None, "loginctl is not installed"),
    ],
)
def test_what_logind_says(body: str | None, sessions: int | None, error: str, programs: Path) -> None:
    """How many terminals there are now; `wall` is looked for on PATH."""
    if body is not None:
        program(programs, "loginctl", body)
    told = surroundings.channels()
    assert told.sessions == sessions
    assert error in told.logind_error
    assert told.wall is False
    program(programs, "wall", "exit 1")
    assert surroundings.channels().wall is True


# ── the state directory ──────────────────────────────────────────────────────────────────────────────────────────────


def ticked(directory: Path, *ages_s: float) -> None:
    """Write a ledger in which a tick ended and samples were taken that long before AT."""
    with Ledger.open(directory / "ledger.db") as ledger:
        ledger.begin(AT, Mode.OBSERVE, "sha256:0")
        for age in sorted(ages_s, reverse=True):
            ledger.keep_samples(AT.timestamp() - age, [("gpu", "GPU-a", 0.0), ("cpu", "b" * 64, 1.0)], 48 * HOUR)


def of(directory: Path, **more: Any) -> Settings:
    return replace(Settings(), state_dir=directory, **more)


def test_nothing_is_made_to_find_out(tmp_path: Path) -> None:
    """There is none yet: it is said where it would be made, and it still is not there."""
    told = state(of(tmp_path / "var" / "state"), HOUR)
    assert (told.made, told.ledger, told.error, told.unwritable, told.looks) == (False, False, "", (), ())
    assert (told.free_bytes or 0) > 0
    assert files_below(tmp_path) == {}


def test_a_ledger_is_read_as_it_is(tmp_path: Path) -> None:
    """When samples were taken, which version; and not a byte is changed."""
    ticked(tmp_path, 60, 360, 7200)
    (tmp_path / "audit.jsonl").write_text("{}\n")
    before = files_below(tmp_path)
    told = state(of(tmp_path), HOUR)
    assert told.ledger
    assert told.looks == (AT.timestamp() - 360, AT.timestamp() - 60), "as far back as is asked, from the newest on"
    assert (told.samples, told.version, told.newest_version, told.audit_bytes) == (4, VERSION, VERSION, 3)
    assert told.last_tick_at is None, "the tick that began did not end"
    assert files_below(tmp_path) == before


def test_a_ledger_that_cannot_be_believed(tmp_path: Path) -> None:
    """Why, in the ledger's own words."""
    (tmp_path / "ledger.db").write_bytes(b"SQLite format 3\x00" + b"\xff" * 4000)
    assert "is damaged" in state(of(tmp_path), HOUR).error


def test_what_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folder and files, by what the kernel says: root may nearly everything, but not on a disk that is read-only."""
    ticked(tmp_path)
    asked: list[str] = []

    def access(path: Path, mode: int) -> bool:
        asked.append(str(path))
        return not str(path).endswith("ledger.db") or not mode & os.W_OK

    monkeypatch.setattr(os, "access", access)
    assert state(of(tmp_path), HOUR).unwritable == (str(tmp_path / "ledger.db"),)
    assert str(tmp_path) in asked
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    assert state(of(tmp_path / "new"), HOUR).unwritable == (str(tmp_path),)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    """It cannot be written into, whatever its permissions."""
    (tmp_path / "state").write_text("")
    (tmp_path / "state").chmod(0o755)
    assert state(of(tmp_path / "state"), HOUR).unwritable == (str(tmp_path / "state"),)


@pytest.mark.parametrize(
    ("path", "why"),
    [("x.prom", ""), ("gone/x.prom", "there is no folder"), (".", "it is a folder")],
    ids=["a file to be", "no folder", "a folder itself"],
)
def test_the_metrics_file(path: str, why: str, tmp_path: Path) -> None:
    """It is replaced as a whole, so its folder is what counts."""
    told = state(of(tmp_path, metrics_file=tmp_path / path), HOUR)
    assert told.metrics_file == str(tmp_path / path)
    assert why in told.metrics_why
    assert bool(why) is bool(told.metrics_why)


# ── Docker, the driver, Prometheus ───────────────────────────────────────────────────────────────────────────────────


def test_an_engine_that_hangs(tmp_path: Path) -> None:
    """It costs its timeout, once."""
    with silent_engine(tmp_path):
        told = host.engine(DockerSettings(f"unix://{tmp_path}/docker.sock", timedelta(seconds=0.2)))
    assert (told.version, told.info) == (None, None)
    assert "no whole answer to GET /version within 0.2 s" in told.error


def test_an_engine_tells_about_itself() -> None:
    """Without a version in the path: also one that is too old for everything else."""
    info = {"CgroupDriver": "cgroupfs"}
    with serving(respond({"ApiVersion": "1.24", "Version": "1.12"}), respond(info)) as engine:
        told = host.engine(DockerSettings(engine.url.replace("http://", "tcp://"), timedelta(seconds=5)))
    assert (told.version, told.info, told.error) == ({"ApiVersion": "1.24", "Version": "1.12"}, info, "")
    assert [one.path for one in engine.requests] == ["/version", "/info"]
    assert told.asked_at is not None


@pytest.mark.parametrize("body", [[], "x", {"message": "no"}], ids=["a list", "no JSON", "refused"])
def test_an_engine_that_answers_nonsense(body: object) -> None:
    """What it said first still counts."""
    with serving(respond({"ApiVersion": "1.51"}), respond(body, 200 if body == [] else 500)) as engine:
        told = host.engine(DockerSettings(engine.url.replace("http://", "tcp://"), timedelta(seconds=5)))
    assert (told.version, told.info) == ({"ApiVersion": "1.51"}, None)
    assert told.error


def test_the_driver_is_asked_once() -> None:
    """An answer is given again, a failure fails again: asking costs seconds."""

    class Driver:
        asked = 0

        def __init__(self, answer: Inventory | SourceError) -> None:
            self.answer = answer

        def inventory(self) -> Inventory:
            self.asked += 1
            if isinstance(self.answer, SourceError):
                raise self.answer
            return self.answer

    for answer in (Inventory(via="nvml"), SourceError("hung")):
        driver = Driver(answer)
        remembered = host.driver(driver)
        assert host.devices(remembered) == host.devices(remembered)
        assert host.devices(remembered).error == ("hung" if isinstance(answer, SourceError) else "")
        assert driver.asked == 1


def test_prometheus_tells_of_itself() -> None:
    """By the same connection, credentials and deadline as its queries."""
    page = {"status": "success", "data": {"storageRetention": "15d"}}
    with serving(respond(vector()), respond(page), respond({"status": "success"}), respond(b"404", 404)) as server:
        source = LivePrometheus(PrometheusSettings(server.url, headers={"X-Scope-OrgID": "gpu"}))
        source.query("vector(1)", AT)
        assert source.status("runtimeinfo") == {"storageRetention": "15d"}
        with pytest.raises(SourceError, match="answers success without data"):
            source.status("runtimeinfo")
        with pytest.raises(SourceDown, match="HTTP 404"):
            source.status("buildinfo")
    assert [one.path for one in server.requests] == [
        "/api/v1/query", *["/api/v1/status/runtimeinfo"] * 2, "/api/v1/status/buildinfo",
    ]  # fmt: skip
    assert {one.headers["x-scope-orgid"] for one in server.requests} == {"gpu"}


def test_a_status_page_that_never_ends() -> None:
    """The deadline of a query is its own too."""
    from fault_prometheus import drip_body

    with serving(drip_body) as server:
        source = LivePrometheus(PrometheusSettings(server.url, timeout=timedelta(seconds=0.3)))
        with pytest.raises(SourceDown, match=r"gave no whole answer"):
            source.status("buildinfo")


def test_json_of_strangers_is_no_trouble(programs: Path) -> None:
    """A session is whatever logind calls one."""
    program(programs, "loginctl", f"echo '{json.dumps([{'tty': 'pts/1'}, 'x', 3, None])}'")
    assert surroundings.channels().sessions == 1
