"""A strict reader of Prometheus' text format: what it takes, any scraper takes."""

from __future__ import annotations

import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (NaN|[+-]Inf|-?[0-9.]+(?:e[+-]?[0-9]+)?)")
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

Labels = tuple[tuple[str, str], ...]
Read = dict[str, dict[Labels, float]]


def read(told: str) -> Read:
    """Read metrics: name → labels → value. Raises AssertionError for what a scraper may refuse.

    Each family: HELP, TYPE, then its samples, all in one place; no series twice; counters end in `_total`.
    """
    assert told == "" or told.endswith("\n")
    found: Read = {}
    family, kind = "", ""
    for line in told.split("\n")[:-1]:
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert re.fullmatch(_NAME, family), line
            assert family not in found, f"{family} twice"
            found[family] = {}
            kind = ""
            meaning = line.split(" ", 3)[3]
            assert re.fullmatch(r"(?:[^\\\n]|\\\\|\\n)+", meaning), line
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family, line
            assert kind in ("gauge", "counter")
            assert (kind == "counter") == name.endswith("_total"), line
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1] == family, line
            assert kind, line
            labels = _labels(sample[2] or "")
            assert labels not in found[family], f"twice: {line}"
            found[family][labels] = float(sample[3])
    return found


def _labels(text: str) -> Labels:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        label = _LABEL.match(text, at)
        assert label, text[at:]
        assert label[1] not in found
        found[label[1]] = re.sub(r'\\[\\"n]', lambda escape: _ESCAPES[escape[0]], label[2])
        at = label.end()
    return tuple(sorted((name, value) for name, value in found.items() if value))  # to Prometheus "" is no label
