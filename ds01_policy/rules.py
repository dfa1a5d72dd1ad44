"""What a rules file says: match which containers, except which, when what holds, for how long, then do.

Owns the shape of a rule and matching. Asks no signal and knows no file format.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ds01_policy.images import image_meant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta

    from ds01_policy.model import Action, Container, Mode

COMPARATORS = ("below", "above", "at_most", "at_least", "is")


@dataclass(frozen=True, slots=True)
class Selector:
    """One line of `match`: the container's value is among `values`, or is not."""

    name: str  # state type gpu owner group name image label host
    values: tuple[str, ...]  # shell patterns; for label `key` or `key=pattern`; for gpu "true" or "false"
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """All selectors must hold."""

    selectors: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class Clause:
    """One signal against one threshold, in the signal's unit."""

    signal: str
    comparator: str
    threshold: float


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds when all parts hold."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds when one part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class NotOf:
    """Holds when the part provably does not."""

    part: Condition


Condition = Clause | AllOf | AnyOf | NotOf


@dataclass(frozen=True, slots=True)
class Except:
    """One entry of `except`: a name that explain and metrics show, and what it means."""

    name: str  # infrastructure, exempted, keep_alive, younger_than, or the selector's own name
    younger_than: timedelta | None = None
    selector: Selector | None = None


@dataclass(frozen=True, slots=True)
class For:
    """How long: a duration, or the name of a limit that is looked up for each container."""

    duration: timedelta | None = None
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class Warn:
    """Warn after a share of `for`; the act comes no sooner than `notice` after the warning went out."""

    at: float  # ratio, 0 to 1
    notice: timedelta


@dataclass(frozen=True, slots=True)
class Rule:
    """One lifecycle rule."""

    id: str
    summary: str
    match: Match
    for_: For
    then: tuple[Action, ...]
    excepts: tuple[Except, ...] = ()
    when: Condition | None = None  # None: the rule asks how long the matched state has lasted
    warn: Warn | None = None
    mode: Mode | None = None
    place: str = ""  # file:line, for messages


def signals_of(condition: Condition | None) -> tuple[str, ...]:
    """Names of the signals a condition asks, each once, in order."""
    match condition:
        case None:
            return ()
        case Clause(signal=signal):
            return (signal,)
        case NotOf(part=part):
            return signals_of(part)
        case AllOf(parts=parts) | AnyOf(parts=parts):
            return tuple(dict.fromkeys(name for part in parts for name in signals_of(part)))


def by_id(rules: Iterable[Rule]) -> dict[str, Rule]:
    """Index rules by id."""
    return {rule.id: rule for rule in rules}


def matches(match: Match, container: Container, host: str) -> bool:
    """Whether every selector holds for the container."""
    return all(selected(selector, container, host) for selector in match.selectors)


def selected(selector: Selector, container: Container, host: str) -> bool:
    """Whether one selector holds; patterns are shell patterns, case matters. An image is meant with every tag."""
    if selector.name == "label":
        hit = any(_label_hit(container.labels, value) for value in selector.values)
    elif selector.name == "image":
        hit = any(image_meant(container.image, pattern) for pattern in selector.values)
    else:
        actual = _VALUES[selector.name](container, host)
        hit = any(fnmatchcase(text, pattern) for text in actual for pattern in selector.values)
    return hit is not selector.negated


def _label_hit(labels: Mapping[str, str], wanted: str) -> bool:
    key, has_value, pattern = wanted.partition("=")
    return key in labels and (not has_value or fnmatchcase(labels[key], pattern))


_VALUES: dict[str, Callable[[Container, str], tuple[str, ...]]] = {
    "state": lambda container, _: (container.state.value,),
    "type": lambda container, _: (container.type,),
    "gpu": lambda container, _: ("true" if container.gpus.wants else "false",),
    "owner": lambda container, _: (container.owner,),
    "group": lambda container, _: (container.group,),
    "name": lambda container, _: (container.name, container.id),
    "host": lambda _, host: (host,),
}
SELECTORS = (*_VALUES, "image", "label")
