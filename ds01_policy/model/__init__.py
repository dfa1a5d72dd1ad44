"""The values that flow through a tick: Snapshot → Verdicts → Plan → Outcomes. All frozen.

Owns no behaviour beyond what a value can say about itself; knows no file, socket or clock.
"""

from ds01_policy.model.decision import (
    Decision,
    Evaluation,
    History,
    LimitValue,
    Outcome,
    Plan,
    Spell,
    Verdict,
)
from ds01_policy.model.host import (
    Container,
    Gpu,
    GpuClaim,
    GpuRef,
    KeepAlive,
    MigDevice,
    Mount,
    SourceState,
)
from ds01_policy.model.measurement import (
    Answer,
    Demand,
    Evidence,
    JoinKey,
    Reading,
    Sample,
    Snapshot,
)
from ds01_policy.model.words import (
    ALIVE,
    Action,
    Disposition,
    HeldBy,
    Kind,
    Missing,
    Mode,
    Problem,
    State,
    Status,
    weakest,
)

__all__ = [
    "ALIVE",
    "Action",
    "Answer",
    "Container",
    "Decision",
    "Demand",
    "Disposition",
    "Evaluation",
    "Evidence",
    "Gpu",
    "GpuClaim",
    "GpuRef",
    "HeldBy",
    "History",
    "JoinKey",
    "KeepAlive",
    "Kind",
    "LimitValue",
    "MigDevice",
    "Missing",
    "Mode",
    "Mount",
    "Outcome",
    "Plan",
    "Problem",
    "Reading",
    "Sample",
    "Snapshot",
    "SourceState",
    "Spell",
    "State",
    "Status",
    "Verdict",
    "weakest",
]
