"""test: run the tests of rules.

Owns what is printed and the exit code.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.findings import from_here
from ds01_policy.cli.wiring import directory_of, page
from ds01_policy.config.files import TESTS_FOLDER
from ds01_policy.config.load import load_whole
from ds01_policy.config.problems import PolicyError
from ds01_policy.config.tests_load import beside_rules, load_tests, named
from ds01_policy.observe.host import unix_group_members
from ds01_policy.report.document import dumps
from ds01_policy.report.tested import Ran, results_document, results_text
from ds01_policy.rule_tests import run

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_policy.cli.options import Options


def test(options: Options, paths: list[Path], *, json: bool) -> None:
    """Run the tests in these files and folders, or those beside the rules."""
    try:
        loaded = load_whole(directory_of(options), unix_group=unix_group_members)
        found = named(paths) if paths else beside_rules(loaded)
        files = load_tests(loaded, found)
    except PolicyError as error:
        lines = [str(finding) for finding in error.findings]
        fail(Exit.USAGE, [*lines, f"{len(lines)} error{'s' if len(lines) != 1 else ''}: no test was run"])
    if not files:
        looked = [str(path) for path in paths] or [str(folder / TESTS_FOLDER) for folder in loaded.folders]
        fail(Exit.FAILED, [f"no test was run: there is no *.yaml in {', '.join(looked)}"])
    tested = [Ran(from_here(file.file), tuple(run(case) for case in file.cases)) for file in files]
    sys.stdout.write(dumps(results_document(tested)) if json else results_text(tested, page()))
    raise SystemExit(int(Exit.FAILED if any(file.failed for file in tested) else Exit.DONE))
