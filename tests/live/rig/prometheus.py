"""Real Prometheus servers: one over backfilled history, one that scrapes a real exporter of container CPU."""

from __future__ import annotations

import http.client
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from functools import partial
from json import load
from pathlib import Path
from typing import Any

from rig import parts
from rig.daemon import Daemon, NotReadyError, free_port

EXPORTER = """\
process_names:
  - name: "{{index .Cgroups 0}}"
    cmdline: ['.+']
"""
# Gives the exporter's series the names and labels that cAdvisor's have. Each mode is one `cpu`: their sum is the total.
SCRAPE = """\
global: {{scrape_interval: 2s}}
scrape_configs:
  - job_name: cadvisor
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
    metric_relabel_configs:
      - {{source_labels: [__name__], regex: namedprocess_namegroup_cpu_seconds_total, action: keep}}
      - {{source_labels: [groupname], regex: '(/docker/[0-9a-f]{{64}}|.*/docker-[0-9a-f]{{64}}\\.scope)', action: keep}}
      - {{source_labels: [groupname], target_label: id}}
      - {{source_labels: [mode], target_label: cpu}}
      - {{target_label: __name__, replacement: container_cpu_usage_seconds_total}}
      - {{regex: 'groupname|mode', action: labeldrop}}
"""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server that answers at `url`; `daemon` where it is ours to stop."""

    url: str
    daemon: Daemon | None = None

    def query(self, promql: str, at: float | None = None) -> list[dict[str, Any]]:
        """Ask at an instant (default now): the result's elements."""
        form = {"query": promql} | ({} if at is None else {"time": f"{at:.3f}"})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{urllib.parse.urlencode(form)}", timeout=10) as answer:  # noqa: S310
            result: list[dict[str, Any]] = load(answer)["data"]["result"]
        return result

    def value(self, promql: str, at: float | None = None) -> float | None:
        """Ask for one number; None: nothing, or more than one series."""
        result = self.query(promql, at)
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def wait_for(self, promql: str, timeout_s: float = 120.0) -> list[dict[str, Any]]:
        """Ask until there is an answer."""
        deadline = time.monotonic() + timeout_s
        while not (result := self.query(promql)):
            if time.monotonic() > deadline:
                raise NotReadyError(f"still nothing after {timeout_s:g} s: {promql}")
            time.sleep(0.2)
        return result

    def stop(self) -> None:
        """End it."""
        if self.daemon:
            self.daemon.stop(kill=True)


def backfill(openmetrics: str, folder: Path) -> Path:
    """Turn history into Prometheus' own blocks: the data folder."""
    promtool = parts.command("promtool", "prometheus")
    source, data = folder / "history.om", folder / "data"
    source.write_text(openmetrics)
    data.mkdir()
    argv = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(source), str(data)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise ValueError(f"promtool refuses the history: {done.stderr.strip()}")
    source.unlink()
    return data


def serve(folder: Path, config: str = "global: {scrape_interval: 30s}\n", retention: str = "30d") -> Prometheus:
    """Start Prometheus on FOLDER/data. History may lie ahead of now: it shows as time passes."""
    program = parts.command("prometheus", "prometheus")
    (folder / "prometheus.yml").write_text(config)
    for attempt in range(3):  # the port was free a moment ago; another program may have been quicker
        port = free_port()
        argv = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        argv += [f"--storage.tsdb.retention.time={retention}", f"--web.listen-address=127.0.0.1:{port}"]
        daemon = Daemon(argv, folder / "prometheus.log")
        try:
            daemon.wait_until(partial(_serves, f"http://127.0.0.1:{port}", folder / "data"))
        except NotReadyError:
            daemon.stop(kill=True)
            if attempt == 2:
                raise
        else:
            return Prometheus(f"http://127.0.0.1:{port}", daemon)
    raise AssertionError


def export_processes(folder: Path) -> tuple[str, Daemon]:
    """Start prometheus-process-exporter with one group per cgroup: the configuration that scrapes it, and itself."""
    program = parts.command("prometheus-process-exporter", "prometheus-process-exporter")
    (folder / "exporter.yml").write_text(EXPORTER)
    port = free_port()
    argv = [program, "-config.path", str(folder / "exporter.yml"), "-web.listen-address", f"127.0.0.1:{port}"]
    argv += ["-threads=false", "-gather-smaps=false"]
    daemon = Daemon(argv, folder / "exporter.log")
    daemon.wait_until(lambda: _answers(f"http://127.0.0.1:{port}/metrics"))
    return SCRAPE.format(port=port), daemon


def _serves(url: str, data: Path) -> bool:
    """Whether it is ready, and ours: another worker's may have been given the same port."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/status/flags", timeout=5) as answer:  # noqa: S310 -- loopback
            return bool(load(answer)["data"]["storage.tsdb.path"] == str(data))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 -- loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
