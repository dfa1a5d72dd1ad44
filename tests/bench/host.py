"""The host that is measured: a real Docker engine full of containers, a real Prometheus with their history.

Owns building it. Containers are really started, then aged on the engine's own disk while it is down, so that nothing
stands between the program and the engine.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rig.ages import docker_time
from rig.engine import Engine
from rig.history import History
from rig.nvidia_smi import SmiGpu, write_nvidia_smi
from rig.prometheus import Prometheus, backfill, serve

NEVER = "0001-01-01T00:00:00Z"


@dataclass(slots=True)
class Host:
    """A host with so many GPUs. Grow it with `grow`, then start what measures it with `prometheus`."""

    engine: Engine
    gpus: int
    running: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # created, and made to look exited

    def uuid(self, number: int) -> str:
        """UUID of the GPU that the container of that number holds."""
        return f"GPU-6a1f3c52-0000-4000-8000-{number % self.gpus:012d}"

    def grow(self, size: int, running: int) -> None:
        """Bring it to `size` containers, of which up to `running` run; then age them all to three hours."""
        numbers = range(len(self.running) + len(self.others), size)
        with ThreadPoolExecutor(3) as pool:
            made = list(pool.map(self._create, numbers))
            started = made[: max(0, min(size, running) - len(self.running))]
            list(pool.map(lambda one: self.engine.api("POST", f"/containers/{one}/start"), started))
        self.running += started
        self.others += made[len(started) :]
        self.engine.down()
        for number, container in enumerate(self.running):
            self._age(container, exited=False, host_network=number % 20 == 0)
        for number, container in enumerate(self.others):
            self._age(container, exited=number % 2 == 0, host_network=False)
        self.engine.up()

    def nvidia_smi(self, folder: Path) -> Path:
        """Write the command that lists its GPUs."""
        return write_nvidia_smi(folder / "nvidia-smi", [SmiGpu(self.uuid(number)) for number in range(self.gpus)])

    def prometheus(self, folder: Path) -> Prometheus:
        """Start Prometheus over two hours of every GPU and container: every second GPU works, the others idle."""
        history = History(time.time(), span="2h", ahead="1h")
        for number in range(self.gpus):
            history.gpu(self.uuid(number), 85 * (number % 2))
        for number, container in enumerate([*self.running, *self.others]):
            history.cpu(container, 0.9 * (number % self.gpus % 2) + 0.002)
            history.network(container, 120.0, sent=30.0)
        backfill(history.openmetrics(), folder)
        return serve(folder)

    def _create(self, number: int) -> str:
        labels = {"ds01.user": f"user{number % 40:02d}", "course": "deep learning 2"}
        if number % 10 == 3:
            labels |= {"com.docker.compose.project": f"project{number}", "com.docker.compose.service": "train"}
        requests = [{"Driver": "", "Count": 0, "DeviceIDs": [self.uuid(number)], "Capabilities": [["gpu"]]}]
        body = {"Labels": labels, "Env": ["NVIDIA_DRIVER_CAPABILITIES=compute,utility", "PATH=/usr/bin:/bin"]}
        body |= {"HostConfig": {"NetworkMode": "none", "DeviceRequests": requests if number % 13 else None}}
        return self.engine.create_raw(body, name=f"bench-{number:04d}")

    def _age(self, container: str, *, exited: bool, host_network: bool) -> None:
        folder = self.engine.base / "root" / "containers" / container
        now = datetime.now(tz=UTC)
        config: dict[str, Any] = json.loads((folder / "config.v2.json").read_text())
        config["Created"] = docker_time(now - timedelta(hours=3))
        if exited:
            config["State"] |= {"StartedAt": config["Created"], "FinishedAt": docker_time(now - timedelta(minutes=9))}
        elif config["State"]["StartedAt"] != NEVER:
            config["State"]["StartedAt"] = config["Created"]
        (folder / "config.v2.json").write_text(json.dumps(config))
        # The engine has no bridge; to the program the container is on one, or on the host's network.
        settings: dict[str, Any] = json.loads((folder / "hostconfig.json").read_text())
        settings["NetworkMode"] = "host" if host_network else "bridge"
        (folder / "hostconfig.json").write_text(json.dumps(settings))
