"""What the program sees on a real host: every way to a GPU, every sign of an owner, every state, and hostile text."""

from __future__ import annotations

import pwd
import time
import unicodedata
from pathlib import Path
from typing import Any

from rig.age_proxy import AgeProxy
from rig.cli import REPOSITORY
from rig.engine import Engine
from rig.host import Host, outcomes, problems, rule, run_all, script
from rig.nvidia_smi import SmiGpu, SmiMig

SLICES = (SmiMig("MIG-aaaa", gpu_instance=9), SmiMig("MIG-bbbb", gpu_instance=11))
HOST = (SmiGpu("GPU-mig0", mig=SLICES), SmiGpu("GPU-bbbb"), SmiGpu("GPU-cccc"))
ALL = ["GPU-bbbb", "GPU-cccc", "GPU-mig0/9", "GPU-mig0/11"]


def shown(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["containers"] if one["name"] == name)
    return found


def gpus(document: dict[str, Any], name: str) -> list[str]:
    held = shown(document, name)["gpus"]
    return [one["uuid"] + ("" if one["gpu_instance"] is None else f"/{one['gpu_instance']}") for one in held]


def test_every_way_to_a_gpu_is_seen(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """One container for each route by which Docker hands GPUs over, and for what only looks like one."""
    cuda = engine.image("cuda:12", env={"NVIDIA_VISIBLE_DEVICES": "all"})

    def under(env: str | None = None, **options: Any) -> dict[str, Any]:
        return {"gpus": None, "runtime": "nvidia", "env": {"NVIDIA_VISIBLE_DEVICES": env} if env else {}, **options}

    routes: dict[str, tuple[dict[str, Any], str, list[str]]] = {  # name → options, route, GPUs
        "all": ({"gpus": "all"}, "--gpus", ALL),
        "the-first-two": ({"gpus": 2}, "--gpus", ["GPU-bbbb", "GPU-mig0/9", "GPU-mig0/11"]),
        "by-uuid": ({"gpus": "device=GPU-cccc"}, "--gpus", ["GPU-cccc"]),
        "by-index": ({"gpus": "device=1"}, "--gpus", ["GPU-bbbb"]),
        "by-indices": ({"gpus": "device=1,2"}, "--gpus", ["GPU-bbbb", "GPU-cccc"]),
        "by-mig-index": ({"gpus": "device=0:1"}, "--gpus", ["GPU-mig0/11"]),
        "by-mig-uuid": ({"gpus": "device=MIG-aaaa"}, "--gpus", ["GPU-mig0/9"]),
        "env-mig-uuid": (under("MIG-bbbb"), "NVIDIA_VISIBLE_DEVICES", ["GPU-mig0/11"]),
        "env-mig-index": (under("0:0"), "NVIDIA_VISIBLE_DEVICES", ["GPU-mig0/9"]),
        "env-list": (
            under("gpu-BBBB,2"),
            "NVIDIA_VISIBLE_DEVICES",
            ["GPU-bbbb", "GPU-cccc"],
        ),
        "env-void": (under("void"), "", []),
        "env-none": (under("none"), "", []),
        "baked-in": (under(image=cuda), "NVIDIA_VISIBLE_DEVICES", ALL),
        "baked-in-under-runc": ({"gpus": None, "image": cuda}, "", []),
        "plain": ({"gpus": None}, "", []),
    }
    created = {  # a machine without a GPU cannot start these
        "node": (["--device", "/dev/nvidia2"], "--device", ["GPU-cccc"]),
        "privileged": (["--privileged"], "privileged", ALL),
    }
    raw = {  # and its engine's command line cannot make these
        "cdi": ("nvidia.com/gpu=1", "--device (CDI)", ["GPU-bbbb"]),
        "cdi-mig": ("nvidia.com/gpu=0:1", "--device (CDI)", ["GPU-mig0/11"]),
    }
    run_all(engine, proxy, {name: options for name, (options, _, _) in routes.items()}, "3h")
    for name, (flags, _, _) in created.items():
        engine.create(*flags, name=name)
    for name, (device, _, _) in raw.items():
        request = {"Driver": "cdi", "Count": 0, "DeviceIDs": [device], "Capabilities": None, "Options": {}}
        engine.create_raw({"HostConfig": {"NetworkMode": "none", "DeviceRequests": [request]}}, name=name)

    told = host(mode="observe", gpus=HOST)("preview", "--json", "--all")
    assert told.rc == 0, told.stderr
    expected = {name: (way, held) for name, (_, way, held) in [*routes.items(), *created.items(), *raw.items()]}
    assert {name: (shown(told.json, name)["gpus_via"], gpus(told.json, name)) for name in expected} == expected
    assert {one["name"] for one in told.json["containers"] if one["rules"]} == {
        name for name, (way, _) in expected.items() if way
    }
    assert {one["gpus_unclear"] for one in told.json["containers"]} == {None}
    assert told.json["demand"] == {"gpus": 4, "held": 4, "high": True}


def test_type_and_owner_are_found_and_forged_signs_are_reported(
    engine: Engine, proxy: AgeProxy, host: Host, tmp_path: Path
) -> None:
    """Labels, names, mounts and processes tell whose a container is; what anybody can claim is not believed alone."""
    somebody = pwd.getpwuid(1).pw_name
    home = tmp_path / "homes"
    (home / "erin").mkdir(parents=True)
    engine.image("prom/exporter:v1")
    engine.image("registry.example/prom/exporter:v1")
    mount = ["--volume", f"{home}/erin:/data"]
    monitoring = {"ds01.monitoring": "true"}
    cases: dict[str, tuple[dict[str, Any], tuple[str, str, bool, bool]]] = {  # → type, owner, proven, infrastructure
        "labelled": (
            {"labels": {"ds01.user": "bob", "ds01.container_type": "native"}},
            ("native", "bob", False, False),
        ),
        "composed": ({"labels": {"com.docker.compose.project": "web"}}, ("compose", "unknown", False, False)),
        "edited": (
            {"labels": {"devcontainer.local_folder": f"{home}/carol/x"}},
            ("devcontainer", "carol", False, False),
        ),
        "mlc": ({"labels": {"aime.mlc.USER": "dave"}}, ("native", "dave", False, False)),
        "train._.1": ({}, ("native", somebody, False, False)),
        "mounted": ({"flags": mount}, ("docker", "erin", True, False)),
        "as-user-1": ({"flags": ["--user", "1"]}, ("docker", somebody, False, False)),
        "nobodys": ({}, ("docker", "unknown", False, False)),
        "says-prof": ({"flags": mount, "labels": {"ds01.user": "prof"}}, ("docker", "erin", True, False)),
        "says-root": ({"labels": {"ds01.user": "root", **monitoring}}, ("docker", "root", False, False)),
        "grafana": ({"labels": {"ds01.protected": "true"}}, ("docker", "unknown", False, False)),
        "exporter": ({"image": "prom/exporter:v1"}, ("docker", "unknown", False, True)),
        "not-that-exporter": ({"image": "registry.example/prom/exporter:v1"}, ("docker", "unknown", False, False)),
    }
    run_all(engine, proxy, {name: options for name, (options, _) in cases.items()}, "3h")
    identity = (REPOSITORY / "config/identity.yaml").read_text().replace("[/home]", f"[{home}]")
    told = host(rules=None, files={"identity.yaml": identity})("preview", "--json")
    assert told.rc == 0, told.stderr
    assert {
        one["name"]: (one["type"], one["owner"], one["owner_proven"], one["infrastructure"])
        for one in told.json["containers"]
    } == {name: expected for name, (_, expected) in cases.items()}
    assert {one["verdict"] for one in shown(told.json, "exporter")["rules"]} == {"exempt"}
    reported = [one["detail"] for one in told.json["problems"] if one["code"] == "untrusted_claim"]
    assert sorted(detail.split("'")[1] for detail in reported) == ["grafana", "says-root"]
    assert "label ds01.user=prof, but mount" in problems(told.json)["owner_conflict"]


STATES = """\
version: 1
rules:
  - id: up
    summary: Has run for too long, or waits, paused or failing.
    match: {state: [running, paused, restarting], gpu: true}
    for: 1h
    then: [stop, remove]
  - id: down
    summary: Does nothing.
    match: {state: [created, exited, dead], gpu: true}
    for: 1h
    then: [remove]
"""


def test_every_state_has_an_answer(engine: Engine, proxy: AgeProxy, host: Host) -> None:
    """Created, paused, ended, dead and crash-looping containers, and one that is restarted to look young."""
    looping = engine.run("--restart=always", gpus="all", name="looping", command=("false",))
    created = engine.create(gpus="all", name="created")
    proxy.age(created, created="2h")
    names: dict[str, dict[str, Any]] = {"paused": {}, "exited": {}, "dead": {}, "restarted": {}}
    ids = dict(zip(names, run_all(engine, proxy, names, "100h"), strict=True))
    engine.cli("pause", ids["paused"])
    engine.cli("stop", "-t", "0", ids["exited"], ids["dead"])
    for name in ("exited", "dead"):
        proxy.age(ids[name], started="5h", finished="2h")
    proxy.edit(ids["dead"], lambda answer: answer["State"].update(Status="dead", Dead=True))

    shipped = host(mode="observe", rules=None)
    first = shipped("evaluate", "--json")
    assert first.rc == 0, first.stderr
    answers = {name: {one["rule"]: one["verdict"] for one in shown(first.json, name)["rules"]} for name in names}
    assert answers == {
        "paused": {"idle-gpu": "unknown", "max-runtime": "act"},
        "exited": {"stopped-retention": "act"},
        "dead": {"stopped-retention": "act"},
        "restarted": {"idle-gpu": "unknown", "max-runtime": "act"},
    }
    assert rule(first.json, "created", "created-never-started")["verdict"] == "act"

    engine.cli("restart", "-t", "0", ids["restarted"])
    # Between two attempts Docker waits, each time twice as long: soon the program meets it while it waits.
    deadline = time.monotonic() + 60
    while True:
        second = shipped("preview", "--json")
        if shown(second.json, "looping")["state"] == "restarting" or time.monotonic() > deadline:
            break
    assert shown(second.json, "looping")["state"] == "restarting"
    assert rule(second.json, "looping", "max-runtime")["verdict"] == "clear"
    again = rule(second.json, "restarted", "max-runtime")
    assert (again["verdict"], "through restarts" in again["why"]) == ("act", True), again

    acting = host(rules=STATES)("evaluate", "--json")
    assert acting.rc == 0, acting.stdout
    ended = {"paused": "stop done, remove done", "restarted": "stop done, remove done"}
    assert outcomes(acting.json) == ended | dict.fromkeys(["created", "exited", "dead"], "remove done")
    assert engine.ids() == [looping]


HOSTILE = "x\x1b[2J\x07\nidle  act\r\u202egpj.exe\u2066\u2028\x9b31m {{ 7*7 }} {% raw %} \"'`$(id)`;|"


def unsafe(text: str) -> set[str]:
    """Find what may move a cursor, hide or reorder text."""
    return {one for one in text if one != "\n" and unicodedata.category(one) in {"Cc", "Cf", "Zl", "Zp", "Co", "Cs"}}


def test_hostile_text_reaches_no_terminal(engine: Engine, proxy: AgeProxy, host: Host, tmp_path: Path) -> None:
    """Escape sequences, newlines and bidi marks in labels, variables and images are shown as escapes, never sent."""
    labels = ["ds01.user", "ds01.container_type", "aime.mlc.USER", "com.docker.compose.project", "k\x1b[2J\u202e"]
    claims = {"devcontainer.local_folder": f"/home/{HOSTILE}/x", "ds01.protected": "true"}
    options = {"labels": dict.fromkeys(labels, HOSTILE) | claims, "gpus": None, "runtime": "nvidia"}
    env = {"NVIDIA_VISIBLE_DEVICES": HOSTILE}
    names: dict[str, dict[str, Any]] = {
        "victim": options | {"env": env},
        "claimer": options | {"labels": {"ds01.user": "bob", "ds01.protected": "true"}, "gpus": "all", "runtime": None},
    }
    ids = run_all(engine, proxy, names, "100h")

    def edit(answer: dict[str, Any]) -> None:
        answer["Config"]["Image"] = HOSTILE
        answer["Mounts"].append({"Type": "bind", "Source": f"/home/{HOSTILE}", "Destination": f"/{HOSTILE}"})

    for container in ids:
        proxy.edit(container, edit)
    wall = script(tmp_path / "bin" / "wall", f"cat >> {tmp_path}/messages")
    host_cli = host(rules=None, notify={"channels": ["wall"], "timeout": "60s"})
    env_with_wall = {"PATH": f"{wall.parent}:{host_cli.env['PATH']}"}
    runs = {
        command: host_cli(*command, env=env_with_wall)
        for command in (
            ("preview", "--all"),
            ("explain", "victim"),
            ("explain", "claimer"),
            ("evaluate",),
            ("audit",),
            ("explain", HOSTILE),
            ("preview", "--json"),
            ("explain", "victim", "--json"),
        )
    }
    assert {command: (unsafe(run.stdout), unsafe(run.stderr)) for command, run in runs.items()} == dict.fromkeys(
        runs, (set(), set())
    )
    assert [run.rc for run in runs.values()] == [0, 0, 0, 0, 0, 2, 0, 0]
    assert r"x\x1b[2J" in runs["explain", "victim"].stdout
    seen = shown(runs["preview", "--json"].json, "victim")
    assert (seen["owner"], seen["image"]) == ("unknown", HOSTILE)
    assert "is no user name" in problems(runs["preview", "--json"].json)["owner_ignored"]
    assert runs["explain", "victim", "--json"].json["container"]["name"] == "victim"
    messages = (tmp_path / "messages").read_text()
    assert "bob, your container claimer (" in messages
    assert messages.count(r"/home/x\x1b[2J") == 2, "where the data of each stays"
    assert unsafe(messages) == set()
