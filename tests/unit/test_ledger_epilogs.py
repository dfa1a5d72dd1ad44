"""The ledger's memory of epilogs and unfit GPUs: each life once, whoever claims it, and what is owed to whom."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from epilog_fakes import CLAIM, MINUTE, NOON, STARTED, A, B, C, container, seen

from ds01_policy.ledger import Claimant, Ledger, LedgerError, epilogs, schema
from ds01_policy.ledger.epilogs import MOST_TRIES
from ds01_policy.model import (
    GpuClaim,
    State,
    Status,
    Unfit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = timedelta(seconds=60)


def living(_: str) -> bool:
    return False


def dead(_: str) -> bool:
    return True


WATCH = Claimant("watch", living, PATIENCE)
TICK = Claimant("tick", living, PATIENCE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path) as opened:
        opened.ended_lives(NOON - timedelta(days=30))  # somebody has asked before: nothing below is history
        yield opened


def owed(ledger: Ledger, at: datetime = NOON, only: str | None = None) -> list[tuple[str, datetime]]:
    return [(life.container, life.ended_at) for life in ledger.ended_lives(at, only)]


# ── what is owed ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_life_that_ended_is_owed_with_all_that_it_held(ledger: Ledger) -> None:
    """One that has stopped since its stop, one that is gone since it was seen last; one that runs is owed nothing."""
    ended = NOON - MINUTE
    seen(ledger, NOON - 2 * MINUTE, container(A), container(B), container(C))
    seen(ledger, NOON, container(A), container(B, state=State.EXITED, finished_at=ended))
    assert owed(ledger) == [(B, ended), (C, NOON - 2 * MINUTE)]
    (life, _) = ledger.ended_lives(NOON)
    assert (life.name, life.owner, life.started_at) == ("train", "alice", STARTED)
    assert (life.gpus, life.unclear) == (CLAIM.refs, "half")
    assert owed(ledger, only=C) == [(C, NOON - 2 * MINUTE)]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param({"gpus": GpuClaim()}, [], id="one without a GPU"),
        pytest.param({"started_at": None, "state": State.CREATED}, [], id="one that never ran"),
        pytest.param({"gpus": GpuClaim(wants=True, via="--gpus", unclear="?")}, [A], id="one whose GPUs nobody knows"),
        pytest.param({}, [A], id="one that held a GPU"),
    ],
)
def test_only_lives_with_gpus_are_owed_anything(ledger: Ledger, made: dict[str, Any], expected: list[str]) -> None:
    """Containers without a GPU and without a life leave nothing on one."""
    seen(ledger, NOON - MINUTE, container(A, **made))
    seen(ledger, NOON)
    assert [key for key, _ in owed(ledger)] == expected


def test_what_ended_before_epilogs_were_known_is_history(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger full of old lives, as it is when this program learns to run epilogs, owes nothing for them."""
    with monkeypatch.context() as patch, Ledger.open(path) as ledger:
        patch.setattr(epilogs, "known_since", lambda *_: None)  # as it was before
        for minutes in range(200, 1, -2):
            seen(ledger, NOON - minutes * MINUTE, container(f"{minutes:064x}"))
            seen(ledger, NOON - minutes * MINUTE + MINUTE)
    with Ledger.open(path) as ledger:
        seen(ledger, NOON - MINUTE, container(A))
        assert owed(ledger, NOON - MINUTE / 2) == []
        seen(ledger, NOON)
        assert owed(ledger) == [(A, NOON - MINUTE)]  # it was there when the first tick looked
        assert owed(ledger, NOON + timedelta(days=1)) == []  # by then somebody else has long used the GPU


def test_what_a_first_look_saw_is_owed_too(path: Path) -> None:
    """On a ledger that no tick has used yet."""
    with Ledger.open(path) as ledger:
        ledger.remember(container(A), NOON - MINUTE)
        assert owed(ledger, NOON) == []
        seen(ledger, NOON)
        assert owed(ledger) == [(A, NOON - MINUTE)]


def test_of_a_restarted_container_only_its_newest_life_counts(ledger: Ledger) -> None:
    """What its earlier lives left is its own: it runs again, and is owed an epilog once that has ended."""
    later = NOON - 2 * MINUTE
    seen(ledger, NOON - 3 * MINUTE, container(A))
    seen(ledger, NOON - MINUTE, container(A, started_at=later, finished_at=later))
    assert owed(ledger) == []
    seen(ledger, NOON)
    assert owed(ledger) == [(A, NOON - MINUTE)]
    assert ledger.ended_lives(NOON)[0].started_at == later


def test_our_own_removal_ends_a_life_between_two_ticks(ledger: Ledger) -> None:
    """So it does when somebody else is told of it: `vanished`, at the time that it was seen, or `remember`."""
    seen(ledger, NOON - 2 * MINUTE, container(A), container(B))
    assert ledger.going_on() == {A: STARTED, B: STARTED}
    ledger.vanished(A, NOON - MINUTE)
    ledger.remember(container(B, state=State.EXITED, finished_at=NOON - 90 * MINUTE / 60), NOON)
    assert owed(ledger) == [(A, NOON - MINUTE), (B, NOON - 90 * MINUTE / 60)]
    assert ledger.going_on() == {}
    ledger.vanished(A, NOON)  # told again: nothing changes
    assert owed(ledger, only=A) == [(A, NOON - MINUTE)]


def test_a_short_life_that_no_tick_saw_is_owed_too(ledger: Ledger) -> None:
    """What watch saw as it started is known when it is gone; a tick that looked before neither ends nor revives it."""
    born = NOON - MINUTE
    ledger.remember(container(A, started_at=born, created_at=born), NOON)
    seen(ledger, NOON - MINUTE)  # its look is older than ours
    assert owed(ledger) == []
    ledger.vanished(A, NOON + MINUTE)
    seen(ledger, NOON + MINUTE / 2, container(A, started_at=born, created_at=born))
    assert owed(ledger, NOON + 2 * MINUTE) == [(A, NOON + MINUTE)]


def test_one_that_was_missed_by_one_look_goes_on(ledger: Ledger) -> None:
    """A container that could not be read for a moment has not ended: the next look opens its life again."""
    seen(ledger, NOON - 2 * MINUTE, container(A))
    seen(ledger, NOON - MINUTE)
    assert owed(ledger, NOON - MINUTE) != []
    seen(ledger, NOON, container(A))
    assert owed(ledger) == []
    assert ledger.going_on() == {A: STARTED}


# ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("after", "second", "expected"),
    [
        pytest.param(0, TICK, False, id="somebody is at it"),
        pytest.param(59, TICK, False, id="somebody is at it for as long as it may take"),
        pytest.param(60, TICK, True, id="somebody has been at it for too long"),
        pytest.param(1, replace(TICK, is_gone=dead), True, id="who was at it has been killed"),
        pytest.param(-59, TICK, False, id="the clock was set back a little"),
        pytest.param(-3600, TICK, True, id="the clock was set back an hour"),
    ],
)
def test_a_claim_holds_while_its_holder_may_be_at_it(
    ledger: Ledger, after: float, second: Claimant, *, expected: bool
) -> None:
    """Of two that claim one life the second gets it only when the first cannot be at it any more."""
    assert ledger.claim(A, STARTED, WATCH, NOON)
    assert ledger.claim(A, STARTED, second, NOON + timedelta(seconds=after)) is expected
    told = ledger.told(A, STARTED)
    assert told is not None
    assert (told.holder, told.tries) == (("tick", 2) if expected else ("watch", 1))
    assert ledger.claim(A, STARTED + MINUTE, TICK, NOON)  # another life of the same container
    assert ledger.claim(B, STARTED, TICK, NOON)


def test_an_epilog_that_kills_its_process_is_not_begun_for_ever(ledger: Ledger) -> None:
    """Three times nobody heard of it again: a fourth one would fare no better."""
    for number in range(MOST_TRIES + 1):
        assert ledger.claim(A, STARTED, replace(WATCH, is_gone=dead), NOON) is (number < MOST_TRIES)


@pytest.mark.parametrize("status", [Status.DONE, Status.NOOP])
def test_what_is_done_is_done(ledger: Ledger, status: Status) -> None:
    """Nobody gets it again, however long after, and it is owed no longer; what was found stays to be told."""
    seen(ledger, NOON - MINUTE, container(A))
    seen(ledger, NOON)
    assert ledger.claim(A, STARTED, replace(WATCH, hands=False), NOON)
    assert owed(ledger) != []  # until it has come to an end
    ledger.finished(A, STARTED, status, "GPU-1: nobody on it", NOON + MINUTE)
    assert owed(ledger, NOON + MINUTE) == []
    assert not ledger.claim(A, STARTED, replace(TICK, is_gone=dead), NOON + timedelta(hours=5))
    told = ledger.told(A, STARTED)
    assert told is not None
    assert (told.status, told.detail, told.finished_at, told.hands) == (
        status, "GPU-1: nobody on it", NOON + MINUTE, False,
    )  # fmt: skip
    ledger.finished(A, STARTED, Status.FAILED, "later", NOON + 2 * MINUTE)
    assert ledger.told(A, STARTED) == told


def test_a_failed_epilog_is_tried_anew_but_not_for_ever(ledger: Ledger) -> None:
    """Not at once by the next who comes along; three times in all, however each of them ended."""
    seen(ledger, NOON - MINUTE, container(A))
    seen(ledger, NOON)
    at = NOON
    for number in range(MOST_TRIES):
        assert owed(ledger, at) != []
        assert ledger.claim(A, STARTED, WATCH, at), number
        if number != 1:  # in between one is killed
            ledger.finished(A, STARTED, Status.FAILED, "the driver hangs", at)
            assert not ledger.claim(A, STARTED, replace(TICK, is_gone=dead), at + PATIENCE / 2)
        at += PATIENCE
    assert owed(ledger, at) == []
    assert not ledger.claim(A, STARTED, replace(TICK, is_gone=dead), at)
    told = ledger.told(A, STARTED)
    assert told is not None
    assert told.finished_at is not None


def test_a_claim_given_back_is_none(ledger: Ledger) -> None:
    """What could not be begun costs no try: not the first one, and not a later one."""
    ledger.claim(A, STARTED, WATCH, NOON)
    ledger.release(A, STARTED)
    assert ledger.told(A, STARTED) is None
    ledger.claim(A, STARTED, WATCH, NOON)
    ledger.finished(A, STARTED, Status.FAILED, "hangs", NOON)
    ledger.claim(A, STARTED, WATCH, NOON + PATIENCE)
    ledger.release(A, STARTED)
    told = ledger.told(A, STARTED)
    assert told is not None
    assert (told.tries, told.finished_at) == (1, None)
    ledger.claim(B, STARTED, WATCH, NOON)
    ledger.finished(B, STARTED, Status.DONE, "", NOON)
    ledger.release(B, STARTED)
    assert not ledger.claim(B, STARTED, TICK, NOON + 2 * PATIENCE)


CLAIMING = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ds01_policy.ledger import Claimant, Ledger
at = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
who = Claimant(sys.argv[2], lambda _: False, timedelta(seconds=60))
with Ledger.open(Path(sys.argv[1])) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    print("".join("x" if ledger.claim(f"{number:064x}", at, who, at) else "." for number in range(100)), flush=True)
"""


def test_of_several_processes_at_once_one_gets_each_life(path: Path) -> None:
    """Three processes race for a hundred lives: each life is somebody's, and nobody else's."""
    Ledger.open(path).close()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMING, str(path), f"racer {number}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )
        for number in range(3)
    ]  # fmt: skip
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        won = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert ["".join(marks).count("x") for marks in zip(*won, strict=True)] == [1] * 100, won


# ── unfit GPUs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unfit_gpu_stays_so_until_somebody_clears_it(ledger: Ledger, path: Path) -> None:
    """Since the first time it was found so, for the newest reason; then it may become unfit anew."""
    assert ledger.mark_unfit("GPU-1", "lost", NOON)
    assert not ledger.mark_unfit("GPU-1", "still lost", NOON + MINUTE)
    assert ledger.mark_unfit("GPU-2", "3 GiB held", NOON)
    expected = {"GPU-1": Unfit(NOON, "still lost"), "GPU-2": Unfit(NOON, "3 GiB held")}
    assert ledger.unfit() == ledger.history().unfit == expected
    assert ledger.mark_fit("GPU-1", "rebooted", NOON + 2 * MINUTE)
    assert not ledger.mark_fit("GPU-1", "rebooted", NOON + 2 * MINUTE)
    assert not ledger.mark_fit("GPU-9", "?", NOON)
    assert set(ledger.unfit()) == {"GPU-2"}
    assert ledger.mark_unfit("GPU-1", "lost again", NOON + 3 * MINUTE)
    assert ledger.unfit()["GPU-1"] == Unfit(NOON + 3 * MINUTE, "lost again")
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT gpu, how FROM unfit ORDER BY id").fetchall()
    assert rows == [("GPU-1", "rebooted"), ("GPU-2", None), ("GPU-1", None)]


def test_hostile_words_about_a_gpu_are_kept_within_bounds(ledger: Ledger) -> None:
    """A UUID becomes a metric's label, and words may carry a process name."""
    ledger.mark_unfit("GPU-" + "x" * 10_000 + "\ud800", "\udcff" * 10_000, NOON)
    ((gpu, unfit),) = ledger.unfit().items()
    assert len(gpu) == 100
    assert len(unfit.why) <= 20_000
    assert not ledger.mark_unfit("GPU-" + "x" * 10_000, "again", NOON)
    assert ledger.mark_fit("GPU-" + "x" * 10_000, "gone", NOON)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_time_of_the_last_event_is_kept(ledger: Ledger) -> None:
    """Nobody has watched at first."""
    assert ledger.watched_until() is None
    ledger.watched(NOON)
    ledger.watched(NOON + MINUTE)
    assert ledger.watched_until() == NOON + MINUTE


def test_an_older_ledger_learns_of_epilogs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lives stay; they are history."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
        patch.setattr(schema, "VERSION", 2)
        schema.connect(path).close()
    with Ledger.open(path) as ledger:
        assert owed(ledger) == []
        assert ledger.claim(A, STARTED, WATCH, NOON)


def test_what_is_older_than_the_retention_goes(ledger: Ledger, path: Path) -> None:
    """Epilogs and cleared GPUs; what is unfit now stays, however long it has been."""
    ledger.claim(A, STARTED, WATCH, NOON)
    ledger.mark_unfit("GPU-1", "lost", NOON)
    ledger.mark_unfit("GPU-2", "lost", NOON)
    ledger.mark_fit("GPU-2", "found well", NOON)
    seen(ledger, NOON + timedelta(days=89))
    counts = "SELECT (SELECT count(*) FROM epilogs), (SELECT count(*) FROM unfit)"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(counts).fetchone() == (1, 2)
        seen(ledger, NOON + timedelta(days=91))
        assert connection.execute(counts).fetchone() == (0, 1)
    assert set(ledger.unfit()) == {"GPU-1"}


@pytest.mark.parametrize(
    ("damage", "ask"),
    [
        ("UPDATE epilogs SET claimed_at = 'yesterday'", "claim"),
        ("UPDATE epilogs SET status = 'fine'", "claim"),
        ("UPDATE inventory SET gpus = '[{}]'", "ended_lives"),
        ("UPDATE inventory SET gpus = '{'", "ended_lives"),
        ("UPDATE inventory SET gpus = '7'", "ended_lives"),
        ("UPDATE inventory SET ended_at = '9'", "ended_lives"),
        ("UPDATE moments SET at = 'once'", "ended_lives"),
        ("UPDATE unfit SET since = ''", "unfit"),
    ],
)
def test_an_unreadable_row_is_damage_and_no_answer(ledger: Ledger, path: Path, damage: str, ask: str) -> None:
    """Nothing is claimed, owed or told from rows that make no sense."""
    seen(ledger, NOON - MINUTE, container(A), container(B))
    seen(ledger, NOON)
    ledger.claim(A, STARTED, WATCH, NOON)
    ledger.mark_unfit("GPU-1", "lost", NOON)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    given: dict[str, tuple[Any, ...]] = {"claim": (A, STARTED, TICK, NOON), "ended_lives": (NOON,), "unfit": ()}
    with pytest.raises(LedgerError) as caught:
        getattr(ledger, ask)(*given[ask])
    assert caught.value.code == "ledger_damaged"
