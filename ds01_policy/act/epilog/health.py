"""PURE: how a GPU is, from what the driver told of it in one or more looks, and whether a reset would cure it.

Owns the thresholds and what each finding means. What is not told is not held against a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.act.epilog.held import Health
from ds01_policy.text import plain
from ds01_policy.units import Unit, format_quantity

if TYPE_CHECKING:
    from ds01_policy.model import GpuStatus, Xid

# An idle GPU shows some hundred MiB for the driver's own use.
DRIVER_MEMORY_BYTES = 1024 * 2**20
LATCHED_RATIO = 0.95
_RESET_CURES = frozenset({"reset", "drain and reset"})
_ACTIONS = {
    "reset": "reset it, or reboot",
    "drain and reset": "keep new work off it, then reset it, or reboot",
    "drain p2p": "end what uses it together with other GPUs",
    "reboot": "reboot this host",
    "system reboot": "reboot this host",
    "bus reset": "`nvidia-smi -r bus`, or reboot",
    "recover imex domain": "recover the IMEX domain",
}
# What the driver reports of the hardware. Everything else (13, 31, 43, 45 …) is what programs do to themselves.
XIDS = {
    48: (Health.CRITICAL, "a double-bit memory error"),
    63: (Health.WARN, "a memory row will be remapped at the next reset"),
    64: (Health.CRITICAL, "a memory row could not be remapped"),
    74: (Health.CRITICAL, "an NVLink error"),
    79: (Health.CRITICAL, "the GPU fell off the bus"),
    92: (Health.WARN, "many single-bit memory errors"),
    94: (Health.WARN, "a contained memory error"),
    95: (Health.CRITICAL, "an uncontained memory error"),
    109: (Health.CRITICAL, "a context switch that did not end"),
    119: (Health.CRITICAL, "the GPU's system processor does not answer"),
    120: (Health.CRITICAL, "an error of the GPU's system processor"),
    140: (Health.CRITICAL, "a memory error that was not recovered from"),
    154: (Health.WARN, "the driver asks for another recovery action"),
}
_ORDER = (Health.OK, Health.UNKNOWN, Health.WARN, Health.CRITICAL)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, or not known. `cure`: a reset would put it right."""

    health: Health
    words: str
    cure: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one GPU is. `cure`: what of it a reset would put right, in words; empty: nothing."""

    health: Health
    words: str
    cure: str = ""


def in_doubt(status: GpuStatus) -> bool:
    """Whether one more look, some seconds later, would tell more: memory and utilisation take time to go away."""
    return bool(_held_by_nobody(status) or _latched(status))


def judge(
    looks: Sequence[GpuStatus | None],
    *,
    xids: Sequence[Xid] = (),
    stuck: Sequence[str] = (),
    own: Sequence[str] = (),
    unreadable: Sequence[str] = (),
) -> Verdict:
    """Judge by the last look, and by the last two where one alone deceives.

    `looks` in the order they were taken, some seconds apart; None: the driver did not tell of it. `xids`: of this GPU,
    since the container ended. `stuck`: processes that could not be ended, `own`: those that were left though they were
    the container's. `unreadable`: the GPUs that the driver counts and cannot read.
    """
    last = looks[-1] if looks else None
    if last is None:
        return _absent(unreadable)
    faults = [*_of_processes(stuck, own), *_of_driver(last), *_of_xids(xids)]
    if not last.trouble:
        faults += _lingering(looks)
    if not faults:
        return Verdict(Health.OK, "nobody on it" if last.processes == () else "nothing wrong with it")
    worst = max((fault.health for fault in faults), key=_ORDER.index)
    words = [fault.words for fault in sorted(faults, key=lambda fault: -_ORDER.index(fault.health))]
    cured = [fault.words for fault in faults if fault.cure]
    return Verdict(worst, "; ".join(dict.fromkeys(words)), "; ".join(cured))


def _absent(unreadable: Sequence[str]) -> Verdict:
    if unreadable:
        return Verdict(Health.CRITICAL, f"lost: {plain('; '.join(unreadable), 300)}")
    return Verdict(Health.UNKNOWN, "the driver does not tell of it")


def _of_processes(stuck: Sequence[str], own: Sequence[str]) -> list[Fault]:
    faults = []
    if stuck:
        told = "; ".join(stuck)
        faults.append(Fault(Health.CRITICAL, f"not even SIGKILL ends {told}: look for NVRM in dmesg, then reboot"))
    if own:
        faults.append(Fault(Health.WARN, f"left of the container: {'; '.join(own)}"))
    return faults


def _of_driver(status: GpuStatus) -> list[Fault]:
    """Say what the driver itself complains of."""
    faults = []
    if status.trouble:
        # An unknown error may be this program's own: a process that lost its devices reads that everywhere.
        health = Health.UNKNOWN if status.trouble.startswith("Unknown Error") else Health.CRITICAL
        faults.append(Fault(health, f"in trouble: {plain(status.trouble, 160)}"))
    action = status.recovery_action
    if action not in ("", "none"):
        todo = f": {_ACTIONS[action]}" if action in _ACTIONS else ""
        words = f"the driver asks for `{plain(action, 40)}`{todo}"
        faults.append(Fault(Health.CRITICAL, words, cure=action in _RESET_CURES))
    if status.remap_failure:
        faults.append(Fault(Health.CRITICAL, "a memory row could not be remapped: have it replaced"))
    if status.remap_pending:
        faults.append(Fault(Health.WARN, "a memory row will be remapped at the next reset; that does not hurry"))
    if status.ecc_uncorrected:
        count = f"{status.ecc_uncorrected} uncorrectable memory errors since the driver was loaded"
        if action:
            faults.append(Fault(Health.WARN, f"{count}; the driver has dealt with them"))
        else:
            faults.append(Fault(Health.CRITICAL, f"{count}: reset it, or reboot"))
    return faults


def _of_xids(xids: Sequence[Xid]) -> list[Fault]:
    """Each code once, with how often."""
    faults = []
    for code in sorted({xid.code for xid in xids} & XIDS.keys()):
        health, means = XIDS[code]
        count = sum(xid.code == code for xid in xids)
        faults.append(Fault(health, f"Xid {code} since ({means})" + (f", {count} times" if count > 1 else "")))
    return faults


def _lingering(looks: Sequence[GpuStatus | None]) -> list[Fault]:
    """Say what stays though nobody is on it: seen twice, as both take a moment to go away after the last process."""
    last, before = looks[-1], looks[-2] if len(looks) > 1 else None
    if last is None:
        return []
    if last.processes is None:
        return [Fault(Health.UNKNOWN, "who is on it is not told")]
    if last.mig_current:
        return []
    if last.processes:
        count = len(last.processes)
        return [Fault(Health.UNKNOWN, f"in use ({count} process{'es' if count > 1 else ''}): what is held is theirs")]
    if last.memory_used_bytes is None:
        return [Fault(Health.UNKNOWN, "how much memory is held is not told")]
    faults = []
    for lingers, told in ((_held_by_nobody, _memory_words), (_latched, _latched_words)):
        if not lingers(last):
            continue
        if before is not None and lingers(before):
            health = Health.CRITICAL if lingers is _held_by_nobody else Health.WARN
            faults.append(Fault(health, told(last), cure=True))
        else:
            faults.append(Fault(Health.UNKNOWN, f"{told(last)}, seen once only"))
    return faults


def _held_by_nobody(status: GpuStatus) -> bool:
    used = status.memory_used_bytes
    return _deserted(status) and used is not None and used > DRIVER_MEMORY_BYTES


def _latched(status: GpuStatus) -> bool:
    used = status.utilization_ratio
    return _deserted(status) and used is not None and used >= LATCHED_RATIO


def _deserted(status: GpuStatus) -> bool:
    # In MIG mode memory and utilisation of the whole GPU are those of its instances, and tell nothing of one.
    return status.processes == () and not status.mig_current and not status.trouble


def _memory_words(status: GpuStatus) -> str:
    return f"{format_quantity(status.memory_used_bytes, Unit.BYTES)} held with no process"


def _latched_words(status: GpuStatus) -> str:
    ratio = format_quantity(status.utilization_ratio, Unit.RATIO)
    return f"utilisation stays at {ratio} with no process; opening and closing a CUDA context often clears it"
