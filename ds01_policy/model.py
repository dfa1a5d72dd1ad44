"""The values that flow through a tick: Snapshot → Verdicts → Plan → Outcomes. All frozen.

Owns no behaviour beyond what a value can say about itself; knows no file, socket or clock.
Times are aware UTC datetimes; sample times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ds01_policy.logic import Truth
    from ds01_policy.units import Unit


class State(StrEnum):
    """Docker's container states (`State.Status` of an inspect)."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


# Docker reports Running=true for these three: processes exist, or will in a moment.
ALIVE = frozenset({State.RUNNING, State.PAUSED, State.RESTARTING})


class Mode(StrEnum):
    """How far a tick may go. Ordered by strength: `observe` < `warn` < `enforce`."""

    OBSERVE = "observe"
    WARN = "warn"
    ENFORCE = "enforce"

    @property
    def strength(self) -> int:
        """0 for observe, 1 for warn, 2 for enforce."""
        return list(Mode).index(self)


def weakest(*modes: Mode | None) -> Mode:
    """Combine modes: the weakest of those given wins; None says nothing."""
    return min((mode for mode in modes if mode is not None), key=lambda mode: mode.strength, default=Mode.ENFORCE)


class Action(StrEnum):
    """What can be done to a container."""

    WARN = "warn"
    STOP = "stop"
    REMOVE = "remove"
    EPILOG = "epilog"


class Kind(StrEnum):
    """What a rule finds for a container, before notice, budget and mode."""

    ACT = "act"
    WARN = "warn"
    CLEAR = "clear"
    UNKNOWN = "unknown"
    YOUNG = "young"
    EXEMPT = "exempt"
    OFF = "off"


class Missing(StrEnum):
    """Why a reading is missing, or too wide to answer."""

    NO_SERIES = "no_series"
    STALE = "stale"
    LOW_COVERAGE = "low_coverage"
    SOURCE_DOWN = "source_down"
    NOT_JOINED = "not_joined"
    CONFLICT = "conflict"
    TOO_YOUNG = "too_young"


class HeldBy(StrEnum):
    """The first guard that holds a decision back."""

    EXEMPT = "exempt"
    STALE = "stale"
    LEDGER = "ledger"
    NOTICE = "notice"
    BREAKER = "breaker"
    BUDGET = "budget"
    MODE = "mode"


class Disposition(StrEnum):
    """Whether a decision will be carried out."""

    ENFORCE = "enforce"
    SUPPRESS = "suppress"


class Status(StrEnum):
    """What became of one action."""

    DONE = "done"
    NOOP = "noop"
    FAILED = "failed"
    STALE = "stale"
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something an admin should know. `code` is a stable slug, also a metric label."""

    code: str
    detail: str


# ── the host ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, order=True)
class GpuRef:
    """What a container can hold and a metric is keyed by: a whole GPU, or one GPU instance (MIG) of it."""

    uuid: str  # of the physical GPU, `GPU-…`
    gpu_instance: int | None = None  # NVML's GPU instance id

    def __str__(self) -> str:
        """`GPU-…` or `GPU-…/gi7`."""
        return self.uuid if self.gpu_instance is None else f"{self.uuid}/gi{self.gpu_instance}"


@dataclass(frozen=True, slots=True)
class MigDevice:
    """One MIG device (a compute instance of a GPU instance) as NVML or `nvidia-smi` lists it."""

    uuid: str  # `MIG-…`
    index: int  # 0-based per parent; what `--gpus device=0:1` counts, not the GPU instance id
    gpu_instance: int
    compute_instance: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU of the host."""

    uuid: str  # `GPU-…`
    index: int  # NVML's index: what `--gpus device=0` counts
    pci_bus_id: str = ""  # as NVML prints it, `00000000:09:00.0`
    minor: int | None = None  # N of /dev/nvidiaN
    name: str = ""
    mig_enabled: bool = False
    mig_devices: tuple[MigDevice, ...] = ()

    @property
    def refs(self) -> tuple[GpuRef, ...]:
        """What can be held of it: each GPU instance once, or the whole GPU where there is none."""
        instances = sorted({device.gpu_instance for device in self.mig_devices})
        return tuple(GpuRef(self.uuid, instance) for instance in instances) or (GpuRef(self.uuid),)


@dataclass(frozen=True, slots=True)
class GpuClaim:
    """Which GPUs a container may use, and how that was found."""

    wants: bool = False  # may use a GPU at all
    refs: tuple[GpuRef, ...] = ()  # what it may use, as far as resolved
    unclear: str = ""  # why `refs` may be incomplete; then idleness is UNKNOWN and every GPU counts as protected
    via: str = ""  # e.g. `--gpus`, `NVIDIA_VISIBLE_DEVICES`, `--device`, `privileged`
    holds: bool = True  # False: could look at GPUs but asked for none by name (privileged); no hold for demand


@dataclass(frozen=True, slots=True)
class Mount:
    """Where data survives the container."""

    source: str  # host path, or volume name
    destination: str
    kind: str  # bind, volume, tmpfs
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The keep-alive file, as Docker's archive stat sees it, and since when it has held this idle spell back."""

    modified_at: datetime
    honoured_since: datetime | None = None  # from the ledger: first tick of this idle spell that it held back


@dataclass(frozen=True, slots=True)
class Container:
    """One container: Docker's facts, and who and what identity.yaml says it is."""

    id: str  # 64 hex
    name: str
    image: str
    state: State
    created_at: datetime
    started_at: datetime | None = None  # of the present (or last) life; None: never started
    finished_at: datetime | None = None  # of the last life that ended
    running_since: datetime | None = None  # start of the chain of lives that followed each other at once
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: GpuClaim = GpuClaim()
    type: str = "docker"
    type_via: str = ""
    owner: str = "unknown"
    owner_via: str = ""
    group: str = ""
    infrastructure: bool = False  # claimed *and* trusted
    keep_alive: KeepAlive | None = None
    keep_alive_unreadable: str = ""  # why the file could not be looked for
    restart_policy: str = "no"
    auto_remove: bool = False
    network_mode: str = "bridge"
    pid: int = 0  # of its first process on the host; 0: none
    mounts: tuple[Mount, ...] = ()

    @property
    def short(self) -> str:
        """The 12 hex people know."""
        return self.id[:12]


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether a source answered, and how. `extra` goes into the JSON as it is."""

    up: bool
    detail: str = ""
    extra: Mapping[str, str | int] = field(default_factory=dict)


# ── measurements ─────────────────────────────────────────────────────────────────────────────────────────────────────

JoinKey = GpuRef | str  # a GPU or GPU instance, or a container's 64-hex id
Sample = tuple[float, float]  # Unix seconds, value in the signal's unit


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


@dataclass(frozen=True, slots=True)
class Evidence:
    """One clause, asked of one reading."""

    reading: Reading
    comparator: str  # below, above, at_most, at_least, is
    threshold: float  # in the reading's unit
    truth: Truth
    label: str  # what people call the signal: gpu, cpu, network


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


# ── what is decided ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LimitValue:
    """A limit that holds for one container, and the layer that set it. `value` None: never."""

    key: str
    value: timedelta | None
    layer: str  # e.g. "users: dave", "container_types: compose", "groups: student", "defaults", "unknown_owner"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule finds for one container."""

    container: Container
    rule: str
    kind: Kind
    why: str
    held_by: str | None = None  # name of the exemption, for Kind.EXEMPT
    for_: timedelta | None = None  # the window or limit asked; None: never
    limit: LimitValue | None = None  # where `for_` came from, when it is a limit
    due_at: datetime | None = None  # when the rule would act at the earliest, as far as is known
    evidence: tuple[Evidence, ...] = ()
    beneath: Kind | None = None  # for Kind.EXEMPT: what the rule would have found otherwise


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All verdicts of one snapshot, in the order containers and rules were given."""

    verdicts: tuple[Verdict, ...]
    demand: Demand
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing due: an act, or a warning; and whether it will be carried out."""

    id: str
    verdict: Verdict
    actions: tuple[Action, ...]
    mode: Mode  # settings weakened by the rule
    disposition: Disposition
    held_by: HeldBy | None = None
    detail: str = ""  # in words, why it is held back
    act_at: datetime | None = None  # for a warning: when the act may follow at the earliest

    @property
    def container(self) -> Container:
        """The container it is about, as it was when decided."""
        return self.verdict.container

    @property
    def enforced(self) -> bool:
        """Whether it will be carried out."""
        return self.disposition is Disposition.ENFORCE

    @property
    def destructive(self) -> bool:
        """Whether it ends or removes something."""
        return Action.STOP in self.actions or Action.REMOVE in self.actions


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything due, enforced or suppressed."""

    decisions: tuple[Decision, ...] = ()
    breaker: str = ""  # why the breaker withholds, in words; empty: it does not
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one action of a decision."""

    decision: str
    action: Action
    status: Status
    detail: str = ""
    delivered: bool | None = None  # for a warning: whether anybody was provably reached
    at: datetime | None = None


# ── what the ledger remembers ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of ticks in which one rule kept finding one life of one container due, or nearly so."""

    container: str  # 64 hex
    started_at: datetime | None  # the life it belongs to
    rule: str
    since: datetime  # first tick of the spell
    seen: datetime  # last tick of the spell
    warned_at: datetime | None = None  # when the warning of this spell went out (or would have, below enforce)
    warned_mode: Mode | None = None  # the mode it went out under
    delivered: bool = False  # somebody was provably reached
    kept_since: datetime | None = None  # first tick of this spell that a keep-alive file held back


@dataclass(frozen=True, slots=True)
class History:
    """What earlier ticks left behind."""

    spells: Mapping[tuple[str, str], Spell] = field(default_factory=dict)  # by (container id, rule)
    last_kinds: Mapping[tuple[str, str], Kind] = field(default_factory=dict)  # the last tick's verdicts
    last_tick_at: datetime | None = None
    running_since: Mapping[str, datetime] = field(default_factory=dict)  # by container id: chain of restarts
    last_running: int = 0  # GPU containers that ran at the last tick
    breaker_since: datetime | None = None
    writable: bool = True
    unwritable_why: str = ""
