"""The rig's histories, Prometheus servers, nvidia-smi and command line."""

from __future__ import annotations

import math
import socket
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from rig.cli import Cli
from rig.engine import Engine
from rig.history import SYSTEMD, History
from rig.nvidia_smi import SmiGpu, SmiMig, SmiProcess, calls, write_nvidia_smi
from rig.prometheus import Prometheus
from rig.proxy import Proxy

GPU = "GPU-6a1f3c52-0000-4000-8000-000000000001"
MIG = "MIG-1c2d4e6f-0000-5000-8000-000000000001"
ID = "0123456789abcdef" * 4


def test_patterns_end_now(now: float) -> None:
    """Words expand to samples that end now; gaps leave holes; the last word goes on ahead of now."""
    text = History(now, ahead="1m").gpu(GPU, "0x2m _x1m 100x2 NaN 7", every=30).openmetrics()
    samples = [line.rsplit(" ", 2)[1:] for line in text.splitlines() if line.startswith("DCGM")]
    offsets = [(round(float(when) - now), value) for value, when in samples]
    assert offsets[:4] == [(-270, "0.0"), (-240, "0.0"), (-210, "0.0"), (-180, "0.0")]
    assert offsets[4:] == [(-90, "100.0"), (-60, "100.0"), (-30, "NaN"), (0, "7.0"), (30, "7.0"), (60, "7.0")]
    assert text.endswith("# EOF\n")
    with pytest.raises(ValueError, match="not a word of a pattern: 'zzz'"):
        History(now).gpu(GPU, "0 zzz").openmetrics()
    with pytest.raises(ValueError, match="overlap"):
        History(now).gpu(GPU, 1).gpu(GPU, 2)


def test_history_answers_promql(now: float, prometheus_with: Callable[..., str]) -> None:
    """Backfilled GPUs, slices, CPU and network counters answer as scraped ones would, and stay fresh ahead of now."""
    history = (
        History(now, span="2h")
        .gpu(GPU, "0x58m 100x2m")
        .gpu("GPU-hung", "0x40m _x20m")
        .gpu("GPU-nan", "0x59m NaN 0")
        .gpu(GPU, "0.9x60m", gpu_instance=7)
        .cpu(ID, 0.25, cpus=2)
        .cpu(ID, "1x60m", path=SYSTEMD, every=15)
        .network(ID, 2048.0, sent=10.0)
        .points("up", {"job": "dcgm"}, [(-60, 1), (0, 0)])
    )
    server = Prometheus(prometheus_with(history))
    assert server.value(f'avg_over_time(DCGM_FI_DEV_GPU_UTIL{{UUID="{GPU}"}}[60m])', now) == pytest.approx(3.3, abs=0.1)
    assert server.value(f'DCGM_FI_DEV_GPU_UTIL{{UUID="{GPU}"}}', now + 300) == 100
    assert server.query('DCGM_FI_DEV_GPU_UTIL{UUID="GPU-hung"}', now) == []
    assert server.value('count_over_time(DCGM_FI_DEV_GPU_UTIL{UUID="GPU-hung"}[60m])', now) == 80
    mean = server.value('avg_over_time(DCGM_FI_DEV_GPU_UTIL{UUID="GPU-nan"}[60m])', now)
    assert mean is not None
    assert math.isnan(mean)
    slice_labels = f'UUID="{GPU}",GPU_I_ID="7",GPU_I_PROFILE="1g.10gb"'
    assert server.value(f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{slice_labels}}}", now) == 0.9
    rate = 'sum by (id) (rate(container_cpu_usage_seconds_total{{id="{}"}}[30m]))'
    assert server.value(rate.format(f"/docker/{ID}"), now) == pytest.approx(0.25)
    assert server.value(rate.format(f"/system.slice/docker-{ID}.scope"), now) == pytest.approx(1)
    assert len(server.query(f'container_cpu_usage_seconds_total{{id="/docker/{ID}"}}', now)) == 2
    received = 'increase(container_network_receive_bytes_total{interface="eth0"}[10m])'
    assert server.value(received, now) == pytest.approx(2048 * 600)
    assert server.value("up", now) == 0


def test_prometheus_breaks_on_demand(
    now: float, prometheus_with: Callable[..., str], faulty: Callable[[str], Proxy]
) -> None:
    """The same faults work in front of Prometheus, which is then slow, down or talking nonsense."""
    proxy = faulty(prometheus_with(History(now).gpu(GPU, 1)))
    server = Prometheus(proxy.url)
    assert server.value("DCGM_FI_DEV_GPU_UTIL", now) == 1
    proxy.fault("GET", "/api/v1/query", kind="body:<html>Sign in</html>")
    with pytest.raises(ValueError, match="Expecting value"):
        server.query("up")
    assert len(proxy.asked("GET", "query=up")) == 1


def test_process_exporter_measures_real_containers(engine: Engine, process_exporter: Prometheus) -> None:
    """A container that is given a tenth of a core reads about that, one that sleeps reads next to nothing."""
    busy = engine.run("--cpus", "0.1", command=("sh", "-c", "while :; do :; done"))
    idle = engine.run()
    query = 'sum by (id) (irate(container_cpu_usage_seconds_total{{id=~".*{}.*"}}[7s]))'
    expected = [pytest.approx(0.1, abs=0.02), pytest.approx(0, abs=0.005)]
    # Each is known from its second scrape on; what its start took, and a scrape that came late, pass.
    deadline = time.monotonic() + 60
    while (told := [process_exporter.value(query.format(one)) for one in (busy, idle)]) != expected:
        assert time.monotonic() < deadline, told
        time.sleep(0.5)


# ── nvidia-smi and the command line ──────────────────────────────────────────────────────────────────────────────────


def test_nvidia_smi_describes_the_host(tmp_path: Path) -> None:
    """The scripted command lists GPUs and slices, gives the XML report, logs its calls, refuses the rest."""
    host = [SmiGpu(GPU, processes=(SmiProcess(41),)), SmiGpu("GPU-b", mig=(SmiMig(MIG, 9), SmiMig("MIG-x", 7, 1)))]
    program = write_nvidia_smi(tmp_path / "nvidia-smi", host)

    def smi(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *args], capture_output=True, text=True, check=False)

    assert smi("-L").stdout.splitlines() == [
        f"GPU 0: NVIDIA A100-SXM4-80GB (UUID: {GPU})",
        "GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-b)",
        f"  MIG 1g.10gb     Device  0: (UUID: {MIG})",
        "  MIG 1g.10gb     Device  1: (UUID: MIG-x)",
    ]
    report = ET.fromstring(smi("-q", "-x").stdout)  # noqa: S314 -- our own text
    gpus = report.findall("gpu")
    assert [gpu.findtext("uuid") for gpu in gpus] == [GPU, "GPU-b"]
    assert [gpu.findtext("mig_mode/current_mig") for gpu in gpus] == ["Disabled", "Enabled"]
    assert [gpu.findtext("utilization/gpu_util") for gpu in gpus] == ["0 %", "N/A"]
    instances = [device.findtext("gpu_instance_id") for device in gpus[1].findall("mig_devices/mig_device")]
    assert instances == ["9", "7"]
    assert gpus[0].findtext("processes/process_info/pid") == "41"
    assert smi("--gpu-reset", "-i", GPU).returncode == 0
    assert smi("--help").returncode == 2
    assert calls(program) == ["-L", "-q -x", f"--gpu-reset -i {GPU}", "--help"]


def test_nvidia_smi_fails_and_hangs(tmp_path: Path) -> None:
    """The scripted command can fail as the driver does, and hang."""
    broken = write_nvidia_smi(tmp_path / "broken", [], exit_code=9, stderr="couldn't communicate with the driver")
    done = subprocess.run([broken, "-L"], capture_output=True, text=True, check=False)
    assert (done.returncode, "communicate" in done.stdout) == (9, True)
    hung = write_nvidia_smi(tmp_path / "hung", [], hang_s=60)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([hung, "-L"], capture_output=True, timeout=0.2, check=False)


def test_the_config_directory_is_written(cli: Cli) -> None:
    """Settings name the sources, overlays keep what they don't name, and files are written as text or YAML."""
    cli.configure(
        docker="unix:///x.sock",
        settings={"mode": "enforce", "docker": {"timeout": "2s"}},
        files={"rules/a.yaml": "version: 1\n", "limits.yaml": {"version": 1, "defaults": {"idle_timeout": "60m"}}},
    )
    written = (cli.config / "settings.yaml").read_text()
    assert "mode: enforce" in written
    assert "url: unix:///x.sock\n  timeout: 2s" in written
    assert "prometheus: never" in written
    assert (cli.config / "rules" / "a.yaml").read_text() == "version: 1\n"
    assert "idle_timeout: 60m" in (cli.config / "limits.yaml").read_text()


def test_the_program_runs_with_a_timeout(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A run sees nothing of this session's settings, tells how it ended, and is killed when it takes too long."""
    monkeypatch.setenv("DS01_POLICY_CONFIG", "/nowhere")
    cli.configure(docker="unix:///nowhere.sock")
    done = cli("preview", "--json")
    assert (done.rc, done.json["command"]) == (3, "preview")
    assert "/nowhere.sock" in done.stderr
    with pytest.raises(AssertionError, match=r"not JSON \(exit code 3\)"):
        _ = cli("preview").json
    with socket.socket(socket.AF_UNIX) as mute:  # who asks there is not done before the time is up
        mute.bind(str(tmp_path_factory.mktemp("s") / "mute.sock"))
        mute.listen()
        cli.configure(docker=f"unix://{mute.getsockname()}", settings={"docker": {"timeout": "60s"}})
        with pytest.raises(subprocess.TimeoutExpired):
            cli("preview", timeout=0.01)
