"""PURE: what a tick tells of itself: sources, verdicts, decisions, outcomes, GPUs.

Owns names and labels. Values of labels come from the program, the policy or the driver; holders.py alone tells of
containers.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ds01_policy.metrics.exposition import Family, Samples, by
from ds01_policy.metrics.holders import holders
from ds01_policy.metrics.totals import counters
from ds01_policy.model import HeldBy, Kind, Mode, Status
from ds01_policy.report.document import all_problems
from ds01_policy.report.sources import answered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ds01_policy.tick import Report

LAST_SUCCESS = "ds01_policy_last_success_timestamp_seconds"
GPU_LIMIT = 256  # GPUs of one host; their UUIDs come from the driver


def success(report: Report) -> bool:
    """Whether a tick did all it was there for: it could write its memory, and nothing that it did failed."""
    return report.history.writable and not any(outcome.status is Status.FAILED for outcome in report.outcomes)


def families(
    report: Report | None,
    mode: Mode,
    began: datetime,
    ended: datetime,
    succeeded: float | None,
    rules: Iterable[str] = (),
) -> dict[str, Family]:
    """Lay out all metrics of a tick, by name. `report` None: Docker could not be observed.

    `succeeded` is when a tick succeeded last (Unix seconds); None: never. `rules`: the ids of those that there are.
    """
    told = {
        "ds01_policy_last_run_timestamp_seconds": Family("When the last tick ended.", {(): ended.timestamp()}),
        LAST_SUCCESS: Family("When a tick last did all it was there for; 0 if never.", {(): succeeded or 0.0}),
        "ds01_policy_duration_seconds": Family("How long the last tick took.", {(): (ended - began).total_seconds()}),
        "ds01_policy_mode": Family("The mode of the last tick.", {(("mode", mode.value),): 1.0}),
    }
    if report is None:
        down: Samples = {(("source", "docker"),): 0.0}
        return {**told, "ds01_policy_source_up": Family("Whether a source answered.", down)}
    verdicts: Counter[tuple[str, ...]] = Counter(
        (verdict.rule, verdict.kind.value) for verdict in report.evaluation.verdicts
    )
    decisions: Counter[tuple[str, ...]] = Counter(
        (each.verdict.rule, "+".join(each.actions), each.disposition.value, each.held_by.value if each.held_by else "")
        for each in report.plan.decisions
    )
    outcomes: Counter[tuple[str, ...]] = Counter(
        (outcome.action.value, outcome.status.value) for outcome in report.outcomes
    )
    problems: Counter[tuple[str, ...]] = Counter(
        (problem.code,) for problem in all_problems(report.snapshot, report.evaluation, report.plan, report.problems)
    )
    judged = [verdict for verdict in report.evaluation.verdicts if verdict.kind is not Kind.OFF]
    unknown = sum(verdict.kind is Kind.UNKNOWN for verdict in judged) / len(judged) if judged else 0.0
    # Below enforce a budget withholds nothing: it only shows what it would withhold.
    withheld = sum(each.held_by is HeldBy.BUDGET and each.mode is Mode.ENFORCE for each in report.plan.decisions)
    strangers: Counter[tuple[str, ...]] = Counter()
    memory: Counter[tuple[str, ...]] = Counter()
    for process in report.snapshot.host_processes:
        strangers[process.gpu,] += 1
        memory[process.gpu,] += process.memory_bytes or 0
    # What settings.yaml switches off is not down, and nobody is to be woken for it.
    up = {name: float(state.up) for name, state in report.snapshot.sources.items() if not state.off}
    readings: Counter[tuple[str, ...]] = Counter()
    for each in answered(report.evaluation.verdicts):
        readings[each.signal, each.source or "", each.missing.value if each.missing else ""] += len(each.containers)
    return {
        **told,
        "ds01_policy_source_up": Family("Whether a source answered.", by(("source",), {(key,): up[key] for key in up})),
        "ds01_policy_verdicts": Family("What the rules find.", by(("rule", "verdict"), verdicts)),
        "ds01_policy_readings": Family(
            "Containers by signal and by who answered it (nobody: empty), and what kept a better source from it.",
            by(("signal", "source", "missing"), readings),
        ),
        "ds01_policy_decisions": Family(
            "What is due, and what holds it back.",
            by(("rule", "actions", "disposition", "held_by"), decisions),
        ),
        "ds01_policy_outcomes": Family("What became of the last tick's actions.", by(("action", "status"), outcomes)),
        "ds01_policy_problems": Family(
            "What an admin should know.",
            by(("code",), problems),
        ),
        "ds01_policy_unknown_ratio": Family("Share of the verdicts that are unknown.", {(): unknown}),
        "ds01_policy_breaker_tripped": Family("Whether the breaker withholds.", {(): float(bool(report.plan.breaker))}),
        "ds01_policy_budget_withheld": Family("Decisions that the budget withholds.", {(): float(withheld)}),
        "ds01_policy_gpus": Family("GPUs and GPU instances of the host.", {(): float(report.evaluation.demand.gpus)}),
        "ds01_policy_gpus_held": Family("Those that are spoken for.", {(): float(report.evaluation.demand.held)}),
        "ds01_policy_host_processes": Family("Processes on a GPU that belong to no container.", _by_gpu(strangers)),
        "ds01_policy_host_process_memory_bytes": Family(
            "What they hold of its memory, as far as known.", _by_gpu(memory)
        ),
        **holders(report.snapshot.containers),
        **counters(report.totals, rules),
        "ds01_policy_gpu_unfit": Family(
            "GPUs that were found bad after a container had left them.",
            by(("gpu",), {(gpu,): 1.0 for gpu in sorted(report.history.unfit)[:GPU_LIMIT]}),
        ),
    }


def _by_gpu(counts: Mapping[tuple[str, ...], float]) -> Samples:
    return by(("gpu",), dict(sorted(counts.items())[:GPU_LIMIT]))
