"""What speaks against a reset, each gate by itself, and the reset: looked twice, persistence mode as it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from epilog_world import MINE, OTHER, A, B, FakeDriver, FakeEngine, FakeTasks, FakeTime, gpu, raw

from ds01_policy.act.epilog.gates import Scene, against
from ds01_policy.act.epilog.ports import Deadline
from ds01_policy.act.epilog.reset import Resetting, users_of
from ds01_policy.model import Gpu, GpuProcess, GpuStatus, MigDevice

OPEN = Scene(gpu(), "nvml", 2, (), ())
SXM = "NVIDIA A100-SXM4-80GB"


def test_with_every_gate_open_nothing_speaks_against_it() -> None:
    """The row that all others differ from in one thing."""
    assert against(OPEN) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"status": None}, "does not tell of it", id="not told of"),
        pytest.param({"via": "nvidia-smi"}, "NVML does not answer", id="the library does not answer"),
        pytest.param({"mig_current": True}, "MIG mode is on or about to be", id="MIG is on"),
        pytest.param({"mig_pending": True}, "MIG mode is on or about to be", id="MIG is about to be on"),
        pytest.param({"mig_current": None}, "whether MIG mode is on is not told", id="MIG is not told"),
        pytest.param({"mig_pending": None}, "whether MIG mode is on is not told", id="pending MIG is not told"),
        pytest.param({"minor": None}, "which device it is", id="no device number"),
        pytest.param({"persistence_mode": None}, "whether persistence mode is on", id="persistence mode is not told"),
        pytest.param({"display_active": True}, "a display is on it", id="a display"),
        pytest.param({"display_active": None}, "whether a display is on it", id="a display is not told"),
        pytest.param({"processes": None}, "who is on it is not told", id="no list of processes"),
        pytest.param({"processes": (GpuProcess(7, "C", "", None),)}, "1 on it by the driver's list", id="a process"),
        pytest.param({"containers": None}, "which containers may use it is not known", id="Docker does not answer"),
        pytest.param({"containers": ("train",)}, "containers that may use it: train; remove", id="a container"),
        pytest.param({"containers": ("a", "b", "c", "d", "e")}, "a, b, c and 2 more", id="many containers"),
        pytest.param({"open_by": None}, "who has its device open is not known", id="open files are hidden"),
        pytest.param({"open_by": ("Xorg (pid 7)",)}, "its device is open in Xorg (pid 7)", id="its device is open"),
        pytest.param({"nvlink": "active"}, "NVLink connects it", id="NVLink peers"),
        pytest.param({"nvlink": "active", "gpus": 1}, "NVLink connects it", id="NVLink peers outside this host"),
        pytest.param({"fabric": True}, "NVLink connects it", id="an NVSwitch fabric"),
        pytest.param({"fabric": True, "gpus": 1}, "NVLink connects it", id="a fabric, one GPU"),
        pytest.param({"nvlink": ""}, "whether NVLink connects it", id="NVLink is not told"),
        pytest.param({"nvlink": "idle", "fabric": None}, "whether NVLink connects it", id="a fabric is not told"),
        pytest.param({"nvlink": "idle", "name": SXM}, "whether NVLink connects it", id="an NVSwitch board, no link up"),
    ],
)
def test_one_gate_is_enough(change: dict[str, Any], words: str) -> None:
    """Each alone speaks against it, and says what to do or what is not known."""
    scene = {name: value for name, value in change.items() if name in Scene.__slots__}
    status = {name: value for name, value in change.items() if name not in scene}
    found = against(replace(OPEN, **{"status": gpu(**status), **scene}))
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"nvlink": "", "gpus": 1}, id="the only GPU, and NVLink not told"),
        pytest.param({"nvlink": "idle", "fabric": None, "gpus": 1}, id="the only GPU, a fabric not told"),
        pytest.param({"nvlink": "idle"}, id="ports, nothing connected, and no board for NVSwitch"),
        pytest.param({"persistence_mode": True}, id="persistence mode, which is switched off for it"),
        pytest.param({"recovery_action": "reset"}, id="a recovery action"),
    ],
)
def test_what_does_not_speak_against_it(change: dict[str, Any]) -> None:
    """Gates that would never open help nobody."""
    scene = {name: value for name, value in change.items() if name in Scene.__slots__}
    status = {name: value for name, value in change.items() if name not in scene}
    assert against(replace(OPEN, status=gpu(**status), **scene)) == ()


@pytest.mark.parametrize(
    ("containers", "users"),
    [
        pytest.param([raw(OTHER)], (), id="without a GPU"),
        pytest.param(
            [raw(OTHER, DeviceRequests=[{"DeviceIDs": [A], "Capabilities": [["gpu"]]}])], ("nb2b2b2",), id="it"
        ),
        pytest.param(
            [raw(OTHER, DeviceRequests=[{"DeviceIDs": [B], "Capabilities": [["gpu"]]}])], (), id="another one"
        ),
        pytest.param([raw(OTHER, DeviceRequests=[{"Count": -1, "Capabilities": [["gpu"]]}])], ("nb2b2b2",), id="all"),
        pytest.param(
            [raw(OTHER, DeviceRequests=[{"DeviceIDs": ["0"], "Capabilities": [["gpu"]]}])], ("nb2b2b2",), id="by index"
        ),
        pytest.param([raw(OTHER, Privileged=True)], ("nb2b2b2",), id="privileged"),
        pytest.param([raw(OTHER, DeviceRequests="?")], ("nb2b2b2",), id="not understood"),
        *[
            pytest.param(
                [raw(OTHER, state, DeviceRequests=[{"Count": -1, "Capabilities": [["gpu"]]}])], ("nb2b2b2",), id=state
            )
            for state in ("created", "exited", "dead", "paused", "restarting", "removing")
        ],
    ],
)
def test_who_may_use_a_gpu(containers: list[dict[str, Any]], users: tuple[str, ...]) -> None:
    """In whatever state: an exited container is started again in a moment."""
    assert users_of(A, containers, (Gpu(A, 0, minor=0), Gpu(B, 1, minor=1))) == users


def test_a_container_on_one_instance_of_it_may_use_it() -> None:
    """Whoever has a part of it has it."""
    mig = Gpu(A, 0, mig_enabled=True, mig_devices=(MigDevice("MIG-1", 0, 7, 0),))
    its = raw(OTHER, DeviceRequests=[{"DeviceIDs": ["MIG-1"], "Capabilities": [["gpu"]]}])
    assert users_of(A, [its], (mig,)) == ("nb2b2b2",)


# ── the reset ────────────────────────────────────────────────────────────────────────────────────────────────────────


def reset(
    driver: FakeDriver, *, tasks: FakeTasks | None = None, seconds: float = 20, **engine: Any
) -> tuple[bool, str]:
    time = FakeTime()
    deadline = Deadline(time.clock(), time.at + seconds)
    return Resetting(driver, FakeEngine(**engine), tasks or FakeTasks(), deadline).attempt(A)


def changed(driver: FakeDriver) -> list[str]:
    return [call for call in driver.calls if call != "look"]


def test_a_gpu_is_reset_by_its_uuid_after_three_looks() -> None:
    """Twice some seconds apart, and once right before."""
    driver = FakeDriver([[gpu()]])
    assert reset(driver) == (True, "was reset")
    assert driver.calls == ["look", "look", "look", "reset GPU-a"]


def test_persistence_mode_goes_off_before_and_on_again_after() -> None:
    """It would hold the GPU open."""
    driver = FakeDriver([[gpu(persistence_mode=True)]])
    assert reset(driver) == (True, "was reset")
    assert changed(driver) == ["persist off GPU-a", "reset GPU-a", "persist on GPU-a"]


@pytest.mark.parametrize(
    ("refuses", "calls", "words"),
    [
        pytest.param(
            {"reset": "In use by another client"},
            ["persist off GPU-a", "reset GPU-a", "persist on GPU-a"],
            "the reset failed: In use by another client",
            id="the reset is refused",
        ),
        pytest.param(
            {"persist off": "not permitted"},
            ["persist off GPU-a", "persist on GPU-a"],
            "not reset: persistence mode, which holds it open, cannot be switched off: not permitted",
            id="persistence mode stays on",
        ),
        pytest.param(
            {"reset": "it hangs", "persist on": "it hangs"},
            ["persist off GPU-a", "reset GPU-a", "persist on GPU-a"],
            f"the reset failed: it hangs; switch persistence mode on again: `nvidia-smi -pm 1 -i {A}` (it hangs)",
            id="nothing works any more",
        ),
    ],
)
def test_persistence_mode_is_put_back_whatever_happens(refuses: dict[str, str], calls: list[str], words: str) -> None:
    """Or the admin is told how."""
    driver = FakeDriver([[gpu(persistence_mode=True)]], refuses=refuses)
    assert reset(driver) == (False, words)
    assert changed(driver) == calls


def test_a_gate_that_closes_between_the_looks_is_seen() -> None:
    """Somebody may come at any moment."""
    for turn in range(3):
        driver = FakeDriver([*[[gpu()]] * turn, [gpu(A, 7)]])
        done, words = reset(driver)
        assert (done, changed(driver)) == (False, [])
        assert "1 on it by the driver's list" in words


def test_the_daemon_of_persistence_mode_may_have_it_open_until_it_is_off() -> None:
    """Then nobody may."""
    tasks = FakeTasks({7: 1}, {7: {"command": "nvidia-persiste"}}, open_by={0: (7,)})
    driver = FakeDriver([[gpu(persistence_mode=True)]])
    done, words = reset(driver, tasks=tasks)
    assert (done, changed(driver)) == (False, ["persist off GPU-a", "persist on GPU-a"])
    assert "its device is open in nvidia-persiste (pid 7)" in words


def test_the_daemon_lets_go_once_it_is_off() -> None:
    """The usual course on a host that runs it."""
    tasks = FakeTasks({7: 1}, {7: {"command": "nvidia-persiste"}}, open_by={0: (7,)})
    on, off = gpu(persistence_mode=True), gpu(persistence_mode=False)

    class LetsGo(FakeDriver):
        def persist(self, uuid: str, within: timedelta, *, on: bool) -> None:
            tasks.open_by.clear()
            super().persist(uuid, within, on=on)

    driver = LetsGo([[on], [on], [off]])
    assert reset(driver, tasks=tasks) == (True, "was reset")
    assert changed(driver) == ["persist off GPU-a", "reset GPU-a", "persist on GPU-a"]


@pytest.mark.parametrize("seconds", [1, 5, 7])
def test_without_time_nothing_is_begun(seconds: float) -> None:
    """A reset that is cut short is worse than none."""
    driver = FakeDriver([[gpu()]])
    done, words = reset(driver, seconds=seconds)
    assert (done, changed(driver)) == (False, [])
    assert "no time left" in words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(
            {"broken": "Docker did not answer"}, "which containers may use it is not known: Docker", id="Docker"
        ),
        pytest.param({"there": {MINE: raw(MINE, "exited", Privileged=True)}}, "may use it: na1a1a1", id="a container"),
        pytest.param({"tasks": FakeTasks(holders_hidden="no root")}, "open is not known: no root", id="hidden files"),
        pytest.param(
            {"tasks": FakeTasks({7: 1}, {7: {"command": "Xorg"}}, open_by={0: (7,)})},
            "open in Xorg (pid 7)",
            id="open files",
        ),
    ],
)
def test_what_is_found_out_beside_the_driver(options: dict[str, Any], words: str) -> None:
    """From Docker and from the kernel, anew each time."""
    driver = FakeDriver([[gpu()]])
    done, told = reset(driver, **options)
    assert (done, changed(driver)) == (False, [])
    assert words in told


def test_a_driver_that_lists_no_gpus_speaks_against_it() -> None:
    """Which containers may use it is then not known."""
    driver = FakeDriver([[gpu()]], refuses={"gpus": "NVML did not answer"})
    assert "which containers may use it is not known: NVML" in reset(driver)[1]


@pytest.mark.parametrize("looks", [["it hangs"], [[]], [[gpu(B)]]])
def test_a_gpu_that_is_not_told_of_is_not_reset(looks: list[list[GpuStatus] | str]) -> None:
    """Nor is any other in its place."""
    driver = FakeDriver(list(looks))
    assert reset(driver) == (False, "not reset: the driver does not tell of it")
    assert changed(driver) == []
