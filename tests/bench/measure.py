"""Runs programs and takes their time and memory; records what a run asks, and makes the same requests bare.

Owns measuring; hosts are host.py's, targets and words are bench.py's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.age_proxy import AgeProxy
from rig.cli import Cli
from rig.engine import Engine
from rig.faults import Request
from rig.prometheus import Prometheus
from rig.proxy import tcp

FLOOR = Path(__file__).with_name("floor.py")
TIMED = Path(__file__).with_name("timed.py")


@dataclass(frozen=True, slots=True)
class Run:
    """One process, from its start to its end."""

    seconds: float
    cpu_s: float
    peak_mib: float
    stdout: str


@dataclass(frozen=True, slots=True)
class Recording:
    """What one preview asked, and what it said."""

    docker: list[Request]
    prometheus: list[Request]
    verdicts: Counter[str]
    containers: int


def program() -> list[str]:
    """Find the installed command; where there is none, the package itself is run."""
    installed = Path(sys.executable).with_name("ds01-policy")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "ds01_policy"]


def run(argv: Sequence[str], cli: Cli | None = None) -> Run:
    """Run to the end. Raises SystemExit, with what it said, when it fails."""
    env = {**os.environ, **(cli.env if cli else {})}
    with tempfile.NamedTemporaryFile() as report:
        timed = [sys.executable, str(TIMED), report.name, *argv]
        done = subprocess.run(timed, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}")
        took = json.load(report)
        return Run(took["seconds"], took["cpu_s"], took["peak_mib"], done.stdout)


def bare_start() -> float:
    """Take the seconds that an interpreter with nothing to do needs to start and end."""
    return run([sys.executable, "-c", "pass"]).seconds


def record(cli: Cli, engine: Engine, server: Prometheus) -> Recording:
    """Run one preview through proxies that write its requests down. They only watch: nothing is rewritten."""
    docker, prometheus = AgeProxy(engine.socket, cli.base / "docker.sock"), tcp(server.url)
    try:
        cli.configure(docker=docker.url, prometheus=prometheus.url, nvidia_smi=cli.base / "nvidia-smi")
        document: dict[str, Any] = json.loads(run(preview(cli), cli).stdout)
    finally:
        docker.close()
        prometheus.close()
    verdicts = Counter(rule["verdict"] for one in document["containers"] for rule in one["rules"])
    return Recording(docker.requests, prometheus.requests, verdicts, len(document["containers"]))


def preview(cli: Cli) -> list[str]:
    """Build the command line that is measured."""
    return [*program(), "--config", str(cli.config), "preview", "--all", "--json"]


def write_requests(recording: Recording, engine: Engine, server: Prometheus, path: Path) -> None:
    """Write the requests for floor.py, in the order in which they were made."""
    both = [("docker", one) for one in recording.docker] + [("prometheus", one) for one in recording.prometheus]
    requests = [
        {
            "source": source,
            "method": one.method,
            "target": one.target,
            "body": one.body.decode(),
            "headers": {key: value for key, value in one.headers.items() if key.lower() == "content-type"},
        }
        for source, one in sorted(both, key=lambda pair: pair[1].at)
    ]
    where = {"docker": str(engine.socket), "prometheus": urllib.parse.urlsplit(server.url).netloc}
    path.write_text(json.dumps({**where, "requests": requests}))


def bare_requests(path: Path) -> float:
    """Make them bare: the seconds the requests took, without the interpreter's start."""
    return float(run([sys.executable, str(FLOOR), str(path)]).stdout)
