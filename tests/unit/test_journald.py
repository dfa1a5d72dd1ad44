"""Lines for the journal: recognised by what systemd names, marked there and nowhere else."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
from cli_host import DEMO, DEMO_CONFIG, configured, ended, on_demo, pretend_demo_is_here, start
from events_engine import events_engine

from ds01_policy.cli import _tell
from ds01_policy.cli.deciding import evaluate
from ds01_policy.cli.journald import is_journal, say
from ds01_policy.cli.options import Options
from ds01_policy.lock import RunLock
from ds01_policy.report.priority import Priority


def name_of(path: Path) -> str:
    """Name a file as systemd names the journal's stream."""
    there = path.stat()
    return f"{there.st_dev}:{there.st_ino}"


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param("{journal}", True, id="the stream that systemd names"),
        pytest.param("{other}", False, id="another one: stdout was redirected inside of a service"),
        pytest.param("", False, id="an empty name"),
        pytest.param("8:", False, id="half a name"),
        pytest.param("a:b", False, id="no numbers"),
        pytest.param(None, False, id="no name: a terminal, a pipe, cron"),
    ],
)
def test_what_is_the_journal(
    named: str | None, expected: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children inherit the variable; only the open file decides."""
    for name in ("journal", "other"):
        (tmp_path / name).touch()
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if named is not None:
        names = {name: name_of(tmp_path / name) for name in ("journal", "other")}
        monkeypatch.setenv("JOURNAL_STREAM", named.format(**names))
    with (tmp_path / "journal").open("w") as stream:
        assert is_journal(stream) is expected
        say([(Priority.WARNING, "first\nline"), (Priority.INFO, "x" * 50)], stream, 20)
    marks = ("<4>", "<6>") if expected else ("", "")
    assert (tmp_path / "journal").read_text() == f"{marks[0]}first\\nline\n{marks[1]}{'x' * 19}…\n"


def test_a_closed_stream_is_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started us may have closed it."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "journal").open("w") as stream:
        pass
    assert not is_journal(stream)


# ── the program ──────────────────────────────────────────────────────────────────────────────────────────────────────


def in_the_journal(path: Path, *args: object) -> tuple[int, str]:
    """Run the program with stdout and stderr as systemd connects them: its exit code, and what the journal got."""
    with path.open("w") as journal:
        ours = start(*map(str, args), stdout=journal, stderr=journal, env={"JOURNAL_STREAM": name_of(path)})
        code = ended(ours).code
    return code, path.read_text()


def test_evaluate_writes_lines_into_the_journal(tmp_path: Path) -> None:
    """One for each decision, one that sums up, each with its priority; and no page, which nobody could read there."""
    code, told = in_the_journal(tmp_path / "journal", "--config", DEMO_CONFIG, "--replay", DEMO, "evaluate")
    assert code == 0
    *decisions, last = told.splitlines()
    assert all(re.match(r"<[3-6]>\S", line) for line in (*decisions, last))
    assert last.startswith("<6>mode observe; ")
    document = on_demo("evaluate", "--json").json
    assert len([line for line in decisions if ": held: " in line]) == len(document["plan"]) > 1
    for one in document["plan"]:
        assert any(f"{one['name']} ({one['container'][:12]}" in line and one["rule"] in line for line in decisions)


def test_elsewhere_evaluate_prints_its_page() -> None:
    """A pipe or a file is for people and programs, as it always was."""
    assert on_demo("evaluate").stdout.startswith("gpu01, ")


@pytest.mark.parametrize("command", ["evaluate --json", "preview", "preview --json"])
def test_other_output_is_the_same_in_the_journal(command: str, tmp_path: Path) -> None:
    """A document stays one; only the tick of the timer is written as lines."""
    code, told = in_the_journal(tmp_path / "journal", "--config", DEMO_CONFIG, "--replay", DEMO, *command.split())
    assert (code, told) == (0, on_demo(*command.split()).stdout)


def test_what_goes_wrong_is_an_error_in_the_journal(tmp_path: Path) -> None:
    """No Docker, or an invalid configuration: found by `journalctl -p err`."""
    config = configured(tmp_path)
    code, told = in_the_journal(tmp_path / "journal", "--config", config, "evaluate")
    assert code == 3
    assert [line[:3] for line in told.splitlines()] == ["<3>", "<3>"]
    assert "Docker could not be observed" in told
    (config / "settings.yaml").write_text("mode: on")
    code, told = in_the_journal(tmp_path / "journal", "--config", config, "evaluate")
    assert code == 2
    assert {line[:3] for line in told.splitlines()} == {"<3>"}


def test_a_lock_that_is_held_is_no_error(tmp_path: Path) -> None:
    """Somebody runs it by hand: the next tick comes."""
    with RunLock(tmp_path / "state" / "lock"):
        code, told = in_the_journal(tmp_path / "journal", "--config", configured(tmp_path), "evaluate")
    assert code == 5
    assert told.startswith("<5>another run holds ")


def test_metrics_that_cannot_be_written_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick has done what it was there for, and its lines stand beside."""
    pretend_demo_is_here(monkeypatch)
    config = configured(tmp_path, metrics_file=str(tmp_path / "missing" / "x.prom"))
    journal = tmp_path / "journal"
    with journal.open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("JOURNAL_STREAM", name_of(journal))
        with pytest.raises(SystemExit):
            evaluate(Options(config), mode=None, json=False)
    assert f"<4>metrics: {tmp_path}/missing/x.prom cannot be written: " in journal.read_text()


def test_watch_says_that_it_follows_without_alarm(tmp_path: Path) -> None:
    """Trouble is a warning, that it listens is not."""
    with events_engine() as engine:
        config = configured(tmp_path, docker={"url": f"unix://{engine.path}", "timeout": "5s"})
        journal = tmp_path / "journal"
        with journal.open("w") as stream:
            watch = start(
                "--config", config, "watch", stdout=stream, stderr=stream, env={"JOURNAL_STREAM": name_of(journal)}
            )
        deadline = time.monotonic() + 30
        while not journal.read_text().endswith("\n") and time.monotonic() < deadline:
            time.sleep(0.05)
        watch.terminate()
        ended(watch)
    assert journal.read_text().splitlines()[0] == "<6>following Docker's events"


def test_something_unforeseen_is_an_error_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the program's own, in one line."""
    journal = tmp_path / "journal"
    with journal.open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("JOURNAL_STREAM", name_of(journal))
        _tell(ValueError("a\nb"))
    assert journal.read_text() == "<3>ds01-policy: unexpected ValueError: a\\nb (--verbose shows where)\n"
