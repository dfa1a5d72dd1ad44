"""The epilogs of `evaluate`, `watch` and of decisions: the same parts, each life once.

Owns what stands behind them, and how much of what is owed fits into one tick. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.audit import Audit, AuditError
from ds01_policy.cli.wiring import now
from ds01_policy.ledger import Ledger, LedgerError
from ds01_policy.model import Mode
from ds01_policy.tick import MemoryLost

if TYPE_CHECKING:
    from ds01_policy.act.epilog.held import Held, Result
    from ds01_policy.model import Unfit
    from ds01_policy.observe.ports import DockerSource
    from ds01_policy.once import Once
    from ds01_policy.policy import Policy

# An epilog takes seconds, and a tick is followed by another: what does not fit is seen to then.
MOST = 8
BUDGET = timedelta(seconds=60)
# So much longer than an epilog may take, another one's claim and turn are respected.
MARGIN = timedelta(seconds=40)


def epilog_once(
    policy: Policy,
    files: Callable[[], tuple[Ledger, Audit]],
    by: str,
    docker: DockerSource,
    *,
    hands: bool,
    decided: bool = False,
) -> Once:
    """Build the epilog that this policy asks for, to be run once for each life. Without `hands` it only looks."""
    from ds01_policy.cli.epilog_parts import epilog_of
    from ds01_policy.once import LOCK, Once

    settings = policy.settings
    patience = settings.epilog.timeout + MARGIN
    epilog = epilog_of(policy, hands=hands, docker=docker, by=by)
    return Once(epilog, files, now, Path(settings.state_dir) / LOCK, patience, by, hands, decided)


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a tick does for containers that ended by any hand."""

    policy: Policy
    docker: DockerSource
    files: Callable[[], tuple[Ledger, Audit]]
    mode: Mode

    def catch_up(self) -> Sequence[tuple[Held, Result]]:
        """Run what is owed, as far as it fits into a tick. Raises MemoryLost."""
        from ds01_policy.aftercare import Aftercare

        try:
            if not self.files()[0].ended_lives(now()):
                return ()  # and none of what looks at GPUs is loaded
            once = epilog_once(self.policy, self.files, "evaluate", self.docker, hands=self.mode is Mode.ENFORCE)
            return tuple(Aftercare(self.docker, once, self.files, now).run(most=MOST, budget=BUDGET))
        except (LedgerError, AuditError) as error:
            raise MemoryLost(str(error)) from error

    def unfit(self) -> Mapping[str, Unfit]:
        """Tell which GPUs are unfit now. Raises MemoryLost."""
        try:
            return self.files()[0].unfit()
        except (LedgerError, AuditError) as error:
            raise MemoryLost(str(error)) from error
