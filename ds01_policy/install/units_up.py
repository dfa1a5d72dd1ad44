"""Brings the units up: enables and starts what should run, and loads units anew only where that harms nobody.

Owns what is enabled, started and restarted. Never touches a tick that is at work, nor any unit of somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.install.layout import RESET_PATH, TIMER, WATCH
from ds01_policy.install.reload import Danger, named, stale
from ds01_policy.install.systemd import names, started_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ds01_policy.install.agree import Say
    from ds01_policy.install.reload import Judgement
    from ds01_policy.install.systemd import Systemd, Told

_RUNS = ("active", "activating", "reloading")


@dataclass(frozen=True, slots=True)
class Wish:
    """What systemd shall do."""

    units: Sequence[str]  # every unit of ours
    drop_ins: Mapping[str, frozenset[str]]  # that stand now
    changing: frozenset[str]  # of a dry run: loaded units of which a file would be written or removed
    resets: bool  # GPUs that other units hand over are reset
    program_at: float  # when the program was put there, in Unix seconds
    reload: bool = False  # whatever it does to containers


def bring_up(systemd: Systemd, wished: Wish, judge: Callable[[], Judgement], say: Say) -> list[str]:
    """Make systemd agree; give what could not be done, in lines for the admin. `judge` is asked before a reload.

    Raises:
        SystemdError: when systemd fails or does not answer.

    """
    told = systemd.show(wished.units)
    changed = [name for name in wished.units if name in stale(told, wished.drop_ins) or name in wished.changing]
    reloaded, trouble = False, []
    if changed:
        judgement = judge()
        if judgement.danger is Danger.NONE or wished.reload:
            systemd.reload()
            reloaded = True
            say("reload", f"systemd's units, as {names(changed)} changed: {judgement.why}")
            if judgement.containers:
                say("note", f"these may have lost their GPUs, and must then be restarted: {named(judgement)}")
        else:
            trouble = refusal(changed, judgement)
    on = [name for name in (TIMER, WATCH, RESET_PATH) if name in wished.units and (name != RESET_PATH or wished.resets)]
    off = [name for name in (RESET_PATH,) if name in wished.units and name not in on]
    _switch(systemd, on, off, told, say)
    _renew(systemd, wished, told.get(WATCH, {}), say, redefined=reloaded and WATCH in changed)
    return trouble


def refusal(changed: Sequence[str], judgement: Judgement) -> list[str]:
    """Say why systemd was not told of changed units, and the two ways on."""
    would = "takes" if judgement.danger is Danger.WOULD else "might take"
    lines = [f"{names(changed)} changed, and systemd does not know it yet: a `systemctl daemon-reload` is needed,"]
    if judgement.containers:
        lines.append(f"but that {would} GPUs away from containers that run: {named(judgement)}")
    else:
        lines.append(f"but that {would} GPUs away from containers that run.")
    lines.append(f"({judgement.why})")
    lines.append(
        "The new files are in place; until then the old units go on. Either, when those containers have ended or"
    )
    lines.append("anyway: `sudo ds01-policy install --reload`; or wait for the next boot, which loads them by itself.")
    return lines


def _switch(systemd: Systemd, on: list[str], off: list[str], told: Mapping[str, Told], say: Say) -> None:
    if enable := [name for name in on if not told.get(name, {}).get("UnitFileState", "").startswith("enabled")]:
        systemd.enable(enable)
        say("enable", names(enable))
    if start := [name for name in on if told.get(name, {}).get("ActiveState") not in _RUNS]:
        systemd.start(start)
        say("start", names(start))
    for name in off:
        if told.get(name, {}).get("UnitFileState", "").startswith("enabled"):
            systemd.disable([name])
            say("disable", f"{name}: epilog.reset is never")
        if told.get(name, {}).get("ActiveState") in _RUNS:
            systemd.stop([name])
            say("stop", name)
    if kept := [name for name in on if name not in enable and name not in start]:
        say("keep", f"{names(kept)}: enabled and running")


def _renew(systemd: Systemd, wished: Wish, watch: Told, say: Say, *, redefined: bool) -> None:
    """Restart a watch that runs an older program, or under an older unit. It ends an epilog that is at work first."""
    began = started_at(watch)
    if began is not None and (redefined or began < wished.program_at):
        systemd.restart_if_running(WATCH)
        say("restart", f"{WATCH}: {'its unit' if redefined else 'the program'} is newer than it")
