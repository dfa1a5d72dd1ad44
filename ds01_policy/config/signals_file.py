"""signals.yaml: named PromQL templates, their unit, what they are joined by and where they mean nothing.

Owns the shape people write. Sends no query; templates.py checks the templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from ds01_policy import signals
from ds01_policy.config.problems import closest
from ds01_policy.config.scalars import (
    Duration,
    Items,
    Maybe,
    Number,
    Section,
    Text,
    Word,
    between,
    fields_as,
    names_of,
    pattern,
    refuse,
)
from ds01_policy.units import Unit, parse_quantity

_INF = float("inf")
# What this host measures itself: unit, kind and join of each.
_LOCAL = {
    "gpu": ("ratio", "gauge", "gpu"),
    "cpu": ("cores", "counter", "container"),
    "network": ("bytes_per_s", "counter", "container"),
}


def _positive(value: float) -> float:
    if value <= 0:
        raise refuse("out_of_range", f"{value:g} is not above 0")
    return value


Label = Annotated[Text, pattern(r"[a-zA-Z_][a-zA-Z0-9_]*", "bad_name", "is not a Prometheus label name")]
SignalName = Annotated[
    Text, pattern(r"[a-z][a-z0-9_]{0,63}", "bad_name", "is not a name: small letters, digits and `_`")
]
Template = Annotated[str, Field(min_length=1, max_length=10_000)]


class QueryFile(Section):
    """One PromQL template."""

    expr: Template
    time: Maybe[Template] = None
    devices: Maybe[Literal["whole", "instance", "parent"]] = None
    scale: Annotated[Number, AfterValidator(_positive)] = 1.0
    min: Number = 0.0
    max: Number = _INF
    uuid_label: Label = "UUID"
    instance_label: Label = "GPU_I_ID"
    id_label: Label = "id"

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.min >= self.max:
            raise refuse("out_of_range", "max must be above min", "max")
        return self


def _known(value: str, info: ValidationInfo) -> str:
    known = names_of(info).signals
    if known is not None and value not in known:
        message = f"unknown signal {value!r}; there are {', '.join(known)}"
        raise refuse("unknown_signal", message, suggestion=closest(value, known))
    return value


class WitnessFile(Section):
    """Another signal that must not contradict this one: the same in the same unit, or more than an idle GPU can do."""

    signal: Annotated[SignalName, AfterValidator(_known)]
    above: Maybe[Text] = None
    explained_by: Maybe[Text] = None

    @field_validator("above")
    @classmethod
    def _in_the_witness_unit(cls, value: str | None, info: ValidationInfo) -> str | None:
        unit = (names_of(info).signals or {}).get(info.data.get("signal", ""))
        if value is not None and unit is not None:
            quantity(value, unit)
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.above is None) != (self.explained_by is None):
            raise refuse("missing_key", "`above` and `explained_by` stand together, or not at all")
        return self


class FrozenFile(Section):
    """How an exporter is found out that repeats old values with fresh times."""

    changes: Template
    after: Annotated[Duration, between(timedelta(minutes=1), timedelta(days=1))] = timedelta(minutes=15)
    counter: Maybe[Annotated[SignalName, AfterValidator(_known)]] = None
    uuid_label: Label = "UUID"


class SignalFile(Section):
    """One named metric."""

    summary: Text = ""
    label: Word
    unit: Literal["ratio", "cores", "bytes", "bytes_per_s", "watts", "count"]
    kind: Literal["gauge", "counter"]
    join: Literal["gpu", "container"]
    ceiling: Maybe[Text] = None
    lag: Annotated[Duration, between(timedelta(0), timedelta(hours=1))] = timedelta(0)
    not_on_network: Items[Text] = Field(default_factory=list)
    fallback: Maybe[Literal["gpu", "cpu", "network"]] = None
    witnesses: Items[WitnessFile] = Field(default_factory=list)
    frozen: Maybe[FrozenFile] = None
    queries: Annotated[list[QueryFile], Field(min_length=1)]

    @field_validator("ceiling")
    @classmethod
    def _in_its_unit(cls, value: str | None, info: ValidationInfo) -> str | None:
        unit = info.data.get("unit")
        if value is not None and unit is not None:
            highest = quantity(value, Unit(unit))
            if not 0 < highest < _INF:
                raise refuse("out_of_range", f"{value!r} is not above 0")
        return value

    @field_validator("fallback")
    @classmethod
    def _measures_the_same(cls, value: str | None, info: ValidationInfo) -> str | None:
        about = tuple(info.data.get(key) for key in ("unit", "kind", "join"))
        if value is not None and None not in about and about != _LOCAL[value]:
            unit, kind, join = _LOCAL[value]
            raise refuse("bad_fallback", f"{value} is a {kind} in {unit}, joined by {join}: not what this signal is")
        return value

    @field_validator("witnesses")
    @classmethod
    def _comparable(cls, value: list[WitnessFile], info: ValidationInfo) -> list[WitnessFile]:
        unit = Unit(info.data["unit"]) if "unit" in info.data else None
        for index, witness in enumerate(value):
            its = (names_of(info).signals or {}).get(witness.signal)
            if witness.explained_by is not None and unit is not None:
                quantity(witness.explained_by, unit, index, "explained_by")
            if witness.above is None and None not in (unit, its) and its is not unit:
                text = f"{witness.signal} is in {its}, not in {unit}: say `above` what it contradicts"
                raise refuse("bad_witness", text, index, "signal")
        return value

    @field_validator("frozen")
    @classmethod
    def _of_gpus(cls, value: FrozenFile | None, info: ValidationInfo) -> FrozenFile | None:
        if value is not None and info.data.get("join") == "container":
            raise refuse("bad_frozen", "is told by GPU: it is for signals joined by gpu")
        return value

    @field_validator("queries")
    @classmethod
    def _fit(cls, value: list[QueryFile], info: ValidationInfo) -> list[QueryFile]:
        kind, join = info.data.get("kind"), info.data.get("join")
        for index, query in enumerate(value):
            if kind == "counter" and query.time is None:
                raise refuse("missing_key", "a counter needs `time`: the sample times of what `expr` answers", index)
            if kind == "gauge" and query.time is not None:
                raise refuse("unknown_key", "`time` is for counters; a gauge's samples carry theirs", index, "time")
            if join == "gpu" and query.devices is None:
                raise refuse("missing_key", "joined by gpu, so it needs `devices`: whole, instance or parent", index)
            if join == "container" and query.devices is not None:
                raise refuse("unknown_key", "`devices` is for signals joined by gpu", index, "devices")
        return value

    @field_validator("queries")
    @classmethod
    def _bounded(cls, value: list[QueryFile], info: ValidationInfo) -> list[QueryFile]:
        if info.data.get("kind") == "gauge" and "ceiling" in info.data and info.data["ceiling"] is None:
            raise refuse("missing_key", "a gauge needs a `ceiling`: what a missing sample could have been")
        return value


def quantity(text: str, unit: Unit, *at: str | int) -> float:
    """Read an amount in a unit, as a validator."""
    try:
        return parse_quantity(text, unit)
    except ValueError as error:
        raise refuse("bad_threshold", str(error), *at) from None


class SignalsFile(Section):
    """signals.yaml."""

    version: Literal[1] = 1
    signals: Annotated[dict[SignalName, SignalFile], Field(min_length=1)]

    @field_validator("signals")
    @classmethod
    def _about_the_same(cls, value: dict[str, SignalFile]) -> dict[str, SignalFile]:
        for name, file in value.items():
            for index, witness in enumerate(file.witnesses):
                other = value.get(witness.signal)
                if witness.signal == name:
                    raise refuse("bad_witness", "a signal is no witness of itself", name, "witnesses", index, "signal")
                if other is not None and other.join != file.join:
                    text = f"{witness.signal} is joined by {other.join}, not by {file.join}"
                    raise refuse("bad_witness", text, name, "witnesses", index, "signal")
            counter = value.get(file.frozen.counter or "") if file.frozen else None
            if counter is not None and (counter.kind, counter.join) != ("counter", "gpu"):
                raise refuse("bad_frozen", "must be a counter that is joined by gpu", name, "frozen", "counter")
        return value


def converted(files: SignalsFile) -> dict[str, signals.Signal]:
    """Convert checked signals."""
    units = {name: Unit(file.unit) for name, file in files.signals.items()}
    return {name: _signal(name, file, units) for name, file in files.signals.items()}


def _signal(name: str, file: SignalFile, units: Mapping[str, Unit]) -> signals.Signal:
    unit = units[name]
    return signals.Signal(
        name=name,
        label=file.label,
        unit=unit,
        kind=file.kind,
        join=file.join,
        queries=tuple(_query(query) for query in file.queries),
        ceiling=None if file.ceiling is None else parse_quantity(file.ceiling, unit),
        lag_s=file.lag.total_seconds(),
        not_on_network=frozenset(file.not_on_network),
        summary=file.summary,
        fallback=file.fallback,
        witnesses=tuple(_witness(witness, unit, units[witness.signal]) for witness in file.witnesses),
        frozen=fields_as(signals.Frozen, file.frozen, changes=file.frozen.changes.strip()) if file.frozen else None,
    )


def _witness(file: WitnessFile, unit: Unit, its: Unit) -> signals.Witness:
    if file.above is None or file.explained_by is None:
        return signals.Witness(file.signal)
    return signals.Witness(file.signal, parse_quantity(file.above, its), parse_quantity(file.explained_by, unit))


def _query(file: QueryFile) -> signals.Query:
    return signals.Query(
        expr=file.expr.strip(),
        time=None if file.time is None else file.time.strip(),
        devices=file.devices,
        scale=file.scale,
        minimum=file.min,
        maximum=file.max,
        uuid_label=file.uuid_label,
        instance_label=file.instance_label,
        id_label=file.id_label,
    )
