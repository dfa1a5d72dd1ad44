"""Who is on the GPUs with every name replaced: commands, users, and what they called their units.

Owns which part of a cgroup says whose it is, not who that is. What the driver noted in words is left out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from ds01_policy.observe.ports import OnGpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from ds01_policy.anonymise.names import Names
    from ds01_policy.model import GpuProcess, GpuStatus, HostTask

_DELETED = " (deleted)"
_PUBLIC = re.compile(
    r"(|\.\.|docker|init\.scope|(user|system|machine)\.slice|user-[0-9]+\.slice|user@[0-9]+\.service"
    r"|session-[a-z]?[0-9]+\.scope|app\.slice)"
)
_KIND = re.compile(r"\.(service|scope|slice)\Z")


def tasks(found: OnGpus, names: Names, notes: Callable[[tuple[str, ...]], tuple[str, ...]]) -> OnGpus:
    """Replace every name; `notes` says what stands for words."""
    statuses = found.statuses
    gpus = {names.marks(uuid): _status(status, names) for uuid, status in statuses.gpus.items()}
    told = replace(statuses, gpus=gpus, unreadable=notes(statuses.unreadable), notes=notes(statuses.notes))
    return OnGpus(told, {names.pid(pid): _task(task, names) for pid, task in found.tasks.items()})


def _status(status: GpuStatus, names: Names) -> GpuStatus:
    listed = None if status.processes is None else tuple(_process(each, names) for each in status.processes)
    return replace(status, uuid=names.marks(status.uuid), processes=listed)


def _process(process: GpuProcess, names: Names) -> GpuProcess:
    return replace(process, pid=names.pid(process.pid), name=_word(process.name, names))


def _task(task: HostTask, names: Names) -> HostTask:
    return replace(
        task,
        pid=names.pid(task.pid),
        user=None if task.user is None else names.user(task.user),
        command=_word(task.command, names),
        cgroup=None if task.cgroup is None else "\n".join(_line(each, names) for each in task.cgroup.split("\n")),
    )


def _word(word: str, names: Names) -> str:
    return names.values.of(word) if word else word


def _line(line: str, names: Names) -> str:
    """Replace the path of one line of a cgroup file; what is no such line stays none."""
    number, colon, rest = line.partition(":")
    controllers, second, path = rest.partition(":")
    if not second or not path.startswith("/"):
        return "odd" if line else line
    deleted = _DELETED if path.endswith(_DELETED) else ""
    segments = path.removesuffix(_DELETED).split("/")
    named = controllers if re.fullmatch(r"[a-z_,]*|name=systemd", controllers) else names.values.of(controllers)
    return f"{number}{colon}{named}:{'/'.join(_segment(each, names) for each in segments)}{deleted}"


def _segment(name: str, names: Names) -> str:
    marked = names.marks(name)
    if _PUBLIC.fullmatch(name) or marked != name:
        return marked
    kind = _KIND.search(name)
    return names.folders.of(name) + (kind[0] if kind else "")
