"""Exit codes: what a timer, a script or an admin can tell from how a command ended, and that nothing was done."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
from cli_host import DEMO, DEMO_CONFIG, configured, files_below, on_demo, pretend_demo_is_here, run

from ds01_policy.audit import read
from ds01_policy.lock import RunLock

LIMITS = (DEMO_CONFIG / "limits.yaml").read_text()
BROKEN = {
    "limits.yaml": LIMITS.replace("idle_timeout: 60m", "idle_timeout: 60").replace("users: {dave", "user: {dave"),
    "rules/mine.yaml": (
        "version: 1\n"
        "rules:\n"
        "  - id: mine\n"
        "    match: {state: runing, gpu: true}\n"
        "    when: {signal: gpu_utilisation, below: 5%}\n"
        "    for: {limit: idle_timeout}\n"
        "    then: [stop]\n"
    ),
}


# ── 0 done ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "args", ["preview", "preview --json", "evaluate", "explain train", "preview --rule max-runtime"]
)
def test_done(args: str) -> None:
    """A look at a host where much is due is no failure."""
    ran = on_demo(*args.split())
    assert (ran.code, ran.stderr) == (0, "")


def test_a_clean_check() -> None:
    """Nothing wrong, nothing doubtful."""
    ran = run("--config", DEMO_CONFIG, "check")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "0 findings\n", "")
    assert run("--config", DEMO_CONFIG, "check", "--json").json == {"schema": 1, "command": "check", "findings": []}


# ── 1 failed, or found wanting ───────────────────────────────────────────────────────────────────────────────────────

EXPIRED = (
    "version: 1\nexemptions:\n"
    "  - {user: prof, rules: [idle-gpu], reason: demo, approved_by: admin, expires: 2020-01-31}\n"
)


def test_check_finds_something_doubtful(tmp_path: Path) -> None:
    """A warning keeps nothing from running, but a check in a pipeline must see it."""
    config = configured(tmp_path, {"exemptions.yaml": EXPIRED})
    ran = run("--config", config, "check")
    assert (ran.code, ran.stderr) == (1, "")
    first, why, last = ran.stdout.splitlines()
    assert first.startswith(f"{config}/exemptions.yaml:3:71: expired on 2020-02-01")
    assert first.endswith("[expired]")
    assert why == "    It holds nothing back any more, and somebody may still rely on it."
    assert last == "1 finding"
    ran = run("--config", config, "check", "--json")
    assert ran.code == 1
    (finding,) = ran.json["findings"]
    assert (finding["slug"], finding["line"], finding["severity"]) == ("expired", 3, "warning")
    assert run("--config", config, "--replay", DEMO, "preview").code == 0


@pytest.mark.filterwarnings("ignore:unclosed <socket")  # the SDK's, when it cannot connect
def test_an_action_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker could be looked at and then not reached: each failure is an outcome, an audit line, and exit 1."""
    pretend_demo_is_here(monkeypatch)
    config = configured(tmp_path, mode="enforce")
    ran = run("--config", config, "evaluate", "--json")
    assert ran.code == 1
    removal = [one for one in ran.json["outcomes"] if one["action"] == "remove"]
    assert {one["status"] for one in removal} == {"failed"}
    kinds = [line["kind"] for line in read(tmp_path / "state" / "audit.jsonl") if line["action"] == "remove"]
    assert kinds.count("intent") == kinds.count("outcome") == len(removal)
    gc.collect()


def test_a_memory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due is still shown, held by the ledger; nothing is done, and the exit code says so."""
    pretend_demo_is_here(monkeypatch)
    (tmp_path / "state").write_text("a file where the folder should be")
    config = configured(tmp_path, mode="enforce")
    ran = run("--config", config, "evaluate", "--json")
    assert ran.code == 1
    assert {one["held_by"] for one in ran.json["plan"]} == {"ledger"}
    assert ran.json["outcomes"] == []
    assert "ledger" in {one["code"] for one in ran.json["problems"]}


def test_a_recording_that_cannot_be_made(tmp_path: Path) -> None:
    """Somebody's files are in the way."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    ran = run("--config", configured(tmp_path), "record", tmp_path / "full")
    assert (ran.code, ran.stdout) == (1, "")
    assert "is not empty: name a new directory" in ran.stderr


# ── 2 usage, or an invalid configuration ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["preview", "evaluate", "explain train", "audit", "record NEW", "evaluate --json"])
def test_an_invalid_configuration_is_refused_whole(command: str, tmp_path: Path) -> None:
    """Every mistake of every file at once, each with its place, and nothing is done: not even a lock is taken."""
    config = configured(tmp_path, BROKEN)
    before = files_below(tmp_path)
    ran = run("--config", config, *command.replace("NEW", f"{tmp_path}/new").split())
    assert (ran.code, ran.stdout) == (2, "")
    *errors, last = ran.stderr.splitlines()
    places = [error.removeprefix(f"{config}/").split(": ")[0] for error in errors]
    assert places == [
        "exemptions.yaml:3:26",
        "limits.yaml:2:26",
        "limits.yaml:8:1",
        "rules/mine.yaml:4:20",
        "rules/mine.yaml:5:20",
    ], ran.stderr
    assert "did you mean 'gpu_utilization'?" in errors[4]
    assert last == "5 errors in the configuration: nothing was done"
    assert files_below(tmp_path) == before


def test_check_tells_the_same_errors_on_stdout(tmp_path: Path) -> None:
    """For `check` they are the result."""
    config = configured(tmp_path, BROKEN)
    ran = run("--config", config, "check")
    assert (ran.code, ran.stderr) == (2, "")
    assert ran.stdout.splitlines()[-1] == "5 findings"
    ran = run("--config", config, "check", "--json")
    assert ran.code == 2
    assert [(one["line"], one["column"], one["severity"]) for one in ran.json["findings"]] == [
        (3, 26, "error"), (2, 26, "error"), (8, 1, "error"), (4, 20, "error"), (5, 20, "error"),
    ]  # fmt: skip


def test_a_half_written_rules_file_stops_the_whole_tick(tmp_path: Path) -> None:
    """An editor was killed, a disk ran full: the rules that are left are not run without the others."""
    rules = "version: 1\nrules:\n  - id: mine\n    match: {state: running, gpu: true}\n    for: 24h\n    then: [stop]\n"
    config = configured(tmp_path, {"rules/mine.yaml": rules, "exemptions.yaml": "version: 1\nexemptions: []\n"})
    assert run("--config", config, "--replay", DEMO, "evaluate").code == 0
    for length in (len(rules) - 5, rules.index("for"), rules.index("gpu"), 12):
        (config / "rules" / "mine.yaml").write_text(rules[:length])
        ran = run("--config", config, "--replay", DEMO, "evaluate")
        assert (ran.code, ran.stdout) == (2, ""), rules[:length]
        assert "rules/mine.yaml:" in ran.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param(("preview", "--rule", "idle"), "no rule is called 'idle'; there are: created-never", id="no rule"),
        pytest.param(("explain", "nobody"), "no container is called 'nobody'", id="no container"),
        pytest.param(("explain", ""), "no container is called ''", id="an empty name names nobody"),
        pytest.param(("explain", "\x1b[2Jx"), r"\x1b[2Jx", id="hostile text is shown, not sent to the terminal"),
        pytest.param(("schema", "rule"), "there are: settings, signals", id="no schema"),
        pytest.param(("preview", "--jsn"), "No such option", id="no option"),
        pytest.param(("evaluate", "--mode", "kill"), "'kill'", id="no mode"),
        pytest.param(("previw",), "Did you mean 'preview'?", id="no command"),
        pytest.param(("explain",), "Missing argument", id="no argument"),
        pytest.param(("audit", "--since", "yesterday"), "--since", id="no time"),
        pytest.param(("preview", "train"), "unexpected extra argument", id="one argument too many"),
    ],
)
def test_usage(args: tuple[str, ...], words: str) -> None:
    """In words on stderr; stdout stays empty."""
    ran = on_demo(*args)
    assert (ran.code, ran.stdout) == (2, "")
    assert words in ran.stderr
    assert "\x1b" not in ran.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--config", "/no/such/config"), "/no/such/config: no such directory (--config)"),
        (("--replay", "/no/such/recording"), "is not a recording: it has no meta.json"),
        (("--replay", DEMO_CONFIG), "is not a recording"),
    ],
)
def test_a_directory_that_is_not_there(options: tuple[str, ...], words: str) -> None:
    """Named, and not what it should be: the shipped one is not taken instead."""
    ran = run(*options, "preview")
    assert (ran.code, ran.stdout) == (2, "")
    assert words in ran.stderr


# ── 3 Docker could not be observed ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["preview", "evaluate", "explain train"])
def test_no_docker(command: str, tmp_path: Path) -> None:
    """Nothing is known, so nothing is decided; with --json a program gets a document that says so."""
    config = configured(tmp_path, mode="enforce")
    ran = run("--config", config, *command.split())
    assert (ran.code, ran.stdout) == (3, "")
    first, last = ran.stderr.splitlines()
    assert first.startswith("Docker could not be observed: ")
    assert "docker.sock" in first
    assert last == "nothing was decided and nothing was done"

    ran = run("--config", config, *command.split(), "--json")
    assert ran.code == 3
    assert ran.stderr.startswith("Docker could not be observed: ")
    document = ran.json
    assert (document["command"], document["mode"]) == (command.split(maxsplit=1)[0], "enforce")
    assert document["sources"]["docker"]["up"] is False
    assert [one["code"] for one in document["problems"]] == ["docker_down"]
    assert document["containers"] == document["plan"] == document["outcomes"] == []


def test_no_docker_to_record(tmp_path: Path) -> None:
    """No half recording is left."""
    ran = run("--config", configured(tmp_path), "record", tmp_path / "new")
    assert (ran.code, ran.stdout) == (3, "")
    assert ran.stderr.splitlines()[-1] == "nothing was recorded"
    assert list((tmp_path / "new").iterdir()) == []


def test_no_docker_is_what_a_live_check_finds(tmp_path: Path) -> None:
    """A finding, not a failure of the check."""
    config = configured(tmp_path)
    assert run("--config", config, "check").code == 0
    ran = run("--config", config, "check", "--live", "--json")
    assert ran.code == 1
    assert [one["slug"] for one in ran.json["findings"]] == ["docker_down"]


# ── 4 a budget or breaker withheld actions ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("mode", "code"), [("enforce", 4), ("warn", 0), ("observe", 0)])
def test_a_budget_that_withheld_something(mode: str, code: int, tmp_path: Path) -> None:
    """Below enforce it withholds nothing: it only shows what it would."""
    config = configured(tmp_path, mode=mode, budget={"per_run": 1}, prometheus={"url": "http://localhost:9090"})
    ran = on_demo("evaluate", "--json", config=config)
    assert ran.code == code
    assert "budget" in {one["held_by"] for one in ran.json["plan"]} or mode != "enforce"


# ── 5 another run holds the lock ─────────────────────────────────────────────────────────────────────────────────────


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer and an admin: the second is told who runs, and does nothing. Looking needs no lock."""
    pretend_demo_is_here(monkeypatch)
    config = configured(tmp_path, mode="enforce")
    with RunLock(tmp_path / "state" / "lock"):
        before = files_below(tmp_path)
        for args in (("evaluate",), ("evaluate", "--json")):
            ran = run("--config", config, *args)
            assert (ran.code, ran.stdout) == (5, "")
            assert "another run holds" in ran.stderr
        assert run("--config", config, "preview").code == 0
        assert files_below(tmp_path) == before
    assert run("--config", config, "evaluate", "--mode", "observe").code == 0


def test_the_numbers_are_the_contract_s() -> None:
    """Scripts and unit files are written against them."""
    from ds01_policy.cli.exits import Exit

    assert json.dumps({each.name: each.value for each in Exit}) == (
        '{"DONE": 0, "FAILED": 1, "USAGE": 2, "NO_DOCKER": 3, "WITHHELD": 4, "LOCKED": 5}'
    )
