"""What commands print: one document and nothing else, or text that is fit for where it goes; and whom they mean."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from itertools import pairwise
from pathlib import Path

import pytest
from cli_host import DEMO, DEMO_CONFIG, Ran, configured, ended, on_demo, pretend_demo_is_here, run, start

from ds01_policy.cli.wiring import page
from ds01_policy.model import Mode
from ds01_policy.observe.recording import replay
from ds01_policy.report.layout import Page

LISTED = sorted(entry["Id"] for entry in replay(DEMO).sources.docker.containers())


# ── documents ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command", ["preview", "preview --all", "preview --rule idle-gpu", "evaluate", "explain train"]
)
def test_json_is_one_document_and_nothing_else(command: str) -> None:
    """A program that reads stdout finds a whole document of plain ASCII, and nothing before or after it."""
    ran = on_demo(*command.split(), "--json")
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout.isascii()
    assert ran.stdout == json.dumps(ran.json) + "\n"
    assert (ran.json["schema"], ran.json["command"]) == (1, command.split(maxsplit=1)[0])


def test_what_is_amiss_with_a_recording_goes_to_stderr(tmp_path: Path) -> None:
    """Other signals ask other questions: a person is told, a program still gets its document."""
    signals = Path(__file__).parents[2] / "config" / "signals.yaml"
    config = configured(
        tmp_path,
        {"signals.yaml": signals.read_text().replace("DCGM_FI_DEV_GPU_UTIL{", "DCGM_FI_DEV_GPU_UTIL_RATIO{")},
        prometheus={"url": "http://localhost:9090"},
    )
    ran = on_demo("preview", "--json", config=config)
    assert ran.code == 0
    assert ran.stderr.startswith("not in this recording: ")
    assert "DCGM_FI_DEV_GPU_UTIL_RATIO" in ran.stderr
    train = next(one for one in ran.json["containers"] if one["name"] == "train")
    assert {one["rule"]: one["verdict"] for one in train["rules"]}["idle-gpu"] == "unknown"


def test_one_rule_shows_that_rule_alone() -> None:
    """`--rule` keeps the containers it is about, and what is due by it."""
    document = on_demo("preview", "--rule", "stopped-retention", "--json").json
    assert [(one["name"], [each["rule"] for each in one["rules"]]) for one in document["containers"]] == [
        ("finished", ["stopped-retention"])
    ]
    assert [one["name"] for one in document["plan"]] == ["finished"]


@pytest.mark.parametrize("setting", list(Mode))
@pytest.mark.parametrize("option", [None, *Mode])
def test_the_option_can_only_weaken_the_mode(setting: Mode, option: Mode | None, tmp_path: Path) -> None:
    """An admin can look at what the timer would do; nobody can make it act from the command line."""
    config = configured(tmp_path, mode=setting.value, prometheus={"url": "http://localhost:9090"})
    args = [] if option is None else ["--mode", option.value]
    ran = on_demo("evaluate", "--json", *args, config=config)
    document = ran.json
    expected = setting if option is None else min(setting, option, key=list(Mode).index)
    told = f"--mode may only weaken: this run is in mode {setting}, as settings.yaml says"
    assert (told in ran.stderr) is (option not in (None, expected)), ran.stderr
    assert document["mode"] == expected
    assert {one["mode"] for one in document["plan"]} == {expected}
    enforced = {tuple(one["actions"]) for one in document["plan"] if one["disposition"] == "enforce"}
    assert bool(enforced) is (expected is not Mode.OBSERVE)
    assert (("remove",) in enforced) is (expected is Mode.ENFORCE)


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["preview", "evaluate", "explain train", "check", "audit", "--help", "preview -h"])
def test_a_pipe_gets_no_escape_codes(command: str, tmp_path: Path) -> None:
    """Whatever the environment says about colours."""
    config = configured(tmp_path, prometheus={"url": "http://localhost:9090"})
    options = ("--config", config, "--replay", DEMO)
    env = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-256color"}
    ran = run(*options, *command.split(), env=env)
    assert ran.code == 0
    assert "\x1b" not in ran.stdout + ran.stderr
    assert ran.stdout


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        pytest.param(True, {"TERM": "xterm"}, True, id="a terminal"),
        pytest.param(True, {"TERM": "xterm", "NO_COLOR": "1"}, False, id="NO_COLOR"),
        pytest.param(True, {"TERM": "xterm", "NO_COLOR": ""}, False, id="NO_COLOR without a value"),
        pytest.param(True, {"TERM": "dumb"}, False, id="a terminal that knows no colours"),
        pytest.param(False, {"TERM": "xterm"}, False, id="a pipe"),
    ],
)
def test_when_there_is_colour(
    terminal: bool,  # noqa: FBT001  a table's column
    environment: dict[str, str],
    coloured: bool,  # noqa: FBT001  a table's column
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a terminal that knows colours, to people who want them."""
    for name in ("NO_COLOR", "TERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert page().colour is coloured


def test_a_pipe_is_80_columns_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail and journals look the same wherever they are made."""
    monkeypatch.setenv("COLUMNS", "200")
    assert page() == Page(80, colour=False)


def test_a_real_terminal_is_used_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour, its whole width, and a line of progress on stderr that is gone in the end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    ours = start(
        "--config", DEMO_CONFIG, "--replay", DEMO, "preview", stdout=slave, stderr=slave, env={"TERM": "xterm"}
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert ended(ours) == Ran(0, "", "")
    text = shown.decode().replace("\r\n", "\n")
    assert "\x1b[1mtrain\x1b[0m" in text
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in text.splitlines()) > 80
    assert text.startswith("\rasking Docker, the driver and Prometheus …\r")
    progress, *rest = text.split("gpu01", 1)
    assert progress.split("\r")[-2].strip() == "", "it is blanked before anything else is printed"
    assert rest


# ── whom ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_container_is_found_by_name_or_by_the_start_of_its_id() -> None:
    """Docker's twelve digits, all sixty-four, or as few as are its own; a name also as `docker inspect` writes it."""
    by_name = on_demo("explain", "train", "--json").json
    full = by_name["container"]["id"]
    own = next(full[:length] for length in range(1, 65) if sum(each.startswith(full[:length]) for each in LISTED) == 1)
    for part in ("/train", own, full[:12], full):
        assert on_demo("explain", part, "--json").json == by_name


def test_a_start_that_several_ids_share_names_them_all() -> None:
    """Nineteen ids and sixteen digits: some share the first. The admin picks; nothing is guessed."""
    digit = next(one[0] for one, after in pairwise(LISTED) if one[0] == after[0])
    several = [each for each in LISTED if each.startswith(digit)]
    ran = on_demo("explain", digit)
    assert (ran.code, ran.stdout) == (2, "")
    assert "could be any of" in ran.stderr
    assert all(each[:12] in ran.stderr for each in several)


# ── a tick on this host ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tick_is_remembered_and_a_look_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`preview` and `explain` leave no trace; `evaluate` writes ledger and audit log, private, and says the same."""
    pretend_demo_is_here(monkeypatch)
    config = configured(tmp_path, prometheus={"url": "http://localhost:9090"})
    shown = run("--config", config, "preview", "--json").json
    assert run("--config", config, "explain", "train").code == 0
    assert not (tmp_path / "state").exists()
    ticked = run("--config", config, "evaluate", "--json")
    assert ticked.code == 0
    written = {"ledger.db", "audit.jsonl", "lock", "metrics.prom"}
    assert {path.name for path in (tmp_path / "state").iterdir()} == written
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").iterdir()} == {0}
    assert ticked.json == {**shown, "command": "evaluate"}
