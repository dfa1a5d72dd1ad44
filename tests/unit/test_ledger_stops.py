"""The ledger's memory of stops: counted once, over ticks and restarts of the program, whatever the clock does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from epilog_fakes import MINUTE, NOON, STARTED, A, B, container, seen

from ds01_policy.ledger import Ledger, LedgerError, schema
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
    Problem,
    Snapshot,
    State,
    Status,
    Totals,
    Verdict,
)

ONE = GpuClaim(wants=True, refs=(GpuRef("GPU-1"),), via="--gpus")
SECOND = timedelta(seconds=1)
NOTHING = Totals()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path) as opened:
        yield opened


def running(mark: str = A, **changes: Any) -> Container:
    return container(mark, **{"gpus": ONE, **changes})


def ended(mark: str = A, **changes: Any) -> Container:
    return running(mark, state=State.EXITED, finished_at=NOON, **changes)


def decision(of: Container, rule: str = "idle-gpu", *actions: Action) -> Decision:
    verdict = Verdict(of, rule, Kind.ACT, "")
    return Decision(f"{of.id}-{rule}", verdict, actions or (Action.STOP,), Mode.ENFORCE, Disposition.ENFORCE)


def stop(
    ledger: Ledger,
    of: Container | None = None,
    status: Status = Status.DONE,
    action: Action = Action.STOP,
    rule: str = "idle-gpu",
) -> None:
    """Let the tick that was seen last stop it, a second after noon."""
    due = decision(of or running(), rule, action)
    ledger.intend(due, action, NOON)
    ledger.conclude(due, Outcome(due.id, action, status), NOON + SECOND)


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


# ── what is counted ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("action", "status", "counted"),
    [
        pytest.param(Action.STOP, Status.DONE, {"idle-gpu": 1}, id="it ran, and runs no more"),
        pytest.param(Action.STOP, Status.NOOP, {}, id="it had ended by itself"),
        pytest.param(Action.STOP, Status.FAILED, {}, id="it still runs"),
        pytest.param(Action.STOP, Status.STALE, {}, id="it was not what was decided about"),
        pytest.param(Action.STOP, Status.WITHHELD, {}, id="it was held back"),
        pytest.param(Action.REMOVE, Status.DONE, {}, id="what had ended was removed"),
        pytest.param(Action.WARN, Status.DONE, {}, id="somebody was warned"),
    ],
)
def test_a_stop_is_one_that_ended_a_running_container(
    ledger: Ledger, path: Path, action: Action, status: Status, counted: dict[str, float]
) -> None:
    """Nothing else is, however it looks in the plan."""
    seen(ledger, NOON, running())
    stop(ledger, status=status, action=action)
    assert ledger.totals().stops == counted
    assert len(rows(path, "SELECT * FROM stops")) == len(counted)


def test_what_is_only_shown_is_not_counted(ledger: Ledger) -> None:
    """Below `enforce` a decision is held back, and written down so."""
    held = replace(decision(running()), disposition=Disposition.SUPPRESS, held_by=HeldBy.MODE)
    seen(ledger, NOON, running())
    assert ledger.withhold(held, NOON)
    assert ledger.totals() == NOTHING


@pytest.mark.parametrize(("status", "stops"), [(Status.DONE, {"idle-gpu": 1}), (Status.FAILED, {})])
def test_a_stop_that_a_killed_run_began_counts_once_it_is_known(
    ledger: Ledger, path: Path, status: Status, stops: dict[str, float]
) -> None:
    """The next run looks and closes it; with its owner and its GPUs, which the intent wrote down."""
    seen(ledger, NOON, running())
    ledger.intend(decision(running()), Action.STOP, NOON)
    (intent,) = ledger.unfinished()
    for _ in range(2):
        ledger.resolve(intent, status, "", NOON + 5 * MINUTE)
    assert ledger.totals().stops == stops
    assert [row[:2] for row in rows(path, "SELECT owner, gpus FROM stops")] == [
        ("alice", '[{"uuid": "GPU-1", "gpu_instance": null}]')
    ] * len(stops)
    seen(ledger, NOON + 6 * MINUTE)
    assert ledger.totals().gpu_seconds.get("idle-gpu", 0) == 60 * len(stops)


@pytest.mark.parametrize(
    ("claim", "seconds"),
    [
        pytest.param(ONE, 299, id="one GPU"),
        pytest.param(replace(ONE, refs=(GpuRef("GPU-1", 3), GpuRef("GPU-1", 4))), 598, id="two instances of one GPU"),
        pytest.param(replace(ONE, holds=False), 0, id="a privileged container holds none"),
        pytest.param(GpuClaim(wants=True, unclear="?", via="--gpus"), 0, id="nobody knows which"),
    ],
)
def test_what_it_held_is_what_stays_free(ledger: Ledger, claim: GpuClaim, seconds: float) -> None:
    """Each GPU or GPU instance counts as one, from when the container had ended."""
    it = running(gpus=claim)
    seen(ledger, NOON, it)
    stop(ledger, it)
    seen(ledger, NOON + 5 * MINUTE, replace(it, state=State.EXITED))
    assert ledger.totals().gpu_seconds == {"idle-gpu": seconds}


def test_each_rule_has_its_own_totals(ledger: Ledger) -> None:
    """Two containers of two people, stopped by two rules."""
    other = running(B, owner="bob", gpus=replace(ONE, refs=(GpuRef("GPU-2"),)))
    seen(ledger, NOON, running(), other)
    stop(ledger)
    stop(ledger, other, rule="max-runtime")
    back = replace(other, started_at=NOON + MINUTE)
    seen(ledger, NOON + 5 * MINUTE, back)
    told = ledger.totals()
    assert told.stops == {"idle-gpu": 1, "max-runtime": 1}
    assert told.regrets == {"idle-gpu": 0, "max-runtime": 1}
    assert told.gpu_seconds == {"idle-gpu": 299, "max-runtime": 59}


# ── over ticks and restarts ──────────────────────────────────────────────────────────────────────────────────────────


def test_totals_live_across_runs(path: Path) -> None:
    """Each run opens the file anew; ticks without any stop change nothing, a regret counts once."""
    with Ledger.open(path) as ledger:
        seen(ledger, NOON, running())
        stop(ledger)
    elsewhere = running(B, started_at=NOON + 2 * MINUTE, gpus=replace(ONE, refs=(GpuRef("GPU-2"),)))
    there = running("d" * 64, started_at=NOON + 13 * MINUTE)
    told = []
    for minutes, containers in ((5, [elsewhere]), (10, [elsewhere]), (15, [elsewhere, there]), (20, [there])):
        with Ledger.open(path) as ledger:
            seen(ledger, NOON + minutes * MINUTE, *containers)
            told.append(ledger.totals())
    assert [each.gpu_seconds["idle-gpu"] for each in told] == [299, 599, 779, 779]
    assert [each.regrets["idle-gpu"] for each in told] == [1, 1, 1, 1]
    assert [each.stops["idle-gpu"] for each in told] == [1, 1, 1, 1]


def test_a_clock_that_is_set_back_takes_nothing_away(ledger: Ledger) -> None:
    """A counter never falls, and no second counts twice."""
    seen(ledger, NOON, running())
    stop(ledger)
    told = []
    for minutes in (30, -600, -590, 29, 31):
        seen(ledger, NOON + minutes * MINUTE)
        told.append(ledger.totals().gpu_seconds["idle-gpu"])
    assert told == [1799, 1799, 1799, 1799, 1859]


def test_a_stop_is_over_after_a_day(ledger: Ledger, path: Path) -> None:
    """Its row is read no more; the totals stay when it goes, ninety days later."""
    seen(ledger, NOON, running())
    stop(ledger)
    for half_hours in range(1, 60):
        seen(ledger, NOON + half_hours * 30 * MINUTE)
    assert rows(path, "SELECT over, gpu_seconds FROM stops") == [(1, 86400)]
    seen(ledger, NOON + timedelta(days=91))
    assert rows(path, "SELECT * FROM stops") == []
    told = ledger.totals()
    assert (told.stops, told.gpu_seconds) == ({"idle-gpu": 1}, {"idle-gpu": 86400})


@pytest.mark.parametrize("finished", [NOON + 2 * MINUTE, None])
def test_one_that_was_up_when_another_was_stopped_is_no_regret(ledger: Ledger, finished: Any) -> None:
    """A restart policy brought it up again: it was there all the time. When it ended Docker may not tell."""
    other = running(B, name="steady")
    seen(ledger, NOON, running(), other)
    stop(ledger)
    seen(ledger, NOON + 5 * MINUTE, replace(other, started_at=NOON + 3 * MINUTE, finished_at=finished))
    assert ledger.totals().regrets == {"idle-gpu": 0}


def test_one_that_had_ended_before_and_is_started_now_is_a_regret(ledger: Ledger) -> None:
    """She has another one lying there, stopped, and takes that."""
    old = running(B, name="other", state=State.EXITED, finished_at=STARTED + MINUTE)
    seen(ledger, NOON, running(), old)
    stop(ledger)
    seen(ledger, NOON + 5 * MINUTE, replace(old, state=State.RUNNING, started_at=NOON + MINUTE))
    assert ledger.totals().regrets == {"idle-gpu": 1}


def test_two_stopped_in_one_tick_do_not_answer_each_other(ledger: Ledger) -> None:
    """Both were up when the tick decided. She starts one of them again: that is the one that is regretted."""
    other = running(B, name="second", gpus=replace(ONE, refs=(GpuRef("GPU-2"),)))
    seen(ledger, NOON, running(), other)
    stop(ledger)
    stop(ledger, other, rule="max-runtime")
    seen(ledger, NOON + 5 * MINUTE, replace(other, started_at=NOON + MINUTE))
    assert ledger.totals().regrets == {"idle-gpu": 0, "max-runtime": 1}


# ── looks that show little ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_engine_that_shows_nothing_at_all_proves_nothing(ledger: Ledger) -> None:
    """The tick after it makes up for it."""
    seen(ledger, NOON, running())
    stop(ledger)
    at = NOON + 5 * MINUTE
    ledger.begin(at, Mode.ENFORCE, "sha256:1")
    ledger.record(Snapshot(at, "gpu01", ()), Evaluation((), Demand(8, 0, high=False)), Plan(), suspicious=True)
    assert ledger.totals().gpu_seconds == {"idle-gpu": 0}
    seen(ledger, NOON + 10 * MINUTE)
    assert ledger.totals().gpu_seconds == {"idle-gpu": 599}


@pytest.mark.parametrize("code", ["container_unreadable", "docker_slow"])
def test_a_container_that_was_not_seen_may_be_hers(ledger: Ledger, code: str) -> None:
    """It may hold that GPU: nothing is counted on this look."""
    seen(ledger, NOON, running())
    stop(ledger)
    at = NOON + 5 * MINUTE
    ledger.begin(at, Mode.ENFORCE, "sha256:1")
    snapshot = Snapshot(at, "gpu01", (), problems=(Problem(code, "left alone"),))
    ledger.record(snapshot, Evaluation((), Demand(8, 0, high=False)), Plan())
    assert ledger.totals().gpu_seconds == {"idle-gpu": 0}


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lost_ledger_starts_over(path: Path) -> None:
    """Prometheus takes that for a counter that was reset."""
    with Ledger.open(path) as ledger:
        seen(ledger, NOON, running())
        stop(ledger)
        assert ledger.totals() != NOTHING
    path.unlink()
    with Ledger.open(path) as ledger:
        assert ledger.totals() == NOTHING


def test_an_older_ledger_learns_to_count(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stopped before is not counted; an intent of before is, once it is closed, with what is known of it."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:5])
        patch.setattr(schema, "VERSION", 5)
        schema.connect(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, status in enumerate(("done", None)):
            connection.execute(
                "INSERT INTO actions (decision, container, name, started_at, rule, action, mode, intent_at, status)"
                " VALUES (?, ?, 'train', NULL, 'idle-gpu', 'stop', 'enforce', ?, ?)",
                (str(number), A, schema.stamp(NOON), status),
            )
    with Ledger.open(path) as ledger:
        assert ledger.totals() == NOTHING
        (intent,) = ledger.unfinished()
        ledger.resolve(intent, Status.DONE, "", NOON)
        seen(ledger, NOON + 5 * MINUTE)
        told = ledger.totals()
        assert (told.stops, told.gpu_seconds) == ({"idle-gpu": 1}, {"idle-gpu": 0})


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE stops SET at = 'yesterday'",
        "UPDATE stops SET gpus = 'none'",
        "UPDATE stops SET gpus = '[{}]'",
        "UPDATE stops SET gpu_seconds = 'many'",
    ],
)
def test_a_row_that_makes_no_sense_is_damage(ledger: Ledger, path: Path, damage: str) -> None:
    """Then nothing of the tick is written down, and nothing is done."""
    seen(ledger, NOON, running())
    stop(ledger)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    with pytest.raises(LedgerError, match="unreadable row"):
        seen(ledger, NOON + 5 * MINUTE)


def test_a_sum_that_makes_no_sense_is_damage(ledger: Ledger, path: Path) -> None:
    """No number is made up."""
    seen(ledger, NOON, running())
    stop(ledger)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE totals SET stops = 'many'")
    with pytest.raises(LedgerError, match="unreadable row"):
        ledger.totals()


def test_hostile_names_are_kept_and_found(ledger: Ledger) -> None:
    """A name that no text should hold does not break a tick, and its owner is still found."""
    it = running(name="\ud800\x00'; DROP TABLE stops", owner="unknown")
    seen(ledger, NOON, it)
    stop(ledger, it)
    seen(ledger, NOON + 5 * MINUTE, replace(it, started_at=NOON + MINUTE))
    assert ledger.totals().regrets == {"idle-gpu": 1}
