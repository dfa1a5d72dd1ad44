"""The page for the users of a server says what the shipped policy does: its times, its warning, its file."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cli_host import REPOSITORY
from decided import container, decision

from ds01_policy.act.message import WARNING, message
from ds01_policy.config.load import load
from ds01_policy.limits import limit_for
from ds01_policy.model import Action, Mode, Mount
from ds01_policy.policy import Policy
from ds01_policy.rules import by_id

PAGE = (REPOSITORY / "deploy" / "USERS.md").read_text("utf-8")
NOW = datetime(2026, 3, 2, 4, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return load(None, unix_group=lambda _: None)


def test_the_warning_is_the_one_people_get(shipped: Policy) -> None:
    """The shipped template, rendered as the engine does."""
    one = container(mounts=(Mount("/home/alice/runs", "/workspace", "bind"),), id="04615c80f45e" + "0" * 52)
    why = "idle for 48m of 60m: gpu 0% < 5%, cpu 0.1% < 1%, network 12 B/s < 10 KiB/s"
    warn = decision(Action.WARN, of=one, why=why, act_at=NOW + timedelta(minutes=12))
    rendered = message(WARNING, replace(warn, mode=Mode.ENFORCE), shipped, "gpu01", now=NOW, zone=UTC)
    assert rendered.problem == ""
    assert f"```text\n{rendered.text}\n```" in PAGE


def _hours(policy: Policy, name: str, **of: Any) -> str:
    value = limit_for(policy.limits, replace(container(), **of), name).value
    assert value is not None
    return f"{value / timedelta(hours=1):g}"


def test_the_times_are_those_of_the_shipped_policy(shipped: Policy) -> None:
    """Every number of the tables, from the files that decide."""
    idle, runtime = by_id(shipped.rules)["idle-gpu"], by_id(shipped.rules)["max-runtime"]
    settings, limits = shipped.settings, shipped.limits
    assert idle.warn is not None
    assert runtime.warn is not None

    def minutes(value: timedelta | None) -> str:
        assert value is not None
        return f"{value / timedelta(minutes=1):g}"

    alice = container()
    quiet = limit_for(limits, replace(alice, type="docker", group="student"), "idle_timeout").value
    assert quiet is not None
    hours = {kind: _hours(shipped, "max_runtime", type=kind, group="student") for kind in ("docker", "compose")}
    groups = {
        group: _hours(shipped, "max_runtime", type="native", group=group)
        for group in ("student", "researcher", "faculty")
    }
    never = by_id(shipped.rules)["created-never-started"].for_.duration
    kept = limit_for(limits, alice, "container_hold_after_stop").value
    grace = limit_for(limits, alice, "stop_grace").value
    assert grace is not None
    for words in (
        f"quiet for **{minutes(quiet)} minutes** (faculty {minutes(_faculty(shipped))})",
        f"at {minutes(quiet * idle.warn.at)} minutes, at least {minutes(idle.warn.notice)} minutes before",
        f"it has run for **{hours['docker']} hours** (compose {hours['compose']}; started with the site's own tools:",
        f"tools: {groups['student']}, researchers {groups['researcher']}, faculty {groups['faculty']}",
        f"at {runtime.warn.at:.0%} of that".replace("%", " %") + f", at least {minutes(runtime.warn.notice)} minutes",
        f"not started for **{minutes(never)} minutes**",
        f"it has ended, and **{minutes(kept)} minutes** have passed",
        f"in the last {minutes(settings.awake)} minutes either",
        f"({settings.high_demand.above:.0%} of the GPUs held)".replace("%", " %"),
        f"up to {settings.keep_alive.max / timedelta(hours=1):g} hours, once for each quiet spell",
        f"touch {settings.keep_alive.path}",
        f"{grace.total_seconds():g} seconds to write a checkpoint",
    ):
        assert words in re.sub(r"\s+", " ", PAGE), words


def _faculty(policy: Policy) -> timedelta | None:
    return limit_for(policy.limits, replace(container(), type="docker", group="faculty"), "idle_timeout").value
