"""How the program itself ends when it is interrupted, when nobody reads it, and when it is wrong: never a traceback."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from cli_host import DEMO, DEMO_CONFIG, Ran, configured, ended, run, silent_engine, start

from ds01_policy.cli import deciding, main
from ds01_policy.lock import RunLock

ON_DEMO = ("--config", DEMO_CONFIG, "--replay", DEMO)


@pytest.mark.parametrize("command", ["preview", "evaluate"])
def test_ctrl_c(command: str, tmp_path: Path) -> None:
    """In the middle of asking Docker: out at once with 130, nothing said, and no lock left behind."""
    config = configured(tmp_path, docker={"url": f"unix://{tmp_path}/docker.sock", "timeout": "120s"})
    with silent_engine(tmp_path) as engine:
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # these tests may run where it is ignored
        ours = start("--config", config, command, "--json", preexec_fn=heed)
        connection, _ = engine.accept()
        time.sleep(0.5)  # now it waits for the answer
        ours.send_signal(signal.SIGINT)
        assert ended(ours) == Ran(130, "", "")
        connection.close()
    with RunLock(tmp_path / "state" / "lock"):
        pass


@pytest.mark.parametrize("args", [("preview",), ("preview", "--json")], ids=["some lines", "more than a pipe holds"])
def test_nobody_reads_to_the_end(args: tuple[str, ...]) -> None:
    """`| head -1` has had enough: exit 1, and not a word."""
    reading, writing = os.pipe()
    os.close(reading)
    ours = start(*ON_DEMO, *args, stdout=writing)
    os.close(writing)
    assert ended(ours) == Ran(1, "", "")


def test_a_full_disk_takes_the_output() -> None:
    """One line says so; a script that kept the output must see that it is not whole."""
    with Path("/dev/full").open("w") as full:
        ours = start(*ON_DEMO, "preview", stdout=full)
    told = "ds01-policy: unexpected OSError: [Errno 28] No space left on device (--verbose shows where)\n"
    assert ended(ours) == Ran(1, "", told)


def test_stdout_may_be_closed() -> None:
    """A timer that closed it still gets its tick, and no file of ours takes its number."""
    ours = start(*ON_DEMO, "evaluate", stdout=None, preexec_fn=lambda: os.close(1))
    assert ended(ours) == Ran(0, "", "")


def test_a_locale_without_our_letters() -> None:
    """`≥` is written as an escape, instead of failing after everything was done."""
    ours = start(*ON_DEMO, "evaluate", env={"PYTHONIOENCODING": "latin-1"})
    ran = ended(ours)
    assert (ran.code, ran.stderr) == (0, "")
    assert r"\u2265 30m" in ran.stdout


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("the \x1b[2Jflux capacitor\nis empty")


@pytest.mark.parametrize(
    ("arguments", "verbose"), [(("preview",), False), (("--verbose", "preview"), True), (("-v", "preview"), True)]
)
def test_an_error_nobody_foresaw(
    arguments: tuple[str, ...],
    verbose: bool,  # noqa: FBT001  a table's column
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One line in words and exit 1; with --verbose the traceback, for a report."""
    monkeypatch.setattr(deciding, "preview", broken)
    monkeypatch.setattr(sys, "argv", ["ds01-policy", *arguments])
    stdout = os.dup(1)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    printed = capfd.readouterr()
    assert (ended.value.code, printed.out) == (1, "")
    if verbose:
        assert printed.err.startswith("Traceback (most recent call last):\n")
        assert "in broken" in printed.err
    else:
        words = r"RuntimeError: the \x1b[2Jflux capacitor\nis empty"
        assert printed.err == f"ds01-policy: unexpected {words} (--verbose shows where)\n"


def test_the_runner_of_these_tests_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen exception fails a test; it is not taken for exit 1."""
    monkeypatch.setattr(deciding, "preview", broken)
    with pytest.raises(RuntimeError):
        run(*ON_DEMO, "preview")
