"""What only the host knows: its name, who runs a process, what a UID is called, who is in a group.

Owns reading /proc and the user database. Nothing here fails: what cannot be found is None.
"""

from __future__ import annotations

import grp
import pwd
import socket
from pathlib import Path


class LocalHost:
    """The host this runs on. Answers about users are kept: a directory service may be slow to ask."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Look for processes below `proc`."""
        self._proc = proc
        self._users: dict[int, str | None] = {}

    def name(self) -> str:
        """Host name, as reports show it."""
        return socket.gethostname()

    def uid_of_process(self, pid: int) -> int | None:
        """Effective UID of a host process; None: gone or unreadable."""
        if pid <= 0:
            return None
        try:
            with (self._proc / str(pid) / "status").open(encoding="utf-8", errors="replace") as status:
                for line in status:
                    if line.startswith("Uid:"):
                        return int(line.split()[2])  # real, effective, saved, file system
        except (OSError, ValueError, IndexError):
            pass
        return None

    def user_of_uid(self, uid: int) -> str | None:
        """User name of a UID; None: nobody has it."""
        if uid not in self._users:
            try:
                self._users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._users[uid] = None
        return self._users[uid]


def unix_group_members(name: str) -> frozenset[str] | None:
    """List a Unix group: those it names and those whose primary group it is; None: there is no such group.

    A directory service that does not let its users be listed shows no primary members.
    """
    try:
        group = grp.getgrnam(name)
    except (KeyError, ValueError):  # ValueError: no name may hold a null byte
        return None
    return frozenset(group.gr_mem) | {user.pw_name for user in pwd.getpwall() if user.pw_gid == group.gr_gid}
