"""Looks at what is installed on this host, and asks systemd what it makes of it.

Owns these questions. Changes nothing, judges nothing.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ds01_policy.doctor.judging.installation import InstallationFacts
from ds01_policy.install.agree import shipped_host
from ds01_policy.install.differences import Kind, steps
from ds01_policy.install.hands import Hands
from ds01_policy.install.layout import POLICY, SERVICE, UNITS, wanted
from ds01_policy.install.program import NoProgram, open_to_others, running
from ds01_policy.install.systemd import Systemd, SystemdError, booted
from ds01_policy.install.unit_text import Unwritable, values
from ds01_policy.observe.ports import SourceError

if TYPE_CHECKING:
    from ds01_policy.install.program import Program
    from ds01_policy.policy import Settings

_MOST = 2000  # files of a policy that are looked at


def installation(settings: Settings | None) -> InstallationFacts:
    """Look at files, rights and units. `settings` None: they are not those that the units run under."""
    try:
        return _installation(settings)
    except OSError as error:
        raise SourceError(f"{error.filename or 'a file'}: {error.strerror or error}") from error


def _installation(settings: Settings | None) -> InstallationFacts:
    hands = Hands()
    policy_open = tuple(_policy_open(hands.path(POLICY))) if settings is not None else ()
    if not booted():
        return InstallationFacts(systemd=False, policy_open=policy_open)
    shipped = shipped_host()
    stand = [name for name in shipped.units if hands.look(UNITS / name).kind is Kind.FILE]
    if not stand:
        return InstallationFacts(policy_open=policy_open)
    program = _program()
    runs = _runs(hands.look(UNITS / SERVICE).content.decode(errors="replace"))
    here = program is not None and str(program.script) == runs
    try:
        laid = wanted(shipped, PurePosixPath(runs), program.code if here and program else (), settings)
    except Unwritable as error:
        raise SourceError(str(error)) from error
    told, why = None, ""
    try:
        told = Systemd().show(tuple(shipped.units))
    except SystemdError as error:
        why = str(error)
    return InstallationFacts(
        units=len(stand),
        runs=runs,
        program="" if program is None else str(program.script),
        open=tuple(open_to_others((program.script, *program.code) if here and program else (Path(runs),))),
        steps=tuple(steps(laid, hands.look)),
        policy_open=policy_open,
        told=told,
        drop_ins=hands.drop_ins(shipped.units),
        error=why,
    )


def _program() -> Program | None:
    try:
        return running()
    except NoProgram:
        return None


def _runs(unit: str) -> str:
    """Read which program a unit of ours runs."""
    try:
        return shlex.split(values(unit, "ExecStart")[-1])[0].replace("%%", "%")
    except (IndexError, ValueError):
        return "nothing that can be read"


def _policy_open(folder: Path) -> list[str]:
    """List policy files and folders that others than root may change."""
    if not folder.is_dir():
        return []
    paths = [folder]
    for where, folders, files in os.walk(folder):
        paths += [Path(where) / name for name in (*folders, *files)]
        if len(paths) > _MOST:
            break
    return open_to_others(paths)
