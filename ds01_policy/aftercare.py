"""The epilogs that are owed: for every life of a GPU container that has ended by whichever hand.

Owns that a life has ended for sure before anything is done, and how much is done at once. Runs no epilog twice: Once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.act.epilog.held import Held, Result
from ds01_policy.model import ALIVE
from ds01_policy.observe.inspected import container_of
from ds01_policy.observe.ports import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta

    from ds01_policy.audit import Audit
    from ds01_policy.ledger import EndedLife, Ledger
    from ds01_policy.observe.ports import DockerSource
    from ds01_policy.once import Once


@dataclass(frozen=True, slots=True)
class Aftercare:
    """Runs what is owed, the newest first."""

    docker: DockerSource
    once: Once
    files: Callable[[], tuple[Ledger, Audit]]
    clock: Callable[[], datetime]

    def run(
        self, container: str | None = None, *, most: int | None = None, budget: timedelta | None = None
    ) -> Iterator[tuple[Held, Result]]:
        """Run the epilogs that are owed (to this container), at most so many, beginning none after the budget is spent.

        Tells what became of each that was this process's to run, as it ends. Raises LedgerError or AuditError.
        """
        began, done = time.monotonic(), 0
        for life in self.files()[0].ended_lives(self.clock(), container):
            if most is not None and done >= most:
                break
            if budget is not None and time.monotonic() - began >= budget.total_seconds():
                break
            if not self._has_ended(life):
                continue
            held = held_of(life)
            result = self.once.attempt(held, life.owner)
            if result is not None:
                done += 1
                yield held, result

    def _has_ended(self, life: EndedLife) -> bool:
        """Look whether it has: that a look did not show it, which is all the ledger knows, may be that look's fault."""
        try:
            raw = self.docker.inspect(life.container)
            if raw is None:
                return True
            now = container_of(raw)
        except SourceError:
            return False
        # Started again, its own processes are what would be found: its newest life gets the epilog, once it has ended.
        return now.started_at == life.started_at and now.state not in ALIVE


def held_of(life: EndedLife) -> Held:
    """Say it in the epilog's words."""
    return Held(life.container, life.name, life.started_at, life.ended_at, life.gpus, life.unclear)
