"""PURE: how urgent a line is, in the numbers that syslog and the journal share.

Owns the numbers and the mark of a line. Prints nothing.
"""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """The levels of syslog(3) that are used here."""

    ERROR = 3  # something failed: look now
    WARNING = 4  # something is not as it should be
    NOTICE = 5  # something was done to somebody's container
    INFO = 6


def marked(line: str, priority: Priority) -> str:
    """Put the mark before a line that systemd takes from a service's output as its priority: sd-daemon(3)."""
    return f"<{priority.value}>{line}"
