"""What is decided and what became of it: verdicts, the plan, outcomes, and what the ledger remembers.

Times are aware UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ds01_policy.model.host import Container, GpuRef, Partition
from ds01_policy.model.measurement import Demand, Evidence, LocalSeries
from ds01_policy.model.words import Action, Disposition, HeldBy, Kind, Mode, Problem, Status


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


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of ticks in which one rule kept finding one life of one container due, or nearly so."""

    container: str  # 64 hex
    started_at: datetime | None  # the life it belongs to; of a rule over clocks the run, which restarts do not end
    rule: str
    since: datetime  # first tick of the spell
    seen: datetime  # last tick of the spell
    warned_at: datetime | None = None  # when the warning of this spell went out (or would have, below enforce)
    warned_mode: Mode | None = None  # the mode it went out under
    delivered: bool = False  # somebody was provably reached
    kept_since: datetime | None = None  # first tick of this spell that a keep-alive file held back
    promised_at: datetime | None = None  # the warning said: not before then


@dataclass(frozen=True, slots=True)
class Life:
    """What the ledger remembers of the newest life of a container that it saw."""

    container: str  # 64 hex
    started_at: datetime
    running_since: datetime  # start of the first life of the run it belongs to
    last_seen: datetime  # last tick that saw it
    ended_at: datetime | None = None  # None: it was alive when last seen
    owner: str = ""  # as it was found in this life; empty: nobody wrote it down
    gpus: tuple[GpuRef, ...] = ()  # likewise


@dataclass(frozen=True, slots=True)
class Unfit:
    """A GPU that was found bad after a container had left it."""

    since: datetime
    why: str  # what the newest look found


@dataclass(frozen=True, slots=True)
class Stop:
    """A running container that we stopped, and what has been counted for it since."""

    container: str  # 64 hex
    name: str
    owner: str
    rule: str
    started_at: datetime | None  # the life that was ended
    looked_at: datetime  # the tick that decided: what it showed as up was up shortly before
    at: datetime  # when it had stopped
    counted_until: datetime
    gpus: tuple[GpuRef, ...] = ()  # what it held and is still free of whoever had it
    gpu_seconds: float = 0.0  # counted so far
    regretted: bool = False


@dataclass(frozen=True, slots=True)
class Totals:
    """What has been counted over all runs, by rule. A lost ledger starts over at nothing."""

    stops: Mapping[str, float] = field(default_factory=dict)
    regrets: Mapping[str, float] = field(default_factory=dict)
    gpu_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class History:
    """What earlier ticks left behind."""

    spells: Mapping[tuple[str, str], Spell] = field(default_factory=dict)  # by (container id, rule)
    last_kinds: Mapping[tuple[str, str], Kind] = field(default_factory=dict)  # the last verdicts that were known
    last_tick_at: datetime | None = None
    lives: Mapping[str, Life] = field(default_factory=dict)  # newest known life, by container id
    last_running: int = 0  # GPU containers that ran at the last tick
    breaker_since: datetime | None = None
    failed: Mapping[str, datetime] = field(default_factory=dict)  # container id → when ending it last came to nothing
    samples: LocalSeries = field(default_factory=dict)  # as far back as the longest window reaches
    partitions: Mapping[GpuRef, Partition] = field(default_factory=dict)  # of GPUs and GPU instances, when last listed
    unfit: Mapping[str, Unfit] = field(default_factory=dict)  # by UUID of the GPU
    resets: Mapping[str, datetime] = field(default_factory=dict)  # UUID of a GPU → since when it waits for its reset
    writable: bool = True
    unwritable_why: str = ""
