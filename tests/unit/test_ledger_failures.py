"""The ledger when its file, its disk or its process fails: clear words, and never half a truth."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.ledger import Ledger, LedgerError, schema
from ds01_policy.model import (
    Action,
    Container,
    Decision,
    Demand,
    Disposition,
    Evaluation,
    Kind,
    Mode,
    Outcome,
    Plan,
    Snapshot,
    Spell,
    State,
    Status,
    Verdict,
)
from ds01_policy.spells import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TICK = timedelta(minutes=5)


def verdict(kind: Kind, mark: str = "a", started_at: datetime = NOON, held_by: str | None = None) -> Verdict:
    container = Container(mark * 64, "train", "img", State.RUNNING, NOON, started_at)
    return Verdict(container, "idle-gpu", kind, "", held_by, timedelta(hours=1), beneath=Kind.ACT)


def decide(found: Verdict, action: Action = Action.WARN) -> Decision:
    return Decision("d1", found, (action,), Mode.ENFORCE, Disposition.ENFORCE)


def tick(ledger: Ledger, at: datetime, *verdicts: Verdict) -> None:
    ledger.begin(at, Mode.ENFORCE, "sha256:1")
    snapshot = Snapshot(at, "gpu01", tuple(found.container for found in verdicts))
    ledger.record(snapshot, Evaluation(verdicts, Demand(1, 1, high=True)), Plan())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a ledger that has been used for a while."""
    path = tmp_path / "it's state" / "ledger.db"
    with Ledger.open(path) as ledger:
        for number in range(30):
            marks = "abcdef0123456789"
            tick(ledger, NOON + number * TICK, *(verdict(Kind.WARN, mark, NOON + number * TICK) for mark in marks))
    return path


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for a while, as root is stopped by no file mode."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00garbage\xff" * 1000)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def scribbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 + 100 : -100] = b"\xa5" * (len(content) - 4096 - 200)
    path.write_bytes(content)


def unreadable_time(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE spells SET seen = 'yesterday'")


def unknown_word(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE kinds SET kind = 'perhaps'")


def no_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE spells")


@pytest.mark.parametrize("damage", [garbage, cut_short, scribbled, unreadable_time, unknown_word, no_table])
@pytest.mark.parametrize("way", ["evaluate", "preview"])
def test_a_damaged_ledger_says_how_to_go_on(path: Path, damage: Callable[[Path], None], way: str) -> None:
    """Whatever happened to the file, the error names it and the command that gets it out of the way, which works."""
    damage(path)
    content = path.read_bytes()

    def use() -> None:
        ledger = Ledger.open(path) if way == "evaluate" else Ledger.open_readonly(path)
        assert ledger is not None
        with ledger:
            ledger.history()

    with pytest.raises(LedgerError) as caught:
        use()
    assert caught.value.code == "ledger_damaged"
    text = str(caught.value)
    assert "is damaged" in text
    assert text.endswith("warnings start over, no allocation is lost")
    assert path.read_bytes() == content
    subprocess.run(["sh", "-c", text.split("`")[1]], check=True, timeout=10)
    with Ledger.open(path) as ledger:
        assert ledger.history().spells == {}


@pytest.mark.parametrize("damage", [garbage, cut_short, scribbled])
def test_a_run_finds_damage_before_it_begins(path: Path, damage: Callable[[Path], None]) -> None:
    """Opening looks at every page, not only at those that this tick will need."""
    damage(path)
    with pytest.raises(LedgerError, match="is damaged"):
        Ledger.open(path)


def test_a_row_that_makes_no_sense_stops_the_tick_whole(path: Path) -> None:
    """Damage found while writing is named as such, and nothing of the tick stays."""
    unreadable_time(path)
    with Ledger.open(path) as ledger:
        ledger.begin(NOON + 40 * TICK, Mode.ENFORCE, "sha256:1")
        with pytest.raises(LedgerError, match="unreadable row"):
            ledger.record(Snapshot(NOON + 40 * TICK, "gpu01", ()), Evaluation((), Demand(1, 1, high=True)), Plan())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM ticks WHERE settled").fetchone() == (30,)


def test_a_ledger_of_a_newer_version_is_left_alone(path: Path) -> None:
    """A file that this version does not know is neither read nor changed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    content = path.read_bytes()
    for opener in (Ledger.open, Ledger.open_readonly):
        with pytest.raises(LedgerError, match="written by a newer ds01-policy") as caught:
            opener(path)
        assert caught.value.code == "ledger_newer"
    assert path.read_bytes() == content


def test_a_ledger_of_an_older_version_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer migrates the file and keeps what it holds; a reader migrates only its own copy."""
    more = (*schema.MIGRATIONS, ("CREATE TABLE further (at TEXT)", "INSERT INTO further VALUES ('x')"))
    monkeypatch.setattr(schema, "MIGRATIONS", more)
    monkeypatch.setattr(schema, "VERSION", len(more))
    content = path.read_bytes()
    reader = Ledger.open_readonly(path)
    assert reader is not None
    with reader:
        before = reader.history()
    assert path.read_bytes() == content
    with Ledger.open(path) as ledger:
        assert ledger.history() == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT at FROM further").fetchall() == [("x",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables and version change together or not at all."""
    more = (*schema.MIGRATIONS, ("CREATE TABLE further (at TEXT)", "CREATE TABLE ticks (again)"))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", more)
        patch.setattr(schema, "VERSION", len(more))
        with pytest.raises(LedgerError):
            Ledger.open(path)
    with Ledger.open(path) as ledger:
        assert len(ledger.history().spells) == 16


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_ledger_that_may_not_be_written_is_refused_at_the_start(what: str) -> None:
    """Where the directory or the file is read-only, no run begins; where it can be read, `preview` still reads it."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        path = place / "ledger.db"
        with Ledger.open(path) as ledger:
            tick(ledger, NOON, verdict(Kind.WARN))
        path.chmod(0o444)
        place.chmod(0o555 if what == "directory" else 0o777)
        try:
            with unprivileged():
                with pytest.raises(LedgerError, match="run as root") as caught:
                    Ledger.open(path)
                reader = Ledger.open_readonly(path)
                assert reader is not None
                with reader:
                    assert len(reader.history().spells) == 1
            assert caught.value.code == "ledger_unwritable"
        finally:
            place.chmod(0o755)


def test_a_directory_that_becomes_read_only_is_found_out_by_begin() -> None:
    """SQLite needs its journal beside the file: opening works, and the first real write says what is wrong."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        path = place / "ledger.db"
        Ledger.open(path).close()
        path.chmod(0o666)
        place.chmod(0o555)
        try:
            with (
                unprivileged(),
                Ledger.open(path) as ledger,
                pytest.raises(LedgerError, match="cannot be opened or written"),
            ):
                ledger.begin(NOON, Mode.ENFORCE, "sha256:1")
        finally:
            place.chmod(0o755)


def test_a_ledger_that_may_not_be_read_says_so() -> None:
    """Somebody who is not root is told to be."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state" / "ledger.db"
        Path(directory).chmod(0o755)
        Ledger.open(path).close()
        with unprivileged(), pytest.raises(LedgerError, match=r"Permission denied\): run as root"):
            Ledger.open_readonly(path)


def test_a_full_disk_stops_the_tick_whole(path: Path) -> None:
    """When no page can be added, the write fails with the right words and nothing of it stays."""
    connection = schema.connect(path)
    with Ledger(connection, path) as ledger:
        before = ledger.history()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        many = [verdict(Kind.ACT, f"{number:x}") for number in range(1000)]
        ledger.begin(NOON + 40 * TICK, Mode.ENFORCE, "sha256:1")
        snapshot = Snapshot(NOON + 40 * TICK, "gpu01", tuple(found.container for found in many))
        with pytest.raises(LedgerError, match="no space left") as caught:
            ledger.record(snapshot, Evaluation(tuple(many), Demand(1, 1, high=True)), Plan())
        assert caught.value.code == "ledger_full"
        assert ledger.history() == before
        connection.execute("PRAGMA max_page_count = 100000")
        tick(ledger, NOON + 41 * TICK, verdict(Kind.ACT))
        assert ledger.history().last_tick_at == NOON + 41 * TICK


def test_a_disk_that_refuses_writes_is_found_out_by_begin(path: Path) -> None:
    """`begin` really writes: where not one byte can be added, no tick begins, and later ones can."""
    with Ledger.open(path) as ledger:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            with pytest.raises(LedgerError) as caught:
                ledger.begin(NOON, Mode.ENFORCE, "sha256:1")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.code == "ledger_io"
        ledger.begin(NOON, Mode.ENFORCE, "sha256:1")


@pytest.mark.parametrize("way", ["evaluate", "preview"])
def test_a_ledger_that_another_program_holds_is_not_waited_for_without_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """An exclusive lock of somebody else ends in an error after the time set, for writers and readers."""
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError, match="locked by another program") as caught:
            Ledger.open(path) if way == "evaluate" else Ledger.open_readonly(path)
    assert caught.value.code == "ledger_locked"


# ── the process ──────────────────────────────────────────────────────────────────────────────────────────────────────

CHILD = """
import os, sys
from datetime import datetime, timedelta, UTC
from pathlib import Path
from ds01_policy.ledger import Ledger
from ds01_policy.model import *
at = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
container = Container("a" * 64, "train", "img", State.RUNNING, at, at)
found = Verdict(container, "idle-gpu", Kind.WARN, "", for_=timedelta(hours=1))
ledger = Ledger.open(Path(sys.argv[1]))
for number in range(10_000):
    at += timedelta(minutes=5)
    ledger.begin(at, Mode.ENFORCE, "sha256:1")
    ledger.record(Snapshot(at, "h", (container,)), Evaluation((found,), Demand(1, 1, high=True)), Plan())
    decision = Decision(str(number), found, (Action.WARN,), Mode.ENFORCE, Disposition.ENFORCE)
    ledger.intend(decision, Action.WARN, at)
    if "between" in sys.argv:
        os.kill(os.getpid(), 9)
    ledger.conclude(decision, Outcome(str(number), Action.WARN, Status.DONE, "", True), at)
    print(number, flush=True)
"""


def test_killed_between_intent_and_outcome(tmp_path: Path) -> None:
    """The next run finds what was begun, and a warning that nobody can prove does not count."""
    path = tmp_path / "ledger.db"
    ended = subprocess.run([sys.executable, "-c", CHILD, str(path), "between"], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    with Ledger.open(path) as ledger:
        (open_one,) = ledger.unfinished()
        assert (open_one.decision, open_one.action, open_one.container) == ("0", Action.WARN, "a" * 64)
        (spell,) = ledger.history().spells.values()
        assert spell.warned_at is None


@pytest.mark.parametrize("lines", [1, 2, 5, 9])
def test_killed_at_any_moment(tmp_path: Path, lines: int) -> None:
    """After kill -9 the file is sound, all that was reported done is there, and at most one action is open."""
    path = tmp_path / "ledger.db"
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(lines):
            last = int(child.stdout.readline())
        child.kill()
    with Ledger.open(path) as ledger:
        assert len(ledger.unfinished()) <= 1
        history = ledger.history()
        (spell,) = history.spells.values()
        assert history.last_tick_at is not None
        assert history.last_tick_at >= NOON + (last + 1) * TICK
        assert spell.seen == history.last_tick_at
        assert spell.warned_at is not None
        assert NOON + (last + 1) * TICK <= spell.warned_at <= spell.seen
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


HALF_WRITTEN = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")
connection.execute("UPDATE inventory SET name = name || hex(zeroblob(500))")
os.kill(os.getpid(), 9)
"""


def test_killed_in_the_midst_of_a_commit(path: Path) -> None:
    """A reader changes nothing and says who repairs it; the next run does, and finds what was there before."""
    with Ledger.open(path) as ledger:
        before = ledger.history()
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, str(path)], timeout=60, check=False)
    journal = path.with_name("ledger.db-journal")
    content = path.read_bytes(), journal.read_bytes()
    with pytest.raises(LedgerError, match="the next `ds01-policy evaluate` repairs it"):
        Ledger.open_readonly(path)
    assert (path.read_bytes(), journal.read_bytes()) == content
    with Ledger.open(path) as ledger:
        assert ledger.history() == before


# ── any story ────────────────────────────────────────────────────────────────────────────────────────────────────────

STEP = st.tuples(
    st.sampled_from(
        [
            "idle",
            "near",
            "busy",
            "unknown",
            "kept",
            "exempt",
            "restart",
            "warned",
            "refused",
            "killed",
            "reopen",
            "rehearsed",
        ]
    ),
    st.sampled_from("ab"),
    st.integers(1, 90),
)
KINDS = {
    "idle": (Kind.ACT, None),
    "near": (Kind.WARN, None),
    "busy": (Kind.CLEAR, None),
    "unknown": (Kind.UNKNOWN, None),
    "kept": (Kind.EXEMPT, "keep_alive"),
    "exempt": (Kind.EXEMPT, "exempted"),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_any_sequence_of_ticks_tells_the_same_story_as_the_pure_rules(steps: list[tuple[str, str, int]]) -> None:
    """The file holds what the pure functions say; only a concluded warning counts, and only for its own life."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.db"
        ledger = Ledger.open(path)
        lives = {"a": NOON, "b": NOON}
        expected: dict[str, Spell] = {}
        warnings: dict[tuple[str, datetime], datetime] = {}
        at = NOON
        try:
            for what, mark, minutes in steps:
                at += timedelta(minutes=minutes)
                found = verdict(*_find(what, mark, lives))
                decision = decide(found)
                if what in KINDS:
                    tick(ledger, at, found)
                    after = progress(expected.get(mark), found, at)
                    expected.pop(mark, None)
                    expected |= {mark: after} if after else {}
                elif what == "restart":
                    lives[mark] = at
                elif what == "reopen":
                    ledger.close()
                    ledger = Ledger.open(path)
                else:
                    _act(ledger, what, decision, at)
                    _expect(expected, what, decision, at)
                    warnings |= {(mark, lives[mark]): at} if what in ("warned", "rehearsed") else {}
                spells = {container[0]: spell for (container, _), spell in ledger.history().spells.items()}
                assert spells == {m: spell for m, spell in expected.items() if at - spell.seen <= timedelta(days=7)}
                for mark_, spell in spells.items():
                    if spell.warned_at is not None:
                        assert spell.started_at is not None
                        assert spell.warned_at <= warnings[mark_, spell.started_at]
        finally:
            ledger.close()


def _find(what: str, mark: str, lives: dict[str, datetime]) -> tuple[Kind, str, datetime, str | None]:
    kind, held_by = KINDS.get(what, (Kind.WARN, None))
    return kind, mark, lives[mark], held_by


def _act(ledger: Ledger, what: str, decision: Decision, at: datetime) -> None:
    if what == "rehearsed":
        ledger.simulate_warnings([decision], at)
        return
    ledger.intend(decision, Action.WARN, at)
    if what != "killed":
        status = Status.DONE if what == "warned" else Status.FAILED
        ledger.conclude(decision, Outcome("d1", Action.WARN, status, "", delivered=True), at)


def _expect(expected: dict[str, Spell], what: str, decision: Decision, at: datetime) -> None:
    mark = decision.container.id[0]
    spell = expected.get(mark)
    if spell is None or spell.started_at != decision.container.started_at:
        return
    if what == "warned":
        expected[mark] = replace(spell, warned_at=at, warned_mode=Mode.ENFORCE, delivered=True)
    elif what == "rehearsed" and spell.warned_at is None:
        expected[mark] = replace(spell, warned_at=at, warned_mode=Mode.OBSERVE, delivered=False)
