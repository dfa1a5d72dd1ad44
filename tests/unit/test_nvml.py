"""The real NVML binding against a stand-in for the driver's library: what it tells, and every way in which it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import gpu_fixtures as fake
import pytest
from stopwatch import stopwatch

from ds01_policy.model import Gpu, GpuRef, MigDevice
from ds01_policy.observe import bounded, nvml, nvml_reader
from ds01_policy.observe.ports import Inventory, SourceError

TEN = timedelta(seconds=10)
FIRST, SECOND, THIRD = (f"GPU-00000000-1111-4000-8000-00000000000{index}" for index in range(3))
HOST = (
    Gpu(FIRST, 0, "00000000:07:00.0", 0, "NVIDIA Stub 40GB"),
    Gpu(SECOND, 1, "00000000:0F:00.0", 1, "NVIDIA Stub 40GB"),
    Gpu(
        THIRD,
        2,
        "00000001:47:00.0",
        4,
        "NVIDIA Stub 80GB",
        mig_enabled=True,
        mig_devices=(
            MigDevice("MIG-00000000-2222-5000-8000-000000000000", 0, 2, 0),
            MigDevice("MIG-00000000-2222-5000-8000-000000000002", 2, 9, 0),
            MigDevice("MIG-00000000-2222-5000-8000-000000000003", 3, 9, 1),
        ),
    ),
)

Script = Callable[..., None]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake.stub_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def script(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    """Put the library in the loader's way and tell it what to do."""
    fake.put_in_the_way(library, monkeypatch, tmp_path / "log")

    def scripted(what: str = "", *, gpus: int = 3) -> None:
        monkeypatch.setenv("NVML_STUB", what)
        monkeypatch.setenv("NVML_STUB_GPUS", str(gpus))

    scripted()
    return scripted


@pytest.mark.usefixtures("script")
def test_whole_gpus_and_mig_devices_are_told(tmp_path: Path) -> None:
    """Two whole GPUs, and one in MIG mode whose second slot is empty; the library is let go of at the end."""
    assert nvml.inventory(TEN) == Inventory(HOST, "nvml")
    assert HOST[2].refs == (GpuRef(THIRD, 2), GpuRef(THIRD, 9))
    called = (tmp_path / "log").read_text().split()
    assert called[:2] == ["load", "nvmlInitWithFlags"]
    assert called[-1] == "nvmlShutdown"


def test_a_driver_without_a_gpu_is_an_answer(script: Script) -> None:
    """No GPU is an empty inventory."""
    script(gpus=0)
    assert nvml.inventory(TEN) == Inventory((), "nvml")


@pytest.mark.parametrize("call", ["nvmlDeviceGetMigMode", "nvmlDeviceGetMinorNumber"])
@pytest.mark.parametrize("code", [3, 13], ids=["not supported", "not in this library"])
def test_what_an_old_gpu_or_driver_does_not_know_is_left_out(script: Script, call: str, code: int) -> None:
    """No MIG mode means no MIG; no minor number means none is known."""
    script(f"{call}={code}", gpus=2)
    found = nvml.inventory(TEN)
    assert [gpu.uuid for gpu in found.gpus] == [FIRST, SECOND]
    assert found.notes == ()


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(
    ("environment", "ratio"),
    [
        pytest.param({"SAMPLES": "0 0 100 20", "RATE": "99"}, 0.3, id="the mean of the driver's buffer"),
        pytest.param({"SAMPLES": "0"}, 0.0, id="a buffer of one sample"),
        pytest.param({"SAMPLES": "0 0 0", "AGE": "90", "RATE": "70"}, 0.7, id="an old buffer is not the present"),
        pytest.param({"SAMPLES": "", "RATE": "70"}, 0.7, id="an empty buffer"),
        pytest.param({"SAMPLES": "0 0 4000000000", "RATE": "70"}, 0.7, id="a buffer with an impossible value"),
        pytest.param({"RATE": "70"}, 0.7, id="no buffer: the last fraction of a second"),
        pytest.param({"RATE": "0"}, 0.0, id="idle is an answer"),
        pytest.param({"RATE": "101"}, None, id="an impossible value is none"),
        pytest.param({}, None, id="neither"),
    ],
)
def test_utilisation_is_told_of_whole_gpus(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], ratio: float | None
) -> None:
    """A GPU in MIG mode has none of its own, whatever the library would say."""
    for name, value in environment.items():
        monkeypatch.setenv(f"NVML_STUB_{name}", value)
    used = nvml.inventory(TEN).utilization
    assert used == ({} if ratio is None else pytest.approx({FIRST: ratio, SECOND: ratio}))


@pytest.mark.parametrize("call", ["nvmlDeviceGetSamples", "nvmlDeviceGetUtilizationRates"])
@pytest.mark.parametrize("code", [3, 13, 15, 999])
def test_a_gpu_whose_utilisation_cannot_be_read_is_still_told_of(
    script: Script, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """It only has no sample; the other one has."""
    monkeypatch.setenv("NVML_STUB_RATE", "5")
    script(f"{call}={code}@0,nvmlDeviceGetSamples=3")
    found = nvml.inventory(TEN)
    assert found.gpus == HOST
    assert found.utilization == pytest.approx({FIRST: 0.05, SECOND: 0.05} if "Samples" in call else {SECOND: 0.05})


@pytest.mark.parametrize(
    ("what", "note"),
    [
        ("nvmlDeviceGetHandleByIndex_v2=15@1", "GPU is lost (code 15): a GPU fell off the bus; reboot"),
        (
            "nvmlDeviceGetUUID=999@1",
            "Unknown Error (code 999): a daemon-reload of systemd may have cut this process off",
        ),
        ("nvmlDeviceGetName=16@1", "GPU requires restart (code 16)"),
        ("nvmlDeviceGetMigMode=4@1", "Insufficient Permissions (code 4): not permitted; run it as root"),
    ],
)
def test_a_gpu_that_cannot_be_read_keeps_its_place(script: Script, what: str, note: str) -> None:
    """The others are told of; it stands among them under a name that joins with nothing."""
    script(what)
    found = nvml.inventory(TEN)
    assert [gpu.uuid for gpu in found.gpus] == [FIRST, "lost:1", THIRD]
    assert [gpu.index for gpu in found.gpus] == [0, 1, 2]
    (said,) = found.notes
    assert said.startswith(f"GPU 1 cannot be read: {note}"[:120])


def test_a_mig_slot_that_fails_makes_its_gpu_unreadable(script: Script) -> None:
    """Only a slot that is not found is empty; MIG devices known in part are not taken for all."""
    script("nvmlDeviceGetMigDeviceHandleByIndex=999@2")
    assert [gpu.uuid for gpu in nvml.inventory(TEN).gpus] == [FIRST, SECOND, "lost:2"]


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        (
            "nvmlInitWithFlags=9",
            r"NVML: Driver Not Loaded \(code 9\): the NVIDIA driver is not loaded; look at `lsmod`",
        ),
        (
            "nvmlInitWithFlags=18",
            r"NVML: .*mismatch\. \(code 18\): the driver was updated under the running kernel module",
        ),
        ("nvmlInitWithFlags=4", r"NVML: Insufficient Permissions \(code 4\): not permitted; run it as root"),
        ("nvmlInitWithFlags=999", r"NVML: Unknown Error \(code 999\): a daemon-reload of systemd may have cut"),
        ("nvmlInitWithFlags=1234", r"NVML: an error of the stub \(code 1234\)$"),
        ("nvmlDeviceGetCount_v2=999", r"NVML: Unknown Error \(code 999\)"),
        ("nvmlDeviceGetHandleByIndex_v2=15", r"NVML could read none of the 3 GPUs: GPU is lost \(code 15\)"),
        ("load=crash", r"NVML crashed \(signal 11\)"),
        ("nvmlDeviceGetName=crash@1", r"NVML crashed \(signal 11\)"),
    ],
)
def test_a_failure_comes_out_in_words(script: Script, what: str, complaint: str) -> None:
    """Each says what happened and what to do; a crash of the library takes nobody with it."""
    script(what)
    with pytest.raises(SourceError, match=complaint):
        nvml.inventory(TEN)


def test_a_shutdown_that_fails_spoils_no_answer(script: Script) -> None:
    """What was told stays told."""
    script("nvmlShutdown=999")
    assert nvml.inventory(TEN) == Inventory(HOST, "nvml")


def test_the_library_is_let_go_of_after_a_failure(script: Script, tmp_path: Path) -> None:
    """A call that fails midway is followed by the shutdown all the same."""
    script("nvmlDeviceGetCount_v2=999")
    with pytest.raises(SourceError):
        nvml.inventory(TEN)
    assert (tmp_path / "log").read_text().split()[-1] == "nvmlShutdown"


@pytest.mark.parametrize("call", ["load", "nvmlInitWithFlags", "nvmlDeviceGetUUID", "nvmlShutdown"])
def test_a_hang_ends_at_the_deadline(script: Script, call: str) -> None:
    """Wherever it hangs, even while it is loaded: the caller goes on, and nothing is left behind."""
    script(f"{call}=hang")
    with stopwatch() as seconds:
        with pytest.raises(SourceError, match="NVML did not answer within 0s and was killed"):
            nvml.inventory(timedelta(seconds=0.8))
        assert seconds() < 0.8 + bounded.LAST_WAIT_S


def test_what_the_library_prints_does_not_get_into_the_answer(script: Script) -> None:
    """The answer has a channel of its own."""
    script("nvmlInitWithFlags=noise,nvmlDeviceGetName=noise")
    assert nvml.inventory(TEN) == Inventory(HOST, "nvml")


def test_no_library_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without the driver is told from a host whose driver fails."""
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"not a library")  # hides one that may be installed here
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(nvml.NoLibrary, match=r"libnvidia-ml\.so\.1 is not there or cannot be loaded"):
        nvml.inventory(TEN)


@pytest.mark.usefixtures("script")
def test_nothing_is_imported_from_where_somebody_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that users can write to is no place to load code from."""
    for name in ("pynvml", "json", "ctypes", "ds01_policy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert nvml.inventory(TEN).gpus == HOST
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("out", "complaint"),
    [
        ("", r"NVML gave no answer \(exit code 0\)"),
        ("half {", "NVML gave no answer"),
        ("[]", "NVML gave no answer"),
        ("{}", "NVML's answer is not understood: KeyError"),
        ('{"gpus": [{"index": 0}]}', "NVML's answer is not understood: KeyError"),
        ('{"gpus": null}', "NVML's answer is not understood: TypeError"),
        ('{"error": -1, "text": "No module named pynvml"}', "the Python package nvidia-ml-py is not installed"),
    ],
)
def test_an_answer_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch, out: str, complaint: str) -> None:
    """What the reader prints is checked, too."""
    monkeypatch.setattr(nvml, "run", lambda *_, **__: bounded.Finished(0, out, ""))
    with pytest.raises(SourceError, match=complaint):
        nvml.inventory(TEN)


def test_a_reader_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of a traceback is passed on."""
    finished = bounded.Finished(1, "", "Traceback (most recent call last):\nMemoryError: none\n")
    monkeypatch.setattr(nvml, "run", lambda *_, **__: finished)
    with pytest.raises(SourceError, match=r"NVML gave no answer \(exit code 1\): MemoryError: none"):
        nvml.inventory(TEN)


def test_a_binding_that_returns_bytes_is_understood() -> None:
    """Before version 11 the binding returned names as bytes."""

    class Missing(Exception):
        value = 3

    binding = SimpleNamespace(
        NVMLError=Missing,
        NVMLError_NotSupported=Missing,
        NVMLError_FunctionNotFound=Missing,
        NVML_DEVICE_MIG_ENABLE=1,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda _: b"GPU-1",
        nvmlDeviceGetName=lambda _: b"Tesla",
        nvmlDeviceGetPciInfo=lambda _: SimpleNamespace(busId=b"0000:3B:00.0"),
        nvmlDeviceGetMinorNumber=lambda _: 7,
        nvmlDeviceGetMigMode=lambda _: [0, 0],
    )
    assert nvml_reader.inventory(binding) == {
        "gpus": [
            {"index": 0, "uuid": "GPU-1", "name": "Tesla", "pci_bus_id": "0000:3B:00.0", "minor": 7}
            | {"mig": False, "mig_devices": [], "utilization": None}
        ]
    }


@pytest.mark.usefixtures("script")
def test_the_reader_can_be_run_by_hand() -> None:
    """An admin sees the raw answer with nothing but the interpreter."""
    done = subprocess.run(
        (sys.executable, nvml_reader.__file__), check=True, capture_output=True, text=True, timeout=20
    )
    assert [gpu["uuid"] for gpu in json.loads(done.stdout)["gpus"]] == [FIRST, SECOND, THIRD]
