"""PURE: the policy files of a site against those that ship with this version.

Owns what an admin is told after an upgrade. Changes nothing of the site's: a rule that is new must not start to act
because somebody upgraded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA = "schema/"
_RULES, _TESTS, _GROUPS = "rules/", "rules/tests/", "groups/"


@dataclass(frozen=True, slots=True)
class Difference:
    """One shipped file that the site has otherwise, or not at all."""

    name: str  # below the policy folder
    what: str


def differences(shipped: Mapping[str, bytes], own: Mapping[str, bytes]) -> Iterator[Difference]:
    """Compare by name; `own` is everything in the site's folder."""
    has_rules = any(name.startswith(_RULES) for name in own)
    if not has_rules:
        yield Difference(
            _RULES, "not there: unless settings.yaml names another, the shipped rules hold, new ones of an upgrade too"
        )
    for name in sorted(shipped):
        if name.startswith(SCHEMA) or own.get(name) == shipped[name]:
            continue
        if name in own:
            yield Difference(name, "yours is kept; it is not what ships")
        elif name.startswith(_RULES):
            # Without its rule a test says nothing, and a whole folder that is missing was said above.
            if has_rules and not name.startswith(_TESTS):
                yield Difference(name, "ships and is not there: it was not added, and does not hold")
        elif not (name.startswith(_GROUPS) and "limits.yaml" in own):  # only the shipped limits name these
            yield Difference(name, "not there: the shipped one holds")
