"""A recording of a real engine and a real Prometheus: what was found is found again, with names and without."""

from __future__ import annotations

import shutil
import time
from typing import Any

import pytest
from rig.age_proxy import AgeProxy
from rig.cli import Cli
from rig.engine import Engine
from rig.history import History
from rig.host import Host, plan

IDENTITY = """\
version: 1
owners: [{via: label, label: ds01.user}, {via: mounts, homes: [/home]}, {via: process}]
types: [{type: compose, match: {name: 'lab-*'}}, {type: docker}]
infrastructure: {labels: [ds01.monitoring=true], trusted: {images: ['*/dcgm-exporter'], names: []}}
"""


@pytest.fixture
def busy_and_idle(engine: Engine, proxy: AgeProxy, host: Host, now: float) -> Cli:
    """One works, one is idle, one is kept, one has ended; by now all of them were seen once."""
    ids = {
        name: engine.run(gpus=f'"device={gpu}"', name=name, labels={"ds01.user": user, "note": "https://u:hunter2@x"})
        for name, gpu, user in (
            ("lab-idle-zeta", "GPU-aaaa", "xanthippe"),
            ("busy-omega", "GPU-bbbb", "yorick"),
            ("kept-psi", "GPU-cccc", "xanthippe"),
            ("ended-chi", "GPU-dddd", "yorick"),
        )
    }
    for container in ids.values():
        proxy.age(container, started="3h")
    engine.cli("exec", ids["kept-psi"], "mkdir", "-p", "/workspace")
    engine.cli("exec", ids["kept-psi"], "touch", "/workspace/.keep-alive")
    engine.cli("stop", "-t", "0", ids["ended-chi"])
    proxy.age(ids["ended-chi"], started="3h", finished="1h")
    history = History(now, span="3h")
    for gpu, work in (("GPU-aaaa", 0), ("GPU-bbbb", 91), ("GPU-cccc", 0)):
        history.gpu(gpu, work)
    for name, container in ids.items():
        history.cpu(container, 0.7 if name.startswith("busy") else 0.0)
    cli = host(history, mode="observe", files={"identity.yaml": IDENTITY})
    assert cli("evaluate").rc == 0
    # Its notice is a second: what is recorded now and a moment later is the same only once that is over.
    until = time.monotonic() + 30
    while "notice" in plan(cli("preview", "--json").json).values():
        assert time.monotonic() < until, "the notice never ends"
    return cli


def test_a_recording_of_a_real_host_replays_to_the_same_plan_and_evidence(
    busy_and_idle: Cli, engine: Engine, proxy: AgeProxy
) -> None:
    """With its policy, after host, ledger and configuration are gone; to the byte of what `record` found."""
    cli = busy_and_idle
    recording = cli.base / "recording"
    made = cli("record", str(recording))
    assert (made.rc, made.stderr) == (0, ""), made.stderr
    live = cli("preview", "--json").json
    engine.clean()
    calls = len(proxy.requests)
    shutil.rmtree(cli.state)
    shutil.rmtree(cli.config)
    replayed = cli("--config", str(recording / "policy"), "--replay", str(recording), "preview", "--json")
    assert (replayed.rc, replayed.stderr) == (0, "")
    assert replayed.stdout == (recording / "expected.json").read_text()
    assert len(proxy.requests) == calls
    verdicts = {one["name"]: [rule["verdict"] for rule in one["rules"]] for one in replayed.json["containers"]}
    assert verdicts == {
        "busy-omega": ["clear"], "ended-chi": ["act"], "kept-psi": ["exempt"], "lab-idle-zeta": ["act"],
    }  # fmt: skip
    # The bytes above are what `record` itself found; a moment later the same was due on the host.
    due = [[(one["name"], one["rule"], one["actions"]) for one in each["plan"]] for each in (live, replayed.json)]
    assert due[0] == due[1] != []
    assert live["policy"] == replayed.json["policy"]
    assert "hunter2" not in "".join(path.read_text() for path in recording.rglob("*") if path.is_file())


def test_without_names_the_same_is_decided_and_none_is_left(busy_and_idle: Cli) -> None:
    """Users, containers, images, GPUs and the host have other names; the plan has the same bones."""
    cli = busy_and_idle
    plain, hidden = cli.base / "plain", cli.base / "hidden"
    assert cli("record", str(plain)).rc == 0
    made = cli("record", str(hidden), "--anonymise")
    assert (made.rc, made.stderr) == (0, ""), made.stderr
    before, after = (
        cli("--config", str(each / "policy"), "--replay", str(each), "preview", "--json").json
        for each in (plain, hidden)
    )
    assert [bones(one) for one in after["plan"]] == [bones(one) for one in before["plan"]]
    assert len(after["plan"]) > 1
    assert {one["name"] for one in after["containers"]} == {f"container-{number}" for number in (1, 2, 3, 4)}
    text = "".join(f"{path}{path.read_text()}" for path in hidden.rglob("*") if path.is_file())
    names = ["zeta", "omega", "psi", "chi", "xanthippe", "yorick", "hunter2", "GPU-aaaa", "GPU-bbbb", before["host"]]
    names += [one["id"][:12] for one in before["containers"]]
    assert [name for name in names if name in text.replace(str(hidden), "")] == []


def bones(decision: dict[str, Any]) -> list[Any]:
    """Give what a decision says without names and ids."""
    return [decision[key] for key in ("rule", "actions", "mode", "disposition", "held_by")]
