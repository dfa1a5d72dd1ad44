"""One run at a time, whatever happened to the one before."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ds01_policy.lock import Held, LockError, RunLock

HOLD = """
import sys, time
from pathlib import Path
from ds01_policy.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """Start a process that has the lock when this returns, and keeps it until a line comes."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_the_lock_file_is_private_and_says_who_holds_it(tmp_path: Path) -> None:
    """While held, people can read the process number and since when; afterwards nothing false is left to read."""
    path = tmp_path / "state" / "lock"
    with RunLock(path):
        number, since, _ = path.read_text().split()
        assert (number, since) == (str(os.getpid()), "since")
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_text() == ""


def test_a_second_run_is_told_who_holds_the_lock_and_can_have_it_afterwards(tmp_path: Path) -> None:
    """Two processes at once: the second is refused at once with the number of the first, and not once it let go."""
    path = tmp_path / "lock"
    with holder(path) as child:
        with pytest.raises(Held, match=rf"another run holds .*/lock \(process {child.pid}\)") as caught, RunLock(path):
            pytest.fail("both hold it")
        assert caught.value.pid == child.pid
        assert path.read_text().startswith(f"{child.pid} since ")
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "free\n"
        with RunLock(path):
            assert path.read_text().startswith(f"{os.getpid()} since ")
        child.stdin.close()


def test_a_run_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    """After kill -9 the old number is still in the file, and in nobody's way."""
    path = tmp_path / "lock"
    with holder(path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=10)
        assert path.read_text().startswith(f"{child.pid} since ")
        with RunLock(path):
            assert path.read_text().startswith(f"{os.getpid()} since ")


def opened_by(pid: int) -> set[str]:
    """List the files that a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed while we look
            found.add(str(entry.readlink()))
    return found


def test_a_program_started_by_a_run_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A hung nvidia-smi that outlives the run holds nothing."""
    path = tmp_path / "lock"
    with RunLock(path), subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        try:
            # Only when it has become another program does it give up what it got from this one.
            until = time.monotonic() + 5
            while str(path) in (opened := opened_by(child.pid)) and time.monotonic() < until:
                time.sleep(0.01)
            with pytest.raises(Held), RunLock(path):
                pytest.fail("held twice in one process")
            still_running = child.poll() is None
        finally:
            child.kill()
    assert still_running
    assert opened
    assert str(path) not in opened


@pytest.mark.parametrize(("content", "pid"), [("", None), ("soon", None), ("-5 since x", None), ("77 since x", 77)])
def test_a_holder_that_has_not_written_its_number_is_still_a_holder(
    tmp_path: Path, content: str, pid: int | None
) -> None:
    """The lock is the kernel's; what the file says is only for the message."""
    path = tmp_path / "lock"
    with RunLock(path):
        path.write_text(content)
        with pytest.raises(Held) as caught, RunLock(path):
            pytest.fail("both hold it")
    assert caught.value.pid == pid


def test_a_lock_file_that_cannot_be_made_is_an_error_of_its_own(tmp_path: Path) -> None:
    """Not a lock held by somebody: the message says what is in the way."""
    (tmp_path / "state").write_text("a file where the directory should be")
    with pytest.raises(LockError, match=r"cannot lock .*: run as root") as caught, RunLock(tmp_path / "state" / "lock"):
        pytest.fail("locked")
    assert not isinstance(caught.value, Held)


def test_a_full_disk_takes_the_words_but_not_the_lock(tmp_path: Path) -> None:
    """Where the number cannot be written, the lock holds all the same."""
    path = tmp_path / "lock"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with RunLock(path):
            assert path.read_text() == ""
            with pytest.raises(Held), RunLock(path):
                pytest.fail("both hold it")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
