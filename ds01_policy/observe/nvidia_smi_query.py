"""PURE: reads what `nvidia-smi -q -x` prints, of every driver generation, although users write parts of it.

Process names stand in it unescaped, so the document as a whole is never parsed as XML: a name could close elements,
open comments and imitate whatever follows. Only text that stands before a GPU's first process name is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from ds01_policy.model import GpuProcess, GpuStatus, MigSlot
from ds01_policy.observe.nvidia_smi_list import UUID, Remarks, pci_bus_id, remarks_of
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.unreadable import Unreadable
from ds01_policy.text import plain

__all__ = ["GpuProcess", "GpuStatus", "MigSlot", "Query", "parse_query"]

COMMAND = "nvidia-smi -q -x"
IMITATED = "a process name imitates its output: `ps -eo pid,user,args | grep '</process_name>'` finds whose"

_FIRST = re.compile(r"<gpu(?=[\s>])")
_ATTACHED = re.compile(r"<attached_gpus>\s*([0-9]{1,4})\s*</attached_gpus>")
_COMMENT = re.compile(r"<!--[^<>]{0,500}-->")
_BETWEEN = re.compile(rf"</gpu>(?P<text>[^<]*(?:{_COMMENT.pattern}[^<]*){{0,9}})<gpu(?=[\s>])")
_END = re.compile(r"</gpu>(?P<text>[^<]*)</nvidia_smi_log>(?P<after>[^<]*)\Z")
_PROCESSES = re.compile(r"<(?:compute_)?processes(?=[\s>/])")
_PROCESSES_OPEN = re.compile(r"<(?:compute_)?processes>")
_PROCESSES_CLOSE = re.compile(r"\s*</(?:compute_)?processes>")
_PROCESS = re.compile(
    r"""\s*<process_info>\s*
    (?:<gpu_instance_id>(?P<gi>[^<]*)</gpu_instance_id>\s*
       <compute_instance_id>(?P<ci>[^<]*)</compute_instance_id>\s*)?
    <pid>(?P<pid>[0-9]{1,10})</pid>\s*
    (?:<type>(?P<type>[^<]*)</type>\s*)?
    <process_name>(?P<name>.*?)</process_name>\s*
    <used_memory>(?P<memory>[^<]*)</used_memory>\s*
    </process_info>""",
    re.VERBOSE | re.DOTALL,
)
_MEMORY = re.compile(r"([0-9]{1,12}) (B|KiB|MiB|GiB)")
_FACTOR = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_PERCENT = re.compile(r"([0-9]{1,3}) ?%")
_SWITCH = {"Enabled": True, "Disabled": False, "Yes": True, "No": False}
_TROUBLE = ("GPU is lost", "Unknown Error", "GPU requires", "GPU is inaccessible")


@dataclass(frozen=True, slots=True)
class Query:
    """`nvidia-smi -q -x`, read."""

    gpus: tuple[GpuStatus, ...]
    attached: int | None = None  # how many GPUs the driver counts
    remarks: Remarks = field(default_factory=Remarks)


def parse_query(xml: str) -> Query:
    """Read the document.

    What it says of a GPU comes from text that no process name can stand in front of: a GPU begins where `<gpu` follows
    `</gpu>`, and a name that imitates that makes one GPU more than the driver counts, or one that is there twice.

    Raises:
        SourceError: when it is cut off, not of a shape known here, or imitated by a process name.

    """
    if "<nvidia_smi_log>" not in xml:
        raise SourceError(f"{COMMAND} printed no nvidia_smi_log: {_excerpt(xml)}")
    first = _FIRST.search(xml)
    head = xml[: first.start()] if first else xml
    found = _ATTACHED.search(head)
    attached = int(found[1]) if found else None
    before = head[: head.index("<?xml" if "<?xml" in head else "<nvidia_smi_log>")]
    if first is None:
        return _without_gpus(xml, before, attached)
    end = _END.search(xml, first.start())
    if end is None:
        raise SourceError(f"{COMMAND} ended in the middle of its answer")
    borders = list(_BETWEEN.finditer(xml, first.start(), end.start()))
    starts = [first.start(), *(border.end() - len("<gpu") for border in borders)]
    ends = [*(border.start() for border in borders), end.start()]
    around = [before, head.rpartition(">")[2], *(_COMMENT.sub("\n", border["text"]) for border in borders)]
    around += [end["text"], end["after"]]
    if attached is not None and len(starts) > attached:
        raise SourceError(f"{COMMAND} shows {len(starts)} GPUs where it counts {attached}; {IMITATED}")
    read = [_gpu(xml[start:stop]) for start, stop in zip(starts, ends, strict=True)]
    gpus = tuple(gpu for gpu in read if isinstance(gpu, GpuStatus))
    if len({gpu.uuid for gpu in gpus}) < len(gpus):
        raise SourceError(f"{COMMAND} shows a GPU twice; {IMITATED}")
    if attached is None and len(gpus) < len(read):
        raise SourceError(f"{COMMAND} shows a GPU without a UUID and no count of GPUs; {IMITATED}")
    remarks = remarks_of("\n".join(around), COMMAND)
    unreadable = (*remarks.unreadable, *(gpu for gpu in read if isinstance(gpu, Unreadable)))
    return Query(gpus, attached, Remarks(unreadable, remarks.warnings))


def _without_gpus(xml: str, before: str, attached: int | None) -> Query:
    _, closed, after = xml.partition("</nvidia_smi_log>")
    if not closed:
        raise SourceError(f"{COMMAND} ended in the middle of its answer")
    return Query((), attached, remarks_of(f"{before}\n{after}", COMMAND))


def _gpu(text: str) -> GpuStatus | Unreadable:
    """Read one GPU: from `<gpu` up to its `</gpu>`."""
    cut = _PROCESSES.search(text)
    facts, processes = (text[: cut.start()], text[cut.start() :]) if cut else (text, "")
    if "<process" in facts:
        raise SourceError(f"{COMMAND} lists processes in a way that is not understood")
    try:
        # No document type, and so no entity, can be declared inside an element.
        gpu = ET.fromstring(f"{facts}</gpu>")  # noqa: S314  see above; and nothing users write is in it
    except ET.ParseError as error:
        raise SourceError(f"{COMMAND} is not well-formed where it tells of a GPU: {error}") from None
    bus = pci_bus_id(_text(gpu, "pci/pci_bus_id"))
    announced = pci_bus_id(gpu.get("id", ""))
    if bus and announced and bus != announced:
        raise SourceError(f"{COMMAND} tells of {bus} under {announced}")
    uuid = _text(gpu, "uuid")
    if not re.fullmatch(UUID, uuid):
        return Unreadable(uuid or "it has no UUID", bus or announced)
    readings = (_text(gpu, "fb_memory_usage/total"), _text(gpu, "utilization/gpu_util"))
    trouble = next((text for text in readings if text.startswith(_TROUBLE)), "")
    return GpuStatus(
        uuid=uuid,
        pci_bus_id=bus or announced,
        minor=_number(_text(gpu, "minor_number")),
        name=_text(gpu, "product_name"),
        mig_current=_SWITCH.get(_text(gpu, "mig_mode/current_mig")),
        mig_pending=_SWITCH.get(_text(gpu, "mig_mode/pending_mig")),
        mig=tuple(_slot(device, uuid) for device in gpu.findall("mig_devices/mig_device")),
        utilization_ratio=_ratio(_text(gpu, "utilization/gpu_util")),
        memory_used_bytes=_bytes(_text(gpu, "fb_memory_usage/used")),
        memory_total_bytes=_bytes(_text(gpu, "fb_memory_usage/total")),
        processes=None if trouble else _processes(processes),
        display_active=_SWITCH.get(_text(gpu, "display_active")),
        persistence_mode=_SWITCH.get(_text(gpu, "persistence_mode")),
        recovery_action=_recovery_action(gpu),
        remap_pending=_SWITCH.get(_text(gpu, "remapped_rows/remapped_row_pending")),
        remap_failure=_SWITCH.get(_text(gpu, "remapped_rows/remapped_row_failure")),
        ecc_uncorrected=_ecc_uncorrected(gpu),
        trouble=trouble,
    )


def _slot(device: ET.Element, uuid: str) -> MigSlot:
    index, gpu_instance, compute_instance = (
        _number(_text(device, name)) for name in ("index", "gpu_instance_id", "compute_instance_id")
    )
    if index is None or gpu_instance is None or compute_instance is None:
        raise SourceError(f"{COMMAND} tells of a MIG device of {uuid} without its numbers")
    return MigSlot(index, gpu_instance, compute_instance)


def _processes(text: str) -> tuple[GpuProcess, ...] | None:
    """Read the list, one entry directly after the other.

    What follows a name is always `</process_name><used_memory>…</process_info>`, so the first place where that stands
    is the name's end or lies inside it. Either way every later entry is met, and text left over gives it away.
    """
    opened = _PROCESSES_OPEN.match(text)
    if opened is None:
        return None
    found: list[GpuProcess] = []
    position = opened.end()
    while entry := _PROCESS.match(text, position):
        found.append(
            GpuProcess(
                pid=int(entry["pid"]),
                kind=(entry["type"] or "").strip(),
                name=entry["name"],
                used_memory_bytes=_bytes(entry["memory"].strip()),
                gpu_instance=_number((entry["gi"] or "").strip()),
                compute_instance=_number((entry["ci"] or "").strip()),
            )
        )
        position = entry.end()
    closed = _PROCESSES_CLOSE.match(text, position)
    if closed is None or "process_name>" in text[closed.end() :]:
        return None
    return tuple(found)


def _recovery_action(gpu: ET.Element) -> str:
    action = _text(gpu, "gpu_recovery_action")
    if action and action != "N/A":
        return action.casefold()
    # Drivers 525 to 570 ask two questions instead.
    asked = {
        "drain and reset": _SWITCH.get(_text(gpu, "gpu_reset_status/drain_and_reset_recommended")),
        "reset": _SWITCH.get(_text(gpu, "gpu_reset_status/reset_required")),
    }
    if None in asked.values():
        return next((action for action, needed in asked.items() if needed), "")
    return next((action for action, needed in asked.items() if needed), "none")


def _ecc_uncorrected(gpu: ET.Element) -> int | None:
    """Add up what is counted: memory and caches apart since Turing, one total before."""
    names = ("sram_uncorrectable", "sram_uncorrectable_parity", "sram_uncorrectable_secded", "dram_uncorrectable")
    counts = [_number(_text(gpu, f"ecc_errors/volatile/{name}")) for name in (*names, "double_bit/total")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _text(element: ET.Element, path: str) -> str:
    found = element.findall(path)
    if len(found) > 1:
        raise SourceError(f"{COMMAND} says {path} twice of one GPU")
    return (found[0].text or "").strip() if found else ""


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _ratio(text: str) -> float | None:
    found = _PERCENT.fullmatch(text)
    ratio = int(found[1]) / 100 if found else None
    return ratio if ratio is None or ratio <= 1 else None


def _bytes(text: str) -> int | None:
    found = _MEMORY.fullmatch(text)
    return int(found[1]) * _FACTOR[found[2]] if found else None


def _excerpt(text: str) -> str:
    return plain(text.strip(), 160) or "nothing"
