"""PURE: what has been counted over all runs, as counters.

Owns their names. What counts is decided in ds01_policy/stops.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.metrics.exposition import Family, by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ds01_policy.model import Totals


def counters(totals: Totals | None, rules: Iterable[str]) -> dict[str, Family]:
    """Tell the totals of each rule; None (the ledger does not say): nothing, for 0 would be a lie.

    Every rule there is begins at 0: Prometheus sees no increase in a counter's first value.
    """
    if totals is None:
        return {}
    known = tuple(rules)
    return {
        "ds01_policy_stops_total": _counter("Running containers that were stopped.", totals.stops, known),
        "ds01_policy_regrets_total": _counter(
            "Stops after which the owner started a GPU container again within the hour.", totals.regrets, known
        ),
        "ds01_policy_gpu_seconds_reclaimed_total": _counter(
            "GPU-seconds since a stop, 24 hours of each at most, in which its owner did not have that GPU again.",
            totals.gpu_seconds,
            known,
        ),
    }


def _counter(meaning: str, sums: Mapping[str, float], rules: tuple[str, ...]) -> Family:
    counts: dict[tuple[str, ...], float] = {(rule,): 0.0 for rule in rules}
    counts |= {(rule,): number for rule, number in sums.items()}
    return Family(meaning, by(("rule",), counts), "counter")
