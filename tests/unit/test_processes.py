"""What the kernel tells of processes: a /proc of our own, and this machine's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fake_proc import BOOTED, FakeProc

from ds01_policy.model import HostTask
from ds01_policy.observe.processes import Processes
from ds01_policy.ownership import Gone, Hidden

HERTZ = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def fake(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Start a real process that waits to be ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_everything_that_is_told_of_a_process(fake: FakeProc) -> None:
    """The effective user counts, and the start is told in both ways."""
    fake.add(42, name="train.py", uid=0, ticks=3 * HERTZ, state="R", cgroup="0::/x\n")
    assert Processes(fake.root).look(42) == HostTask(
        pid=42,
        uid=0,
        user="root",
        command="train.py",
        start_ticks=3 * HERTZ,
        started_at=datetime.fromtimestamp(BOOTED + 3, UTC),
        cgroup="0::/x\n",
        state="R",
    )


@pytest.mark.parametrize("name", ["a b", ") R 1 1", "(x)", "a) Z (b", "\x1b[31m", "ä", ""])
def test_a_command_may_be_called_anything(fake: FakeProc, name: str) -> None:
    """Whatever stands in the brackets, the fields after it are found."""
    fake.add(42, name=name, ticks=777, state="S")
    found = Processes(fake.root).look(42)
    assert (found.command, found.start_ticks, found.state) == (name, 777, "S")


def test_a_user_that_nobody_is_called(fake: FakeProc) -> None:
    """The number is still known."""
    fake.add(42, uid=3_999_999_999)
    found = Processes(fake.root).look(42)
    assert (found.uid, found.user) == (3_999_999_999, None)


def test_nobody_there_is_gone(fake: FakeProc) -> None:
    """Gone is an answer, not a failure."""
    with pytest.raises(Gone):
        Processes(fake.root).look(42)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("stat", "42 (x) S 1"),
        ("stat", ""),
        ("stat", "42 (x) S " + "x " * 40),
        ("stat", f"42 (x) S {(chr(57) * 30 + chr(32)) * 40}"),
        ("../stat", "cpu 1"),
        ("status", "Name: x"),
        ("status", ""),
    ],
)
def test_another_shape_is_hidden(fake: FakeProc, file: str, text: str) -> None:
    """What is not understood is not guessed."""
    (fake.add(42) / file).write_text(text)
    with pytest.raises(Hidden, match="not understood"):
        Processes(fake.root).look(42)


def test_what_went_between_two_files_is_gone(fake: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is read of the process that has the number next."""
    folder = fake.add(42, ticks=1)
    real = os.open

    def vanishing(path: str | Path, *args: int, **options: int) -> int:
        if path == "stat":
            shutil.rmtree(folder)
            fake.add(42, ticks=2)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", vanishing)
    with pytest.raises(Gone):
        Processes(fake.root).look(42)


def test_a_cgroup_that_may_not_be_read_is_none(fake: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is told; whose it is, is not known then."""
    fake.add(42)
    real = os.open

    def refusing(path: str | Path, *args: int, **options: int) -> int:
        if path == "cgroup":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", refusing)
    assert Processes(fake.root).look(42).cgroup is None


# ── this machine's own ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_real_process_began_just_now(child: subprocess.Popen[bytes]) -> None:
    """Its start as a time fits the clock to a second or two."""
    found = Processes().look(child.pid)
    assert abs(found.started_at - datetime.now(UTC)) < timedelta(seconds=30)
    assert (found.uid, found.command.startswith("python"), bool(found.cgroup)) == (os.geteuid(), True, True)


def test_a_process_that_has_ended_is_gone(child: subprocess.Popen[bytes]) -> None:
    """Once it is reaped, both ways of naming it say so; before, it is a zombie."""
    processes = Processes()
    handle = processes.open(child.pid)
    child.kill()
    while processes.look(child.pid).state != "Z":
        time.sleep(0.01)
    child.wait()
    with pytest.raises(Gone):
        processes.look(child.pid)
    with pytest.raises(Gone):
        processes.open(child.pid)
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)


# ── who has a device open, and who tends a container ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "holds"),
    [
        ("/dev/nvidia1", True),
        ("/dev/nvidia1 (deleted)", True),
        ("/srv/jail/dev/nvidia1", True),
        ("/dev/nvidia10", False),
        ("/dev/nvidia0", False),
        ("/dev/nvidiactl", False),
        ("/dev/nvidia-uvm", False),
        ("/home/alice/xnvidia1", False),
        ("socket:[1234]", False),
    ],
)
def test_who_has_a_device_open(fake: FakeProc, target: str, holds: bool) -> None:  # noqa: FBT001
    """By the path's end: in another mount namespace it begins otherwise."""
    fake.add(41, files=("/dev/null",))
    fake.add(42, files=("/dev/null", target))
    assert Processes(fake.root).holders(1) == ((42,) if holds else ())


def test_a_real_open_file_is_found(tmp_path: Path) -> None:
    """This very process holds it, for as long as it does."""
    only_me = tmp_path / "proc"
    only_me.mkdir()
    (only_me / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    with (tmp_path / "nvidia7").open("w"):
        assert Processes(only_me).holders(7) == (os.getpid(),)
    assert Processes(only_me).holders(7) == ()


def test_files_that_cannot_be_read_are_no_answer(fake: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds it is not known while one process' files are hidden."""
    fake.add(41)
    fake.add(42)
    real = Path.iterdir

    def refusing(path: Path) -> Iterator[Path]:
        if path == fake.root / "42" / "fd":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    with pytest.raises(Hidden, match="open files of process 42 cannot be read"):
        Processes(fake.root).holders(1)


GONE = "a1" * 32


@pytest.mark.parametrize(
    ("arguments", "tended"),
    [
        (("/usr/bin/containerd-shim-runc-v2", "-namespace", "moby", "-id", GONE, "-address", "/run/x"), True),
        (("containerd-shim", "-namespace", "moby", "-workdir", f"/var/lib/x/moby/{GONE}", "-id", GONE), True),
        (("docker-containerd-shim", GONE, "/var/run/x"), True),
        (("containerd-shim-runc-v2", "-id", "b2" * 32), False),
        (("python3", "-id", GONE), False),
        ((), False),
    ],
)
def test_who_tends_a_container(fake: FakeProc, arguments: tuple[str, ...], tended: bool) -> None:  # noqa: FBT001
    """A runtime's shim names the container it keeps; what merely names it keeps nothing."""
    fake.add(41, arguments=())
    fake.add(42, arguments=arguments)
    assert Processes(fake.root).tended(GONE) is tended
