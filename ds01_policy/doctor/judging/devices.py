"""PURE: the host's GPUs as the driver lists them → findings.

Owns what is said of the way they were listed, of GPUs that cannot be read, and of MIG. Asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ds01_policy.doctor.finding import Finding, bad, count, note, ok, some
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_policy.model import Gpu

_INSTEAD = "; asked nvidia-smi instead"  # how observe/gpus.py ends the note about a library that failed


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What the driver told. `gpus` None: nothing, and `error` says why."""

    gpus: tuple[Gpu, ...] | None = None
    via: str = ""
    notes: tuple[str, ...] = ()
    error: str = ""
    no_stack: bool = False  # neither library nor command is installed
    unmeasured: Mapping[str, str] = field(
        default_factory=dict
    )  # why the driver does not say how busy, by GpuRef as text

    @property
    def readable(self) -> tuple[Gpu, ...]:
        """Those that can be joined with a metric; a stand-in for one that is lost has no UUID of its own."""
        return tuple(gpu for gpu in self.gpus or () if gpu.uuid.startswith("GPU-"))


def devices(facts: DeviceFacts) -> Iterator[Finding]:
    """Judge the inventory."""
    if facts.gpus is None:
        if facts.no_stack:
            do = "nothing, where there is no GPU; else install the driver: until then no container is ever found idle"
            yield note("gpu", facts.error, do)
        else:
            do = "`nvidia-smi`, and `dmesg | grep -i nvrm`: until it answers no container is found idle"
            yield bad("gpu", f"the host's GPUs cannot be listed: {facts.error}", do)
        return
    first = [one.removesuffix(_INSTEAD) for one in facts.notes if one.endswith(_INSTEAD)]
    rest = [one for one in facts.notes if not one.endswith(_INSTEAD)]
    if not facts.gpus:
        do = "`lspci | grep -i nvidia`, and `dmesg | grep -i nvrm`"
        yield bad("gpu", f"{facts.via} answers, and shows no GPU", do)
    else:
        models = ", ".join(dict.fromkeys(plain(gpu.name, 40) for gpu in facts.gpus if gpu.name))
        yield ok("gpu", f"{count(len(facts.gpus), 'GPU')} through {facts.via}{f': {models}' if models else ''}")
    for one in first:
        do = "it is quicker and samples better than the command; `gpu: {nvml: never}` in settings.yaml if that is meant"
        yield note("nvml", f"the driver's library does not answer: {plain(one, 300)}", do)
    if rest:
        do = "`nvidia-smi`, and `dmesg | grep -i nvrm`; who may use such a GPU is never found idle"
        yield bad("gpu_trouble", some(rest, between="; "), do)
    for why in dict.fromkeys(facts.unmeasured.values()):
        which = some(ref for ref, reason in facts.unmeasured.items() if reason == why)
        what = f"no local sample of {which}: {plain(why, 200)}; without Prometheus their idleness is unknown"
        yield note("gpu_unmeasured", what, "nothing, as long as Prometheus answers for it")
    yield from _mig(facts)


def _mig(facts: DeviceFacts) -> Iterator[Finding]:
    on = [gpu for gpu in facts.readable if gpu.mig_enabled]
    mapped = [gpu for gpu in on if gpu.mig_devices]
    if mapped:
        devices = sum(len(gpu.mig_devices) for gpu in mapped)
        each = [f"GPU {gpu.index}: {', '.join(f'gi{ref.gpu_instance}' for ref in gpu.refs)}" for gpu in mapped]
        yield ok("mig", f"{count(devices, 'MIG device')} mapped to {some(each)}")
    if empty := [f"GPU {gpu.index}" for gpu in on if not gpu.mig_devices]:
        what = f"MIG is on and nothing is partitioned on {some(empty)}: no container can use it"
        yield note("mig_empty", what, "`nvidia-smi mig -lgip`, then -cgi … -C; or switch MIG off")
