"""Counts the seconds in which this machine has run: where it stood still, nothing took long.

For bounds on how long something may take, on machines that lose their processors to others for seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TICK_S = 0.01
_MOST_S = 0.1  # between two ticks of a machine that runs, also of a busy one


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Count from here on; what is given tells how many seconds it has been."""
    over, turn = threading.Event(), threading.Lock()
    counted, last = 0.0, time.monotonic()

    def look() -> float:
        nonlocal counted, last
        with turn:
            now = time.monotonic()
            counted += min(now - last, _MOST_S)
            last = now
            return counted

    def tick() -> None:
        while not over.wait(_TICK_S):
            look()

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    try:
        yield look
    finally:
        over.set()
        ticking.join()
