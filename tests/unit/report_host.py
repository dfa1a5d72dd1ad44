"""One host at 03:31 UTC with one container of every kind, as values: what the report tests lay out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from ds01_policy.identity import Identity
from ds01_policy.limits import Group, Limits
from ds01_policy.logic import Truth
from ds01_policy.model import (
    Action,
    Container,
    Decision,
    Demand,
    Disposition,
    Evaluation,
    Evidence,
    Gpu,
    GpuClaim,
    GpuRef,
    HeldBy,
    History,
    Kind,
    LimitValue,
    Missing,
    Mode,
    Mount,
    Plan,
    Problem,
    Reading,
    Snapshot,
    SourceState,
    Spell,
    State,
    Verdict,
)
from ds01_policy.policy import Policy, Settings
from ds01_policy.report.layout import Clock
from ds01_policy.rules import AllOf, Clause, Except, For, Match, Rule, Selector, Warn
from ds01_policy.units import Unit

AT = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)
CLOCK = Clock(AT, timezone(timedelta(hours=1)))
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
GPUS = tuple(Gpu(f"GPU-{index}a1f0000", index) for index in range(8))
END = (Action.STOP, Action.REMOVE, Action.EPILOG)


def container(digit: str, name: str, *gpus: int, owner: str = "alice", state: State = State.RUNNING) -> Container:
    """Build one that was created five hours ago and started four hours ago; `digit` repeated is its id."""
    refs = tuple(GpuRef(GPUS[index].uuid) for index in gpus)
    return Container(
        id=digit * 64,
        name=name,
        image="pytorch:2.3",
        state=state,
        created_at=AT - 5 * HOUR,
        started_at=None if state is State.CREATED else AT - 4 * HOUR,
        gpus=GpuClaim(wants=bool(gpus), refs=refs, via="--gpus" if gpus else ""),
        owner=owner,
        owner_via="label ds01.user",
        group="student",
    )


def piece(
    label: str,
    value: float,
    high: float,
    threshold: float,
    unit: Unit,
    truth: Truth = Truth.TRUE,
    missing: Missing | None = None,
) -> Evidence:
    """Build one clause, asked over an hour."""
    name = {"gpu": "gpu_utilization", "cpu": "cpu_usage", "network": "network_io"}[label]
    coverage = 0.6 if missing else 0.992
    detail = "newest sample is 20m old" if missing else ""
    reading = Reading(name, HOUR, unit, value, value, high, coverage, "prometheus", missing, detail)
    return Evidence(reading, "below", threshold, truth, label)


CPU = piece("cpu", 0.001, 0.001, 0.01, Unit.CORES)
NETWORK = piece("network", 12.0, 12.5, 10240.0, Unit.BYTES_PER_S)
QUIET = (piece("gpu", 0.003, 0.011, 0.05, Unit.RATIO), CPU, NETWORK)
GAPPY = (piece("gpu", 0.0, 0.41, 0.05, Unit.RATIO, Truth.UNKNOWN, Missing.STALE), CPU, NETWORK)

TRAIN = container("1", "train", 1)
JAX = container("2", "jax", 2, owner="bob")
LLM = container("3", "llm", 3, 4, 5, 6, owner="carol")
GRAFANA = container("4", "grafana", owner="root")
KEPT = container("5", "kept", 7, owner="dave")
DRAFT = container("6", "draft", 0, owner="erin", state=State.CREATED)
OLD = container("7", "old", 0, owner="unknown")

IDLE_LIMIT = LimitValue("idle_timeout", HOUR, "defaults")
DAY_LIMIT = LimitValue("max_runtime", 24 * HOUR, "defaults")
IDLE_WHY = "idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%, network 12 B/s < 10 KiB/s"
DAY_WHY = "running for 4h < 24h"


def clear_of_runtime(of: Container) -> Verdict:
    """Build the verdict of a runtime rule that has twenty hours to go."""
    return Verdict(of, "max-runtime", Kind.CLEAR, DAY_WHY, None, 24 * HOUR, DAY_LIMIT, AT + 20 * HOUR)


TRAIN_IDLE = Verdict(TRAIN, "idle-gpu", Kind.ACT, IDLE_WHY, None, HOUR, IDLE_LIMIT, AT, QUIET)
JAX_IDLE = Verdict(
    JAX, "idle-gpu", Kind.UNKNOWN, "gpu: stale (newest sample is 20m old)", None, HOUR, IDLE_LIMIT, None, GAPPY
)
LLM_IDLE = Verdict(LLM, "idle-gpu", Kind.CLEAR, "in use: gpu 87% ≥ 5%", None, HOUR, IDLE_LIMIT)
LLM_LONG = Verdict(LLM, "max-runtime", Kind.WARN, "running for 23h < 24h", None, 24 * HOUR, DAY_LIMIT, AT + HOUR)
KEPT_IDLE = Verdict(
    KEPT,
    "idle-gpu",
    Kind.EXEMPT,
    "keep-alive file, until 2026-03-02 21:00 UTC; otherwise act: idle for 60m",
    "keep_alive",
    HOUR,
    IDLE_LIMIT,
    None,
    QUIET,
    Kind.ACT,
)
DRAFT_OLD = Verdict(DRAFT, "never-started", Kind.ACT, "created for 5h ≥ 30m", None, 30 * MINUTE, None, AT - 4.5 * HOUR)
OLD_LONG = Verdict(OLD, "max-runtime", Kind.ACT, "running for 26h ≥ 24h", None, 24 * HOUR, DAY_LIMIT, AT - 2 * HOUR)

VERDICTS = (
    TRAIN_IDLE,
    clear_of_runtime(TRAIN),
    JAX_IDLE,
    clear_of_runtime(JAX),
    LLM_IDLE,
    LLM_LONG,
    KEPT_IDLE,
    clear_of_runtime(KEPT),
    DRAFT_OLD,
    OLD_LONG,
)
WARN_TRAIN = Decision("d1", TRAIN_IDLE, (Action.WARN,), Mode.ENFORCE, Disposition.ENFORCE, act_at=AT + 10 * MINUTE)
STOP_TRAIN = Decision(
    "d2", TRAIN_IDLE, END, Mode.ENFORCE, Disposition.SUPPRESS, HeldBy.NOTICE, "no warning has gone out yet"
)
DROP_DRAFT = Decision(
    "d3", DRAFT_OLD, (Action.REMOVE,), Mode.OBSERVE, Disposition.SUPPRESS, HeldBy.MODE, "mode observe does not act"
)
STOP_OLD = Decision("d4", OLD_LONG, END, Mode.ENFORCE, Disposition.ENFORCE)

FORGED = Problem("untrusted_infrastructure", "jax (222222222222) claims to be infrastructure; it is not honoured")
SNAPSHOT = Snapshot(
    at=AT,
    host="gpu01",
    containers=(TRAIN, JAX, LLM, GRAFANA, KEPT, DRAFT, OLD),
    gpus=GPUS,
    sources={
        "docker": SourceState(up=True),
        "prometheus": SourceState(up=True, extra={"queries": 8}),
        "gpu": SourceState(up=True, extra={"via": "nvml"}),
    },
    problems=(FORGED,),
)
EVALUATION = Evaluation(VERDICTS, Demand(8, 7, high=True))
PLAN = Plan((WARN_TRAIN, STOP_TRAIN, DROP_DRAFT, STOP_OLD))

RUNNING = Selector("state", ("running",))
POLICY = Policy(
    settings=Settings(mode=Mode.ENFORCE),
    signals={},
    limits=Limits(
        defaults={"idle_timeout": HOUR, "max_runtime": 24 * HOUR},
        default_group="student",
        groups={"student": Group()},
        users={"bob": {"max_runtime": None}},
    ),
    identity=Identity(),
    rules=(
        Rule(
            "idle-gpu",
            "Holds a GPU and uses nothing.",
            Match((RUNNING, Selector("gpu", ("true",)))),
            For(limit="idle_timeout"),
            END,
            (Except("keep_alive"),),
            AllOf(tuple(Clause(each.reading.signal, "below", each.threshold) for each in QUIET)),
            Warn(0.8, 10 * MINUTE),
        ),
        Rule("max-runtime", "Runs too long.", Match((RUNNING,)), For(limit="max_runtime"), END),
        Rule("never-started", "", Match((Selector("state", ("created",)),)), For(30 * MINUTE), (Action.REMOVE,)),
    ),
    digest="sha256:abc",
)
HISTORY = History(
    spells={
        (TRAIN.id, "idle-gpu"): Spell(
            TRAIN.id, TRAIN.started_at, "idle-gpu", AT - HOUR, AT - 5 * MINUTE, AT - 6 * MINUTE, Mode.ENFORCE
        )
    }
)
KEEPS = (Mount("/data/alice", "/workspace", "bind"), Mount("tmpfs", "/tmp", "tmpfs"))  # noqa: S108  data, not a path used
