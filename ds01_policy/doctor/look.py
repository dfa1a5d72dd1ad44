"""One look at this host's containers and their metrics, whatever the rules ask now: for the doctor and `check --live`.

Owns what is looked at and over which windows. Judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ds01_policy.model import ALIVE, History
from ds01_policy.observe.measure import measure
from ds01_policy.observe.snapshot import observe
from ds01_policy.span import own_signals

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Container, Problem, Snapshot
    from ds01_policy.observe.ports import PrometheusSource, Sources
    from ds01_policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Look:
    """What Docker and the driver showed."""

    snapshot: Snapshot

    @property
    def up(self) -> list[Container]:
        """The GPU containers that are up: those that metrics can be about."""
        return [one for one in self.snapshot.containers if one.gpus.wants and one.state in ALIVE]


def look_around(policy: Policy, sources: Sources, at: datetime) -> Look:
    """Look at all containers without asking Prometheus.

    Raises:
        DockerDown: when Docker does not answer.

    """
    return Look(observe(policy, replace(sources, prometheus=None, tasks=None), at, History()).snapshot)


def measured(policy: Policy, seen: Look, source: PrometheusSource, at: datetime) -> list[Problem]:
    """Ask every signal about every GPU container that is up, as a tick would: what is wrong with the answers."""
    # The last minutes are enough to see whether a series exists, is fresh and finds its container.
    windows = dict.fromkeys(own_signals(policy), frozenset({policy.settings.awake}))
    return list(measure(policy, windows, seen.up, source, at)[1])
