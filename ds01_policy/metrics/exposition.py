"""PURE: metrics in the text format that Prometheus reads (version 0.0.4).

Owns escaping, and what a label's value may look like: names of containers and of their owners are hostile text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ds01_policy.text import plain

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABEL_LIMIT = 128  # characters of a label's value; names of users and groups are shorter
Labels = tuple[tuple[str, str], ...]
Samples = Mapping[Labels, float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: all its samples. Names of metrics and labels are the program's own, and valid."""

    meaning: str  # one sentence
    samples: Samples
    kind: Literal["gauge", "counter"] = "gauge"


def by(names: tuple[str, ...], counts: Mapping[tuple[str, ...], float]) -> dict[Labels, float]:
    """Name the parts of keys: samples in the order of their labels' values."""
    return {tuple(zip(names, values, strict=True)): float(number) for values, number in sorted(counts.items())}


def text(told: Mapping[str, Family]) -> str:
    """Write metrics, by name. Of samples whose labels look the same once they are plain the first one stays."""
    lines = []
    for name, family in told.items():
        lines += [f"# HELP {name} {_help(family.meaning)}", f"# TYPE {name} {family.kind}"]
        samples: dict[str, float] = {}
        for labels, value in family.samples.items():
            samples.setdefault(_labels(labels), value)
        lines += [f"{name}{labels} {_number(value)}" for labels, value in samples.items()]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{key}="{_value(value)}"' for key, value in labels)
    return f"{{{pairs}}}" if labels else ""


def _value(value: str) -> str:
    return plain(value, LABEL_LIMIT).replace("\\", "\\\\").replace('"', '\\"')  # plain text has no newline


def _help(meaning: str) -> str:
    return meaning.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
