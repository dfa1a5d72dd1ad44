"""What `check` says about single clauses: thresholds out of reach, and thresholds inside the noise.

Owns these warnings, and how large the noise of each unit is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.config.loaded import warning
from ds01_policy.rules import AllOf, AnyOf, Clause, NotOf
from ds01_policy.units import Unit, format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_policy.config.loaded import Loaded
    from ds01_policy.config.problems import Finding
    from ds01_policy.config.yaml_strict import Path
    from ds01_policy.rules import Condition
    from ds01_policy.signals import Signal

# What a container at rest measures, as a mean over minutes: a driver that is polled for its counters, shells, the
# heartbeats of editors and notebooks, address resolution. Bytes and counts have no such floor.
NOISE = {Unit.RATIO: 0.005, Unit.CORES: 0.001, Unit.BYTES_PER_S: 100.0, Unit.WATTS: 1.0}


def clauses(loaded: Loaded) -> Iterator[Finding]:
    """Yield thresholds that do not divide idle from busy."""
    for rule, document, place in loaded.placed():
        for clause, path in clauses_of(rule.when, (*place, "when")):
            signal = loaded.policy.signals[clause.signal]
            truth, key = always(clause, signal), (*path, clause.comparator)
            noise = NOISE.get(signal.unit, 0.0)
            if truth is not None:
                highest = "" if signal.ceiling is None else f" to {format_quantity(signal.ceiling, signal.unit)}"
                message = f"is {'always' if truth else 'never'} true: {clause.signal} goes from 0{highest}"
                yield warning("out_of_reach", document, key, message)
            elif clause.threshold < noise:
                message = (
                    f"{format_quantity(clause.threshold, signal.unit)} is less than what {clause.signal} shows at rest"
                )
                yield warning("threshold_in_noise", document, key, f"{message}, {format_quantity(noise, signal.unit)}")


def always(clause: Clause, signal: Signal) -> bool | None:
    """Whether a clause is true, or false, of every reading. None: it depends on the reading."""
    threshold = clause.threshold
    highest = float("inf") if signal.ceiling is None else signal.ceiling
    yes, no = {
        "below": (threshold > highest, threshold <= 0),
        "at_most": (threshold >= highest, threshold < 0),
        "above": (threshold < 0, threshold >= highest),
        "at_least": (threshold <= 0, threshold > highest),
        "is": (False, not 0 <= threshold <= highest),
    }[clause.comparator]
    return True if yes else False if no else None


def clauses_of(condition: Condition | None, path: Path) -> Iterator[tuple[Clause, Path]]:
    """Yield every clause with the place where it stands."""
    match condition:
        case Clause():
            yield condition, path
        case NotOf(part=part):
            yield from clauses_of(part, (*path, "not"))
        case AllOf(parts=parts) | AnyOf(parts=parts):
            key = "all" if isinstance(condition, AllOf) else "any"
            for index, part in enumerate(parts):
                yield from clauses_of(part, (*path, key, index))
