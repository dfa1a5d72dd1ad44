"""Conditions over signals: each clause against its reading, joined by Kleene's logic.

Owns the comparators and how a clause reads in words. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ds01_policy.logic import Truth, all_, any_, not_
from ds01_policy.model import Evidence, Missing
from ds01_policy.rules import AllOf, AnyOf, Clause, NotOf
from ds01_policy.units import format_quantity
from ds01_policy.witnesses import heard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from ds01_policy.model import Container, Reading, Snapshot
    from ds01_policy.rules import Condition
    from ds01_policy.signals import Signal

Pieces = tuple[Evidence, ...]


def ask(
    condition: Condition | None,
    signals: Mapping[str, Signal],
    snapshot: Snapshot,
    container: Container,
    window: timedelta,
) -> tuple[Truth | None, Pieces]:
    """Ask a condition over one window. None: no clause of it applies to this container."""
    match condition:
        case None:
            return None, ()
        case Clause():
            signal = signals[condition.signal]
            if not signal.applies(container):
                return None, ()
            reading = heard(signal, signals, snapshot.answers, container, window, snapshot.at)
            truth = compare(reading, condition.comparator, condition.threshold)
            reading = _spoken(reading, condition, truth)
            if truth is not Truth.UNKNOWN and reading.missing is Missing.CONFLICT:
                # What sources contradict each other in is not what was asked: on that they agree.
                reading = replace(reading, missing=None, detail="", sides=())
            return truth, (Evidence(reading, condition.comparator, condition.threshold, truth, signal.label),)
        case NotOf(part=part):
            truth_of_part, pieces = ask(part, signals, snapshot, container, window)
            return (None if truth_of_part is None else not_(truth_of_part)), pieces
        case AllOf(parts=parts) | AnyOf(parts=parts):
            answers = [ask(part, signals, snapshot, container, window) for part in parts]
            truths = [truth for truth, _ in answers if truth is not None]
            pieces = tuple(piece for _, some in answers for piece in some)
            join = all_ if isinstance(condition, AllOf) else any_
            return (join(truths) if truths else None), pieces


def compare(reading: Reading, comparator: str, threshold: float) -> Truth:
    """Compare an interval with a threshold: TRUE or FALSE only where every value in it agrees.

    No sample at all answers nothing, not even a question that any value would answer (`below: 101%`), nor does a lone
    look that covers no time and leaves everything open.

    Raises:
        KeyError: for an unknown comparator; rules are checked at load.

    """
    if reading.value is None or (not reading.coverage and not reading.low):
        return Truth.UNKNOWN
    low, high = reading.low, reading.high
    certainly, never = {
        "below": (high < threshold, low >= threshold),
        "at_most": (high <= threshold, low > threshold),
        "above": (low > threshold, high <= threshold),
        "at_least": (low >= threshold, high < threshold),
        "is": (low == high == threshold, threshold < low or threshold > high),
    }[comparator]
    return Truth.TRUE if certainly else Truth.FALSE if never else Truth.UNKNOWN


def _spoken(reading: Reading, clause: Clause, truth: Truth) -> Reading:
    """Name the source whose word alone answers the clause, and show what it measured: not always the best covered one.

    One busy look of this host refutes what an hour of Prometheus with a hole in it leaves open.
    """
    if truth is Truth.UNKNOWN:
        return reading
    answers = (part for part in reading.parts if compare(part, clause.comparator, clause.threshold) is truth)
    who = next(answers, None)
    if who is None or who.source == reading.source:
        return reading
    return replace(who, parts=reading.parts)


def leaves(evidence: Iterable[Evidence], truth: Truth) -> list[Evidence]:
    """Pick the clauses that came out so."""
    return [piece for piece in evidence if piece.truth is truth]


SIGNS = {"below": "<", "above": ">", "at_most": "≤", "at_least": "≥", "is": "="}
OPPOSITES = {"below": "≥", "above": "≤", "at_most": ">", "at_least": "<", "is": "≠"}


def phrase(evidence: Iterable[Evidence], signals: Mapping[str, Signal]) -> str:
    """Say clauses in words: `gpu 0.3% < 5%, cpu 0.1% < 1%`; a refuted one with the sign that holds."""
    texts = []
    for piece in evidence:
        unit = signals[piece.reading.signal].unit
        sign = (OPPOSITES if piece.truth is Truth.FALSE else SIGNS)[piece.comparator]
        value = piece.reading.value
        if piece.truth is Truth.FALSE and sign == "≥" and value is not None and value < piece.threshold:
            value = piece.reading.low  # the bound is what refutes, where the mean alone would read as the contrary
        texts.append(f"{piece.label} {format_quantity(value, unit)} {sign} {format_quantity(piece.threshold, unit)}")
    return ", ".join(dict.fromkeys(texts))
