"""Kleene's three-valued truth: what is unknown stays unknown, and only TRUE acts.

Owns the connectives. Must not know what is being asked.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Truth(Enum):
    """TRUE, FALSE, or UNKNOWN; `None` stands for UNKNOWN in JSON."""

    TRUE = True
    FALSE = False
    UNKNOWN = None

    def __bool__(self) -> bool:
        """Refuse to be used as a plain boolean: that would turn UNKNOWN into an answer."""
        message = "a Truth is not a bool: compare with Truth.TRUE"
        raise TypeError(message)


def truth_of(known: bool) -> Truth:  # noqa: FBT001  the whole meaning of the call is this boolean
    """Lift a plain boolean."""
    return Truth.TRUE if known else Truth.FALSE


def not_(term: Truth) -> Truth:
    """Negate; `not UNKNOWN` is UNKNOWN."""
    if term is Truth.UNKNOWN:
        return Truth.UNKNOWN
    return Truth.FALSE if term is Truth.TRUE else Truth.TRUE


def all_(terms: Iterable[Truth]) -> Truth:
    """Conjunction: one FALSE decides, else one UNKNOWN does. No terms at all proves nothing: UNKNOWN."""
    seen = list(terms)
    if Truth.FALSE in seen:
        return Truth.FALSE
    if Truth.UNKNOWN in seen or not seen:
        return Truth.UNKNOWN
    return Truth.TRUE


def any_(terms: Iterable[Truth]) -> Truth:
    """Disjunction: one TRUE decides, else one UNKNOWN does. No terms at all proves nothing: UNKNOWN."""
    seen = list(terms)
    if Truth.TRUE in seen:
        return Truth.TRUE
    if Truth.UNKNOWN in seen or not seen:
        return Truth.UNKNOWN
    return Truth.FALSE
