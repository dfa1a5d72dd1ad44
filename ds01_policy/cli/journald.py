"""Lines for systemd's journal: whether a stream is the journal, and a line with its priority where it is.

Owns the recognition. What is said, and how urgent it is, is others'.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from ds01_policy.report.priority import Priority, marked
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable


def is_journal(stream: TextIO) -> bool:
    """Whether what is written to a stream goes to the journal: systemd names its device and inode. systemd.exec(5)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        there = os.fstat(stream.fileno())
        return (there.st_dev, there.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):  # closed, no file at all, or no numbers
        return False


def say(lines: Iterable[tuple[Priority, str]], stream: TextIO, limit: int) -> None:
    """Write lines at once; the journal gets their priority as well."""
    journal = is_journal(stream)
    for priority, text in lines:
        line = plain(text, limit)
        stream.write((marked(line, priority) if journal else line) + "\n")
    stream.flush()
