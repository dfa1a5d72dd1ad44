"""The ledger: what it remembers from one tick to the next."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ds01_policy.ledger import Ledger, LedgerError
from ds01_policy.model import (
    Action,
    Container,
    Decision,
    Demand,
    Disposition,
    Evaluation,
    GpuClaim,
    GpuRef,
    HeldBy,
    Kind,
    Mode,
    Outcome,
    Plan,
    Snapshot,
    State,
    Status,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TICK = timedelta(minutes=5)
STARTED = NOON - timedelta(hours=3)
SLICE = GpuRef("GPU-1", 7)


def container(mark: str = "a", **changes: Any) -> Container:
    """Build a container that has held one MIG slice for three hours."""
    claim = GpuClaim(wants=True, refs=(SLICE,), via="--gpus")
    made = Container(
        mark * 64,
        "train",
        "img",
        State.RUNNING,
        STARTED,
        STARTED,
        gpus=claim,
        owner="alice",
        owner_via="label ds01.user",
        group="student",
        type="docker",
    )
    return replace(made, **changes)


def verdict(kind: Kind = Kind.ACT, of: Container | None = None, **changes: Any) -> Verdict:
    return replace(Verdict(of or container(), "idle-gpu", kind, "", for_=timedelta(hours=1)), **changes)


def decision(
    action: Action = Action.WARN, mode: Mode = Mode.ENFORCE, of: Container | None = None, number: str = "d1"
) -> Decision:
    return Decision(number, verdict(of=of), (action,), mode, Disposition.ENFORCE)


def tick(ledger: Ledger, at: datetime, *verdicts: Verdict, breaker: str = "", **more: Any) -> None:
    """Let one whole tick pass that saw the containers of these verdicts, or those in `containers`."""
    containers = tuple({v.container.id: v.container for v in verdicts}.values())
    suspicious = more.pop("suspicious", False)
    snapshot = Snapshot(at, "gpu01", more.pop("containers", containers))
    ledger.begin(at, Mode.ENFORCE, "sha256:1")
    ledger.record(
        snapshot, Evaluation(verdicts, Demand(8, 6, high=False)), Plan(breaker=breaker), suspicious=suspicious
    )


def done(action: Action = Action.WARN, status: Status = Status.DONE, *, delivered: bool | None = True) -> Outcome:
    return Outcome("d1", action, status, "", delivered)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path) as opened:
        yield opened


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


KEY = ("a" * 64, "idle-gpu")


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_ledger_is_private_and_remembers_nothing(path: Path, ledger: Ledger) -> None:
    """The file is readable by its owner alone, in a directory of its own, and its history is empty."""
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    history = ledger.history()
    assert (history.spells, history.last_kinds, history.last_tick_at) == ({}, {}, None)
    assert (history.lives, history.last_running, history.breaker_since) == ({}, 0, None)
    assert history.writable


def test_what_one_run_writes_the_next_one_reads(path: Path) -> None:
    """Everything of the history survives closing and opening."""
    with Ledger.open(path) as ledger:
        tick(ledger, NOON, verdict(Kind.WARN), verdict(Kind.CLEAR, container("b")), breaker="all idle at once")
        before = ledger.history()
    with Ledger.open(path) as ledger:
        after = ledger.history()
    assert after == before
    assert after.last_kinds == {KEY: Kind.WARN, ("b" * 64, "idle-gpu"): Kind.CLEAR}
    assert (after.last_tick_at, after.last_running, after.breaker_since) == (NOON, 2, NOON)
    assert {key: life.running_since for key, life in after.lives.items()} == {"a" * 64: STARTED, "b" * 64: STARTED}


def everything(directory: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (entry.name, entry.stat().st_ino, entry.stat().st_mtime_ns, entry.read_bytes())
        for entry in sorted(directory.iterdir())
    ]


def test_a_reader_without_a_ledger_makes_none(path: Path) -> None:
    """Where no ledger is, reading finds None and leaves no trace, not even a directory."""
    assert Ledger.open_readonly(path) is None
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    assert Ledger.open_readonly(path) is None
    assert path.stat().st_size == 0


def test_a_reader_changes_nothing_whether_a_run_is_going_on_or_not(path: Path) -> None:
    """Neither the ledger nor its directory differ by a byte after reading, between runs and within one."""
    with Ledger.open(path) as ledger:
        tick(ledger, NOON, verdict(Kind.WARN))
        expected = ledger.history()
        within = everything(path.parent)
        reader = Ledger.open_readonly(path)
        assert reader is not None
        assert everything(path.parent) == within
        tick(ledger, NOON + TICK, verdict(Kind.CLEAR))  # the open reader does not stand in the way
        assert reader.history() == expected
        reader.close()
    between = everything(path.parent)
    assert [name for name, *_ in between] == ["ledger.db"]
    reader = Ledger.open_readonly(path)
    assert reader is not None
    assert reader.history().last_kinds == {KEY: Kind.CLEAR}
    reader.close()
    assert everything(path.parent) == between


def test_a_reader_cannot_write(path: Path) -> None:
    """A copy for reading refuses every write instead of losing it."""
    with Ledger.open(path) as ledger:
        tick(ledger, NOON)
    reader = Ledger.open_readonly(path)
    assert reader is not None
    with reader, pytest.raises(LedgerError, match="cannot be opened or written"):
        reader.intend(decision(), Action.WARN, NOON)


# ── ticks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tick_that_was_not_written_down_whole_is_not_the_last_tick(path: Path, ledger: Ledger) -> None:
    """A run killed between begin and record leaves the history of the tick before."""
    tick(ledger, NOON, verdict(Kind.CLEAR))
    ledger.begin(NOON + TICK, Mode.ENFORCE, "sha256:2")
    history = ledger.history()
    assert (history.last_tick_at, history.last_kinds) == (NOON, {KEY: Kind.CLEAR})
    assert rows(path, "SELECT mode, digest, settled FROM ticks") == [
        ("enforce", "sha256:1", 1),
        ("enforce", "sha256:2", 0),
    ]


def test_what_was_known_of_a_container_outlasts_ticks_that_know_nothing(ledger: Ledger) -> None:
    """Unknown keeps the last kind that was known, as often as it comes; every other kind takes its place."""
    tick(ledger, NOON, verdict(Kind.UNKNOWN))
    assert ledger.history().last_kinds == {KEY: Kind.UNKNOWN}
    for number, (kind, known) in enumerate(
        [
            (Kind.CLEAR, Kind.CLEAR),
            (Kind.UNKNOWN, Kind.CLEAR),
            (Kind.UNKNOWN, Kind.CLEAR),
            (Kind.ACT, Kind.ACT),
            (Kind.UNKNOWN, Kind.ACT),
            (Kind.YOUNG, Kind.YOUNG),
        ],
        start=1,
    ):
        tick(ledger, NOON + number * TICK, verdict(kind))
        assert ledger.history().last_kinds == {KEY: known}, number


def test_what_was_known_of_a_container_outlasts_ticks_that_do_not_show_it(ledger: Ledger) -> None:
    """For an hour: a container that could not be inspected may be there again at the next tick."""
    other = container("b")
    tick(ledger, NOON, verdict(Kind.CLEAR), verdict(Kind.CLEAR, other))
    for minutes, there in ((5, True), (60, True), (65, False)):
        tick(ledger, NOON + timedelta(minutes=minutes), verdict(Kind.ACT))
        assert (ledger.history().last_kinds.get((other.id, "idle-gpu")) is Kind.CLEAR) is there, minutes
    tick(ledger, NOON + timedelta(minutes=70), verdict(Kind.ACT))
    tick(ledger, NOON + timedelta(minutes=75), containers=(container(),))  # it is there, and no rule is about it now
    assert ledger.history().last_kinds == {}


def test_the_breaker_counts_from_its_first_tick_and_is_forgotten_when_it_lets_go(ledger: Ledger) -> None:
    """`breaker_since` stays while the breaker withholds, and a later one counts anew."""
    tick(ledger, NOON, breaker="all idle")
    tick(ledger, NOON + TICK, breaker="all idle")
    assert ledger.history().breaker_since == NOON
    tick(ledger, NOON + 2 * TICK)
    assert ledger.history().breaker_since is None
    tick(ledger, NOON + 3 * TICK, breaker="all idle")
    assert ledger.history().breaker_since == NOON + 3 * TICK


def test_docker_listing_nothing_forgets_nothing(path: Path, ledger: Ledger) -> None:
    """A suspicious tick is a tick, but ends no life, no spell and no breaker, and hides none from the next one."""
    many = [verdict(Kind.ACT, container(mark)) for mark in "abc"]
    tick(ledger, NOON, *many, breaker="all idle")
    before = ledger.history()
    tick(ledger, NOON + TICK, suspicious=True)
    tick(ledger, NOON + 2 * TICK, suspicious=True)
    after = ledger.history()
    assert after == replace(before, last_tick_at=NOON + 2 * TICK)
    assert after.last_running == 3
    assert rows(path, "SELECT count(*) FROM inventory WHERE ended_at IS NULL") == [(3,)]


def test_only_running_gpu_containers_count_as_running(ledger: Ledger) -> None:
    """Containers that ended or want no GPU are not counted; paused ones are."""
    shown = (
        container("a"),
        container("b", state=State.EXITED),
        container("c", gpus=GpuClaim()),
        container("d", state=State.PAUSED),
    )
    tick(ledger, NOON, containers=shown)
    assert ledger.history().last_running == 2


def test_what_a_warning_said_is_kept_with_it(ledger: Ledger) -> None:
    """Not before then, whatever the limits become."""
    tick(ledger, NOON, verdict(Kind.WARN))
    told = replace(decision(), act_at=NOON + timedelta(minutes=12))
    ledger.intend(told, Action.WARN, NOON)
    ledger.conclude(told, done(), NOON)
    assert ledger.history().spells[KEY].promised_at == NOON + timedelta(minutes=12)


def test_whose_a_life_is_and_what_it_holds_is_remembered(ledger: Ledger) -> None:
    """Each by its container; a look at which the driver told nothing takes nothing away."""
    tick(ledger, NOON, verdict(), verdict(of=container("b", owner="bob")))
    blind = GpuClaim(wants=True, via="--gpus", unclear="the host's GPUs could not be listed")
    tick(ledger, NOON + TICK, verdict(of=container(gpus=blind)), verdict(of=container("b", owner="bob")))
    lives = ledger.history().lives
    assert {key[0]: (life.owner, life.gpus) for key, life in lives.items()} == {
        "a": ("alice", (SLICE,)),
        "b": ("bob", (SLICE,)),
    }


def test_old_rows_are_dropped_and_open_ones_kept(path: Path, ledger: Ledger) -> None:
    """After ninety days ticks, actions and ended lives go; an action without an outcome and a live container stay."""
    tick(ledger, NOON, verdict(), verdict(of=container("b")))
    ledger.intend(decision(number="open"), Action.WARN, NOON)
    ledger.intend(decision(), Action.WARN, NOON)
    ledger.conclude(decision(), done(), NOON)
    later = NOON + timedelta(days=91)
    tick(ledger, later, verdict(Kind.CLEAR))
    assert rows(path, "SELECT at FROM ticks") == [(later.isoformat(timespec="microseconds"),)]
    assert rows(path, "SELECT decision FROM actions") == [("open",)]
    assert rows(path, "SELECT container FROM inventory") == [("a" * 64,)]


# ── the inventory ────────────────────────────────────────────────────────────────────────────────────────────────────


def lives(path: Path) -> list[tuple[str, str, str, str | None]]:
    found = rows(
        path, "SELECT started_at, first_seen, last_seen, ended_at FROM inventory ORDER BY container, started_at"
    )
    return [tuple(text and text[11:16] for text in row) for row in found]


def test_who_held_which_gpu_from_when_to_when(path: Path, ledger: Ledger) -> None:
    """A life is written down with its GPUs and its owner, and closed with the end that Docker tells."""
    tick(ledger, NOON, containers=(container(),))
    tick(ledger, NOON + TICK, containers=(container(),))
    ended = container(state=State.EXITED, finished_at=NOON + timedelta(minutes=7))
    tick(ledger, NOON + 2 * TICK, containers=(ended,))
    assert lives(path) == [("09:00", "12:00", "12:10", "12:07")]
    (who,) = rows(path, "SELECT name, image, owner, owner_via, owner_group, type, gpus_via, gpus FROM inventory")
    assert who[:-1] == ("train", "img", "alice", "label ds01.user", "student", "docker", "--gpus")
    assert json.loads(who[-1]) == [{"uuid": "GPU-1", "gpu_instance": 7}]


def test_a_life_that_is_gone_ended_when_it_was_last_seen(path: Path, ledger: Ledger) -> None:
    """A container that Docker lists no longer is closed; one that is back after all is open again."""
    tick(ledger, NOON, containers=(container("a"), container("b")))
    tick(ledger, NOON + TICK, containers=(container("b"),))
    assert lives(path) == [("09:00", "12:00", "12:00", "12:00"), ("09:00", "12:00", "12:05", None)]
    tick(ledger, NOON + 2 * TICK, containers=(container("a"), container("b")))
    assert lives(path) == [("09:00", "12:00", "12:10", None), ("09:00", "12:00", "12:10", None)]


def test_each_life_of_a_container_has_a_row_and_a_restart_continues_its_run(path: Path, ledger: Ledger) -> None:
    """A restart closes the life before with its own end, and the run counts from the first life."""
    tick(ledger, NOON, containers=(container(),))
    again = container(started_at=NOON + timedelta(minutes=3), finished_at=NOON + timedelta(minutes=2))
    tick(ledger, NOON + TICK, containers=(again,))
    assert lives(path) == [("09:00", "12:00", "12:00", "12:02"), ("12:03", "12:05", "12:05", None)]
    assert ledger.history().lives["a" * 64].running_since == STARTED
    assert ledger.lives()["a" * 64].started_at == NOON + timedelta(minutes=3)
    later = NOON + timedelta(hours=6)
    stopped = replace(again, state=State.EXITED, finished_at=NOON + timedelta(minutes=6))
    tick(ledger, NOON + 2 * TICK, containers=(stopped,))
    tick(ledger, later, containers=(replace(stopped, state=State.RUNNING, started_at=later),))
    assert ledger.history().lives["a" * 64].running_since == later


def test_a_container_that_never_started_has_no_life(path: Path, ledger: Ledger) -> None:
    """Created containers hold nothing yet."""
    tick(ledger, NOON, containers=(container(state=State.CREATED, started_at=None),))
    assert lives(path) == []


def test_a_driver_that_cannot_be_asked_does_not_erase_what_was_held(path: Path, ledger: Ledger) -> None:
    """GPUs that were resolved once stay in the row while they cannot be resolved, and change when they can."""
    tick(ledger, NOON, containers=(container(),))
    unclear = GpuClaim(wants=True, unclear="the host's GPUs could not be listed", via="--gpus")
    tick(ledger, NOON + TICK, containers=(container(gpus=unclear),))
    assert json.loads(rows(path, "SELECT gpus FROM inventory")[0][0]) == [{"uuid": "GPU-1", "gpu_instance": 7}]
    moved = GpuClaim(wants=True, refs=(GpuRef("GPU-2"),), via="--gpus")
    tick(ledger, NOON + 2 * TICK, containers=(container(gpus=moved),))
    assert json.loads(rows(path, "SELECT gpus FROM inventory")[0][0]) == [{"uuid": "GPU-2", "gpu_instance": None}]


def test_names_that_are_no_text_are_stored_all_the_same(path: Path, ledger: Ledger) -> None:
    """Lone surrogates, quotes and escape sequences in a name neither fail the tick nor reach the SQL."""
    hostile = "x\udc80'; DROP TABLE spells;--\x1b[2J\u202e\x00" + "y" * 10_000
    tick(ledger, NOON, verdict(of=container(name=hostile, image=hostile, owner=hostile)))
    ledger.intend(decision(of=container(name=hostile)), Action.STOP, NOON)
    ledger.conclude(decision(of=container(name=hostile)), replace(done(Action.STOP), detail=hostile), NOON)
    assert len(ledger.history().spells) == 1
    (name,) = rows(path, "SELECT name FROM inventory")[0]
    assert name.startswith("x\\udc80'; DROP TABLE")
    assert len(name) < 3000


def test_a_stop_of_ours_ends_the_life_at_once(path: Path, ledger: Ledger) -> None:
    """The inventory need not wait for the next tick, which may find the container removed."""
    tick(ledger, NOON, containers=(container(),))
    ledger.conclude(decision(Action.STOP), done(Action.STOP, Status.FAILED), NOON + TICK)
    assert lives(path)[0][3] is None
    ledger.conclude(decision(Action.STOP), done(Action.STOP), NOON + TICK)
    tick(ledger, NOON + 2 * TICK)
    assert lives(path)[0][3] == "12:05"


# ── spells and warnings ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_warning_counts_once_it_is_concluded(ledger: Ledger) -> None:
    """Only intent plus outcome DONE makes a spell warned; the next tick carries it on."""
    tick(ledger, NOON, verdict(Kind.WARN))
    ledger.intend(decision(), Action.WARN, NOON)
    assert ledger.history().spells[KEY].warned_at is None
    ledger.conclude(decision(), done(), NOON + timedelta(seconds=3))
    tick(ledger, NOON + TICK, verdict(Kind.ACT))
    spell = ledger.history().spells[KEY]
    assert (spell.since, spell.seen) == (NOON, NOON + TICK)
    assert (spell.warned_at, spell.warned_mode, spell.delivered) == (NOON + timedelta(seconds=3), Mode.ENFORCE, True)


@pytest.mark.parametrize("status", [Status.FAILED, Status.STALE, Status.WITHHELD, Status.NOOP])
def test_a_warning_that_did_not_go_out_does_not_count(ledger: Ledger, status: Status) -> None:
    """Any outcome but DONE leaves the spell unwarned."""
    tick(ledger, NOON, verdict(Kind.WARN))
    ledger.intend(decision(), Action.WARN, NOON)
    ledger.conclude(decision(), done(status=status), NOON)
    assert ledger.history().spells[KEY].warned_at is None
    assert ledger.unfinished() == []


def test_a_warning_that_reached_nobody_is_remembered_as_such(ledger: Ledger) -> None:
    """Attempted counts, but `delivered` stays false: the notice is longer then."""
    tick(ledger, NOON, verdict(Kind.WARN))
    ledger.conclude(decision(), done(delivered=None), NOON)
    spell = ledger.history().spells[KEY]
    assert (spell.warned_at, spell.delivered) == (NOON, False)


def test_a_warning_of_an_earlier_life_does_not_reach_the_new_one(ledger: Ledger) -> None:
    """A warning concluded for a life that was replaced meanwhile counts for nobody."""
    tick(ledger, NOON, verdict(Kind.WARN))
    again = container(started_at=NOON + timedelta(minutes=1))
    tick(ledger, NOON + TICK, verdict(Kind.WARN, again))
    ledger.conclude(decision(), done(), NOON + TICK)
    spell = ledger.history().spells[KEY]
    assert (spell.started_at, spell.warned_at) == (again.started_at, None)


def test_work_ends_the_spell_and_its_warning(ledger: Ledger) -> None:
    """After work the next idleness starts with no warning."""
    tick(ledger, NOON, verdict(Kind.WARN))
    ledger.conclude(decision(), done(), NOON)
    tick(ledger, NOON + TICK, verdict(Kind.CLEAR))
    assert ledger.history().spells == {}
    tick(ledger, NOON + 2 * TICK, verdict(Kind.WARN))
    assert ledger.history().spells[KEY].warned_at is None


def test_a_simulated_warning_never_replaces_a_real_one(ledger: Ledger) -> None:
    """Below enforce a spell gets a warning of mode observe; a real one that is there stays, and replaces it later."""
    other = container("b")
    tick(ledger, NOON, verdict(Kind.WARN), verdict(Kind.WARN, other))
    ledger.conclude(decision(of=other), done(), NOON)
    observed = [decision(mode=Mode.OBSERVE), decision(mode=Mode.OBSERVE, of=other)]
    ledger.simulate_warnings(observed, NOON + TICK)
    ledger.simulate_warnings(observed, NOON + 2 * TICK)
    spells = ledger.history().spells
    simulated, real = spells[KEY], spells["b" * 64, "idle-gpu"]
    assert (simulated.warned_at, simulated.warned_mode, simulated.delivered) == (NOON + TICK, Mode.OBSERVE, False)
    assert (real.warned_at, real.warned_mode, real.delivered) == (NOON, Mode.ENFORCE, True)
    ledger.conclude(decision(), done(), NOON + 3 * TICK)
    assert ledger.history().spells[KEY].warned_mode is Mode.ENFORCE


def test_a_container_that_cannot_be_read_for_a_moment_keeps_its_spell(ledger: Ledger) -> None:
    """Spells of containers that are not listed wait a week, then go."""
    tick(ledger, NOON, verdict(Kind.WARN))
    ledger.conclude(decision(), done(), NOON)
    tick(ledger, NOON + TICK)
    tick(ledger, NOON + 2 * TICK, verdict(Kind.WARN))
    assert ledger.history().spells[KEY].warned_at == NOON
    tick(ledger, NOON + timedelta(days=8))
    assert ledger.history().spells == {}


def test_a_container_that_cannot_be_judged_for_long_keeps_its_spell(ledger: Ledger) -> None:
    """Spells of containers that are listed stay, however long the data is missing."""
    tick(ledger, NOON, verdict(Kind.WARN))
    tick(ledger, NOON + timedelta(days=8), verdict(Kind.UNKNOWN))
    assert ledger.history().spells[KEY].seen == NOON


# ── actions ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_killed_run_left_open_is_found_and_closed(path: Path, ledger: Ledger) -> None:
    """Intents without an outcome are listed oldest first until resolved; a warning is not made up."""
    tick(ledger, NOON, verdict(Kind.WARN))
    ledger.intend(decision(), Action.WARN, NOON)
    ledger.intend(decision(Action.STOP, number="d2"), Action.STOP, NOON + TICK)
    first, second = ledger.unfinished()
    assert (first.decision, first.action, first.at, first.started_at) == ("d1", Action.WARN, NOON, STARTED)
    assert (second.container, second.name, second.rule, second.mode) == ("a" * 64, "train", "idle-gpu", Mode.ENFORCE)
    ledger.resolve(first, Status.DONE, "recovered", NOON + TICK)
    ledger.resolve(second, Status.DONE, "found stopped", NOON + TICK)
    assert ledger.unfinished() == []
    assert ledger.history().spells[KEY].warned_at is None
    assert rows(path, "SELECT action, status, detail FROM actions") == [
        ("warn", "done", "recovered"),
        ("stop", "done", "found stopped"),
    ]
    assert lives(path)[0][3] == "12:05"


def test_each_try_of_an_action_has_a_row_of_its_own(path: Path, ledger: Ledger) -> None:
    """An outcome closes the intent it belongs to, and one without intent makes its own row."""
    ledger.intend(decision(Action.STOP), Action.STOP, NOON)
    ledger.intend(decision(Action.STOP), Action.REMOVE, NOON)
    ledger.conclude(decision(Action.STOP), done(Action.STOP, Status.FAILED), NOON)
    ledger.conclude(decision(Action.STOP), done(Action.EPILOG, Status.WITHHELD), NOON)
    ledger.conclude(decision(Action.STOP), done(Action.STOP), NOON + TICK)
    assert rows(path, "SELECT action, status FROM actions ORDER BY id") == [
        ("stop", "failed"),
        ("remove", None),
        ("epilog", "withheld"),
        ("stop", "done"),
    ]


def test_actions_may_be_written_from_many_threads(path: Path, ledger: Ledger) -> None:
    """Stops run side by side: no row is lost and none is mixed up."""
    tick(ledger, NOON, *(verdict(of=container(mark)) for mark in "abcdef"))

    def stop(mark: str) -> None:
        mine = decision(Action.STOP, of=container(mark), number=mark)
        ledger.intend(mine, Action.STOP, NOON)
        ledger.conclude(mine, Outcome(mark, Action.STOP, Status.DONE, mark), NOON)

    threads = [threading.Thread(target=stop, args=(mark,)) for mark in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = rows(path, "SELECT decision, substr(container, 1, 1), detail, status FROM actions")
    assert sorted(found) == [(mark, mark, mark, "done") for mark in "abcdef"]


def test_what_is_held_back_is_written_down_once_for_each_guard(path: Path) -> None:
    """A host in mode observe does not fill its ledger with the same sentence, but a change of guard is news."""
    held = replace(decision(), actions=(Action.STOP,), disposition=Disposition.SUPPRESS, held_by=HeldBy.NOTICE)
    with Ledger.open(path) as ledger:
        assert [ledger.withhold(held, NOON + step * TICK) for step in range(3)] == [True, False, False]
        assert ledger.withhold(replace(held, held_by=HeldBy.MODE), NOON + 3 * TICK)
        assert not ledger.unfinished()
