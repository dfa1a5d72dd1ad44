"""Files of rule tests → cases that can be run, or everything that is wrong with the files, all at once.

Owns which files are tests, and whether the names in them exist. The shape is tests_file.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.config.files import TESTS, TESTS_FOLDER, Tree
from ds01_policy.config.given import with_given
from ds01_policy.config.problems import Finding, PolicyError, closest
from ds01_policy.config.scalars import Names
from ds01_policy.config.shape import validate
from ds01_policy.config.tests_file import CasesFile, wanted
from ds01_policy.config.yaml_strict import Path as Within
from ds01_policy.config.yaml_strict import parse
from ds01_policy.model import Mode
from ds01_policy.rule_tests import NO_MATCH, Case
from ds01_policy.rules import by_id
from ds01_policy.scenario import WORDS, scenario, signal_words
from ds01_policy.series import Unreadable

if TYPE_CHECKING:
    from ds01_policy.config.loaded import Loaded
    from ds01_policy.config.tests_file import CaseFile
    from ds01_policy.config.yaml_strict import Document
    from ds01_policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Cases:
    """One file of tests."""

    file: str  # the path to open
    cases: tuple[Case, ...]


def beside_rules(loaded: Loaded) -> tuple[Path, ...]:
    """List the files of tests beside the rules of this policy: `tests/*.yaml` in each of their folders."""
    return tuple(path for folder in loaded.folders for path in _in_rules_folder(Path(folder)))


def named(paths: Iterable[Path]) -> tuple[Path, ...]:
    """List the files of tests that these paths mean: a file, a folder of tests, or a folder of rules that has one.

    Raises:
        PolicyError: for a path where nothing is.

    """
    wrong = [
        Finding("no_file", str(path), 0, 0, "there is no such file or folder") for path in paths if not path.exists()
    ]
    if wrong:
        raise PolicyError(wrong)
    found = [each for path in paths for each in (_in_folder(path) if path.is_dir() else (path,))]
    return tuple(dict.fromkeys(found))


def _in_folder(folder: Path) -> list[Path]:
    return _in_rules_folder(folder) or _yaml_in(folder)


def _in_rules_folder(folder: Path) -> list[Path]:
    return [*_yaml_in(folder / TESTS_FOLDER), *(path for path in _yaml_in(folder) if path.name.endswith(TESTS))]


def _yaml_in(folder: Path) -> list[Path]:
    """List the YAML files of a folder, under both names that there are for them."""
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml") and path.is_file())


def load_tests(loaded: Loaded, paths: Iterable[Path]) -> tuple[Cases, ...]:
    """Read files of tests about this policy's rules.

    Raises:
        PolicyError: with everything that is wrong in any of them.

    """
    tree = Tree(None)  # what is read here is no part of the policy's digest
    found: list[Cases] = []
    wrong: list[Finding] = []
    for path in paths:
        file = tree.open(path, str(path), is_shipped=False)
        if file is not None:
            document = parse(file.data, file.shown, hexadecimal=False)
            found.append(Cases(file.shown, tuple(_cases(loaded.policy, document))))
            wrong += document.findings
    if wrong or tree.findings:
        raise PolicyError([*wrong, *tree.findings])
    return tuple(found)


def _cases(policy: Policy, document: Document) -> Iterator[Case]:
    """Yield the cases that can be run; what is wrong goes into the document's findings."""
    file = validate(document, CasesFile, Names())
    if file is None:
        return
    enforcing = replace(policy, settings=replace(policy.settings, mode=Mode.ENFORCE))
    common = with_given(enforcing, document, ("given",), file.given)
    first: dict[str, int] = {}
    for index, case in enumerate(file.cases):
        place: Within = ("cases", index)
        line = document.at(place)[0]
        if first.setdefault(case.case, line) != line:
            message = f"a second case {case.case!r}; the first is in line {first[case.case]}"
            document.report("duplicate_case", document.at((*place, "case")), message)
        before = len(document.findings)
        here = with_given(common, document, (*place, "given"), case.given)
        if case.mode is not None:
            here = replace(here, settings=replace(here.settings, mode=Mode(case.mode)))
        if len(document.findings) == before:
            _names(here, document, place, case)
        if len(document.findings) == before:
            try:
                scenario(here, document.get(*place))
            except Unreadable as error:
                document.report("bad_scenario", document.at((*place, *error.path)), str(error))
        yield Case(case.case, line, here, document.get(*place), wanted(case), case.plan, tuple(case.problems))


_Named = tuple[str, str, Within, list[str]]  # slug, what it should name, where the name stands, what there is


def _names(policy: Policy, document: Document, place: Within, case: CaseFile) -> None:
    """Report names that nobody knows: signals, rules, containers."""
    for slug, what, path, known in (*_in_containers(policy, case), *_in_expectations(policy, case)):
        name = str(path[-1])
        if name not in known:
            message = f"there is no {what} {name!r}; there are: {', '.join(known) or 'none'}"
            document.report(slug, document.at_key((*place, *path)), message, closest(name, known))
    series = signal_words(policy.signals)
    for index, signal in enumerate(case.down):
        if signal not in series:
            message = f"there is no signal {signal!r}; there are: {', '.join(series)}"
            document.report("unknown_signal", document.at((*place, "down", index)), message, closest(signal, series))
    for key in case.plan or {}:
        container, _, rest = key.partition(" ")
        rule, _, actions = rest.partition(" ")
        if container not in case.containers or rule not in by_id(policy.rules) or not actions:
            message = f"{key!r} is no decision: write `train idle-gpu stop+remove+epilog: enforce`"
            document.report("bad_plan", document.at_key((*place, "plan", key)), message)


def _in_containers(policy: Policy, case: CaseFile) -> Iterator[_Named]:
    words, rules = sorted({*WORDS, *signal_words(policy.signals)}), sorted(by_id(policy.rules))
    for name, said in case.containers.items():
        for word in said.model_extra or {}:
            yield "unknown_word", "word or signal", ("containers", name, word), words
        for key in ("warned", "was"):
            for rule in getattr(said, key):
                yield "unknown_rule", "rule", ("containers", name, key, rule), rules


def _in_expectations(policy: Policy, case: CaseFile) -> Iterator[_Named]:
    rules = sorted(by_id(policy.rules))
    for name, expected in case.expect.items():
        yield "unknown_container", "container", ("expect", name), list(case.containers)
        for rule in expected if isinstance(expected, dict) else ():
            yield "unknown_rule", "rule", ("expect", name, rule), rules


def tested(files: Iterable[Cases], policy: Policy) -> frozenset[str]:
    """List this policy's rules of which some test says what they find."""
    rules = by_id(policy.rules)
    return frozenset(
        rule
        for file in files
        for case in file.cases
        for expected in case.expect.values()
        for rule, each in (expected or {}).items()
        if each.verdict != NO_MATCH and by_id(case.policy.rules)[rule] is rules.get(rule)
    )
