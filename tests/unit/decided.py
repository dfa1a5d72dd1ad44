"""Decisions and policies to act on, for tests of acting."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ds01_policy.identity import Identity
from ds01_policy.limits import Limits
from ds01_policy.model import Action, Container, Decision, Disposition, Kind, Mode, Mount, State, Verdict
from ds01_policy.policy import KeepAliveSettings, NotifySettings, Policy, Settings
from ds01_policy.rules import Except, For, Match, Rule, Warn

NOW = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)
STARTED = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
STOP_AND_REMOVE = (Action.STOP, Action.REMOVE, Action.EPILOG)


def container(**changes: Any) -> Container:
    plain = Container(
        id="a" * 64,
        name="train",
        image="pytorch:2",
        state=State.RUNNING,
        created_at=STARTED,
        started_at=STARTED,
        owner="alice",
        mounts=(Mount("/home/alice/data", "/data", "bind"), Mount("", "/scratch", "tmpfs")),
    )
    return replace(plain, **changes)


def decision(
    *actions: Action,
    of: Container | None = None,
    id: str = "d1",  # noqa: A002  the field is called so
    rule: str = "idle-gpu",
    why: str = "idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%",
    suppressed: bool = False,
    act_at: datetime | None = None,
) -> Decision:
    warning = actions == (Action.WARN,)
    return Decision(
        id=id,
        verdict=Verdict(of or container(), rule, Kind.WARN if warning else Kind.ACT, why),
        actions=actions,
        mode=Mode.ENFORCE,
        disposition=Disposition.SUPPRESS if suppressed else Disposition.ENFORCE,
        act_at=act_at or (NOW + timedelta(minutes=12) if warning else None),
    )


def policy(*channels: str, keepable: bool = True, timeout_s: float = 5.0, **templates: str) -> Policy:
    """Make a policy with one rule; templates are given without their `.j2`."""
    rule = Rule(
        id="idle-gpu",
        summary="Holds a GPU and is idle.",
        match=Match(),
        for_=For(limit="idle_timeout"),
        then=STOP_AND_REMOVE,
        excepts=(Except("keep_alive"),) if keepable else (),
        warn=Warn(at=0.8, notice=timedelta(minutes=10)),
    )
    return Policy(
        settings=Settings(
            notify=NotifySettings(channels=channels, timeout=timedelta(seconds=timeout_s)),
            keep_alive=KeepAliveSettings(max=timedelta(hours=24)),
        ),
        signals={},
        limits=Limits(defaults={}, default_group="student"),
        identity=Identity(),
        rules=(rule,),
        templates={f"{name}.j2": text for name, text in templates.items()},
    )
