"""One old file, and an account of it: what became of each of its keys, said once.

Owns completeness: a key that nobody spoke about is in the account as not used. Knows no key's meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ds01_policy.config import core_scalars
from ds01_policy.config.problems import Finding, closest
from ds01_policy.config.yaml_strict import Document, Path, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path as FilePath

# What the strict reader refuses and old files may well have: null says never there, and tabs were only ugly.
_FORGIVEN = frozenset({"null", "tab"})
_REFUSED = "refused"
_UNREADABLE = "\N{WHITE SQUARE}"


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one key of one old file."""

    file: str
    line: int  # from 1; 0: the whole file
    key: str  # with the keys around it, joined by dots; empty: the file itself
    became: str
    loud: bool = False  # somebody should look at it

    def __str__(self) -> str:
        """`file:line: key: what became of it`."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.became}" if self.key else f"{place}: {self.became}"


@dataclass(slots=True)
class Old:
    """One old file while it is read."""

    document: Document
    told: dict[Path, Told] = field(default_factory=dict)
    notes: list[Told] = field(default_factory=list)  # what is about no key of it
    wrong: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes, shown: str) -> Old:
        """Read it. What cannot be read, or two ways, is in `wrong`."""
        text = data.decode(errors="surrogateescape")
        # Old files hold emoji with their invisible marks. Nothing that is taken may hold one: `text_at` looks.
        seen = core_scalars.HIDDEN_IN_FILE.sub(_UNREADABLE, text.removeprefix("\ufeff").replace("\r\n", "\n"))
        document = parse(seen.encode(), shown)
        wrong = [finding for finding in document.findings if finding.slug not in _FORGIVEN]
        if document.readable and document.value is not None and not isinstance(document.value, dict):
            wrong.append(Finding("wrong_type", shown, 1, 1, "must hold keys with values"))
        return cls(document, wrong=wrong)

    def mapping(self, *path: str | int) -> dict[str, Any]:
        """Get a section; one with only comments, and one that is not there, is empty."""
        value = self.document.get(*path)
        if value is None or isinstance(value, dict):
            return value or {}
        self.refuse(path, "must hold keys with values")
        return {}

    def say(self, path: Path, became: str, *, loud: bool = False) -> None:
        """Say what became of a key. What was refused stays refused."""
        line = self.document.at_key(path)[0]
        self.told.setdefault(path, Told(self.document.file, line, dotted(path), became, loud))

    def say_instead(self, path: Path, became: str, *, loud: bool = False) -> None:
        """Take back what was said of a key; what was refused stays refused."""
        if path in self.told and self.told[path].became != _REFUSED:
            del self.told[path]
        self.say(path, became, loud=loud)

    def note(self, became: str, *, loud: bool = True, path: Path = ()) -> None:
        """Say something that is about no single key."""
        line = self.document.at_key(path)[0] if path else 0
        self.notes.append(Told(self.document.file, line, "", became, loud))

    def refuse(self, path: Path, message: str, suggestion: str = "") -> None:
        """Report a value that cannot be taken and must not be guessed."""
        self.wrong.append(
            Finding("old_value", self.document.file, *self.document.at(path), f"{dotted(path)}: {message}", suggestion)
        )
        self.say(path, _REFUSED)

    def is_null(self, path: Path) -> bool:
        """Whether a key is there and says null, or nothing at all."""
        return path in self.document.keys and self.document.get(*path) is None

    def text_at(self, path: Path) -> str | None:
        """Get a value as one line of text; None: refused, or not there."""
        value = self.document.get(*path)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip() or "\n" in value or _UNREADABLE in value:
            if value is not None:
                self.refuse(path, "must be one line of text, without characters that nobody sees")
            return None
        return value.strip()

    def account(self, unused: Iterable[tuple[Path, str]]) -> list[Told]:
        """Give every key once, in the order of the file; `unused` has the reasons for sections, the longest first."""
        reasons = list(unused)
        for path in leaves(self.document.value):
            if path not in self.told:
                why = next((why for start, why in reasons if path[: len(start)] == start), "")
                empty = self.document.get(*path) in (None, {}, []) and len(path) == 1
                self.say(path, "empty: it sets nothing" if empty else f"not used: {why or 'nothing here asks for it'}")
        in_order = sorted(self.told.items(), key=lambda item: self.document.at_key(item[0]))
        return [*(told for _, told in in_order), *self.notes]


def read(path: FilePath, shown: str) -> Old | None:
    """Read an old file; None: there is none. Raises OSError."""
    try:
        return Old.of(path.read_bytes(), shown)
    except FileNotFoundError:
        return None


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every key that holds no further keys."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    elif path:
        yield path


def dotted(path: Path) -> str:
    """Write a path as people say it: `groups.student.members`, `exemptions[0].user`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def slip(word: str, known: Iterable[str]) -> str:
    """Find the key that was probably meant; empty when there is none."""
    return closest(word, known)
