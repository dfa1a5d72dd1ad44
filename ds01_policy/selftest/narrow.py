"""What keeps a selftest to its throwaway: the policy it runs under, what it can see, and what its hands refuse.

Owns the three walls: what one lets through, the next holds. The tick behind them is the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.identity import Trust
from ds01_policy.model import Action, Mode, Outcome, Status
from ds01_policy.observe.ports import SourceError
from ds01_policy.policy import Budget, HighDemand
from ds01_policy.rules import For, Match, Rule, Selector, Warn
from ds01_policy.selftest.order import LABEL

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_policy.model import Decision
    from ds01_policy.observe.ports import DockerSource, FileStat, Json, Sources
    from ds01_policy.policy import Policy
    from ds01_policy.tick import Actuator, Recheck

RULE = "selftest"
LASTS = timedelta(seconds=6)  # the rule's `for`
WARN_AT = 0.5  # of that
NOTICE = timedelta(seconds=3)
GRACE = timedelta(seconds=1)  # the throwaway takes no SIGTERM: this is how long it is given


def rule(container: str, nonce: str) -> Rule:
    """Build the one rule: it matches a running container by its whole id and by the nonce."""
    running = Selector("state", ("running",))
    match = Match((running, Selector("name", (container,)), Selector("label", (f"{LABEL}={nonce}",))))
    then = (Action.STOP, Action.REMOVE, Action.EPILOG)
    summary = "Selftest of ds01-policy: this container is its own throwaway; nothing else is stopped."
    return Rule(RULE, summary, match, For(LASTS), then, warn=Warn(WARN_AT, NOTICE))


def policy_for(policy: Policy, container: str, nonce: str, state_dir: Path) -> Policy:
    """Narrow the host's own policy to the throwaway, with a memory of its own.

    How Docker and the driver are asked, who is told and by which templates, and what an epilog may take stays as it is
    on this host. A reset is never done: other people's work may come to that GPU meanwhile.
    """
    settings = replace(
        policy.settings,
        mode=Mode.ENFORCE,
        state_dir=state_dir,
        metrics_file=None,
        budget=Budget(per_run=1, share=1.0),
        high_demand=HighDemand(above=1.0),
        notify=replace(policy.settings.notify, unreached_notice=1.0),
        epilog=replace(policy.settings.epilog, reset="never"),
    )
    limits = replace(
        policy.limits,
        defaults={"stop_grace": GRACE},
        groups={name: replace(group, limits={}) for name, group in policy.limits.groups.items()},
        users={},
        container_types={name: {} for name in policy.limits.container_types},
        unknown_owner={},
    )
    # Nothing may exempt it: what is proven is that an act is carried out.
    identity = replace(policy.identity, infrastructure_labels=(), trusted=Trust())
    return replace(
        policy,
        settings=settings,
        limits=limits,
        identity=identity,
        rules=(rule(container, nonce),),
        exemptions=(),
    )


def sources_for(sources: Sources, container: str) -> Sources:
    """Narrow what a tick can ask: of all containers it sees one, and it takes no samples."""
    return replace(sources, docker=OnlyThrowaway(sources.docker, container), prometheus=None, local=None, tasks=None)


@dataclass(frozen=True, slots=True)
class OnlyThrowaway:
    """An engine that has one container. A ports.DockerSource."""

    docker: DockerSource
    container: str  # 64 hex

    def containers(self) -> list[Json]:
        """List it, if it is there."""
        return [entry for entry in self.docker.containers() if entry.get("Id") == self.container]

    def inspect(self, container_id: str) -> Json | None:
        """Inspect it; SourceError: another one was asked about."""
        return self.docker.inspect(self._only(container_id))

    def stat(self, container_id: str, path: str) -> FileStat | None:
        """Look for a file in it; SourceError: another one was asked about."""
        return self.docker.stat(self._only(container_id), path)

    def _only(self, container_id: str) -> str:
        if container_id != self.container:
            raise SourceError(f"container {container_id[:12]} is not the selftest's")
        return container_id


@dataclass(slots=True)
class Guard:
    """Hands that carry out what is decided about one container, and refuse everything else. A tick.Actuator."""

    hands: Actuator
    container: str  # 64 hex
    refused: list[str] = field(default_factory=list)  # what was refused, in words: each is a failure of the selftest

    def carry_out(self, decisions: Sequence[Decision], recheck: Recheck) -> list[Outcome]:
        """Carry out what is about the throwaway; one outcome for each action of all."""
        mine = [decision for decision in decisions if self._is_mine(decision)]
        others = [decision for decision in decisions if not self._is_mine(decision)]
        self.refused += [f"{'+'.join(one.actions)} of {one.container.name} ({one.container.short})" for one in others]
        outcomes = list(self.hands.carry_out(mine, recheck)) if mine else []
        return outcomes + [
            Outcome(decision.id, action, Status.FAILED, "refused: it is not the selftest's own")
            for decision in others
            for action in decision.actions
        ]

    def _is_mine(self, decision: Decision) -> bool:
        return decision.container.id == self.container and decision.verdict.rule == RULE
