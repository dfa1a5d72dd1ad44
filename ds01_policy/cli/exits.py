"""Exit codes, and how trouble ends a command: one line or a few on stderr, never a traceback.

Owns the numbers. Prints nothing else.
"""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn

from ds01_policy.cli.journald import say
from ds01_policy.report.priority import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable


class Exit(IntEnum):
    """What a caller can tell from the exit code."""

    DONE = 0
    FAILED = 1  # something failed or was found wanting
    USAGE = 2  # usage or invalid configuration; nothing done
    NO_DOCKER = 3  # Docker could not be observed; nothing done
    WITHHELD = 4  # a budget or breaker withheld actions
    LOCKED = 5  # another run holds the lock


def fail(code: Exit, lines: Iterable[str]) -> NoReturn:
    """Say why on stderr and end."""
    priority = Priority.NOTICE if code is Exit.LOCKED else Priority.ERROR
    say(((priority, line) for line in lines), sys.stderr, limit=2000)
    raise SystemExit(int(code))
