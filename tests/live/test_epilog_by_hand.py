"""`ds01-policy epilog` on a real engine: a removed container's stray ends, everybody else's process lives."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rig import parts
from rig.cli import Cli
from rig.engine import Engine
from rig.host import LIMITS, OVERTIME
from rig.nvidia_smi import SmiGpu, SmiProcess, calls, write_nvidia_smi
from rig.strays import Stray, cgroup_of, move

A, B = "GPU-aaaa", "GPU-bbbb"

Start = Callable[..., Stray]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that are gone after the test."""
    started: list[Stray] = []

    def one(*args: str) -> Stray:
        started.append(Stray(*args))
        return started[-1]

    yield one
    for stray in started:
        stray.end()


def configured(cli: Cli, engine: Engine, *processes: int, mode: str = "enforce", **settings: Any) -> Cli:
    """Configure a host whose driver lists these processes on the first of two GPUs."""
    gpu = SmiGpu(A, processes=tuple(SmiProcess(pid) for pid in processes))
    return cli.configure(
        docker=f"unix://{engine.socket}",
        nvidia_smi=write_nvidia_smi(cli.base / "nvidia-smi", [gpu, SmiGpu(B)]),
        settings={"mode": mode, "notify": {"channels": []}, **settings},
        files={"rules/rules.yaml": OVERTIME, "limits.yaml": LIMITS},
    )


def removed(cli: Cli, engine: Engine, name: str = "train") -> str:
    """Start a GPU container, let the program see it, and remove it by another hand."""
    container = engine.run(name=name, gpus=f"device={A}")
    seen = cli("evaluate", "--json", "--mode", "observe")
    assert seen.rc == 0, seen.stderr
    engine.rm(container)
    return container


def pid_of(engine: Engine, container: str) -> int:
    pid: int = engine.inspect(container)["State"]["Pid"]
    return pid


def test_the_stray_ends_and_everybody_else_lives(engine: Engine, cli: Cli, start: Start) -> None:
    """A neighbour's on the same GPU, a bare-metal one, and one whose cgroup in the neighbour's imitates the gone."""
    container = removed(configured(cli, engine), engine)
    neighbour = engine.run(name="neighbour", gpus="all")
    with (
        cgroup_of(container) as its,
        cgroup_of(container, f"docker/{neighbour}/docker") as imitated,
    ):
        stray, deaf, bare, imitator = start(), start("trap '' TERM"), start(), start()
        move(stray, its)
        move(deaf, its)
        move(imitator, imitated)
        pids = (stray.pid, deaf.pid, bare.pid, imitator.pid, pid_of(engine, neighbour))
        done = configured(cli, engine, *pids)("epilog", "--container", "train", "--json")
        assert (stray.ended_by(), deaf.ended_by()) == (signal.SIGTERM, signal.SIGKILL)
        assert (bare.lives, imitator.lives, engine.state(neighbour)) == (True, True, "running")
        imitator.end()
    document = done.json
    assert (done.rc, document["status"], document["hands"]) == (0, "done", True), done.stderr
    assert document["container"]["id"] == container
    assert [words.rpartition(", ")[2] for words in document["ended"]] == ["with SIGTERM", "with SIGKILL"]
    whose = sorted(words.rpartition(", ")[2].partition(":")[0].rstrip(")") for words in document["left"])
    assert whose == [*[f"container {neighbour[:12]}"] * 2, "of the host"]
    assert [gpu["uuid"] for gpu in document["gpus"]] == [A]


@pytest.mark.parametrize(
    ("mode", "options", "settings"),
    [
        ("observe", (), {}),
        ("warn", (), {}),
        ("enforce", ("--dry-run",), {}),
        ("enforce", (), {"epilog": {"kill": False, "reset": "never"}}),
    ],
)
def test_where_nothing_may_be_done_nothing_is(
    engine: Engine, cli: Cli, start: Start, mode: str, options: tuple[str, ...], settings: dict[str, Any]
) -> None:
    """The stray is told of, and lives."""
    container = removed(configured(cli, engine), engine)
    with cgroup_of(container) as its:
        stray = start()
        move(stray, its)
        done = configured(cli, engine, stray.pid, mode=mode, **settings)("epilog", "--container", container, *options)
        assert stray.lives
        stray.end()
    assert done.rc == 0, done.stderr
    assert f"left   sleep (pid {stray.pid}" in done.stdout


def test_a_container_that_runs_is_refused(engine: Engine, cli: Cli) -> None:
    """Nothing is looked at, and its process lives."""
    container = engine.run(name="train", gpus=f"device={A}")
    host = configured(cli, engine, pid_of(engine, container))
    for name in ("train", container, container[:8]):
        done = host("epilog", "--container", name)
        assert done.rc == 2
        assert "train" in done.stderr
        assert "is running: only what a container has left is checked" in done.stderr
    assert engine.state(container) == "running"
    assert not calls(cli.base / "nvidia-smi")


def test_a_container_that_has_exited_is_checked_by_what_docker_still_tells(
    engine: Engine, cli: Cli, start: Start
) -> None:
    """The ledger never saw it; its cgroup is made anew, as a restart would."""
    container = engine.run(name="train", gpus=f"device={A}")
    engine.cli("kill", container)
    with cgroup_of(container) as its:
        stray = start()
        move(stray, its)
        done = configured(cli, engine, stray.pid)("epilog", "--container", "train", "--json")
        assert stray.ended_by() == signal.SIGTERM
    assert done.rc == 0, done.stderr
    assert len(done.json["ended"]) == 1


def test_a_process_older_than_the_container_lives(engine: Engine, cli: Cli, start: Start) -> None:
    """Somebody moved it into a cgroup that is called so."""
    old = start()
    container = removed(configured(cli, engine), engine)
    ledger = cli.state / "ledger.db"
    _age(ledger, container)
    with cgroup_of(container) as its:
        move(old, its)
        done = configured(cli, engine, old.pid)("epilog", "--container", "train", "--json")
        assert old.lives
        old.end()
    assert "since before the container was started" in done.json["left"][0]


def _age(ledger: Path, container: str) -> None:
    """Write into the ledger that the container was started a year later than it was."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        (started,) = connection.execute("SELECT started_at FROM inventory WHERE container = ?", (container,)).fetchone()
        later = started.replace(started[:4], str(int(started[:4]) + 1), 1)
        connection.execute("UPDATE inventory SET started_at = ? WHERE container = ?", (later, container))


LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
# Ends the stray, waits until its number is free, and starts a process of the host that gets it.
HANDS_OVER = """
if [ ! -e {flag} ]; then
  touch {flag}
  kill -9 {pid}
  while kill -0 {pid} 2>/dev/null; do :; done
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    echo $(({pid} - 1)) > /proc/sys/kernel/ns_last_pid
    setsid sleep 100000 > /dev/null 2>&1 < /dev/null &
    [ $! = {pid} ] && echo $! > {new} && break
    kill $!
  done
fi
"""


def test_a_number_that_changes_hands_between_listing_and_ending(engine: Engine, cli: Cli, start: Start) -> None:
    """The driver lists the stray; before anybody looks, its number belongs to somebody else's process."""
    if not LAST_PID.exists():
        parts.missing("this kernel does not let a process' number be chosen")
    container = removed(configured(cli, engine), engine)
    flag, new = cli.base / "flag", cli.base / "new"
    with cgroup_of(container) as its:
        for _ in range(6):  # whoever starts a process in that very moment gets the number instead
            flag.unlink(missing_ok=True)
            stray = start()
            move(stray, its)
            host = configured(cli, engine, stray.pid)
            smi = cli.base / "nvidia-smi"
            lines = smi.read_text().splitlines()
            hands_over = HANDS_OVER.format(pid=stray.pid, flag=flag, new=new)
            smi.write_text("\n".join([lines[0], hands_over, *lines[1:]]) + "\n")
            done = host("epilog", "--container", "train", "--json")
            if new.exists():
                break
        else:
            parts.missing("the number was not to be had again")
        innocent = int(new.read_text())
        assert innocent == stray.pid
        cgroup = Path(f"/proc/{innocent}/cgroup").read_text()
        signal.pidfd_send_signal(os.pidfd_open(innocent), signal.SIGKILL)
    assert container not in cgroup
    assert done.json["ended"] == []
    assert f"pid {innocent}" in done.json["left"][0]


def test_a_command_that_hangs_ends_in_the_time_given(engine: Engine, cli: Cli) -> None:
    """And says that nobody could look."""
    removed(configured(cli, engine), engine)
    host = configured(cli, engine, epilog={"timeout": "2s"})
    write_nvidia_smi(cli.base / "nvidia-smi", [SmiGpu(A)], hang_s=600)
    began = time.monotonic()
    done = host("epilog", "--container", "train", "--json")
    assert (done.rc, done.json["status"]) == (1, "failed")
    assert "did not answer within" in done.json["detail"]
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--container ID or --gpu UUID"),
        (("--container", "a", "--gpu", A), "--container ID or --gpu UUID"),
        (("--container", "nobody"), "no container is called 'nobody', and none is remembered"),
        (("--gpu", "0"), "0 is not a GPU's UUID"),
        (("--container", "a", "--clear"), "--clear goes with --gpu"),
    ],
)
def test_what_cannot_be_meant_is_refused(engine: Engine, cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    """Exit code 2, nothing done."""
    done = configured(cli, engine)("epilog", *arguments)
    assert (done.rc, done.stdout) == (2, "")
    assert words in done.stderr


def test_docker_down_is_said(engine: Engine, cli: Cli) -> None:
    """Whether the container runs is then not known."""
    removed(configured(cli, engine), engine)
    cli.configure(docker="unix:///nowhere.sock", nvidia_smi=cli.base / "nvidia-smi", settings={"mode": "enforce"})
    done = cli("epilog", "--container", "train")
    assert done.rc == 3
    assert "Docker could not be observed" in done.stderr


def test_a_gpu_is_looked_at_for_its_own_sake(engine: Engine, cli: Cli, start: Start) -> None:
    """Who is on it is told; nobody is ended, nothing is reset, whatever is found."""
    bare = start()
    neighbour = engine.run(name="neighbour", gpus="all")
    done = configured(cli, engine, bare.pid, pid_of(engine, neighbour))("epilog", "--gpu", A, "--json")
    assert (done.rc, done.json["container"], done.json["hands"]) == (0, None, False)
    assert len(done.json["left"]) == 2
    assert bare.lives
    assert set(calls(cli.base / "nvidia-smi")) == {"-q -x"}


def test_a_bad_gpu_is_unfit_until_it_is_well_or_cleared(engine: Engine, cli: Cli) -> None:
    """Found once, it is marked; an admin who has seen to it says so."""
    removed(configured(cli, engine), engine)
    smi = cli.base / "nvidia-smi"
    xml = smi.with_suffix(".xml")
    xml.write_text(xml.read_text().replace("<gpu_recovery_action>None", "<gpu_recovery_action>Reboot", 1))
    bad = cli("epilog", "--container", "train")
    assert bad.rc == 1
    assert f"{A}  critical  the driver asks for `reboot`: reboot this host" in bad.stdout
    assert (
        cli("epilog", "--gpu", A, "--clear").stdout
        == f"{A}: no longer unfit (the driver asks for `reboot`: reboot this host)\n"
    )
    assert cli("epilog", "--gpu", A, "--clear").stdout == f"{A}: was not unfit\n"
