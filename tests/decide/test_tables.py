"""Every decision, as tables that a person can read: one YAML file a concern, one row a case.

They are in the format in which admins test their rules (`ds01-policy test`), and are run by the same code.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01_policy.config.load import load_whole
from ds01_policy.config.tests_load import load_tests
from ds01_policy.rule_tests import Case, run

HERE = Path(__file__).parent
FILES = load_tests(load_whole(None, unix_group=lambda _: None), sorted(HERE.glob("*.yaml")))
CASES = [(Path(file.file).stem, case) for file in FILES for case in file.cases]


@pytest.mark.parametrize(("table", "case"), CASES, ids=[f"{table}: {case.name}" for table, case in CASES])
def test_decision(table: str, case: Case) -> None:
    """The rules find, and the plan does, what the row expects."""
    assert run(case).differences == (), f"{table}.yaml:{case.line}"
