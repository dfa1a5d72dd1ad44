"""Who or what is exempt from which rules, until when, and who said so.

Owns whether an exemption holds at an instant. Knows no file format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.rules import Selector, selected

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Container


@dataclass(frozen=True, slots=True)
class Exemption:
    """One entry of exemptions.yaml."""

    selectors: tuple[Selector, ...]  # all must hold: owner, group, name (or id), label
    rules: tuple[str, ...]  # rule ids, or ("*",)
    reason: str
    approved_by: str
    expires: datetime  # first instant at which it no longer holds

    @property
    def of_a_person(self) -> bool:
        """Whether it rests on whose a container is."""
        return any(selector.name in ("owner", "group") for selector in self.selectors)

    def covers(self, container: Container, rule: str, at: datetime, host: str) -> bool:
        """Whether it exempts this container from this rule at this instant."""
        if at >= self.expires or not self.selectors:
            return False
        if "*" not in self.rules and rule not in self.rules:
            return False
        return all(selected(selector, container, host) for selector in self.selectors)
