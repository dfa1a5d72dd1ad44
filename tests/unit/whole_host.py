"""A whole host as a tick sees it, made of plain values: what it answers, and how each part of it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ds01_policy.model import Gpu
from ds01_policy.observe.ports import FileStat, Inventory, Json, QueryResult, SourceError, Sources

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
GPUS = tuple(Gpu(f"GPU-{index}0000000-0000-4000-8000-000000000000", index) for index in range(8))
A, B, C, D, E, F = (digit * 64 for digit in "abcdef")
DIGITS = [digit * 64 for digit in "0123456789"]
EDITOR = {"devcontainer.local_folder": "/home/alice/x"}


def when(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def inspect(
    container: str,
    name: str,
    gpu: int | None = 0,
    *,
    status: str = "running",
    up: timedelta = 3 * HOUR,
    labels: Mapping[str, str] | None = None,
    image: str = "pytorch:2",
) -> Json:
    """Answer as the engine does; idle unless the host says otherwise, and started `up` ago (or ended, after 9 h)."""
    alive = status in ("running", "paused", "restarting")
    started = AT - up if alive else AT - up - 9 * HOUR
    request = {"Driver": "", "Count": 0, "DeviceIDs": [str(gpu)], "Capabilities": [["gpu"]]}
    return {
        "Id": container,
        "Name": f"/{name}",
        "Created": when(started - MINUTE),
        "State": {
            "Status": status,
            "Pid": 4711 if alive else 0,
            "StartedAt": "0001-01-01T00:00:00Z" if status == "created" else when(started),
            "FinishedAt": "0001-01-01T00:00:00Z" if alive or status == "created" else when(AT - up),
        },
        "Config": {"Image": image, "Labels": {"ds01.user": "alice", **(labels or {})}, "Env": []},
        "HostConfig": {
            "NetworkMode": "none",
            "DeviceRequests": [] if gpu is None else [request],
            "RestartPolicy": {"Name": "no"},
        },
        "Mounts": [],
    }


@dataclass
class Host:
    """A whole host: containers by id, files in them, GPUs, and which GPUs work since when. Each part can fail."""

    inspects: dict[str, Json | SourceError | None] = field(default_factory=dict)
    files: dict[str, FileStat | SourceError] = field(default_factory=dict)
    busy: dict[int, datetime] = field(default_factory=dict)  # since when the GPU of this index works,
    until: dict[int, datetime] = field(default_factory=dict)  # and until when
    down: SourceError | None = None
    gpus: tuple[Gpu, ...] | SourceError = GPUS
    metrics: SourceError | None = None
    inspected: list[str] = field(default_factory=list)
    looked_for: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # of Prometheus

    @property
    def sources(self) -> Sources:
        return Sources(self, self, self, self)

    # docker
    def containers(self) -> list[Json]:
        if self.down:
            raise self.down
        return [{"Id": container} for container in self.inspects]

    def inspect(self, container_id: str) -> Json | None:
        self.inspected.append(container_id)
        if self.down:
            raise self.down
        answer: Json | None = given_or_raised(self.inspects.get(container_id))
        return answer

    def stat(self, container_id: str, path: str) -> FileStat | None:
        assert path == "/workspace/.keep-alive"
        self.looked_for.append(container_id)
        answer: FileStat | None = given_or_raised(self.files.get(container_id))
        return answer

    # the driver
    def inventory(self) -> Inventory:
        return Inventory(given_or_raised(self.gpus), "nvml", ("nvml was slow",))

    # the host
    def name(self) -> str:
        return "gpu01"

    def uid_of_process(self, pid: int) -> int | None:
        return 0 if pid == 4711 else None

    def user_of_uid(self, uid: int) -> str | None:
        del uid
        return None

    # prometheus
    def query(self, promql: str, at: datetime) -> QueryResult:
        self.asked.append(promql)
        if self.metrics:
            raise self.metrics
        now = at.timestamp()
        if "DCGM_FI_DEV_GPU_UTIL" in promql:
            times = [now - 30 * ago for ago in range(130, -1, -1)]
            rows = [
                {"metric": {"UUID": gpu.uuid}, "values": [[time, self._used(gpu, time)] for time in times]}
                for gpu in GPUS
            ]
            return QueryResult("matrix", rows)
        if "DCGM_FI" in promql:  # of the GPUs, this exporter has nothing else
            return QueryResult("matrix" if promql.endswith("]") else "vector", ())
        return QueryResult(
            "vector",
            [
                {
                    "metric": {"id": f"/docker/{container}", "ds01_ago": ago, "ds01_part": part},
                    "value": [now, str(now - float(ago) if part == "time" else 1e6 - float(ago) * 0.0005)],
                }
                for container in self.inspects
                for ago, part in sorted(set(re.findall(r'"ds01_ago", "([0-9.]+)".{0,60}?"ds01_part", "(\w+)"', promql)))
            ],
        )

    def _used(self, gpu: Gpu, at: float) -> str:
        since, until = self.busy.get(gpu.index), self.until.get(gpu.index)
        works = since is not None and at >= since.timestamp() and (until is None or at < until.timestamp())
        return "93" if works else "0"


def given_or_raised(answer: Any) -> Any:
    if isinstance(answer, SourceError):
        raise answer
    return answer
