"""Records the demo's host: real containers on a real engine, a real Prometheus over a written history.

Run as root where Docker and Prometheus are installed: `.venv/bin/python tests/replay/record_demo.py`. Everything is
started here and gone afterwards; tests/replay/demo is written anew.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "live"))

from rig.age_proxy import AgeProxy  # noqa: E402
from rig.engine import Engine  # noqa: E402
from rig.history import History  # noqa: E402
from rig.nvidia_smi import SmiGpu, SmiMig, write_nvidia_smi  # noqa: E402
from rig.prometheus import backfill, serve  # noqa: E402

from ds01_policy.act.dry_run import DryRun  # noqa: E402
from ds01_policy.cli.recording import EXPECTED, expected_of  # noqa: E402
from ds01_policy.cli.recording import policy_files as kept_files  # noqa: E402
from ds01_policy.cli.wiring import live_sources  # noqa: E402
from ds01_policy.config.load import load, load_whole  # noqa: E402
from ds01_policy.memory import Memory, remembered  # noqa: E402
from ds01_policy.model import State  # noqa: E402
from ds01_policy.observe.ports import Json  # noqa: E402
from ds01_policy.observe.recording import Recorder, replay  # noqa: E402
from ds01_policy.tick import look, tick  # noqa: E402

USERS = {1001: "alice", 1002: "bob", 1003: "carol", 1004: "dave", 1005: "erin"}
GPUS = tuple(f"GPU-5f2c0d1e-0000-4000-8000-0000000000{number:02d}" for number in range(16))
SLICES = tuple(f"MIG-7a3b9c00-0000-5000-8000-00000000000{number}" for number in range(2))


class DemoHost:
    """A host called gpu01, with the users of the demo."""

    def name(self) -> str:
        return "gpu01"

    def uid_of_process(self, pid: int) -> int | None:  # noqa: ARG002
        return 0

    def user_of_uid(self, uid: int) -> str | None:
        return USERS.get(uid)


def start(engine: Engine, proxy: AgeProxy) -> dict[str, str]:
    """Start one container of every kind."""
    exporter = engine.image("nvcr.io/nvidia/k8s/dcgm-exporter:4.4.1")
    vscode = engine.image("vsc-thesis-3f2a:latest")
    home = Path(tempfile.mkdtemp()) / "keep"
    home.mkdir()
    (home / ".keep-alive").touch()
    ids: dict[str, str] = {}

    def run(name: str, gpus: str | None, age: str, *flags: str, image: str = "bb:latest", **labels: str) -> None:
        known = {key.replace("__", "."): value for key, value in labels.items()}
        ids[name] = engine.run(*flags, name=name, gpus=gpus, image=image, labels=known)
        proxy.age(ids[name], started=age)

    def device(*numbers: int) -> str:
        return '"device=' + ",".join(GPUS[number] for number in numbers) + '"'

    run("train", device(0), "7h", ds01__user="alice")
    run("llm-finetune", device(1), "9h", ds01__user="bob")
    run("woke-up", device(2), "5h", ds01__user="carol")
    run("just-started", device(3), "12m", ds01__user="alice")
    run("thesis-vscode", device(4), "40h", image=vscode, devcontainer__local_folder="/home/dave/thesis")
    run("slice-idle", None, "6h", "--runtime", "nvidia", "-e", f"NVIDIA_VISIBLE_DEVICES={SLICES[0]}", ds01__user="bob")
    run("slice-busy", None, "6h", "--runtime", "nvidia", "-e", f"NVIDIA_VISIBLE_DEVICES={SLICES[1]}", ds01__user="erin")
    run("four-gpus", device(5, 6, 7, 8), "8h", ds01__user="erin")
    run("dcgm-exporter", "all", "30d", image=exporter, ds01__monitoring="true")
    run("my-monitoring", device(9), "4h", ds01__user="bob", ds01__monitoring="true")
    run("kept-alive", device(10), "10h", "-v", f"{home}:/workspace", ds01__user="carol")
    run("mystery", device(2), "25h")
    run("no-metrics", device(11), "3h", ds01__user="dave")
    run("cooling-down", device(3), "2h", ds01__user="carol")
    run("long-run", device(1), "60h", ds01__user="dave")
    run("course-demo", device(5), "30h", ds01__user="prof")
    run("web", None, "90d")

    def at_home(inspect: Json) -> None:
        inspect["Mounts"][0]["Source"] = "/home/carol/project"
        inspect["HostConfig"]["Binds"] = ["/home/carol/project:/workspace"]

    proxy.edit(ids["kept-alive"], at_home)
    ids["prepared"] = engine.create(name="prepared", gpus=device(0), labels={"ds01.user": "alice"})
    proxy.age(ids["prepared"], created="2h")
    run("finished", device(0), "12h", ds01__user="bob")
    engine.cli("stop", "-t", "0", ids["finished"])
    proxy.age(ids["finished"], started="12h", finished="50m")
    return ids


def measured(ids: dict[str, str], now: float) -> History:
    """Write what each of them did."""
    history = History(now, span="13h", ahead="5m")
    utilisation = {0: "0", 1: "87", 2: "0x778m 96x2m", 3: "70x728m 0x52m", 4: "3", 9: "0", 10: "0"}
    for number, pattern in utilisation.items():
        history.gpu(GPUS[number], pattern if "x" in pattern else float(pattern))
    drawn: dict[int, str | float] = {1: 402, 2: "71x778m 390x2m", 3: "340x728m 71x52m", 8: 365, 11: "71x740m _x40m"}
    for number in range(12):
        history.energy(GPUS[number], drawn.get(number, 71))
    for number in (5, 6, 7):
        history.gpu(GPUS[number], 0)
    history.gpu(GPUS[8], 64)
    history.gpu(GPUS[11], "0x740m _x40m")
    for instance, ratio in ((1, 0), (2, 0.13)):  # a busy seventh of a GPU
        history.gpu("GPU-5f2c0d1e-0000-4000-8000-0000000000aa", ratio, gpu_instance=instance)
        history.energy("GPU-5f2c0d1e-0000-4000-8000-0000000000aa", 210, gpu_instance=instance)
    work: dict[str, str | float] = {
        "llm-finetune": 1.4,
        "slice-busy": 0.8,
        "four-gpus": 2.2,
        "long-run": 0.9,
        "woke-up": "0.0004x778m 0.9x2m",
    }
    for name, container in ids.items():
        cores = work.get(name, 0.0006)
        history.cpu(container, cores)
    return history


def _given(at: datetime) -> datetime:
    return at


def policy_files(folder: Path, docker: str, prometheus: str, smi: Path) -> Path:
    """Write the demo's configuration: the shipped one, with a limit that is never and an exemption."""
    config = folder / "config"
    shutil.copytree(HERE / "demo-config", config)
    shown = (config / "settings.yaml").read_text()
    shown += f"docker: {{url: {docker}}}\nprometheus: {{url: {prometheus}}}\n"
    shown += f"gpu: {{nvml: never, nvidia_smi: {smi}}}\nstate_dir: {folder / 'state'}\n"
    (config / "settings.yaml").write_text(shown)
    return config


def keep_policy() -> None:
    """Put the demo's configuration beside what was asked, not the one of today's sockets; and what it finds."""
    loaded = load_whole(HERE / "demo-config", unix_group=lambda _: None)
    again = replay(HERE / "demo")
    report = look(loaded.policy, again.sources, again.at, again.history)
    files = {**kept_files(loaded, {}), EXPECTED: expected_of(loaded.policy, report)}
    for name, text in files.items():
        path = HERE / "demo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Start the host, let a few ticks pass, record."""
    folder = Path(tempfile.mkdtemp(prefix="demo"))
    engine = Engine.start()
    proxy = AgeProxy(engine.socket, folder / "docker.sock")
    try:
        ids = start(engine, proxy)
        mig = tuple(SmiMig(uuid, number + 1) for number, uuid in enumerate(SLICES))
        gpus = [*(SmiGpu(uuid) for uuid in GPUS), SmiGpu("GPU-5f2c0d1e-0000-4000-8000-0000000000aa", mig=mig)]
        smi = write_nvidia_smi(folder / "nvidia-smi", gpus)
        data = folder / "prometheus"
        data.mkdir()
        backfill(measured(ids, time.time()).openmetrics(), data)
        server = serve(data)
        policy = load(policy_files(folder, proxy.url, server.url, smi), unix_group=lambda _: None)
        sources = replace(live_sources(policy), host=DemoHost())
        # Two ticks went before, half an hour and twenty-five minutes ago: the idle ones were told (or would have been).
        for ago in (timedelta(minutes=30), timedelta(minutes=25)):
            memory = Memory(folder / "state", "gpu01", lambda _: True)
            at = datetime.now(UTC) - ago
            tick(policy, sources, memory, DryRun(), partial(_given, at))
        shutil.rmtree(HERE / "demo", ignore_errors=True)
        history = remembered(folder / "state")
        recorder = Recorder(sources, HERE / "demo")
        at = datetime.now(UTC).replace(microsecond=0)
        report = look(policy, recorder.sources, at, history)
        recorder.finish(at, history, {})
        keep_policy()
        server.stop()
        states = [container.state for container in report.snapshot.containers]
        sys.stdout.write(f"{len(states)} containers, {states.count(State.RUNNING)} running\n")
    finally:
        proxy.close()
        engine.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("a Docker engine of one's own needs root")
    main()
