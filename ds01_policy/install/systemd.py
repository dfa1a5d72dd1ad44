"""Everything that is asked of systemd, through `systemctl`: what it knows of units, and what it shall do with them.

Owns the calls, their timeouts, and what each failure is called. Decides nothing.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.observe.bounded import run
from ds01_policy.observe.ports import SourceError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

BOOTED = Path("/run/systemd/system")  # is there if systemd runs this host: sd_booted(3)
_ASK = timedelta(seconds=15)
# What systemd does itself may wait for what the units do: watch ends an epilog that is at work (75s, see its unit).
_ACT = timedelta(seconds=120)
_PROPERTIES = "Id,LoadState,ActiveState,NeedDaemonReload,DropInPaths,ExecMainStartTimestampMonotonic,TimersCalendar"

_ASKS = ("show", "is-enabled", "list-units")

Told = dict[str, str]


class SystemdError(SourceError):
    """systemctl failed. The text is for the admin."""


def booted() -> bool:
    """Whether systemd runs this host."""
    return BOOTED.is_dir()


class Systemd:
    """The host's systemd. Every call ends within its timeout, and raises SystemdError for whatever went wrong."""

    def loaded(self, pattern: str) -> frozenset[str]:
        """List the units in systemd's memory, without having it read any that is not there."""
        return self._listed("--all", pattern)

    def active(self, pattern: str) -> frozenset[str]:
        """List the units that run. One that failed stays in systemd's memory, and is none of them."""
        return self._listed("--state=active", pattern)

    def _listed(self, *which: str) -> frozenset[str]:
        told = self._run(_ASK, "list-units", "--full", "--plain", "--no-legend", *which)
        return frozenset(line.split()[0] for line in told.splitlines() if line.split())

    def show(self, units: Sequence[str]) -> dict[str, Told]:
        """Ask for the state of units; one that is not there has LoadState `not-found`."""
        if not units:
            return {}
        told = self._run(_ASK, "show", *units, f"--property={_PROPERTIES}")
        blocks = [dict(_pair(line) for line in block.splitlines()) for block in told.split("\n\n")]
        found = {block["Id"]: block for block in blocks if "Id" in block}
        for name, block in found.items():
            block["UnitFileState"] = self._enabled(name)
        return found

    def _enabled(self, unit: str) -> str:
        """Ask whether a unit is enabled. `show` would tell what was so when somebody asked first: `--no-reload`."""
        told = self._run(_ASK, "is-enabled", unit, codes=range(256))
        return told.split()[0] if told.split() else ""

    def devices(self, scope: str) -> tuple[str, tuple[str, ...]] | None:
        """Ask for DevicePolicy= and each DeviceAllow= of a unit; None: systemd knows no such unit."""
        told = self._run(_ASK, "show", scope, "--property=LoadState,DevicePolicy,DeviceAllow")
        pairs = [_pair(line) for line in told.splitlines()]
        if ("LoadState", "loaded") not in pairs:
            return None
        policy = next((value for key, value in pairs if key == "DevicePolicy"), "")
        return policy, tuple(value for key, value in pairs if key == "DeviceAllow" and value)

    def enable(self, units: Sequence[str]) -> None:
        """Have units started at boot. Only makes links: no unit is loaded anew for it."""
        self._run(_ASK, "--no-reload", "enable", *units)

    def disable(self, units: Sequence[str]) -> None:
        """Have units no longer started at boot; nothing is loaded anew either."""
        self._run(_ASK, "--no-reload", "disable", *units)

    def start(self, units: Sequence[str]) -> None:
        """Start units; systemd reads those that it has not loaded."""
        self._run(_ACT, "start", *units)

    def stop(self, units: Sequence[str]) -> None:
        """Stop units, and wait until they have ended."""
        self._run(_ACT, "stop", *units)

    def restart_if_running(self, unit: str) -> None:
        """Restart a unit that runs; leave it where it does not."""
        self._run(_ACT, "try-restart", unit)

    def forget_failures(self, units: Sequence[str]) -> None:
        """Let units that failed go from its list."""
        self._run(_ASK, "reset-failed", *units)

    def reload(self) -> None:
        """Load every unit of the host anew."""
        self._run(_ACT, "daemon-reload")

    def _run(self, timeout: timedelta, *words: str, codes: Container[int] = (0,)) -> str:
        argv = ("systemctl", "--no-pager", "--no-ask-password", *words)
        shown = " ".join(("systemctl", *(word for word in words if not word.startswith("--"))))
        try:
            finished = run(argv, timeout=timeout, env={**os.environ, "LC_ALL": "C.UTF-8"}, name=f"`{shown}`")
        except SourceError as error:
            raise SystemdError(str(error)) from error
        if finished.code not in codes:
            lines = (finished.err + finished.out).splitlines()
            said = next((line for line in lines if line.strip()), f"exit code {finished.code}")
            raise SystemdError(f"`{shown}` failed: {said}")
        return finished.out


class Watched(Systemd):
    """A systemd that is asked and never told: what a dry run has."""

    def _run(self, timeout: timedelta, *words: str, codes: Container[int] = (0,)) -> str:
        return super()._run(timeout, *words, codes=codes) if words[0] in _ASKS else ""


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key, value


def started_at(told: Told) -> float | None:
    """Tell when a unit's process began, in Unix seconds; None: none runs."""
    text = told.get("ExecMainStartTimestampMonotonic", "")
    if told.get("ActiveState") != "active" or not text.isdigit() or text == "0":
        return None
    return time.time() - (time.monotonic() - int(text) / 1e6)


def names(units: Iterable[str]) -> str:
    """Write several units for one line."""
    return ", ".join(units)
