"""Which way the host's GPUs are asked, and what is said when one way fails."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Literal

import gpu_fixtures as fake
import pytest
from gpu_fixtures import A, B

from ds01_policy.observe import bounded
from ds01_policy.observe.gpus import HostGpus, NoGpuStack
from ds01_policy.observe.ports import Inventory, SourceError
from ds01_policy.policy import GpuSettings

Nvml = Literal["auto", "never"]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake.stub_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide a library that may be installed here."""
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))


@pytest.fixture
def no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def ask(command: str = "nvidia-smi", nvml: Nvml = "auto", timeout: float = 10) -> Inventory:
    return HostGpus(GpuSettings(nvml, command, timedelta(seconds=timeout))).inventory()


def test_the_library_is_asked_first(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it answers, the command is not run."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    found = ask(fake.command(tmp_path))
    assert (found.via, len(found.gpus), found.notes) == ("nvml", 3, ())
    assert not (tmp_path / "calls").exists()


def test_no_gpu_in_the_library_is_an_answer(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that counts none is believed."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STUB_GPUS", "0")
    assert ask(fake.command(tmp_path)) == Inventory((), "nvml")


@pytest.mark.parametrize(
    ("what", "note", "timeout"),
    [
        ("nvmlInitWithFlags=999", "NVML: Unknown Error (code 999): a daemon-reload of systemd may have", 20),
        ("nvmlInitWithFlags=hang", "NVML did not answer within 4s and was killed; asked nvidia-smi instead", 4),
        ("load=crash", "NVML crashed (signal 11); asked nvidia-smi instead", 20),
    ],
)
def test_the_command_stands_in_for_a_library_that_fails(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, note: str, timeout: float
) -> None:
    """The answer is the command's; the note says what failed first."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STUB", what)
    found = ask(fake.command(tmp_path), timeout=timeout)
    assert (found.via, [gpu.uuid for gpu in found.gpus]) == ("nvidia-smi", [A, B])
    (said,) = found.notes
    assert said.startswith(note)


@pytest.mark.usefixtures("no_library")
def test_the_command_alone_is_enough(tmp_path: Path) -> None:
    """Without the library the command answers, and the note says so."""
    found = ask(fake.command(tmp_path / "bin"))
    assert [gpu.uuid for gpu in found.gpus] == [A, B]
    assert found.notes == (
        (
            "NVML: NVML Shared Library Not Found (code 12): libnvidia-ml.so.1 is not there or cannot be loaded; "
            "asked nvidia-smi instead"
        ),
    )


def test_never_means_that_the_library_is_not_touched(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the command is run, and nothing needs to be said about it."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STUB_LOG", str(tmp_path / "log"))
    found = ask(fake.command(tmp_path), "never")
    assert (found.via, found.notes) == ("nvidia-smi", ())
    assert not (tmp_path / "log").exists()


@pytest.mark.usefixtures("no_library")
def test_both_failing_tells_both(tmp_path: Path) -> None:
    """The error holds both reasons, the library's first."""
    command = fake.command(tmp_path / "bin", first="exit 9")
    with pytest.raises(SourceError, match=r"^NVML: .* \(code 12\).*; nvidia-smi -L failed with exit code 9") as caught:
        ask(command)
    assert not isinstance(caught.value, NoGpuStack)


@pytest.mark.usefixtures("no_library", "no_command")
def test_neither_library_nor_command_is_a_host_without_a_driver() -> None:
    """It is said once and plainly, as an error that can be told from a failure."""
    with pytest.raises(NoGpuStack) as caught:
        ask()
    assert str(caught.value) == "this host has no NVIDIA driver: neither libnvidia-ml.so.1 nor nvidia-smi is installed"


@pytest.mark.usefixtures("no_command")
def test_a_library_that_fails_is_no_host_without_a_driver(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver is there: that the command is missing does not make its failure harmless."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STUB", "nvmlInitWithFlags=18")
    with pytest.raises(SourceError, match=r"\(code 18\).*; nvidia-smi -L is not installed") as caught:
        ask()
    assert not isinstance(caught.value, NoGpuStack)


@pytest.mark.usefixtures("no_command")
def test_never_and_no_command_is_a_host_without_a_driver() -> None:
    """As far as it may be looked at."""
    with pytest.raises(NoGpuStack, match=r"nvidia-smi -L is not installed.*gpu\.nvml is `never` in settings\.yaml"):
        ask(nvml="never")


def test_a_path_that_leads_nowhere_is_a_mistake_in_the_settings() -> None:
    """A command that is named with its directory was meant to be there."""
    with pytest.raises(SourceError, match="there is no `/opt/nvidia-smi`") as caught:
        ask("/opt/nvidia-smi", "never")
    assert not isinstance(caught.value, NoGpuStack)


MIG_LIST = f"GPU 0: NVIDIA A100 (UUID: {A})\n  MIG 1g.5gb Device  0: (UUID: MIG-1)\nGPU 1: NVIDIA A40 (UUID: {B})\n"


def mig_query() -> str:
    return fake.document(
        fake.Fake(A, "00000000:01:00.0", mig=fake.mig_on(fake.mig_slot(0, 7))), fake.Fake(B, "00000000:02:00.0")
    )


@pytest.mark.usefixtures("no_library")
def test_the_command_tells_nothing_of_mig_instances(tmp_path: Path) -> None:
    """Not even what it prints for the GPU they are part of; the whole GPU beside it has its value."""
    found = ask(fake.command(tmp_path / "bin", MIG_LIST, mig_query()))
    assert found.utilization == {B: 0.5}
    assert found.unmeasured == {f"{A}/gi7": "nvidia-smi tells nothing of MIG instances"}


def test_the_library_is_asked_how_busy_mig_instances_are(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that hangs the GPUs are the library's all the same: the command is not run."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STUB_GPM", "2/2=60 2/9=0")
    assert sorted(ask(fake.command(tmp_path)).utilization.values()) == [0.0, 1.0]
    monkeypatch.setenv("NVML_STUB", "nvmlGpmMigSampleGet=hang")
    found = ask(fake.command(tmp_path), timeout=4)
    assert (found.via, len(found.gpus), found.utilization) == ("nvml", 3, {})
    assert not (tmp_path / "calls").exists()


@pytest.mark.usefixtures("no_library")
def test_a_command_that_cannot_be_killed_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one in D state inside the driver: given up in time, and not started once more beside the one that hangs."""
    monkeypatch.setattr(bounded, "LAST_WAIT_S", 0.1)
    command = fake.command(tmp_path / "bin", first="exec sleep 60")
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", lambda *_: None)  # SIGKILL does not arrive
        with pytest.raises(SourceError, match=r"nvidia-smi -L did not answer within 1s and cannot be killed \(pid"):
            ask(command, "never", timeout=1)
        with pytest.raises(SourceError, match=r"an earlier one .* still hangs in the driver"):
            ask(command, "never", timeout=1)
    assert fake.calls(tmp_path / "bin") == ["-L"]
    process = bounded.stuck.pop(command)
    process.kill()
    process.wait(10)
