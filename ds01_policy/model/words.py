"""The words of the model: states, modes, actions, verdicts and the reasons not to act.

Owns the vocabulary; each word is also what JSON and metrics show.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


# Problems of a look that say that a container was not seen, though it may be there.
UNSEEN = ("container_unreadable", "docker_slow")
