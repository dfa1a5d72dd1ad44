"""Telling people: channels that work, fail, hang, are missing, and must not give secrets away."""

from __future__ import annotations

import os
import select
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import pack

import pytest
from decided import NOW, STOP_AND_REMOVE, container, decision, policy
from stopwatch import stopwatch

from ds01_policy.act import notify
from ds01_policy.act.notify import Delivery, Notifier, uid_of
from ds01_policy.act.terminals import UTMP_SIZE, Terminals
from ds01_policy.model import Action, Outcome, Status

WARN = decision(Action.WARN)
STOP = decision(*STOP_AND_REMOVE)
STOPPED = [Outcome("d1", Action.STOP, Status.DONE)]
URL = "jsons://bot:s3cr3t@chat.example/T0ken?key=k3y"
SECRETS = ("s3cr3t", "T0ken", "k3y", "chat.example")


@dataclass
class Host:
    """A host with stand-ins for everything that people are told through."""

    folder: Path
    uids: dict[str, int] = field(default_factory=lambda: {"alice": os.getuid()})

    def notifier(self, *channels: str, timeout_s: float = 5.0, **templates: str) -> Notifier:
        rules = policy(*channels, timeout_s=timeout_s, **templates)  # type: ignore[arg-type]  # the rest are templates
        terminals = Terminals(utmp=self.folder / "utmp", loginctl=str(self.folder / "loginctl"), timeout_s=20)
        wall = str(self.folder / "wall")
        return Notifier(rules.settings.notify, rules, "gpu01", lambda: NOW, terminals, self.uids.get, wall)

    def logged_in(self, user: str, line: str) -> None:
        known = pack("=hxxi32s4s32s256s", 7, 1, line.encode(), b"", user.encode(), b"")
        (self.folder / "utmp").write_bytes(known.ljust(UTMP_SIZE, b"\0"))

    def program(self, name: str, source: str) -> None:
        """Put a stand-in, in Python, with its folder at hand as `here`."""
        there = self.folder / name
        there.write_text(f"#!{sys.executable}\nimport os, sys, time\nhere = {str(self.folder)!r}\n{source}\n")
        there.chmod(0o755)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# ── tty ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_owner_at_a_terminal_is_reached(host: Host) -> None:
    """The owner's own terminal shows the rendered text, and that counts as delivered."""
    master, slave = os.openpty()
    line = os.ttyname(slave).removeprefix("/dev/")
    host.logged_in("alice", line)
    delivery = host.notifier("tty", warning="{{ container.name }} goes at {{ act_at }}").warn(WARN)
    assert delivery == Delivery(delivered=True, attempted=True, detail=f"tty: {line} reached")
    assert select.select([master], [], [], 5)[0]
    assert b"train goes at 2026-03-02" in os.read(master, 4096)
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(
    ("owner", "detail"),
    [
        pytest.param("unknown", "tty: the owner is unknown, so there is no terminal to write to", id="unknown owner"),
        pytest.param("alice", "tty: alice has no terminal open", id="logged out"),
        pytest.param("bob", "tty: bob is no user of this host", id="no such user"),
        pytest.param("x\x1b[2J\0", "tty: x\\x1b[2J\\x00 is no user of this host", id="hostile owner"),
    ],
)
def test_nobody_at_a_terminal(host: Host, owner: str, detail: str) -> None:
    """Nobody reachable is an attempt, so that the longer notice can run."""
    delivery = host.notifier("tty").warn(decision(Action.WARN, of=container(owner=owner)))
    assert delivery == Delivery(delivered=False, attempted=True, detail=detail)


def test_a_user_database_that_hangs(host: Host) -> None:
    """Looking a user up can be a network away: it is given up in time."""
    hanging = replace(host.notifier("tty", timeout_s=0.3), uid_of=lambda _: time.sleep(3))
    with stopwatch() as seconds:
        assert hanging.warn(WARN) == Delivery(delivered=False, attempted=True, detail="tty: not done after 0.3 s")
        assert seconds() < 2


@pytest.mark.parametrize("user", ["", "no such user here", "a\0b", "\ud800", "x" * 10_000])
def test_users_that_cannot_exist(user: str) -> None:
    """Owners come from labels: whatever they say, looking them up answers."""
    assert uid_of(user) is None


def test_a_user_that_exists() -> None:
    """Root is known everywhere."""
    assert uid_of("root") == 0


# ── wall ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_wall_gets_the_text_by_stdin(host: Host) -> None:
    """As an argument, the name of a file would print that file; and its success proves nothing."""
    host.program("wall", "assert sys.argv[1:] == []\nopen(here + '/said', 'w').write(sys.stdin.read())")
    delivery = host.notifier("wall", warning="/etc/passwd for Größe → {{ owner }}").warn(WARN)
    assert delivery == Delivery(delivered=False, attempted=True, detail="wall: sent, which proves nothing")
    assert host.read("said") == "/etc/passwd for Größe → alice"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        pytest.param("sys.exit(3)", "failed with exit status 3", id="it fails, reading nothing"),
        pytest.param("time.sleep(20)", "not done after 0.5 s", id="it hangs"),
        pytest.param(
            "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(20)", "not done", id="it is stubborn"
        ),
        pytest.param("os.close(0); time.sleep(0.1)", "sent", id="it closes its input"),
    ],
)
def test_wall_that_misbehaves(host: Host, program: str, words: str) -> None:
    """However wall fails, it is an attempt, in words and in bounded time."""
    host.program("wall", program)
    with stopwatch() as seconds:
        delivery = host.notifier("wall", timeout_s=0.5 if "sleep(20)" in program else 15).warn(WARN)
        assert seconds() < 10
    assert (delivery.delivered, delivery.attempted) == (False, True)
    assert words in delivery.detail


@pytest.mark.parametrize("ending", ["time.sleep(20)", "sys.exit(0)"], ids=["hangs itself", "is done itself"])
def test_wall_leaves_no_children(host: Host, ending: str) -> None:
    """Wall leaves a child behind for each terminal that is stopped, up to five minutes: they are killed."""
    host.program(
        "wall", f"child = os.fork()\nif not child: time.sleep(120)\nopen(here + '/c', 'w').write(str(child))\n{ending}"
    )
    for timeout_s in (2, 15):  # once more where it took longer to begin at all
        host.notifier("wall", timeout_s=timeout_s).warn(WARN)
        if (host.folder / "c").exists():
            break
    child = int(host.read("c"))
    deadline = time.monotonic() + 20
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_no_wall(host: Host) -> None:
    """A channel that is not there is no attempt, and says what is missing."""
    delivery = host.notifier("wall").warn(WARN)
    words = "wall: cannot be started (No such file or directory); it is part of util-linux"
    assert delivery == Delivery(delivered=False, attempted=False, detail=words)


# ── apprise ──────────────────────────────────────────────────────────────────────────────────────────────────────────

APPRISE = """
import json, os, sys, time
class Apprise:
    def add(self, url):
        self.url = url
        print("adding", url); print("adding", url, file=sys.stderr)
        return not url.startswith("bogus")
    def notify(self, **said):
        {notify}
"""


@pytest.fixture
def apprise(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Give the host an apprise that writes down what it is given, and prints its URL where it can."""
    library = host.folder / "library"
    library.mkdir()
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.setenv("PYTHONPATH", str(library))
    _behaves(host, "json.dump([self.url, said], open(os.environ['PYTHONPATH'] + '/said', 'w')); return True")
    return host


def _behaves(host: Host, notify: str) -> None:
    (host.folder / "library" / "apprise.py").write_text(APPRISE.replace("{notify}", notify))


def test_apprise_delivers(apprise: Host, capfd: pytest.CaptureFixture[str]) -> None:
    """A service that accepts the message has reached somebody; it gets subject and text as plain text."""
    delivery = apprise.notifier(URL, stopped="{{ why }}").stopped(STOP, STOPPED)
    assert delivery == Delivery(delivered=True, attempted=True, detail="jsons://…: accepted")
    said = apprise.read("library/said")
    assert URL in said
    assert '"title": "gpu01: container train was taken down"' in said
    assert '"body": "idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%", "body_format": "text"' in said
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("notify", "words"),
    [
        pytest.param("return False", "not accepted", id="the service refuses"),
        pytest.param("return None", "not accepted", id="nothing was sent"),
        pytest.param("raise RuntimeError(self.url)", "not accepted", id="apprise raises, with the URL in its words"),
        pytest.param("sys.exit(self.url)", "not accepted", id="apprise ends the process"),
        pytest.param("os.kill(os.getpid(), 9)", "not accepted", id="apprise crashes"),
        pytest.param("time.sleep(20)", "not done after 1 s", id="the service hangs"),
    ],
)
def test_apprise_that_fails(apprise: Host, notify: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    """However it fails: an attempt, in bounded time, and the URL's secrets are nowhere."""
    _behaves(apprise, notify)
    with stopwatch() as seconds:
        delivery = apprise.notifier(URL, timeout_s=1 if "sleep" in notify else 20).warn(WARN)
        assert seconds() < 15
    assert delivery == Delivery(delivered=False, attempted=True, detail=f"jsons://…: {words}")
    assert not [secret for secret in SECRETS if secret in str(capfd.readouterr())]


@pytest.mark.parametrize(
    ("channel", "detail"),
    [
        pytest.param("bogus://s3cr3t", "bogus://…: apprise does not understand this URL", id="an unknown scheme"),
        pytest.param("s3cr3t", "a channel that is neither tty, wall nor a URL: not usable", id="no URL"),
        pytest.param("://s3cr3t", "a channel that is neither tty, wall nor a URL: not usable", id="no scheme"),
        pytest.param("s3 cr3t://x", "a channel that is neither tty, wall nor a URL: not usable", id="a broken scheme"),
        pytest.param("", "a channel that is neither tty, wall nor a URL: not usable", id="nothing"),
    ],
)
def test_channels_that_are_not_usable(apprise: Host, channel: str, detail: str) -> None:
    """A channel that cannot work as configured is no attempt."""
    assert apprise.notifier(channel).warn(WARN) == Delivery(delivered=False, attempted=False, detail=detail)


def test_apprise_that_is_not_installed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional extra is named, the URL is not."""
    monkeypatch.setattr(notify, "find_spec", lambda _: None)
    delivery = host.notifier(URL).warn(WARN)
    words = "jsons://…: not usable: pip install 'ds01-policy[apprise]'"
    assert delivery == Delivery(delivered=False, attempted=False, detail=words)


def test_apprise_does_not_see_our_modules(apprise: Host) -> None:
    """Our docker.py must not be what some plugin's `import docker` finds."""
    _behaves(apprise, "import apprise_child; return True")
    assert apprise.notifier(URL, timeout_s=20).warn(WARN).detail == "jsons://…: not accepted"


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_channel_is_tried(apprise: Host) -> None:
    """One that hangs or fails keeps no other from being tried; one that reached somebody is enough."""
    apprise.program("wall", "time.sleep(20)")
    delivery = apprise.notifier("wall", "tty", "bogus://x", URL, timeout_s=8).warn(WARN)
    assert delivery == Delivery(
        delivered=True,
        attempted=True,
        detail="wall: not done after 8 s; tty: alice has no terminal open; "
        "bogus://…: apprise does not understand this URL; jsons://…: accepted",
    )


def test_no_channel_at_all(host: Host) -> None:
    """An empty list is the admin's choice: nobody is told, and the longer notice runs."""
    assert host.notifier().warn(WARN) == Delivery(delivered=False, attempted=True, detail="no channel is configured")


def test_a_broken_template_is_told_and_still_warns(host: Host) -> None:
    """The built-in text goes out; the detail tells the admin why."""
    host.program("wall", "open(here + '/said', 'w').write(sys.stdin.read())")
    delivery = host.notifier("wall", warning="{{ oops }}").warn(WARN)
    assert delivery.detail == "template warning.j2: 'oops' is undefined; wall: sent, which proves nothing"
    assert "your container train" in host.read("said")


def test_stopped_claims_only_what_was_done(host: Host) -> None:
    """Actions that came to nothing are not in the text."""
    host.program("wall", "open(here + '/said', 'w').write(sys.stdin.read())")
    failed = [*STOPPED, Outcome("d1", Action.REMOVE, Status.FAILED)]
    host.notifier("wall", stopped="{{ actions | join(' ') }}").stopped(STOP, failed)
    assert host.read("said") == "stop"
