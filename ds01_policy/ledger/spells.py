"""Rows of spells, last verdicts and the breaker.

Owns their reading and writing. What a tick makes of a spell is decided in ds01_policy/spells.py.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.ledger.schema import instant, instant_or_none, stamp, stamp_or_none
from ds01_policy.model import Kind, Mode, Spell
from ds01_policy.spells import life_of, progress

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from ds01_policy.model import Decision, Verdict

Key = tuple[str, str]  # container id, rule

# A container that is not listed may only have been unreadable for a moment: its spells wait this long for it.
ABSENT_AT_MOST = timedelta(days=7)
# And what was last known of it, for the breaker: an outage of Docker's is as good a reason for a wrong look as any.
UNSEEN_AT_MOST = timedelta(hours=1)


def load_spells(connection: sqlite3.Connection) -> dict[Key, Spell]:
    """Read all spells. Raises ValueError for a row that makes no sense."""
    rows = connection.execute(
        "SELECT container, started_at, rule, since, seen, warned_at, warned_mode, delivered, kept_since,"
        " promised_at FROM spells"
    )
    return {
        (container, rule): Spell(
            container,
            instant_or_none(started_at),
            rule,
            instant(since),
            instant(seen),
            instant_or_none(warned_at),
            None if warned_mode is None else Mode(warned_mode),
            bool(delivered),
            instant_or_none(kept_since),
            instant_or_none(promised_at),
        )
        for container, started_at, rule, since, seen, warned_at, warned_mode, delivered, kept_since, promised_at in rows
    }


def load_kinds(connection: sqlite3.Connection) -> dict[Key, Kind]:
    """Read what was last known of each listed container. Raises ValueError for a row that makes no sense."""
    rows = connection.execute("SELECT container, rule, kind FROM kinds")
    return {(container, rule): Kind(kind) for container, rule, kind in rows}


def settle(
    connection: sqlite3.Connection, verdicts: Collection[Verdict], listed: Collection[str], at: datetime
) -> None:
    """Take every spell one tick further and remember the verdicts; `listed`: the containers that this tick saw."""
    spells = load_spells(connection)
    for verdict in verdicts:
        before = spells.get((verdict.container.id, verdict.rule))
        after = progress(before, verdict, at)
        if after is None and before is not None:
            connection.execute(
                "DELETE FROM spells WHERE container = ? AND rule = ?", (verdict.container.id, verdict.rule)
            )
        elif after is not None and after != before:
            _write(connection, after)
    known = load_kinds(connection)
    recent = "SELECT container FROM inventory WHERE last_seen >= ?"
    absent = {container for (container,) in connection.execute(recent, (stamp(at - UNSEEN_AT_MOST),))} - set(listed)
    kept = [(*key, kind.value) for key, kind in known.items() if key[0] in absent]
    connection.execute("DELETE FROM kinds")
    connection.executemany("INSERT INTO kinds VALUES (?, ?, ?)", [*(_known(one, known) for one in verdicts), *kept])


def _known(verdict: Verdict, before: dict[Key, Kind]) -> tuple[str, str, str]:
    """Keep what was known where nothing is now: an outage of the metrics is no reason to forget who was at work."""
    key = verdict.container.id, verdict.rule
    kind = before.get(key, verdict.kind) if verdict.kind is Kind.UNKNOWN else verdict.kind
    return *key, kind.value


def _write(connection: sqlite3.Connection, spell: Spell) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO spells (container, rule, started_at, since, seen, warned_at, warned_mode, delivered,"
        " kept_since, promised_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            spell.container,
            spell.rule,
            stamp_or_none(spell.started_at),
            stamp(spell.since),
            stamp(spell.seen),
            stamp_or_none(spell.warned_at),
            None if spell.warned_mode is None else spell.warned_mode.value,
            spell.delivered,
            stamp_or_none(spell.kept_since),
            stamp_or_none(spell.promised_at),
        ),
    )


def forget(connection: sqlite3.Connection, listed: Iterable[str], at: datetime) -> None:
    """Drop spells of containers that have been gone for long."""
    present = set(listed)
    old = connection.execute("SELECT DISTINCT container FROM spells WHERE seen < ?", (stamp(at - ABSENT_AT_MOST),))
    gone = [(container,) for (container,) in old.fetchall() if container not in present]
    connection.executemany("DELETE FROM spells WHERE container = ?", gone)


def warned(connection: sqlite3.Connection, decision: Decision, at: datetime, *, delivered: bool) -> None:
    """Note that the spell's warning went out; of this life only."""
    connection.execute(
        "UPDATE spells SET warned_at = ?, warned_mode = ?, delivered = ?, promised_at = ?"
        " WHERE container = ? AND rule = ? AND started_at IS ?",
        (stamp(at), decision.mode.value, delivered, stamp_or_none(decision.act_at), *_of(decision)),
    )


def would_have_warned(connection: sqlite3.Connection, decision: Decision, at: datetime) -> None:
    """Note that a warning would have gone out; a real one is never overwritten."""
    connection.execute(
        "UPDATE spells SET warned_at = ?, warned_mode = ?, delivered = 0, promised_at = ?"
        " WHERE container = ? AND rule = ? AND started_at IS ? AND warned_at IS NULL",
        (stamp(at), Mode.OBSERVE.value, stamp_or_none(decision.act_at), *_of(decision)),
    )


def _of(decision: Decision) -> tuple[str, str, str | None]:
    return decision.container.id, decision.verdict.rule, stamp_or_none(life_of(decision.verdict))


def breaker_since(connection: sqlite3.Connection) -> datetime | None:
    """Read since when the breaker withholds."""
    row = connection.execute("SELECT since FROM breaker").fetchone()
    return instant(row[0]) if row else None


def set_breaker(connection: sqlite3.Connection, at: datetime, *, withholds: bool) -> None:
    """Remember the first tick of a breaker that withholds; forget it once it does not."""
    if not withholds:
        connection.execute("DELETE FROM breaker")
    elif breaker_since(connection) is None:
        connection.execute("INSERT INTO breaker VALUES (?)", (stamp(at),))
