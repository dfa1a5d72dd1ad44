"""What is wrong with a set of policy files, as data: where, what, and what was probably meant.

Owns Finding and PolicyError. Prints nothing and decides no exit code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable


_BEGUN = 3  # letters of a word that say which one it is


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong in one file. `slug` is stable; line and column count from 1, 0 where there is no such place."""

    slug: str
    file: str
    line: int
    col: int
    message: str
    suggestion: str = ""  # what was probably meant; empty: nothing is close
    severity: Literal["error", "warning", "note"] = "error"  # only errors keep a policy from loading

    def __str__(self) -> str:
        """`file:line:col: message; did you mean 'x'?`."""
        place = f"{self.file}:{self.line}:{self.col}" if self.line else self.file
        meant = f"; did you mean {self.suggestion!r}?" if self.suggestion else ""
        return f"{place}: {self.message}{meant}"


class PolicyError(Exception):
    """The policy files can't be used; `findings` holds everything that is wrong with them, in order of place."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        """Sort the findings by place; the text of the error is all of them, one a line."""
        self.findings = in_order(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort by place, each finding once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: (finding.file, finding.line, finding.col)))


def closest(word: str, known: Iterable[str]) -> str:
    """Find the known word that was probably meant: a slip away, or begun and not finished. Empty when there is none."""
    from difflib import get_close_matches

    words = sorted(known)
    begun = [full for full in words if len(word) >= _BEGUN and full.startswith(word)]
    return begun[0] if len(begun) == 1 else next(iter(get_close_matches(word, words, n=1)), "")


def listed(words: Iterable[str]) -> str:
    """Write `a, b or c`."""
    *most, last = list(words) or ["nothing"]
    return f"{', '.join(most)} or {last}" if most else last
