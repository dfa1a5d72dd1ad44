"""Tells people: the owner's terminals, everybody's terminals, or any service that apprise knows.

Owns what counts as reached. Every channel is tried, each within its timeout; a channel's URL holds secrets and is never
shown. Must not decide when to warn.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Semaphore, Thread
from typing import TYPE_CHECKING

from ds01_policy.act.message import STOPPED, WARNING, Message, message
from ds01_policy.act.terminals import Terminals, Told
from ds01_policy.limits import UNKNOWN
from ds01_policy.model import Status
from ds01_policy.text import plain

if TYPE_CHECKING:
    from ds01_policy.model import Decision, Outcome
    from ds01_policy.policy import NotifySettings, Policy

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://.")
_APPRISE_CHILD = Path(__file__).with_name("apprise_child.py")
# Each service is an interpreter that starts; many at once would slow one another past their timeout.
_SERVICES = Semaphore(4)
_POLL_S = 0.02
_REAP_S = 1.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one message."""

    delivered: bool  # somebody was provably reached
    attempted: bool  # False: no channel is usable at all, as configured
    detail: str  # in words, channel by channel; no secrets


@dataclass(frozen=True, slots=True)
class _Sent:
    """What became of one message on one channel."""

    words: str
    delivered: bool = False
    usable: bool = True


def uid_of(user: str) -> int | None:
    """Look a user of this host up; None: nobody is called that."""
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class Notifier:
    """Sends warnings and notices to the channels of the settings. Threads can share it."""

    settings: NotifySettings
    policy: Policy
    host: str
    clock: Callable[[], datetime]
    terminals: Terminals = field(default_factory=Terminals)
    uid_of: Callable[[str], int | None] = uid_of
    wall: str = "wall"

    def warn(self, decision: Decision) -> Delivery:
        """Tell the owner what will happen, and when."""
        return self._send(decision, message(WARNING, decision, self.policy, self.host, now=self.clock()))

    def stopped(self, decision: Decision, outcomes: Sequence[Outcome]) -> Delivery:
        """Tell the owner what has happened, why, and what is left."""
        undone = frozenset(one.action for one in outcomes if one.status not in (Status.DONE, Status.NOOP))
        text = message(STOPPED, decision, self.policy, self.host, now=self.clock(), undone=undone)
        return self._send(decision, text)

    def _send(self, decision: Decision, text: Message) -> Delivery:
        words, sent = [text.problem] if text.problem else [], []
        for channel in self.settings.channels:
            name, one = self._through(channel, decision.container.owner, text)
            sent.append(one)
            words.append(f"{name}: {one.words}")
        return Delivery(
            delivered=any(one.delivered for one in sent),
            # No channel at all is a choice; then the longer notice of the unreached runs.
            attempted=not sent or any(one.usable for one in sent),
            detail="; ".join(words) or "no channel is configured",
        )

    def _through(self, channel: str, owner: str, text: Message) -> tuple[str, _Sent]:
        timeout_s = self.settings.timeout.total_seconds()
        match channel:
            case "tty":
                return "tty", _to_terminals(self.terminals, self.uid_of, owner, text.text, timeout_s)
            case "wall":
                return "wall", _to_everybody(self.wall, text.text, timeout_s)
            case _:
                scheme = _SCHEME.match(channel)
                name = f"{scheme[1].lower()}://…" if scheme else "a channel that is neither tty, wall nor a URL"
                return name, _to_service(channel, text, timeout_s) if scheme else _Sent("not usable", usable=False)


def _to_terminals(
    terminals: Terminals, find_uid: Callable[[str], int | None], owner: str, text: str, timeout_s: float
) -> _Sent:
    """Write to the owner's own terminals. User databases can be a network away, so all of it has a time limit."""
    if owner == UNKNOWN:
        return _Sent("the owner is unknown, so there is no terminal to write to")
    name, told = plain(owner, 80), list[Told | None]()

    def tell() -> None:
        uid = find_uid(owner)
        told.append(None if uid is None else terminals.tell(owner, uid, text))

    thread = Thread(target=tell, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not told:
        return _Sent(f"not done after {timeout_s:g} s")
    match told[0]:
        case None:
            return _Sent(f"{name} is no user of this host")
        case Told(reached=(), missed=()):
            return _Sent(f"{name} has no terminal open")
        case Told(reached=reached, missed=missed):
            return _Sent(", ".join((*(f"{line} reached" for line in reached), *missed)), delivered=bool(reached))


def _to_everybody(wall: str, text: str, timeout_s: float) -> _Sent:
    """Write to every terminal of the host. By stdin: wall reads an argument that names a file as that file."""
    try:
        status = _run([wall], text, timeout_s)
    except OSError as error:
        return _Sent(f"cannot be started ({error.strerror}); it is part of util-linux", usable=False)
    if status is None:
        return _Sent(f"not done after {timeout_s:g} s")
    # It ends with 0 also where nobody is logged in: never a proof.
    return _Sent("sent, which proves nothing" if status == 0 else f"failed with exit status {status}")


def _to_service(url: str, text: Message, timeout_s: float) -> _Sent:
    """Hand a message to apprise, in a process of its own: it can be killed, and what it logs may hold the URL."""
    if find_spec("apprise") is None:
        return _Sent("not usable: pip install 'ds01-policy[apprise]'", usable=False)
    job = json.dumps({"url": url, "title": text.subject, "body": text.text})
    try:
        # -P: with the script's folder on its path, it would import our docker.py for docker.
        with _SERVICES:
            status = _run([sys.executable, "-P", str(_APPRISE_CHILD)], job, timeout_s)
    except OSError as error:
        return _Sent(f"cannot be started ({error.strerror})")
    match status:
        case 0:
            return _Sent("accepted", delivered=True)
        case 2:
            return _Sent("apprise does not understand this URL", usable=False)
        case None:
            return _Sent(f"not done after {timeout_s:g} s")
        case _:
            return _Sent("not accepted")


def _run(command: list[str], text: str, timeout_s: float) -> int | None:
    """Run a program on a text; its exit status, or None: it was not done in time.

    Whatever is left of its process group is killed: wall leaves a child behind for each terminal that is stopped.
    Raises OSError when it cannot be started.
    """
    stdin = os.memfd_create("message")  # not a pipe: a program that reads nothing must not block or break us
    try:
        os.write(stdin, text.encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        process = subprocess.Popen(  # noqa: S603  fixed commands, no text of users in them
            command,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"LC_ALL": "C.UTF-8"},  # else wall writes every umlaut as octal numbers
        )
    finally:
        os.close(stdin)
    deadline = time.monotonic() + timeout_s
    # Left unreaped until its group is dead, so that the group's number cannot be somebody else's by then.
    while not (ended := os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_REAP_S)
    return process.returncode if ended else None
