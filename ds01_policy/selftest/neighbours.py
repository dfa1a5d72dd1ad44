"""Everything else on this host, before and after: who is there, in which life and state, and which GPUs are free.

Owns the comparison and the choice of a GPU. Only looks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy import gpu_names
from ds01_policy.model import GpuRef, History
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.snapshot import observe
from ds01_policy.selftest.order import LABEL, PREFIX
from ds01_policy.selftest.step import Refused
from ds01_policy.text import plain

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Container, Gpu, GpuStatuses, Unfit
    from ds01_policy.observe.ports import Sources
    from ds01_policy.policy import Policy

_SHOWN = 3
_OVER = timedelta(hours=1)  # by then every selftest has ended
_THROWAWAY = re.compile(rf"{PREFIX}-[0-9a-f]{{12}}")


@dataclass(frozen=True, slots=True)
class Neighbours:
    """One look at the whole host."""

    containers: Mapping[str, Container]  # by id
    gpus: tuple[Gpu, ...]
    unseen: tuple[str, ...] = ()  # what could not be looked at, in words
    gpus_unknown: str = ""  # why the host's GPUs could not be listed


def look_around(policy: Policy, sources: Sources, at: datetime) -> Neighbours:
    """Look at every container, by the same eyes as a tick. Raises DockerDown."""
    observed = observe(
        replace(policy, rules=()), replace(sources, prometheus=None, local=None, tasks=None), at, History()
    )
    snapshot = observed.snapshot
    unseen = tuple(one.detail for one in snapshot.problems if one.code in ("container_unreadable", "docker_slow"))
    state = snapshot.sources["gpu"]
    unknown = "" if state.up else state.detail
    return Neighbours({one.id: one for one in snapshot.containers}, snapshot.gpus, unseen, unknown)


# ── what became of them ──────────────────────────────────────────────────────────────────────────────────────────────


def changes(before: Neighbours, after: Neighbours, own: str) -> list[str]:
    """Say of each container that was there before, but for our `own`, what is different now."""
    told = []
    for container_id, was in before.containers.items():
        now = after.containers.get(container_id)
        if container_id == own:
            continue
        name = f"{plain(was.name, 60)} ({was.short})"
        if now is None:
            told.append(f"{name} is gone" if not after.unseen else f"{name} is gone, or could not be looked at")
        elif now.state is not was.state:
            told.append(f"{name} was {was.state}, is {now.state}")
        elif now.started_at != was.started_at:
            told.append(f"{name} was started anew")
        elif now.name != was.name:
            told.append(f"{name} is called {plain(now.name, 60)} now")
    return told


def leftovers(seen: Neighbours, at: datetime) -> list[Container]:
    """Find what looks like the throwaways of selftests that were killed, oldest first.

    Whether they are is for a person to judge: anybody can give a container such a name and label.
    """
    old = [one for one in seen.containers.values() if at - one.created_at > _OVER]
    alike = [one for one in old if _THROWAWAY.fullmatch(one.name) and one.name == f"{PREFIX}-{one.labels.get(LABEL)}"]
    return sorted(alike, key=lambda one: one.created_at)


# ── the GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Choice:
    """The GPU, or MIG device, that the throwaway is given; none: `why` says why not."""

    name: str = ""  # UUID, as Docker is asked for it
    ref: GpuRef | None = None
    words: str = ""
    why: str = ""


def asked_for(text: str, seen: Neighbours) -> Choice:
    """Find the one GPU that a person named, by UUID, index or `0:1`, whoever else is on it. Raises Refused."""
    if seen.gpus_unknown:
        raise Refused(f"the host's GPUs could not be listed: {seen.gpus_unknown}; --no-gpu does without one")
    meant = gpu_names.named(text, seen.gpus)
    if meant.unclear:
        raise Refused(f"--gpu {meant.unclear}")
    fitting = [one for one in _devices(seen.gpus) if one.ref in meant.refs]
    exact = [one for one in fitting if one.name.casefold() == text.strip().casefold()]
    if len(meant.refs) != 1 or not fitting:
        names = ", ".join(one.name for one in fitting[:_SHOWN])
        raise Refused(f"--gpu {plain(text, 80)!r} means {len(meant.refs)} devices: name one of them ({names})")
    return (exact or fitting)[0]


def free_one(seen: Neighbours, sources: Sources, unfit: Mapping[str, Unfit]) -> Choice:
    """Find a GPU that no container of any state holds and nobody's process is on; what is not known is not free."""
    if seen.gpus_unknown:
        return Choice(why=f"the host's GPUs could not be listed: {seen.gpus_unknown}")
    if sources.tasks is None:
        return Choice(why="who is on the GPUs cannot be asked")
    try:
        statuses = sources.tasks.look().statuses
    except SourceError as error:
        return Choice(why=f"who is on the GPUs cannot be listed: {error}")
    reasons = []
    for device in _devices(seen.gpus):
        why = _taken(device, seen, statuses, unfit)
        if not why:
            return device
        reasons.append(f"{device.words}: {why}")
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return Choice(why="; ".join(reasons[:_SHOWN]) + more if reasons else "this host has none")


def _devices(gpus: tuple[Gpu, ...]) -> list[Choice]:
    """List what can be given out: whole GPUs that are not divided, and the MIG devices of those that are."""
    found = []
    for gpu in gpus:
        if gpu.mig_devices:
            for device in gpu.mig_devices:
                words = f"MIG device {gpu.index}:{device.index}"
                found.append(Choice(device.uuid, GpuRef(gpu.uuid, device.gpu_instance), words))
        elif not gpu.mig_enabled:  # else there is nothing on it that can be given out
            found.append(Choice(gpu.uuid, GpuRef(gpu.uuid), f"GPU {gpu.index}"))
    return found


def _taken(device: Choice, seen: Neighbours, statuses: GpuStatuses, unfit: Mapping[str, Unfit]) -> str:
    """Say why it is not free; empty: it is."""
    if device.ref is None:
        return "it is not known which it is"
    if device.ref.uuid in unfit:
        return f"unfit, {unfit[device.ref.uuid].why}"
    if seen.unseen:
        return f"not every container could be looked at: {seen.unseen[0]}"
    for one in seen.containers.values():
        # The site's own exporters hold all GPUs, and use none.
        if one.infrastructure or not one.gpus.holds or not one.gpus.wants:
            continue
        if one.gpus.unclear or device.ref in one.gpus.refs or GpuRef(device.ref.uuid) in one.gpus.refs:
            maybe = "may be held" if one.gpus.unclear else "held"
            return f"{maybe} by {plain(one.name, 40)} ({one.state})"
    status = statuses.gpus.get(device.ref.uuid)
    if status is None or status.processes is None:
        return "who is on it is not told"
    instance = device.ref.gpu_instance
    here = [one for one in status.processes if instance is None or one.gpu_instance in (None, instance)]
    return f"{len(here)} on it by the driver's list" if here else ""
