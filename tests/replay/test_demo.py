"""The recorded host of the demo: every verdict shows on it, every time the same, and looking at it touches nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ds01_policy.cli.app import app
from ds01_policy.config.load import load
from ds01_policy.model import Kind, Mode, State
from ds01_policy.observe.recording import Replay, replay
from ds01_policy.policy import Policy
from ds01_policy.report.about import About
from ds01_policy.report.explain import explain_text
from ds01_policy.report.layout import Clock, Page, columns
from ds01_policy.tick import Report, look

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
DEMO, CONFIG = HERE / "demo", HERE / "demo-config"
OPTIONS = ("--config", str(CONFIG), "--replay", str(DEMO))

# Name → rule → verdict, with what holds it off and a part of the reason. A rule that is not here does not list it.
FOUND: dict[str, dict[str, tuple[str, ...]]] = {
    "cooling-down": {"idle-gpu": ("warn", "idle for 48m of 60m"), "max-runtime": ("clear", "running for 2h < 2d")},
    "course-demo": {"idle-gpu": ("exempt by exempted", "demonstration week"), "max-runtime": ("clear", "1d6h < 2d")},
    "dcgm-exporter": {"idle-gpu": ("exempt by infrastructure",), "max-runtime": ("exempt by infrastructure",)},
    "finished": {"stopped-retention": ("act", "exited for 50m")},
    "four-gpus": {"idle-gpu": ("clear", "in use: gpu 64%"), "max-runtime": ("clear", "running for 8h < 2d")},
    "just-started": {"idle-gpu": ("young", "start-up grace 30m"), "max-runtime": ("clear", "running for 12m")},
    "kept-alive": {"idle-gpu": ("exempt by keep_alive", "otherwise act"), "max-runtime": ("clear", "10h < 2d")},
    "llm-finetune": {"idle-gpu": ("clear", "in use: gpu 87%"), "max-runtime": ("clear", "running for 9h < 2d")},
    "long-run": {"idle-gpu": ("clear", "in use"), "max-runtime": ("off", "max_runtime is never (users: dave)")},
    "my-monitoring": {"idle-gpu": ("act", "idle for 60m"), "max-runtime": ("clear", "running for 4h < 2d")},
    "mystery": {"idle-gpu": ("clear", "in use"), "max-runtime": ("act", "running for 1d1h ≥ 1d")},
    "no-metrics": {"idle-gpu": ("unknown", "gpu: stale"), "max-runtime": ("off", "users: dave")},
    "prepared": {"created-never-started": ("act", "created for 2h ≥ 30m")},
    "slice-busy": {"idle-gpu": ("clear", "in use: gpu 91%"), "max-runtime": ("clear", "running for 6h < 2d")},
    "slice-idle": {"idle-gpu": ("act", "idle for 60m"), "max-runtime": ("clear", "running for 6h < 2d")},
    "thesis-vscode": {"max-runtime": ("off", "users: dave")},
    "train": {"idle-gpu": ("act", "idle for 60m: gpu 0% < 5%"), "max-runtime": ("clear", "running for 7h < 2d")},
    "web": {},
    "woke-up": {"idle-gpu": ("clear", "in use"), "max-runtime": ("clear", "running for 5h < 2d")},
}
ROWS = [(name, rule, *found) for name, rules in FOUND.items() for rule, found in rules.items()]

# What is due, and what holds it back: mode observe does nothing, and nobody may end more than five at once.
# Who has been due for longest goes first.
PLAN = {
    "cooling-down idle-gpu warn": "mode",
    "prepared created-never-started remove": "mode",
    "finished stopped-retention remove+epilog": "budget",
    "mystery max-runtime stop+remove+epilog": "mode",
    "train idle-gpu stop+remove+epilog": "mode",
    "slice-idle idle-gpu stop+remove+epilog": "mode",
    "my-monitoring idle-gpu stop+remove+epilog": "mode",
}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(CONFIG, unix_group=lambda _: None)


@pytest.fixture(scope="module")
def recorded() -> Replay:
    return replay(DEMO)


@pytest.fixture(scope="module")
def report(policy: Policy, recorded: Replay) -> Report:
    return look(policy, recorded.sources, recorded.at, recorded.history)


def run(*args: str) -> str:
    """Run a command on the demo in this process; give what it printed."""
    result = CliRunner().invoke(app, [*OPTIONS, *args])
    assert (result.exit_code, result.stderr) == (0, ""), result.stderr
    return result.stdout


def program(*args: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program of its own, with Python's own switches first."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1", **environ}
    return subprocess.run([sys.executable, *args], env=environment, capture_output=True, timeout=60, check=False)


# ── what shows ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1]} {row[2]}")
def test_each_rule_finds_what_the_host_was_made_for(row: tuple[str, ...], report: Report) -> None:
    """Name → rule → verdict, and why."""
    name, rule, verdict, *words = row
    found = next(one for one in report.evaluation.verdicts if (one.container.name, one.rule) == (name, rule))
    assert (f"{found.kind} by {found.held_by}" if found.held_by else str(found.kind)) == verdict, found.why
    assert all(word in found.why for word in words), found.why


def test_the_table_leaves_nothing_out(report: Report) -> None:
    """No container and no verdict is on the host that the table does not name."""
    assert {container.name for container in report.snapshot.containers} == set(FOUND)
    assert {(one.container.name, one.rule) for one in report.evaluation.verdicts} == {row[:2] for row in ROWS}


def test_every_word_of_the_verdicts_and_exemptions_is_shown(report: Report) -> None:
    """Whoever runs the demo sees each of them."""
    assert {one.kind for one in report.evaluation.verdicts} == set(Kind)
    held = {one.held_by for one in report.evaluation.verdicts if one.kind is Kind.EXEMPT}
    assert held == {"infrastructure", "exempted", "keep_alive"}


def test_what_is_due_is_held_back_by_its_first_guard(report: Report) -> None:
    """The plan, longest overdue first."""
    plan = {
        f"{one.container.name} {one.verdict.rule} {'+'.join(one.actions)}": str(one.held_by)
        for one in report.plan.decisions
    }
    assert plan == PLAN
    acts = [key.split()[0] for key in plan if not key.endswith("warn")]
    assert acts[-1] == "finished", "the one that has waited least goes without"


def test_the_host_is_of_every_kind(report: Report) -> None:
    """A MIG slice, several GPUs, all of them, none, one that nobody owns, one created, one stopped, a dev container."""
    by_name = {container.name: container for container in report.snapshot.containers}
    assert [ref.gpu_instance for ref in by_name["slice-idle"].gpus.refs] == [1]
    assert len(by_name["four-gpus"].gpus.refs) == 4
    assert len(by_name["dcgm-exporter"].gpus.refs) == report.evaluation.demand.gpus == 18
    assert not by_name["web"].gpus.wants
    assert (by_name["mystery"].owner, by_name["train"].owner) == ("unknown", "alice")
    assert (by_name["prepared"].state, by_name["finished"].state) == (State.CREATED, State.EXITED)
    assert (by_name["thesis-vscode"].type, by_name["thesis-vscode"].owner) == ("devcontainer", "dave")
    assert by_name["kept-alive"].owner_proven, "its mount is proof of what its label claims"
    assert report.evaluation.demand.high is False


def test_a_forged_label_is_not_honoured_and_is_reported(report: Report) -> None:
    """It says that it is monitoring, and is stopped like any other; an exemption by a mere label is pointed out."""
    forged = next(container for container in report.snapshot.containers if container.name == "my-monitoring")
    assert forged.labels["ds01.monitoring"] == "true"
    assert forged.infrastructure is False
    told = {problem.code: problem.detail for problem in (*report.snapshot.problems, *report.evaluation.problems)}
    assert set(told) == {"untrusted_claim", "owner_unproven"}
    assert "'my-monitoring'" in told["untrusted_claim"]
    assert "course-demo" in told["owner_unproven"]


# ── what it is made of ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_recording_answers_what_is_asked_and_nothing_else(report: Report, recorded: Replay) -> None:
    """A rule or signal that asks something else, or no longer asks, needs a new recording."""
    assert report.snapshot.sources["prometheus"].extra == {"queries": 6}
    assert recorded.mismatches == []
    assert recorded.unused() == []


def test_a_preview_twice_is_the_same_bytes() -> None:
    """Whatever order sets and dicts happen to have."""
    first, second = (
        program("-m", "ds01_policy", *OPTIONS, "preview", "--json", "--all", PYTHONHASHSEED=seed) for seed in ("1", "2")
    )
    assert (first.returncode, first.stderr) == (0, b"")
    assert first.stdout == second.stdout
    assert len(json.loads(first.stdout)["containers"]) == len(FOUND)


# Every file that is opened to be written, every file or folder changed, every connection and program started.
WATCHED = """
import os, sys
done = []
def watch(event, args):
    if event == "open":
        path, mode, flags = args
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND) and path != os.devnull:
            done.append((event, path))
    elif event.split(".")[0] in ("socket", "subprocess", "sqlite3", "shutil", "tempfile", "fcntl") or event in (
        "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown",
        "os.truncate", "os.utime", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.kill",
    ):
        done.append((event, repr(args)))
sys.addaudithook(watch)
from ds01_policy.cli import main
try:
    main()
finally:
    sys.stderr.write("".join(f"{event} {what}\\n" for event, what in done))
"""


@pytest.mark.parametrize("mode", list(Mode))
def test_evaluate_on_a_recording_touches_nothing_and_asks_nobody(mode: Mode, tmp_path: Path) -> None:
    """Under every mode: exit 0, no file written, no connection, no program; and what it would have done is shown."""
    config, state = tmp_path / "config", tmp_path / "state"
    config.mkdir()
    for path in CONFIG.iterdir():
        (config / path.name).write_bytes(path.read_bytes())
    (config / "settings.yaml").write_text(f"version: 1\nmode: {mode}\nstate_dir: {state}\nbudget: {{per_run: 50}}\n")
    ran = program(
        "-c", WATCHED, "--config", str(config), "--replay", str(DEMO), "evaluate", "--json", HOME=str(tmp_path)
    )
    assert (ran.returncode, ran.stderr.decode()) == (0, "")
    document = json.loads(ran.stdout)
    assert (document["command"], document["mode"]) == ("evaluate", mode)
    assert not state.exists()
    # What is enforced is withheld, action by action: there are no hands.
    enforced = [action for one in document["plan"] if one["disposition"] == "enforce" for action in one["actions"]]
    assert [(one["action"], one["status"]) for one in document["outcomes"]] == [(each, "withheld") for each in enforced]
    assert bool(enforced) is (mode is not Mode.OBSERVE)


def test_the_watch_above_sees_what_is_done(tmp_path: Path) -> None:
    """A command that does write is caught at it."""
    ran = program("-c", WATCHED, "init", str(tmp_path / "new"))
    assert ran.returncode == 0
    assert "os.mkdir" in ran.stderr.decode()
    assert f"open {tmp_path / 'new' / 'settings.yaml'}" in ran.stderr.decode()


# ── how it reads ─────────────────────────────────────────────────────────────────────────────────────────────────────


def fits(text: str) -> None:
    """Check that every line fits a terminal of 80 columns and is made of nothing that a terminal acts upon."""
    assert text.endswith("\n")
    assert all(character.isprintable() for line in text.split("\n") for character in line)
    assert [line for line in text.split("\n") if columns(line) > 80] == []


@pytest.mark.parametrize(
    "args",
    [("preview",), ("preview", "--all"), ("preview", "--rule", "idle-gpu"), ("evaluate",), ("explain", "train")],
    ids=" ".join,
)
def test_text_fits_a_terminal(args: tuple[str, ...]) -> None:
    """As in `make demo`."""
    fits(run(*args))


@pytest.mark.parametrize("name", FOUND)
def test_every_container_can_be_explained(name: str, policy: Policy, report: Report) -> None:
    """Its explanation fits a terminal, names each rule about it with its verdict, and answers the three questions."""
    container = next(container for container in report.snapshot.containers if container.name == name)
    about = About(policy, Mode.OBSERVE, report.snapshot, report.evaluation, report.plan, report.history, container)
    text = explain_text(about, Page(), Clock(report.snapshot.at))
    fits(text)
    assert text.startswith(f"{name} ({container.short})")
    for rule, (verdict, *_) in FOUND[name].items():
        assert f"{rule} - {verdict.split()[0]}:" in text
    assert all(rule.id in text for rule in policy.rules)
    if FOUND[name]:
        assert text.count("?\n") == 3


def test_preview_shows_who_and_why_at_a_glance() -> None:
    """What is due comes first with its reason, then what is not known, then what was wrong."""
    text = run("preview")
    assert text.index("\ntrain  alice") < text.index("idle-gpu: idle for 60m: gpu 0% < 5%") < text.index("FINDS")
    assert text.index("unknown  no-metrics") < text.index("Problems") < text.index("untrusted_claim")
    assert "7 due: 0 to enforce, 7 held back (mode 6, budget 1)" in text
    assert "llm-finetune" not in text, "nobody needs to read about what works; --all shows it"
    assert "llm-finetune" in run("preview", "--all")


def test_the_document_is_the_contract_s(recorded: Replay) -> None:
    """Every key is there, for one container of every kind."""
    document: dict[str, Any] = json.loads(run("preview", "--json"))
    assert list(document) == [
        "schema", "command", "at", "host", "mode", "policy", "sources", "demand", "containers", "plan", "outcomes",
        "host_processes", "problems",
    ]  # fmt: skip
    assert document["at"] == recorded.at.isoformat().replace("+00:00", "Z")
    assert document["sources"]["gpu"] == {"up": True, "via": "nvidia-smi"}
    assert document["demand"] == {"gpus": 18, "held": 14, "high": False}
    assert document["outcomes"] == []
    train = next(one for one in document["containers"] if one["name"] == "train")
    assert {"id", "state", "type", "owner", "owner_via", "group", "started_at", "gpus", "rules"} <= set(train)
    idle = next(one for one in train["rules"] if one["rule"] == "idle-gpu")
    assert (idle["verdict"], idle["held_by"], idle["for_s"]) == ("act", None, 3600)
    gpu = idle["evidence"][0]
    assert (gpu["signal"], gpu["window_s"], gpu["below"], gpu["truth"]) == ("gpu_utilization", 3600, 0.05, True)
    assert gpu["source"] == "prometheus"
    assert gpu["coverage"] > 0.95
    assert "web" not in {one["name"] for one in document["containers"]}, "no rule is about it: --all shows it"


def test_make_demo() -> None:
    """The first command of the README, with the environment that `make` has built."""
    built = REPOSITORY / ".venv" / "runtime.stamp"
    if not built.exists():
        pytest.skip("make has built no .venv here: `make test` does")
    # -o: whatever has changed since, nothing is built anew under the feet of the tests.
    argv = ["make", "-o", ".venv/runtime.stamp", "demo"]
    shown = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split()[-1] for line in shown.stdout.splitlines() if line.startswith("$ ")] == [
        "preview",
        "train",
        "evaluate",
    ]


def test_the_picture_in_the_readme_is_of_this_recording() -> None:
    """Whoever looks at it sees what the command shows; `python tests/replay/draw_preview.py` draws it anew."""
    spec = importlib.util.spec_from_file_location("draw_preview", HERE / "draw_preview.py")
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    assert draw.drawn() == draw.PICTURE.read_text("utf-8")
    assert f"]({draw.PICTURE.relative_to(REPOSITORY)})" in (REPOSITORY / "README.md").read_text("utf-8")
