"""Takes an installation off a host: the units, the link and the log rotation. Policy, state and program stay.

Owns the order: nothing is removed under a unit that runs. No unit is loaded anew: one that is stopped and whose file is
gone is forgotten by itself, or at the next boot.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ds01_policy.install.agree import Refused
from ds01_policy.install.differences import Do, removals
from ds01_policy.install.layout import DROP_IN, LOGROTATE, RESET_PATH, SERVICE, TIMER, UNITS, WATCH
from ds01_policy.install.systemd import SystemdError, names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import PurePath

    from ds01_policy.install.agree import Say
    from ds01_policy.install.hands import Hands
    from ds01_policy.install.program import Program
    from ds01_policy.install.systemd import Systemd

RESET = "ds01-policy-reset.service"
_AT_WORK = "activating"  # what a oneshot that runs is called
_PATIENCE_S, _BETWEEN_S = 120.0, 0.5


def take_away(
    program: Program, hands: Hands, systemd: Systemd | None, say: Say, wait: Callable[[float], None] = time.sleep
) -> None:
    """Stop, disable and remove.

    Raises:
        Refused: when a tick is still at work after two minutes; nothing was removed.
        SystemdError: when systemd fails or does not answer; nothing was removed.
        OSError: when a file cannot be removed.

    """
    paths = _paths(hands)
    units = [path.name for path in paths if path.parent == UNITS]
    todo = removals(paths, hands.look, program.script)
    ours = [name for name in units if any(step.do is Do.REMOVE and step.path == UNITS / name for step in todo)]
    if systemd is not None and ours:
        _stop(systemd, ours, say, wait)
    for step in todo:
        hands.do(step)
        say(step.do.value, f"{step.path}{f': {step.why}' if step.why else ''}")


def _paths(hands: Hands) -> list[PurePath]:
    """Find everything that any version may have written, drop-ins before the units they belong to."""
    folder = hands.path(UNITS)
    drop_ins = sorted(folder.glob(f"ds01-policy*.d/{DROP_IN}"))
    units = [path for path in sorted(folder.glob("ds01-policy*.*")) if path.suffix in (".service", ".timer", ".path")]
    found: list[PurePath] = [UNITS / PurePosixPath(path.relative_to(folder)) for path in (*drop_ins, *units)]
    return [*found, LOGROTATE]


def _stop(systemd: Systemd, units: list[str], say: Say, wait: Callable[[float], None]) -> None:
    """Stop what starts others first, let what they started end by itself, then stop the rest."""
    starters = [name for name in units if not name.endswith(".service")]
    if starters:
        systemd.stop(starters)
        say("stop", names(starters))
    left_s = _PATIENCE_S
    while at_work := [name for name in (SERVICE, RESET) if name in units and _is_at_work(systemd, name)]:
        if left_s <= 0:
            lines = [f"{names(at_work)} is still at work: wait until it has ended, then uninstall again"]
            raise Refused([*lines, f"`systemctl status {at_work[0]}` shows it; nothing was removed"])
        if left_s == _PATIENCE_S:
            say("note", f"{names(at_work)} is at work: waiting until it has ended")
        wait(_BETWEEN_S)
        left_s -= _BETWEEN_S
    services = [name for name in units if name.endswith(".service") and name not in (SERVICE, RESET)]
    if services:
        systemd.stop(services)
        say("stop", names(services))
    at_boot = [name for name in (TIMER, WATCH, RESET_PATH) if name in units]
    systemd.disable(at_boot)
    say("disable", names(at_boot))
    with suppress(SystemdError):  # of a unit that is not loaded there is nothing to forget
        systemd.forget_failures(units)


def _is_at_work(systemd: Systemd, name: str) -> bool:
    return systemd.show([name]).get(name, {}).get("ActiveState") == _AT_WORK
