"""Reads the documents as a reader does: sections, fenced blocks, commands, and what is shown below them.

Owns the reading, for the tests that do what the documents say. Runs nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"\s+# exit (?P<code>\d+)$")
_ANY = "…"  # within a line: any words; as a line: any lines


@dataclass(frozen=True)
class Block:
    """One fenced block, as read."""

    kind: str
    text: str
    line: int  # in its document, of its first line


@dataclass(frozen=True)
class Command:
    """One command of a block of `console`."""

    text: str  # as one would type it, with the comment behind it
    shown: str  # what the document shows below it
    line: int

    @property
    def code(self) -> int:
        """The exit code that the document tells of."""
        return int(found["code"]) if (found := _EXIT.search(self.text)) else 0


class DriftError(AssertionError):
    """The document shows what is not so."""


def section(document: str, heading: str) -> str:
    """Cut one section out; everything before it becomes empty lines, so that lines keep their numbers."""
    before, found, after = document.partition(f"\n{heading}\n")
    assert found, f"there is no section {heading!r}"
    return "\n" * (before.count("\n") + 2) + re.split(r"^## ", after, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str) -> list[Block]:
    """List the fenced blocks, those within list items among them."""
    return [
        Block(
            found["kind"],
            re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            text.count("\n", 0, found.start()) + 2,
        )
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block, document: str) -> list[Command]:
    """List each command of a block. Raises DriftError for output before any command."""
    found: list[Command] = []
    for number, line in enumerate(block.text.splitlines(keepends=True), block.line):
        if line.startswith("$ "):
            found.append(Command(line[2:].rstrip("\n"), "", number))
        elif found:
            found[-1] = Command(found[-1].text, found[-1].shown + line, found[-1].line)
        else:
            raise DriftError(f"{document}:{number}: output before any command")
    return found


def fits(shown: str, said: str) -> bool:
    """Whether what was said is what is shown, where `…` may be anything."""
    pattern = ""
    for line in shown.splitlines():
        pattern += r"(?:.*\n)*" if line == _ANY else ".*".join(map(re.escape, line.split(_ANY))) + r"\n"
    return re.fullmatch(pattern, said) is not None
