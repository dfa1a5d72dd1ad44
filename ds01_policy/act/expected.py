"""PURE: what was decided about, what an inspect shows now, and in words how the two differ.

Owns reading Docker's inspect for acting. Must not call Docker.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ds01_policy.model import ALIVE, State
from ds01_policy.text import plain

# Two clocks never meet here; this only forgives a reader that rounds Docker's nanoseconds instead of cutting them.
_SAME_INSTANT = timedelta(milliseconds=1)


class Unreadable(Exception):
    """Docker answered something that is no container."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What was decided about. A container that looks otherwise is left alone."""

    name: str
    started_at: datetime | None  # None: never started
    states: frozenset[State]
    stopped: bool = False  # this run has stopped it: that it is gone is then our doing


@dataclass(frozen=True, slots=True)
class Found:
    """What Docker shows right now."""

    id: str
    name: str
    state: State
    started_at: datetime | None  # None: never started
    restart_policy: dict[str, Any]  # as Docker wants it back: {"Name": …, "MaximumRetryCount": …}
    auto_remove: bool
    exit_code: int | None

    @property
    def alive(self) -> bool:
        """Whether processes exist, or will in a moment."""
        return self.state in ALIVE

    @property
    def comes_back(self) -> bool:
        """Whether Docker would start it again by itself after a stop, now or when the daemon restarts."""
        return self.restart_policy.get("Name") not in (None, "", "no") and not self.auto_remove


def found(raw: dict[str, Any]) -> Found:
    """Read an inspect.

    Raises:
        Unreadable: when something needed is missing or is not what Docker writes there.

    """
    try:
        state, host = raw["State"], raw["HostConfig"]
        return Found(
            id=str(raw["Id"]),
            name=raw["Name"].removeprefix("/"),
            state=State(state["Status"]),
            started_at=_instant(state["StartedAt"]),
            restart_policy=dict(host.get("RestartPolicy") or {}),
            auto_remove=bool(host.get("AutoRemove")),
            exit_code=state.get("ExitCode"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Unreadable(f"Docker's answer to an inspect cannot be read: {error!r}") from error


def _instant(text: str) -> datetime | None:
    """Read an RFC 3339 time as UTC; Go's zero date: it never was."""
    if text == "" or text.startswith("0001-01-01T00:00:00"):
        return None
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return instant.astimezone(UTC)


def differs(now: Found, expect: Expected) -> str:
    """Say in words what makes it another container, or another life, than the one decided about; empty: nothing."""
    if now.name != expect.name:
        return f"it is called {plain(now.name, 80)} now, was {plain(expect.name, 80)} when this was decided"
    if not same_life(now, expect):
        return f"started {when(now.started_at)}, had {when(expect.started_at)} when this was decided"
    return ""


def other_state(now: Found, expect: Expected) -> str:
    """Say in words how its state differs from those decided about."""
    return f"it is {now.state} now, was {' or '.join(sorted(expect.states))} when this was decided"


def same_life(now: Found, expect: Expected) -> bool:
    """Whether it has not been started anew since."""
    if now.started_at is None or expect.started_at is None:
        return now.started_at is expect.started_at
    return abs(now.started_at - expect.started_at) < _SAME_INSTANT


def when(instant: datetime | None) -> str:
    """Write an instant for a detail: `at 2026-03-02T03:31:00.123Z`, or `never`."""
    if instant is None:
        return "never"
    return f"at {instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
