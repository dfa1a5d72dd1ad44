"""PURE: which source answered what in one tick, counted for people and for metrics.

Owns the counting and the words. A container counts once for each signal, under the weakest answer that it got.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.logic import Truth
from ds01_policy.model import Kind, Missing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ds01_policy.model import Evidence, Verdict

BEST = "prometheus"


@dataclass(frozen=True, slots=True)
class Answered:
    """Who answered one signal for some containers. `source` None: nobody."""

    signal: str
    label: str
    source: str | None
    missing: Missing | None  # of what nobody answers: why; else: what kept a better source from it
    containers: frozenset[str]  # ids

    @property
    def plainly(self) -> bool:
        """Whether it is as it should be, and needs no words."""
        return self.source == BEST and self.missing is None


def answered(verdicts: Iterable[Verdict]) -> list[Answered]:
    """Count containers by signal and by who answered it, nobody first, the best source last."""
    weakest: dict[tuple[str, str], Evidence] = {}
    for verdict in verdicts:
        for signal, pieces in _by_signal(verdict).items():
            key = (signal, verdict.container.id)
            weakest[key] = min([*pieces, *([weakest[key]] if key in weakest else [])], key=_rank)
    found: dict[tuple[int, str, str, str | None, Missing | None], set[str]] = {}
    for (signal, container), piece in weakest.items():
        rank = _rank(piece)
        source, missing = (None, piece.reading.missing) if rank == 0 else (piece.reading.source, _lack(piece))
        found.setdefault((rank, signal, piece.label, source, missing), set()).add(container)
    ordered = sorted(found.items(), key=lambda item: item[0][0])
    return [
        Answered(signal, label, source, missing, frozenset(containers))
        for (_, signal, label, source, missing), containers in ordered
    ]


def _by_signal(verdict: Verdict) -> dict[str, list[Evidence]]:
    """Sort the clauses by signal. Where the verdict needed no more, what was answered counts and the rest does not."""
    found: dict[str, list[Evidence]] = {}
    for piece in verdict.evidence:
        found.setdefault(piece.reading.signal, []).append(piece)
    if Kind.UNKNOWN in (verdict.kind, verdict.beneath):
        return found
    return {signal: [one for one in pieces if _rank(one)] or pieces for signal, pieces in found.items()}


def _lack(piece: Evidence) -> Missing | None:
    """Tell what kept the best source from answering a clause that another one answers; None: nothing, or it did."""
    return None if piece.passed_over is None else piece.passed_over.missing


def _rank(piece: Evidence) -> int:
    """Order answers, the weakest first. What was measured whole and lies too near the threshold is an answer too."""
    if piece.truth is Truth.UNKNOWN and piece.reading.missing is not None:
        return 0
    return 2 if piece.reading.source == BEST else 1


def in_words(told: list[Answered]) -> str:
    """Say it in one line; empty: nothing was asked.

    `readings: all from prometheus`, or `readings: cpu, network of 2 containers from local samples (prometheus:
    no_series), gpu of 1 unanswered (stale), the others from prometheus`.
    """
    if not told:
        return ""
    rest = [each for each in told if each.plainly]
    groups: dict[tuple[str | None, Missing | None], dict[frozenset[str], list[str]]] = {}
    for each in told:
        if not each.plainly:
            groups.setdefault((each.source, each.missing), {}).setdefault(each.containers, []).append(each.label)
    if not groups:
        return f"readings: all from {BEST}"
    if not rest and len(groups) == 1:
        ((source, missing),) = groups
        return f"readings: all {_by(source, missing)}"
    parts: list[str] = []
    for (source, missing), by_containers in groups.items():
        about = ", ".join(
            f"{', '.join(labels)} of {len(containers)}{_noun(containers, first=not parts and not number)}"
            for number, (containers, labels) in enumerate(by_containers.items())
        )
        parts.append(f"{about} {_by(source, missing)}")
    return "readings: " + "; ".join([*parts, *([f"the others from {BEST}"] if rest else [])])


def _noun(containers: frozenset[str], *, first: bool) -> str:
    """Say once what is counted."""
    return "" if not first else " container" if len(containers) == 1 else " containers"


def _by(source: str | None, missing: Missing | None) -> str:
    if source is None:
        return f"unanswered ({missing})"
    name = "local samples" if source == "local" else source
    return f"from {name}" + (f" ({BEST}: {missing})" if missing is not None else "")
