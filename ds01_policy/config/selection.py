"""Selectors as people write them: a value, a list of values, or {not: …}.

Owns the shapes and which selectors exist where. Whether one holds for a container is rules.py's.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, PlainValidator, Tag, ValidationInfo, WithJsonSchema

from ds01_policy.config.problems import closest
from ds01_policy.config.scalars import Maybe, Section, Text, names_of, refuse, shown
from ds01_policy.model import ALIVE, State
from ds01_policy.rules import SELECTORS, Selector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return "none_of"
    return "many" if isinstance(value, list) else "one"


# The tags end up in error locations, so they must not be keys that can stand there.
_OneOrMany = Annotated[T, Tag("one")] | Annotated[list[T], Field(min_length=1), Tag("many")]
Values = Annotated[_OneOrMany[T], Discriminator(_shape)]
Selection = Annotated[
    _OneOrMany[T] | Annotated[dict[Literal["not"], Values[T]], Field(min_length=1), Tag("none_of")],
    Discriminator(_shape),
]


def _state(value: str) -> str:
    states = [state.value for state in State]
    if not any(fnmatchcase(state, value) for state in states):
        message = f"{shown(value)} is not a container state; known: {', '.join(states)}"
        raise refuse("unknown_state", message, suggestion=closest(value, states))
    return value


def _group(value: str, info: ValidationInfo) -> str:
    groups = names_of(info).groups
    if groups is not None and not any(fnmatchcase(group, value) for group in groups):
        message = f"{shown(value)} is not a group of limits.yaml"
        raise refuse("unknown_group", message, suggestion=closest(value, groups))
    return value


def _flag(value: Any) -> Any:
    if value not in (True, False, "true", "false"):
        raise refuse("bad_value", f"{shown(value)} is not true or false")
    return str(value).lower()


StateName = Annotated[Text, AfterValidator(_state)]
GroupName = Annotated[Text, AfterValidator(_group)]
Flag = Annotated[str, PlainValidator(_flag), WithJsonSchema({"type": "boolean"})]


def selector(name: str, value: str | list[str] | dict[Literal["not"], str | list[str]]) -> Selector:
    """Convert one selector."""
    if isinstance(value, dict):
        return Selector(name, _tuple(value["not"]), negated=True)
    return Selector(name, _tuple(value))


def _tuple(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def alive(selectors: Iterable[Selector]) -> bool:
    """Whether a container with live processes can match."""
    states = [selector for selector in selectors if selector.name == "state"]
    return any(
        all(any(fnmatchcase(state, value) for value in each.values) is not each.negated for each in states)
        for state in ALIVE
    )


class MatchFile(Section):
    """Which containers: all selectors that are given must hold. Values are shell patterns."""

    state: Maybe[Selection[StateName]] = None
    type: Maybe[Selection[Text]] = None
    gpu: Maybe[Selection[Flag]] = None
    owner: Maybe[Selection[Text]] = None
    group: Maybe[Selection[GroupName]] = None
    name: Maybe[Selection[Text]] = None
    image: Maybe[Selection[Text]] = None
    label: Maybe[Selection[Text]] = None
    host: Maybe[Selection[Text]] = None

    def selectors(self) -> Iterator[Selector]:
        """Convert those that are given."""
        for name in SELECTORS:
            if name in self.model_fields_set:
                yield selector(name, getattr(self, name))
