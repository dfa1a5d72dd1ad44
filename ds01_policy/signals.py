"""Named signals: what is measured, in which unit, keyed by what, and where it does not apply.

Owns the shape of a signal and the keys a container is joined by. Sends no query (observe/prometheus.py does).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from ds01_policy.model import GpuRef

if TYPE_CHECKING:
    from ds01_policy.model import Container, JoinKey
    from ds01_policy.units import Unit


Fallback = Literal["gpu", "cpu", "network"]
# Which kind of GPU a query answers for: whole ones, MIG instances, or, with one number for both, the whole GPU that
# each of them is (a part of).
Devices = Literal["whole", "instance", "parent"]
_METRIC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{")


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL template of a signal.

    For a gauge, `expr` is a range selector of raw samples and gets `range` (a PromQL duration).
    For a counter, `expr` is an instant vector of counter values and `time` one of their sample times (Unix seconds);
    both get `offset` (empty, or `offset 3600s`).
    Both may use `uuids` (an anchored alternation of GPU UUIDs) and `ids` (a regular expression for cgroup paths).
    """

    expr: str
    time: str | None = None
    devices: Devices | None = None  # for join gpu: which kind of GpuRef it answers
    scale: float = 1.0  # raw value × scale = value in the signal's unit
    minimum: float = 0.0  # raw values outside [minimum, maximum] are impossible: dropped and counted
    maximum: float = float("inf")
    uuid_label: str = "UUID"
    instance_label: str = "GPU_I_ID"
    id_label: str = "id"

    @property
    def metric(self) -> str:
        """The name of the metric that is selected first; empty where the template shows none."""
        found = _METRIC.search(self.expr)
        return found[1] if found else ""

    def answers(self, key: JoinKey) -> bool:
        """Whether it can know this GPU: whole ones and instances come from different metrics."""
        if self.devices in (None, "parent") or not isinstance(key, GpuRef):
            return True
        return (key.gpu_instance is None) == (self.devices == "whole")


@dataclass(frozen=True, slots=True)
class Witness:
    """Another signal that must not contradict this one. It only ever makes a reading less certain.

    Without `above` it measures the same in the same unit. With it, more than `above` (in its own unit) contradicts a
    reading that lies wholly below `explained_by` (in the signal's unit). A MIG instance is not contradicted by what
    its parent draws while a sibling that reaches `explained_by` explains it.
    """

    signal: str
    above: float | None = None
    explained_by: float = 0.0


@dataclass(frozen=True, slots=True)
class Frozen:
    """How an exporter that repeats old values is found out, for a signal joined by gpu.

    `changes` is an instant vector: by `uuid_label`, how often anything of a GPU has changed over `range`. It must
    leave out GPUs that export nothing which always moves. `counter` names a signal that never stands still.
    """

    changes: str
    after: timedelta = timedelta(minutes=15)
    counter: str | None = None
    uuid_label: str = "UUID"


@dataclass(frozen=True, slots=True)
class Signal:
    """A named metric."""

    name: str
    label: str  # one word for people: gpu, cpu, network
    unit: Unit
    kind: Literal["gauge", "counter"]
    join: Literal["gpu", "container"]
    queries: tuple[Query, ...]
    ceiling: float | None = None  # highest possible value in the unit; None: unbounded. A gauge must have one
    lag_s: float = 0.0  # how late a healthy series' newest sample may be
    not_on_network: frozenset[str] = frozenset()  # Docker network modes on which it means nothing
    summary: str = ""
    fallback: Fallback | None = None  # which of this host's own samples answer it where nothing else does
    witnesses: tuple[Witness, ...] = ()
    frozen: Frozen | None = None

    def applies(self, container: Container) -> bool:
        """Whether the signal means anything for this container; where not, its clause is left out."""
        mode = container.network_mode.partition(":")[0]
        return mode not in self.not_on_network

    def keys(self, container: Container) -> tuple[JoinKey, ...]:
        """Tell what the container's readings are looked up by: its GPUs, or its own id."""
        return container.gpus.refs if self.join == "gpu" else (container.id,)
