"""PURE: the processes on a host's GPUs that belong to no container of its Docker. They are shown, never acted on.

Owns which those are. Looks at nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.model import GpuStatuses, HostProcess, Problem
from ds01_policy.ownership import Belongs, Owner, owner_of

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Container, GpuProcess, HostTask

# When a process was started is known to about a second.
_ABOUT = timedelta(seconds=2)


def host_processes(
    statuses: GpuStatuses, tasks: Mapping[int, HostTask], containers: Collection[str], at: datetime | None = None
) -> tuple[HostProcess, ...]:
    """List them, the one with most memory first.

    `tasks` by PID; a listed process that is not among them, as it is hidden, is told of with what the driver says.
    `containers`: the ids of every container that Docker knows. One whose cgroup is not plain is told of too: that a
    container's owner answers for it is not known. `at`: when Docker was asked, if that is known. A container that was
    started since is not among those, and its process may be one of this engine's: the next look tells.
    """
    found = []
    for uuid, status in statuses.gpus.items():
        for process in status.processes or ():
            task = tasks.get(process.pid)
            owner = owner_of(task.cgroup if task else None, containers)
            if owner.belongs is not Belongs.CONTAINER and not _too_new(owner, task, at):
                found.append(_told(uuid, process, task, owner))
    return tuple(sorted(found, key=lambda one: (-(one.memory_bytes or 0), one.gpu, one.pid)))


def unclaimed(
    statuses: GpuStatuses, tasks: Mapping[int, HostTask], containers: Iterable[Container]
) -> tuple[Problem, ...]:
    """Tell of each container that is on a GPU and asked for none in any way that is known: rules do not see that.

    A device node can be made by hand, and whoever writes a runtime can hand GPUs out as they like.
    """
    asking = {container.id: container for container in containers}
    found: dict[str, set[str]] = {}
    for uuid, status in statuses.gpus.items():
        for process in status.processes or ():
            task = tasks.get(process.pid)
            owner = owner_of(task.cgroup if task else None, asking)
            if owner.belongs is Belongs.CONTAINER and not asking[owner.container].gpus.wants:
                found.setdefault(owner.container, set()).add(uuid)
    return tuple(
        Problem(
            "gpu_unclaimed",
            f"{asking[one].name} ({asking[one].short}) is on {', '.join(sorted(uuids))}, and nothing in its "
            "`docker inspect` asks for a GPU in a way that is known here: no rule about GPUs sees it",
        )
        for one, uuids in sorted(found.items())
    )


def looked_up(statuses: GpuStatuses, look: Callable[[int], HostTask | None]) -> dict[int, HostTask]:
    """Look every listed process up once; those that `look` does not find are left out."""
    pids = {process.pid for status in statuses.gpus.values() for process in status.processes or ()}
    return {pid: task for pid in sorted(pids) if (task := look(pid)) is not None}


def short_name(name: str) -> str:
    """Keep of a driver's name of a process what the program is called: what follows may be arguments, and secret."""
    return next(iter(name.split()), "").rpartition("/")[2]


def _too_new(owner: Owner, task: HostTask | None, at: datetime | None) -> bool:
    if owner.belongs is not Belongs.FOREIGN or task is None or at is None:
        return False
    return task.started_at > at - _ABOUT


def _told(uuid: str, process: GpuProcess, task: HostTask | None, owner: Owner) -> HostProcess:
    return HostProcess(
        gpu=uuid,
        pid=process.pid,
        command=task.command if task else short_name(process.name),
        user="" if task is None else task.user or f"uid {task.uid}",
        place=_place(owner),
        memory_bytes=process.used_memory_bytes,
        gpu_instance=process.gpu_instance,
        started_at=task.started_at if task else None,
        uid=task.uid if task else None,
    )


def _place(owner: Owner) -> str:
    match owner.belongs:
        case Belongs.FOREIGN:
            return f"container {owner.container[:12]} of {owner.place}"
        case Belongs.UNKNOWN:
            return f"whose is not known: {owner.why}"
        case _:
            return owner.place
