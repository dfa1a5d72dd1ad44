"""Who is on the GPUs ↔ JSON, for recordings.

Owns the shape of tasks.json. Whatever does not fit raises KeyError, TypeError or ValueError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.model import GpuProcess, GpuStatus, GpuStatuses, HostTask
from ds01_policy.observe.ports import OnGpus
from ds01_policy.observe.recorded_values import time_json, time_of

if TYPE_CHECKING:
    from ds01_policy.observe.ports import Json


def on_gpus_json(found: OnGpus) -> Json:
    """Write who is on the GPUs. A GPU whose processes are not listed is null."""
    statuses = found.statuses
    return {
        "via": statuses.via,
        "notes": list(statuses.notes),
        "unreadable": list(statuses.unreadable),
        "gpus": {
            uuid: None if status.processes is None else [_process_json(each) for each in status.processes]
            for uuid, status in statuses.gpus.items()
        },
        "tasks": [_task_json(task) for _, task in sorted(found.tasks.items())],
    }


def on_gpus_of(value: Json) -> OnGpus:
    """Read who is on the GPUs."""
    gpus = {
        str(uuid): GpuStatus(str(uuid), processes=None if listed is None else tuple(map(_process_of, listed)))
        for uuid, listed in value["gpus"].items()
    }
    statuses = GpuStatuses(gpus, tuple(value["unreadable"]), value["via"], tuple(value["notes"]))
    return OnGpus(statuses, {task.pid: task for task in map(_task_of, value["tasks"])})


def _process_json(process: GpuProcess) -> Json:
    return {
        "pid": process.pid,
        "kind": process.kind,
        "name": process.name,
        "used_memory_bytes": process.used_memory_bytes,
        "gpu_instance": process.gpu_instance,
        "compute_instance": process.compute_instance,
    }


def _process_of(value: Json) -> GpuProcess:
    return GpuProcess(**{**value, "pid": int(value["pid"])})


def _task_json(task: HostTask) -> Json:
    return {
        "pid": task.pid,
        "uid": task.uid,
        "user": task.user,
        "command": task.command,
        "start_ticks": task.start_ticks,
        "started_at": time_json(task.started_at),
        "cgroup": task.cgroup,
        "state": task.state,
    }


def _task_of(value: Json) -> HostTask:
    return HostTask(**{**value, "pid": int(value["pid"]), "started_at": time_of(value["started_at"])})
