"""What `test` says: which tests failed, expected against found with the evidence, and a line for each file.

Owns the layout, as text and as JSON. Compares nothing: rule_tests.py did.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ds01_policy.report.document import SCHEMA, decision_json, verdict_json
from ds01_policy.report.explain import clauses
from ds01_policy.report.layout import pad
from ds01_policy.report.words import reason
from ds01_policy.rule_tests import disposition
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ds01_policy.model import Decision
    from ds01_policy.report.layout import Page
    from ds01_policy.rule_tests import Difference, Result

_WORD = 11  # columns of the longest word before what is expected


@dataclass(frozen=True, slots=True)
class Ran:
    """One file of tests, and what became of each."""

    file: str
    results: tuple[Result, ...]

    @property
    def failed(self) -> tuple[Result, ...]:
        """Those that are not as expected."""
        return tuple(each for each in self.results if each.differences)


def results_text(files: Sequence[Ran], page: Page) -> str:
    """Write every failure, then one line a file, and a last one where there are several; ends with a newline."""
    failures = ["\n".join(_failure(file.file, result, page)) for file in files for result in file.failed]
    counts = ((f"{_count(file.results, file.failed)} in {plain(file.file)}", file.failed) for file in files)
    lines = [page.paint(line, *_colour(failed)) for line, failed in counts]
    if len(files) != 1:
        failed = [each for file in files for each in file.failed]
        whole = _count([each for file in files for each in file.results], failed)
        lines.append(page.paint(f"{whole} in all", "bold", *_colour(failed)))
    return "\n\n".join([*failures, "\n".join(lines)]) + "\n"


def _colour(failed: Sequence[Result]) -> tuple[Any, ...]:
    return ("red",) if failed else ("green",)


def _count(results: Sequence[Result], failed: Sequence[Result]) -> str:
    passed = f"{len(results) - len(failed)} passed"
    return f"{passed}, {len(failed)} failed" if failed else passed


def _failure(file: str, result: Result, page: Page) -> list[str]:
    case = result.case
    lines = page.hang(f"{plain(file)}:{case.line}: ", plain(case.name), "bold", "red", indent=4)
    for about, differences in groupby(result.differences, key=lambda each: (each.container, each.rule)):
        lines += _about(about, list(differences), result, page)
    return lines


def _about(about: tuple[str, str], differences: list[Difference], result: Result, page: Page) -> list[str]:
    """Write what differs about one container and rule, then what was measured and what would be done."""
    lines = page.hang("  ", plain(" ".join(filter(None, about)))) if any(about) else []
    width = max(_WORD, *(len(each.what) for each in differences))
    for each in differences:
        lines += page.hang(f"  - {pad(plain(each.what), width)}  ", plain(each.expected), "red")
        lines += page.hang(f"  + {pad(plain(each.what), width)}  ", plain(each.found), "green")
    verdict = result.verdicts.get(about)
    if verdict is None:
        return lines
    if all(each.what != "why" for each in differences):
        lines += page.hang(f"    {pad('because', width)}  ", reason(verdict))
    for decision in _decisions(result, about):
        lines += page.hang(f"    {pad('plan', width)}  ", _planned(decision))
    return [*lines, *(f"  {line}" for line in clauses(replace(page, width=page.columns - 2), verdict))]


def _decisions(result: Result, about: tuple[str, str]) -> list[Decision]:
    return [each for each in result.plan.decisions if (each.container.name, each.verdict.rule) == about]


def _planned(decision: Decision) -> str:
    text = f"{', '.join(decision.actions)}: {disposition(decision)}"
    return f"{text} ({plain(decision.detail)})" if decision.detail else text


def results_document(files: Iterable[Ran]) -> dict[str, Any]:
    """Lay out what became of every test as plain JSON values."""
    described = [_file_json(file) for file in files]
    return {
        "schema": SCHEMA,
        "command": "test",
        "passed": sum(file["passed"] for file in described),
        "failed": sum(file["failed"] for file in described),
        "files": described,
    }


def _file_json(file: Ran) -> dict[str, Any]:
    return {
        "file": file.file,
        "passed": len(file.results) - len(file.failed),
        "failed": len(file.failed),
        "cases": [_case_json(result) for result in file.results],
    }


def _case_json(result: Result) -> dict[str, Any]:
    return {
        "case": result.case.name,
        "line": result.case.line,
        "passed": not result.differences,
        "differences": [
            {
                "container": each.container or None,
                "rule": each.rule or None,
                "what": each.what,
                "expected": each.expected,
                "found": each.found,
            }
            for each in result.differences
        ],
        # What was found, where it is not as expected.
        "verdicts": [
            {"container": container, **verdict_json(verdict)}
            for (container, _), verdict in result.verdicts.items()
            if result.differences
        ],
        "plan": [decision_json(each) for each in result.plan.decisions if result.differences],
    }
