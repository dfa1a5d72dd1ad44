"""What `evaluate` runs: one tick on this host under the run lock, or on a recording with no hands at all.

Owns which hands a tick has. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.act.dry_run import DryRun
from ds01_policy.cli.aftermath import Aftermath, epilog_once
from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.wiring import now
from ds01_policy.limits import limit_for
from ds01_policy.lock import Held, LockError, RunLock
from ds01_policy.memory import Memory, remembered
from ds01_policy.model import ALIVE, History
from ds01_policy.observe.ports import SourceError
from ds01_policy.span import reach_of
from ds01_policy.tick import Report, tick

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.cli.wiring import Progress, World
    from ds01_policy.model import Decision, Evaluation, Mode, Outcome, Plan, Status
    from ds01_policy.observe.snapshot import Observed
    from ds01_policy.policy import Policy
    from ds01_policy.tick import Recheck

# Where limits.yaml sets no finite stop_grace: what Docker's users are used to waiting, sixfold.
USUAL_GRACE = timedelta(seconds=60)


def locked_tick(policy: Policy, world: World, mode: Mode, progress: Progress) -> Report:
    """Run one tick on this host. A state directory that cannot be written leaves a tick that only looks."""
    state_dir, reach = Path(policy.settings.state_dir), reach_of(policy)
    progress.say("asking Docker, the driver and Prometheus …")
    try:
        with RunLock(state_dir / "lock"):
            memory = Memory(
                state_dir,
                world.sources.host.name(),
                lambda container: is_up(world, container),
                reach=reach,
                retain=policy.settings.local_samples.retain,
            )
            with closing(memory):
                hands = Hands(policy, memory, world, progress)
                aftermath = Aftermath(policy, world.sources.docker, memory.files, mode)
                report = tick(policy, world.sources, memory, hands, now, mode, aftermath=aftermath)
                # What cannot be written is not counted: then nothing is told, not an old number.
                return replace(report, totals=memory.totals() if report.history.writable else None)
    except Held as held:
        fail(Exit.LOCKED, [str(held)])
    except LockError as error:
        history = remembered(state_dir, reach)
        return tick(policy, world.sources, _Forgetful(history, str(error)), DryRun(), now, mode)


def replayed_tick(policy: Policy, world: World, mode: Mode) -> Report:
    """Run one tick on a recording: it decides as it did then, and touches nothing."""
    return tick(policy, world.sources, _Recalled(world.history()), DryRun(), world.clock, mode)


def is_up(world: World, container: str) -> bool | None:
    """Whether a container is up; None: it is gone. One that cannot be looked at counts as up: nothing was achieved."""
    with suppress(SourceError):
        raw = world.sources.docker.inspect(container)
        return None if raw is None else raw.get("State", {}).get("Status") in ALIVE
    return True


@dataclass(frozen=True, slots=True)
class _Recalled:
    """A memory that was recorded."""

    history: History
    lost: str = ""

    def recall(self, at: datetime, mode: Mode, digest: str) -> History:  # noqa: ARG002  the seam's shape
        return self.history

    def settle(self, observed: Observed, evaluation: Evaluation, plan: Plan) -> None:
        """Keep nothing."""


@dataclass(frozen=True, slots=True)
class _Forgetful:
    """A memory that cannot be written."""

    history: History
    why: str
    lost: str = ""

    def recall(self, at: datetime, mode: Mode, digest: str) -> History:  # noqa: ARG002  the seam's shape
        return replace(self.history, writable=False, unwritable_why=self.why)

    def settle(self, observed: Observed, evaluation: Evaluation, plan: Plan) -> None:
        """Keep nothing."""


@dataclass(frozen=True, slots=True)
class Hands:
    """The Docker actuator, made only when there is something to do: its library is slow to load."""

    policy: Policy
    memory: Memory
    world: World
    progress: Progress

    def carry_out(self, decisions: Sequence[Decision], recheck: Recheck) -> list[Outcome]:
        """Carry the decisions out."""
        if not decisions:
            return []
        from ds01_policy.act.carry_out import DockerActuator
        from ds01_policy.act.docker import Engine
        from ds01_policy.act.notify import Notifier

        settings = self.policy.settings
        actuator = DockerActuator(
            Engine(settings.docker.url, settings.docker.timeout.total_seconds()),
            Notifier(settings.notify, self.policy, self.world.sources.host.name(), now),
            self.memory,
            now,
            self._grace,
            self._epilog(),
        )
        names = ", ".join(sorted({decision.container.name for decision in decisions}))
        self.progress.say(f"acting on {names} …"[:100])
        return actuator.carry_out(decisions, recheck)

    def _epilog(self) -> Callable[[Decision], tuple[Status, str]]:
        """Build the epilog of decisions: each life once, whoever else comes to it."""
        from ds01_policy.act.epilog.held import Held as HeldGpus
        from ds01_policy.observe.docker import EngineDocker

        # A connection of its own: decisions are carried out in threads.
        docker = EngineDocker(self.policy.settings.docker.url, self.policy.settings.docker.timeout.total_seconds())
        once = epilog_once(self.policy, self.memory.files, "evaluate", docker, hands=True, decided=True)
        began = now()

        def run(decision: Decision) -> tuple[Status, str]:
            it = decision.container
            ended = began if it.state in ALIVE else it.finished_at
            held = HeldGpus(it.id, it.name, it.started_at, ended, it.gpus.refs, it.gpus.unclear)
            result = once.run(held, it.owner)
            return result.status, result.detail

        return run

    def _grace(self, decision: Decision) -> timedelta:
        try:
            return limit_for(self.policy.limits, decision.container, "stop_grace").value or USUAL_GRACE
        except KeyError:
            return USUAL_GRACE
