"""What every policy file is made of: durations, percentages, names, sections; and what is said when one is wrong.

Owns the types the models share. A value that is left empty or written as a bare number is never guessed at.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, LiteralString, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ds01_policy.units import Unit, format_duration, parse_duration, parse_ratio

T = TypeVar("T")


def refuse(slug: LiteralString, text: str, *at: str | int, suggestion: str = "") -> PydanticCustomError:
    """Make the error of a validator. `at` leads from the validated value to the part that is wrong."""
    return PydanticCustomError(slug, "{text}", {"text": text, "at": at, "suggestion": suggestion})


def shown(value: Any) -> str:
    """Write a value as YAML would, short and on one line."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004  a line at 80 columns


@dataclass(frozen=True, slots=True)
class Names:
    """What the other files define, for checks across files. None: that file can't be read, so nothing is known."""

    signals: dict[str, Unit | None] | None = None  # and their units, where those can be read
    limits: frozenset[str] | None = None  # set in limits.yaml's defaults
    groups: frozenset[str] | None = None
    rules: frozenset[str] | None = None


def names_of(info: ValidationInfo) -> Names:
    """Get what the other files define; nothing is known when a model is used by itself."""
    return info.context if isinstance(info.context, Names) else Names()


class Section(BaseModel):
    """A mapping with known keys. Only comments under its key are the same as an absent key."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _only_comments(cls, value: Any) -> Any:
        return {} if value is None else value


def absent() -> Any:
    """Give a section that is left out its defaults, through its parent: building it alone costs start-up time."""
    return Field(default_factory=dict, validate_default=True)


def fields_as(kind: Callable[..., T], model: BaseModel, **replaced: Any) -> T:
    """Make the dataclass that has the model's field names."""
    return kind(**({name: getattr(model, name) for name in type(model).model_fields} | replaced))


def _given(value: Any) -> Any:
    if value is None:
        raise refuse("empty", "has no value: fill it in, or leave the key out")
    return value


def _list_given(value: Any) -> Any:
    return [] if value is None else value


def _dict_given(value: Any) -> Any:
    return {} if value is None else value


def _one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _or_one(schema: dict[str, Any]) -> None:
    several = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "string"}, several]


def _never_for_null(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"const": "never"} if each == {"type": "null"} else each for each in schema["anyOf"]]


def _never_as_none(value: Any) -> Any:
    return {} if value is None else None if value == "never" else value


Maybe = Annotated[T | None, BeforeValidator(_given)]  # may be left out, not left empty
OneOrMore = Annotated[list[T], Field(min_length=1, json_schema_extra=_or_one), BeforeValidator(_one_as_list)]
OrNever = Annotated[T | None, Field(json_schema_extra=_never_for_null), BeforeValidator(_never_as_none)]  # a section
Items = Annotated[list[T], BeforeValidator(_list_given)]  # only comments: no items


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f]")


def _text(value: Any) -> str:
    if isinstance(value, str):
        if not value.strip() or _NOT_TEXT.search(value):
            raise refuse("bad_text", f"{shown(value)} is not one line of text")
        return value
    if value is None:
        raise refuse("empty", "has no value: fill it in, or leave the key out")
    if isinstance(value, bool | int | float):
        raise refuse("wrong_type", f"{shown(value)} is read as a {_kind(value)}; put quotes around it if it is text")
    raise refuse("wrong_type", f"must be text, not {shown(value)}")


def _kind(value: object) -> str:
    return "yes/no value" if isinstance(value, bool) else "number"


def pattern(expression: str, slug: LiteralString, message: str) -> AfterValidator:
    """Refuse text that does not fit; `message` follows the text."""
    compiled = re.compile(expression)

    def fits(value: str) -> str:
        if not compiled.fullmatch(value):
            raise refuse(slug, f"{shown(value)} {message}")
        return value

    return AfterValidator(fits)


Text = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string", "minLength": 1})]
Name = Annotated[Text, pattern(r"[^\s*?\[\],:/]+", "bad_name", "is not a name: no spaces, `*`, `,`, `:` or `/`")]
Word = Annotated[
    Text, pattern(r"[a-z0-9][a-z0-9_-]{0,63}", "bad_name", "is not a name: small letters, digits, `-` and `_`")
]
Table = Annotated[dict[Name, T], BeforeValidator(_dict_given)]
AbsolutePath = Annotated[Text, pattern(r"/(?!.*(^|/)\.\.(/|$)).*", "bad_path", "is not an absolute path without `..`")]


# ── amounts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _duration(value: Any) -> timedelta:
    if value is None:
        raise refuse("bad_duration", "has no value: write a duration like 30m")
    if value == "never":
        raise refuse("bad_duration", "can't be `never`: write a duration like 30m")
    try:
        return parse_duration(value if isinstance(value, str) else shown(value))
    except ValueError as error:
        raise refuse("bad_duration", str(error)) from None


def _duration_or_never(value: Any) -> timedelta | None:
    if value is None:
        raise refuse("bad_duration", "has no value: write a duration like 30m, or `never` to switch it off")
    return None if value == "never" else _duration(value)


def between(lowest: timedelta, highest: timedelta, why: str = "") -> AfterValidator:
    """Refuse durations outside these bounds."""

    def check(value: timedelta | None) -> timedelta | None:
        if value is not None and not lowest <= value <= highest:
            bounds = f"between {_exact(lowest)} and {_exact(highest)}"
            raise refuse("out_of_range", f"{_exact(value)} is not {bounds}{why}")
        return value

    return AfterValidator(check)


def _exact(duration: timedelta) -> str:
    milliseconds = duration / timedelta(milliseconds=1)
    return f"{milliseconds:g}ms" if 0 < milliseconds < 1000 else format_duration(duration)  # noqa: PLR2004  a second


_DURATION_SCHEMA = {
    "type": "string",
    "pattern": r"^\s*(\d+(\.\d+)?(ms|s|m|h|d|w))+\s*$",
    "description": "A duration with its unit.",
    "examples": ["30m", "2h", "1d12h"],
}
Duration = Annotated[timedelta, PlainValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
DurationOrNever = Annotated[
    timedelta | None,
    PlainValidator(_duration_or_never),
    WithJsonSchema({"anyOf": [_DURATION_SCHEMA, {"const": "never"}], "examples": ["30m", "never"]}),
]
_INSTANT = timedelta(milliseconds=1)
_LONG = timedelta(days=3650)
Positive = Annotated[Duration, between(_INSTANT, _LONG)]
Timeout = Annotated[Duration, between(timedelta(milliseconds=10), timedelta(minutes=10))]


def _percent(value: Any) -> float:
    try:
        return parse_ratio(value if isinstance(value, str) else shown(value))
    except ValueError as error:
        raise refuse("bad_percentage", "has no value: write it like 80%" if value is None else str(error)) from None


def _share(lowest: float) -> AfterValidator:
    def check(value: float) -> float:
        if not lowest <= value <= 1:
            raise refuse("out_of_range", f"{value:.4%} is not between {lowest:.0%} and 100%".replace(".0000%", "%"))
        return value

    return AfterValidator(check)


_PERCENT_SCHEMA = {"type": "string", "pattern": r"^\s*\+?\d+(\.\d+)?\s*%\s*$", "examples": ["25%", "80%"]}
Percent = Annotated[float, PlainValidator(_percent), WithJsonSchema(_PERCENT_SCHEMA), _share(0)]
PositivePercent = Annotated[float, PlainValidator(_percent), WithJsonSchema(_PERCENT_SCHEMA), _share(0.01)]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refuse("wrong_type", f"must be a plain number, not {shown(value)}")
    return float(value)


Number = Annotated[float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
