"""Who is ended and who is not: real processes, each passing for whose the case says."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from epilog_world import (
    DEAF,
    DOCKER,
    MIB,
    MINE,
    OTHER,
    A,
    B,
    FakeEngine,
    FakeTasks,
    Start,
    ago,
    gpu,
    held,
    raw,
    spawning,
)

from ds01_policy.act.epilog import strays
from ds01_policy.act.epilog.held import Held
from ds01_policy.act.epilog.ports import Clock, Deadline
from ds01_policy.act.epilog.strays import Sweep, meet, sweep
from ds01_policy.model import GpuProcess, GpuRef, GpuStatus
from ds01_policy.observe.processes import Processes

NUMBER = 5_000_000  # of the process that the driver lists


@pytest.fixture
def start() -> Iterator[Start]:
    """Start real processes that are gone after the test."""
    with spawning() as one:
        yield one


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strays, "TERM_S", 0.5)


def run(
    tasks: FakeTasks,
    *statuses: GpuStatus,
    life: Held | None = None,
    engine: FakeEngine | None = None,
    unwanted: str = "",
    seconds: float = 20,
) -> Sweep:
    life = life or held()
    engine = engine or FakeEngine({OTHER: raw(OTHER)})
    clock = Clock()
    deadline = Deadline(clock, clock.seconds() + seconds)
    by_gpu = {status.uuid: status for status in statuses or (gpu(A, NUMBER),)}
    known = frozenset({*engine.there, MINE})
    return sweep(life, meet(by_gpu, life, tasks, known), engine, tasks, deadline, unwanted=unwanted)


def lives(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


# ── the container's own ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stray_ends_with_sigterm(start: Start) -> None:
    """Its own container is gone, and its cgroup names it."""
    stray = start()
    done = run(FakeTasks({NUMBER: stray.pid}, {NUMBER: {"cgroup": DOCKER[MINE], "user": "alice"}}))
    assert stray.wait(10) == -signal.SIGTERM
    (ended,) = done.ended
    assert ended.startswith("python")
    assert f"pid {NUMBER}, alice, 300 MiB, container {MINE[:12]}), with SIGTERM" in ended
    assert (done.others, done.own, done.stuck) == ([], {}, {})


def test_one_that_does_not_listen_ends_with_sigkill(start: Start) -> None:
    """After it has had its time."""
    stray = start(DEAF)
    done = run(FakeTasks({NUMBER: stray.pid}, {NUMBER: {"cgroup": DOCKER[MINE]}}))
    assert stray.wait(10) == -signal.SIGKILL
    assert done.ended[0].endswith("with SIGKILL")


def test_one_that_is_stopped_ends_all_the_same(start: Start) -> None:
    """SIGSTOP does not save it."""
    stray = start()
    os.kill(stray.pid, signal.SIGSTOP)
    done = run(FakeTasks({NUMBER: stray.pid}, {NUMBER: {"cgroup": DOCKER[MINE]}}))
    assert stray.wait(10) in (-signal.SIGTERM, -signal.SIGKILL)
    assert len(done.ended) == 1


def test_all_of_them_end_side_by_side(start: Start) -> None:
    """One that does not listen keeps nobody else waiting, and who is on two GPUs is ended once."""
    processes = [start(), start(DEAF), start()]
    tasks = FakeTasks()
    for index, process in enumerate(processes):
        tasks.add(NUMBER + index, process.pid, DOCKER[MINE])
    done = run(tasks, gpu(A, NUMBER, NUMBER + 1), gpu(B, NUMBER + 1, NUMBER + 2), life=held(A, B))
    assert [process.wait(10) for process in processes] == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM]
    assert len(done.ended) == 3
    assert not done.stuck


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(lambda _: {}, id="Docker knows it no longer"),
        pytest.param(lambda life: {MINE: raw(MINE, "exited", life.started_at)}, id="it has exited"),
        pytest.param(lambda life: {MINE: raw(MINE, "dead", life.started_at)}, id="it is dead"),
        pytest.param(lambda _: {MINE: raw(OTHER)}, id="another container is called like its id"),
    ],
)
def test_a_container_that_is_gone(start: Start, there: Callable[[Held], dict[str, Any]]) -> None:
    """Gone, or ended in the very life it is about."""
    stray, life = start(), held()
    run(FakeTasks({NUMBER: stray.pid}, {NUMBER: {"cgroup": DOCKER[MINE]}}), life=life, engine=FakeEngine(there(life)))
    assert stray.wait(10) == -signal.SIGTERM


# ── everybody else ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cgroup", "words"),
    [
        pytest.param(DOCKER[OTHER], f"container {OTHER[:12]}", id="another container's"),
        pytest.param(
            f"0::/docker/{OTHER}/docker/{MINE}\n", f"container {OTHER[:12]}", id="another container's, inside it"
        ),
        pytest.param("0::/user.slice/user-1007.slice/session-3.scope\n", "of the host: session-3.scope", id="a user's"),
        pytest.param(
            f"0::/user.slice/user-1007.slice/user@1007.service/docker-{MINE}.scope\n",
            f"of the host: docker-{MINE}.scope",
            id="a user's own cgroup that is called like the container",
        ),
        pytest.param("0::/system.slice/x.service\n", "of the host: x.service", id="a service's"),
        pytest.param("0::/\n", "of the host", id="nobody's unit"),
        pytest.param(f"0::/machine.slice/libpod-{MINE}.scope\n", "of libpod", id="podman's"),
        pytest.param(None, "nobody knows whose: it cannot be read", id="a cgroup that cannot be read"),
        pytest.param(f"0::/../{MINE}\n", "nobody knows whose: it lies outside", id="another cgroup namespace"),
        pytest.param(
            f"1:cpu:/docker/{MINE}\n0::/docker/{OTHER}\n", "nobody knows whose: its cgroups name more", id="two at once"
        ),
    ],
)
def test_everybody_else_is_told_of_and_lives(start: Start, cgroup: str | None, words: str) -> None:
    """Whatever is not proven to be the container's own is never signalled."""
    process = start()
    done = run(FakeTasks({NUMBER: process.pid}, {NUMBER: {"cgroup": cgroup}}))
    (told,) = done.others
    assert words in told
    assert (done.ended, done.own) == ([], {})
    assert lives(process)


@pytest.mark.parametrize(
    ("listed", "facts", "why"),
    [
        pytest.param(
            GpuProcess(NUMBER, "C", "nvidia-cuda-mps-server", 30 * MIB),
            {},
            "belongs to MPS",
            id="by its name",
        ),
        pytest.param(
            GpuProcess(NUMBER, "C", "/usr/bin/nvidia-cuda-mps-server", None), {}, "belongs to MPS", id="with its path"
        ),
        pytest.param(
            GpuProcess(NUMBER, "C", "", None),
            {"command": "nvidia-cuda-mps"},
            "belongs to MPS",
            id="by its command",
        ),
        pytest.param(GpuProcess(NUMBER, "M+C", "", None), {}, "belongs to MPS", id="an MPS client"),
        pytest.param(
            GpuProcess(NUMBER, "C", "", None),
            {"started_at": ago(4000)},
            "since before the container was started",
            id="older than the container",
        ),
    ],
)
def test_what_is_in_its_cgroup_and_is_left_all_the_same(
    start: Start, listed: GpuProcess, facts: dict[str, Any], why: str
) -> None:
    """Ending it would end others, or it cannot be what it seems."""
    process = start()
    tasks = FakeTasks()
    tasks.add(NUMBER, process.pid, DOCKER[MINE], **facts)
    done = run(tasks, gpu(A, listed))
    assert why in done.own[A][0]
    assert lives(process)


def test_a_process_begun_right_before_docker_wrote_it_down(start: Start) -> None:
    """The first process is there before Docker has written down that it started."""
    process = start()
    tasks = FakeTasks()
    tasks.add(NUMBER, process.pid, DOCKER[MINE], started_at=ago(3610))
    assert len(run(tasks).ended) == 1
    assert process.wait(10) == -signal.SIGTERM


def life_never_started() -> Held:
    return Held(MINE, "train", None, None, (GpuRef(A),))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({"unwanted": "epilog.kill is false"}, "epilog.kill is false", id="the settings say so"),
        pytest.param(
            {"engine": FakeEngine({MINE: raw(MINE, "running")})}, "Docker shows the container running", id="it runs"
        ),
        pytest.param(
            {"engine": FakeEngine({MINE: raw(MINE, "paused")})}, "Docker shows the container paused", id="it is paused"
        ),
        pytest.param(
            {"engine": FakeEngine({MINE: raw(MINE, "restarting")})}, "the container restarting", id="it is restarted"
        ),
        pytest.param(
            {"engine": FakeEngine({MINE: raw(MINE, "removing")})}, "the container removing", id="it is being removed"
        ),
        pytest.param(
            {"engine": FakeEngine({MINE: raw(MINE, "exited", ago(60))})}, "started anew", id="a later life has ended"
        ),
        pytest.param({"engine": FakeEngine({MINE: {"Id": MINE}})}, "is gone is not known", id="another shape"),
        pytest.param({"life": life_never_started()}, "before the container was started", id="it never was started"),
        pytest.param({"seconds": 1}, "no time left", id="the time is over"),
    ],
)
def test_what_keeps_its_own_processes_alive(start: Start, options: dict[str, Any], why: str) -> None:
    """They are told of as left."""
    process = start()
    done = run(FakeTasks({NUMBER: process.pid}, {NUMBER: {"cgroup": DOCKER[MINE]}}), **options)
    assert why in done.own[A][0]
    assert not done.ended
    assert lives(process)


def test_a_docker_that_answers_the_list_and_then_nothing(start: Start) -> None:
    """That the container is gone must be known, not supposed."""
    process, engine = start(), FakeEngine()
    tasks = FakeTasks({NUMBER: process.pid}, {NUMBER: {"cgroup": DOCKER[MINE]}})
    engine.broken = "Docker did not answer within 5s"
    done = run(tasks, engine=engine)
    assert "is gone is not known: Docker did not answer" in done.own[A][0]
    assert lives(process)


def test_a_shim_that_still_tends_it_contradicts_docker(start: Start) -> None:
    """An engine that lost its data shows every container as gone."""
    process = start()
    tasks = FakeTasks({NUMBER: process.pid}, {NUMBER: {"cgroup": DOCKER[MINE]}}, tended_by_shim=frozenset({MINE}))
    assert "shim still tends" in run(tasks).own[A][0]
    assert lives(process)


def test_without_docker_nobody_is_anybodys(start: Start) -> None:
    """Which containers there are is part of every proof."""
    process = start()
    tasks = FakeTasks({NUMBER: process.pid}, {NUMBER: {"cgroup": DOCKER[MINE]}})
    (one,) = meet({A: gpu(A, NUMBER)}, held(), tasks, None)
    assert "Docker does not tell" in one.owner.why


@pytest.mark.parametrize(
    ("ref", "instance", "met"),
    [
        (GpuRef(A), None, True),
        (GpuRef(A), 3, True),
        (GpuRef(A, 3), 3, True),
        (GpuRef(A, 3), 5, False),
        (GpuRef(B), 3, False),
    ],
)
def test_only_what_it_held_is_looked_at(start: Start, ref: GpuRef, instance: int | None, met: bool) -> None:  # noqa: FBT001
    """A sibling on the same GPU is none of its business."""
    tasks = FakeTasks({NUMBER: start().pid}, {NUMBER: {"cgroup": DOCKER[OTHER]}})
    status = gpu(A, GpuProcess(NUMBER, "C", "", None, instance, 0))
    assert len(meet({A: status}, held(ref), tasks, frozenset({MINE}))) == met


# ── a number that changes hands ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("moment", "cgroup"),
    [
        pytest.param("looked", DOCKER[OTHER], id="between the listing and the handle"),
        pytest.param("looked", DOCKER[MINE], id="between the listing and the handle, in the same cgroup"),
        pytest.param("opened", DOCKER[OTHER], id="between the handle and the second look"),
    ],
)
def test_a_number_that_changes_hands_harms_nobody(start: Start, moment: str, cgroup: str) -> None:
    """Whoever has the stray's number next lives."""
    stray, innocent = start(), start()
    tasks = FakeTasks()
    tasks.add(NUMBER, stray.pid, DOCKER[MINE])

    def change(_: int) -> None:
        if stray.poll() is None:
            stray.kill()
            stray.wait(10)
            ticks = Processes().look(innocent.pid).start_ticks + 1000
            tasks.add(NUMBER, innocent.pid, cgroup, start_ticks=ticks)

    setattr(tasks, moment, change)
    done = run(tasks)
    assert not done.ended
    assert "its number is another process' by now" in done.own[A][0]
    assert lives(innocent)


def test_after_the_proof_only_the_handle_counts(start: Start) -> None:
    """The stray ends by itself and its number is given away in the very last moment."""
    stray, innocent, tasks, looks = start(), start(), FakeTasks(), list[int]()
    tasks.add(NUMBER, stray.pid, DOCKER[MINE])

    def change(number: int) -> None:
        looks.append(number)
        if len(looks) == 2:
            stray.kill()
            stray.wait(10)
            tasks.add(NUMBER, innocent.pid, DOCKER[MINE])

    tasks.looked = change
    run(tasks)
    assert lives(innocent)


def test_a_process_that_changes_its_cgroup_lives(start: Start) -> None:
    """The proof is read again after the handle was opened, all of it."""
    process, tasks = start(), FakeTasks()
    tasks.add(NUMBER, process.pid, DOCKER[MINE])
    tasks.opened = lambda pid: tasks.facts[pid].update(cgroup=DOCKER[OTHER])
    assert "in another cgroup by now" in run(tasks).own[A][0]
    assert lives(process)


def test_a_container_that_is_started_meanwhile_keeps_its_processes(start: Start) -> None:
    """Docker is asked once more when the handles are open."""
    life = held()
    process, tasks = start(), FakeTasks()
    engine = FakeEngine({MINE: raw(MINE, "exited", life.started_at)})
    tasks.add(NUMBER, process.pid, DOCKER[MINE])
    tasks.opened = lambda _: engine.there.update({MINE: raw(MINE, "running", ago(0))})
    assert "Docker shows the container running" in run(tasks, life=life, engine=engine).own[A][0]
    assert lives(process)


def test_one_that_ends_by_itself_is_nobodys_deed(start: Start) -> None:
    """Gone between the listing and the handle, it is not told of at all."""
    process, tasks = start(), FakeTasks()
    tasks.add(NUMBER, process.pid, DOCKER[MINE])
    tasks.looked = tasks.real.__delitem__
    done = run(tasks)
    assert (done.ended, done.own, done.stuck) == ([], {}, {})


# ── what cannot be ended ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("state", "words"), [("D", "it hangs in the kernel"), ("Z", "the driver keeps what it held"), ("T", "in state T")]
)
def test_one_that_not_even_sigkill_ends(start: Start, monkeypatch: pytest.MonkeyPatch, state: str, words: str) -> None:
    """It is told of with what it is in."""
    process, tasks = start(), FakeTasks()
    tasks.add(NUMBER, process.pid, DOCKER[MINE], state=state)
    sent: list[int] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _, number: sent.append(number))
    monkeypatch.setattr(strays, "KILL_S", 0.2)
    done = run(tasks)
    assert sent == [signal.SIGTERM, signal.SIGKILL]
    assert words in done.stuck[A][0]
    assert not done.ended


def test_a_signal_that_is_refused_is_said(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root, others' processes cannot be ended."""
    process, tasks = start(), FakeTasks()
    tasks.add(NUMBER, process.pid, DOCKER[MINE])

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    done = run(tasks)
    assert "SIGTERM is refused: Operation not permitted" in done.own[A][0]
    assert not done.ended


def test_hostile_names_are_escaped(start: Start) -> None:
    """Users choose what their commands and units are called."""
    tasks = FakeTasks()
    evil = "x\x1b[2J\n\u202e"
    tasks.add(NUMBER, start().pid, f"0::/user.slice/user-7.slice/{evil!s}".replace("\n", ""), command=evil, user=evil)
    (told,) = run(tasks).others
    assert told.isprintable()


def test_handles_are_closed(start: Start) -> None:
    """A program that runs for months opens many."""
    tasks = FakeTasks()
    tasks.add(NUMBER, start().pid, DOCKER[MINE])
    before = len(list(Path("/proc/self/fd").iterdir()))
    run(tasks)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
