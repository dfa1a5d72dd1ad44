"""The house holds together: imports go downward only, and the pure part asks nothing of the world."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ds01_policy"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the roof to the ground. A module may import from its own floor's folder and from any floor below.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("hindsight",),
    ("doctor", "selftest"),
    ("memory", "metrics", "watch", "anonymise", "handed_over", "install"),
    ("tick",),
    ("once", "aftercare", "journal", "aside"),
    ("observe", "act", "ledger", "audit", "lock", "report", "config", "reset_requests"),
    ("durable",),
    ("rule_tests",),
    ("plan", "scenario"),
    ("breaker", "stops"),
    ("evaluate", "spells"),
    ("exceptions", "clauses", "conflicts", "host_processes"),
    ("witnesses",),
    ("readings", "span", "demand", "gpu_claim", "identity", "exemptions", "lives", "partitions", "ownership", "series"),
    ("policy",),
    ("rules", "signals", "limits", "gpu_names", "looks"),
    ("model",),
    ("logic", "units", "text", "images"),
)
PURE = {name for floor in FLOORS[FLOORS.index(("rule_tests",)) :] for name in floor}
PURE_WITHIN = {"ds01_policy.act.epilog.gates", "ds01_policy.act.epilog.health", "ds01_policy.act.epilog.held"}
PURE_WITHIN |= {f"ds01_policy.metrics.{name}" for name in ("exposition", "families", "holders", "totals", "watching")}
PURE_WITHIN |= {f"ds01_policy.selftest.{name}" for name in ("elf", "order")}
PURE_WITHIN |= {f"ds01_policy.install.{name}" for name in ("differences", "layout", "reload", "site", "unit_text")}
PURE_WITHIN |= {f"ds01_policy.report.{name}" for name in ("log_lines", "priority")}
WORLDLY = {
    "docker", "requests", "urllib3", "pynvml", "prometheus_api_client", "subprocess", "os", "time", "logging",
    "socket", "sqlite3", "threading", "typer", "pydantic", "yaml", "sys", "shutil", "signal",
}  # fmt: skip


def room(module: str) -> str:
    """Name the top-level module or folder below the package."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path, *, at_run_time: bool = False) -> set[str]:
    """List what a file imports, by full dotted name; with `at_run_time`, leave TYPE_CHECKING blocks out."""
    found = set()
    tree = ast.parse(path.read_text())
    if at_run_time:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downward_only(path: Path) -> None:
    """No module knows a floor above its own, and none but a folder's own modules know their neighbours."""
    floors = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    here = room(name_of(path))
    if here == "__init__":
        return
    assert here in floors, f"{here} has no floor yet: give it one"
    # For types alone, a floor's neighbour or the policy above may be named; at run time only what lies below is used.
    for imported in imports(path, at_run_time=True):
        if imported.startswith("ds01_policy.") and room(imported) != here:
            assert floors[room(imported)] > floors[here], f"{here} imports {imported}, which is not below it"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MODULES
        if room(name_of(path)) in PURE or name_of(path) in PURE_WITHIN or ".doctor.judging." in name_of(path)
    ],
    ids=name_of,
)
def test_the_pure_part_asks_nothing_of_the_world(path: Path) -> None:
    """No I/O, no clock, no environment: nothing of the kind is even imported."""
    used = imports(path, at_run_time=True)
    assert not {name.partition(".")[0] for name in used} & WORLDLY
    outside = {name.partition(".")[0] for name in used} - {"ds01_policy"} - set(sys.stdlib_module_names)
    assert not outside
    reads_a_clock = [
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
    ]
    assert not reads_a_clock


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_stay_small_and_say_what_they_own(path: Path) -> None:
    """A module that outgrows 300 lines is split, and each opens with a docstring of at most five lines."""
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring
    assert len(docstring.splitlines()) <= 5


def test_catch_alls_stand_in_two_places_only() -> None:
    """`except Exception` hides what broke: around one decision, and around one terminal, never elsewhere."""
    places = [
        name_of(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and not isinstance(node.body[-1], ast.Raise)  # tidies up and raises on
    ]
    assert len(places) <= 2, places
