"""`doctor` on a real engine and real Prometheus servers: a host in order, exporters that hung, broken joins."""

from __future__ import annotations

from rig.age_proxy import AgeProxy
from rig.cli import Result
from rig.engine import Engine
from rig.history import CGROUPFS, History
from rig.host import RULES, Host
from rig.nvidia_smi import SmiGpu, SmiMig
from rig.samples import sampled

A, B, C, D = GPUS = ("GPU-aaaa", "GPU-bbbb", "GPU-cccc", "GPU-dddd")
MIG = SmiGpu(D, mig=(SmiMig("MIG-1111", 1), SmiMig("MIG-2222", 5)))
# `check` has nothing to say about these, so that the doctor has not either.
SEEN_TO = RULES.replace("  - id:", "  # ds01-policy: ignore untested_rule because only this host is looked at\n  - id:")
HOST = (SmiGpu(A), SmiGpu(B), SmiGpu(C), MIG)


def found(ran: Result, status: str) -> dict[str, str]:
    """Sort what was found with this status by slug, the texts of one slug as lines."""
    told: dict[str, str] = {}
    for one in ran.json["findings"]:
        if one["status"] == status:
            told[one["slug"]] = f"{told.get(one['slug'], '')}{one['what']}\n"
    return told


def started(engine: Engine, proxy: AgeProxy) -> list[str]:
    """Start an old container on each of two GPUs: their ids."""
    ids = [engine.run(gpus=f'"device={gpu}"', name=name) for name, gpu in (("train", A), ("infer", B))]
    for container in ids:
        proxy.age(container, started="5h")
    return ids


def test_a_host_in_order(engine: Engine, proxy: AgeProxy, host: Host, now: float) -> None:
    """Every metric there, fresh and joined both ways, a warm ledger: exit 0, and nothing is changed by looking."""
    ids = started(engine, proxy)
    history = History(now, span="15m")
    for gpu in (A, B, C):
        history.gpu(gpu, 0)
    for instance in (1, 5):
        history.gpu(D, 0.0, gpu_instance=instance)
    for container in ids:
        history.cpu(container, 0.5)
    cli = host(history, mode="observe", rules=SEEN_TO, gpus=HOST)
    sampled(cli, now, gpus={A: 0.0})
    assert cli("evaluate").rc == 0
    before = {path: path.read_bytes() for path in cli.state.iterdir()}
    ran = cli("doctor", "--json")
    assert found(ran, "bad") == {}, ran.stdout
    assert found(ran, "skipped") == {}
    assert ran.rc == cli("doctor").rc == 0
    told = found(ran, "ok")
    assert "gpu_utilization of whole GPUs: 3 GPUs with a series, newest sample at most " in told["series"]
    assert "gpu_utilization of MIG instances: 2 MIG instances with a series" in told["series"]
    assert "cpu_usage: 2 GPU containers with a series" in told["series"]
    assert "4 GPUs through nvidia-smi" in told["gpu"]
    assert "2 MIG devices mapped to GPU 3: gi1, gi5" in told["mig"]
    assert "2 containers, 2 of them with GPUs" in told["containers"]
    assert "default runtime runc, nvidia runtime there" in told["docker"]
    assert "keeps 30d" in told["prometheus"]
    assert "without a gap: idle rules are answered without Prometheus" in told["local_samples"]
    assert {"docker_clock", "prometheus_clock", "ledger", "tick", "state_dir", "configuration"} <= told.keys()
    assert {path: path.read_bytes() for path in cli.state.iterdir()} == before


def test_stale_exporters_and_broken_joins(engine: Engine, proxy: AgeProxy, host: Host, now: float) -> None:
    """Each is named, with the GPU or label that it is about, and no other is blamed."""
    ids = started(engine, proxy)
    history = History(now, span="50m").gpu(A, 0)
    history.gpu(B, "0x30m _x20m").gpu(C, "0x42m _x8m")  # one long gone, one that hangs
    history.gpu(D, 0.0, gpu_instance=1).gpu(D, 0.0, gpu_instance=3)  # was re-partitioned: there is 1 and 5
    history.gpu("GPU-eeee", 0).gpu("GPU-ffff", 0, instance="gpu02:9400")  # one that fell off, one of another host
    for container in ids:  # cAdvisor's series under another label
        labels = {"cgroup": CGROUPFS.format(id=container), "job": "cadvisor", "instance": "gpu01:8080"}
        history.counter("container_cpu_usage_seconds_total", labels, 0.5)
    cli = host(history, mode="observe", rules=SEEN_TO, gpus=HOST)
    ran = cli("doctor", "--json")
    assert ran.rc == 1
    told = found(ran, "bad")
    assert told == {
        "gpu_without_series": (
            "gpu_utilization of whole GPUs: 1 of 3 without a series: GPU 1 (GPU-bbbb); last seen 20m ago\n"
            "gpu_utilization of MIG instances: 1 of 2 without a series: GPU 3 gi5 (GPU-dddd)\n"
        ),
        "stale_series": "gpu_utilization of whole GPUs: the newest sample of GPU 2 (GPU-cccc) is up to 8m old\n",
        "series_of_unknown_gpu": (
            "gpu_utilization of whole GPUs: this host's exporter tells of what this host does not show: GPU-eeee\n"
            "gpu_utilization of MIG instances: this host's exporter tells of what this host does not show: "
            "GPU-dddd/gi3\n"
        ),
        "label_missing": (
            "cpu_usage: there, and none of its series with the label id; its labels are cgroup, instance, job\n"
        ),
    }
    assert "GPU-ffff" in found(ran, "note")["series_of_unknown_gpu"]
    shown = cli("doctor").stdout
    assert shown.splitlines()[-1].startswith("6 wanting, ")
    assert max(map(len, shown.splitlines())) <= 80


def test_one_renamed_label_is_said_so(engine: Engine, proxy: AgeProxy, host: Host, now: float) -> None:
    """An exporter that writes `uuid`: the metric is there and joins nothing, and the fix is given."""
    container = started(engine, proxy)[0]
    history = History(now, span="15m")
    for gpu in GPUS:
        history.gauge("DCGM_FI_DEV_GPU_UTIL", {"uuid": gpu, "gpu": "0", "instance": "gpu01:9400"}, 0)
    history.cpu(container, 0.5)
    ran = host(history, mode="observe", rules=SEEN_TO, gpus=tuple(map(SmiGpu, GPUS)))("doctor", "--json")
    told = [one for one in ran.json["findings"] if one["status"] == "bad"]
    assert [one["slug"] for one in told] == ["label_missing", "container_without_series"]
    assert "its labels are gpu, instance, uuid" in told[0]["what"]
    assert "write uuid for UUID in `expr` and `uuid_label`" in told[0]["do"]
    assert "1 of 2 without a series: infer" in told[1]["what"]
