"""Waiting for what comes by itself: asked again and again, for so long."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(true: Callable[[], bool], words: str, timeout_s: float = 40.0) -> None:
    """Wait until it is true; where it never is, the test fails with these words."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, words
        time.sleep(0.05)
