"""The look at a GPU after its container is gone: who is still on it, and how much memory is held.

Owns what counts as clean. Signals nobody and resets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.model import Status
from ds01_policy.text import plain
from ds01_policy.units import Unit, format_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ds01_policy.model import Decision
    from ds01_policy.observe.nvidia_smi_query import GpuStatus

# An idle GPU shows some hundred MiB for the driver's own use; a MIG instance some tens.
DRIVER_MEMORY_BYTES = 1024 * 2**20


@dataclass(frozen=True, slots=True)
class Epilog:
    """Looks at the GPUs that the container held. `look` gives every GPU by UUID, or in words why nobody could look."""

    look: Callable[[], Mapping[str, GpuStatus] | str]

    def __call__(self, decision: Decision) -> tuple[Status, str]:
        """Look at each GPU once. DONE: looked, with the finding in words. FAILED: nobody could look."""
        wanted = {ref.uuid for ref in decision.container.gpus.refs}
        if not wanted:
            return Status.NOOP, "it is not known which GPU it held"
        told = self.look()
        if isinstance(told, str):
            return Status.FAILED, f"the GPU could not be looked at: {told}"
        return Status.DONE, "; ".join(_finding(uuid, told.get(uuid)) for uuid in sorted(wanted))


def _finding(uuid: str, gpu: GpuStatus | None) -> str:
    """Say what is on one GPU; whose it is, nobody asks here."""
    if gpu is None:
        return f"{uuid}: nvidia-smi does not tell of it"
    if gpu.trouble:
        return f"{uuid}: in trouble: {plain(gpu.trouble, 160)}"
    left = []
    if gpu.processes:
        left.append(f"{len(gpu.processes)} process{'es' if len(gpu.processes) > 1 else ''} on it")
    elif gpu.memory_used_bytes is not None and gpu.memory_used_bytes > DRIVER_MEMORY_BYTES and not gpu.mig_current:
        left.append(f"{format_quantity(gpu.memory_used_bytes, Unit.BYTES)} held with no process")
    if gpu.recovery_action not in ("", "none"):
        left.append(f"the driver asks for: {plain(gpu.recovery_action, 40)}")
    return f"{uuid}: {', '.join(left) or 'nobody on it'}"
