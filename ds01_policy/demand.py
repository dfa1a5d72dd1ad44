"""PURE: how much of the host's GPUs is spoken for.

Owns what counts as a hold. Decides nothing about rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.limits import limit_for
from ds01_policy.model import ALIVE, Demand, State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ds01_policy.model import Container, Gpu, GpuRef
    from ds01_policy.policy import Policy

GPU_HOLD = "gpu_hold_after_stop"


def demand_of(policy: Policy, containers: Iterable[Container], gpus: Iterable[Gpu], at: datetime) -> Demand:
    """Count GPUs and those spoken for: held by a container that is up, or that ended less than its hold ago."""
    every: set[GpuRef] = {ref for gpu in gpus for ref in gpu.refs}
    held: set[GpuRef] = set()
    for container in containers:
        if container.gpus.holds and not container.infrastructure and _spoken_for(policy, container, at):
            held.update(ref for ref in container.gpus.refs if ref in every or not every)
    high = bool(every) and len(held) / len(every) > policy.settings.high_demand.above
    return Demand(len(every), len(held), high)


def _spoken_for(policy: Policy, container: Container, at: datetime) -> bool:
    if container.state in ALIVE:
        return True
    if container.state is not State.EXITED or container.finished_at is None:
        return False
    try:
        hold = limit_for(policy.limits, container, GPU_HOLD).value
    except KeyError:
        return False
    return hold is None or at - container.finished_at < hold
