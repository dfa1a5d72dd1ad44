"""A GPU that waits for its reset and nobody resets: every tick and every preview says so, after a while."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from whole_host import AT, MINUTE, A, Host, inspect

from ds01_policy.act.dry_run import DryRun
from ds01_policy.config.load import load
from ds01_policy.memory import LEDGER, Memory, remembered
from ds01_policy.metrics import families, text
from ds01_policy.model import Mode, Problem
from ds01_policy.policy import Policy
from ds01_policy.reset_requests import FOLDER, Request, ask
from ds01_policy.tick import RESET_WAITS, Report, look, tick

GPU, OTHER = "GPU-1", "GPU-2"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(None, unix_group=lambda _: None)


def handed(state: Path, gpu: str = GPU, ago: timedelta = RESET_WAITS + MINUTE) -> None:
    """Hand a GPU over, that long ago."""
    ask(state / FOLDER, Request(gpu, A, AT - ago, "bad", "watch"))
    at = (AT - ago).timestamp()
    os.utime(state / FOLDER / gpu, (at, at))


def ticked(policy: Policy, state: Path, at: datetime = AT) -> Report:
    sources = Host({A: inspect(A, "train")}).sources
    with closing(Memory(state, "gpu01", lambda _: True)) as memory:
        return tick(policy, sources, memory, DryRun(), lambda: at)


def told(report: Report) -> list[str]:
    return [problem.detail.split()[0] for problem in report.problems if problem.code == "reset_waiting"]


def test_it_is_said_in_words_and_as_a_metric(policy: Policy, tmp_path: Path) -> None:
    """Since when, what may be wrong, where to look, and what an admin can do at once."""
    handed(tmp_path)
    report = ticked(policy, tmp_path)
    assert report.problems == (
        Problem(
            "reset_waiting",
            "GPU-1 waits since 2026-03-02 11:49 UTC to be reset: is ds01-policy-reset.path enabled? `systemctl status "
            "ds01-policy-reset.path ds01-policy-reset.service`; by hand, as root: ds01-policy reset-gpus",
        ),
    )
    metrics = text(families(report, Mode.ENFORCE, AT, AT, AT.timestamp()))
    assert 'ds01_policy_problems{code="reset_waiting"} 1.0' in metrics


@pytest.mark.parametrize(
    ("ago", "says"), [(RESET_WAITS, []), (RESET_WAITS + timedelta(seconds=1), [GPU]), (timedelta(days=3), [GPU])]
)
def test_a_reset_takes_a_while_by_itself(policy: Policy, tmp_path: Path, ago: timedelta, says: list[str]) -> None:
    """One that was asked for a moment ago is on its way; one that nobody sees to is told of for ever."""
    handed(tmp_path, ago=ago)
    assert told(ticked(policy, tmp_path)) == says


def test_a_preview_says_it_too(policy: Policy, tmp_path: Path) -> None:
    """It changes nothing, and tells what a tick would."""
    ticked(policy, tmp_path)
    handed(tmp_path, OTHER)
    handed(tmp_path)
    assert told(look(policy, Host({A: inspect(A, "train")}).sources, AT, remembered(tmp_path))) == [GPU, OTHER]


def test_it_is_said_whatever_becomes_of_the_ledger(policy: Policy, tmp_path: Path) -> None:
    """The requests are files of their own: a damaged ledger hides none of them."""
    ticked(policy, tmp_path)
    handed(tmp_path)
    (tmp_path / LEDGER).write_bytes(b"x" * 5000)
    assert told(ticked(policy, tmp_path)) == [GPU]


def test_what_waits_for_nothing_is_not_told_of(policy: Policy, tmp_path: Path) -> None:
    """Once the request is gone, or where something else lies there, or nothing at all."""
    assert told(ticked(policy, tmp_path)) == []
    handed(tmp_path)
    (tmp_path / FOLDER / GPU).rename(tmp_path / FOLDER / "notes")
    assert told(ticked(policy, tmp_path)) == []
