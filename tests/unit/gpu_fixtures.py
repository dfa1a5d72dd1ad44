"""A host's GPUs for tests: an `nvidia-smi` that does as told, what it prints, and a library to stand in for NVML."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RECORDED = HERE / "fixtures" / "nvidia_smi"
A = "GPU-aaaaaaaa-0000-4000-8000-000000000001"
B = "GPU-bbbbbbbb-0000-4000-8000-000000000002"
LIST = f"GPU 0: NVIDIA A40 (UUID: {A})\nGPU 1: NVIDIA A40 (UUID: {B})\n"


@dataclass(frozen=True)
class Fake:
    """A GPU as `nvidia-smi -q -x` tells it. `processes`: (pid, name), the names unescaped."""

    uuid: str
    bus: str
    processes: tuple[tuple[int, str], ...] = ()
    mig: str = "<mig_mode><current_mig>Disabled</current_mig></mig_mode>"

    def xml(self) -> str:
        entries = "".join(
            f"\t\t\t<process_info>\n\t\t\t\t<gpu_instance_id>N/A</gpu_instance_id>\n"
            f"\t\t\t\t<compute_instance_id>N/A</compute_instance_id>\n\t\t\t\t<pid>{pid}</pid>\n\t\t\t\t<type>C</type>\n"
            f"\t\t\t\t<process_name>{name}</process_name>\n\t\t\t\t<used_memory>100 MiB</used_memory>\n"
            "\t\t\t</process_info>\n"
            for pid, name in self.processes
        )
        return (
            f'\t<gpu id="{self.bus}">\n\t\t<product_name>NVIDIA A40</product_name>\n\t\t{self.mig}\n'
            f"\t\t<uuid>{self.uuid}</uuid>\n\t\t<minor_number>{int(self.bus[9:11], 16)}</minor_number>\n"
            f"\t\t<pci>\n\t\t\t<pci_bus_id>{self.bus}</pci_bus_id>\n\t\t</pci>\n"
            f"\t\t<utilization>\n\t\t\t<gpu_util>50 %</gpu_util>\n\t\t</utilization>\n"
            f"\t\t<processes>\n{entries}\t\t</processes>\n"
            "\t\t<accounted_processes>\n\t\t</accounted_processes>\n\t</gpu>\n"
        )


def document(*gpus: Fake, attached: int | None = None) -> str:
    """`attached` is how many GPUs the driver counts; by default as many as there are. -1: it does not say."""
    count = len(gpus) if attached is None else attached
    return (
        '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">\n<nvidia_smi_log>\n'
        "\t<timestamp>Mon Mar  2 03:31:00 2026</timestamp>\n\t<driver_version>580.65.06</driver_version>\n"
        + (f"\t<attached_gpus>{count}</attached_gpus>\n" if count >= 0 else "")
        + "".join(gpu.xml() for gpu in gpus)
        + "</nvidia_smi_log>\n"
    )


def two_gpus(first: str = "python", second: str = "python", *, attached: int = 2) -> str:
    """Two GPUs with two processes each; `first` and `second` are the names of the first process on each."""
    return document(
        Fake(A, "00000000:01:00.0", ((101, first), (102, "train.py"))),
        Fake(B, "00000000:02:00.0", ((201, second), (202, "train.py"))),
        attached=attached,
    )


def mig_slot(index: int, gpu_instance: int, compute_instance: int = 0) -> str:
    return (
        f"<mig_device><index>{index}</index><gpu_instance_id>{gpu_instance}</gpu_instance_id>"
        f"<compute_instance_id>{compute_instance}</compute_instance_id></mig_device>"
    )


def mig_on(*slots: str) -> str:
    return (
        "<mig_mode><current_mig>Enabled</current_mig><pending_mig>Enabled</pending_mig></mig_mode>"
        f"<mig_devices>{''.join(slots) or 'None'}</mig_devices>"
    )


def command(directory: Path, listing: str = LIST, query: str | None = None, *, first: str = "") -> str:
    """Install an `nvidia-smi` and return its path. `first` is shell code that runs before it answers; $1 is -L or -q.

    It keeps a line for each call in `calls` beside it.
    """
    directory.mkdir(exist_ok=True)
    (directory / "list").write_text(listing)
    (directory / "query").write_text(two_gpus() if query is None else query)
    script = directory / "nvidia-smi"
    script.write_text(
        f'#!/bin/sh\necho "$*" >> {directory}/calls\n{first}\n'
        f'case "$*" in\n"-L") cat {directory}/list ;;\n"-q -x") cat {directory}/query ;;\n*) exit 2 ;;\nesac\n'
    )
    script.chmod(0o755)
    return str(script)


def calls(directory: Path) -> list[str]:
    return (directory / "calls").read_text().splitlines()


def stub_library(directory: Path) -> Path:
    """Compile the stand-in for libnvidia-ml.so.1 and return the directory it lies in."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        if os.environ.get("DS01_POLICY_REQUIRE_LIVE") == "1":
            pytest.fail("no C compiler (cc, gcc, clang) to build the stand-in for libnvidia-ml.so.1 with")
        pytest.skip("no C compiler (cc, gcc, clang) to build the stand-in for libnvidia-ml.so.1 with")
    target = directory / "libnvidia-ml.so.1"
    flags = ("-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run((compiler, *flags, str(HERE / "nvml_stub.c"), "-o", str(target)), check=True, timeout=60)
    return directory


def put_in_the_way(library: Path, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    """Have the loader find the stand-in, which writes each call down."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STUB_LOG", str(log))
