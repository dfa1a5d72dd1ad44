"""PURE: makes text that users wrote safe to show on a terminal, in a log line or in a message.

Owns escaping and truncation only. Does not decide where text goes, and does not quote for shells, PromQL or HTML.
"""

from __future__ import annotations

import unicodedata

# Control, format (bidi marks among them), line and paragraph separators, surrogates, private use, unassigned.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})
# Letters and marks that Unicode tells programs to draw as nothing, so that two names can look the same.
_INVISIBLE = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}.union(
        range(0x180B, 0x1810),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ONE_BYTE = 0x100
_TWO_BYTES = 0x10000

LINE_LIMIT = 500
LINES_LIMIT = 60


def plain(text: str, limit: int = LINE_LIMIT) -> str:
    r"""Return one line of at most `limit` characters (≥ 1) in which everything unsafe is a visible escape like `\x1b`.

    What is cut off is marked by a final `…`. Safe text comes back unchanged, so escaping twice is escaping once.
    """
    pieces: list[str] = []
    length = 0
    for character in text[: limit + 1]:  # each character becomes at least one, so that more is never looked at
        piece = _visible(character)
        pieces.append(piece)
        length += len(piece)
    if length <= limit:
        return "".join(pieces)
    while pieces and length > limit - 1:
        length -= len(pieces.pop())
    return "".join(pieces) + "…"


def lines(text: str, limit: int = LINE_LIMIT, count: int = LINES_LIMIT) -> str:
    """Escape a message of several lines: newlines stay, each line is `plain`, at most `count` lines (≥ 1) are kept.

    Windows line ends become plain newlines; empty lines at the end go; what is cut off is marked by a line `…`.
    """
    split = text.replace("\r\n", "\n").rstrip("\n").split("\n", count)
    kept = [plain(line, limit) for line in split[:count]]
    if len(split) > count:
        kept[-1] = "…"
    return "\n".join(kept)


def _visible(character: str) -> str:
    if " " <= character <= "~":
        return character
    code = ord(character)
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES and code not in _INVISIBLE:
        return character
    if character in _SHORT:
        return _SHORT[character]
    if code < _ONE_BYTE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _TWO_BYTES else f"\\U{code:08x}"
