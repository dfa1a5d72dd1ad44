"""PURE: which container that is up holds which GPU, and whose it is: what joins the exporters' metrics with people.

Owns which rows there are, and their bound. The values are hostile text; exposition.py makes them plain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.metrics.exposition import Family, Labels
from ds01_policy.model import ALIVE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ds01_policy.model import Container, GpuRef

MOST = 1000  # rows


def holders(containers: Iterable[Container]) -> dict[str, Family]:
    """Tell of every GPU container that is up: one row for each GPU or GPU instance that it holds.

    `gpu_uuid` is the physical GPU's, as in the label UUID of dcgm-exporter, and `gpu_instance` NVML's number as in
    GPU_I_ID; empty for a whole GPU, where that exporter has no such label. A row without a GPU stands for what is
    unclear, and for a container that could use GPUs but holds none: what may only look at them (privileged) and
    infrastructure, as for demand; so nobody's use is told twice. The owner is `unknown` where nobody knows. Those that
    have been up longest come first: more containers push no others out.
    """
    up = [container for container in containers if container.gpus.wants and container.state in ALIVE]
    up.sort(key=lambda container: (container.started_at or container.created_at, container.id))
    rows = [_row(container, ref) for container in up for ref in _held(container)]
    return {
        "ds01_policy_container_gpu_info": Family(
            "Which GPU container that is up holds which GPU, and whose it is.", dict.fromkeys(rows[:MOST], 1.0)
        ),
        "ds01_policy_container_gpu_info_left_out": Family(
            "Rows of ds01_policy_container_gpu_info that were too many.", {(): float(max(len(rows) - MOST, 0))}
        ),
    }


def _held(container: Container) -> tuple[GpuRef | None, ...]:
    claim = container.gpus
    refs = claim.refs if claim.holds and not container.infrastructure else ()
    return (*refs, None) if claim.unclear or not refs else refs


def _row(container: Container, ref: GpuRef | None) -> Labels:
    instance = None if ref is None else ref.gpu_instance
    return (
        ("id", container.id),
        ("name", container.name),
        ("owner", container.owner),
        ("group", container.group),
        ("type", container.type),
        ("gpu_uuid", "" if ref is None else ref.uuid),
        ("gpu_instance", "" if instance is None else str(instance)),
    )
