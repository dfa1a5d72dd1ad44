"""What a rule's `when` asks: clauses over signals, and `all`, `any`, `not` of them, as people write them.

Owns the shape and the units of thresholds. Asking is clauses.py's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator, model_validator

from ds01_policy import rules
from ds01_policy.config.problems import closest
from ds01_policy.config.scalars import Maybe, Section, Text, names_of, refuse, shown
from ds01_policy.signals import Signal
from ds01_policy.units import Unit, parse_quantity


def _threshold(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refuse("bad_threshold", f"{shown(value)} is not a threshold; write it with its unit, like 5%")
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
        unit = signals.get(info.data.get("signal") or "")
        if value is not None and unit is not None:
            _quantity(value, unit)
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


def _quantity(text: str, unit: Unit) -> None:
    try:
        value = parse_quantity(text, unit)
    except ValueError as error:
        raise refuse("bad_threshold", str(error)) from None
    if math.isinf(value):
        raise refuse("bad_threshold", f"{shown(text)} is too large")


def condition(file: ConditionFile, signals: Mapping[str, Signal]) -> rules.Condition:
    """Convert a checked condition; thresholds get the unit of their signal."""
    if file.all_ is not None:
        return rules.AllOf(tuple(condition(part, signals) for part in file.all_))
    if file.any_ is not None:
        return rules.AnyOf(tuple(condition(part, signals) for part in file.any_))
    if file.not_ is not None:
        return rules.NotOf(condition(file.not_, signals))
    name = next(name for name in _COMPARATORS if getattr(file, name) is not None)
    signal = str(file.signal)
    threshold = parse_quantity(getattr(file, name), signals[signal].unit)
    return rules.Clause(signal, name.rstrip("_"), threshold)
