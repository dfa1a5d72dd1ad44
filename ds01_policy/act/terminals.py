"""Finds the terminals that a user is logged in on, and writes to them without ever waiting.

Owns the proof that a terminal is the user's own: logind and utmp only name candidates, the open device decides.
A user who said `mesg n` is written to as well: that switch is against chatter; this says that work will be stopped.
"""

from __future__ import annotations

import json
import os
import platform
import re
import stat
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.text import lines, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

# Only what people sit at: opening any other device could do something.
_LINE = re.compile(r"pts/[0-9]{1,8}|(?:tty|hvc|console)[A-Za-z0-9]{1,12}|console")
_OPEN = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW

# struct utmp of glibc up to the host name; what follows differs in length between machines.
_UTMP = struct.Struct("=hxxi32s4s32s256s")
UTMP_SIZE = 400 if platform.machine() in ("aarch64", "arm64", "aarch64_be") else 384
_UTMP_RECORDS = 4096
_UTMP_NAME = 32
_USER_PROCESS = 7

_MOST = 16  # terminals of one user that are written to


@dataclass(frozen=True, slots=True)
class Told:
    """Which terminals took the whole text, and which did not: `pts/3: …`."""

    reached: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terminals:
    """The host's terminals. The paths can be replaced."""

    utmp: Path = Path("/run/utmp")
    dev: Path = Path("/dev")
    loginctl: str = "loginctl"
    timeout_s: float = 5.0  # for the question to logind; everything else does not wait

    def tell(self, user: str, uid: int, text: str) -> Told:
        """Write a text to every terminal of one user, each once and whole or not at all counted."""
        reached, missed = [], []
        for line in self.of(user, uid)[:_MOST]:
            if why := write(self.dev, line, uid, text):
                missed.append(f"{line}: {why}")
            else:
                reached.append(line)
        return Told(tuple(reached), tuple(missed))

    def of(self, user: str, uid: int) -> list[str]:
        """Name the terminals that logind and utmp know of, each once; neither has to be there."""
        named = [*self._logind(uid), *self._utmp(user)]
        return list(dict.fromkeys(line for line in named if _LINE.fullmatch(line)))

    def _logind(self, uid: int) -> Iterator[str]:
        try:
            done = subprocess.run(  # noqa: S603  a fixed command, no text of users in it
                [self.loginctl, "list-sessions", "--no-pager", "-o", "json"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.timeout_s,
                check=True,
            )
            sessions = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError):
            return
        for session in sessions if isinstance(sessions, list) else ():
            if isinstance(session, dict) and session.get("uid") == uid and isinstance(session.get("tty"), str):
                yield session["tty"]

    def _utmp(self, user: str) -> Iterator[str]:
        try:
            descriptor = os.open(self.utmp, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
                data = file.read(_UTMP_RECORDS * UTMP_SIZE) if regular else b""
        except OSError:
            return
        # The field is too short for long names; whose terminal it is, its device says.
        wanted = user.encode(errors="replace")[:_UTMP_NAME]
        yield from (line for name, line in logins(data) if name == wanted)


def logins(utmp: bytes, size: int = UTMP_SIZE) -> list[tuple[bytes, str]]:
    """Read the logins of a utmp file as (user, line), `size` bytes a record; what is torn or odd is left out."""
    found = []
    for start in range(0, len(utmp) - size + 1, size):
        kind, _, line, _, user, _ = _UTMP.unpack_from(utmp, start)
        name = line.split(b"\0", 1)[0].decode("ascii", "replace")
        if kind == _USER_PROCESS and _LINE.fullmatch(name):
            found.append((user.split(b"\0", 1)[0], name))
    return found


def write(dev: Path, line: str, uid: int, text: str) -> str:
    """Write a text to one terminal if it is the user's own; empty: the terminal took all of it, else why not.

    Never waits: a terminal that is stopped (XOFF), full or hung up is passed over.
    """
    if not _LINE.fullmatch(line):
        return "not the name of a terminal"
    payload = ("\r\n" + lines(text).replace("\n", "\r\n") + "\r\n").encode()
    try:
        descriptor = os.open(dev / line, _OPEN)
        try:
            return _refusal(descriptor, uid) or _write(descriptor, payload)
        finally:
            os.close(descriptor)
    except BlockingIOError:
        return "stopped or full"
    except OSError as error:
        return plain(error.strerror or str(error), 80)


def _refusal(descriptor: int, uid: int) -> str:
    """Judge the device that is open, not the name it was opened by."""
    facts = os.fstat(descriptor)
    if not stat.S_ISCHR(facts.st_mode) or not os.isatty(descriptor):
        return "not a terminal"
    return "" if facts.st_uid == uid else "belongs to somebody else"


def _write(descriptor: int, payload: bytes) -> str:
    taken = os.write(descriptor, payload)
    return "" if taken == len(payload) else f"took {taken} of {len(payload)} bytes"
