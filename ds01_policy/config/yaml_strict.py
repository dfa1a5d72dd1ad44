"""YAML text → plain values, and where each key and value stands. Strict: what YAML could read two ways is refused.

Owns what is YAML here: no duplicate keys, anchors, merge keys, tags, directives, second documents, tabs or characters
nobody sees. Walks parser events, so that no nesting can exhaust a stack. Knows no file's meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from yaml import events

from ds01_policy.config import core_scalars
from ds01_policy.config.problems import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32

Path = tuple[str | int, ...]
Position = tuple[int, int]  # line and column, from 1

LOADERS: tuple[type, ...] = tuple(getattr(yaml, name) for name in ("CSafeLoader", "SafeLoader") if hasattr(yaml, name))


@dataclass(slots=True)
class Document:
    """One file's value; a section with only comments is None, a key is always the text it was written as."""

    file: str  # as messages name it
    value: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    spoilt: set[Path] = field(default_factory=set)  # already reported: what stands here means nothing
    findings: list[Finding] = field(default_factory=list)
    readable: bool = True  # False: not YAML at all; `value` says nothing
    hexadecimal: bool = True  # False: `0x60` is text

    def at(self, path: Path) -> Position:
        """Find where a value stands; an empty one stands at its key, a missing one at the nearest thing around it."""
        while path:
            if path in self.values:
                return self.values[path]
            path = path[:-1]
        return self.values.get((), (1, 1))

    def at_key(self, path: Path) -> Position:
        """Find where a key stands; list items and missing keys as in `at`."""
        return self.keys.get(path) or self.at(path)

    def get(self, *path: str | int) -> Any:
        """Look a raw value up; None where the path leads nowhere."""
        value = self.value
        for step in path:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def part(self, path: Path, *under: str) -> Document:
        """See what stands at a path as a document of its own, below the keys `under`; findings are shared."""
        value = self.get(*path)
        for key in reversed(under):
            value = {key: value}
        depth = len(path)
        keys, values = (
            {(*under, *place[depth:]): at for place, at in places.items() if place[:depth] == path}
            for places in (self.keys, self.values)
        )
        values.setdefault((), self.at(path))
        spoilt = {(*under, *place[depth:]) for place in self.spoilt if place[:depth] == path}
        return Document(self.file, value, keys, values, spoilt, self.findings, self.readable)

    def report(self, slug: str, position: Position, message: str, suggestion: str = "") -> Finding:
        """Add an error to this file's findings."""
        finding = Finding(slug, self.file, *position, message, suggestion)
        self.findings.append(finding)
        return finding


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is still open."""

    value: dict[str, Any] | list[Any]
    path: Path
    key: str | None = None  # the key that waits for its value
    discard: bool = False  # a duplicate key's value: walked, then dropped


class _NotYamlError(Exception):
    """The file can't be walked any further."""


def parse(data: bytes, file: str, loader: type = LOADERS[0], *, hexadecimal: bool = True) -> Document:
    """Read one file. Never raises: everything that is wrong is in `findings`, and then `value` is as good as can be."""
    document = Document(file, hexadecimal=hexadecimal)
    text = _text(data, document)
    if text is not None:
        try:
            _walk(yaml.parse(text, Loader=loader), document)
        except _NotYamlError:
            document.readable = False
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            _fatal(document, "yaml", position, " ".join(filter(None, ("not YAML:", error.context, error.problem))))
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            _fatal(document, "yaml", (1, 1), f"not YAML: {error}")
    if not document.readable:
        document.value = None
    return document


def _fatal(document: Document, slug: str, position: Position, message: str) -> None:
    document.report(slug, position, message)
    document.readable = False


def _text(data: bytes, document: Document) -> str | None:
    """Decode, and refuse what can't be meant: an over-long or empty file, tabs, characters nobody sees."""
    if len(data) > MAX_BYTES:
        _fatal(document, "too_large", (1, 1), f"{len(data)} bytes: a policy file has at most {MAX_BYTES}")
        return None
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        _fatal(document, "encoding", _position(before, len(before)), "not UTF-8 text")
        return None
    if not text.strip():
        message = "the file is empty, as if half written; delete it to use the shipped one, or leave a comment in it"
        _fatal(document, "empty_file", (1, 1), message)
        return None
    hit = core_scalars.HIDDEN_IN_FILE.search(text)
    if hit:
        slug, message = core_scalars.hidden(hit[0])
        _fatal(document, slug, _position(text, hit.start()), message)
        return None
    if "\t" in text:  # reported once: the others are the same mistake
        document.report("tab", _position(text, text.index("\t")), "a tab: indent and separate with spaces")
    return text.replace("\t", " ")


def _position(text: str, index: int) -> Position:
    return text.count("\n", 0, index) + 1, index - (text.rfind("\n", 0, index) + 1) + 1


def _walk(stream: Iterator[events.Event], document: Document) -> None:
    """Build the value from events. Keeps an explicit stack: depth is bounded here, not by Python's."""
    stack: list[_Frame] = []
    documents = 0
    for event in stream:
        start = _start(event)
        if isinstance(event, events.DocumentStartEvent):
            documents += 1
            if documents > 1:
                document.report("several_documents", start, "a second document: one file holds one")
                return
            if event.version or event.tags:
                document.report("directive", start, "a % directive: leave it out")
        elif isinstance(event, events.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, events.NodeEvent):
            frame = stack[-1] if stack else None
            if frame and isinstance(frame.value, dict) and frame.key is None:
                _key(event, frame, document)
            else:
                _value(event, frame, stack, document)


def _start(event: events.Event) -> Position:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _key(event: events.NodeEvent, frame: _Frame, document: Document) -> None:
    """Take a key: the text as written. A second one of the same name keeps the first."""
    start = _start(event)
    if not isinstance(event, events.ScalarEvent):
        document.report("key", start, "a key must be plain text")
        raise _NotYamlError
    _refuse_extras(event, document)
    merge = not event.style and event.value == "<<"
    path = (*frame.path, event.value)
    frame.key = event.value
    frame.discard = merge or event.value in frame.value
    if merge:
        document.report("merge_key", start, "a merge key (<<): write the keys out")
    elif event.value == "":
        document.report("key", start, "an empty key")
    elif frame.discard:
        line, col = document.keys[path]
        document.report("duplicate_key", start, f"{event.value!r} stands here twice; the first is at {line}:{col}")
    if not frame.discard:
        document.keys[path] = start


def _value(event: events.NodeEvent, frame: _Frame | None, stack: list[_Frame], document: Document) -> None:
    """Take a value into the open mapping or list; open a new one where it is a mapping or list itself."""
    path, discard = _place(frame)
    scratch = Document(document.file) if discard else document  # a duplicate's places must not overwrite the first's
    start = _start(event)
    value: Any = None
    spoilt = _refuse_extras(event, document)
    if isinstance(event, events.AliasEvent):
        document.report("anchor", start, f"an alias (*{event.anchor}): write the value out")
        spoilt = True
    elif isinstance(event, events.ScalarEvent):
        empty = not event.style and event.value == ""
        if empty and path in scratch.keys:
            start = scratch.keys[path]
        # A plain one has the style None in Python's parser and "" in libyaml's.
        value, flaw = (
            core_scalars.quoted(event.value)
            if event.style
            else core_scalars.plain(event.value, hexadecimal=document.hexadecimal)
        )
        if flaw:
            document.report(flaw[0], start, flaw[1])
            spoilt = True
    else:
        value = {} if isinstance(event, events.MappingStartEvent) else []
        if len(stack) >= MAX_DEPTH:
            document.report("too_deep", start, f"nested more than {MAX_DEPTH} deep")
            raise _NotYamlError
        stack.append(_Frame(value, (*path, "\0discarded") if discard else path))
    scratch.values[path] = start
    if spoilt:
        scratch.spoilt.add(path)
    _put(frame, value, document, discard=discard)


def _place(frame: _Frame | None) -> tuple[Path, bool]:
    if frame is None:
        return (), False
    if isinstance(frame.value, list):
        return (*frame.path, len(frame.value)), False
    return (*frame.path, frame.key or ""), frame.discard


def _put(frame: _Frame | None, value: Any, document: Document, *, discard: bool) -> None:
    if frame is None:
        document.value = value
    elif isinstance(frame.value, list):
        frame.value.append(value)
    else:
        if not discard:
            frame.value[frame.key or ""] = value
        frame.key = None


def _refuse_extras(event: events.NodeEvent, document: Document) -> bool:
    """Report an anchor or a tag; whether the value still means what it looks like."""
    if event.anchor is not None and not isinstance(event, events.AliasEvent):
        document.report("anchor", _start(event), f"an anchor (&{event.anchor}): write the value out where it is used")
    if getattr(event, "tag", None) is not None:
        document.report("tag", _start(event), "a tag (!): write the plain value")
        return True
    return False
