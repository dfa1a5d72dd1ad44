"""What was measured: answers of sources, readings as intervals, and the snapshot that holds them all.

Sample times are Unix seconds; times are aware UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ds01_policy.logic import Truth
from ds01_policy.model.host import Container, Gpu, GpuRef, SourceState
from ds01_policy.model.tasks import HostProcess
from ds01_policy.model.words import Missing, Problem

if TYPE_CHECKING:
    from ds01_policy.units import Unit


JoinKey = GpuRef | str  # a GPU or GPU instance, or a container's 64-hex id
Sample = tuple[float, float]  # Unix seconds, value in the signal's unit

# What this host itself measured: by kind (gpu: ratio; cpu: seconds; network: bytes), by join key as text, ascending.
LocalSeries = Mapping[str, Mapping[str, tuple[Sample, ...]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source answered about one signal: samples by join key, ascending in time."""

    source: str  # "prometheus", "local"
    series: Mapping[JoinKey, tuple[Sample, ...]] = field(default_factory=dict)
    spacing_s: float = 30.0  # seconds between samples that a healthy series shows, learnt from the densest one
    lag_s: float = 0.0  # how late the newest sample of a healthy series may be, where that exceeds the spacing
    missing: Missing | None = None  # set: the source gave no answer at all
    detail: str = ""
    dropped: int = 0  # impossible values thrown away
    # Every instant at which the source looked, where it knows them all, ascending. Its samples then are single looks,
    # far apart: between two the truth may be as either says, and around a look without a sample nothing is known.
    looks: tuple[float, ...] = ()
    unsampled: Mapping[JoinKey, str] = field(default_factory=dict)  # why the source could not sample it just now
    # GPU instances that nobody asked about, of the same GPUs: what a whole GPU does, one of them may be doing.
    beside: Mapping[JoinKey, tuple[Sample, ...]] = field(default_factory=dict)
    frozen: Mapping[str, str] = field(default_factory=dict)  # UUIDs of GPUs whose values are old ones repeated: why


@dataclass(frozen=True, slots=True)
class Reading:
    """A signal over a window, as an interval: the truth lies in [low, high] whatever the missing samples were."""

    signal: str
    window: timedelta
    unit: Unit
    value: float | None  # mean over what was measured
    low: float
    high: float  # may be infinite
    coverage: float  # share of the window that samples account for, 0 to 1
    source: str | None
    missing: Missing | None = None  # what is wrong with the data; whether that matters depends on the question
    detail: str = ""
    sides: tuple[str, ...] = ()  # who contradict each other, where that is what is wrong
    looks: bool = False  # made of single looks: what happened between them was not measured
    parts: tuple[Reading, ...] = ()  # what each source says alone, where several were asked, best source first


@dataclass(frozen=True, slots=True)
class Evidence:
    """One clause, asked of one reading."""

    reading: Reading
    comparator: str  # below, above, at_most, at_least, is
    threshold: float  # in the reading's unit
    truth: Truth
    label: str  # what people call the signal: gpu, cpu, network

    @property
    def missing(self) -> Missing | None:
        """What an answer lacks; None: there is one. Where nothing else is said, what is not covered keeps it open."""
        return (self.reading.missing or Missing.LOW_COVERAGE) if self.truth is Truth.UNKNOWN else None

    @property
    def passed_over(self) -> Reading | None:
        """What the best source said, where it had no answer and another one gave it."""
        parts = self.reading.parts
        if not parts or parts[0].missing is None or (self.truth is Truth.UNKNOWN and self.reading.missing is not None):
            return None
        return None if parts[0].source == self.reading.source else parts[0]

    @property
    def instead_of(self) -> str | None:
        """The same in two words, for programs: `prometheus: stale`."""
        better = self.passed_over
        return None if better is None else f"{better.source}: {better.missing}"


@dataclass(frozen=True, slots=True)
class Demand:
    """How much of the host's GPUs is spoken for. Counts whole GPUs and GPU instances alike."""

    gpus: int
    held: int
    high: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one tick was told, at one instant."""

    at: datetime
    host: str
    containers: tuple[Container, ...]
    gpus: tuple[Gpu, ...] = ()
    answers: Mapping[str, tuple[Answer, ...]] = field(default_factory=dict)  # by signal, best source first
    sources: Mapping[str, SourceState] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    host_processes: tuple[HostProcess, ...] = ()  # on GPUs and of no container, the most memory first; only shown
