"""`selftest` as a command: what it refuses, how it ends, and that a signal ends it in order."""

from __future__ import annotations

import json
import os
import pwd
import signal
from pathlib import Path

import pytest
from cli_host import DEMO, configured, files_below, run, silent_engine
from selftest_world import SelftestHost, fails

from ds01_policy.cli import selftesting
from ds01_policy.cli.selftesting import _bell, _person
from ds01_policy.selftest.run import Asked, Parts
from ds01_policy.selftest.step import Course


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--replay", DEMO, "selftest"), "cannot run on a recording"),
        (("selftest", "--gpu", "0", "--no-gpu"), "contradict each other"),
        (("selftest", "--timeout", "90"), "write 90s"),
        (("selftest", "--timeout", "5s"), "from 20s to 30m"),
        (("selftest", "--timeout", "31m"), "from 20s to 30m"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, options: tuple[str | Path, ...], said: str) -> None:
    """Before anything is asked."""
    ran = run("--config", configured(tmp_path), *options)
    assert (ran.code, ran.stdout) == (2, "")
    assert said in ran.stderr


def test_without_docker_nothing_is_done(tmp_path: Path) -> None:
    """Exit 3, in words, and no state directory is made for it."""
    config = configured(tmp_path)
    before = files_below(tmp_path)
    ran = run("--config", config, "selftest")
    assert (ran.code, ran.stdout) == (3, "")
    assert "is Docker running" in ran.stderr
    assert "nothing was done" in ran.stderr
    assert files_below(tmp_path) == before


def test_a_docker_that_hangs_ends_it_in_the_time_given(tmp_path: Path) -> None:
    """As everywhere: the setting's timeout."""
    config = configured(tmp_path, docker={"url": f"unix://{tmp_path}/docker.sock", "timeout": "1s"})
    with silent_engine(tmp_path):
        ran = run("--config", config, "selftest", "--json")
    assert (ran.code, ran.stdout) == (3, "")
    assert "within 1 s" in ran.stderr


def on_fake_host(host: SelftestHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a host of plain values stand where this one is; the command around it is the real one."""

    def fake(parts: Parts, asked: Asked) -> Course:
        return host.run(tell=parts.tell, no_gpu=asked.no_gpu, timeout=asked.timeout)

    monkeypatch.setattr(selftesting, "selftest", fake)


def test_every_step_is_written_as_it_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what it comes to; exit 0."""
    on_fake_host(SelftestHost(), monkeypatch)
    ran = run("--config", configured(tmp_path), "selftest", "--no-gpu")
    assert (ran.code, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[0].endswith("selftest")
    assert [line.split()[1] for line in lines[1:] if line[:4] in ("ok  ", "skip")] == [
        "image", "start", "seen", "warn", "notice", "stop", "remove", "epilog", "cleanup", "others",
    ]  # fmt: skip
    assert lines[-1].endswith("warn, stop, remove; not proven here: epilog")


def test_a_failure_is_exit_1_and_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs: nothing but JSON on stdout."""
    host = SelftestHost()
    host.on["start"] = fails("no such device")
    on_fake_host(host, monkeypatch)
    ran = run("--config", configured(tmp_path), "selftest", "--json")
    assert (ran.code, ran.json["ok"]) == (1, False)
    assert [step["step"] for step in ran.json["steps"]] == ["image", "start", "cleanup", "others"]
    assert json.loads(ran.stdout)["command"] == "selftest"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_heard_while_waiting_and_interrupts_nothing_else(number: signal.Signals) -> None:
    """It ends the wait at once, every later one too, and is as it was after it."""
    before = signal.getsignal(number)
    with _bell() as wait:
        assert wait(0)
        for _ in range(3):
            os.kill(os.getpid(), number)
        assert not wait(600)
        assert not wait(600)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("uid", "sudo", "user"),
    [
        pytest.param(0, "alice", "alice", id="through sudo"),
        pytest.param(0, None, "root", id="root"),
        pytest.param(0, "nobody-like-that", "root", id="sudo by somebody who is not known"),
        pytest.param(1001, "root", "alice", id="who is not root may say what they like"),
        pytest.param(4711, None, "4711", id="nobody is called so"),
    ],
)
def test_it_belongs_to_the_person_and_not_to_sudo(
    uid: int, sudo: str | None, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the warning comes to the terminal it was asked for at."""
    known = {"alice": pwd.struct_passwd(("alice", "x", 1001, 1002, "", "/home/alice", "/bin/sh"))}
    monkeypatch.setattr(pwd, "getpwnam", known.__getitem__)
    monkeypatch.setattr(pwd, "getpwuid", lambda each: {1001: known["alice"]}[each])
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.delenv("SUDO_USER", raising=False)
    if sudo is not None:
        monkeypatch.setenv("SUDO_USER", sudo)
    assert _person().user == user
