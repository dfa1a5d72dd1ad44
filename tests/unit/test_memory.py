"""Ledger and audit log together: what one tick leaves to the next, on real files, killed, full, damaged and locked."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from decided import NOW, container, decision

from ds01_policy.act.dry_run import DryRun
from ds01_policy.audit import read
from ds01_policy.config.load import load
from ds01_policy.ledger import schema
from ds01_policy.memory import AUDIT, LEDGER, Memory, remembered
from ds01_policy.model import (
    Action,
    Demand,
    Evaluation,
    HeldBy,
    History,
    Kind,
    Mode,
    Outcome,
    Plan,
    Snapshot,
    Status,
    Verdict,
)
from ds01_policy.observe.snapshot import Observed
from ds01_policy.policy import Policy
from ds01_policy.scenario import scenario
from ds01_policy.tick import MemoryLost, look, tick

TICK = timedelta(minutes=5)
TRAIN = container()
WARN = decision(Action.WARN, id="w")
STOP = decision(Action.STOP, Action.REMOVE, Action.EPILOG, id="s")
KEY = (TRAIN.id, "idle-gpu")


@contextmanager
def memory(state: Path, is_up: Callable[[str], bool | None] = lambda _: True) -> Iterator[Memory]:
    """One run's memory; left open it would be a killed run's."""
    with closing(Memory(state, "gpu01", is_up)) as opened:
        yield opened


def settle(opened: Memory, kind: Kind = Kind.ACT, plan: Plan | None = None, minutes: int = 0) -> None:
    """Let a tick find one container due."""
    at = NOW + timedelta(minutes=minutes)
    verdict = Verdict(TRAIN, "idle-gpu", kind, "idle for 60m", for_=timedelta(hours=1))
    snapshot = Snapshot(at, "gpu01", (TRAIN,))
    demand = Demand(8, 6, high=False)
    opened.settle(Observed(snapshot, demand), Evaluation((verdict,), demand), plan or Plan())


def used(state: Path) -> Path:
    """Let a run pass that warned the container, and be believed."""
    with memory(state) as opened:
        opened.recall(NOW - 2 * TICK, Mode.ENFORCE, "sha256:1")
        settle(opened, minutes=-10)
        opened.intend(WARN, Action.WARN, NOW - 2 * TICK)
        opened.conclude(WARN, Outcome("w", Action.WARN, Status.DONE, "tty", delivered=True), NOW - 2 * TICK)
    return state


# ── from one tick to the next ────────────────────────────────────────────────────────────────────────────────────────


def test_what_one_tick_leaves_the_next_recalls(tmp_path: Path) -> None:
    """The spell with its warning, the last verdicts, when it was; and both files tell of the warning."""
    used(tmp_path / "state")
    with memory(tmp_path / "state") as opened:
        history = opened.recall(NOW, Mode.ENFORCE, "sha256:1")
    assert history.writable
    assert history.last_tick_at == NOW - 2 * TICK
    assert history.last_kinds == {KEY: Kind.ACT}
    spell = history.spells[KEY]
    assert (spell.warned_at, spell.warned_mode, spell.delivered) == (NOW - 2 * TICK, Mode.ENFORCE, True)
    assert [(line["kind"], line["action"]) for line in read(tmp_path / "state" / AUDIT)] == [
        ("intent", "warn"), ("outcome", "warn"),
    ]  # fmt: skip
    assert remembered(tmp_path / "state") == history


def test_a_look_remembers_nothing_and_makes_nothing(tmp_path: Path) -> None:
    """Before the first run there is no memory, and looking makes none."""
    assert remembered(tmp_path / "state") == History()
    assert list(tmp_path.iterdir()) == []


def test_only_warnings_that_the_mode_held_back_are_simulated(tmp_path: Path) -> None:
    """They count for what is shown below enforce; one that the breaker held back was not given in any sense."""
    held = replace(WARN, mode=Mode.OBSERVE, held_by=HeldBy.MODE)
    withheld = replace(WARN, id="b", mode=Mode.ENFORCE, held_by=HeldBy.BREAKER)
    for guard, warned in ((withheld, None), (held, Mode.OBSERVE)):
        with memory(tmp_path / "state") as opened:
            opened.recall(NOW, Mode.OBSERVE, "sha256:1")
            settle(opened, plan=Plan((guard,)))
        spell = remembered(tmp_path / "state").spells[KEY]
        assert (spell.warned_mode, spell.delivered) == (warned, False)


# ── a run that was killed ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("action", "up", "status", "words"),
    [
        pytest.param(Action.WARN, True, Status.FAILED, "warned again", id="a warning nobody knows to have gone out"),
        pytest.param(Action.STOP, True, Status.FAILED, "up now", id="a stop that did not happen"),
        pytest.param(Action.STOP, False, Status.DONE, "stopped now", id="a stop that did"),
        pytest.param(Action.STOP, None, Status.DONE, "gone now", id="a stop of one that is gone"),
        pytest.param(Action.REMOVE, False, Status.FAILED, "stopped now", id="a removal that did not happen"),
        pytest.param(Action.REMOVE, None, Status.DONE, "gone now", id="a removal that did"),
        pytest.param(Action.EPILOG, None, Status.FAILED, "gone now", id="a check nobody saw the end of"),
    ],
)
def test_the_next_run_finishes_what_a_killed_one_began(
    tmp_path: Path,
    action: Action,
    up: bool | None,  # noqa: FBT001  a table's column
    status: Status,
    words: str,
) -> None:
    """By a look at the container, once, and told in the audit log; the run after it finds nothing left to do."""
    state = tmp_path / "state"
    began = WARN if action is Action.WARN else STOP
    killed = Memory(state, "gpu01", lambda _: True)
    killed.recall(NOW - TICK, Mode.ENFORCE, "sha256:1")
    settle(killed, minutes=-5)
    killed.intend(began, action, NOW - TICK)
    killed.close()  # as the kernel does for a killed one

    asked: list[str] = []

    def is_up(container_id: str) -> bool | None:
        asked.append(container_id)
        return up

    with memory(state, is_up) as opened:
        history = opened.recall(NOW, Mode.ENFORCE, "sha256:1")
        settle(opened)
    assert history.writable
    assert asked == ([] if action is Action.WARN else [TRAIN.id])
    assert history.spells[KEY].warned_at is None, "it does not count as notice"
    with closing(sqlite3.connect(state / LEDGER)) as connection:
        rows = connection.execute("SELECT action, status, detail FROM actions").fetchall()
    ((what, became, detail),) = rows
    assert (what, became) == (action.value, status.value)
    assert words in detail
    lines = list(read(state / AUDIT))
    assert [(line["kind"], line["action"]) for line in lines] == [("intent", action), ("recovery", action)]
    assert (lines[1]["name"], lines[1]["rule"]) == ("train", "idle-gpu")

    with memory(state, is_up) as opened:
        opened.recall(NOW + TICK, Mode.ENFORCE, "sha256:1")
    assert len(list(read(state / AUDIT))) == 2, "told once"


def test_a_tick_killed_before_it_was_settled_is_no_tick(tmp_path: Path) -> None:
    """What it saw is unknown, so the one before it is the last."""
    used(tmp_path / "state")
    killed = Memory(tmp_path / "state", "gpu01", lambda _: True)
    killed.recall(NOW - TICK, Mode.ENFORCE, "sha256:1")
    killed.close()
    assert remembered(tmp_path / "state").last_tick_at == NOW - 2 * TICK


# ── a memory that cannot be written ──────────────────────────────────────────────────────────────────────────────────


def audit_is_a_folder(state: Path) -> None:
    (state / AUDIT).unlink()
    (state / AUDIT).mkdir()


def ledger_is_held(state: Path) -> sqlite3.Connection:
    other = sqlite3.connect(state / LEDGER, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def ledger_is_of_a_newer_version(state: Path) -> None:
    with closing(sqlite3.connect(state / LEDGER)) as connection:
        connection.execute("PRAGMA user_version = 99")


def ledger_is_garbage(state: Path) -> None:
    (state / LEDGER).write_bytes(b"garbage" * 4096)


def ledger_is_a_folder(state: Path) -> None:
    (state / LEDGER).unlink()
    (state / LEDGER).mkdir()


def audit_is_full_with_something_to_recover(state: Path) -> None:
    killed = Memory(state, "gpu01", lambda _: True)
    killed.recall(NOW - TICK, Mode.ENFORCE, "sha256:1")
    killed.intend(STOP, Action.STOP, NOW - TICK)
    killed.close()
    (state / AUDIT).unlink()
    (state / AUDIT).symlink_to("/dev/full")


@pytest.mark.parametrize(
    ("broken", "words", "known"),
    [
        pytest.param(audit_is_a_folder, AUDIT, True, id="no audit log"),
        pytest.param(audit_is_full_with_something_to_recover, "No space left", True, id="a full disk under it"),
        pytest.param(ledger_is_held, "locked by another program", True, id="a ledger that somebody else writes"),
        pytest.param(ledger_is_of_a_newer_version, "written by a newer", False, id="a ledger of a newer version"),
        pytest.param(ledger_is_garbage, "is damaged", False, id="a damaged ledger"),
        pytest.param(ledger_is_a_folder, LEDGER, False, id="no ledger"),
    ],
)
def test_a_memory_that_cannot_be_written_is_still_read(
    tmp_path: Path,
    broken: Callable[[Path], sqlite3.Connection | None],
    words: str,
    known: bool,  # noqa: FBT001  a table's column
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing may be done then, but what is known is shown: who was warned, and when. And nothing can be written."""
    monkeypatch.setattr(schema, "BUSY_S", 0.1)
    state = used(tmp_path / "state")
    holder = broken(state)
    with memory(state) as opened:
        history = opened.recall(NOW, Mode.ENFORCE, "sha256:1")
        assert history.writable is False
        assert words in history.unwritable_why
        assert bool(history.spells) is known
        assert not known or history.spells[KEY].warned_at == NOW - 2 * TICK
    if holder is not None:
        holder.close()


def test_a_state_directory_that_may_not_be_written(tmp_path: Path) -> None:
    """Somebody without rights runs it: the memory is not writable, and is read as far as it may be."""
    state = used(tmp_path / "state")
    user = os.geteuid()
    if user == 0:
        ours = Path(tempfile.gettempdir()).resolve()
        above = [one for one in tmp_path.resolve().parents if one.is_relative_to(ours) and one != ours]
        for folder in (*above, tmp_path, state):
            folder.chmod(0o755)
        for file in state.iterdir():
            file.chmod(0o644)
        os.seteuid(65534)
    else:
        state.chmod(0o500)
    try:
        with memory(state) as opened:
            history = opened.recall(NOW, Mode.ENFORCE, "sha256:1")
    finally:
        os.seteuid(user)
        state.chmod(0o700)
    if user == 0:
        assert history.writable is False
    assert history.spells[KEY].warned_at == NOW - 2 * TICK


@pytest.mark.parametrize("before", [True, False], ids=["a ledger that was never opened", "a ledger lost in between"])
def test_what_cannot_be_written_down_is_an_error_before_anything_is_done(tmp_path: Path, before: bool) -> None:  # noqa: FBT001  a table's column
    """Settling, intending, concluding: each says so."""
    with memory(tmp_path / "state") as opened:
        if not before:
            opened.recall(NOW, Mode.ENFORCE, "sha256:1")
            opened.close()
        with pytest.raises(MemoryLost):
            settle(opened)
        with pytest.raises(MemoryLost):
            opened.intend(STOP, Action.STOP, NOW)
        with pytest.raises(MemoryLost):
            opened.conclude(STOP, Outcome("s", Action.STOP, Status.DONE), NOW)
        if not before:
            opened._ledger = opened._audit = None  # noqa: SLF001  both are closed


def test_an_action_without_its_line_in_the_log_is_not_begun(tmp_path: Path) -> None:
    """The disk fills up between two actions; the one that was begun is still closed in the ledger."""
    state = tmp_path / "state"
    with memory(state) as opened:
        opened.recall(NOW, Mode.ENFORCE, "sha256:1")
        settle(opened)
        opened.intend(STOP, Action.STOP, NOW)
        (state / AUDIT).rename(state / "rotated")
        (state / AUDIT).symlink_to("/dev/full")
        with pytest.raises(MemoryLost, match="No space left"):
            opened.conclude(STOP, Outcome("s", Action.STOP, Status.DONE), NOW)
        with pytest.raises(MemoryLost, match="No space left"):
            opened.intend(STOP, Action.REMOVE, NOW)
        assert "No space left" in opened.lost
    with closing(sqlite3.connect(state / LEDGER)) as connection:
        assert connection.execute("SELECT status FROM actions WHERE action = 'stop'").fetchall() == [("done",)]


# ── a whole tick ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Shaky:
    """A memory that can be recalled, and then cannot be written."""

    history: History
    settled: list[Plan] = field(default_factory=list)
    lost: str = ""

    def recall(self, at: object, mode: object, digest: object) -> History:
        del at, mode, digest
        return self.history

    def settle(self, observed: Observed, evaluation: Evaluation, plan: Plan) -> None:
        del observed, evaluation
        self.settled.append(plan)
        raise MemoryLost("no space left to write ledger.db")


def test_a_disk_that_fills_up_in_the_middle_of_a_tick_stops_it_from_acting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was planned is planned again without a ledger: held back, shown, and nothing handed to the actuator."""
    policy: Policy = load(tmp_path, unix_group=lambda _: None)
    policy = replace(policy, settings=replace(policy.settings, mode=Mode.ENFORCE))
    row = {"containers": {"old": {"state": "exited", "ended": "2h"}}}
    built = scenario(policy, row)
    monkeypatch.setattr("ds01_policy.tick.observe", lambda *_, **__: Observed(built.snapshot, Demand(1, 1, high=False)))
    shaky = Shaky(History())
    report = tick(policy, None, shaky, DryRun(), lambda: built.snapshot.at)  # type: ignore[arg-type]  # nobody is asked
    assert [one.enforced for one in shaky.settled[0].decisions] == [True]
    assert [one.held_by for one in report.plan.decisions] == [HeldBy.LEDGER]
    assert report.outcomes == ()
    assert [(one.code, one.detail) for one in report.problems] == [("ledger", "no space left to write ledger.db")]
    assert report.history.writable is False
    seen = look(policy, None, built.snapshot.at, History())  # type: ignore[arg-type]  # nobody is asked
    assert [one.enforced for one in seen.plan.decisions] == [True]
