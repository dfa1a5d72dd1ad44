"""Rules that never decide anything, because another is about the same containers, no later, and does no less.

Owns that claim, and claims it only where it is proven for every container, reading and history.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.config.possible import limits_of, wider
from ds01_policy.model import Mode
from ds01_policy.rules import AllOf, signals_of
from ds01_policy.span import IDLE_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_policy.policy import Policy
    from ds01_policy.rules import Condition, Rule


def shadowed(policy: Policy) -> Iterator[tuple[Rule, Rule]]:
    """Yield each rule that another makes superfluous, with that other; of two that are alike, the later."""
    for index, rule in enumerate(policy.rules):
        for before, other in enumerate(policy.rules):
            if (
                other is not rule
                and _covers(policy, other, rule)
                and (before < index or not _covers(policy, rule, other))
            ):
                yield rule, other
                break


def _covers(policy: Policy, one: Rule, other: Rule) -> bool:
    return (
        wider(policy, one.match, other.match)
        and set(one.then) >= set(other.then)
        and (one.mode or Mode.ENFORCE).strength >= (other.mode or Mode.ENFORCE).strength
        and _excepts_no_more(policy, one, other)
        and _asks_no_more(policy, one.when, other.when)
        and _is_no_later(policy, one, other)
        and _warns_no_later(one, other)
    )


def _excepts_no_more(policy: Policy, one: Rule, other: Rule) -> bool:
    """Whether whatever holds `one` back holds `other` back too; infrastructure does for every rule."""
    if any(one.id in exemption.rules and other.id not in exemption.rules for exemption in policy.exemptions):
        return False
    names = {entry.name for entry in other.excepts}
    selectors = [entry.selector for entry in other.excepts if entry.selector is not None]
    youth = max((entry.younger_than for entry in other.excepts if entry.younger_than), default=timedelta())
    for entry in one.excepts:
        if entry.selector is not None and entry.selector not in selectors:
            return False
        if entry.younger_than is not None and entry.younger_than > youth:
            return False
        if entry.name == "keep_alive" and entry.name not in names:
            return False
    return True


def _asks_no_more(policy: Policy, one: Condition | None, other: Condition | None) -> bool:
    """Whether what makes `other` hold makes `one` hold. How long a state lasted asks less than any signal over it."""
    if one is None or one == other:
        return True
    if other is None:
        return False
    mine, its = _parts(one), _parts(other)
    # A signal that does not apply everywhere may be left out: then the condition of which nothing is left is unknown.
    firm = any(not policy.signals[name].not_on_network for part in mine for name in signals_of(part))
    return firm and all(part in its for part in mine)


def _parts(condition: Condition) -> tuple[Condition, ...]:
    return condition.parts if isinstance(condition, AllOf) else (condition,)


def _is_no_later(policy: Policy, one: Rule, other: Rule) -> bool:
    """Compare for how long. A mean over a longer window says nothing about a shorter one, so over signals: equal."""
    if one.for_ == other.for_:
        return True
    if one.when is not None:
        return False
    longest, shortest = _bounds(policy, one), _bounds(policy, other)
    if longest is None or shortest is None or None in longest:
        return False
    share = policy.settings.high_demand.idle_timeout if other.for_.limit == IDLE_TIMEOUT else 1.0
    return max(each for each in longest if each is not None) <= share * min(
        (each for each in shortest if each is not None), default=timedelta.max
    )


def _bounds(policy: Policy, rule: Rule) -> list[timedelta | None] | None:
    if rule.for_.duration is not None:
        return [rule.for_.duration]
    return list(limits_of(policy, rule).values()) or None


def _warns_no_later(one: Rule, other: Rule) -> bool:
    if one.warn is None:
        return True
    if other.warn is None or one.warn.notice > other.warn.notice:
        return False
    # Over signals as above: what is so over a longer share of the window may not be over a shorter one.
    return one.warn.at == other.warn.at if one.when is not None else one.warn.at <= other.warn.at
