"""rules/*.yaml: one rule's shape as people write it.

Owns what makes a rule complete. What other files define comes in as Names, so that every mistake shows at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ds01_policy import rules
from ds01_policy.config.condition_file import ConditionFile, condition
from ds01_policy.config.problems import closest
from ds01_policy.config.scalars import (
    Duration,
    Items,
    Maybe,
    PositivePercent,
    Section,
    Text,
    Word,
    between,
    names_of,
    refuse,
    shown,
)
from ds01_policy.config.selection import MatchFile, alive
from ds01_policy.model import Action, Mode
from ds01_policy.signals import Signal

_ZERO, _MONTH = timedelta(0), timedelta(days=31)


ExceptName = Literal["infrastructure", "exempted", "keep_alive"]


class ExceptFile(MatchFile):
    """Exactly one of `younger_than` and the selectors."""

    younger_than: Maybe[Annotated[Duration, between(_ZERO, timedelta(days=3650))]] = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise refuse("bad_except", "one thing an entry: a name, {younger_than: 30m} or one {selector: value}")
        return self


ExceptEntry = Annotated[
    Annotated[ExceptName, Tag("by_name")] | Annotated[ExceptFile, Tag("by_value")],
    Discriminator(lambda value: "by_value" if isinstance(value, dict) else "by_name"),
]


class ForFile(Section):
    """How long, as a limit that is looked up for each container."""

    limit: Text

    @field_validator("limit")
    @classmethod
    def _set(cls, value: str, info: ValidationInfo) -> str:
        limits = names_of(info).limits
        if limits is not None and value not in limits:
            message = f"no limit {value!r} in limits.yaml's defaults, so it would mean nothing for most containers"
            raise refuse("unknown_limit", message, suggestion=closest(value, limits))
        return value


ForEntry = Annotated[
    Annotated[Duration, Tag("a_duration")] | Annotated[ForFile, Tag("a_limit")],
    Discriminator(lambda value: "a_limit" if isinstance(value, dict) else "a_duration"),
]


class WarnFile(Section):
    """When to warn, and how long before the act."""

    at: PositivePercent
    notice: Annotated[Duration, between(_ZERO, _MONTH)]


def _action(value: Any) -> str:
    if value == "warn":
        raise refuse("bad_action", "`warn` is no action of `then`; write `warn: {at: 80%, notice: 10m}` beside it")
    if value not in _ACTIONS:
        raise refuse(
            "bad_action", f"{shown(value)} is not stop, remove or epilog", suggestion=closest(str(value), _ACTIONS)
        )
    return str(value)


_ACTIONS = ("stop", "remove", "epilog")  # also the only order in which they make sense
ActionName = Annotated[str, PlainValidator(_action), WithJsonSchema({"enum": list(_ACTIONS)})]


class RuleFile(Section):
    """One lifecycle rule."""

    id: Word
    summary: Text = ""
    match: MatchFile
    except_: Items[ExceptEntry] = Field(default_factory=list, alias="except")
    when: Maybe[ConditionFile] = None
    for_: ForEntry = Field(alias="for")
    warn: Maybe[WarnFile] = None
    then: Annotated[list[ActionName], Field(min_length=1)]
    mode: Maybe[Literal["observe", "warn", "enforce"]] = None

    @field_validator("match")
    @classmethod
    def _selects(cls, value: MatchFile) -> MatchFile:
        if not value.model_fields_set:
            raise refuse("bad_match", "selects nothing in particular: every container of the host would match")
        return value

    @field_validator("for_")
    @classmethod
    def _askable(cls, value: timedelta | ForFile, info: ValidationInfo) -> timedelta | ForFile:
        if "when" not in info.data or "match" not in info.data:
            return value  # wrong themselves
        if info.data["when"] is not None:
            if value == _ZERO:
                raise refuse("out_of_range", "0s is no window: `when` is asked over the time `for` gives")
        elif "state" not in info.data["match"].model_fields_set:
            message = "without `when` a rule asks how long a state has lasted: name the `state` in `match`"
            raise refuse("bad_rule", message)
        return value

    @field_validator("then")
    @classmethod
    def _in_order(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if value != [action for action in _ACTIONS if action in value]:
            raise refuse("bad_action", f"{', '.join(value)}: each once, in the order stop, remove, epilog")
        if "remove" in value and "stop" not in value and "match" in info.data and alive(info.data["match"].selectors()):
            message = "`remove` needs `stop` before it: `match` includes containers that run"
            raise refuse("bad_action", message, value.index("remove"))
        return value


class RulesFile(Section):
    """One file of rules/."""

    version: Literal[1] = 1
    rules: Items[RuleFile]


def rule(file: RuleFile, signals: Mapping[str, Signal], place: str) -> rules.Rule:
    """Convert a checked rule."""
    return rules.Rule(
        id=file.id,
        summary=file.summary,
        match=rules.Match(tuple(file.match.selectors())),
        for_=rules.For(limit=file.for_.limit) if isinstance(file.for_, ForFile) else rules.For(duration=file.for_),
        then=tuple(Action(action) for action in file.then),
        excepts=tuple(_except(entry) for entry in file.except_),
        when=None if file.when is None else condition(file.when, signals),
        warn=None if file.warn is None else rules.Warn(at=file.warn.at, notice=file.warn.notice),
        mode=None if file.mode is None else Mode(file.mode),
        place=place,
    )


def _except(entry: str | ExceptFile) -> rules.Except:
    if isinstance(entry, str):
        return rules.Except(entry)
    if entry.younger_than is not None:
        return rules.Except("younger_than", younger_than=entry.younger_than)
    selector = next(entry.selectors())
    return rules.Except(selector.name, selector=selector)
