"""The actuator that does nothing: says for each action that would be done that it was not.

Owns nothing else. Touches neither Docker nor people nor records, and asks nobody again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.model import Outcome, Status

if TYPE_CHECKING:
    from ds01_policy.act.carry_out import Recheck
    from ds01_policy.model import Decision


@dataclass(frozen=True, slots=True)
class DryRun:
    """Withholds every action of every enforced decision."""

    def carry_out(self, decisions: Sequence[Decision], recheck: Recheck) -> list[Outcome]:  # noqa: ARG002  the seam's shape
        """Return an outcome for each action, in the order given."""
        return [
            Outcome(decision.id, action, Status.WITHHELD, "dry run")
            for decision in decisions
            if decision.enforced
            for action in decision.actions
        ]
