"""Processes on a GPU beside containers: those of no container are told of, and live."""

from __future__ import annotations

import pytest
from rig.cli import Cli
from rig.engine import Engine
from rig.nvidia_smi import SmiGpu, SmiProcess, calls, write_nvidia_smi
from rig.strays import Stray

A = "GPU-aaaa"


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_a_bare_metal_process_is_listed_and_a_containers_is_not(engine: Engine, cli: Cli, mode: str) -> None:
    """The driver lists both; whatever the mode, nothing is done about the one that nobody's container owns."""
    bare = Stray()
    try:
        container = engine.run(name="train", gpus=f"device={A}")
        inside = engine.inspect(container)["State"]["Pid"]
        processes = (SmiProcess(bare.pid, used_mib=14 * 1024), SmiProcess(inside))
        smi = write_nvidia_smi(cli.base / "nvidia-smi", [SmiGpu(A, processes=processes)])
        metrics = cli.base / "ds01.prom"
        cli.configure(
            docker=f"unix://{engine.socket}",
            nvidia_smi=smi,
            settings={"mode": mode, "notify": {"channels": []}, "metrics_file": str(metrics)},
        )
        told = cli("evaluate", "--json").json
        page = cli("preview")
        recorded = cli.base / "recorded"
        assert cli("record", str(recorded)).rc == 0
        again = cli("--replay", str(recorded), "preview", "--json").json
        assert bare.lives
        assert engine.state(container) == "running"
    finally:
        bare.end()
    (found,) = told["host_processes"]
    assert (found["pid"], found["command"], found["gpu"]) == (bare.pid, "sleep", A)
    assert (found["uid"], found["memory_bytes"]) == (0, 14 * 2**30)
    assert found["started_at"]
    assert again["host_processes"] == told["host_processes"]
    assert "GPU processes of no container" in page.stdout
    assert f"sleep    {bare.pid}" in page.stdout
    assert str(inside) not in page.stdout.split("GPU processes of no container")[1].split("\n\n")[0].split()
    assert f'ds01_policy_host_processes{{gpu="{A}"}} 1.0' in metrics.read_text().splitlines()
    assert f'ds01_policy_host_process_memory_bytes{{gpu="{A}"}} {14.0 * 2**30!r}' in metrics.read_text().splitlines()
    assert set(calls(smi)) == {"-L", "-q -x"}


def test_a_host_without_a_driver_says_so_once(engine: Engine, cli: Cli) -> None:
    """No GPU stack, no process on a GPU, one line about it."""
    cli.configure(docker=f"unix://{engine.socket}", settings={"gpu": {"nvml": "never", "nvidia_smi": "no-nvidia-smi"}})
    told = cli("preview", "--json").json
    assert told["host_processes"] == []
    assert [one["code"] for one in told["problems"] if "gpu" in one["code"]] == ["no_gpu_stack"]
