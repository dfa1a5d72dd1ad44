"""An epilog that happens once for each life of a container, whoever asks for it and however often.

Owns the order: turn, claim, written down before, done, written down after. Looks at no GPU itself.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ds01_policy.act.epilog.held import Health, Held, Result
from ds01_policy.audit import Audit, AuditError
from ds01_policy.ledger import Claimant, Ledger, LedgerError
from ds01_policy.lock import Held as LockHeld
from ds01_policy.lock import LockError, RunLock
from ds01_policy.model import Action, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

LOCK = "epilog.lock"
_POLL_S = 0.05
_PROC = Path("/proc")


class Epilog(Protocol):
    """What looks at GPUs after a container, and ends what it left there."""

    def run(self, held: Held) -> Result:
        """Look at what one life held. Bounded in time."""


@dataclass(frozen=True, slots=True)
class Once:
    """An epilog of the same shape, safe to be asked for by any number of processes.

    One epilog runs at a time on this host: two resets, or a look while another one ends processes, would mislead each
    other. Whoever comes second waits for the first, at most `patience`.
    """

    epilog: Epilog
    files: Callable[[], tuple[Ledger, Audit]]  # raises LedgerError or AuditError where they cannot be written
    clock: Callable[[], datetime]
    lock: Path  # a file in the state directory
    patience: timedelta  # longer than an epilog takes
    by: str  # which command asks, for the audit log
    hands: bool = True  # False: the epilog given only looks
    decided: bool = False  # a decision of the plan is written down by whoever carries it out

    def run(self, held: Held, owner: str = "", *, anew: bool = False) -> Result:
        """Run it if this life has had none; NOOP: it has, and what is known of that.

        `anew`: an admin asks for it by hand, whatever has been before. A GPU looked at for its own sake (no container)
        is looked at each time. What cannot be written down is not done: FAILED.
        """
        result = self.attempt(held, owner, anew=anew)
        return Result(Status.NOOP, self._known(held)) if result is None else result

    def attempt(self, held: Held, owner: str = "", *, anew: bool = False) -> Result | None:
        """Run it as `run` does; None: this life has had one, or somebody else is at it."""
        try:
            with ExitStack() as turn:
                self._take_turn(turn)
                return self._alone(held, owner, anew=anew)
        except (LedgerError, AuditError, LockError) as error:
            return Result(Status.FAILED, f"not done, as it could not be written down: {error}")

    def _take_turn(self, turn: ExitStack) -> None:
        """Wait until nobody else on this host runs an epilog. Raises LockError."""
        deadline = time.monotonic() + self.patience.total_seconds()
        while True:
            try:
                turn.enter_context(RunLock(self.lock))
            except LockHeld:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def _alone(self, held: Held, owner: str, *, anew: bool) -> Result | None:
        ledger, audit = self.files()
        life = _life(held)
        if life is not None:
            who = Claimant(holder(), is_gone, self.patience, self.hands)
            if not ledger.claim(*life, who, self.clock()) and not anew:
                return None
        if not self.decided:
            try:
                audit.note("intent", self.clock(), self._about(held, owner))
            except AuditError:
                if life is not None:
                    ledger.release(*life)
                raise
        result = self.epilog.run(held)
        at = self.clock()
        try:
            if not self.decided:
                audit.note("outcome", at, {**self._about(held, owner), **_told(result)})
        finally:  # that one cannot be written is no reason for the other not to know
            if life is not None:
                ledger.finished(*life, result.status, result.detail, at)
            _judge(ledger, held, result, at)
        return result

    def _known(self, held: Held) -> str:
        """Say what is known of an epilog that is not ours to run."""
        life = _life(held)
        try:
            told = None if life is None else self.files()[0].told(*life)
        except (LedgerError, AuditError) as error:
            return f"somebody else has done it, or is at it: {error}"
        if told is None or told.finished_at is None:
            return "somebody else is at it, or it failed a moment ago"
        when = told.finished_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"already done at {when}{'' if told.hands else ' (looked only)'}: {told.detail}"

    def _about(self, held: Held, owner: str) -> dict[str, Any]:
        return {
            "action": Action.EPILOG,
            "by": self.by,
            "hands": self.hands,
            "container": held.container,
            "name": held.name,
            "owner": owner,
            "started_at": held.started_at,
            "ended_at": held.ended_at,
            "gpus": [str(ref) for ref in held.gpus],
        }


def _told(result: Result) -> dict[str, Any]:
    return {
        "status": result.status,
        "detail": result.detail,
        "findings": [{"gpu": one.uuid, "health": one.health, "words": one.words} for one in result.findings],
        "ended": result.ended,
        "left": result.left,
    }


def _judge(ledger: Ledger, held: Held, result: Result, at: datetime) -> None:
    """Keep the register of unfit GPUs by what was found; what nobody could tell, or only a warning, changes nothing.

    Unless a finding says so itself: a GPU that was handed over for its reset is unfit until it is found well.
    """
    for finding in result.findings:
        if finding.unfit or finding.health is Health.CRITICAL:
            ledger.mark_unfit(finding.uuid, finding.words, at)
        elif finding.health is Health.OK:
            after = f"after container {held.container[:12]}" if held.container else "by hand"
            ledger.mark_fit(finding.uuid, f"found well {after}", at)


def _life(held: Held) -> tuple[str, datetime] | None:
    """Name the life that is owed one epilog; None: what is looked at is owed none."""
    return (held.container, held.started_at) if held.container and held.started_at is not None else None


# ── who is at it ─────────────────────────────────────────────────────────────────────────────────────────────────────


def holder(proc: Path = _PROC) -> str:
    """Name this process for good: boot, PID namespace, PID, and when it started (a PID alone is given out again)."""
    return " ".join((*_here(proc), str(os.getpid()), _started(proc, str(os.getpid())) or "?"))


def is_gone(text: str, proc: Path = _PROC) -> bool:
    """Whether the process that a `holder` names has provably ended. What cannot be known is no."""
    try:
        boot, namespace, pid, started = text.split(" ")
    except ValueError:
        return False
    boot_here, namespace_here = _here(proc)
    if "?" in (boot, boot_here, namespace, namespace_here, started):
        return False
    if boot != boot_here:
        return True
    return namespace == namespace_here and _started(proc, pid) != started


def _here(proc: Path) -> tuple[str, str]:
    """Name this boot and this PID namespace; `?` where that cannot be read."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        return boot, str((proc / "self/ns/pid").readlink())
    except OSError:
        return "?", "?"


def _started(proc: Path, pid: str) -> str | None:
    """Read when a process started, in clock ticks since boot; None: there is none, or only what is left of one."""
    try:
        # The command's name stands in brackets and may hold anything, brackets too.
        fields = (proc / pid / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None
