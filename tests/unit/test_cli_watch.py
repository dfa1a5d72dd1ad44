"""`watch` as a program: how it begins, which hands it has, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_host import DEMO, configured, ended, run, start
from epilog_fakes import Docker
from events_engine import EventsEngine, events_engine

from ds01_policy.act.epilog import Epilog
from ds01_policy.cli.options import Options
from ds01_policy.cli.watching import _Parts
from ds01_policy.cli.wiring import live_sources, policy_of
from ds01_policy.journal import Journal
from ds01_policy.memory import AUDIT, LEDGER
from ds01_policy.observe.ports import SourceError


def setting(config: Path, **changes: Any) -> None:
    """Change settings as an admin's editor does."""
    path = config / "settings.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# ── how it begins ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_follows_this_host_and_no_recording(tmp_path: Path) -> None:
    """A recording has no events, and nothing on it can be checked."""
    ran = run("--config", configured(tmp_path), "--replay", DEMO, "watch")
    assert (ran.code, ran.stdout) == (2, "")
    assert "recording" in ran.stderr


def test_without_a_ledger_it_does_not_begin(tmp_path: Path) -> None:
    """What cannot be written down is not done; the admin is told what to do."""
    config = configured(tmp_path)
    (tmp_path / "state").write_text("not a directory")
    ran = run("--config", config, "watch")
    assert (ran.code, ran.stdout) == (1, "")
    assert "state" in ran.stderr
    assert "nothing that cannot be written down is done" in ran.stderr


def test_once_without_docker_says_so(tmp_path: Path) -> None:
    """Seeing to what is owed needs Docker; it does not wait for it."""
    ran = run("--config", configured(tmp_path), "watch", "--once")
    assert (ran.code, ran.stdout) == (3, "")
    assert "is Docker running" in ran.stderr


# ── which hands it has ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[_Parts, Path]]:
    config = configured(tmp_path, mode="enforce")
    options = Options(config)
    policy = policy_of(options)
    with closing(Journal(tmp_path / LEDGER, tmp_path / AUDIT, "gpu01")) as journal:
        yield _Parts(options, policy, live_sources(policy), journal), config


def test_a_mode_that_is_weakened_counts_at_once(parts: tuple[_Parts, Path]) -> None:
    """Months after it was started; and so does one that is strengthened."""
    made, config = parts
    assert made.aftercare(Docker()).once.hands
    for mode, hands in (("observe", False), ("warn", False), ("enforce", True)):
        setting(config, mode=mode)
        assert made.aftercare(Docker()).once.hands is hands
        epilog = made.aftercare(Docker()).once.epilog
        assert isinstance(epilog, Epilog)
        assert epilog.hands is hands


def test_a_policy_that_cannot_be_read_has_no_epilogs(parts: tuple[_Parts, Path]) -> None:
    """Nothing is done by a mode that is guessed, and nothing is taken for done: it waits until it is mended."""
    made, config = parts
    setting(config, mode="enfroce")
    with pytest.raises(SourceError, match="ds01-policy check"):
        made.aftercare(Docker())
    setting(config, mode="observe")
    assert not made.aftercare(Docker()).once.hands


def test_others_are_waited_for_longer_than_an_epilog_takes(parts: tuple[_Parts, Path]) -> None:
    """Or a slow one would be taken for one that has been killed."""
    made, config = parts
    setting(config, epilog={"timeout": "90s"})
    once = made.aftercare(Docker()).once
    assert once.patience.total_seconds() > 90
    assert (once.by, once.lock) == ("watch", Path(made.policy.settings.state_dir) / "epilog.lock")


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def engine() -> Iterator[EventsEngine]:
    with events_engine() as opened:
        yield opened


def following(config: Path) -> subprocess.Popen[str]:
    """Start it, and wait for its first line."""
    watch = start("--config", config, "watch")
    assert watch.stderr is not None
    assert watch.stderr.readline() == "following Docker's events\n"
    return watch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path: Path, engine: EventsEngine, number: signal.Signals) -> None:
    """No traceback, exit code 0, while it listens."""
    watch = following(configured(tmp_path, docker={"url": engine.url, "timeout": "5s"}))
    watch.send_signal(number)
    ran = ended(watch)
    assert (ran.code, ran.stdout) == (0, "")
    assert "Traceback" not in ran.stderr


def test_a_signal_ends_it_while_it_waits_for_docker(tmp_path: Path) -> None:
    """No engine at all: one line about it, and it goes on trying until it is told to end."""
    watch = start("--config", configured(tmp_path), "watch")
    assert watch.stderr is not None
    assert "No such file" in watch.stderr.readline()
    watch.terminate()
    ran = ended(watch)
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
