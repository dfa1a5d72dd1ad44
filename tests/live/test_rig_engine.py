"""The rig's Docker engine: what the other live tests stand on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rig.engine import OBEDIENT, Engine
from rig.unix_http import call
from rig.waiting import until

GPU = "GPU-6a1f3c52-0000-4000-8000-000000000001"
MIG = "MIG-1c2d4e6f-0000-5000-8000-000000000001"


def request(driver: str = "", count: int = 0, ids: list[str] | None = None) -> dict[str, Any]:
    return {"Driver": driver, "Count": count, "DeviceIDs": ids, "Capabilities": [["gpu"]], "Options": {}}


@pytest.mark.parametrize(
    ("flags", "options", "expected"),
    [
        pytest.param([], {"gpus": "all"}, {"DeviceRequests": [request(count=-1)]}, id="--gpus all"),
        pytest.param([], {"gpus": 2}, {"DeviceRequests": [request(count=2)]}, id="--gpus 2"),
        pytest.param([], {"gpus": f"device={GPU}"}, {"DeviceRequests": [request(ids=[GPU])]}, id="one GPU by UUID"),
        pytest.param([], {"gpus": "device=0,1"}, {"DeviceRequests": [request(ids=["0", "1"])]}, id="two by index"),
        pytest.param([], {"gpus": "device=0:1"}, {"DeviceRequests": [request(ids=["0:1"])]}, id="a slice by index"),
        pytest.param([], {"gpus": f"device={MIG}"}, {"DeviceRequests": [request(ids=[MIG])]}, id="a slice by UUID"),
        pytest.param(
            [], {"runtime": "nvidia", "env": {"NVIDIA_VISIBLE_DEVICES": MIG}}, {"Runtime": "nvidia"}, id="runtime"
        ),
        pytest.param([], {}, {"DeviceRequests": None, "Runtime": "runc"}, id="no GPU at all"),
    ],
)
def test_gpu_routes_run(engine: Engine, flags: list[str], options: dict[str, Any], expected: dict[str, Any]) -> None:
    """A container of every GPU route runs without a GPU and inspects as on a host that has one."""
    container = engine.run(*flags, **options)
    inspected = engine.inspect(container)
    assert inspected["State"]["Status"] == "running"
    assert {key: inspected["HostConfig"][key] for key in expected} == expected
    for key, value in options.get("env", {}).items():
        assert f"{key}={value}" in inspected["Config"]["Env"]


def test_device_route_runs(engine: Engine) -> None:
    """A device file handed in by --device shows in HostConfig.Devices."""
    container = engine.run("--device", "/dev/null:/dev/nvidia0")
    assert engine.inspect(container)["HostConfig"]["Devices"][0]["PathInContainer"] == "/dev/nvidia0"


def test_privileged_route_is_created(engine: Engine) -> None:
    """A privileged container is created; to start one takes capabilities that a build machine may lack."""
    container = engine.create("--privileged")
    assert engine.inspect(container)["HostConfig"]["Privileged"] is True


def test_cdi_route_is_created(engine: Engine) -> None:
    """A CDI request, which an old command line can't make, is created from raw JSON."""
    devices = [request("cdi", ids=["nvidia.com/gpu=0"]) | {"Capabilities": None}]
    container = engine.create_raw({"HostConfig": {"NetworkMode": "none", "DeviceRequests": devices}}, name="cdi")
    assert engine.inspect(container)["HostConfig"]["DeviceRequests"] == devices
    assert engine.state(container) == "created"


def test_images_carry_variables_and_labels(engine: Engine) -> None:
    """An image of our own bakes in variables and labels, as CUDA and devcontainer images do."""
    baked = {"devcontainer.metadata": '[{"a": "b c"}]'}
    image = engine.image("cuda:12", env={"NVIDIA_VISIBLE_DEVICES": "all"}, labels=baked)
    config = engine.inspect(engine.run(image=image, labels={"own": "x y"}))["Config"]
    assert "NVIDIA_VISIBLE_DEVICES=all" in config["Env"]
    assert config["Labels"] == baked | {"own": "x y"}


def test_a_host_path_is_seen_through_the_archive(engine: Engine) -> None:
    """A file in a container is stat'ed through the engine, with nothing executed."""
    container = engine.run()
    target = f"/containers/{container}/archive?path=/workspace/.keep-alive"
    assert call(engine.socket, "HEAD", target)[0] == 404
    engine.exec(container, "touch", "/workspace/.keep-alive")
    assert call(engine.socket, "HEAD", target)[0] == 200


@pytest.mark.parametrize("flags", [["--restart=always"], ["--rm"], ["--volume", "/data"]])
def test_cleaning_up_meets_every_kind(engine: Engine, flags: list[str]) -> None:
    """Containers that come back, remove themselves or have volumes, are paused or unstarted, all go."""
    paused = engine.run(*flags)
    engine.cli("pause", paused)
    engine.run(*flags)
    engine.create(*flags)
    engine.clean()
    assert engine.ids() == []
    assert engine.cli("volume", "ls", "--quiet") == ""


def test_the_engine_restarts_on_its_data(engine: Engine) -> None:
    """Through a restart of dockerd a container that always restarts comes back, another one does not."""
    always, plain = engine.run("--restart=always", command=OBEDIENT), engine.run(command=OBEDIENT)
    engine.down()
    until(lambda: not engine.processes(), "the engine's processes go on")
    engine.up()
    assert (engine.state(always), engine.state(plain)) == ("running", "exited")


def test_an_engine_leaves_nothing(docker_engine: Engine) -> None:
    """Stopped with a container running, an engine leaves no process, no mount and no file; another one runs on."""
    own = Engine.start()
    pid = own.inspect(own.run())["State"]["Pid"]
    own.stop()
    assert own.processes() == []
    assert own.mounts() == []
    assert not own.base.exists()
    assert not Path(f"/proc/{pid}").exists()
    assert docker_engine.ids() == []
