"""A policy together with the documents it came from, for what is said about places in them.

Owns Loaded, and how a warning is made. Judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from ds01_policy.config.names import rule_ids
from ds01_policy.config.problems import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ds01_policy.config.files import Tree
    from ds01_policy.config.yaml_strict import Document, Path
    from ds01_policy.policy import Policy
    from ds01_policy.rules import Rule


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy, and the documents it came from."""

    policy: Policy
    documents: Mapping[str, Document]  # by kind
    rules: tuple[Document, ...]
    tree: Tree
    folders: tuple[PurePath, ...] = ()  # of rules

    def placed(self) -> Iterator[tuple[Rule, Document, Path]]:
        """Yield every rule with the place where it stands."""
        for rule, (document, path, _) in zip(self.policy.rules, rule_ids(self.rules), strict=True):
            yield rule, document, path[:-1]


def warning(slug: str, document: Document, path: Path, message: str, suggestion: str = "") -> Finding:
    """Make a finding that keeps no policy from running, at the place of a key."""
    return Finding(slug, document.file, *document.at_key(path), message, suggestion, "warning")


def note(slug: str, document: Document, path: Path, message: str) -> Finding:
    """Make a finding that is named, and no reason for `check` to fail."""
    return Finding(slug, document.file, *document.at_key(path), message, severity="note")
