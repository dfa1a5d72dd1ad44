"""PURE: series whose UUID is no GPU of this host.

Owns telling another host's GPUs from what this host's exporter still believes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.doctor.finding import Finding, count, note, some
from ds01_policy.model import GpuRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_policy.doctor.judging.series import Here, Row, Told


def strangers(told: Told, here: Here, keyed: list[Row]) -> Iterator[Finding]:
    """Find series that are about no GPU of this host.

    A Prometheus that watches a rack has many. What the same target (`instance`) exports beside GPUs that are here is
    this host's: a GPU that is gone, or a partition that is no more.
    """
    if told.signal.join != "gpu" or here.gpus is None:
        return
    own = {ref for gpu in here.gpus for ref in (*gpu.refs, GpuRef(gpu.uuid))}
    uuids = {gpu.uuid for gpu in here.gpus}
    ours = {row.labels.get("instance") for row in keyed if isinstance(row.key, GpuRef) and row.key.uuid in uuids}
    gone, others = set[str](), set[str]()
    for row in keyed:
        if not isinstance(row.key, GpuRef) or row.key in own:
            continue
        here_too = row.key.uuid in uuids or (row.labels.get("instance") or None) in ours - {None}
        (gone if here_too else others).add(str(row.key))
    if gone:
        what = f"this host's exporter tells of what this host does not show: {some(sorted(gone))}"
        do = "compare with `nvidia-smi -L`; after re-partitioning or losing a GPU restart dcgm-exporter"
        yield told.trouble("series_of_unknown_gpu", what, do)
    if others:
        what = f"{told.name}: also series of {count(len(others), 'GPU')} of other hosts: {some(sorted(others))}"
        do = "nothing, where this Prometheus watches other hosts too: those series are never asked for"
        yield note("series_of_unknown_gpu", what, do)
