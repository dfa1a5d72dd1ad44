"""Finding a user's own terminals and writing to them, with real ptys, a made-up utmp and a stand-in for loginctl."""

from __future__ import annotations

import json
import os
import select
import struct
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stopwatch import stopwatch

from ds01_policy.act.terminals import UTMP_SIZE, Terminals, logins, write

DEV = Path("/dev")
ME = os.getuid()
NOBODY_ELSE = ME + 4242
TEXT = "your container train will be stopped\nrule idle-gpu"


@dataclass(frozen=True)
class Pty:
    """A terminal: people type at `master`; `line` is what utmp calls it."""

    master: int
    slave: int
    line: str

    def shown(self, ending: bytes = b"") -> bytes:
        """Read what comes onto the screen, up to this ending; the kernel passes it on a moment after the write."""
        screen = b""
        while select.select([self.master], [], [], 0.2 if screen.endswith(ending) else 20)[0]:
            screen += os.read(self.master, 65536)
        return screen


@pytest.fixture
def pty() -> Iterator[Pty]:
    master, slave = os.openpty()
    yield Pty(master, slave, os.ttyname(slave).removeprefix("/dev/"))
    for descriptor in (master, slave):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test hung up


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_own_terminal_takes_the_text(pty: Pty) -> None:
    """Every line is on the screen, from column one, on lines of its own."""
    assert write(DEV, pty.line, ME, TEXT) == ""
    shown = pty.shown(b"idle-gpu\r\r\n").replace(b"\r\r\n", b"\r\n")  # the terminal itself turns \n into \r\n
    assert shown == b"\r\nyour container train will be stopped\r\nrule idle-gpu\r\n"


def test_hostile_text_is_escaped_even_here(pty: Pty) -> None:
    """Whoever calls: no control character but the line ends reaches a screen."""
    write(DEV, pty.line, ME, "a\x1b[2J\x07\x9b\u202eb")
    assert pty.shown(b"b\r\r\n").strip() == rb"a\x1b[2J\x07\x9b\u202eb"


def test_mesg_n_is_written_to(pty: Pty) -> None:
    """A user who refuses chatter still hears that work will be stopped."""
    os.fchmod(pty.slave, 0o600)
    assert write(DEV, pty.line, ME, TEXT) == ""


def test_terminal_of_somebody_else_is_left_alone(pty: Pty) -> None:
    """The owner of the open device decides, whatever utmp says."""
    assert write(DEV, pty.line, NOBODY_ELSE, TEXT) == "belongs to somebody else"
    assert pty.shown() == b""


def test_stopped_terminal_does_not_hang(pty: Pty) -> None:
    """After Ctrl-S nothing can be written; that is found out at once."""
    termios.tcflow(pty.slave, termios.TCOOFF)
    with stopwatch() as seconds:
        assert write(DEV, pty.line, ME, TEXT) == "stopped or full"
        assert seconds() < 1
    termios.tcflow(pty.slave, termios.TCOON)


def test_terminal_that_nobody_reads_does_not_hang(pty: Pty) -> None:
    """A full buffer takes part of the text, then nothing; neither counts as delivered, neither waits."""
    with stopwatch() as seconds:
        results = [write(DEV, pty.line, ME, "x" * 400 + "\n" + "y" * 400) for _ in range(60)]
        assert seconds() < 2
    assert results[0] == ""
    assert results[-1] == "stopped or full"
    assert any(result.startswith("took ") for result in results)


def test_terminal_that_hung_up(pty: Pty) -> None:
    """The window was closed between finding it and writing to it."""
    os.close(pty.master)
    assert write(DEV, pty.line, ME, TEXT) in ("Input/output error", "No such file or directory")


@pytest.mark.parametrize(
    "line",
    ["", "pts/../null", "../etc/passwd", "/dev/pts/0", "null", "tty", "pts/x", "pts/1\n", "mem", "pts/0/..", "pts/١"],
)
def test_only_names_of_terminals_are_opened(line: str) -> None:
    """A forged utmp cannot have any other file opened."""
    assert write(DEV, line, ME, TEXT) == "not the name of a terminal"


@pytest.mark.parametrize("kind", ["file", "fifo", "link to a terminal", "device that is no terminal", "nothing"])
def test_only_terminals_are_written_to(kind: str, tmp_path: Path, pty: Pty) -> None:
    """Where a terminal's name stands for something else, nothing is written and nothing hangs."""
    (tmp_path / "pts").mkdir()
    there = tmp_path / "pts" / "7"
    match kind:
        case "file":
            there.write_text("mine")
        case "fifo":
            os.mkfifo(there)
        case "link to a terminal":
            there.symlink_to(DEV / pty.line)
        case "device that is no terminal":
            try:
                os.mknod(there, 0o20600, os.makedev(1, 3))
                there.open("rb").close()
            except PermissionError:
                pytest.skip("needs root, on a file system that allows devices")
    assert write(tmp_path, "pts/7", ME, TEXT) != ""
    assert pty.shown() == b""
    if kind == "file":
        assert there.read_text() == "mine"


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def record(user: str, line: str, kind: int = 7, size: int = UTMP_SIZE) -> bytes:
    """One login as the C library writes it; on some machines the part behind the host name is longer."""
    known = struct.pack("=hxxi32s4s32s256s", kind, 1234, line.encode(), b"ts/0", user.encode(), b"10.0.0.1")
    return known + b"\x01" * (size - len(known))


def places(
    tmp_path: Path, utmp: bytes | None = None, loginctl: str | None = None, timeout_s: float = 20.0
) -> Terminals:
    """Make a host with this utmp, and a loginctl that is this Python script."""
    if utmp is not None:
        (tmp_path / "utmp").write_bytes(utmp)
    program = tmp_path / "loginctl"
    if loginctl is not None:
        program.write_text(f"#!{sys.executable}\nimport sys, time\n{loginctl}\n")
        program.chmod(0o755)
    return Terminals(utmp=tmp_path / "utmp", dev=DEV, loginctl=str(program), timeout_s=timeout_s)


def sessions(*rows: dict[str, object]) -> str:
    """Make a loginctl that lists these, if asked the right way."""
    asked = ["list-sessions", "--no-pager", "-o", "json"]
    return f"assert sys.argv[1:] == {asked}, sys.argv\nprint({json.dumps(rows)!r})"


@pytest.mark.parametrize("size", [384, 400])
def test_utmp_logins(size: int) -> None:
    """Live logins are read from either record size; boots, dead sessions, odd lines and a torn end are not."""
    data = (
        record("alice", "pts/0", size=size)
        + record("reboot", "~", kind=2, size=size)
        + record("bob", "pts/3", kind=8, size=size)
        + record("mallory", "../etc/shadow", size=size)
        + record("bob", "tty1", size=size)
        + record("carol", "pts/9", size=size)[:-1]
    )
    assert logins(data, size) == [(b"alice", "pts/0"), (b"bob", "tty1")]


@given(st.binary(max_size=2000))
def test_utmp_of_any_bytes(data: bytes) -> None:
    """Whatever the file holds, only names of terminals come out of it."""
    for _, line in logins(data):
        assert line.isascii()
        assert ".." not in line
        assert line.startswith(("pts/", "tty", "hvc", "console"))


@given(st.lists(st.tuples(st.text("abcdefgh", min_size=1, max_size=32), st.integers(0, 9999)), max_size=6))
def test_utmp_round_trip(entries: list[tuple[str, int]]) -> None:
    """What a login wrote is what is read."""
    data = b"".join(record(user, f"pts/{number}") for user, number in entries)
    assert logins(data) == [(user.encode(), f"pts/{number}") for user, number in entries]


def test_finds_what_logind_and_utmp_know(tmp_path: Path) -> None:
    """Both are asked, each terminal counts once, other people's are left out."""
    host = places(
        tmp_path,
        utmp=record("alice", "pts/0") + record("bob", "pts/1") + record("alice", "pts/4"),
        loginctl=sessions(
            {"session": "3", "uid": 1000, "user": "alice", "seat": "", "tty": "pts/4"},
            {"session": "4", "uid": 1001, "user": "bob", "seat": "", "tty": "pts/1"},
            {"session": "5", "uid": 1000, "user": "alice", "seat": None, "tty": None},
            {"session": "6", "uid": 1000, "user": "alice", "tty": "../sda"},
            {"session": "c1", "uid": 1000, "user": "alice", "seat": "seat0", "tty": "tty2"},
        ),
    )
    assert host.of("alice", 1000) == ["pts/4", "tty2", "pts/0"]


def test_name_longer_than_utmp_holds(tmp_path: Path) -> None:
    """Utmp cuts names at 32 bytes; whose terminal it really is, its device says."""
    host = places(tmp_path, utmp=record("a" * 32, "pts/0"))
    assert host.of("a" * 40, 1000) == ["pts/0"]


@pytest.mark.parametrize(
    "loginctl",
    [
        pytest.param(None, id="it is not installed"),
        pytest.param("time.sleep(20)", id="it hangs"),
        pytest.param("sys.exit('not booted with systemd')", id="it fails"),
        pytest.param("print('SESSION UID USER')", id="it prints a table"),
        pytest.param("print('{\"a\": 1}')", id="it prints something else"),
        pytest.param('print(\'[1, null, {}, {"uid": 1000, "tty": 5}]\')', id="it prints odd sessions"),
        pytest.param("sys.stdout.buffer.write(b'\\xff\\xfe')", id="it prints no text"),
    ],
)
def test_logind_is_optional(tmp_path: Path, loginctl: str | None) -> None:
    """However loginctl fails, utmp still answers, in bounded time."""
    host = places(tmp_path, utmp=record("alice", "pts/0"), loginctl=loginctl, timeout_s=1.0)
    with stopwatch() as seconds:
        assert host.of("alice", 1000) == ["pts/0"]
        assert seconds() < 5


@pytest.mark.parametrize("kind", ["nothing", "a directory", "a fifo", "an empty file"])
def test_utmp_is_optional(tmp_path: Path, kind: str) -> None:
    """However utmp fails, logind still answers, and nothing hangs."""
    host = places(tmp_path, loginctl=sessions({"uid": 1000, "tty": "pts/2"}))
    match kind:
        case "a directory":
            host.utmp.mkdir()
        case "a fifo":
            os.mkfifo(host.utmp)
        case "an empty file":
            host.utmp.touch()
    assert host.of("alice", 1000) == ["pts/2"]


def test_utmp_is_read_up_to_a_bound(tmp_path: Path) -> None:
    """A file that grew without end costs a bounded read."""
    host = places(tmp_path, utmp=b"")
    with host.utmp.open("r+b") as file:
        file.truncate(10**12)
    with stopwatch() as seconds:
        assert host.of("alice", 1000) == []
        assert seconds() < 2


def test_tell_writes_to_each_own_terminal(tmp_path: Path, pty: Pty) -> None:
    """What was reached and what was not is told, terminal by terminal."""
    host = places(tmp_path, utmp=record("me", pty.line) + record("me", "pts/99999999"))
    told = host.tell("me", ME, TEXT)
    assert told.reached == (pty.line,)
    assert told.missed == ("pts/99999999: No such file or directory",)
    assert b"idle-gpu" in pty.shown(b"idle-gpu\r\r\n")


def test_tell_believes_the_device_not_utmp(tmp_path: Path, pty: Pty) -> None:
    """A stale or forged login that names somebody else's terminal reaches nobody."""
    host = places(tmp_path, utmp=record("alice", pty.line))
    told = host.tell("alice", NOBODY_ELSE, TEXT)
    assert (told.reached, told.missed) == ((), (f"{pty.line}: belongs to somebody else",))
    assert pty.shown() == b""


def test_tell_is_bounded(tmp_path: Path) -> None:
    """A user with a thousand logins gets a few terminals written to, not a thousand."""
    host = places(tmp_path, utmp=b"".join(record("me", f"pts/{90000000 + number}") for number in range(1000)))
    assert len(host.tell("me", ME, TEXT).missed) == 16
