"""The JSON that `preview` and `evaluate` print: one document, the same keys always there.

Owns key names, nesting, rounding and escaping. Decides nothing and reads no clock.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ds01_policy.model import (
        Container,
        Decision,
        Evaluation,
        Evidence,
        HostProcess,
        LimitValue,
        Mode,
        Outcome,
        Plan,
        Problem,
        Snapshot,
        SourceState,
        Verdict,
    )

Json = dict[str, Any]

SCHEMA = 1


def document(  # noqa: PLR0913  one argument a part of the document
    command: str,
    policy_digest: str,
    mode: Mode,
    snapshot: Snapshot,
    evaluation: Evaluation,
    plan: Plan,
    outcomes: Iterable[Outcome] = (),
    *,
    problems: Iterable[Problem] = (),
    all_: bool = False,
    rule: str | None = None,
) -> Json:
    """Lay one tick out as plain JSON values.

    `all_` adds containers that no rule is about; `rule` keeps one rule, what is due by it, and the containers it is
    about. `problems` are those met after planning.
    """
    verdicts = [verdict for verdict in evaluation.verdicts if rule in (None, verdict.rule)]
    decisions = [decision for decision in plan.decisions if rule in (None, decision.verdict.rule)]
    kept = {decision.id for decision in decisions}
    by_container: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_container.setdefault(verdict.container.id, []).append(verdict)
    wanted = [container for container in snapshot.containers if container.id in by_container or (all_ and rule is None)]
    return {
        "schema": SCHEMA,
        "command": command,
        **heading(policy_digest, mode, snapshot),
        "demand": {
            "gpus": evaluation.demand.gpus,
            "held": evaluation.demand.held,
            "high": evaluation.demand.high,
        },
        "containers": [
            {**container_json(container), "rules": [verdict_json(each) for each in by_container.get(container.id, ())]}
            for container in sorted(wanted, key=lambda container: (container.name, container.id))
        ],
        "plan": [decision_json(decision) for decision in decisions],
        "outcomes": [outcome_json(outcome) for outcome in outcomes if rule is None or outcome.decision in kept],
        "host_processes": [host_process_json(each) for each in snapshot.host_processes],
        "problems": [
            {"code": problem.code, "detail": problem.detail}
            for problem in all_problems(snapshot, evaluation, plan, problems)
        ],
    }


def dumps(document: Json, *, indented: bool = True) -> str:
    """Write a document: pure printable ASCII, one newline at the end; indented for people, on one line for programs.

    The indented form is written by Python, the other by C: for a thousand containers that is a second.

    Raises:
        ValueError: for a float that JSON has no word for.

    """
    return json.dumps(document, indent=2 if indented else None, ensure_ascii=True, allow_nan=False) + "\n"


def heading(policy_digest: str, mode: Mode, snapshot: Snapshot) -> Json:
    """Say when and where was looked, under which policy, and what answered."""
    return {
        "at": instant(snapshot.at),
        "host": snapshot.host,
        "mode": mode.value,
        "policy": policy_digest,
        "sources": {name: _source(state) for name, state in snapshot.sources.items()},
    }


def container_json(container: Container) -> Json:
    """Describe one container, without its verdicts."""
    return {
        "id": container.id,
        "name": container.name,
        "state": container.state.value,
        "type": container.type,
        "type_via": container.type_via,
        "owner": container.owner,
        "owner_via": container.owner_via,
        "owner_proven": container.owner_proven,
        "group": container.group,
        "image": container.image,
        "infrastructure": container.infrastructure,
        "started_at": instant(container.started_at),
        "gpus": [{"uuid": ref.uuid, "gpu_instance": ref.gpu_instance} for ref in container.gpus.refs],
        "gpus_via": container.gpus.via,
        "gpus_unclear": container.gpus.unclear or None,
    }


def verdict_json(verdict: Verdict) -> Json:
    """Describe what one rule finds for one container."""
    return {
        "rule": verdict.rule,
        "verdict": verdict.kind.value,
        "why": verdict.why,
        "held_by": verdict.held_by,
        "for_s": seconds(verdict.for_),
        "limit": None if verdict.limit is None else limit_json(verdict.limit),
        "due_at": instant(verdict.due_at),
        "beneath": None if verdict.beneath is None else verdict.beneath.value,
        "evidence": [_evidence(evidence) for evidence in verdict.evidence],
    }


def decision_json(decision: Decision) -> Json:
    """Describe one thing due, and what holds it back."""
    return {
        "id": decision.id,
        "container": decision.container.id,
        "name": decision.container.name,
        "rule": decision.verdict.rule,
        "actions": [action.value for action in decision.actions],
        "mode": decision.mode.value,
        "disposition": decision.disposition.value,
        "held_by": None if decision.held_by is None else decision.held_by.value,
        "detail": decision.detail,
        "act_at": instant(decision.act_at),
    }


def outcome_json(outcome: Outcome) -> Json:
    """Describe what became of one action."""
    return {
        "decision": outcome.decision,
        "action": outcome.action.value,
        "status": outcome.status.value,
        "detail": outcome.detail,
        "delivered": outcome.delivered,
        "at": instant(outcome.at),
    }


def host_process_json(process: HostProcess) -> Json:
    """Describe one process that is on a GPU and of no container. What is not known is null."""
    return {
        "pid": process.pid,
        "user": process.user or None,
        "uid": process.uid,
        "command": process.command or None,
        "gpu": process.gpu,
        "gpu_instance": process.gpu_instance,
        "memory_bytes": process.memory_bytes,
        "started_at": instant(process.started_at),
        "place": process.place or None,
    }


def limit_json(limit: LimitValue) -> Json:
    """Describe a limit: `value_s` null is never; `layer` is who set it."""
    return {
        "key": limit.key,
        "value_s": seconds(limit.value),
        "layer": limit.layer,
    }


def all_problems(
    snapshot: Snapshot, evaluation: Evaluation, plan: Plan, further: Iterable[Problem] = ()
) -> list[Problem]:
    """Collect the problems of every stage, each once, in the order they were met."""
    return list(dict.fromkeys((*snapshot.problems, *evaluation.problems, *plan.problems, *further)))


def instant(at: datetime | None) -> str | None:
    """Write a time as `2026-03-02T03:31:00Z`. Part seconds are cut off: date parsers trip over them."""
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def seconds(duration: timedelta | None) -> float | int | None:
    """Write a duration in seconds, whole ones as an integer."""
    if duration is None:
        return None
    whole, part = divmod(duration, timedelta(seconds=1))
    return _rounded(duration.total_seconds()) if part else whole


def _rounded(value: float | None) -> float | None:
    """Round to six significant digits; what JSON cannot say (infinite, not a number) is null."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}") + 0.0  # + 0.0: no -0.0


def _source(state: SourceState) -> Json:
    described: Json = {"up": state.up}
    described.update({key: value for key, value in state.extra.items() if key not in ("up", "detail")})
    if state.detail:
        described["detail"] = state.detail
    return described


def _evidence(evidence: Evidence) -> Json:
    reading = evidence.reading
    return {
        "signal": reading.signal,
        "window_s": seconds(reading.window),
        "value": _rounded(reading.value),
        "low": _rounded(reading.low),
        "high": _rounded(reading.high),
        "unit": reading.unit.value,
        evidence.comparator: _rounded(evidence.threshold),
        "coverage": _rounded(reading.coverage),
        "source": reading.source,
        "instead_of": evidence.instead_of,
        "truth": evidence.truth.value,
        "missing": None if evidence.missing is None else evidence.missing.value,
        "detail": reading.detail,
    }
