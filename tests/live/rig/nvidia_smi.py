"""Writes an executable that answers as nvidia-smi does for a host that is described here.

Answers `-L`, `-q -x` and `--gpu-reset -i UUID`; logs every call. Other arguments fail as they do in the real one.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape


@dataclass(frozen=True, slots=True)
class SmiProcess:
    """A process on a GPU."""

    pid: int
    name: str = "python3"
    used_mib: int = 512
    gpu_instance: int | None = None
    compute_instance: int | None = None
    type: str = "C"


@dataclass(frozen=True, slots=True)
class SmiMig:
    """A MIG device; its index is its place in the GPU's list."""

    uuid: str
    gpu_instance: int
    compute_instance: int = 0
    profile: str = "1g.10gb"


@dataclass(frozen=True, slots=True)
class SmiGpu:
    """A GPU; its index is its place in the host's list."""

    uuid: str
    name: str = "NVIDIA A100-SXM4-80GB"
    mig: tuple[SmiMig, ...] = ()
    mig_enabled: bool | None = None  # None: as `mig` says
    processes: tuple[SmiProcess, ...] = ()
    utilization: int | None = 0  # percent; None: N/A, as under MIG
    used_mib: int = 4


def write_nvidia_smi(
    path: Path, gpus: Sequence[SmiGpu], *, exit_code: int = 0, stderr: str = "", hang_s: float = 0
) -> Path:
    """Write the script to PATH, its answers beside it, and a log of its calls to PATH.calls."""
    listing, report = path.with_suffix(".list"), path.with_suffix(".xml")
    listing.write_text("".join(_listed(index, gpu) for index, gpu in enumerate(gpus)))
    report.write_text(xml(gpus))
    lines = ["#!/bin/sh", f'echo "$*" >> {shlex.quote(str(path.with_suffix(".calls")))}']
    if hang_s:
        lines.append(f"exec sleep {hang_s:g}")
    if exit_code:
        lines += [f"printf '%s\\n' {shlex.quote(stderr)}", f"exit {exit_code}"]
    lines += [
        'case "$*" in',
        f"  -L) exec cat {shlex.quote(str(listing))} ;;",
        f"  '-q -x') exec cat {shlex.quote(str(report))} ;;",
        "  '--gpu-reset -i '*) echo \"GPU $3 was successfully reset.\"; exit 0 ;;",
        "  *) echo \"ERROR: Option $1 is not recognized. Please run 'nvidia-smi -h'.\"; exit 2 ;;",
        "esac",
    ]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return path


def calls(path: Path) -> list[str]:
    """Read the arguments of every call of the script at PATH so far."""
    log = path.with_suffix(".calls")
    return log.read_text().splitlines() if log.exists() else []


def xml(gpus: Sequence[SmiGpu]) -> str:
    """Write what `nvidia-smi -q -x` prints: the elements that matter here, where the real one has them."""
    head = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>\n'
    head += "\t<timestamp>Mon Mar  2 03:31:00 2026</timestamp>\n\t<driver_version>550.90.07</driver_version>\n"
    head += f"\t<cuda_version>12.4</cuda_version>\n\t<attached_gpus>{len(gpus)}</attached_gpus>\n"
    return head + "".join(_gpu(index, gpu) for index, gpu in enumerate(gpus)) + "</nvidia_smi_log>\n"


def _listed(index: int, gpu: SmiGpu) -> str:
    lines = [f"GPU {index}: {gpu.name} (UUID: {gpu.uuid})\n"]
    lines += [f"  MIG {mig.profile:<11} Device {at:>2}: (UUID: {mig.uuid})\n" for at, mig in enumerate(gpu.mig)]
    return "".join(lines)


def _gpu(index: int, gpu: SmiGpu) -> str:
    enabled = "Enabled" if (bool(gpu.mig) if gpu.mig_enabled is None else gpu.mig_enabled) else "Disabled"
    bus = pci_bus_id(index)
    used = "N/A" if gpu.utilization is None or enabled == "Enabled" else f"{gpu.utilization} %"
    migs = "".join(_mig(at, mig) for at, mig in enumerate(gpu.mig)) or "\t\t\tNone\n"
    processes = "".join(_process(process) for process in gpu.processes)
    return f"""\
\t<gpu id="{bus}">
\t\t<product_name>{escape(gpu.name)}</product_name>
\t\t<product_brand>NVIDIA</product_brand>
\t\t<product_architecture>Ampere</product_architecture>
\t\t<display_mode>Disabled</display_mode>
\t\t<display_active>Disabled</display_active>
\t\t<persistence_mode>Enabled</persistence_mode>
\t\t<mig_mode>
\t\t\t<current_mig>{enabled}</current_mig>
\t\t\t<pending_mig>{enabled}</pending_mig>
\t\t</mig_mode>
\t\t<mig_devices>
{migs}\t\t</mig_devices>
\t\t<accounting_mode>Disabled</accounting_mode>
\t\t<serial>156330{index:07d}</serial>
\t\t<uuid>{gpu.uuid}</uuid>
\t\t<minor_number>{index}</minor_number>
\t\t<vbios_version>92.00.45.00.05</vbios_version>
\t\t<multigpu_board>No</multigpu_board>
\t\t<pci>
\t\t\t<pci_bus>{index + 1:02X}</pci_bus>
\t\t\t<pci_device>00</pci_device>
\t\t\t<pci_domain>0000</pci_domain>
\t\t\t<pci_bus_id>{bus}</pci_bus_id>
\t\t</pci>
\t\t<fb_memory_usage>
\t\t\t<total>81920 MiB</total>
\t\t\t<reserved>569 MiB</reserved>
\t\t\t<used>{gpu.used_mib} MiB</used>
\t\t\t<free>{81351 - gpu.used_mib} MiB</free>
\t\t</fb_memory_usage>
\t\t<compute_mode>Default</compute_mode>
\t\t<utilization>
\t\t\t<gpu_util>{used}</gpu_util>
\t\t\t<memory_util>{used}</memory_util>
\t\t\t<encoder_util>{used}</encoder_util>
\t\t\t<decoder_util>{used}</decoder_util>
\t\t</utilization>
\t\t<gpu_recovery_action>None</gpu_recovery_action>
\t\t<processes>
{processes}\t\t</processes>
\t\t<accounted_processes>
\t\t</accounted_processes>
\t</gpu>
"""


def _mig(index: int, mig: SmiMig) -> str:
    return f"""\
\t\t\t<mig_device>
\t\t\t\t<index>{index}</index>
\t\t\t\t<gpu_instance_id>{mig.gpu_instance}</gpu_instance_id>
\t\t\t\t<compute_instance_id>{mig.compute_instance}</compute_instance_id>
\t\t\t\t<device_attributes>
\t\t\t\t\t<shared>
\t\t\t\t\t\t<multiprocessor_count>14</multiprocessor_count>
\t\t\t\t\t</shared>
\t\t\t\t</device_attributes>
\t\t\t\t<fb_memory_usage>
\t\t\t\t\t<total>9728 MiB</total>
\t\t\t\t\t<used>12 MiB</used>
\t\t\t\t\t<free>9715 MiB</free>
\t\t\t\t</fb_memory_usage>
\t\t\t</mig_device>
"""


def _process(process: SmiProcess) -> str:
    instance = "N/A" if process.gpu_instance is None else process.gpu_instance
    compute = "N/A" if process.compute_instance is None else process.compute_instance
    return f"""\
\t\t\t<process_info>
\t\t\t\t<gpu_instance_id>{instance}</gpu_instance_id>
\t\t\t\t<compute_instance_id>{compute}</compute_instance_id>
\t\t\t\t<pid>{process.pid}</pid>
\t\t\t\t<type>{process.type}</type>
\t\t\t\t<process_name>{escape(process.name)}</process_name>
\t\t\t\t<used_memory>{process.used_mib} MiB</used_memory>
\t\t\t</process_info>
"""


def pci_bus_id(index: int) -> str:
    """Give the bus id of the GPU at this index, as NVML prints it."""
    return f"00000000:{index + 1:02X}:00.0"
