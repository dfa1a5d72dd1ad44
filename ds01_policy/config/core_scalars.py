"""Scalars of YAML 1.2's core schema, and characters that nobody sees.

Owns what a plain word means: `on`, `22:30` and dates are text, `010` is ten. Infinity and NaN mean nothing in a policy.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None
Flaw = tuple[str, str]  # slug and message

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULLS = frozenset({"null", "Null", "NULL", "~"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_MAX_DIGITS = 18  # more is a typing error, and slow to convert

# Control, bidirectional and zero-width characters, and line breaks that editors don't count as such.
_UNSEEN = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff\ud800-\udfff"
HIDDEN_IN_FILE = re.compile(f"[{_UNSEEN}]|\r(?!\n)")
HIDDEN_IN_VALUE = re.compile(f"[{_UNSEEN}\r]")  # a quoted value can spell them out


def hidden(character: str) -> Flaw:
    """Say which character it is: it can't be seen."""
    return "hidden_character", f"a character that nobody sees (U+{ord(character[0]):04X}): leave it out"


def quoted(text: str) -> tuple[Scalar, Flaw | None]:
    """Read a quoted or block scalar: always text."""
    found = HIDDEN_IN_VALUE.search(text)
    return (None, hidden(found[0])) if found else (text, None)


def plain(text: str, *, hexadecimal: bool = True) -> tuple[Scalar, Flaw | None]:
    """Read a plain scalar: null, a boolean, a number, else the text itself; nothing at all is None.

    Without `hexadecimal`, `0x60` is text: in tests of rules it means sixty minutes of zero.
    """
    if not hexadecimal and _HEX.fullmatch(text):
        return text, None
    if text in _BOOLS or text == "":
        return _BOOLS.get(text), None
    if text in _NULLS:
        message = "null says nothing: write `never` to switch it off, or leave the key out to keep its default"
        return None, ("null", message)
    if _NOT_FINITE.fullmatch(text):
        return None, ("number", f"{text} is no number that can be used here")
    if not _FLOAT.fullmatch(text) and not _INT.fullmatch(text):
        return text, None
    return _number(text)


def _number(text: str) -> tuple[Scalar, Flaw | None]:
    if _INT.fullmatch(text) and len(text) <= _MAX_DIGITS:
        return int(text, 0 if text[:2] in ("0o", "0x") else 10), None
    number = math.inf if _INT.fullmatch(text) else float(text)
    if math.isinf(number):
        return None, ("number", f"{text[:40]} is too large for a number; put quotes around it if it is text")
    return number, None
