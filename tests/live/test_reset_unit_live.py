"""A reset in two processes on a real engine: found by one that may not, done by one that may, for what it sees now."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rig import parts
from rig.cli import Cli
from rig.engine import Engine
from rig.host import LIMITS, OVERTIME, script
from rig.nvml import FIRST, SECOND, Nvml

WELL = "recovery=0 display=0 fabric=0"
BAD = f"recovery=1@0 {WELL}"


@pytest.fixture
def nvml(tmp_path: Path) -> Nvml:
    return Nvml.build(tmp_path / "nvml")


@pytest.fixture
def host(cli: Cli, engine: Engine, nvml: Nvml) -> Cli:
    """Configure a host that acts and whose driver's library answers; a reset makes its GPUs well."""
    smi = script(
        cli.base / "nvidia-smi",
        f'echo "$*" >> {cli.base}/calls; case "$1" in --gpu-reset) echo "{WELL}" > {nvml.health} ;; *) exit 2 ;; esac',
    )
    nvml.health.write_text(WELL)
    cli.env |= nvml.environment
    return cli.configure(
        docker=f"unix://{engine.socket}",
        nvidia_smi=smi,
        settings={"mode": "enforce", "notify": {"channels": []}, "gpu": {"nvml": "auto"}},
        files={"rules/rules.yaml": OVERTIME, "limits.yaml": LIMITS},
    )


def resets(host: Cli) -> list[str]:
    """List what the scripted command was asked to do."""
    log = host.base / "calls"
    return log.read_text().splitlines() if log.exists() else []


def run(host: Cli, *args: str, admin: bool) -> tuple[int, str]:
    """Run it as root with CAP_SYS_ADMIN or, as the hardened units do, without; give its exit code and what it said.

    Among processes of its own: where the machine's first one is hidden from root, who has a GPU open is not known,
    and nothing is ever reset.
    """
    alone = [parts.command("unshare", "util-linux"), "--pid", "--fork", "--mount-proc"]
    bounded = [] if admin else [parts.command("setpriv", "util-linux"), "--bounding-set=-sys_admin"]
    program = [sys.executable, "-m", "ds01_policy", "--config", str(host.config), *args]
    done = subprocess.run(
        [*alone, *bounded, *program],
        capture_output=True, text=True, timeout=60, env=host.env, cwd=host.base, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


def unfit(document: str) -> list[str]:
    """Pick what is said of unfit GPUs."""
    told: dict[str, Any] = json.loads(document)
    return [one["detail"] for one in told["problems"] if one["code"] == "unfit_gpu"]


def waiting(host: Cli) -> list[str]:
    """List the GPUs whose reset is asked for."""
    return [one.name for one in (host.state / "resets").glob("*")]


def gone_bad(host: Cli, engine: Engine, nvml: Nvml) -> None:
    """Let a container that a tick saw on the first GPU go, and leave it bad."""
    container = engine.run(name="train", gpus=f"device={FIRST}")
    assert run(host, "evaluate", "--json", "--mode", "observe", admin=True)[0] == 0
    engine.rm(container)
    nvml.health.write_text(BAD)


def handed(host: Cli, engine: Engine, nvml: Nvml) -> str:
    """Have a tick without the capability find the GPU bad. Gives what it said."""
    gone_bad(host, engine, nvml)
    code, said = run(host, "evaluate", "--json", admin=False)
    (problem,) = unfit(said)
    assert (code, resets(host), waiting(host)) == (0, [], [FIRST]), problem
    return problem


def test_what_one_may_not_the_other_does(engine: Engine, host: Cli, nvml: Nvml) -> None:
    """The tick finds it bad, asks every gate and hands it over; the unit's command resets it, and it is fit again."""
    problem = handed(host, engine, nvml)
    assert "the driver asks for `reset`: reset it, or reboot; handed to ds01-policy-reset.service" in problem
    found = "ok: the driver asks for `reset`: reset it, or reboot; was reset; now: nobody on it"
    assert run(host, "reset-gpus", admin=True) == (0, f"{FIRST}: {found}\n")
    assert (resets(host), waiting(host)) == ([f"--gpu-reset -i {FIRST}"], [])
    assert unfit(host("preview", "--json").stdout) == []
    lines = [json.loads(line) for line in (host.state / "audit.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["by"], line["name"]) for line in lines if line["action"] == "epilog"] == [
        ("intent", "evaluate", "train"), ("outcome", "evaluate", "train"),
        ("intent", "reset-gpus", "train"), ("outcome", "reset-gpus", "train"),
    ]  # fmt: skip


def test_somebody_who_came_meanwhile_keeps_the_gpu(engine: Engine, host: Cli, nvml: Nvml) -> None:
    """Between the two a container was given it: it is not reset, is not tried again, and says why."""
    handed(host, engine, nvml)
    engine.run(name="newcomer", gpus=f"device={FIRST}")
    engine.run(name="neighbour", gpus=f"device={SECOND}")
    code, said = run(host, "reset-gpus", admin=True)
    assert (code, resets(host), waiting(host)) == (1, [], [])
    assert "containers that may use it: newcomer; remove them first" in said
    (problem,) = unfit(host("preview", "--json").stdout)
    assert "not reset: containers that may use it: newcomer; remove them first" in problem


def test_a_process_that_may_resets_at_once(engine: Engine, host: Cli, nvml: Nvml) -> None:
    """By hand or under a timer of one's own, as root: nobody is asked."""
    gone_bad(host, engine, nvml)
    code, said = run(host, "epilog", "--container", "train", admin=True)
    assert (code, resets(host), waiting(host)) == (0, [f"--gpu-reset -i {FIRST}"], []), said
    assert "was reset; now: nobody on it" in said
