"""What the files define, read from their raw values, so that one broken file does not hide what is wrong in another.

Owns the gathering, and the checks that span files of one kind (rule ids). Trusts no shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.config.limits_file import ENGINE, KNOWN, MAX_GPUS
from ds01_policy.config.scalars import Names
from ds01_policy.units import Unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ds01_policy.config.yaml_strict import Document, Path


def gather(documents: Mapping[str, Document], rules: Sequence[Document]) -> Names:
    """Collect the names that other files may refer to."""
    signals, limits = documents["signals"], documents["limits"]
    return Names(
        signals=_signals(signals) if signals.readable else None,
        limits=frozenset((_keys(limits, "defaults") | set(ENGINE)) - {MAX_GPUS}) if limits.readable else None,
        groups=frozenset(_keys(limits, "groups")) if limits.readable else None,
        rules=frozenset(str(found) for _, _, found in rule_ids(rules)) if _all_readable(rules) else None,
    )


def known_limits(rules: Sequence[Document]) -> frozenset[str] | None:
    """Collect the limits that mean something: the engine's, and those rules name. None: a rule file is unreadable."""
    if not _all_readable(rules):
        return None
    asked = {document.get(*path, "for", "limit") for document, path in _rules(rules)}
    return KNOWN | {name for name in asked if isinstance(name, str)}


def duplicate_rules(rules: Sequence[Document]) -> None:
    """Report each rule id that was given before, in whichever file."""
    first: dict[str, str] = {}
    for document, path, found in rule_ids(rules):
        line, col = document.at(path)
        before = first.setdefault(found, f"{document.file}:{line}:{col}")
        if before != f"{document.file}:{line}:{col}":
            document.report("duplicate_rule", (line, col), f"a second rule {found!r}; the first is at {before}")


def rule_ids(rules: Sequence[Document]) -> Iterator[tuple[Document, Path, str]]:
    """Yield every rule id and where it stands."""
    for document, path in _rules(rules):
        found = document.get(*path, "id")
        if isinstance(found, str):
            yield document, (*path, "id"), found


def _rules(rules: Sequence[Document]) -> Iterator[tuple[Document, Path]]:
    for document in rules:
        entries = document.get("rules")
        for index in range(len(entries)) if isinstance(entries, list) else ():
            yield document, ("rules", index)


def _signals(document: Document) -> dict[str, Unit | None]:
    units = {unit.value: unit for unit in Unit}
    found = {name: document.get("signals", name, "unit") for name in sorted(_keys(document, "signals"))}
    return {name: units.get(unit) if isinstance(unit, str) else None for name, unit in found.items()}


def _keys(document: Document, *path: str) -> set[str]:
    found = document.get(*path)
    return set(found) if isinstance(found, dict) else set()


def _all_readable(documents: Sequence[Document]) -> bool:
    return all(document.readable for document in documents)
