"""The ledger and the audit log together, as one tick uses them.

Owns what a tick does when either cannot be written, and how a killed tick is finished. Decides nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ds01_policy.audit import Audit, AuditError
from ds01_policy.ledger import Ledger, LedgerError
from ds01_policy.model import Action, HeldBy, History, Status
from ds01_policy.policy import LocalSamples
from ds01_policy.reset_requests import FOLDER, waiting
from ds01_policy.tick import MemoryLost

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta
    from pathlib import Path

    from ds01_policy.model import Decision, Evaluation, Mode, Outcome, Plan, Totals
    from ds01_policy.observe.snapshot import Observed

LEDGER = "ledger.db"
AUDIT = "audit.jsonl"
RETAIN = LocalSamples().retain


class Memory:
    """What earlier ticks left behind, and where this one is written down."""

    def __init__(
        self,
        state_dir: Path,
        host: str,
        is_up: Callable[[str], bool | None],
        *,
        reach: timedelta | None = None,
        retain: timedelta = RETAIN,
    ) -> None:
        """Take the state directory; `is_up` tells whether a container is up (None: it is gone).

        Local samples are kept for `retain`, and told as far back as `reach` (None: not at all).
        """
        self._state_dir = state_dir
        self._reach, self._retain = reach, retain
        self._host = host
        self._is_up = is_up
        self._ledger: Ledger | None = None
        self._audit: Audit | None = None
        self.lost = ""  # why something could not be written down while acting

    def recall(self, at: datetime, mode: Mode, digest: str) -> History:
        """Prove that both can be written, finish what a killed tick left open, and tell what is known.

        A memory that cannot be written still tells what it remembers, where it can be read.
        """
        try:
            self._audit = Audit.open(self._state_dir / AUDIT, host=self._host, digest=digest)
            self._ledger = Ledger.open(self._state_dir / LEDGER)
            self._ledger.begin(at, mode, digest)
            self._finish(at)
            return replace(self._ledger.history(self._reach), resets=waiting(self._state_dir / FOLDER))
        except (LedgerError, AuditError) as error:
            return replace(remembered(self._state_dir, self._reach), writable=False, unwritable_why=str(error))

    def _finish(self, at: datetime) -> None:
        """Close the actions that a killed tick left open, by what can be seen now."""
        ledger, audit = self._opened()
        for intent in ledger.unfinished():
            if intent.action is Action.WARN:
                # Nobody knows whether it went out; what is not known to have gone out does not count as notice.
                status, detail = Status.FAILED, "the run was killed while warning; it is warned again"
            else:
                up = self._is_up(intent.container)
                # Of a check of the GPU nobody saw the end; the container tells nothing about it.
                done = not up if intent.action is Action.STOP else up is None and intent.action is Action.REMOVE
                status = Status.DONE if done else Status.FAILED
                seen = {None: "gone", True: "up", False: "stopped"}[up]
                detail = f"the run was killed meanwhile; the container is {seen} now"
            fields = {"decision": intent.decision, "container": intent.container, "name": intent.name}
            audit.note("recovery", at, {**fields, "rule": intent.rule, "action": intent.action, "detail": detail})
            ledger.resolve(intent, status, detail, at)

    def settle(self, observed: Observed, evaluation: Evaluation, plan: Plan) -> None:
        """Write the tick down before anything is done.

        Raises:
            MemoryLost: when it cannot be written.

        """
        at = observed.snapshot.at
        ledger, audit = self._opened()
        try:
            ledger.record(observed.snapshot, evaluation, plan, suspicious=observed.lost_everything)
            simulated = [
                decision
                for decision in plan.decisions
                if decision.actions == (Action.WARN,) and decision.held_by is HeldBy.MODE
            ]
            ledger.simulate_warnings(simulated, at)
            for decision in plan.decisions:
                # Once for each guard, not at every tick: a host in mode observe would fill its disk with it.
                if not decision.enforced and ledger.withhold(decision, at):
                    audit.withheld(decision, at)
            if observed.sampled is not None:
                ledger.keep_samples(observed.sampled.at, observed.sampled.rows, self._retain)
        except (LedgerError, AuditError) as error:
            raise MemoryLost(str(error)) from error

    def intend(self, decision: Decision, action: Action, at: datetime) -> None:
        """Write down that an action is about to be done. If this raises, it must not be done.

        Raises:
            MemoryLost: when it cannot be written.

        """
        ledger, audit = self._opened()
        try:
            ledger.intend(decision, action, at)
            audit.intent(decision, action, at)
        except (LedgerError, AuditError) as error:
            raise self._lost(error) from error

    def conclude(self, decision: Decision, outcome: Outcome, at: datetime) -> None:
        """Write down what became of an action.

        Raises:
            MemoryLost: when it cannot be written; what was done stays done.

        """
        ledger, audit = self._opened()
        try:
            try:
                audit.outcome(decision, outcome, at)
            finally:  # that one fails is no reason for the other not to know
                ledger.conclude(decision, outcome, at)
        except (LedgerError, AuditError) as error:
            raise self._lost(error) from error

    def totals(self) -> Totals | None:
        """Tell what has been counted over all runs; None: it cannot be read."""
        try:
            return None if self._ledger is None else self._ledger.totals()
        except LedgerError:
            return None

    def files(self) -> tuple[Ledger, Audit]:
        """Give both, open, to who writes other things into them than decisions.

        Raises:
            LedgerError: when they were not opened.

        """
        try:
            return self._opened()
        except MemoryLost as lost:
            raise LedgerError("ledger_io", str(lost)) from lost

    def close(self) -> None:
        """Let go of both files."""
        if self._ledger is not None:
            self._ledger.close()
        if self._audit is not None:
            self._audit.close()

    def _lost(self, error: Exception) -> MemoryLost:
        self.lost = self.lost or str(error)
        return MemoryLost(str(error))

    def _opened(self) -> tuple[Ledger, Audit]:
        if self._ledger is None or self._audit is None:
            raise MemoryLost("neither ledger nor audit log is open")
        return self._ledger, self._audit


def remembered(state_dir: Path, reach: timedelta | None = None) -> History:
    """Tell what the ledger remembers, changing nothing; a ledger that cannot be read remembers nothing.

    Local samples are told as far back as `reach` (None: not at all).
    """
    try:
        ledger = Ledger.open_readonly(state_dir / LEDGER)
        if ledger is None:
            return History()
        with ledger:
            return replace(ledger.history(reach), resets=waiting(state_dir / FOLDER))
    except LedgerError as error:
        return History(unwritable_why=str(error), resets=waiting(state_dir / FOLDER))
