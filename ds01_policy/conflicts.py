"""PURE: which contradictions between metrics an admin should hear of, each once, however many containers it is about.

Owns the words. Which readings are contradictions is readings.py's and witnesses.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.model import Kind, Missing, Problem
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ds01_policy.model import Reading, Verdict

_NAMED = 5  # containers; the rest is a number


def conflicts(verdicts: Iterable[Verdict]) -> list[Problem]:
    """Report what left a clause open because metrics contradict each other: one problem for each pair of them."""
    found: dict[tuple[str, tuple[str, ...]], dict[str, tuple[str, Reading]]] = {}
    for verdict in verdicts:
        for piece in verdict.evidence:
            reading, container = piece.reading, verdict.container
            if reading.missing is Missing.CONFLICT and not _in_passing(verdict, reading):
                about = found.setdefault((piece.label, reading.sides), {})
                gpus = ", ".join(dict.fromkeys(ref.uuid for ref in container.gpus.refs))
                whom = f"{plain(container.name)} ({container.short})" + (f" on {gpus}" if gpus else "")
                about.setdefault(container.id, (whom, reading))
    return [_problem(label, sides, list(about.values())) for (label, sides), about in found.items()]


def _in_passing(verdict: Verdict, reading: Reading) -> bool:
    """Whether two sources of one metric differ about somebody who is not found idle anyway.

    Whoever has just begun or ended work is seen by one of them first, by looks that are minutes apart.
    """
    sources = {str(part.source) for part in reading.parts}
    return verdict.kind is Kind.CLEAR and set(reading.sides) <= sources


def _problem(label: str, sides: tuple[str, ...], about: list[tuple[str, Reading]]) -> Problem:
    names = ", ".join(whom for whom, _ in about[:_NAMED])
    if len(about) > _NAMED:
        names += f" and {len(about) - _NAMED} more"
    detail = about[0][1].detail
    example = f"for {about[0][0]} {detail}" if len(about) > 1 else detail
    what = f"{' and '.join(sides)} contradict each other" if sides else "it contradicts itself"
    advice = "compare with nvidia-smi and restart the exporter that is wrong; until then it is not found idle"
    return Problem("conflict", f"{label}: {what} about {names}: {example}; {advice}")
