"""What `check` says about whole rules: no warning, no container, no way to act, nothing left to decide.

Owns these warnings. Where it is not certain, nothing is said.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ds01_policy.config.clause_advice import always as always_true
from ds01_policy.config.clause_advice import clauses_of
from ds01_policy.config.loaded import warning
from ds01_policy.config.possible import allowed, always, can_hold, contradiction, limits_of, yielded
from ds01_policy.config.problems import closest
from ds01_policy.config.selection import alive
from ds01_policy.config.shadows import shadowed
from ds01_policy.limits import UNKNOWN
from ds01_policy.model import ALIVE, Action
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_policy.config.loaded import Loaded
    from ds01_policy.config.problems import Finding
    from ds01_policy.config.yaml_strict import Document, Path
    from ds01_policy.policy import Policy
    from ds01_policy.rules import Rule, Selector


def rules(loaded: Loaded) -> Iterator[Finding]:
    """Yield what is wrong with rules as a whole."""
    policy = loaded.policy
    for rule, document, place in loaded.placed():
        yield from _no_warning(rule, document, place)
        unknown = list(_unknown_types(policy, rule, document, place))
        yield from unknown
        selector = None if unknown else contradiction(policy, rule.match)
        if selector is not None:
            message = f"no container passes `{_words(selector)}`"
            yield warning("never_matches", document, (*place, "match", selector.name), message)
        elif not unknown:
            yield from _never_acts(policy, rule, document, place)
    for rule, by in shadowed(policy):
        document, place = next((document, place) for each, document, place in loaded.placed() if each is rule)
        message = f"rule {by.id!r} is about all that this one is about, no later, and does no less"
        yield warning("shadowed", document, (*place, "id"), message)
    if not policy.rules:
        yield warning("no_rules", loaded.documents["settings"], ("rules",), "there is no rule at all")


def _words(selector: Selector) -> str:
    values = plain(", ".join(selector.values), 100)
    return f"{selector.name}: {{not: [{values}]}}" if selector.negated else f"{selector.name}: [{values}]"


def _no_warning(rule: Rule, document: Document, place: Path) -> Iterator[Finding]:
    destructive = Action.STOP in rule.then or Action.REMOVE in rule.then
    if destructive and rule.warn is None and alive(rule.match.selectors):
        message = f"rule {rule.id!r} ends containers that run and warns nobody: give it a `warn`"
        yield warning("no_warning", document, (*place, "then"), message)


def _unknown_types(policy: Policy, rule: Rule, document: Document, place: Path) -> Iterator[Finding]:
    types = yielded(policy.identity) | {UNKNOWN}
    for value in (value for each in rule.match.selectors if each.name == "type" for value in each.values):
        if not any(fnmatchcase(name, value) for name in types):
            message = f"no container is ever of type {value!r}: identity.yaml gives {', '.join(sorted(types))}"
            yield warning("unknown_type", document, (*place, "match", "type"), message, closest(value, types))


def _never_acts(policy: Policy, rule: Rule, document: Document, place: Path) -> Iterator[Finding]:
    """Yield the first reason for which a rule that matches never finds anything due."""
    states = allowed(policy, rule.match, "state")
    limits = limits_of(policy, rule)
    for index, entry in enumerate(rule.excepts):
        if entry.selector is not None and always(policy, entry.selector, rule.match):
            message = f"everything that it matches is excepted: `{_words(entry.selector)}`"
            yield warning("never_acts", document, (*place, "except", index), message)
            return
    if limits and all(value is None for value in limits.values()):
        message = f"{rule.for_.limit} is never for everybody whom it is about"
        yield warning("never_acts", document, (*place, "for"), message)
    elif rule.when is not None and not states & ALIVE:
        message = f"signals are only there while a container runs, and it is about {', '.join(sorted(states))}"
        yield warning("never_acts", document, (*place, "when"), message)
    elif rule.when is not None:
        single = (always_true(clause, policy.signals[clause.signal]) for clause, _ in clauses_of(rule.when, ()))
        without_gpu = "true" not in allowed(policy, rule.match, "gpu")
        if all(truth is None for truth in single) and not can_hold(rule, policy.signals, without_gpu=without_gpu):
            why = "no GPU to measure" if without_gpu else "clauses of it exclude each other"
            yield warning("never_acts", document, (*place, "when"), f"its condition can never hold: {why}")
