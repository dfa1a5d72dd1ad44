"""All that one tick knows about one container, gathered for `explain`.

Owns the gathering: its verdicts, decisions, limits, warnings and the rules that are not about it. Decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.limits import limit_for
from ds01_policy.rules import by_id, selected

if TYPE_CHECKING:
    from ds01_policy.model import (
        Container,
        Decision,
        Evaluation,
        History,
        LimitValue,
        Mode,
        Plan,
        Snapshot,
        Spell,
        Verdict,
    )
    from ds01_policy.policy import Policy
    from ds01_policy.rules import Rule


@dataclass(frozen=True, slots=True)
class About:
    """One container in one tick."""

    policy: Policy
    mode: Mode
    snapshot: Snapshot
    evaluation: Evaluation
    plan: Plan
    history: History
    container: Container

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What each rule that is about it finds, in the order of the rules."""
        return tuple(each for each in self.evaluation.verdicts if each.container.id == self.container.id)

    def rule(self, verdict: Verdict) -> Rule:
        """Look up the rule behind a verdict."""
        return by_id(self.policy.rules)[verdict.rule]

    def decisions(self, rule: str) -> tuple[Decision, ...]:
        """List what is due by one rule."""
        return tuple(
            each for each in self.plan.decisions if each.container.id == self.container.id and each.verdict.rule == rule
        )

    def warned(self, rule: str) -> Spell | None:
        """Find the spell of this very life in which one rule warned."""
        spell = self.history.spells.get((self.container.id, rule))
        if spell is None or spell.warned_at is None or spell.started_at != self.container.started_at:
            return None
        return spell

    @property
    def limits(self) -> tuple[LimitValue, ...]:
        """Every limit that some layer sets for it, by key."""
        limits = self.policy.limits
        layers = (
            limits.defaults,
            limits.unknown_owner,
            *(group.limits for group in limits.groups.values()),
            *limits.container_types.values(),
            *limits.users.values(),
        )
        found = []
        for key in sorted({key for layer in layers for key in layer}):
            try:
                found.append(limit_for(limits, self.container, key))
            except KeyError:  # set in some layer, but in none of this container's
                continue
        return tuple(found)

    @property
    def unmatched(self) -> tuple[tuple[str, str], ...]:
        """The rules that are not about it, each with the first selector it fails."""
        about = {verdict.rule for verdict in self.verdicts}
        return tuple((rule.id, self._mismatch(rule)) for rule in self.policy.rules if rule.id not in about)

    def _mismatch(self, rule: Rule) -> str:
        for selector in rule.match.selectors:
            if not selected(selector, self.container, self.snapshot.host):
                return f"{selector.name} {'not ' if selector.negated else ''}{' or '.join(selector.values)}"
        return ""
