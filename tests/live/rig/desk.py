"""Runs inside a machine: a person who has logged in on a terminal, and a transcript of what stands on its screen.

`desk.py USER TRANSCRIPT`. A login as any other: logind and utmp know of it, the terminal is the user's own.
"""

from __future__ import annotations

import os
import pty
import sys


def main() -> None:
    """Log in, and copy the screen until it goes."""
    user, transcript = sys.argv[1:]
    pid, screen = pty.fork()
    if pid == 0:
        os.execv("/bin/login", ["login", "-f", user])  # noqa: S606  that is the point
    with open(transcript, "wb", buffering=0) as copy:  # noqa: PTH123  one byte after the other
        while True:
            try:
                copy.write(os.read(screen, 4096))
            except OSError:  # logged out
                return


main()
