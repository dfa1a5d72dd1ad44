"""How busy MIG instances are: the real NVML binding against a stand-in for the driver's performance counters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu_fixtures as fake
import pytest

from ds01_policy.model import Gpu, GpuRef, MigDevice
from ds01_policy.observe import bounded, gpm, nvml, nvml_reader
from ds01_policy.observe.gpm import measured, unmeasured
from ds01_policy.observe.ports import Inventory

TEN = timedelta(seconds=10)
THIRD, FOURTH = (f"GPU-00000000-1111-4000-8000-00000000000{index}" for index in (2, 3))
SMALL, SHARED = f"{THIRD}/gi2", f"{THIRD}/gi9"  # the second of two compute instances
OTHERS = f"{FOURTH}/gi1", f"{FOURTH}/gi9"
UNSUPPORTED = "this GPU, driver or NVML tells nothing of MIG instances (GPM, from Hopper on)"
BUSY = "2/2=60 2/9=0.5"

Script = Callable[..., None]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake.stub_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def script(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    """Put the library in the loader's way and tell it what to do."""
    fake.put_in_the_way(library, monkeypatch, tmp_path / "log")

    def scripted(percent: str, what: str = "", *, gpus: int = 3, remade: int | None = None) -> None:
        for name, value in (("GPM", percent), ("", what), ("GPUS", str(gpus))):
            monkeypatch.setenv(f"NVML_STUB_{name}".rstrip("_"), value)
        if remade is not None:
            monkeypatch.setenv("NVML_STUB_REMADE", str(remade))

    return scripted


def ask(timeout: timedelta = TEN) -> Inventory:
    return measured(nvml.inventory(TEN), timeout)


# ── what a value means ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("percent", "used"),
    [
        pytest.param("0", 0.0, id="idle is an answer"),
        pytest.param("0.5", 0.035, id="a trace of work is a trace"),
        pytest.param("1", 0.07, id="one percent of the whole GPU is no idle slice of seven"),
        pytest.param("14.3", 1.0, id="a busy slice that reads as a seventh of its GPU is busy"),
        pytest.param("33", 1.0, id="a busy 3g that reads as a third is busy"),
        pytest.param("100", 1.0, id="flat out"),
        pytest.param("104.5", 1.0, id="a little more than all is all"),
    ],
)
def test_a_percentage_of_the_whole_gpu_becomes_a_share_of_the_slice(script: Script, percent: str, used: float) -> None:
    """Whether NVML scales it to the slice nobody says; so work on one never reads as less than it is."""
    script(f"2/2={percent}")
    found = ask()
    assert found.utilization[SMALL] == pytest.approx(used)
    assert SMALL not in found.unmeasured


@pytest.mark.parametrize(
    ("percent", "why"),
    [
        pytest.param("nan", "not a number", id="NaN"),
        pytest.param("inf", "not a number", id="infinity"),
        pytest.param("-1", "impossible: -1.0", id="a negative one"),
        pytest.param("151", "impossible: 151.0", id="half as much again as there is"),
        pytest.param("9223372036854775794", "impossible: 9.2", id="a mark for no value"),
    ],
)
def test_what_cannot_be_is_no_value(script: Script, percent: str, why: str) -> None:
    """Neither idle nor busy: unknown, with the reason; the other instance has its value."""
    script(f"2/2={percent} 2/9=60")
    found = ask()
    assert found.utilization == {SHARED: 1.0}
    assert why in found.unmeasured[SMALL]
    assert len(found.notes) == (1 if "impossible" in why else 0)


def test_each_instance_of_each_gpu_has_its_own_value(script: Script, tmp_path: Path) -> None:
    """Two compute instances of one GPU instance share one. All first samples are taken before the second ones."""
    script("2/2=60 2/9=0 3/1=0.5 3/9=2", gpus=4)
    found = ask()
    assert found.utilization == pytest.approx({SMALL: 1.0, SHARED: 0.0, OTHERS[0]: 0.035, OTHERS[1]: 0.14})
    assert (found.unmeasured, found.notes) == ({}, ())
    log = (tmp_path / "log").read_text().split()
    gpm_calls = [call for call in log if "GpmMig" in call or "GpmMetrics" in call]
    assert gpm_calls == ["nvmlGpmMigSampleGet"] * 8 + ["nvmlGpmMetricsGet"] * 4
    called = Counter(log)
    assert called["nvmlGpmSampleAlloc"] == called["nvmlGpmSampleFree"] == 8
    assert log[-1] == "nvmlShutdown"


def test_the_wait_between_two_samples_is_paid_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many instances there are; and not at all where none can be sampled."""
    naps: list[float] = []
    monkeypatch.setattr(nvml_reader, "time", SimpleNamespace(sleep=naps.append))
    assert len(nvml_reader.instances(binding(gpus=3))["instances"]) == 3
    assert naps == [nvml_reader.GAP_S]
    assert naps[0] > 0.1
    nvml_reader.instances(binding(gpus=3, supported=0))
    assert len(naps) == 1


def binding(*, gpus: int, supported: int = 1, **changes: Any) -> SimpleNamespace:
    """Make a binding of plain functions, with one MIG instance on each GPU."""

    class Missing(Exception):
        value = 6

    parts: dict[str, Any] = {
        "NVMLError": Missing,
        "NVMLError_NotFound": Missing,
        "NVMLError_NotSupported": Missing,
        "NVMLError_FunctionNotFound": Missing,
        "NVML_DEVICE_MIG_ENABLE": 1,
        "NVML_GPM_METRICS_GET_VERSION": 1,
        "NVML_GPM_METRIC_GRAPHICS_UTIL": 1,
        "c_nvmlGpmMetricsGet_t": lambda: SimpleNamespace(metrics=[SimpleNamespace(nvmlReturn=0, value=0.0)]),
        "nvmlDeviceGetCount": lambda: gpus,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMigMode": lambda _: [1, 1],
        "nvmlDeviceGetUUID": lambda handle: f"uuid-{handle}".encode(),
        "nvmlDeviceGetMaxMigDeviceCount": lambda _: 1,
        "nvmlDeviceGetMigDeviceHandleByIndex": lambda handle, slot: f"{handle}:{slot}",
        "nvmlDeviceGetGpuInstanceId": lambda _: 0,
        "nvmlDeviceGetComputeInstanceId": lambda _: 0,
        "nvmlGpmQueryDeviceSupport": lambda _: SimpleNamespace(isSupportedDevice=supported),
        "nvmlGpmSampleAlloc": object,
        "nvmlGpmSampleFree": lambda _: None,
        "nvmlGpmMigSampleGet": lambda *_: None,
        "nvmlGpmMetricsGet": lambda asked: asked,
    }
    return SimpleNamespace(**{name: part for name, part in {**parts, **changes}.items() if part is not None})


def test_a_binding_from_before_gpm_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no such function; that is no failure."""
    monkeypatch.setattr(nvml_reader, "time", SimpleNamespace(sleep=pytest.fail))
    (entry,) = nvml_reader.instances(binding(gpus=1, nvmlGpmQueryDeviceSupport=None))["instances"]
    assert entry["error"] == nvml_reader.NOT_SUPPORTED


# ── who has none ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gpu_without_these_counters_says_so_in_the_reason_alone(script: Script) -> None:
    """An A100 beside an H100: no note at every tick, and no value that could be taken for idle."""
    script("3/1=0 3/9=0", gpus=4)
    found = ask()
    assert found.utilization == {OTHERS[0]: 0.0, OTHERS[1]: 0.0}
    assert found.unmeasured == {SMALL: UNSUPPORTED, SHARED: UNSUPPORTED}
    assert found.notes == ()


@pytest.mark.parametrize(
    "call", ["nvmlGpmQueryDeviceSupport", "nvmlGpmSampleAlloc", "nvmlGpmMigSampleGet", "nvmlGpmMetricsGet", "metric"]
)
@pytest.mark.parametrize("code", [3, 13, 4, 15, 999])
def test_a_call_that_fails_costs_values_only(script: Script, call: str, code: int) -> None:
    """Whichever call it is, and whatever the code: no value, a reason, and the same GPUs as ever."""
    script(BUSY, f"{call}={code}")
    found = ask()
    assert found.gpus == nvml.inventory(TEN).gpus
    assert found.utilization == {}
    assert found.unmeasured.keys() == {SMALL, SHARED}
    if code in (3, 13):
        assert (found.unmeasured[SMALL], found.notes) == (UNSUPPORTED, ())
    else:
        assert f"(code {code})" in found.unmeasured[SMALL]
        (note,) = found.notes
        assert note.startswith(f"how busy {SMALL} is could not be read: ")
        assert note.endswith("; and 1 more instances")


def test_one_gpu_that_fails_does_not_cost_the_other_its_values(script: Script, tmp_path: Path) -> None:
    """And whatever was allocated for it is let go of."""
    script("2/2=60 2/9=60 3/1=60 3/9=60", "nvmlGpmMigSampleGet=999@2", gpus=4)
    found = ask()
    assert found.utilization == dict.fromkeys(OTHERS, 1.0)
    assert found.unmeasured.keys() == {SMALL, SHARED}
    called = Counter((tmp_path / "log").read_text().split())
    assert called["nvmlGpmSampleAlloc"] == called["nvmlGpmSampleFree"] > 0


@pytest.mark.parametrize(
    ("what", "why"),
    [
        pytest.param("nvmlGpmMigSampleGet=hang", "NVML did not answer within 0s and was killed", id="they hang"),
        pytest.param("nvmlGpmMetricsGet=crash", "NVML crashed (signal 11)", id="they crash the library"),
        pytest.param("nvmlGpmSampleFree=hang", "did not answer", id="they hang when all is read"),
    ],
)
def test_counters_that_hang_or_crash_do_not_take_the_gpus_along(script: Script, what: str, why: str) -> None:
    """The inventory was read by another process; this one is killed in time."""
    script(BUSY, what)
    gpus = nvml.inventory(TEN)
    found = measured(gpus, timedelta(seconds=0.9))
    assert (found.gpus, found.utilization) == (gpus.gpus, {})
    (note,) = found.notes
    assert note.startswith("how busy MIG instances are could not be read: NVML")
    assert why in note
    assert why in found.unmeasured[SMALL]


def test_counters_that_cannot_be_freed_spoil_no_answer(script: Script) -> None:
    """What was told stays told."""
    script(BUSY, "nvmlGpmSampleFree=999")
    assert ask().utilization == {SMALL: 1.0, SHARED: 0.035}


def test_an_instance_that_changes_while_it_is_looked_at_has_no_value(script: Script) -> None:
    """Half of what was counted may be another tenant's. The other GPU did not change."""
    script("2/2=0 2/9=0 3/1=0 3/9=0", gpus=4, remade=2)
    found = ask()
    assert found.utilization == dict.fromkeys(OTHERS, 0.0)
    assert found.unmeasured == dict.fromkeys((SMALL, SHARED), "it was re-partitioned while it was looked at")


def test_an_instance_that_is_not_what_the_inventory_lists_has_no_value(script: Script) -> None:
    """Between the two questions the GPU may have been divided anew, under the same numbers."""
    script(BUSY)
    third = Gpu(THIRD, 2, mig_enabled=True, mig_devices=(MigDevice("MIG-x", 0, 2, 0), MigDevice("MIG-y", 1, 4, 0)))
    found = measured(Inventory((third,), "nvml"), TEN)
    assert found.utilization == {}
    assert found.unmeasured == dict.fromkeys((SMALL, f"{THIRD}/gi4"), "it was re-partitioned while it was looked at")


# ── who is asked ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_instances_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second process, no wait; a GPU whose MIG mode is on has no instance to tell of, and says so."""
    monkeypatch.setattr(gpm, "call", pytest.fail)
    whole, empty = Gpu("GPU-a", 0), Gpu("GPU-b", 1, mig_enabled=True)
    found = measured(Inventory((whole, empty), "nvml", ("a note",), {"GPU-a": 0.5}), TEN)
    assert found == Inventory(
        (whole, empty), "nvml", ("a note",), {"GPU-a": 0.5}, {"GPU-b": "MIG is on and it has no instance"}
    )


def test_a_whole_gpu_keeps_its_own_value_beside_slices(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPM adds to what there is."""
    monkeypatch.setenv("NVML_STUB_RATE", "40")
    script(BUSY)
    assert sorted(ask().utilization.values()) == pytest.approx([0.035, 0.4, 0.4, 1.0])


@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        '{"instances": 5}',
        '{"instances": [{"gpu": "GPU-b"}]}',
        '{"instances": [null]}',
        "nonsense",
        '{"error": 9}',
    ],
)
def test_an_answer_of_another_shape_costs_values_only(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """What the reader prints is checked, too."""
    monkeypatch.setattr(nvml, "run", lambda *_, **__: bounded.Finished(0, answer, ""))
    gpu = Gpu("GPU-b", 0, mig_enabled=True, mig_devices=(MigDevice("MIG-x", 0, 1, 0),))
    found = measured(Inventory((gpu,), "nvml"), TEN)
    assert (found.gpus, found.utilization) == ((gpu,), {})
    assert found.unmeasured.keys() == {"GPU-b/gi1"}
    assert len(found.notes) == 1


@pytest.mark.parametrize("percent", ["null", '"5"', "true", "[1]"])
def test_a_value_of_another_kind_is_none(monkeypatch: pytest.MonkeyPatch, percent: str) -> None:
    """Not even one that Python would count with."""
    entry = json.loads(f'{{"gpu": "GPU-b", "gpu_instance": 1, "devices": ["MIG-x"], "percent": {percent}}}')
    monkeypatch.setattr(gpm, "call", lambda *_: {"instances": [entry]})
    gpu = Gpu("GPU-b", 0, mig_enabled=True, mig_devices=(MigDevice("MIG-x", 0, 1, 0),))
    assert measured(Inventory((gpu,), "nvml"), TEN).utilization == {}


def test_another_way_of_asking_says_why_it_knows_nothing() -> None:
    """Of what has no value, that is."""
    devices = (MigDevice("MIG-x", 0, 1, 0), MigDevice("MIG-y", 1, 1, 1), MigDevice("MIG-z", 2, 2, 0))
    gpus = (Gpu("GPU-a", 0), Gpu("GPU-b", 1, mig_enabled=True, mig_devices=devices))
    found = unmeasured(Inventory(gpus, "nvidia-smi", utilization={"GPU-b/gi2": 0.5}), "it does not say")
    assert found.unmeasured == {str(GpuRef("GPU-b", 1)): "it does not say"}
