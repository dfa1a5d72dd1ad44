"""Asks systemd for our timer and logind for terminals, and looks which programs are there to tell people.

Owns these questions. Sends nothing, judges nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from importlib.util import find_spec

from ds01_policy.act.terminals import Terminals
from ds01_policy.doctor.judging.surroundings import SERVICE, TIMER, ChannelFacts, TimerFacts
from ds01_policy.observe.bounded import run
from ds01_policy.observe.ports import SourceError

TIMEOUT = timedelta(seconds=5)  # each
_PROPERTIES = "Id,LoadState,UnitFileState,ActiveState,LastTriggerUSec,Result,ExecMainStatus"


def timer() -> TimerFacts:
    """Ask systemd for our units; one that is not there is told as `not-found`."""
    try:
        told = _run("systemctl", "show", TIMER, SERVICE, f"--property={_PROPERTIES}", "--no-pager")
    except SourceError as error:
        return TimerFacts({}, str(error))
    units = {}
    for block in told.split("\n\n"):
        pairs = (line.partition("=") for line in block.splitlines())
        unit = {name: value for name, _, value in pairs}
        units[unit.get("Id", "")] = unit
    if (enabled := _enabled(TIMER)) and TIMER in units:
        units[TIMER]["UnitFileState"] = enabled
    return TimerFacts(units)


def _enabled(unit: str) -> str:
    """Ask whether a unit is enabled: `show` tells what was so when somebody asked first. Empty: no word of it."""
    try:
        finished = run(("systemctl", "is-enabled", unit), timeout=TIMEOUT, env=_environ(), name="systemctl")
    except SourceError:
        return ""
    word = finished.out.strip()
    return word if word.isalpha() else ""


def channels() -> ChannelFacts:
    """Look for logind, utmp, wall and apprise."""
    sessions, why = None, ""
    try:
        listed = json.loads(_run("loginctl", "list-sessions", "--no-pager", "-o", "json"))
        sessions = sum(bool(one.get("tty")) for one in listed if isinstance(one, dict))
    except SourceError as error:
        why = str(error)
    except (ValueError, TypeError):
        why = "loginctl answers no list"
    return ChannelFacts(
        sessions,
        why,
        utmp=os.access(Terminals().utmp, os.R_OK),
        wall=shutil.which("wall") is not None,
        apprise=find_spec("apprise") is not None,
    )


def _environ() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _run(*argv: str) -> str:
    finished = run(argv, timeout=TIMEOUT, env=_environ(), name=argv[0])
    if finished.code:
        said = next((line for line in (finished.err + finished.out).splitlines() if line.strip()), "no reason given")
        raise SourceError(f"{argv[0]} failed: {said}")
    return finished.out
