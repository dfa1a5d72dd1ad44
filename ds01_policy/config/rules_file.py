"""rules/*.yaml: one rule's shape as people write it.

Owns what makes a rule complete and safe to read. What other files define comes in as Names, so that every mistake shows at once.
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
from ds01_policy.units import Unit, parse_quantity

_ZERO, _MONTH = timedelta(0), timedelta(days=31)


# ── when ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _threshold(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        what = "has no value: write" if value is None else f"{shown(value)} is not a threshold; write it with its unit,"
        raise refuse("bad_threshold", f"{what} like 5%")
    return str(value)


Threshold = Annotated[
    str,
    PlainValidator(_threshold),
    WithJsonSchema({"type": ["string", "number"], "examples": ["5%", "10KiB/s", "2 cores"]}),
]


class ConditionFile(Section):
    """One clause (`signal` and one comparator), or `all`, `any` or `not` of others."""

    signal: Maybe[Text] = None
    below: Maybe[Threshold] = None
    above: Maybe[Threshold] = None
    at_most: Maybe[Threshold] = None
    at_least: Maybe[Threshold] = None
    is_: Maybe[Threshold] = Field(None, alias="is")
    all_: Maybe[Annotated[list[ConditionFile], Field(min_length=1)]] = Field(None, alias="all")
    any_: Maybe[Annotated[list[ConditionFile], Field(min_length=1)]] = Field(None, alias="any")
    not_: Maybe[ConditionFile] = Field(None, alias="not")

    @field_validator("signal")
    @classmethod
    def _known(cls, value: str | None, info: ValidationInfo) -> str | None:
        signals = names_of(info).signals
        if value is not None and signals is not None and value not in signals:
            message = f"unknown signal {value!r}; signals.yaml has {', '.join(signals) or 'none'}"
            raise refuse("unknown_signal", message, suggestion=closest(value, signals))
        return value

    @field_validator("below", "above", "at_most", "at_least", "is_")
    @classmethod
    def _in_its_unit(cls, value: str | None, info: ValidationInfo) -> str | None:
        signals = names_of(info).signals or {}
        unit, ceiling = signals.get(info.data.get("signal") or "", (None, None))
        if value is not None and unit is not None:
            _quantity(value, unit, ceiling)
        return value

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        given = [name for name in ("signal", "all_", "any_", "not_") if getattr(self, name) is not None]
        comparators = [name for name in _COMPARATORS if getattr(self, name) is not None]
        if len(given) != 1:
            raise refuse("bad_condition", "a condition is exactly one of `signal`, `all`, `any` and `not`")
        if given != ["signal"] and comparators:
            raise refuse("bad_condition", f"`{comparators[0].rstrip('_')}` stands without a `signal`")
        if given == ["signal"] and len(comparators) != 1:
            raise refuse("bad_condition", f"a clause has exactly one of {', '.join(rules.COMPARATORS)}")
        return self


_COMPARATORS = ("below", "above", "at_most", "at_least", "is_")


def _quantity(text: str, unit: str, ceiling: str | None) -> float:
    try:
        value = parse_quantity(text, Unit(unit))
        highest = parse_quantity(ceiling, Unit(unit)) if ceiling else float("inf")
    except ValueError as error:
        raise refuse("bad_threshold", str(error)) from None
    if not 0 <= value <= highest or value == float("inf"):
        allowed = f"between 0 and {ceiling}" if ceiling else "a usable amount"
        raise refuse("bad_threshold", f"{shown(text)} is not {allowed}")
    return value


# ── a rule ───────────────────────────────────────────────────────────────────────────────────────────────────────────

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
        when=None if file.when is None else _condition(file.when, signals),
        warn=None if file.warn is None else rules.Warn(at=file.warn.at, notice=file.warn.notice),
        mode=None if file.mode is None else Mode(file.mode),
        place=place,
    )


def _except(entry: str | ExceptFile) -> rules.Exception_:
    if isinstance(entry, str):
        return rules.Exception_(entry)
    if entry.younger_than is not None:
        return rules.Exception_("younger_than", younger_than=entry.younger_than)
    selector = next(entry.selectors())
    return rules.Exception_(selector.name, selector=selector)


def _condition(file: ConditionFile, signals: Mapping[str, Signal]) -> rules.Condition:
    if file.all_ is not None:
        return rules.AllOf(tuple(_condition(part, signals) for part in file.all_))
    if file.any_ is not None:
        return rules.AnyOf(tuple(_condition(part, signals) for part in file.any_))
    if file.not_ is not None:
        return rules.NotOf(_condition(file.not_, signals))
    name = next(name for name in _COMPARATORS if getattr(file, name) is not None)
    signal = str(file.signal)
    threshold = parse_quantity(getattr(file, name), signals[signal].unit)
    return rules.Clause(signal, name.rstrip("_"), threshold)
