"""Findings that somebody has looked at: `# ds01-policy: ignore SLUG because REASON`, on the line or above it.

Owns what such a comment silences, and what is said about one that silences nothing. Errors cannot be silenced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from ds01_policy.config.problems import Finding, closest
from ds01_policy.config.why import WHY, WHY_LIVE
from ds01_policy.config.yaml_strict import LOADERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MARK = "ds01-policy:"
_COMMENT = re.compile(rf"(?:^|(?<=\s))#\s*{_MARK}\s*(?P<said>.*?)\s*$", re.MULTILINE)
_SAID = re.compile(r"ignore\s+(?P<slug>\S+)(?:\s+because\s+(?P<reason>\S.*))?")
_WRITE = "write `# ds01-policy: ignore SLUG because REASON`"


@dataclass(frozen=True, slots=True)
class Silence:
    """One comment that is in order."""

    file: str
    line: int  # of the comment
    col: int
    about: int  # the line that it silences
    slug: str
    reason: str


def silenced(
    findings: Iterable[Finding], texts: Mapping[str, bytes], *, live: bool = False
) -> tuple[list[Finding], list[Silence]]:
    """Take out the warnings that a comment in their file silences; what is wrong with comments comes on top.

    `texts` holds the files that were read, by the name that findings have. Not `live`: what only a look at this host
    finds was not looked for, so whoever silences it silences something.
    """
    found = list(findings)
    silences: list[Silence] = []
    wrong: list[Finding] = []
    for file, data in texts.items():
        if file.endswith(".yaml") and _MARK.encode() in data:  # templates and lists of members have no findings
            said = list(_in_file(file, data.decode()))
            silences += (each for each in said if isinstance(each, Silence))
            wrong += (each for each in said if isinstance(each, Finding))
    left = [each for each in found if not any(_is_about(silence, each) for silence in silences)]
    used = [silence for silence in silences if any(_is_about(silence, each) for each in found)]
    wrong += (
        _finding("useless_silence", silence, f"there is no {silence.slug} here: take the comment out")
        for silence in silences
        if silence not in used and (live or silence.slug in WHY)
    )
    return [*left, *wrong], used


def _is_about(silence: Silence, finding: Finding) -> bool:
    place = (finding.file, finding.line, finding.slug)
    return finding.severity != "error" and place == (silence.file, silence.about, silence.slug)


def _finding(slug: str, at: Silence, message: str, suggestion: str = "") -> Finding:
    return Finding(slug, at.file, at.line, at.col, message, suggestion, "warning")


def _in_file(file: str, text: str) -> Iterator[Silence | Finding]:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines, scalars = text.split("\n"), list(_scalars(text))
    for match in _COMMENT.finditer(text):
        start = match.start()
        if any(begin <= start < end for begin, end in scalars):
            continue  # no comment, but part of a text in quotes, or of a block of text
        line = text.count("\n", 0, start) + 1
        col = start - (text.rfind("\n", 0, start) + 1) + 1
        said = _SAID.fullmatch(match["said"])
        slug, reason = (said["slug"], said["reason"] or "") if said else ("", "")
        here = Silence(file, line, col, _about(lines, line), slug, reason)
        if said is None:
            yield _finding("bad_silence", here, f"{match['said'][:60]!r} says nothing: {_WRITE}")
        elif slug not in WHY and slug not in WHY_LIVE:
            message = f"no warning is called {slug[:60]!r}; errors cannot be silenced"
            yield _finding("unknown_silence", here, message, closest(slug, WHY | WHY_LIVE))
        elif not reason:
            yield _finding("unreasoned_silence", here, f"{slug} is not silenced without a reason: {_WRITE}")
        else:
            yield here


def _about(lines: list[str], line: int) -> int:
    """Find the line that a comment stands on, or the next that is no comment."""
    if not lines[line - 1].lstrip().startswith("#"):
        return line
    following = (number for number in range(line + 1, len(lines) + 1) if not lines[number - 1].lstrip().startswith("#"))
    return next(following, line)


def _scalars(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each scalar begins and ends."""
    for token in yaml.scan(text, Loader=LOADERS[0]):
        if isinstance(token, yaml.ScalarToken):
            yield token.start_mark.index, token.end_mark.index
