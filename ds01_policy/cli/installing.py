"""install, uninstall: put this program on a host as a service, and take it off again.

Owns who may, what is printed, and exit codes.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ds01_policy.cli.exits import Exit, fail
from ds01_policy.install.agree import Agreed, Refused, put_files, shipped_host
from ds01_policy.install.asking import reload_facts
from ds01_policy.install.hands import Hands, Idle
from ds01_policy.install.layout import POLICY, STATE
from ds01_policy.install.leave import take_away
from ds01_policy.install.program import NoProgram, open_to_others, running, written_at
from ds01_policy.install.reload import judge
from ds01_policy.install.systemd import Systemd, SystemdError, Watched, booted
from ds01_policy.install.units_up import Wish, bring_up
from ds01_policy.lock import Held, LockError, RunLock
from ds01_policy.policy import PrometheusSettings
from ds01_policy.text import plain

if TYPE_CHECKING:
    from typing import NoReturn

    from ds01_policy.cli.options import Options
    from ds01_policy.install.program import Program
    from ds01_policy.policy import Settings

_DONE = {
    "write": "wrote", "make": "made", "close": "closed", "link": "linked", "remove": "removed", "keep": "kept",
    "copy": "copied", "enable": "enabled", "disable": "disabled", "start": "started", "stop": "stopped",
    "restart": "restarted", "reload": "reloaded", "note": "note",
}  # fmt: skip
_STAYS = ("keep", "note")
_LINE = 1000
_LOCK = Path("/run/ds01-policy-install.lock")


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of both commands."""

    root: Path | None = None
    dry_run: bool = False
    start: bool = True
    reload: bool = False

    def hands(self) -> Hands:
        """Make hands for where it is written."""
        return (Idle if self.dry_run else Hands)(Path("/") if self.root is None else self.root.absolute())

    def systemd(self) -> Systemd | None:
        """Reach systemd; None: there is none, or it is not to be told."""
        if self.root is not None or not self.start or not booted():
            return None
        return Watched() if self.dry_run else Systemd()


def install(options: Options, asked: Asked) -> None:
    """Make this host agree with this version."""
    program = _may(options, asked, "install")
    os.umask(0o022)
    with _alone(asked):
        systemd = asked.systemd()
        say = _Says(dry=asked.dry_run)
        try:
            _refuse_if_open(program, asked, say)
            agreed = put_files(program, asked.hands(), say)
            trouble = list(agreed.errors)
            if agreed.settings is None:
                trouble.append(
                    f"{len(agreed.errors)} errors in {POLICY}: nothing was started, what runs goes on as it was"
                )
            elif systemd is not None:
                trouble += _bring_up(systemd, agreed, agreed.settings, asked, say)
        except Refused as refused:
            fail(Exit.FAILED, [*refused.lines, "nothing was done"])
        except SystemdError as error:
            fail(
                Exit.FAILED,
                [str(error), "the files are in place; when systemd answers, run `ds01-policy install` again"],
            )
        except OSError as error:
            _failed(error)
    if trouble:
        fail(Exit.FAILED, trouble)
    for line in _next(agreed, asked, systemd):
        sys.stdout.write(f"{line}\n")


def uninstall(options: Options, asked: Asked) -> None:
    """Take the installation off; policy, state and program stay."""
    program = _may(options, asked, "uninstall")
    with _alone(asked):
        try:
            take_away(program, asked.hands(), asked.systemd(), _Says(dry=asked.dry_run))
        except Refused as refused:
            fail(Exit.FAILED, refused.lines)
        except SystemdError as error:
            fail(Exit.FAILED, [str(error), "nothing was removed; run it again when systemd answers"])
        except OSError as error:
            _failed(error)
    sys.stdout.write(f"{POLICY} (the policy) and {STATE} (ledger and audit log) stay, and so does the program in\n")
    sys.stdout.write(
        f"{plain(str(program.script.parent.parent))}: remove it as it came (`sudo make uninstall`, `pipx uninstall`)\n"
    )
    if asked.systemd() is not None:
        sys.stdout.write("systemd may list stopped units as `not-found` until the next boot: nothing starts them\n")


def _may(options: Options, asked: Asked, command: str) -> Program:
    """See that this can be done at all, or end."""
    if options.replay is not None or options.config is not None:
        fail(Exit.USAGE, [f"{command} is about this host and its {POLICY}: it takes neither --config nor --replay"])
    if asked.root is None and os.geteuid() != 0:
        fail(Exit.FAILED, [f"{command} must run as root: `sudo {plain(sys.argv[0])} {command}`", "nothing was done"])
    try:
        return running()
    except NoProgram as error:
        fail(Exit.FAILED, [str(error), "nothing was done"])


def _alone(asked: Asked) -> RunLock | nullcontext[None]:
    return nullcontext() if asked.root is not None or asked.dry_run else _Alone(_LOCK)


class _Alone(RunLock):
    """One installation at a time."""

    def __enter__(self) -> Self:
        """Take the lock, or end."""
        try:
            return super().__enter__()
        except Held as held:
            fail(Exit.LOCKED, [str(held)])
        except LockError as error:
            fail(Exit.FAILED, [str(error)])


def _refuse_if_open(program: Program, asked: Asked, say: _Says) -> None:
    """Refuse a program that somebody else could change: root would run it every five minutes."""
    found = open_to_others((program.script, *program.code))
    if not found:
        return
    if asked.root is not None:
        say("note", f"on this host it would be refused, as others may change the program: {found[0]}")
        return
    raise Refused(
        [
            f"root would run {plain(str(program.script))}, and others may change it:",
            *(f"  {line}" for line in found[:10]),
            "install it where only root may write: `sudo make install` (into /opt/ds01-policy), or by `sudo pipx`",
        ]
    )


def _bring_up(systemd: Systemd, agreed: Agreed, settings: Settings, asked: Asked, say: _Says) -> list[str]:
    units = tuple(shipped_host().units)
    resets = settings.epilog.reset == "when_safe"
    changing = agreed.touched & systemd.loaded("ds01-policy*") if asked.dry_run else frozenset()
    drop_ins = asked.hands().drop_ins(units)
    wished = Wish(units, drop_ins, changing, resets, written_at(), reload=asked.reload)
    return bring_up(systemd, wished, lambda: judge(reload_facts(settings.docker, systemd)), say)


def _next(agreed: Agreed, asked: Asked, systemd: Systemd | None) -> list[str]:
    """Say what to do now."""
    if asked.dry_run:
        return ["", "Nothing was done."]
    if asked.root is not None:
        return ["", f"Staged below {plain(str(asked.root))}: nothing was enabled or started."]
    lines = [""]
    if systemd is None:
        why = "as --no-start says" if not asked.start else "as systemd does not run this host"
        lines.append(f"Nothing was enabled or started, {why}. Then have `ds01-policy evaluate` run every five minutes.")
    lines.append("Now:")
    prometheus = agreed.settings.prometheus if agreed.settings else None
    if prometheus is not None and prometheus.url == PrometheusSettings().url:
        lines.append(f"  sudoedit {POLICY}/settings.yaml   # prometheus.url, if it is not {prometheus.url}")
    lines.append("  sudo ds01-policy doctor      # is all there that it needs")
    lines.append("  sudo ds01-policy selftest    # a container of its own, from warning to epilog")
    lines.append("  sudo ds01-policy preview     # whom it would stop, and why")
    return lines


class _Says:
    """Prints one line for each thing that was done or kept."""

    def __init__(self, *, dry: bool) -> None:
        self._dry = dry

    def __call__(self, verb: str, what: str) -> None:
        shown = f"would {verb}" if self._dry and verb not in _STAYS else _DONE[verb]
        sys.stdout.write(f"{shown:<{14 if self._dry else 10}}{plain(what, _LINE)}\n")
        sys.stdout.flush()


def _failed(error: OSError) -> NoReturn:
    where = f"{error.filename}: " if error.filename else ""
    fail(Exit.FAILED, [f"{where}{error.strerror or error}", "what came before it is in place; run it again"])
