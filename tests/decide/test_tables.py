"""Every decision, as tables that a person can read: one YAML file a concern, one row a case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ds01_policy.config.load import load
from ds01_policy.evaluate import evaluate
from ds01_policy.model import Mode
from ds01_policy.plan import make_plan
from ds01_policy.policy import Policy
from ds01_policy.scenario import scenario

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.yaml"))
ROWS = [(path.stem, row) for path in FILES for row in yaml.load(path.read_text(), Loader=yaml.BaseLoader)]  # noqa: S506  the loader that makes no objects


def policy_for(row: dict[str, Any], tmp_path: Path) -> Policy:
    """Load the shipped policy with whatever files the row replaces; tables are about enforcing unless they say."""
    for name, text in row.get("files", {}).items():
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    policy = load(tmp_path, unix_group=lambda _: None)
    return replace(policy, settings=replace(policy.settings, mode=Mode(row.get("mode", "enforce"))))


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{table}: {row['case']}" for table, row in ROWS])
def test_decision(table: str, row: dict[str, Any], tmp_path: Path) -> None:
    """The rules find, and the plan does, what the row expects."""
    policy = policy_for(row, tmp_path)
    built = scenario(policy, row)
    evaluation = evaluate(policy, built.snapshot)
    plan = make_plan(policy, built.snapshot, evaluation, built.history)

    for name, rules in row["expect"].items():
        found = {verdict.rule: verdict for verdict in evaluation.verdicts if verdict.container.id == built.ids[name]}
        if rules == "no rule":
            assert not found, f"no rule should list {name}"
            continue
        for rule, expected in rules.items():
            if expected == "unlisted":
                assert rule not in found, f"{rule} should not match {name}"
                continue
            want = expected if isinstance(expected, dict) else {"verdict": expected}
            verdict = found[rule]
            assert verdict.kind == want["verdict"], f"{name} {rule}: {verdict.why}"
            assert verdict.held_by == want.get("held_by"), verdict.why
            for part in [want["why"]] if isinstance(want.get("why"), str) else want.get("why", []):
                assert part in verdict.why
            if "for" in want:
                assert verdict.for_ is not None
                assert verdict.for_.total_seconds() == int(want["for"]) * 60
            if "missing" in want:
                assert want["missing"] in {str(piece.reading.missing) for piece in verdict.evidence}

    if "plan" in row:
        shown = {
            f"{decision.container.name} {decision.verdict.rule} {'+'.join(decision.actions)}": str(
                decision.held_by or decision.disposition
            )
            for decision in plan.decisions
        }
        assert shown == (row["plan"] or {}), f"{table}: {[decision.detail for decision in plan.decisions]}"
    for code in row.get("problems", []):
        assert code in {problem.code for problem in evaluation.problems}
