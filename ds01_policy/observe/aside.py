"""One question in a thread of its own, which is left behind at the deadline.

Owns waiting. Asks nothing itself.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from ds01_policy.observe.ports import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Late(SourceError):
    """The deadline passed."""


class Aside(threading.Thread, Generic[T]):
    """Asks from the moment it is made. A daemon thread that still waits keeps neither the caller nor the program.

    Timeouts of sockets count from byte to byte, and a file system or a user database that is a network away has none:
    a server that drips its headers, or a name server that hangs, would keep a tick waiting for ever.
    """

    def __init__(self, ask: Callable[[], T], name: str) -> None:
        """Start asking."""
        super().__init__(name=name, daemon=True)
        self._ask = ask
        self._outcome: tuple[T] | SourceError = SourceError("was not asked: a bug, whose traceback is on stderr")
        self.start()

    def by(self, deadline: float) -> T:
        """Wait until then (on the monotonic clock) for the answer.

        Raises:
            Late: when there is none.
            SourceError: what was raised while asking.

        """
        self.join(max(0.0, deadline - time.monotonic()))
        if self.is_alive():
            raise Late("gave no answer in time")
        if isinstance(self._outcome, SourceError):
            raise self._outcome
        return self._outcome[0]

    def run(self) -> None:
        """Ask, and keep what came of it."""
        try:
            self._outcome = (self._ask(),)
        except SourceError as error:
            self._outcome = error
