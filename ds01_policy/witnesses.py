"""PURE: what other metrics say against a reading. A witness only ever makes it less certain.

Owns the weighing of witnesses. They widen an interval and never narrow it: one that is silent, or stuck at zero,
proves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ds01_policy.model import GpuRef, Missing
from ds01_policy.readings import mean, read, span_text
from ds01_policy.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from ds01_policy.model import Answer, Container, Reading
    from ds01_policy.signals import Signal, Witness


@dataclass(frozen=True, slots=True)
class _Case:
    """One claim: a signal's reading for one container."""

    signal: Signal
    container: Container
    answers: Mapping[str, tuple[Answer, ...]]
    at: datetime


def heard(
    signal: Signal,
    signals: Mapping[str, Signal],
    answers: Mapping[str, tuple[Answer, ...]],
    container: Container,
    window: timedelta,
    at: datetime,
) -> Reading:
    """Read a signal for one container from all sources together, then hear its witnesses.

    `answers` are those of all signals, by name; where a witness has none, it is silent.
    """
    reading = read(signal, answers.get(signal.name, ()), container, window, at)
    case = _Case(signal, container, answers, at)
    for witness in signal.witnesses:
        other = signals[witness.signal]
        if witness.above is None:
            reading = _the_same(case, other, reading)
        elif reading.high < witness.explained_by:
            reading = _too_much(case, witness, other, reading, witness.above)
    return reading


def _the_same(case: _Case, other: Signal, reading: Reading) -> Reading:
    """Where the intervals are disjoint, the truth may be anything between what the one and the other prove.

    A witness without samples says that all is possible, which contradicts nothing.
    """
    told = read(other, case.answers.get(other.name, ()), case.container, reading.window, case.at)
    low, high = min(reading.low, told.high), max(reading.high, told.low)
    if (low, high) == (reading.low, reading.high):
        return reading
    return _contradicted(case, other, reading, span_text(told), low, high)


def _too_much(case: _Case, witness: Witness, other: Signal, reading: Reading, bound: float) -> Reading:
    """More than an idle GPU can do, which nothing explains: the truth may be anything above what was proven."""
    ceiling = math.inf if case.signal.ceiling is None else case.signal.ceiling
    for ref in case.container.gpus.refs:
        alone = replace(case.container, gpus=replace(case.container.gpus, refs=(ref,)))
        told = read(other, case.answers.get(other.name, ()), alone, reading.window, case.at)
        if told.low <= bound or _explained(case, witness, ref, reading.window):
            continue
        whose = f" for all of {ref.uuid}" if ref.gpu_instance is not None else ""
        least, most = (format_quantity(value, other.unit) for value in (told.low, bound))
        return _contradicted(case, other, reading, f"at least {least}{whose}, above {most}", reading.low, ceiling)
    return reading


def _explained(case: _Case, witness: Witness, ref: GpuRef, window: timedelta) -> bool:
    """Whether an instance of the same GPU was at work, as far as it was measured: its own reading denies it."""
    for answer in case.answers.get(case.signal.name, ()):
        for key, samples in (*answer.series.items(), *answer.beside.items()):
            if isinstance(key, GpuRef) and key.uuid == ref.uuid and key.gpu_instance is not None:
                value = mean(case.signal, samples, answer, window, case.at).value
                if value is not None and value >= witness.explained_by:
                    return True
    return False


def _contradicted(case: _Case, other: Signal, reading: Reading, said: str, low: float, high: float) -> Reading:
    one = _speaker(case.signal, reading.source, case.container)
    another = _speaker(other, None, case.container)
    detail = f"{one} says {span_text(reading)}, {another} says {said}"
    if reading.missing is Missing.CONFLICT:
        detail = f"{reading.detail}; {detail}"
    sides = tuple(dict.fromkeys((*(reading.sides or (one,)), another)))
    return replace(reading, low=low, high=high, missing=Missing.CONFLICT, detail=detail, sides=sides)


def _speaker(signal: Signal, source: str | None, container: Container) -> str:
    """Name who says it, as an admin knows it: the metric, or this host by its own samples."""
    if source == "local":
        return "this host"
    keys = signal.keys(container)
    metrics = [query.metric for query in signal.queries if query.metric and any(query.answers(key) for key in keys)]
    return " and ".join(dict.fromkeys(metrics)) or signal.name
