"""An epilog that is run once for each life: by one of many, written down before and after, resumed when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from epilog_fakes import CLEAN, HELD, NOON, Fake, Place

from ds01_policy.act.epilog.held import GpuFinding, Health, Held
from ds01_policy.audit import AuditError
from ds01_policy.ledger import LedgerError
from ds01_policy.lock import RunLock
from ds01_policy.model import GpuRef, Status
from ds01_policy.once import LOCK, holder, is_gone


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Place]:
    with closing(Place(tmp_path)) as opened:
        yield opened


def test_one_life_gets_one_epilog_whoever_asks(state: Place) -> None:
    """The first one looks; to all others it is said what was found, and by nobody it is looked at again."""
    epilog = Fake()
    assert state.once(epilog).run(HELD, "alice") == CLEAN
    for by in ("watch", "evaluate"):
        again = state.once(epilog, by).run(HELD)
        assert again.status is Status.NOOP
        assert again.detail == "already done at 2026-03-02 12:00:00 UTC: GPU-1: nobody on it"
        assert again.findings == ()
        assert state.once(epilog, by).attempt(HELD) is None
    assert epilog.asked == [HELD]
    assert [line["kind"] for line in state.lines()] == ["intent", "outcome"]


def test_every_life_of_a_container_gets_its_own(state: Place) -> None:
    """The same container, started again, is another life."""
    epilog = Fake()
    later = replace(HELD, started_at=NOON)
    state.once(epilog).run(HELD)
    assert state.once(epilog).run(later) == CLEAN
    assert epilog.asked == [HELD, later]


def test_it_is_written_down_before_and_after(state: Place) -> None:
    """Who asked, with hands or not, of whom, which GPUs; then what was found on each, who was ended, who is left."""
    before: list[list[dict[str, Any]]] = []
    epilog = Fake(meanwhile=lambda: before.append(state.lines()))
    state.once(epilog, hands=False).run(HELD, "alice")
    ((intent,),) = before
    about = {
        "action": "epilog", "by": "watch", "hands": False, "container": "a" * 64, "name": "train", "owner": "alice",
        "started_at": "2026-03-02T09:00:00+00:00", "ended_at": "2026-03-02T12:00:00+00:00",
        "gpus": ["GPU-1", "GPU-2/gi7"],
    }  # fmt: skip
    assert intent.items() >= {"kind": "intent", **about}.items()
    outcome = state.lines()[1]
    assert outcome.items() >= {"kind": "outcome", **about, "status": "done", "detail": "GPU-1: nobody on it"}.items()
    assert outcome["findings"] == [
        {"gpu": "GPU-1", "health": "ok", "words": "nobody on it"},
        {"gpu": "GPU-2", "health": "unknown", "words": "not told"},
    ]
    assert (outcome["ended"], outcome["left"]) == (["python (4711)"], ["jupyter of bob (4712)"])
    told = state.ledger.told(HELD.container, NOON - timedelta(hours=3))
    assert told is not None
    assert (told.hands, told.status) == (False, Status.DONE)


def test_a_decision_is_written_down_by_who_carries_it_out(state: Place) -> None:
    """Its own intent and outcome stand in the log already; that it is done counts for everybody else."""
    assert state.once(Fake(), decided=True).run(HELD) == CLEAN
    assert state.lines() == []
    assert state.once(Fake()).attempt(HELD) is None


def test_an_admin_may_have_it_run_anew(state: Place) -> None:
    """Asked for by hand it is run whatever has been before; a GPU looked at for its own sake each time."""
    epilog = Fake()
    state.once(epilog).run(HELD)
    assert state.once(epilog, "epilog").run(HELD, anew=True) == CLEAN
    gpu = Held("", "", None, None, (GpuRef("GPU-1"),))
    assert state.once(epilog).run(gpu) == state.once(epilog).run(gpu) == CLEAN
    assert len(epilog.asked) == 4
    assert [line["by"] for line in state.lines()[2:4]] == ["epilog", "epilog"]


@pytest.mark.parametrize(
    ("health", "before", "after"),
    [
        (Health.CRITICAL, (), ("GPU-1",)),
        (Health.CRITICAL, ("GPU-1",), ("GPU-1",)),
        (Health.OK, ("GPU-1", "GPU-9"), ("GPU-9",)),
        (Health.WARN, (), ()),
        (Health.WARN, ("GPU-1",), ("GPU-1",)),
        (Health.UNKNOWN, (), ()),
        (Health.UNKNOWN, ("GPU-1",), ("GPU-1",)),
    ],
)
def test_the_register_of_unfit_gpus_follows_what_is_found(
    state: Place, health: Health, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    """Only what is critical makes a GPU unfit, only what is well makes it fit again; all else leaves it as it was."""
    for gpu in before:
        state.ledger.mark_unfit(gpu, "lost", NOON)
    state.once(Fake(replace(CLEAN, findings=(GpuFinding("GPU-1", health, "so it is"),)))).run(HELD)
    assert tuple(state.ledger.unfit()) == after
    if health is Health.CRITICAL:
        assert state.ledger.unfit()["GPU-1"].why == "so it is"


# ── when it cannot be written down ───────────────────────────────────────────────────────────────────────────────────


def test_what_cannot_be_written_down_is_not_done(state: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ledger, no audit log, no lock: nobody is touched, it is said why, and the next one may try."""
    epilog = Fake()
    state.ledger_error = LedgerError("ledger_full", "no space left")
    assert state.once(epilog).run(HELD).detail == "not done, as it could not be written down: no space left"
    state.ledger_error = None
    with monkeypatch.context() as patch:
        patch.setattr(state.audit, "note", _full)
        result = state.once(epilog).run(HELD)
        assert (result.status, result.detail[-8:]) == (Status.FAILED, "log full")
    (state.folder / "no-folder").touch()
    result = state.once(epilog, lock=state.folder / "no-folder" / LOCK).run(HELD)
    assert result.status is Status.FAILED
    assert epilog.asked == []
    assert state.once(epilog).run(HELD) == CLEAN


def _full(*_: object) -> None:
    raise AuditError("log full")


def test_an_outcome_that_cannot_be_logged_is_remembered_all_the_same(
    state: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up while it runs: what was done is not done again."""
    epilog = Fake(meanwhile=lambda: monkeypatch.setattr(state.audit, "note", _full))
    assert state.once(epilog).run(HELD).status is Status.FAILED
    monkeypatch.undo()
    assert state.once(epilog).attempt(HELD) is None
    assert len(epilog.asked) == 1


def test_an_epilog_that_breaks_stays_claimed_by_who_broke_it(state: Place) -> None:
    """While the process lives nobody else tries; what is not known to have ended is not begun twice."""
    with pytest.raises(ZeroDivisionError):
        state.once(Fake(ZeroDivisionError())).run(HELD)
    assert state.once(Fake()).attempt(HELD) is None
    assert state.ledger.told(HELD.container, NOON - timedelta(hours=3)) is not None


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_one_epilog_runs_at_a_time(state: Place) -> None:
    """Of different lives too: one waits until the other is through."""
    inside: list[int] = []
    most: list[int] = []

    def look() -> None:
        inside.append(1)
        most.append(len(inside))
        other.wait(0.1)
        inside.pop()

    other = threading.Event()
    lives = [replace(HELD, container=mark * 64) for mark in "abcd"]
    threads = [threading.Thread(target=state.once(Fake(meanwhile=look)).run, args=(life,)) for life in lives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1, 1, 1, 1]


def test_who_waits_for_another_one_gives_up_in_time(state: Place) -> None:
    """An epilog that hangs in the kernel does not hang the next one; what was not begun may be tried again."""
    epilog = Fake()
    with RunLock(state.folder / LOCK):
        result = state.once(epilog, patience=timedelta(seconds=0.2)).run(HELD)
    assert result.status is Status.FAILED
    assert f"another run holds {state.folder / LOCK}" in result.detail
    assert state.once(epilog).run(HELD) == CLEAN


# ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────

KILLED = """
import sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from epilog_fakes import HELD, Fake, Place
state = Place(Path(sys.argv[1]))
def tell():
    print("at it", flush=True)
    sys.stdin.read()
state.once(Fake(meanwhile=tell)).run(HELD)
"""


def test_a_killed_epilog_is_taken_over_at_once(state: Place) -> None:
    """SIGKILL between the claim and its end: the next one need not wait; while it lives, nobody else gets it."""
    tests = Path(__file__).parent
    victim = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(state.folder), str(tests)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tests.parents[1],
    )  # fmt: skip
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "at it\n"
        epilog = Fake()
        busy = state.once(epilog, patience=timedelta(seconds=0.2)).run(HELD)
        assert busy.status is Status.FAILED
        assert f"process {victim.pid}" in busy.detail
        victim.send_signal(signal.SIGKILL)
        _until_zombie(victim.pid)  # and nobody has reaped it
        assert state.once(epilog).run(HELD) == CLEAN
        assert len(epilog.asked) == 1
        assert [line["kind"] for line in state.lines()] == ["intent", "intent", "outcome"]
    finally:
        victim.kill()
        victim.communicate()


def _until_zombie(pid: int) -> None:
    """Wait until the kernel is done with it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def proc(folder: Path, *, boot: str = "b1", namespace: str = "pid:[1]", pid: int = 7, stat: str | None = None) -> Path:
    """Write what the kernel shows of one process."""
    (folder / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
    (folder / "sys/kernel/random/boot_id").write_text(boot + "\n")
    (folder / "self/ns").mkdir(parents=True, exist_ok=True)
    (folder / "self/ns/pid").unlink(missing_ok=True)
    (folder / "self/ns/pid").symlink_to(namespace)
    (folder / str(pid)).mkdir(exist_ok=True)
    if stat is not None:
        (folder / str(pid) / "stat").write_text(stat)
    return folder


def stat(started: int, state: str = "S", name: str = "ds01-policy") -> str:
    return f"7 ({name}) {state} " + " ".join(map(str, range(4, 22))) + f" {started} 23 24\n"


@pytest.mark.parametrize(
    ("text", "shown", "gone"),
    [
        pytest.param("b1 pid:[1] 7 500", {"stat": stat(500)}, False, id="it runs"),
        pytest.param("b1 pid:[1] 7 500", {"stat": stat(500, name="a) Z 1 (b")}, False, id="it runs under a mean name"),
        pytest.param("b1 pid:[1] 7 500", {}, True, id="there is none"),
        pytest.param("b1 pid:[1] 7 500", {"stat": stat(501)}, True, id="its number is somebody else's now"),
        pytest.param("b1 pid:[1] 7 500", {"stat": stat(500, "Z")}, True, id="only its remains are there"),
        pytest.param("b1 pid:[1] 7 500", {"stat": stat(500), "boot": "b2"}, True, id="the host was started again"),
        pytest.param("b1 pid:[9] 7 500", {}, False, id="it counts processes elsewhere: nobody knows"),
        pytest.param("? ? 7 500", {}, False, id="it could not name itself: nobody knows"),
        pytest.param("b1 pid:[1] 7 ?", {"stat": stat(500)}, False, id="it could not tell when it started"),
        pytest.param("watch", {}, False, id="not written by a process of ours"),
    ],
)
def test_only_what_is_known_to_be_gone_is_gone(tmp_path: Path, text: str, shown: dict[str, Any], *, gone: bool) -> None:
    """A claim is taken over at once only from a process that has provably ended."""
    assert is_gone(text, proc(tmp_path, **shown)) is gone


def test_this_very_process_is_there() -> None:
    """What it calls itself is known to it, twice the same."""
    assert holder() == holder()
    assert "?" not in holder()
    assert not is_gone(holder())
