"""GPU use by person, on a real Prometheus that scrapes a real `watch`; and what became of a stop, over real ticks."""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import parts
from rig.age_proxy import AgeProxy
from rig.daemon import free_port
from rig.engine import Engine
from rig.history import History
from rig.host import GPUS, IDLE_AT_ONCE, Host, outcomes
from rig.nvidia_smi import SmiGpu, SmiMig
from rig.prometheus import Prometheus, backfill, serve

SLICE = "MIG-1c2d4e6f-0000-5000-8000-000000000001"
HOST = (*map(SmiGpu, GPUS[:3]), SmiGpu(GPUS[3], mig=(SmiMig(SLICE, 7),)))
HELD = {"alice": "device=GPU-aaaa", "bob": "device=GPU-bbbb", "carol": f"device={SLICE}", "dave": "device=GPU-cccc"}

# Whose each GPU or slice is, by the labels of dcgm-exporter. One row for each owner, however many containers hold it.
OWNERS = """
max by (owner, UUID, GPU_I_ID) (
  label_replace(
    label_replace(ds01_policy_container_gpu_info{gpu_uuid!=""}, "UUID", "$1", "gpu_uuid", "(.+)"),
    "GPU_I_ID", "$1", "gpu_instance", "(.+)"
  )
)
"""
USE = f"DCGM_FI_DEV_GPU_UTIL * on (UUID) group_left (owner) {OWNERS}"
SLICES = f"DCGM_FI_PROF_GR_ENGINE_ACTIVE * on (UUID, GPU_I_ID) group_left (owner) {OWNERS}"


@pytest.fixture
def scraping() -> Iterator[tuple[int, list[Prometheus]]]:
    """Keep a port for `watch`, and end whatever Prometheus the test starts."""
    servers: list[Prometheus] = []
    yield free_port(), servers
    for server in servers:
        server.stop()


def by_owner(prometheus: Prometheus, query: str) -> dict[str, float]:
    return {one["metric"]["owner"]: float(one["value"][1]) for one in prometheus.query(query)}


def waited_for(prometheus: Prometheus, query: str, expected: float | dict[str, float]) -> None:
    """Wait until a scrape has brought this number, or these by owner; one that came too late has taken all away."""
    deadline = time.monotonic() + 40
    ask = by_owner if isinstance(expected, dict) else Prometheus.value
    while (found := ask(prometheus, query)) != expected:
        assert time.monotonic() < deadline, (query, found)
        time.sleep(0.1)


def test_gpu_use_is_told_by_person_and_stops_by_what_came_after(
    engine: Engine,
    proxy: AgeProxy,
    host: Host,
    tmp_path: Path,
    scraping: tuple[int, list[Prometheus]],
) -> None:
    """What DCGM measures of GPUs and slices joins with whoever holds them; one is stopped, and starts again."""
    port, servers = scraping
    ids = {
        owner: engine.run(gpus=f'"{device}"', name=f"{owner}-s", labels={"ds01.user": owner})
        for owner, device in HELD.items()
    }
    for container in ids.values():
        proxy.age(container, started="3h")
    # What is scraped comes after the history: nothing of it may lie ahead.
    history = History(time.time(), span="2h", ahead="0s").gpu("GPU-aaaa", 90).gpu("GPU-bbbb", 40).gpu("GPU-cccc", 0)
    history.gpu("GPU-dddd", 0.1, gpu_instance=7).cpu(ids["dave"], 0.0)
    folder = tmp_path / "prometheus"
    folder.mkdir()
    backfill(history.openmetrics(), folder)
    config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n  - job_name: ds01-policy\n"
    servers.append(serve(folder, f"{config}    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"))
    (prometheus,) = servers
    cli = host(prometheus.url, rules=IDLE_AT_ONCE, gpus=HOST, metrics_listen=f"127.0.0.1:{port}")
    watch = cli.start("watch")
    try:
        first = cli("evaluate", "--json")
        acted = outcomes(first.json)  # the epilog is whose of the two comes first
        assert set(acted) == {"dave-s"}, first.stderr
        assert acted["dave-s"].startswith("stop done, remove done, epilog "), first.stdout
        waited_for(prometheus, USE, {"alice": 90, "bob": 40, "dave": 0})
        waited_for(prometheus, SLICES, {"carol": 0.1})
        waited_for(prometheus, 'ds01_policy_stops_total{rule="idle-gpu"}', 1)
        waited_for(prometheus, 'ds01_policy_regrets_total{rule="idle-gpu"}', 0)
        waited_for(prometheus, "ds01_policy_watch_following", 1)

        assert cli("evaluate").rc == 0
        freed = cli.state / "metrics.prom"
        assert 'ds01_policy_gpu_seconds_reclaimed_total{rule="idle-gpu"} 0.0\n' not in freed.read_text()
        engine.run(gpus='"device=GPU-aaaa"', name="dave-again", labels={"ds01.user": "dave"})
        assert cli("evaluate").rc == 0
        waited_for(prometheus, 'ds01_policy_regrets_total{rule="idle-gpu"}', 1)
        # Two share a GPU now: each of them is told of, by the side of the join that may have many.
        shared = f'{OWNERS} * on (UUID) group_left () DCGM_FI_DEV_GPU_UTIL{{UUID="GPU-aaaa"}}'
        waited_for(prometheus, shared, {"alice": 90, "dave": 90})

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            served = page.read().decode()
        argv = [parts.command("promtool", "prometheus"), "check", "metrics"]
        checked = subprocess.run(argv, input=served, capture_output=True, text=True, timeout=60, check=False)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    finally:
        watch.send_signal(signal.SIGTERM)
        said = watch.communicate(timeout=60)
    assert watch.returncode == 0, said
