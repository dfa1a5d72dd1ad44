"""Ledger and audit log of a program that runs for months: written where they are now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from epilog_fakes import NOON

from ds01_policy.audit import AuditError, read
from ds01_policy.journal import Journal
from ds01_policy.ledger import Ledger, LedgerError


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "ledger.db", tmp_path / "audit.jsonl", "gpu01")) as opened:
        yield opened


def test_both_stay_open(journal: Journal) -> None:
    """Asking again costs nothing."""
    assert journal() == journal()


def test_a_ledger_that_was_moved_away_is_made_anew(journal: Journal, tmp_path: Path) -> None:
    """An admin moves a damaged one away; what is written from then on is in the new one."""
    journal()[0].watched(NOON)
    (tmp_path / "ledger.db").rename(tmp_path / "ledger.db.broken")
    assert journal()[0].watched_until() is None
    journal()[0].watched(NOON)
    with Ledger.open(tmp_path / "ledger.db") as fresh:
        assert fresh.watched_until() == NOON


def test_one_that_was_put_in_its_place_is_opened(journal: Journal, tmp_path: Path) -> None:
    """A copy that was restored is another file."""
    journal()
    with Ledger.open(tmp_path / "other.db") as other:
        other.watched(NOON)
    (tmp_path / "other.db").replace(tmp_path / "ledger.db")
    assert journal()[0].watched_until() == NOON


def test_lines_are_written_under_the_policy_of_their_time(journal: Journal, tmp_path: Path) -> None:
    """A policy that was edited meanwhile is told from the one before."""
    for digest in ("sha256:1", "sha256:1", "sha256:2"):
        journal.under(digest)
        journal()[1].note("outcome", NOON, {})
    lines = list(read(tmp_path / "audit.jsonl"))
    assert [(line["host"], line["policy"]) for line in lines] == [
        ("gpu01", "sha256:1"), ("gpu01", "sha256:1"), ("gpu01", "sha256:2"),
    ]  # fmt: skip


def test_what_cannot_be_opened_is_tried_again_each_time(tmp_path: Path) -> None:
    """A disk that was full for a while does not end a program that waits for it."""
    (tmp_path / "ledger.db").mkdir()
    with closing(Journal(tmp_path / "ledger.db", tmp_path / "audit.jsonl", "gpu01")) as journal:
        with pytest.raises(LedgerError):
            journal()
        with pytest.raises(LedgerError):
            journal()
        (tmp_path / "ledger.db").rmdir()
        journal()[0].watched(NOON)
    nowhere = Journal(tmp_path / "ledger.db", tmp_path / "ledger.db" / "audit", "gpu01")
    with pytest.raises(AuditError):
        nowhere()
    nowhere.close()
