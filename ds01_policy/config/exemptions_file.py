"""exemptions.yaml: who or what is exempt, from which rules, why, and until when.

Owns the shape and the reading of expiry dates. Whether an exemption holds now is exemptions.py's.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from ds01_policy import exemptions
from ds01_policy.config.problems import closest
from ds01_policy.config.scalars import Items, Maybe, OneOrMore, Section, Text, names_of, refuse, shown
from ds01_policy.config.selection import GroupName, Values, selector
from ds01_policy.rules import Selector

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?", re.ASCII)
_WRITE = "write it like 2030-01-31 (the end of that day, UTC) or 2030-01-31T18:00:00Z"
_SHORT_ID = re.compile(r"[0-9a-f]{12,63}")


def expiry(value: Any) -> datetime:
    """Read a date, which means its end (UTC), or a time with its zone."""
    if value is None:
        raise refuse("bad_expiry", f"has no value: {_WRITE}")
    text = value if isinstance(value, str) else ""
    is_date = bool(_DATE.fullmatch(text))
    try:
        at = datetime.fromisoformat(text) if is_date or _TIME.fullmatch(text) else None
        if at is not None and (is_date or at.tzinfo is not None):
            return at.replace(tzinfo=UTC) + timedelta(days=1) if is_date else at.astimezone(UTC)
    except (ValueError, OverflowError):  # no such day, or beyond the calendar
        at = None
    if at is None:
        raise refuse("bad_expiry", f"{shown(value)} is not a date: {_WRITE}")
    raise refuse("bad_expiry", f"{shown(value)} has no time zone: append Z for UTC, or an offset like +02:00")


Expiry = Annotated[
    datetime,
    PlainValidator(expiry),
    WithJsonSchema({"type": "string", "examples": ["2030-01-31", "2030-01-31T18:00:00Z"]}),
]


def _rule(value: str, info: ValidationInfo) -> str:
    known = names_of(info).rules
    if value != "*" and known is not None and value not in known:
        message = f"there is no rule {value!r}; `*` means every rule"
        raise refuse("unknown_rule", message, suggestion=closest(value, known))
    return value


RuleName = Annotated[Text, AfterValidator(_rule)]


class ExemptionFile(Section):
    """One exemption: all selectors that are given must hold."""

    user: Maybe[Values[Text]] = None
    group: Maybe[Values[GroupName]] = None
    container: Maybe[Values[Text]] = None
    label: Maybe[Values[Text]] = None
    rules: OneOrMore[RuleName]
    reason: Text
    approved_by: Text
    expires: Expiry

    @field_validator("expires")
    @classmethod
    def _of_something(cls, value: datetime, info: ValidationInfo) -> datetime:
        if all(name in info.data and info.data[name] is None for name in _SELECTORS):
            raise refuse("bad_exemption", "exempts nobody: name a user, group, container or label")
        return value


# What people write, and what rules.py calls it.
_SELECTORS = {"user": "owner", "group": "group", "container": "name", "label": "label"}


class ExemptionsFile(Section):
    """exemptions.yaml."""

    version: Literal[1] = 1
    exemptions: Items[ExemptionFile] = Field(default_factory=list)


def exemption(file: ExemptionFile) -> exemptions.Exemption:
    """Convert a checked exemption."""
    given = [(key, name) for key, name in _SELECTORS.items() if key in file.model_fields_set]
    found = [selector(name, getattr(file, key)) for key, name in given]
    return exemptions.Exemption(
        selectors=tuple(replace(each, values=_with_short_ids(each)) for each in found),
        rules=tuple(file.rules),
        reason=file.reason,
        approved_by=file.approved_by,
        expires=file.expires,
    )


def _with_short_ids(found: Selector) -> tuple[str, ...]:
    """Let the 12 hex that people copy from `docker ps` mean the container whose id begins so."""
    if found.name != "name":
        return found.values
    return tuple(form for value in found.values for form in _forms(value))


def _forms(value: str) -> tuple[str, ...]:
    return (value, f"{value}*") if _SHORT_ID.fullmatch(value) else (value,)
