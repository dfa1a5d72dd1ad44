"""PURE: Docker's stream of events: HTTP chunks → lines → events of the kinds that matter here.

Owns what an event looks like in API 1.41 to 1.52 and later, and that no byte on the wire can do harm: what cannot be
read is counted and passed over. Keeps a bounded amount, and no text that users wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ds01_policy.observe.inspected import is_container_id

if TYPE_CHECKING:
    from collections.abc import Iterator

START, DIE, DESTROY = "start", "die", "destroy"
ACTIONS = frozenset({START, DIE, DESTROY})

# An event carries all labels of its container, which users write.
LINE_LIMIT = 4 * 2**20  # bytes
_SIZE_LIMIT = 64  # bytes of the line that says how long a chunk is
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_NS = 253_402_300_799 * 10**9  # the year 9999
_RECORD_SEPARATOR = b"\x1e"  # before each object of a JSON sequence


class StreamBroken(Exception):
    """What arrives is not HTTP's chunked encoding."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a container."""

    action: str  # start, die, destroy
    container: str  # 64 hex
    at: datetime | None  # None: it does not say when


class Chunks:
    """Takes HTTP's chunked encoding off, however the bytes arrive."""

    def __init__(self) -> None:
        """Begin before the first chunk."""
        self.ended = False  # the last chunk has come
        self._size = b""  # what has come of the line that says how long the next chunk is
        self._left = 0  # bytes of this chunk that are still to come
        self._behind = False  # the line end behind a chunk's bytes is still to come

    def feed(self, data: bytes) -> bytes:
        """Take what has arrived; give what it carries.

        Raises:
            StreamBroken: when that cannot be chunks.

        """
        carried = []
        while data and not self.ended:
            if self._left:
                carried.append(data[: self._left])
                data = data[self._left :]
                self._left -= len(carried[-1])
                self._behind = not self._left
                continue
            line, newline, data = data.partition(b"\n")
            self._size += line
            if len(self._size) > _SIZE_LIMIT:
                raise StreamBroken("a chunk's length is longer than any number")
            if newline:
                self._measure(self._size.strip())
                self._size = b""
        return b"".join(carried)

    def _measure(self, line: bytes) -> None:
        if self._behind:
            self._behind = False
            if line:
                raise StreamBroken("a chunk does not end where it should")
            return
        digits = line.partition(b";")[0].strip()
        if not digits or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
            raise StreamBroken("a chunk's length is no number")
        self._left = int(digits, 16)
        self.ended = not self._left


class Events:
    """Takes events out of a stream of lines with JSON objects, however the bytes arrive."""

    def __init__(self) -> None:
        """Begin at the start of a line."""
        self.unreadable = 0  # lines that were no event that can be read, or too long to be looked at
        self._line: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[Event]:
        """Take what has arrived; give the events whose lines are complete."""
        found: list[Event] = []
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._keep(piece)
            if self._length > LINE_LIMIT:
                self.unreadable += 1
            else:
                found += self._read(b"".join(self._line))
            self._line, self._length = [], 0
        self._keep(rest)
        return found

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length > LINE_LIMIT:
            self._line = []  # nobody will look at it: the line's end is all that is waited for
        elif piece:
            self._line.append(piece)

    def _read(self, line: bytes) -> list[Event]:
        text = line.replace(_RECORD_SEPARATOR, b"").strip()
        if not text:
            return []
        try:
            return [event for each in _objects(text.decode()) if (event := event_of(each)) is not None]
        except (ValueError, RecursionError):
            self.unreadable += 1
            return []


def _objects(text: str) -> Iterator[Any]:
    """Read the objects of one line: one, or several without anything in between."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        found, at = decoder.raw_decode(text, at)
        yield found
        while at < len(text) and text[at].isspace():
            at += 1


def event_of(raw: Any) -> Event | None:
    """Read one event; None: it is about something else.

    Since API 1.22 it is Type, Action and Actor.ID that count; status and id beside them are gone from 1.52 on.

    Raises:
        ValueError: when it cannot be told what it is about.

    """
    if not isinstance(raw, dict):
        raise ValueError("an event is no object")  # noqa: TRY004  whoever reads a line asks for one kind of error
    if raw.get("Type", "container") != "container":
        return None
    action = raw.get("Action", raw.get("status"))
    if not isinstance(action, str):
        raise ValueError("an event has no Action")  # noqa: TRY004  see above
    if action not in ACTIONS:
        return None
    actor = raw.get("Actor")
    container = actor.get("ID") if isinstance(actor, dict) else raw.get("id")
    if not is_container_id(container):
        raise ValueError("an event is about no container")
    return Event(action, str(container), _time(raw))


def _time(raw: dict[str, Any]) -> datetime | None:
    for key, to_ns in (("timeNano", 1), ("time", 10**9)):
        value = raw.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value * to_ns < _LATEST_NS:
            return _EPOCH + timedelta(microseconds=value * to_ns // 1000)
    return None
