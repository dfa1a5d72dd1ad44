"""`ds01-policy selftest` on a real engine: one throwaway goes the whole way, and everything else stays as it is."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from rig.age_proxy import AgeProxy
from rig.cli import Cli, Result
from rig.engine import Engine
from rig.host import script
from rig.nvidia_smi import SmiGpu, write_nvidia_smi

A, B = "GPU-aaaa", "GPU-bbbb"
PREFIX = "ds01-policy-selftest"
START = r"^/containers/[^/]+/start"
# A throwaway lives for seconds: what a test does meanwhile it does while the selftest waits for an answer of Docker's.
PATIENT = {"timeout": "60s"}


def configured(cli: Cli, url: str, **settings: Any) -> Cli:
    """Configure a host with two GPUs, the shipped rules and a ledger and audit log of its own."""
    smi = write_nvidia_smi(cli.base / "nvidia-smi", [SmiGpu(A), SmiGpu(B)])
    return cli.configure(docker=url, nvidia_smi=smi, settings={"mode": "enforce", **settings})


def facts(engine: Engine, containers: list[str]) -> dict[str, Any]:
    """Everything by which it would show that a container was touched."""
    found = {each: engine.inspect(each) for each in containers}
    return {
        each: (raw["State"], raw["RestartCount"], raw["Name"], raw["HostConfig"]["RestartPolicy"])
        for each, raw in found.items()
    }


def throwaway(engine: Engine) -> dict[str, Any]:
    """Wait for the selftest's container to run; its inspect."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for entry in engine.api("GET", "/containers/json"):
            if entry["Names"][0].startswith(f"/{PREFIX}-"):
                return engine.inspect(entry["Id"])
        time.sleep(0.05)
    raise AssertionError("no throwaway came")


def held(proxy: AgeProxy) -> threading.Event:
    """Hold a selftest, its throwaway started, until the event is set."""
    go_on = threading.Event()
    proxy.fault("POST", START, action=lambda: go_on.wait(55), when="after")
    return go_on


def images(engine: Engine) -> list[str]:
    return sorted(entry["Id"] for entry in engine.api("GET", "/images/json?all=1"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(process: subprocess.Popen[str]) -> Result:
    stdout, stderr = process.communicate(timeout=60)
    return Result(process.returncode, stdout, stderr, 0.0)


def steps(document: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["status"] for step in document["steps"]}


def test_the_whole_way_among_neighbours_that_look_like_it(engine: Engine, cli: Cli, proxy: AgeProxy) -> None:
    """Others carry its label, its name, its id for a name; they, the host's ledger and its images stay as they are."""
    host = configured(cli, proxy.url, docker=PATIENT)
    holder = engine.run(name="train", gpus=f"device={A}")
    before_it = [holder, engine.create(name="never", gpus=f"device={A}"), engine.run("--restart=always", name="always")]
    host("evaluate", "--json")  # so that there is a ledger to be left alone
    state, known = files(host.state), images(engine)
    assert {"ledger.db", "audit.jsonl"} <= state.keys()
    started = held(proxy)
    process = host.start("selftest", "--json")
    its = throwaway(engine)
    labels = its["Config"]["Labels"]
    dressed_up = [
        engine.run(name=its["Id"], labels=labels, gpus=f"device={B}"),
        engine.run(name=its["Name"][1:] + "-2", labels=labels),
        engine.create(name=f"{PREFIX}-ffffffffffff", labels=labels),
    ]
    before = facts(engine, [*before_it, *dressed_up])
    started.set()
    done = finished(process)
    assert done.rc == 0, done.stdout + done.stderr
    document = done.json
    # Nobody is logged in where tests run, so the warning reaches nobody.
    assert steps(document) == {
        "image": "ok", "start": "ok", "seen": "ok", "warn": "note", "notice": "ok", "stop": "ok", "remove": "ok",
        "epilog": "ok", "cleanup": "ok", "others": "ok",
    }  # fmt: skip
    assert (document["gpu"], document["container"]["id"]) == (B, its["Id"])
    assert facts(engine, [*before_it, *dressed_up]) == before
    assert set(engine.ids()) == {*before_it, *dressed_up}
    assert (files(host.state), images(engine)) == (state, known)
    limits = its["HostConfig"]
    assert (limits["NetworkMode"], limits["ReadonlyRootfs"], limits["CapDrop"], its["Mounts"]) == (
        "none", True, ["ALL"], [],
    )  # fmt: skip


def test_an_image_of_the_host_does_and_a_run_in_between_leaves_it_alone(
    engine: Engine, cli: Cli, proxy: AgeProxy
) -> None:
    """The timer's run, in mode enforce under the shipped rules, sees the throwaway and does nothing about it."""
    host = configured(cli, proxy.url, docker=PATIENT)
    started = held(proxy)
    process = host.start("selftest", "--image", "bb:latest", "--gpu", "0")
    its = throwaway(engine)
    between = host("evaluate", "--json")
    started.set()
    assert (between.rc, between.json["plan"], between.json["outcomes"]) == (0, [], []), between.stderr
    assert [one["id"] for one in between.json["containers"]] == [its["Id"]]
    done = finished(process)
    assert done.rc == 0, done.stdout + done.stderr
    assert its["Image"] in images(engine)
    assert "proven in " in done.stdout
    assert engine.ids() == []


@pytest.mark.parametrize(("number", "during"), [(signal.SIGTERM, "start"), (signal.SIGINT, "warn")])
def test_ended_half_way_it_leaves_nothing_behind(
    engine: Engine, cli: Cli, proxy: AgeProxy, number: signal.Signals, during: str
) -> None:
    """Neither container nor image nor temporary files; and it says that it was told to."""
    known = images(engine)
    begun = SimpleQueue[subprocess.Popen[str]]()
    if during == "start":
        proxy.fault("POST", START, when="after", action=lambda: begun.get(timeout=30).send_signal(number))
    wall = script(cli.base / "bin" / "wall", f"kill -{number:d} $PPID" if during == "warn" else "true")
    env = {"TMPDIR": str(cli.base), "PATH": f"{wall.parent}:{cli.env['PATH']}"}
    process = configured(cli, proxy.url, notify={"channels": ["wall"]}).start("selftest", env=env)
    begun.put(process)
    done = finished(process)
    assert f" {during} " in done.stdout
    assert done.rc == 1, done.stdout + done.stderr
    assert "the selftest was told to end" in " ".join(done.stdout.split())
    assert (engine.ids(), images(engine)) == ([], known)
    assert not list(cli.base.glob(f"{PREFIX}-*"))


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        (("POST", r"^/images/create", "status:403"), "image"),
        (("POST", r"^/containers/create", "lost"), "start"),
        (("POST", r"^/containers/[^/]+/start", "status:500"), "start"),
    ],
    ids=["no image", "a container whose id is lost", "no start"],
)
def test_a_docker_that_refuses_is_told_and_nothing_stays(
    engine: Engine, cli: Cli, proxy: AgeProxy, fault: tuple[str, str, str], failed: str
) -> None:
    """What Docker said, and what was made until then is gone."""
    neighbour, known = engine.run(name="train"), images(engine)
    method, path, kind = fault
    proxy.fault(method, path, kind=kind)
    done = configured(cli, proxy.url)("selftest", "--json")
    assert done.rc == 1, done.stderr
    assert [step["step"] for step in done.json["steps"] if step["status"] == "failed"] == [failed]
    assert "Docker" in next(step["what"] for step in done.json["steps"] if step["step"] == failed)
    assert (engine.ids(), images(engine)) == ([neighbour], known)


@pytest.mark.parametrize(("call", "step"), [(("POST", START, 1), "seen"), (("GET", r"^/containers/json", 3), "stop")])
def test_somebody_who_removes_it_first_is_noticed(
    engine: Engine, cli: Cli, proxy: AgeProxy, call: tuple[str, str, int], step: str
) -> None:
    """It is no proof of ours, and no reason to end anything else."""
    neighbour = engine.run(name="train", gpus=f"device={A}")
    proxy.fault(*call, action=lambda: engine.rm(throwaway(engine)["Id"]), when="after" if step == "seen" else "before")
    done = configured(cli, proxy.url, docker=PATIENT)("selftest", "--json")
    assert done.rc == 1, done.stderr
    failed = [one for one in done.json["steps"] if one["status"] == "failed"]
    assert [one["step"] for one in failed] == [step]
    # At once, not when the time is over.
    assert re.search("somebody (ended|removed) it$", failed[0]["what"]), failed
    assert engine.ids() == [neighbour]


def test_what_cannot_be_done_is_refused_before_anything_is(engine: Engine, cli: Cli, proxy: AgeProxy) -> None:
    """An image that this host lacks is not pulled; a GPU that it lacks is not asked for."""
    host = configured(cli, proxy.url)
    for options in (("--image", "nix:latest"), ("--gpu", "7")):
        done = host("selftest", *options)
        assert (done.rc, done.stdout) == (2, ""), done.stdout
        assert "nothing was done" in done.stderr
    assert not [one for one in proxy.requests if one.method not in ("GET", "HEAD")]
    assert engine.ids() == []
