"""A program is run for so long and no longer, and no more of it is kept than fits."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from stopwatch import stopwatch

from ds01_policy.observe import bounded
from ds01_policy.observe.bounded import Finished, NotInstalled, run
from ds01_policy.observe.ports import SourceError

SHORT = timedelta(seconds=0.4)
LONGER = timedelta(seconds=10)
LONG = timedelta(seconds=20)


def script(directory: Path, body: str) -> str:
    path = directory / "prog"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def ask(program: str, *arguments: str, timeout: timedelta = LONG) -> Finished:
    return run((program, *arguments), timeout=timeout, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, name="prog")


@pytest.fixture
def unkillable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SIGKILL does not arrive, as for a process that the kernel holds in D state."""
    monkeypatch.setattr(bounded, "LAST_WAIT_S", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", lambda *_: None)
        yield
    for process in bounded.stuck.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    bounded.stuck.clear()


def test_what_it_printed_and_how_it_ended_come_back(tmp_path: Path) -> None:
    """Output, errors and exit code are kept apart."""
    assert ask(script(tmp_path, "echo out; echo err >&2; exit 9")) == Finished(9, "out\n", "err\n")


def test_a_signal_is_told_from_an_exit_code(tmp_path: Path) -> None:
    """A negative code is the signal that ended it."""
    assert ask(script(tmp_path, "kill -SEGV $$")).code == -signal.SIGSEGV


def test_bytes_that_are_not_text_do_not_fail(tmp_path: Path) -> None:
    """What is not UTF-8 is replaced."""
    assert ask(script(tmp_path, r"printf 'a\377b'")).out == "a�b"


def test_its_surroundings_are_bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the environment given and no other, no input, and a session of its own."""
    monkeypatch.setenv("SECRET", "x")
    out = ask(script(tmp_path, 'read line; echo "[$line]"; env; echo sid=$(cut -d" " -f6 /proc/$$/stat) pid=$$')).out
    assert out.startswith("[]\n")
    assert "SECRET" not in out
    last = dict(pair.split("=") for pair in out.splitlines()[-1].split())
    assert last["sid"] == last["pid"]


def test_nothing_in_a_name_reaches_a_shell(tmp_path: Path) -> None:
    """A command with shell characters is looked for by exactly that name."""
    with pytest.raises(NotInstalled, match="there is no `true; touch"):
        ask(f"true; touch {tmp_path}/pwned")
    assert not (tmp_path / "pwned").exists()


def test_a_program_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    """A file that may not be run, or is no program, is an error in words."""
    path = tmp_path / "prog"
    path.write_bytes(b"\x7fELF nonsense")
    with pytest.raises(SourceError, match="prog could not be started: Permission denied"):
        ask(str(path))
    path.chmod(0o755)
    with pytest.raises(SourceError, match="prog could not be started: Exec format error"):
        ask(str(path))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("exec sleep 60", id="it hangs"),
        pytest.param("trap '' TERM INT HUP; echo half; while :; do sleep 0.05; done", id="it ignores SIGTERM"),
        pytest.param("sleep 60 & exit 0", id="it ends but its child keeps the pipe open"),
        pytest.param("exec >&- 2>&-; exec sleep 60", id="it closes its output and stays"),
        pytest.param("while :; do echo x >&2; sleep 0.01; done", id="it never stops complaining"),
    ],
)
def test_what_hangs_is_killed_in_time(tmp_path: Path, body: str) -> None:
    """The caller gets an error at the deadline, and nothing of it is left running."""
    program = script(tmp_path, f"echo $$ > {tmp_path}/pid\n{body}")
    group = hanging(program, tmp_path / "pid", r"prog did not answer within 1?0s and was killed")
    gone = time.monotonic() + 20
    while time.monotonic() < gone:  # a killed grandchild is reaped by init, a moment later
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        if _zombies_only(group):
            return
        time.sleep(0.02)
    pytest.fail("it is still running")


def hanging(program: str, written: Path, words: str) -> int:
    """Have one that hangs be killed in time: the number that it wrote before. Anew with more time if it had not yet."""
    for timeout in (SHORT, LONGER):
        with stopwatch() as seconds:
            with pytest.raises(SourceError, match=words):
                ask(program, timeout=timeout)
            assert seconds() < timeout.total_seconds() + bounded.LAST_WAIT_S
        if written.exists() and (number := written.read_text()):
            return int(number)
    pytest.fail("it did not even begin")


def _zombies_only(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return False
    return True


def test_a_child_that_left_the_session_is_not_waited_for(tmp_path: Path) -> None:
    """A descendant beyond reach that holds the pipe costs no more than the timeout."""
    program = script(tmp_path, f"setsid sleep 30 & echo $! > {tmp_path}/pid")
    os.kill(hanging(program, tmp_path / "pid", "did not answer within"), signal.SIGKILL)


@pytest.mark.usefixtures("unkillable")
def test_what_cannot_be_killed_is_given_up(tmp_path: Path) -> None:
    """A process that SIGKILL does not end holds the caller no longer than the deadline and one short wait."""
    with stopwatch() as seconds:
        with pytest.raises(SourceError, match=r"cannot be killed \(pid [0-9]+\): look for NVRM and Xid in dmesg"):
            ask(script(tmp_path, "exec sleep 60"), timeout=SHORT)
        assert seconds() < SHORT.total_seconds() + 1


@pytest.mark.usefixtures("unkillable")
def test_no_second_one_is_started_beside_one_that_is_stuck(tmp_path: Path) -> None:
    """While it hangs in the driver the program is not started again; once it is gone, it is."""
    program = script(tmp_path, f"echo run >> {tmp_path}/runs; exec sleep 60")
    with pytest.raises(SourceError, match="cannot be killed"):
        ask(program, timeout=SHORT)
    with pytest.raises(SourceError, match=r"prog was not started: an earlier one .* still hangs in the driver"):
        ask(program, timeout=SHORT)
    until = time.monotonic() + 20
    while not (tmp_path / "runs").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process = bounded.stuck[program]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert (tmp_path / "runs").read_text() == "run\n"
    script(tmp_path, "echo back")
    assert ask(program).out == "back\n"


def test_a_flood_of_output_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the limit is an error, at once and not at the deadline."""
    monkeypatch.setattr(bounded, "OUTPUT_LIMIT", 2**20)
    with stopwatch() as seconds:
        with pytest.raises(SourceError, match="prog printed more than 1 MiB and was stopped"):
            ask(script(tmp_path, "exec yes"))
        assert seconds() < 10


def test_a_flood_of_errors_is_read_and_dropped(tmp_path: Path) -> None:
    """Standard error is never kept beyond its limit, and never blocks the program."""
    finished = ask(script(tmp_path, "yes | head -c 1000000 >&2; echo done"))
    assert finished.out == "done\n"
    assert len(finished.err) == bounded.ERRORS_KEPT
