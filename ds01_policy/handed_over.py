"""GPUs that an epilog handed over for their reset: each looked at anew, and its request taken away whatever becomes.

Owns when a request counts for nothing, and that none is answered twice. What cures a GPU, and what speaks against a
reset, is the epilog's to find: a request is a reason to look, never one to reset.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy import reset_requests
from ds01_policy.act.epilog.held import GpuFinding, Health, Held, Result
from ds01_policy.audit import AuditError
from ds01_policy.ledger import LedgerError
from ds01_policy.model import GpuRef, Status
from ds01_policy.once import LOCK, Once
from ds01_policy.reset_requests import FOLDER, Refused, Request
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from ds01_policy.audit import Audit
    from ds01_policy.ledger import Ledger
    from ds01_policy.once import Epilog

BY = "reset-gpus"
# An older request tells nothing of now: the next container that leaves the GPU has it looked at anew.
OLDEST = timedelta(hours=1)
AHEAD = timedelta(minutes=5)  # clocks are set


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one request."""

    name: str  # of its file: the GPU's UUID
    words: str
    failed: bool


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Sees to requests, one at a time. `epilog` has hands, resets GPUs itself, and hands none over."""

    state_dir: Path
    files: Callable[[], tuple[Ledger, Audit]]  # raises LedgerError or AuditError where they cannot be written
    clock: Callable[[], datetime]
    patience: timedelta  # for the turn of other epilogs
    epilog: Epilog | None  # None: nothing may be reset, for the reason in `unwanted`
    unwanted: str = ""

    @property
    def folder(self) -> Path:
        """Where requests lie."""
        return self.state_dir / FOLDER

    def see_to(self, name: str) -> Seen | None:
        """Answer the request of this name; None: somebody else has. Raises nothing that a file or a GPU can cause."""
        if not reset_requests.is_gpu(name):
            return self._dropped(name, "is no GPU's UUID: no request is called so")
        try:
            request, against = reset_requests.read(self.folder, name), ""
        except Refused as error:
            request, against = Request(name, "", self.clock(), "", ""), f"its request counts for nothing: {error}"
        if request is None:
            return None
        against = against or self.unwanted or self._untimely(request)
        answer = _Answer(self, request, against)
        once = Once(
            answer, self.files, self.clock, self.state_dir / LOCK, self.patience, BY, hands=answer.epilog is not None
        )
        result = once.run(*self._about(request))
        if not answer.taken:
            return self._dropped(name, result.detail)
        return None if answer.too_late else _seen(name, result, refused=bool(against) and not self.unwanted)

    def _untimely(self, request: Request) -> str:
        age = self.clock() - request.asked_at
        if age > OLDEST:
            return f"asked for at {request.asked_at:%Y-%m-%d %H:%M} UTC, too long ago"
        return f"asked for at {request.asked_at:%Y-%m-%d %H:%M} UTC, which is still to come" if age < -AHEAD else ""

    def _about(self, request: Request) -> tuple[Held, str]:
        """Say for the audit log after whom it is asked, as far as is remembered. No life: none is owed anything."""
        name = owner = ""
        with suppress(LedgerError, AuditError):
            lives = self.files()[0].named(request.container) if request.container else []
            name, owner = next(((life.name, life.owner) for life in lives), ("", ""))
        return Held(request.container, name, None, None, (GpuRef(request.gpu),)), owner

    def _dropped(self, name: str, why: str) -> Seen:
        """Take away what nobody could answer: left there, it would be asked about for ever."""
        with suppress(LedgerError, AuditError):
            ledger, _ = self.files()
            if was := ledger.unfit().get(name):
                ledger.mark_unfit(name, f"{was.why}; not reset: {why}", self.clock())
        try:
            reset_requests.take_away(self.folder, name)
        except OSError as error:
            why = f"{why}; it cannot be removed ({error.strerror}): remove {self.folder / name}"
        return Seen(name, why, failed=True)


@dataclass(slots=True)
class _Answer:
    """The epilog of one handed GPU, run while it is nobody else's turn."""

    about: HandedOver
    request: Request
    against: str
    taken: bool = field(default=False, init=False)
    too_late: bool = field(default=False, init=False)

    @property
    def epilog(self) -> Epilog | None:
        return None if self.against else self.about.epilog

    def run(self, held: Held) -> Result:
        """Take the request away, then look, and reset what is still to be cured. Raises LedgerError."""
        del held  # its container's processes were seen to by the epilog that asked
        gpu = self.request.gpu
        ledger, _ = self.about.files()
        try:
            # Before anything is done: whatever happens from here on, it is not done twice.
            self.too_late = not reset_requests.take_away(self.about.folder, gpu)
        except OSError as error:
            return Result(Status.FAILED, f"its request cannot be taken away ({error.strerror})")
        self.taken = True
        was = ledger.unfit().get(gpu)
        if self.too_late or was is None:
            return Result(Status.NOOP, f"not reset: {self.against or 'it is no longer unfit'}")
        if self.epilog is None:
            return Result(Status.NOOP, f"not reset: {self.against}", (self._still(was.why, self.against),))
        at = self.about.clock()
        ledger.mark_unfit(gpu, f"{was.why}; its reset was begun at {at:%Y-%m-%d %H:%M} UTC", at)
        done = self.epilog.run(Held("", "", None, None, (GpuRef(gpu),)))
        findings = [
            one if one.health in (Health.OK, Health.CRITICAL) else self._still(was.why, one.words, one.health)
            for one in done.findings
        ]
        return replace(done, findings=tuple(findings))

    def _still(self, was: str, words: str, health: Health = Health.UNKNOWN) -> GpuFinding:
        """Say that it stays unfit, for what it was, and why that did not change."""
        told = words if self.epilog is not None else f"not reset: {words}"
        return GpuFinding(self.request.gpu, health, f"{was}; {told}", unfit=True)


def _seen(name: str, result: Result, *, refused: bool) -> Seen:
    found = [] if result.status is Status.NOOP else [f"{one.health}: {one.words}" for one in result.findings]
    words = "; ".join(found) or result.detail
    bad = result.status is Status.FAILED or any(one.health is Health.CRITICAL for one in result.findings)
    return Seen(name, plain(words, 1000), failed=bad or refused)
