"""One thread that sees to containers, one at a time, while another goes on listening.

Owns what waits, within a bound, and how the thread ends. Does not know what seeing to one means.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WAITING = 1000


class Aside:
    """Sees to what is offered, in that order. What waits already is not put there twice."""

    def __init__(self, see_to: Callable[[str | None], object], most: int = MOST_WAITING) -> None:
        """`see_to` gets a container's id, or None: whatever is owed. What it raises ends the thread: see `check`."""
        self._see_to = see_to
        self._most = most
        self._waiting: dict[str | None, None] = {}  # in order, each once
        self._changed = threading.Condition()
        self._stopped = False
        self._pool = ThreadPoolExecutor(1, "epilogs")
        self._running: Future[None] = self._pool.submit(self._run)

    def offer(self, container: str | None) -> bool:
        """Have a container seen to; None: whatever is owed. False: too many are waiting."""
        with self._changed:
            if container is not None and container not in self._waiting and len(self._waiting) >= self._most:
                return False
            self._waiting[container] = None
            self._changed.notify()
            return True

    @property
    def waiting(self) -> int:
        """How many wait. Any thread may ask."""
        return len(self._waiting)

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._running.done():
            self._running.result()

    def stop(self, timeout_s: float) -> bool:
        """Begin nothing more, and wait for what is being done; False: it takes longer."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._pool.shutdown(wait=False)
        return not wait([self._running], timeout_s).not_done

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._waiting)
                if self._stopped:
                    return
                container = next(iter(self._waiting))
                # Taken out before it is seen to: what happens to it meanwhile puts it there again.
                del self._waiting[container]
            self._see_to(container)
