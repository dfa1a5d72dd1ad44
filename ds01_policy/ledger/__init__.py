"""What must outlive a tick and Docker can't know: warnings sent, actions begun and ended, who held which GPU.

Owns what is one transaction; kill -9 at any point leaves the file consistent. Losing it loses no allocation: only the
warnings start over. Decides nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.ledger import (
    actions,
    epilogs,
    inventory,
    lookup,
    partitions,
    past,
    samples,
    schema,
    spells,
    stops,
    unfit,
    verdicts,
)
from ds01_policy.ledger.actions import Intent
from ds01_policy.ledger.epilogs import Claimant, EndedLife, Told
from ds01_policy.ledger.schema import LedgerError
from ds01_policy.ledger.transactions import Transactions
from ds01_policy.model import History

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ds01_policy.ledger.past import PastLife, PastTick
    from ds01_policy.ledger.verdicts import Stretch
    from ds01_policy.model import (
        Action,
        Container,
        Decision,
        Evaluation,
        Life,
        LocalSeries,
        Mode,
        Outcome,
        Plan,
        Snapshot,
        Status,
        Totals,
        Unfit,
    )

__all__ = ["RETENTION", "Claimant", "EndedLife", "Intent", "Ledger", "LedgerError", "Told"]

# Ticks, actions and ended lives older than this are dropped.
RETENTION = timedelta(days=90)
# So long an attempt that came to nothing keeps a container behind the others.
FORGIVEN = timedelta(days=1)


class Ledger(Transactions):
    """One open ledger. Every method may be called from any thread, and raises LedgerError when the file fails it."""

    # ── a tick ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, at: datetime, mode: Mode, digest: str) -> None:
        """Write down that a tick begins, under which policy; so prove that the ledger can be written now."""
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO ticks (at, mode, digest) VALUES (?, ?, ?)", (schema.stamp(at), mode.value, digest)
            )
            epilogs.known_since(connection, at)

    def history(self, reach: timedelta | None = None) -> History:
        """Tell what earlier ticks left behind; of ticks, the last one that was written down whole.

        Local samples are many: `reach` says how far back from the newest they are told, and without it none are.
        """
        with self._reading() as connection:
            tick = connection.execute("SELECT at, running FROM ticks WHERE settled ORDER BY id DESC LIMIT 1").fetchone()
            last_at = schema.instant(tick[0]) if tick else None
            return History(
                spells=spells.load_spells(connection),
                last_kinds=spells.load_kinds(connection),
                last_tick_at=last_at,
                lives=inventory.lives(connection),
                last_running=int(tick[1]) if tick else 0,
                breaker_since=spells.breaker_since(connection),
                failed=actions.failed(connection, last_at - FORGIVEN) if last_at else {},
                partitions=partitions.load(connection),
                samples={} if reach is None else samples.latest(connection, reach.total_seconds()),
                unfit=unfit.unfit(connection),
            )

    def lives(self) -> Mapping[str, Life]:
        """Tell the newest known life of each container seen lately, by container id."""
        with self._reading() as connection:
            return inventory.lives(connection)

    def record(self, snapshot: Snapshot, evaluation: Evaluation, plan: Plan, *, suspicious: bool = False) -> None:
        """Write down what the tick saw and found, all of it or nothing. To be called before anything is done.

        `suspicious`: Docker lists nothing although containers ran a tick ago. Then only that the tick took place is
        kept; nothing counts as ended, forgotten or cleared.
        """
        with self._writing() as connection:
            partitions.note(connection, snapshot.gpus, snapshot.at)
            running = inventory.running_gpu_containers(snapshot)
            if suspicious:
                (running,) = connection.execute(
                    "SELECT coalesce((SELECT running FROM ticks WHERE settled ORDER BY id DESC LIMIT 1), 0)"
                ).fetchone()
            else:
                inventory.observe(connection, snapshot)
                listed = {container.id for container in snapshot.containers}
                spells.settle(connection, evaluation.verdicts, listed, snapshot.at)
                spells.forget(connection, listed, snapshot.at)
                verdicts.keep(connection, evaluation.verdicts, snapshot.at)
                stops.advance(connection, snapshot)
                spells.set_breaker(connection, snapshot.at, withholds=bool(plan.breaker))
            connection.execute(
                "UPDATE ticks SET settled = 1, containers = ?, running = ? WHERE id = (SELECT max(id) FROM ticks)",
                (len(snapshot.containers), running),
            )
            _prune(connection, schema.stamp(snapshot.at - RETENTION))

    def past_lives(self, who: str) -> list[PastLife]:
        """Tell the lives of containers of this name, or whose id begins so, oldest first."""
        with self._reading() as connection:
            return past.lives_of(connection, who)

    def past_verdicts(self, who: str) -> list[Stretch]:
        """Tell what rules found for them, a stretch of ticks at a time, oldest first."""
        with self._reading() as connection:
            return verdicts.of(connection, who)

    def tick_at(self, at: datetime) -> PastTick | None:
        """Tell the last tick that began at or before then."""
        with self._reading() as connection:
            return past.tick_at(connection, at)

    def first_tick(self) -> datetime | None:
        """Tell from when on the ledger knows anything; None: from never on."""
        with self._reading() as connection:
            return past.first_tick(connection)

    # ── local samples ────────────────────────────────────────────────────────────────────────────────────────────────

    def keep_samples(self, at: float, rows: Iterable[samples.Row], retain: timedelta) -> None:
        """Write down what this host measured itself at `at` (Unix seconds); drop what is older than `retain`."""
        with self._writing() as connection:
            samples.keep(connection, at, rows, at - retain.total_seconds())

    def samples(self, since: datetime) -> LocalSeries:
        """Tell what this host measured itself since then: by kind (gpu, cpu, network), by join key as text."""
        with self._reading() as connection:
            return samples.load(connection, since.timestamp())

    # ── actions ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def intend(self, decision: Decision, action: Action, at: datetime) -> None:
        """Write down, before it is done, that an action is about to be done. If this raises, it must not be done."""
        with self._writing() as connection:
            actions.intend(connection, decision, action, at)

    def conclude(self, decision: Decision, outcome: Outcome, at: datetime) -> None:
        """Write down what became of an action. A warning that is done counts for the spell from `at` on."""
        with self._writing() as connection:
            actions.conclude(connection, decision, outcome, at)

    def simulate_warnings(self, decisions: Iterable[Decision], at: datetime) -> None:
        """Note which warnings would have gone out, for spells that have none: they count for what is shown, only."""
        with self._writing() as connection:
            for decision in decisions:
                spells.would_have_warned(connection, decision, at)

    def withhold(self, decision: Decision, at: datetime) -> bool:
        """Write down that a decision is held back; False: that was known already."""
        with self._writing() as connection:
            return actions.withhold(connection, decision, at)

    def unfinished(self) -> list[Intent]:
        """List the actions that a killed run left without an outcome, oldest first."""
        with self._reading() as connection:
            return actions.unfinished(connection)

    def resolve(self, intent: Intent, status: Status, detail: str, at: datetime) -> None:
        """Close an unfinished action with what a look at the container showed."""
        with self._writing() as connection:
            actions.resolve(connection, intent, status, detail, at)

    def totals(self) -> Totals:
        """Tell what has been counted over all runs."""
        with self._reading() as connection:
            return stops.totals(connection)

    # ── epilogs, and what is told between two ticks ──────────────────────────────────────────────────────────────────

    def remember(self, container: Container, at: datetime) -> None:
        """Write down the life that a look at one container showed, between two ticks."""
        with self._writing() as connection:
            epilogs.known_since(connection, at)
            inventory.remember(connection, container, at)

    def vanished(self, container: str, at: datetime) -> None:
        """Write down that a container is gone, seen at `at`."""
        with self._writing() as connection:
            inventory.vanished(connection, container, at)

    def going_on(self) -> Mapping[str, datetime]:
        """Tell which lives of GPU containers have not ended as far as is known: container id → when it started."""
        with self._reading() as connection:
            return inventory.going_on(connection)

    def ended_lives(self, at: datetime, container: str | None = None) -> list[EndedLife]:
        """List ended lives of GPU containers (or of this one) that are owed an epilog, the newest first."""
        with self._writing() as connection:
            return epilogs.owed(connection, at, container)

    def claim(self, container: str, started_at: datetime, who: Claimant, at: datetime) -> bool:
        """Take the epilog of one life. False: it is done, was tried often enough, or somebody else is at it.

        Of any number of processes that ask at once, one is told True.
        """
        with self._writing() as connection:
            return epilogs.claim(connection, container, started_at, who, at)

    def finished(self, container: str, started_at: datetime, status: Status, detail: str, at: datetime) -> None:
        """Write down what became of a claimed epilog."""
        with self._writing() as connection:
            epilogs.finish(connection, container, started_at, status, detail, at)

    def release(self, container: str, started_at: datetime) -> None:
        """Give a claim back: nothing was begun."""
        with self._writing() as connection:
            epilogs.release(connection, container, started_at)

    def named(self, text: str) -> list[EndedLife]:
        """List the newest life of each container whose id begins so or that was called so, the newest first."""
        with self._reading() as connection:
            return lookup.lives_named(connection, text)

    def told(self, container: str, started_at: datetime) -> Told | None:
        """Tell what is known of the epilog of one life; None: nobody began it."""
        with self._reading() as connection:
            return epilogs.told(connection, container, started_at)

    def mark_unfit(self, uuid: str, why: str, at: datetime) -> bool:
        """Note that a GPU is unfit; False: it was so already, and only the reason is renewed."""
        with self._writing() as connection:
            return unfit.mark(connection, uuid, why, at)

    def mark_fit(self, uuid: str, how: str, at: datetime) -> bool:
        """Note what made a GPU fit again; False: it was not unfit."""
        with self._writing() as connection:
            return unfit.clear(connection, uuid, how, at)

    def unfit(self) -> Mapping[str, Unfit]:
        """Tell which GPUs are unfit, by UUID."""
        with self._reading() as connection:
            return unfit.unfit(connection)

    def watched(self, until: datetime) -> None:
        """Write down the time of the last event that was seen to."""
        with self._writing() as connection:
            epilogs.note(connection, "watched_until", until)

    def watched_until(self) -> datetime | None:
        """Tell the time of the last event that was seen to; None: nobody has watched."""
        with self._reading() as connection:
            return epilogs.noted(connection, "watched_until")


def _prune(connection: sqlite3.Connection, before: str) -> None:
    connection.execute("DELETE FROM ticks WHERE at < ?", (before,))
    connection.execute("DELETE FROM actions WHERE status IS NOT NULL AND intent_at < ?", (before,))
    connection.execute("DELETE FROM inventory WHERE last_seen < ?", (before,))
    connection.execute("DELETE FROM partitions WHERE seen < ?", (before,))
    connection.execute("DELETE FROM epilogs WHERE claimed_at < ?", (before,))
    connection.execute("DELETE FROM unfit WHERE fit_at < ?", (before,))
    connection.execute("DELETE FROM stops WHERE over AND at < ?", (before,))
    verdicts.prune(connection, before)
