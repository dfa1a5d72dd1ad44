"""PURE: reads what `nvidia-smi -L` prints: which GPUs there are, their indexes, and the UUIDs of their MIG devices.

Nothing in it is written by users, so what it lists is the measure for everything else the command says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.unreadable import Unreadable
from ds01_policy.text import plain

UUID = r"GPU-[0-9A-Za-z-]{1,60}"
PCI = r"(?P<domain>[0-9A-Fa-f]{4,8}):(?P<slot>[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])"

_GPU = re.compile(rf"GPU\s+(?P<index>[0-9]{{1,4}}): (?P<name>.*) \(UUID: (?P<uuid>{UUID})\)")
_MIG = re.compile(
    r"\s*MIG\s+(?P<profile>\S+)\s+Device\s+(?P<index>[0-9]{1,4}):\s+\(UUID: (?P<uuid>MIG-[0-9A-Za-z/-]{1,100})\)"
)
_NONE = re.compile(r"No devices (?:were )?found\.?")
_WARNING = re.compile(r"WARNING: .*")
# "for GPU0000:3B:00.0: …", "for gpu 0000:3B:00.0: …", "for GPU1: 0000:3B:00.0: …", "for GPU1: …": by driver generation
_UNREADABLE = re.compile(
    rf"Unable to determine the device handle for gpu\s*(?:(?P<index>[0-9]{{1,3}}):\s)?\s*(?:{PCI}:)?\s*(?P<why>.+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ListedMig:
    """One MIG device line."""

    index: int  # 0-based per GPU
    uuid: str  # `MIG-…`, or `MIG-GPU-…/GI/CI` before driver 470
    profile: str  # `1g.10gb`, `1c.3g.40gb`, `1g.10gb+me`


@dataclass(frozen=True, slots=True)
class ListedGpu:
    """One GPU line, with the MIG lines under it."""

    index: int
    uuid: str
    name: str
    mig: tuple[ListedMig, ...] = ()


@dataclass(frozen=True, slots=True)
class Remarks:
    """What the command says around its answer."""

    unreadable: tuple[Unreadable, ...] = ()
    warnings: tuple[str, ...] = ()
    no_devices: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """`nvidia-smi -L`, read."""

    gpus: tuple[ListedGpu, ...]
    remarks: Remarks = Remarks()


def parse_list(text: str) -> Listing:
    """Read every line.

    Raises:
        SourceError: for a line of a shape unknown here, for a GPU listed twice, and when nothing is listed and nothing
            says that there is nothing.

    """
    gpus: list[ListedGpu] = []
    other: list[str] = []
    for line in text.splitlines():
        if found := _GPU.fullmatch(line.rstrip()):
            gpus.append(ListedGpu(int(found["index"]), found["uuid"], found["name"].strip()))
        elif (found := _MIG.fullmatch(line.rstrip())) and gpus:
            device = ListedMig(int(found["index"]), found["uuid"], found["profile"])
            gpus[-1] = replace(gpus[-1], mig=(*gpus[-1].mig, device))
        else:
            other.append(line)
    remarks = remarks_of("\n".join(other), "nvidia-smi -L")
    if not gpus and not remarks.unreadable and not remarks.no_devices:
        raise SourceError("nvidia-smi -L printed no GPU, and not that there is none")
    if len({gpu.index for gpu in gpus}) < len(gpus) or len({gpu.uuid for gpu in gpus}) < len(gpus):
        raise SourceError("nvidia-smi -L lists a GPU twice")
    return Listing(tuple(gpus), remarks)


def remarks_of(text: str, source: str) -> Remarks:
    """Read the lines around an answer. `source` names the command.

    Raises:
        SourceError: for a line of a shape unknown here.

    """
    unreadable: list[Unreadable] = []
    warnings: list[str] = []
    no_devices = False
    for line in filter(None, map(str.strip, text.splitlines())):
        if found := _UNREADABLE.fullmatch(line):
            unreadable.append(
                Unreadable(found["why"], pci_bus_id(line), None if found["index"] is None else int(found["index"]))
            )
        elif _WARNING.fullmatch(line):
            warnings.append(plain(line, 160))
        elif _NONE.fullmatch(line):
            no_devices = True
        else:
            raise SourceError(f"{source} printed a line that is not understood: {plain(line, 160)}")
    return Remarks(tuple(unreadable), tuple(warnings), no_devices)


def is_remark(line: str) -> bool:
    """Tell whether a line is one of those that stand around an answer."""
    return any(shape.fullmatch(line.strip()) for shape in (_UNREADABLE, _WARNING, _NONE))


def pci_bus_id(text: str) -> str:
    """Find the first PCI bus id in a text and write it as NVML does, `00000000:3B:00.0`; empty: there is none."""
    found = re.search(PCI, text)
    return f"{found['domain']:0>8}:{found['slot']}".upper() if found else ""
