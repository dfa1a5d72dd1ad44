"""PURE: (Verdicts, History) → Plan: the ladder warn → notice → act, and the guards that hold things back.

Guards only weaken. Must not read a clock; decides nothing about idleness (evaluate.py did).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from ds01_policy.breaker import breaker_reason
from ds01_policy.model import (
    ALIVE,
    Action,
    Decision,
    Disposition,
    HeldBy,
    Kind,
    Mode,
    Plan,
    weakest,
)
from ds01_policy.rules import by_id
from ds01_policy.spells import continued
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Evaluation, History, Snapshot, Spell, Verdict
    from ds01_policy.policy import Policy
    from ds01_policy.rules import Rule


def make_plan(
    policy: Policy, snapshot: Snapshot, evaluation: Evaluation, history: History, mode: Mode | None = None
) -> Plan:
    """Turn verdicts into decisions, each enforced or held back by its first guard.

    `mode` may only weaken what the settings say.
    """
    rules = by_id(policy.rules)
    breaker = breaker_reason(policy, snapshot, evaluation, history)
    due = [
        _Due(
            policy,
            snapshot,
            history,
            breaker,
            rules[verdict.rule],
            verdict,
            weakest(policy.settings.mode, mode, rules[verdict.rule].mode),
        )
        for verdict in evaluation.verdicts
        if verdict.kind in (Kind.ACT, Kind.WARN)
    ]
    warnings = [warning for item in due if (warning := item.warning())]
    acts = _spend(policy, snapshot, history, _one_each([act for item in due if (act := item.act())]))
    ending = {act.container.id for act in acts if act.enforced and act.destructive}
    warnings = [warning for warning in warnings if warning.container.id not in ending]
    return Plan((*warnings, *acts), breaker)


@dataclass(frozen=True, slots=True)
class _Due:
    """One verdict that asks for something, with all that its guards look at."""

    policy: Policy
    snapshot: Snapshot
    history: History
    breaker: str
    rule: Rule
    verdict: Verdict
    mode: Mode

    def warning(self) -> Decision | None:
        """Build the warning that is due, if the spell had none yet."""
        if self.rule.warn is None or self._warned() is not None:
            return None
        act_at = max(self.verdict.due_at or self.snapshot.at, self.snapshot.at + self.rule.warn.notice)
        held = self._ledger() or self._breaker()
        if held is None and self.mode is Mode.OBSERVE:
            held = HeldBy.MODE, "mode observe sends nothing"
        return self._decision((Action.WARN,), held, act_at)

    def act(self) -> Decision | None:
        """Build the act that is due, with the first of the guards that come before the budget."""
        if self.verdict.kind is not Kind.ACT:
            return None
        return self._decision(self.rule.then, self._ledger() or self._notice() or self._breaker(), self._until())

    def _ledger(self) -> tuple[HeldBy, str] | None:
        if self.history.writable:
            return None
        return HeldBy.LEDGER, f"the ledger cannot be written: {self.history.unwritable_why}"

    def _breaker(self) -> tuple[HeldBy, str] | None:
        return (HeldBy.BREAKER, self.breaker) if self.breaker and self.rule.when is not None else None

    def _until(self) -> datetime | None:
        """Tell when the notice that was given is over; None: it is, or none was given.

        A limit that has become shorter since (a full host, a changed file) does not break what the warning said.
        """
        spell = self._warned()
        if spell is None or spell.warned_at is None:
            return None
        until = spell.warned_at + self._length_of_notice(spell)
        if spell.promised_at is not None:
            until = max(until, spell.promised_at)
        return until if until > self.snapshot.at else None

    def _notice(self) -> tuple[HeldBy, str] | None:
        if self.rule.warn is None:
            return None
        spell = self._warned()
        if spell is None or spell.warned_at is None:
            return HeldBy.NOTICE, "no warning has gone out yet"
        notice, until = self._length_of_notice(spell), self._until()
        if until is not None:
            left = format_duration(until - self.snapshot.at)
            if until == spell.promised_at and until > spell.warned_at + notice:
                return HeldBy.NOTICE, f"the warning said: not before {until:%Y-%m-%d %H:%M} UTC; {left} left"
            reached = "" if spell.delivered or self.mode is Mode.OBSERVE else ", longer as nobody was provably reached"
            return HeldBy.NOTICE, f"warned, {left} of {format_duration(notice)} notice left{reached}"
        return None

    def _length_of_notice(self, spell: Spell) -> timedelta:
        given = self.rule.warn.notice if self.rule.warn is not None else timedelta()
        unreached = not spell.delivered and self.mode is not Mode.OBSERVE
        return given * (self.policy.settings.notify.unreached_notice if unreached else 1.0)

    def _warned(self) -> Spell | None:
        """Find the spell whose warning counts: this life, this rule, this mode or a stronger one, never interrupted."""
        container, at = self.verdict.container, self.snapshot.at
        spell = self.history.spells.get((container.id, self.rule.id))
        if spell is None or spell.warned_at is None or spell.warned_mode is None:
            return None
        if spell.warned_at > at:
            return None
        if spell.warned_mode.strength < self.mode.strength:
            return None
        # If the last tick that saw it due lies further back than what is proven now, nobody knows what happened in
        # between, and the warning belonged to another spell.
        return continued(spell, self.verdict, at)

    def _decision(
        self, actions: tuple[Action, ...], held: tuple[HeldBy, str] | None, act_at: datetime | None
    ) -> Decision:
        decision = Decision(
            _identifier(self.snapshot.at, self.verdict, actions), self.verdict, actions, self.mode, Disposition.ENFORCE,
            act_at=act_at,
        )  # fmt: skip
        return _hold(decision, *held) if held else decision


def _identifier(at: datetime, verdict: Verdict, actions: tuple[Action, ...]) -> str:
    """Name a decision so that a replay of the same instant names it the same."""
    parts = (at.isoformat(), verdict.container.id, str(verdict.container.started_at), verdict.rule, *actions)
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _hold(decision: Decision, guard: HeldBy, detail: str) -> Decision:
    """Hold a decision back; one that is held already keeps its first guard."""
    if decision.held_by is not None:
        return decision
    return replace(decision, disposition=Disposition.SUPPRESS, held_by=guard, detail=detail)


def _one_each(acts: list[Decision]) -> list[Decision]:
    """Keep one act a container: the one that may go furthest, then in the order of the rules."""
    best: dict[str, Decision] = {}
    for act in acts:
        rival = best.get(act.container.id)
        if rival is None or _reach(act) > _reach(rival):
            best[act.container.id] = act
    return list(best.values())


def _reach(act: Decision) -> tuple[bool, int]:
    return act.held_by is None, act.mode.strength


def _spend(policy: Policy, snapshot: Snapshot, history: History, acts: list[Decision]) -> list[Decision]:
    """Let as many through as the budget has, the longest overdue first, then hold back what the mode forbids.

    What cannot be ended waits behind the others, the latest failure last: it must not use the budget up for ever.

    Acts that are only simulated spend a budget of their own: they must not use up what enforced ones have.
    """
    budget = policy.settings.budget
    running = sum(1 for container in snapshot.containers if container.gpus.wants and container.state in ALIVE)
    ending_limit = max(1, int(budget.share * running + 1e-9))
    spent: dict[bool, list[int]] = {True: [0, 0], False: [0, 0]}
    result = []

    def turn(act: Decision) -> tuple[bool, datetime, datetime, datetime, str]:
        container, due = act.container, act.verdict.due_at or snapshot.at
        spell = history.spells.get((container.id, act.verdict.rule))
        if spell is not None:  # a rule over signals is always due now: who has been for long does not wait for ever
            due = min(due, spell.since)
        failed = history.failed.get(container.id)
        return failed is not None, failed or due, due, container.created_at, container.id

    for act in sorted(acts, key=turn):
        held = act
        if act.held_by is None and act.destructive:
            counts = spent[act.mode is Mode.ENFORCE]
            ends_running = Action.STOP in act.actions and act.container.state in ALIVE
            if counts[0] >= budget.per_run:
                held = _hold(act, HeldBy.BUDGET, f"{budget.per_run} destructive decisions a run are enough")
            elif ends_running and counts[1] >= ending_limit:
                held = _hold(
                    act, HeldBy.BUDGET, f"at most {ending_limit} of {running} running GPU containers in one run"
                )
            else:
                counts[0] += 1
                counts[1] += ends_running
        if act.mode is not Mode.ENFORCE:
            held = _hold(held, HeldBy.MODE, f"mode {act.mode} does not act")
        result.append(held)
    return result
