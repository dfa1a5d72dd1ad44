"""Rows of actions: what was about to be done, written before, and what became of it, written after.

Owns the write-ahead order that makes a killed run recoverable. Does nothing to any container.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.ledger import inventory, spells, stops
from ds01_policy.ledger.schema import clean, instant, instant_or_none, stamp, stamp_or_none
from ds01_policy.model import Action, Mode, Outcome, Status

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime

    from ds01_policy.model import Decision


@dataclass(frozen=True, slots=True)
class Intent:
    """An action that was begun and of which no outcome is known: the run was killed in between."""

    id: int
    decision: str
    container: str  # 64 hex
    name: str
    started_at: datetime | None  # the life it was meant for
    rule: str
    action: Action
    mode: Mode
    at: datetime


def intend(connection: sqlite3.Connection, decision: Decision, action: Action, at: datetime) -> None:
    """Write down that this is about to be done."""
    connection.execute(
        "INSERT INTO actions (decision, container, name, started_at, rule, action, mode, intent_at, owner, gpus)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            decision.id,
            decision.container.id,
            clean(decision.container.name),
            stamp_or_none(decision.container.started_at),
            decision.verdict.rule,
            action.value,
            decision.mode.value,
            stamp(at),
            clean(decision.container.owner),
            stops.held(decision.container.gpus),
        ),
    )


def conclude(connection: sqlite3.Connection, decision: Decision, outcome: Outcome, at: datetime) -> None:
    """Write down what became of it. Without an intent (refused before it began) intent and outcome are one row."""
    row = connection.execute(
        "SELECT max(id) FROM actions WHERE status IS NULL AND decision = ? AND action = ?",
        (decision.id, outcome.action.value),
    ).fetchone()
    if row[0] is None:
        intend(connection, decision, outcome.action, at)
        row = connection.execute("SELECT max(id) FROM actions").fetchone()
    connection.execute(
        "UPDATE actions SET status = ?, detail = ?, delivered = ?, outcome_at = ? WHERE id = ?",
        (outcome.status.value, clean(outcome.detail), outcome.delivered, stamp(at), row[0]),
    )
    if outcome.action is Action.WARN and outcome.status is Status.DONE:
        spells.warned(connection, decision, at, delivered=bool(outcome.delivered))
    if outcome.action in (Action.STOP, Action.REMOVE) and outcome.status is Status.DONE:
        inventory.ended(connection, decision.container.id, decision.container.started_at, at)
    if outcome.action is Action.STOP and outcome.status is Status.DONE:
        stops.begin(connection, row[0], at)


def withhold(connection: sqlite3.Connection, decision: Decision, at: datetime) -> bool:
    """Write down that a decision is held back, and by which guard; False: the last row about it says the same."""
    action, held_by = decision.actions[0], str(decision.held_by)
    last = connection.execute(
        "SELECT status, detail, started_at FROM actions WHERE container = ? AND rule = ? AND action = ?"
        " ORDER BY id DESC LIMIT 1",
        (decision.container.id, decision.verdict.rule, action.value),
    ).fetchone()
    if last == (Status.WITHHELD.value, held_by, stamp_or_none(decision.container.started_at)):
        return False
    conclude(connection, decision, Outcome(decision.id, action, Status.WITHHELD, held_by), at)
    return True


def unfinished(connection: sqlite3.Connection) -> list[Intent]:
    """Read all intents without an outcome, oldest first. Raises ValueError for a row that makes no sense."""
    rows = connection.execute(
        "SELECT id, decision, container, name, started_at, rule, action, mode, intent_at"
        " FROM actions WHERE status IS NULL ORDER BY id"
    )
    return [
        Intent(
            number,
            decision,
            container,
            name,
            instant_or_none(started_at),
            rule,
            Action(action),
            Mode(mode),
            instant(intent_at),
        )
        for number, decision, container, name, started_at, rule, action, mode, intent_at in rows
    ]


def failed(connection: sqlite3.Connection, since: datetime) -> dict[str, datetime]:
    """Tell when the last attempt to end a container came to nothing, by container id. Raises ValueError."""
    rows = connection.execute(
        "SELECT container, max(outcome_at) FROM actions"
        " WHERE action IN ('stop', 'remove') AND status IN ('failed', 'stale') AND outcome_at >= ? GROUP BY container",
        (stamp(since),),
    )
    return {container: instant(at) for container, at in rows}


def resolve(connection: sqlite3.Connection, intent: Intent, status: Status, detail: str, at: datetime) -> None:
    """Close an unfinished intent with what a look at the container showed. A warning so closed counts as not sent."""
    closed = connection.execute(
        "UPDATE actions SET status = ?, detail = ?, outcome_at = ? WHERE id = ? AND status IS NULL",
        (status.value, clean(detail), stamp(at), intent.id),
    )
    if intent.action in (Action.STOP, Action.REMOVE) and status is Status.DONE:
        inventory.ended(connection, intent.container, intent.started_at, at)
    if intent.action is Action.STOP and status is Status.DONE and closed.rowcount:
        stops.begin(connection, intent.id, at)
