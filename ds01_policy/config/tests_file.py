"""rules/tests/*.yaml: tests of rules as people write them: containers in a few words, and what each rule must say.

Owns the shape. What the words mean is scenario.py's, whether a name exists is tests_load.py's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
    model_validator,
)

from ds01_policy.config.exemptions_file import ExemptionFile
from ds01_policy.config.limits_file import LimitsFile
from ds01_policy.config.problems import closest, listed
from ds01_policy.config.rules_file import RuleFile
from ds01_policy.config.scalars import Duration, Items, Maybe, Name, OneOrMore, Section, Text, between, refuse, shown
from ds01_policy.config.settings_file import ModeName, SettingsFile
from ds01_policy.model import Action, HeldBy, Kind, Missing, State
from ds01_policy.rule_tests import NO_MATCH, Wanted
from ds01_policy.units import parse_duration

_INSTANT, _HOUR = timedelta(milliseconds=100), timedelta(hours=1)


def _ago(value: Any) -> str:
    text = value if isinstance(value, str) else shown(value)
    try:
        parse_duration(text.removeprefix("+"))
    except ValueError as error:
        raise refuse("bad_duration", str(error)) from None
    return text


def _start(value: Any) -> str:
    return "never" if value == "never" else _ago(value)


def _time(value: Any) -> str:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise refuse("bad_time", f"{shown(value)} is not a time with its zone: write it like 2026-03-02T12:00:00Z")
    return at.isoformat()


def _due(value: Any) -> str:
    if value in ("now", "never"):
        return str(value)
    if isinstance(value, str) and "T" in value:
        return _time(value)
    if isinstance(value, str) and value.endswith(" ago"):
        return f"{_ago(value.removesuffix(' ago'))} ago"
    return _ago(value)


def _one_of(*allowed: str) -> PlainValidator:
    """Take one of these words, and say which was meant where it is none."""
    words = tuple(str(word) for word in allowed)

    def check(value: Any) -> str:
        if value not in words:
            raise refuse("bad_value", f"{shown(value)} is not {listed(words)}", suggestion=closest(str(value), words))
        return str(value)

    return PlainValidator(check, json_schema_input_type=Literal[words])


_TEXT_SCHEMA = {"type": "string"}
Ago = Annotated[str, PlainValidator(_ago), WithJsonSchema({**_TEXT_SCHEMA, "examples": ["25m", "3h", "+10m"]})]
Start = Annotated[str, PlainValidator(_start), WithJsonSchema({**_TEXT_SCHEMA, "examples": ["3h", "never"]})]
Time = Annotated[str, PlainValidator(_time), WithJsonSchema({**_TEXT_SCHEMA, "examples": ["2026-03-02T12:00:00Z"]})]
Due = Annotated[
    str, PlainValidator(_due), WithJsonSchema({**_TEXT_SCHEMA, "examples": ["now", "12m", "31m ago", "never"]})
]
StateName = Annotated[str, _one_of(*State)]
Verdict = Annotated[str, _one_of(*Kind, NO_MATCH)]
LastVerdict = Annotated[str, _one_of(*Kind)]
MissingName = Annotated[str, _one_of(*Missing)]
Disposition = Annotated[str, _one_of("enforce", *HeldBy)]
ActionName = Annotated[str, _one_of(*Action)]


def _series(value: Any) -> Any:
    """Leave the words to scenario.py; only the shape is looked at."""
    good = isinstance(value, str) or (isinstance(value, dict) and all(isinstance(each, str) for each in value.values()))
    if not good or not value:
        raise refuse("bad_series", f"{shown(value)} is no series: write VALUExMINUTES, like 0x60 80x2")
    return value


_SERIES_SCHEMA: dict[str, Any] = {
    "description": "VALUExMINUTES, ending now: 0x60 80x2 is sixty quiet minutes, then two busy ones; _x10 no samples.",
    "anyOf": [{"type": ["string", "integer"]}, {"type": "object"}],  # `0x60` is a number to most editors
}
Series = Annotated[Any, PlainValidator(_series), WithJsonSchema(_SERIES_SCHEMA)]


class ContainerFile(Section):
    """One container in a few words; any further key is a signal (or its label) and its series."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Series] = Field(init=False)

    up: Maybe[Start] = None
    created: Maybe[Ago] = None
    ended: Maybe[Ago] = None
    running_for: Maybe[Ago] = None
    state: Maybe[StateName] = None
    owner: Maybe[Name] = None
    type: Maybe[Name] = None
    image: Maybe[Text] = None
    id: Maybe[Annotated[Text, Field(pattern="^[0-9a-f]{64}$")]] = None
    labels: dict[Text, str] = Field(default_factory=dict)
    gpus: Items[Text] = Field(default_factory=list)
    unclear: Maybe[Text] = None
    network_mode: Maybe[Text] = None
    infrastructure: bool = False
    keep_alive: Maybe[Ago] = None
    kept: Maybe[Ago] = None
    keep_alive_unreadable: Maybe[Text] = None
    warned: dict[Text, Ago] = Field(default_factory=dict)
    warned_mode: Maybe[ModeName] = None
    warned_life: Maybe[Ago] = None
    unreached: bool = False
    seen: Maybe[Ago] = None
    was: dict[Text, LastVerdict] = Field(default_factory=dict)


class HistoryFile(Section):
    """What earlier runs left behind."""

    last_tick: Maybe[Ago] = None
    breaker: Maybe[Ago] = None
    unwritable: bool = False


class GivenFile(Section):
    """Policy that holds in these tests, in the place of the site's: each key in the shape of its file."""

    settings: Maybe[SettingsFile] = None
    limits: Maybe[LimitsFile] = None
    exemptions: Maybe[Items[ExemptionFile]] = None
    rules: Maybe[Items[RuleFile]] = None


class WantedFile(Section):
    """What one rule must say about one container."""

    verdict: Maybe[Verdict] = None
    why: Maybe[OneOrMore[Text]] = None
    held_by: Maybe[Text] = None
    missing: Maybe[MissingName] = None
    for_: Maybe[Duration] = Field(None, alias="for")
    due: Maybe[Due] = None
    actions: Maybe[list[ActionName]] = None
    disposition: Maybe[Disposition] = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise refuse("empty", "expects nothing: name at least a verdict")
        return self


def _shape(value: Any) -> str:
    return "in_full" if isinstance(value, dict) else "a_word"


# The tags end up in error locations, so they must not be keys that can stand there.
Expected = Annotated[Annotated[Verdict, Tag("a_word")] | Annotated[WantedFile, Tag("in_full")], Discriminator(_shape)]
ExpectedRules = Annotated[
    Annotated[str, _one_of(NO_MATCH), Tag("a_word")]
    | Annotated[dict[Text, Expected], Field(min_length=1), Tag("in_full")],
    Discriminator(_shape),
]
GpuNames = Annotated[
    Annotated[list[Name], Tag("a_word")] | Annotated[dict[Name, Annotated[int, Field(ge=0, le=7)]], Tag("in_full")],
    Discriminator(_shape),
]


class CaseFile(Section):
    """One test."""

    case: Text
    at: Maybe[Time] = None
    host: Maybe[Text] = None
    mode: Maybe[ModeName] = None
    source: Maybe[Literal["prometheus", "local"]] = None
    every: Maybe[Annotated[Duration, between(_INSTANT, _HOUR)]] = None
    gpus: Maybe[GpuNames] = None
    down: Items[Text] = Field(default_factory=list)
    frozen: Items[Name] = Field(default_factory=list)
    history: Maybe[HistoryFile] = None
    given: Maybe[GivenFile] = None
    containers: Annotated[dict[Name, ContainerFile], Field(min_length=1)]
    expect: Annotated[dict[Name, ExpectedRules], Field(min_length=1)]
    plan: Maybe[dict[Text, Disposition]] = None
    problems: Items[Text] = Field(default_factory=list)


class CasesFile(Section):
    """A file of tests of rules."""

    version: Literal[1] = 1
    given: Maybe[GivenFile] = None
    cases: Annotated[list[CaseFile], Field(min_length=1)]


def wanted(file: CaseFile) -> dict[str, dict[str, Wanted] | None]:
    """Convert what a test expects."""
    return {
        container: None if isinstance(rules, str) else {rule: _wanted(each) for rule, each in rules.items()}
        for container, rules in file.expect.items()
    }


def _wanted(file: str | WantedFile) -> Wanted:
    if isinstance(file, str):
        return Wanted(file)
    return Wanted(
        verdict=file.verdict,
        why=tuple(file.why or ()),
        held_by=file.held_by,
        missing=file.missing,
        for_=file.for_,
        due=file.due,
        actions=None if file.actions is None else tuple(file.actions),
        disposition=file.disposition,
    )
