"""What a GPU name means on this host: an index, a UUID, a MIG pair, a PCI address, a CDI name.

Owns the forms that Docker and the NVIDIA container toolkit accept. Pure; a name that cannot be resolved comes with the
reason, never with a guess. Names are user text: reasons quote them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.model import Gpu, GpuRef

if TYPE_CHECKING:
    from collections.abc import Iterable

Inventory = tuple[Gpu, ...] | None  # the host's GPUs; None: they could not be listed
NOT_LISTED = "the host's GPUs could not be listed"
_NOT_AMONG = "which is not among this host's GPUs"

# Case does not matter in any of these. NVML prints UUIDs in lower case after the prefix, and so do metrics.
_GPU_UUID = re.compile(r"gpu-([0-9a-z-]{1,64})\Z", re.IGNORECASE | re.ASCII)
_OLD_MIG = re.compile(r"mig-gpu-([0-9a-z-]{1,64})/(\d{1,4})/(\d{1,4})\Z", re.IGNORECASE | re.ASCII)
_MIG_UUID = re.compile(r"mig-[0-9a-z-]{1,64}\Z", re.IGNORECASE | re.ASCII)
_INDEX = re.compile(r"\d{1,4}\Z", re.ASCII)
_PAIR = re.compile(r"(\d{1,4}):(\d{1,4})\Z", re.ASCII)
_PCI = re.compile(r"(?:0*([0-9a-f]{4}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])\Z", re.IGNORECASE | re.ASCII)
_CDI = re.compile(r"([^/=]+)/([^/=]+)=(.+)\Z", re.DOTALL)
_CDI_TYPED = re.compile(r"(?:gpu|mig)(?=\d)", re.ASCII)  # `gpu0`, `mig0:1`: the toolkit's other way to count
# They have GPUs of their own; what a vendor nobody knows calls a GPU may well be one of ours.
_OTHER_VENDORS = ("amd.com", "intel.com")


@dataclass(frozen=True, slots=True)
class Meant:
    """What a name stands for, as far as it resolved, and in words why that may not be all."""

    refs: tuple[GpuRef, ...] = ()
    unclear: str = ""
    by_place: str = ""  # UUID of the GPU on which it counts MIG devices: what stands there may change


def every(inventory: Inventory) -> Meant:
    """Take all GPUs of the host."""
    if inventory is None:
        return Meant(unclear=f"asks for all GPUs, and {NOT_LISTED}")
    if not inventory:
        return Meant(unclear="asks for all GPUs, and this host lists none")
    return Meant(_refs(inventory))


def first(count: int, inventory: Inventory) -> Meant:
    """Take the GPUs with index 0 to `count` - 1: `--gpus 2` always means the first two."""
    if inventory is None:
        return Meant(unclear=f"counts {count} GPUs by index, and {NOT_LISTED}")
    found = [gpu for gpu in inventory if gpu.index < count]
    short = f"counts {count} GPUs, and this host lists {len(found)} of them" if len(found) < count else ""
    return Meant(_refs(found), short)


def minor(number: int, inventory: Inventory) -> Meant:
    """Find the GPU behind /dev/nvidia<number>: by minor number, by index where the driver did not tell minors."""
    if inventory is None:
        return Meant(unclear=f"passes /dev/nvidia{number}, and {NOT_LISTED}")
    found = [gpu for gpu in inventory if (gpu.index if gpu.minor is None else gpu.minor) == number]
    return Meant(_refs(found), "" if found else f"passes /dev/nvidia{number}, and this host lists no such GPU")


def named(name: str, inventory: Inventory) -> Meant:
    """Resolve a device name as `--gpus device=…` and NVIDIA_VISIBLE_DEVICES take them, CDI names included."""
    return cdi(name, inventory) if "=" in name else _plain(name.strip(), inventory)


def cdi(name: str, inventory: Inventory) -> Meant:
    """Resolve a CDI name, `vendor/class=device`. No refs and nothing unclear: it is no NVIDIA GPU."""
    parts = _CDI.match(name)
    if parts is None:
        return Meant(unclear=f"names {_shown(name)}, which is not a CDI name")
    vendor, kind, device = parts[1].casefold(), parts[2].casefold(), parts[3]
    if vendor == "nvidia.com" or vendor.endswith(".nvidia.com"):
        if kind == "gpu" or kind.startswith("mig"):
            return _plain(_CDI_TYPED.sub("", device, count=1), inventory)
    elif any(vendor == other or vendor.endswith(f".{other}") for other in _OTHER_VENDORS):
        return Meant()
    if "gpu" in kind:
        return Meant(unclear=f"names the CDI device {_shown(name)}, which may be a GPU")
    return Meant()


def _plain(name: str, inventory: Inventory) -> Meant:
    if name.casefold() == "all":
        return every(inventory)
    for pattern, resolve in _FORMS:
        if (parts := pattern.match(name)) is not None:
            return resolve(name, parts, inventory)
    return Meant(unclear=f"names {_shown(name)}, which is no way to name a GPU that is known here")


def _whole(name: str, parts: re.Match[str], inventory: Inventory) -> Meant:
    for gpu in inventory or ():
        if gpu.uuid.casefold() == name.casefold():
            return Meant(gpu.refs)
    return Meant((GpuRef(f"GPU-{parts[1].lower()}"),), "" if inventory is None else _unlisted(name))


def _instance(name: str, parts: re.Match[str], inventory: Inventory) -> Meant:
    """`MIG-GPU-<uuid>/<gpu instance>/<compute instance>` says itself what it is."""
    ref = GpuRef(f"GPU-{parts[1].lower()}", int(parts[2]))
    for gpu in inventory or ():
        if gpu.uuid.casefold() == ref.uuid.casefold():
            ref = GpuRef(gpu.uuid, ref.gpu_instance)
            return Meant((ref,), "" if ref in gpu.refs else _repartitioned(name))
    return Meant((ref,), "" if inventory is None else _repartitioned(name))


def _mig_device(name: str, _: re.Match[str], inventory: Inventory) -> Meant:
    for gpu in inventory or ():
        for device in gpu.mig_devices:
            if device.uuid.casefold() == name.casefold():
                return Meant((GpuRef(gpu.uuid, device.gpu_instance),))
    unlisted = f"names {_shown(name)}, and the host's MIG devices could not be listed"
    return Meant(unclear=unlisted if inventory is None else _repartitioned(name))


def _index(name: str, parts: re.Match[str], inventory: Inventory) -> Meant:
    found = [gpu for gpu in inventory or () if gpu.index == int(parts[0])]
    return Meant(_refs(found), "" if found else _unlisted(name, inventory))


def _pair(name: str, parts: re.Match[str], inventory: Inventory) -> Meant:
    """`0:1` is MIG device 1 of GPU 0: it counts devices, not GPU instance ids."""
    for gpu in inventory or ():
        for device in gpu.mig_devices:
            if (gpu.index, device.index) == (int(parts[1]), int(parts[2])):
                return Meant((GpuRef(gpu.uuid, device.gpu_instance),), by_place=gpu.uuid)
    return Meant(unclear=_unlisted(name, None) if inventory is None else _repartitioned(name))


def _pci(name: str, parts: re.Match[str], inventory: Inventory) -> Meant:
    found = [gpu for gpu in inventory or () if _address(_PCI.match(gpu.pci_bus_id)) == _address(parts)]
    return Meant(_refs(found), "" if found else _unlisted(name, inventory))


_FORMS: tuple[tuple[re.Pattern[str], Callable[[str, re.Match[str], Inventory], Meant]], ...] = (
    (_OLD_MIG, _instance),
    (_MIG_UUID, _mig_device),
    (_GPU_UUID, _whole),
    (_INDEX, _index),
    (_PAIR, _pair),
    (_PCI, _pci),
)


def _unlisted(name: str, inventory: Inventory = ()) -> str:
    return f"names {_shown(name)}, {_NOT_AMONG if inventory is not None else f'and {NOT_LISTED}'}"


def _repartitioned(name: str) -> str:
    return f"names {_shown(name)}, which is not among this host's MIG devices: re-partitioned?"


def _address(parts: re.Match[str] | None) -> tuple[str, str] | None:
    """PCI domain and address: NVML prints the domain in eight digits, others in four or not at all."""
    return ((parts[1] or "0000").lower(), parts[2].lower()) if parts else None


def _refs(gpus: Iterable[Gpu]) -> tuple[GpuRef, ...]:
    return tuple(ref for gpu in gpus for ref in gpu.refs)


def _shown(text: str) -> str:
    """Quote user text, cut short."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")  # noqa: PLR2004  one line of a terminal
