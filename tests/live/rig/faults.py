"""What can go wrong at one chosen call: a description of it, and the count of calls until then."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

# hang: not passed on, never answered           read_timeout: carried out, never answered
# reset: not passed on, connection closed       lost: carried out, connection closed instead of an answer
# vanish: the container is removed for real, then the call is passed on
# delay:SECONDS: wait, then pass on             truncate: half of the answer's body, then the connection is closed
# status:CODE: not passed on                    body:TEXT: not passed on, 200 with that JSON text
KINDS = re.compile(r"pass|hang|read_timeout|reset|lost|vanish|truncate|delay:[\d.]+|status:\d{3}|body:.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the client made it."""

    method: str
    target: str  # as sent: version prefix, path, query
    body: bytes
    at: float  # Unix seconds
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Path and query without the version: `/containers/json?all=1`."""
        return re.sub(r"^/v\d+\.\d+(?=/)", "", self.target)


@dataclass(slots=True)
class Fault:
    """A fault that waits for its call. `fired` is set when it has struck."""

    method: str
    path: re.Pattern[str]
    nth: int
    times: int | None  # strikes this often in a row; None: at every call from the nth on
    kind: str
    argument: str
    action: Callable[[], object] | None
    when: Literal["before", "after"]
    hits: int = 0
    fired: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self, request: Request) -> bool:
        """Count a request that it is about, and say whether this is the one."""
        if self.method != request.method or not self.path.search(request.path):
            return False
        with self._lock:
            self.hits += 1
            late = self.hits - self.nth
        return late >= 0 and (self.times is None or late < self.times)

    def strike(self) -> None:
        """Run the action, and say that it has struck."""
        if self.action:
            self.action()
        self.fired.set()


def fault(
    method: str,
    path_regex: str,
    kind: str,
    *,
    nth: int,
    times: int | None,
    action: Callable[[], object] | None,
    when: Literal["before", "after"],
) -> Fault:
    """Build one. Raises ValueError for a kind that does not exist."""
    if not KINDS.fullmatch(kind):
        raise ValueError(f"no such fault: {kind!r}; there are {KINDS.pattern}")
    name, _, argument = kind.partition(":")
    return Fault(method.upper(), re.compile(path_regex), nth, times, name, argument, action, when)
