"""Local samples in the ledger: kept whole tick by whole tick, bounded in time and number, readable without a trace."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ds01_policy.ledger import Ledger, LedgerError, samples, schema

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
AT = NOON.timestamp()
TWO_DAYS = timedelta(hours=48)
BOX = "a" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def fill(path: Path, ticks: int, series: int = 1, every: float = 300.0, retain: timedelta = TWO_DAYS) -> None:
    """Let so many ticks pass up to noon, each with so many CPU samples."""
    with Ledger.open(path) as ledger:
        for number in range(ticks):
            rows = [("cpu", f"{one:064x}", float(number)) for one in range(series)]
            ledger.keep_samples(AT - every * (ticks - 1 - number), rows, retain)


def count(path: Path) -> int:
    """Count the ticks that are kept."""
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT count(*) FROM samples").fetchone()
        return int(found)


def change(path: Path, *statement: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(*statement)


def test_what_is_kept_is_told_by_kind_and_key_in_order(path: Path) -> None:
    """Every way of reading tells the same, and of history only as far back as was asked."""
    with Ledger.open(path) as ledger:
        ledger.keep_samples(AT, [("cpu", BOX, 12.5), ("gpu", "GPU-a", 0.25)], TWO_DAYS)
        ledger.keep_samples(AT + 300.5, [("cpu", BOX, 13.5)], TWO_DAYS)
        whole = {"cpu": {BOX: ((AT, 12.5), (AT + 300.5, 13.5))}, "gpu": {"GPU-a": ((AT, 0.25),)}}
        assert ledger.samples(NOON) == whole
        assert ledger.history(timedelta(minutes=6)).samples == whole
        assert ledger.history(timedelta(minutes=5)).samples == {"cpu": {BOX: ((AT + 300.5, 13.5),)}}
        assert ledger.history().samples == {}
        assert ledger.samples(NOON + timedelta(minutes=1)) == {"cpu": {BOX: ((AT + 300.5, 13.5),)}}
    content = path.read_bytes()
    reader = Ledger.open_readonly(path)
    assert reader is not None
    with reader:
        assert reader.samples(NOON) == reader.history(TWO_DAYS).samples == whole
        with pytest.raises(LedgerError):
            reader.keep_samples(AT, [("cpu", BOX, 1.0)], TWO_DAYS)
    assert path.read_bytes() == content


def test_a_tick_seen_twice_is_kept_once(path: Path) -> None:
    """The later word at the very same instant replaces the earlier one."""
    with Ledger.open(path) as ledger:
        ledger.keep_samples(AT, [("cpu", BOX, 1.0)], TWO_DAYS)
        ledger.keep_samples(AT, [("cpu", BOX, 2.0)], TWO_DAYS)
        assert ledger.samples(NOON) == {"cpu": {BOX: ((AT, 2.0),)}}


def test_only_so_much_time_is_kept(path: Path) -> None:
    """With two hours' retention, 25 of 60 five-minute ticks stay, both ends included."""
    fill(path, 60, retain=timedelta(hours=2))
    assert count(path) == 25


def test_what_lies_ahead_of_a_clock_that_was_set_back_is_dropped(path: Path) -> None:
    """A sample from the future would be believed once that time comes."""
    with Ledger.open(path) as ledger:
        ledger.keep_samples(AT + 7200, [("cpu", BOX, 99.0)], TWO_DAYS)
        ledger.keep_samples(AT, [("cpu", BOX, 1.0)], TWO_DAYS)
        assert ledger.samples(NOON - TWO_DAYS) == {"cpu": {BOX: ((AT, 1.0),)}}


def test_only_so_much_is_kept_and_whole_ticks_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many containers and ticks there are, the file stays bounded, and no tick stays in half."""
    monkeypatch.setattr(samples, "MOST_BYTES", 100 * 12)
    fill(path, 20, series=7)
    assert count(path) == 14
    with Ledger.open(path) as ledger:
        told = ledger.samples(NOON - TWO_DAYS)["cpu"]
    assert [len(each) for each in told.values()] == [14] * 7
    assert {each[0][0] for each in told.values()} == {AT - 13 * 300}, "the oldest went"


def test_two_days_of_a_thousand_containers_are_kept_whole_and_stay_small(path: Path) -> None:
    """The bound does not bite into what a large host retains, and a sample takes a dozen bytes."""
    containers, ticks = 1000, 48 * 12 + 1
    assert 2 * containers * ticks * 12 < samples.MOST_BYTES
    with Ledger.open(path) as ledger:
        empty = path.stat().st_size
        rows = [(kind, f"{one:064x}", 1.5) for kind in ("cpu", "network") for one in range(containers)]
        for number in range(20):
            ledger.keep_samples(AT + 300 * number, rows, TWO_DAYS)
    assert path.stat().st_size - empty < 20 * 2 * containers * 13 + 2 * containers * 200


def test_names_of_what_is_no_longer_sampled_go_with_its_last_sample(path: Path) -> None:
    """Not sooner: a number without a name would be damage. And not never: containers come and go."""
    with Ledger.open(path) as ledger:
        for number in range(200):  # for ten hours two containers, then one of them alone
            rows = [("cpu", BOX, 1.0)] + ([("cpu", "b" * 64, 2.0)] if number < 120 else [])
            ledger.keep_samples(AT + 300 * number, rows, timedelta(hours=2))
            told = ledger.samples(NOON - TWO_DAYS)["cpu"]
            assert ("b" * 64 in told) is (number < 144)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT key FROM series").fetchall() == [(BOX,)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_left_out(path: Path, value: float) -> None:
    """A sample that is not there proves nothing; one that cannot be read back would be damage."""
    with Ledger.open(path) as ledger:
        ledger.keep_samples(AT, [("cpu", BOX, value), ("network", BOX, 1.0)], TWO_DAYS)
        assert ledger.samples(NOON) == {"network": {BOX: ((AT, 1.0),)}}


def test_a_tick_is_written_whole_or_not_at_all(path: Path) -> None:
    """A row that fails takes the others of its tick with it, and what was there stays."""
    with Ledger.open(path) as ledger:
        ledger.keep_samples(AT, [("cpu", BOX, 1.0)], TWO_DAYS)
    change(
        path, "CREATE TRIGGER full BEFORE INSERT ON series WHEN NEW.key = 'b' BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    with Ledger.open(path) as ledger:
        with pytest.raises(LedgerError):
            ledger.keep_samples(AT + 300, [("cpu", BOX, 2.0), ("cpu", "b", 2.0)], timedelta(0))
        assert ledger.samples(NOON) == {"cpu": {BOX: ((AT, 1.0),)}}


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(("UPDATE samples SET packed = 'busy'",), id="text"),
        pytest.param(("UPDATE samples SET packed = ?", (b"\0" * 11,)), id="half a sample"),
        pytest.param(("UPDATE samples SET packed = ?", (struct.pack("<Id", 1, float("nan")),)), id="no number"),
        pytest.param(("DELETE FROM series",), id="nobody's"),
    ],
)
def test_what_cannot_be_read_back_is_damage(path: Path, statement: tuple[Any, ...]) -> None:
    """What somebody else wrote there is named, not guessed at."""
    fill(path, 1)
    change(path, *statement)
    with Ledger.open(path) as ledger, pytest.raises(LedgerError, match="unreadable row"):
        ledger.samples(NOON - TWO_DAYS)


def test_a_ledger_without_samples_gets_their_table_and_keeps_the_rest(path: Path) -> None:
    """The first version of the file is brought up to date where it lies."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in schema.MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("INSERT INTO breaker VALUES (?)", (schema.stamp(NOON),))
        connection.execute("PRAGMA user_version = 1")
    fill(path, 1)
    with Ledger.open(path) as ledger:
        assert ledger.history().breaker_since == NOON
        assert ledger.samples(NOON) != {}
