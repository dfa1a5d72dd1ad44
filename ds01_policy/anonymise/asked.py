"""What the policy asks by name: labels, patterns, literals of queries; and what stands there instead.

Owns that a recording and its policy are changed alike: a pattern becomes the list of what it means on this host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ds01_policy.anonymise.names import HOST, Names, fitting
from ds01_policy.config.files import shipped
from ds01_policy.config.yaml_strict import parse
from ds01_policy.images import image_fits, image_meant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NOBODY = "nothing-here"  # what a pattern becomes that means nothing on this host
_LITERAL = re.compile(r"""("|'|`)((?:[^\\]|\\.)*?)\1""", re.DOTALL)
_TEMPLATE = re.compile(r"\{\{.*?\}\}")
# What this project itself puts between the quotes of a query.
_OURS = re.compile(r"(ds01_ago|ds01_part|value|time|none|[0-9.]*|\(\?:\.\*\[/:-\]\)\?.*)\Z", re.DOTALL)
_HEX = re.compile(r"[0-9a-f]{12,64}\Z")
# Values that say what a container is, not whose.
_PUBLIC_VALUES = frozenset({"", "true", "false", "devcontainer", "compose", "native", "docker", "unknown"})


@dataclass(frozen=True, slots=True)
class Facts:
    """One container, as far as patterns can mean it."""

    id: str
    name: str
    image: str
    labels: Mapping[str, str]


@dataclass(slots=True)
class Asked:
    """How names are asked for on one host."""

    names: Names
    facts: tuple[Facts, ...]
    owner_labels: frozenset[str] = frozenset()  # their value is a user
    home_labels: frozenset[str] = frozenset()  # their value is a path below a home
    other_labels: frozenset[str] = frozenset()
    homes: tuple[str, ...] = ()
    literals: frozenset[str] = frozenset()  # of queries: say nothing about this host

    # ── labels ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def labels(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the labels that the policy asks about."""
        asked = self.owner_labels | self.home_labels | self.other_labels
        return {key: self.value(key, text) for key, text in labels.items() if key in asked}

    def value(self, key: str, value: Any) -> Any:
        """Replace one label's value."""
        if not isinstance(value, str):
            return value
        if key in self.owner_labels:
            return self.names.user(value)
        if key in self.home_labels:
            return self.names.path(value, self.homes)
        return value if value in _PUBLIC_VALUES else self.names.values.of(value)

    # ── selectors ────────────────────────────────────────────────────────────────────────────────────────────────────

    def selector(self, kind: str, value: Any) -> Any:
        """Replace a selector as people write it: a value, a list, or {not: …}."""
        if isinstance(value, dict):
            return {key: self.selector(kind, inner) for key, inner in value.items()}
        listed = [value] if not isinstance(value, list) else value
        if kind in ("state", "type", "gpu") or "*" in listed:
            return value
        found = [one for each in listed for one in self._means(kind, str(each))]
        return list(dict.fromkeys(found)) or [NOBODY]

    def _means(self, kind: str, pattern: str) -> Iterable[str]:
        names = self.names
        if kind in ("owner", "user"):
            return [names.user(each) for each in fitting(pattern, names.users.known)]
        if kind == "group":
            return [names.groups.of(each) for each in fitting(pattern, names.groups.known)]
        if kind in ("name", "container"):
            return self._containers(pattern)
        if kind == "image":
            return [names.images.of(each) for each in sorted(names.images.known) if image_meant(each, pattern)]
        if kind == "host":
            return [HOST] if fnmatchcase(names.host, pattern) else []
        return self._labelled(pattern)

    def _containers(self, pattern: str) -> list[str]:
        """Mean containers by name or id; the beginning of an id stays one."""
        if _HEX.match(pattern):
            return [self.names.marks(pattern)]
        meant = {one.name for one in self.facts if fnmatchcase(one.name, pattern) or fnmatchcase(one.id, pattern)}
        return [self.names.container(name) for name in sorted(meant)]

    def _labelled(self, pattern: str) -> list[str]:
        key, has_value, wanted = pattern.partition("=")
        if not has_value:
            return [key]
        there = {str(one.labels[key]) for one in self.facts if key in one.labels}
        return [f"{key}={self.value(key, each)}" for each in fitting(wanted, there)]

    def trusted_images(self, patterns: Iterable[str]) -> list[str]:
        """List the images that are trusted by themselves."""
        known = self.names.images.known
        return [known[image] for image in sorted(known) if any(image_fits(image, pattern) for pattern in patterns)]

    # ── queries ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def query(self, promql: str) -> str:
        """Replace what stands between the quotes of a query, or of the template it comes from."""
        return _LITERAL.sub(lambda found: f"{found[1]}{self._literal(found[2])}{found[1]}", promql)

    def _literal(self, text: str) -> str:
        if _TEMPLATE.search(text) or text in self.literals or _OURS.match(text):
            return self.names.marks(text)
        marked = self.names.marks(text)
        return marked if marked != text else self.names.values.of(text)


def shipped_literals() -> frozenset[str]:
    """List what stands between quotes in the shipped queries."""
    path = shipped()[0] / "signals.yaml"
    signals = parse(path.read_bytes(), path.name).get("signals")
    templates = [
        str(each.get(key, ""))
        for signal in signals.values()
        for each in (*signal["queries"], signal.get("frozen", {}))
        for key in ("expr", "time", "changes")
    ]
    found = (literal for text in templates for _, literal in _LITERAL.findall(text))
    return frozenset(literal for literal in found if not _TEMPLATE.search(literal))
