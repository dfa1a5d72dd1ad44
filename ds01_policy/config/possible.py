"""What can be at all: which containers a rule can match, which limits can hold for them, whether its condition can.

Owns these bounds. Where it is not certain, everything counts as possible: what is claimed from it is proven.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product
from typing import TYPE_CHECKING

from ds01_policy.limits import UNKNOWN
from ds01_policy.model import State
from ds01_policy.rules import AllOf, AnyOf, Clause, NotOf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from ds01_policy.config.yaml_strict import Path
    from ds01_policy.identity import Identity
    from ds01_policy.policy import Policy
    from ds01_policy.rules import Condition, Match, Rule, Selector
    from ds01_policy.signals import Signal

_MOST_WAYS = 256  # in which a condition is looked at; one with more counts as possible


def yielded(identity: Identity) -> frozenset[str]:
    """List every type a container can turn out to be; `unknown` where no matcher takes what is left."""
    types = {matcher.type for matcher in identity.types}
    return frozenset(types if any(not matcher.selectors for matcher in identity.types) else types | {UNKNOWN})


def selector_of(match: Match, name: str) -> Selector | None:
    """Find the selector of that name."""
    return next((each for each in match.selectors if each.name == name), None)


def domain(policy: Policy, name: str) -> frozenset[str] | None:
    """List the values that there are for a selector; None: anything."""
    match name:
        case "state":
            return frozenset(state.value for state in State)
        case "gpu":
            return frozenset({"true", "false"})
        case "type":
            return yielded(policy.identity) | {UNKNOWN}
        case "group":
            return frozenset({*policy.limits.groups, policy.limits.default_group})
        case _:
            return None


def allowed(policy: Policy, match: Match, name: str) -> frozenset[str]:
    """List the values of a selector with a finite domain that a match lets through."""
    values = domain(policy, name) or frozenset()
    selector = selector_of(match, name)
    return values if selector is None else frozenset(value for value in values if _admits(selector, value))


def _admits(selector: Selector, value: str) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in selector.values) is not selector.negated


def contradiction(policy: Policy, match: Match) -> Selector | None:
    """Find a selector that lets nothing through."""
    for selector in match.selectors:
        if domain(policy, selector.name) is not None:
            if not allowed(policy, match, selector.name):
                return selector
        elif selector.negated and selector.name != "label" and any(not value.strip("*") for value in selector.values):
            return selector
    return None


def wider(policy: Policy, one: Match, other: Match) -> bool:
    """Whether all that `other` matches, `one` matches too."""
    return all(_implied(policy, selector, other) for selector in one.selectors)


def always(policy: Policy, selector: Selector, match: Match) -> bool:
    """Whether a selector holds for all that matches."""
    return _implied(policy, selector, match)


def _implied(policy: Policy, wanted: Selector, match: Match) -> bool:
    if domain(policy, wanted.name) is not None:
        return all(_admits(wanted, value) for value in allowed(policy, match, wanted.name))
    given = selector_of(match, wanted.name)
    if given is None:
        return not wanted.negated and wanted.name != "label" and any(not value.strip("*") for value in wanted.values)
    if wanted.negated and given.negated:
        return set(wanted.values) <= set(given.values)
    if wanted.negated or given.negated:
        # A label has many values, a name is compared with the id as well, and an image is meant with all its tags.
        literal = (
            wanted.name not in ("label", "name", "image") and not given.negated and all(map(_literal, given.values))
        )
        return literal and all(_admits(wanted, value) for value in given.values)
    return all(any(_covers(wanted.name, broad, value) for broad in wanted.values) for value in given.values)


def _covers(name: str, broad: str, value: str) -> bool:
    if broad == value:
        return True
    if name == "label":  # `key` covers `key=anything`
        return broad == value.partition("=")[0]
    return not broad.strip("*") or (_literal(value) and fnmatchcase(value, broad))


def _literal(value: str) -> bool:
    return not set(value) & set("*?[")


def limits_of(policy: Policy, rule: Rule) -> dict[Path, timedelta | None]:
    """List what the limit that a rule asks for can be, by where limits.yaml says so. Empty: it asks for none."""
    key, limits, match = rule.for_.limit, policy.limits, rule.match
    if key is None:
        return {}
    owner, groups, types = selector_of(match, "owner"), allowed(policy, match, "group"), allowed(policy, match, "type")

    def about(user: str) -> bool:
        return (owner is None or _admits(owner, user)) and limits.group_of(user) in groups

    def saying(
        layers: Mapping[str, Mapping[str, timedelta | None]], names: Iterable[str]
    ) -> dict[str, timedelta | None]:
        return {name: layers[name][key] for name in names if key in layers.get(name, {})}

    of_users = saying(limits.users, filter(about, limits.users))
    of_types = saying(limits.container_types, sorted(types))
    found: dict[Path, timedelta | None] = {("users", name, key): value for name, value in of_users.items()}
    found |= {("container_types", name, key): value for name, value in of_types.items()}
    if set(of_types) < types:
        of_groups = saying({name: group.limits for name, group in limits.groups.items()}, sorted(groups))
        found |= {("groups", name, "limits", key): value for name, value in of_groups.items()}
        if set(of_groups) < groups and key in limits.defaults:
            found["defaults", key] = limits.defaults[key]
    if about(UNKNOWN) and limits.unknown_owner.get(key) is not None:
        found["unknown_owner", key] = limits.unknown_owner[key]
    return found


def can_hold(rule: Rule, signals: Mapping[str, Signal], *, without_gpu: bool) -> bool:
    """Whether a rule's condition can ever be TRUE; `without_gpu`: for containers that have none."""
    if rule.when is None:
        return True
    ways = _ways(rule.when, negated=False)
    return ways is None or any(_together(way, signals, without_gpu=without_gpu) for way in ways)


_Bound = tuple[str, str, float]  # signal, comparator, threshold
_OPPOSITE = {"below": "at_least", "at_least": "below", "above": "at_most", "at_most": "above", "is": "is not"}


def _ways(condition: Condition, *, negated: bool) -> list[list[_Bound]] | None:
    """List the ways in which a condition can hold, each as the clauses that must. None: too many to look at."""
    match condition:
        case Clause(signal=signal, comparator=comparator, threshold=threshold):
            return [[(signal, _OPPOSITE[comparator] if negated else comparator, threshold)]]
        case NotOf(part=part):
            return _ways(part, negated=not negated)
        case AllOf(parts=parts) | AnyOf(parts=parts):
            each = [_ways(part, negated=negated) for part in parts]
            known = [ways for ways in each if ways is not None]
            if len(known) < len(each):
                return None
            if isinstance(condition, AnyOf) is not negated:
                return [way for ways in known for way in ways]
            count = 1
            for ways in known:
                count *= len(ways)
            if count > _MOST_WAYS:
                return None
            return [[bound for way in chosen for bound in way] for chosen in product(*known)]


def _together(way: list[_Bound], signals: Mapping[str, Signal], *, without_gpu: bool) -> bool:
    """Whether clauses can hold at once. A signal that does not apply everywhere may be left out, and says nothing."""
    for name in {name for name, _, _ in way}:
        signal = signals[name]
        if signal.not_on_network:
            continue
        if without_gpu and signal.join == "gpu":
            return False
        low, high = 0.0, float("inf") if signal.ceiling is None else signal.ceiling
        open_low = open_high = False  # whether the bound itself is out
        for comparator, threshold in ((comparator, value) for each, comparator, value in way if each == name):
            if comparator in ("above", "at_least", "is") and threshold >= low:
                open_low = comparator == "above" or (open_low and threshold == low)
                low = threshold
            if comparator in ("below", "at_most", "is") and threshold <= high:
                open_high = comparator == "below" or (open_high and threshold == high)
                high = threshold
        if low > high or (low == high and (open_low or open_high)):
            return False
    return True
