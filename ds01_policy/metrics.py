"""The engine's own metrics, as a text file for node_exporter's textfile collector.

Owns names, labels and the file. A label's values come from the program, the policy or the driver, never from a
container.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING

from ds01_policy.model import HeldBy, Kind, Status
from ds01_policy.report.sources import answered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from ds01_policy.model import Mode
    from ds01_policy.tick import Report

LAST_SUCCESS = "ds01_policy_last_success_timestamp_seconds"
GPU_LIMIT = 256  # GPUs of one host; their UUIDs come from the driver
Labels = tuple[tuple[str, str], ...]
Samples = dict[Labels, float]


def success(report: Report) -> bool:
    """Whether a tick did all it was there for: it could write its memory, and nothing that it did failed."""
    return report.history.writable and not any(outcome.status is Status.FAILED for outcome in report.outcomes)


def families(
    report: Report | None, mode: Mode, began: datetime, ended: datetime, succeeded: float | None
) -> dict[str, tuple[str, Samples]]:
    """Lay out all metrics: name → (help, samples). `report` None: Docker could not be observed.

    `succeeded` is when a tick succeeded last (Unix seconds); None: never.
    """
    told: dict[str, tuple[str, Samples]] = {
        "ds01_policy_last_run_timestamp_seconds": ("When the last tick ended.", {(): ended.timestamp()}),
        LAST_SUCCESS: ("When a tick last did all it was there for; 0 if never.", {(): succeeded or 0.0}),
        "ds01_policy_duration_seconds": ("How long the last tick took.", {(): (ended - began).total_seconds()}),
        "ds01_policy_mode": ("The mode of the last tick.", {(("mode", mode.value),): 1.0}),
    }
    if report is None:
        down: Samples = {(("source", "docker"),): 0.0}
        return {**told, "ds01_policy_source_up": ("Whether a source answered.", down)}
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
    problems = Counter(
        problem.code for problem in (*report.snapshot.problems, *report.evaluation.problems, *report.problems)
    )
    judged = [verdict for verdict in report.evaluation.verdicts if verdict.kind is not Kind.OFF]
    unknown = sum(verdict.kind is Kind.UNKNOWN for verdict in judged) / len(judged) if judged else 0.0
    withheld = Counter(each.held_by for each in report.plan.decisions)
    strangers: Counter[tuple[str, ...]] = Counter()
    memory: Counter[tuple[str, ...]] = Counter()
    for process in report.snapshot.host_processes:
        strangers[process.gpu,] += 1
        memory[process.gpu,] += process.memory_bytes or 0
    up = {name: float(state.up) for name, state in report.snapshot.sources.items()}
    readings: Counter[tuple[str, ...]] = Counter()
    for each in answered(report.evaluation.verdicts):
        readings[each.signal, each.source or "", each.missing.value if each.missing else ""] += len(each.containers)
    return {
        **told,
        "ds01_policy_source_up": ("Whether a source answered.", _by(("source",), {(key,): up[key] for key in up})),
        "ds01_policy_verdicts": ("What the rules find.", _by(("rule", "verdict"), verdicts)),
        "ds01_policy_readings": (
            "Containers by signal and by who answered it (nobody: empty), and what kept a better source from it.",
            _by(("signal", "source", "missing"), readings),
        ),
        "ds01_policy_decisions": (
            "What is due, and what holds it back.",
            _by(("rule", "actions", "disposition", "held_by"), decisions),
        ),
        "ds01_policy_outcomes": ("What became of the last tick's actions.", _by(("action", "status"), outcomes)),
        "ds01_policy_problems": (
            "What an admin should know.",
            _by(("code",), {(key,): n for key, n in problems.items()}),
        ),
        "ds01_policy_unknown_ratio": ("Share of the verdicts that are unknown.", {(): unknown}),
        "ds01_policy_breaker_tripped": ("Whether the breaker withholds.", {(): float(bool(report.plan.breaker))}),
        "ds01_policy_budget_withheld": ("Decisions that the budget withholds.", {(): float(withheld[HeldBy.BUDGET])}),
        "ds01_policy_gpus": ("GPUs and GPU instances of the host.", {(): float(report.evaluation.demand.gpus)}),
        "ds01_policy_gpus_held": ("Those that are spoken for.", {(): float(report.evaluation.demand.held)}),
        "ds01_policy_host_processes": ("Processes on a GPU that belong to no container.", _by_gpu(strangers)),
        "ds01_policy_host_process_memory_bytes": ("What they hold of its memory, as far as known.", _by_gpu(memory)),
        "ds01_policy_gpu_unfit": (
            "GPUs that were found bad after a container had left them.",
            _by(("gpu",), {(gpu,): 1.0 for gpu in sorted(report.history.unfit)[:GPU_LIMIT]}),
        ),
    }


def _by(names: tuple[str, ...], counts: Mapping[tuple[str, ...], float]) -> Samples:
    return {tuple(zip(names, values, strict=True)): float(number) for values, number in sorted(counts.items())}


def _by_gpu(counts: Mapping[tuple[str, ...], float]) -> Samples:
    return _by(("gpu",), dict(sorted(counts.items())[:GPU_LIMIT]))


def text(told: Mapping[str, tuple[str, Samples]]) -> str:
    """Write metrics in the text format that Prometheus reads; all of them gauges: each tick tells of itself."""
    lines = []
    for name, (meaning, samples) in told.items():
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(labels)} {value!r}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels)
    return f"{{{pairs}}}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def last_success(path: Path) -> float | None:
    """Read back when a tick succeeded last, from the file that the tick before wrote; None: it does not say."""
    try:
        found = re.search(rf"^{LAST_SUCCESS} (\S+)$", path.read_text(errors="replace"), re.MULTILINE)
        return (float(found[1]) or None) if found else None
    except (OSError, ValueError):
        return None


def write(path: Path, content: str) -> None:
    """Replace the file in one step: a scrape sees the old one or the new one, whole.

    Raises:
        OSError: when it cannot be written.

    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(content)
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
