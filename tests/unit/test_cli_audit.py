"""`audit`: past decisions, found by what people know of them."""

from __future__ import annotations

import gzip
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_host import configured, run
from decided import container, decision

from ds01_policy.audit import Audit
from ds01_policy.cli import looking_back
from ds01_policy.model import Action, Outcome, Status
from ds01_policy.report.layout import Page, columns

AT = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)
HOSTILE = "\x1b[2Jowned\u202e\nforged line"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Make a host that warned and stopped alice's `train`, and later failed to remove bob's oddly named container."""
    of_bob = container(id="b" * 64, name=HOSTILE, owner="bob")
    warn = decision(Action.WARN, id="d1")
    stop = decision(Action.STOP, id="d2", rule="max-runtime")
    remove = decision(Action.REMOVE, of=of_bob, id="d3", rule="stopped-retention")
    with Audit.open(tmp_path / "state" / "audit.jsonl", host="gpu01", digest="sha256:1") as audit:
        audit.intent(warn, Action.WARN, AT)
        audit.outcome(warn, Outcome("d1", Action.WARN, Status.DONE, "tty: pts/0"), AT)
        audit.intent(stop, Action.STOP, AT + timedelta(hours=1))
        audit.outcome(stop, Outcome("d2", Action.STOP, Status.DONE, "exit code 0"), AT + timedelta(hours=1))
        audit.intent(remove, Action.REMOVE, AT + timedelta(days=1))
        audit.outcome(replace(remove), Outcome("d3", Action.REMOVE, Status.FAILED, "HTTP 500"), AT + timedelta(days=1))
    return configured(tmp_path)


@pytest.mark.parametrize(
    ("options", "decisions"),
    [
        pytest.param("", ["d1", "d1", "d2", "d2", "d3", "d3"], id="everything, oldest first"),
        pytest.param("--container train", ["d1", "d1", "d2", "d2"], id="by name"),
        pytest.param("--container bbbbbbbbbbbb", ["d3", "d3"], id="by the start of the id"),
        pytest.param("--owner bob", ["d3", "d3"], id="by owner"),
        pytest.param("--rule max-runtime", ["d2", "d2"], id="by rule"),
        pytest.param("--since 2026-03-03", ["d3", "d3"], id="since a day"),
        pytest.param("--since 2026-03-02T04:31:00", ["d2", "d2", "d3", "d3"], id="since a time, which is UTC"),
        pytest.param("--since 2026-03-02T04:31:01Z", ["d3", "d3"], id="since a time as documents write it"),
        pytest.param("--since 2026-03-02T05:31:00+01:00", ["d2", "d2", "d3", "d3"], id="since a time in another zone"),
        pytest.param("--owner alice --rule idle-gpu --since 2026-03-01", ["d1", "d1"], id="all that is given holds"),
        pytest.param("--owner carol", [], id="nothing"),
        pytest.param("--until 2026-03-02T03:31:00", ["d1", "d1"], id="until a time, that time included"),
        pytest.param("--until 2026-03-02", ["d1", "d1", "d2", "d2"], id="until a day, all of it"),
        pytest.param("--since 2026-03-02T04:00 --until 2026-03-02T05:00", ["d2", "d2"], id="between two times"),
        pytest.param("--action warn", ["d1", "d1"], id="by action"),
        pytest.param("--status failed", ["d3"], id="by what became of it"),
        pytest.param("--action stop --status failed", [], id="all of that"),
    ],
)
def test_filters(config: Path, options: str, decisions: list[str]) -> None:
    """As a document, and as a line each."""
    ran = run("--config", config, "audit", *options.split(), "--json")
    assert (ran.code, ran.stderr) == (0, "")
    assert (ran.json["schema"], ran.json["command"]) == (1, "audit")
    assert [one["decision"] for one in ran.json["entries"]] == decisions
    text = run("--config", config, "audit", *options.split())
    assert len(text.stdout.splitlines()) == max(len(decisions), 1)


def test_a_line_says_when_what_to_whom_by_which_rule_and_why(config: Path) -> None:
    """One line an entry; what users wrote stays inside it."""
    lines = run("--config", config, "audit").stdout.splitlines()
    assert lines[0].startswith("2026-03-02T03:31:00")
    assert "  intent  warn  train  alice  idle-gpu: idle for 60m: gpu 0.3% < 5%" in lines[0]
    assert lines[3].endswith("  outcome  stop  train  alice  max-runtime  done: exit code 0")
    assert lines[5].endswith("bob  stopped-retention  failed: HTTP 500")
    assert r"\x1b[2Jowned\u202e\nforged line" in lines[5]


def test_like_two_hours_ago(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times may be said from now back."""
    monkeypatch.setattr(looking_back, "now", lambda: AT + timedelta(hours=3))
    ran = run("--config", config, "audit", "--since", "2h ago", "--until", "30m ago", "--json")
    assert [one["decision"] for one in ran.json["entries"]] == ["d2", "d2"]


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_that_is_none(option: str, config: Path) -> None:
    """Exit 2, with how to write it."""
    ran = run("--config", config, "audit", option, "soon")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"{option} 'soon' is no time: write it like ")


def test_on_a_terminal_an_entry_takes_one_line(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local time, cut to the width; what users wrote stays inside."""
    row: dict[str, object] = {
        "at": "2026-03-02T03:31:00+00:00",
        "kind": "intent",
        "action": "stop",
        "name": HOSTILE,
        "why": "x" * 500,
    }
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(looking_back, "page", lambda: Page(72))
    line = looking_back._line(row)  # noqa: SLF001  a terminal is not to be had here
    assert columns(line) == 72
    assert line.endswith("…")
    assert r"\x1b[2Jowned" in line
    assert datetime.fromisoformat(line[:19]) == AT.astimezone().replace(tzinfo=None)
    del config


def test_rotated_files_belong_to_it(config: Path, tmp_path: Path) -> None:
    """What logrotate moved away is still found."""
    path = tmp_path / "state" / "audit.jsonl"
    before = run("--config", config, "audit", "--json").json["entries"]
    lines = path.read_bytes().splitlines(keepends=True)
    path.with_name("audit.jsonl.2.gz").write_bytes(gzip.compress(b"".join(lines[:2])))
    path.with_name("audit.jsonl.1").write_bytes(b"".join(lines[2:5]))
    path.write_bytes(lines[5])
    assert run("--config", config, "audit", "--json").json["entries"] == before


def test_nothing_written_yet(tmp_path: Path) -> None:
    """A host where nothing was ever done has an empty log, not an error, and none is made."""
    config = configured(tmp_path)
    ran = run("--config", config, "audit")
    assert (ran.code, ran.stdout) == (0, f"nothing in {tmp_path}/state/audit.jsonl matches\n")
    assert run("--config", config, "audit", "--json").json["entries"] == []
    assert not (tmp_path / "state").exists()


def test_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    """Said in words; exit 1."""
    (tmp_path / "state" / "audit.jsonl").mkdir(parents=True)
    ran = run("--config", configured(tmp_path), "audit")
    assert (ran.code, ran.stdout) == (1, "")
    assert "audit.jsonl" in ran.stderr


def test_lines_that_are_not_ours_are_counted_on_stderr(config: Path, tmp_path: Path) -> None:
    """Half a line of a crash hides no other."""
    path = tmp_path / "state" / "audit.jsonl"
    with path.open("ab") as log:
        log.write(b'{"half a li')
    told = f"1 line of {path} could not be read\n"
    ran = run("--config", config, "audit", "--owner", "bob")
    assert (ran.code, len(ran.stdout.splitlines())) == (0, 2)
    assert ran.stderr == told
    ran = run("--config", config, "audit", "--json")
    assert (ran.code, len(ran.json["entries"]), ran.stderr) == (0, 6, told)
