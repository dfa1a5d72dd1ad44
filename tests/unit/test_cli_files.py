"""init, schema, and which configuration holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from cli_host import REPOSITORY, files_below, run

from ds01_policy.config.files import VARIABLE
from ds01_policy.config.schema import SCHEMAS
from ds01_policy.config.yaml_strict import parse

RULE = "version: 1\nrules:\n  - {{id: {}, match: {{state: created, gpu: true}}, for: 1h, then: [remove]}}\n"


# ── init ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_init_writes_is_a_clean_configuration(tmp_path: Path) -> None:
    """Every shipped file, named on stdout; `check` has nothing to say about it, and it decides as what ships does."""
    ran = run("init", tmp_path / "etc")
    assert (ran.code, ran.stderr) == (0, "")
    written = {Path(line).relative_to(tmp_path / "etc").as_posix() for line in ran.stdout.splitlines()}
    assert {"settings.yaml", "templates/warning.j2", "groups/student.members", "rules/idle-gpu.yaml"} <= written
    assert written == {path.relative_to(tmp_path / "etc").as_posix() for path in (tmp_path / "etc").rglob("*.*")}
    assert run("--config", tmp_path / "etc", "check").stdout == "0 findings\n"


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """Once more, or over a file of the site's own: refused, each file named, nothing written."""
    assert run("init", tmp_path / "etc").code == 0
    (tmp_path / "etc" / "settings.yaml").write_text("version: 1\nmode: enforce\n")
    before = files_below(tmp_path)
    again = run("init", tmp_path / "etc")
    assert (again.code, again.stdout) == (2, "")
    assert f"{tmp_path}/etc/settings.yaml: is there already" in again.stderr
    assert again.stderr.splitlines()[-1] == "nothing was written"
    assert files_below(tmp_path) == before


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "etc").write_text("")
    ran = run("init", tmp_path / "etc")
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"{tmp_path}/etc: ")


# ── schema ───────────────────────────────────────────────────────────────────────────────────────────────────────────


KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
}  # fmt: skip


def objections(  # noqa: C901  one line a keyword
    schema: dict[str, Any], part: dict[str, Any], value: Any, place: str = ""
) -> list[str]:
    """Say what a validator would: the part of JSON Schema that the schemas here use."""
    if "$ref" in part:
        return objections(schema, {**schema["$defs"][part["$ref"].rsplit("/", 1)[1]]}, value, place)
    for key in ("anyOf", "oneOf"):
        if key in part:
            each = [objections(schema, variant, value, place) for variant in part[key]]
            return [] if [] in each else [f"{place}: {value!r} fits no variant: {each}"]
    types = [part["type"]] if isinstance(part.get("type"), str) else part.get("type", [])
    if types and not any(isinstance(value, KINDS[name]) for name in types):
        return [f"{place}: {value!r} is no {' or '.join(types)}"]
    found = []
    if "enum" in part and value not in part["enum"]:
        found.append(f"{place}: {value!r} is none of {part['enum']}")
    if "const" in part and value != part["const"]:
        found.append(f"{place}: {value!r} is not {part['const']!r}")
    if "pattern" in part and not re.search(part["pattern"], value):
        found.append(f"{place}: {value!r} does not match {part['pattern']!r}")
    if isinstance(value, dict):
        found += [f"{place}: no {key}" for key in part.get("required", ()) if key not in value]
        for key, inner in value.items():
            known = part.get("properties", {}).get(key, part.get("additionalProperties", True))
            if known is False:
                found.append(f"{place}: unknown {key}")
            elif isinstance(known, dict):
                found += objections(schema, known, inner, f"{place}/{key}")
    if isinstance(value, list) and "items" in part:
        found += [each for item in value for each in objections(schema, part["items"], item, f"{place}/[]")]
    return found


FILES = [
    *(("rules", path) for path in sorted((REPOSITORY / "rules").glob("*.yaml"))),
    *(("tests", path) for path in sorted((REPOSITORY / "rules" / "tests").glob("*.yaml"))),
    *((name, REPOSITORY / "config" / f"{name}.yaml") for name in SCHEMAS if name not in ("rules", "tests")),
]


@pytest.mark.parametrize(("name", "path"), FILES, ids=[path.name for _, path in FILES])
def test_what_ships_fits_its_schema(name: str, path: Path) -> None:
    """An editor that is given the schema marks nothing in the shipped files, and does mark a slip."""
    ran = run("schema", name)
    assert (ran.code, ran.stderr) == (0, "")
    schema = ran.json
    assert schema["$schema"].startswith("https://json-schema.org/draft/2020-12")
    value = parse(path.read_bytes(), path.name).value  # `0x60` is a number here, as in most editors
    assert objections(schema, schema, value) == []
    assert objections(schema, schema, {**value, "verison": 1}) == [": unknown verison"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("settings", {"version": 1, "mode": "kill"}),
        ("settings", {"version": 1, "budget": {"per_run": "many"}}),
        ("rules", {"version": 1, "rules": [{"id": "x", "match": {"state": "running"}, "for": "1h"}]}),
        ("rules", {"version": 1, "rules": [{"id": "x", "match": {}, "for": "1h", "then": ["explode"]}]}),
        ("exemptions", {"version": 1, "exemptions": [{"user": "prof", "rules": ["*"], "reason": "r"}]}),
        ("limits", {"version": 1, "defaults": ["60m"]}),
        ("tests", {"version": 1, "cases": [{"case": "c", "containers": {"a": {"upp": 3.5}}, "expect": {}}]}),
        ("tests", {"version": 1, "cases": [{"case": "c", "containers": {"a": {}}, "expect": {"a": {"r": "acct"}}}]}),
        (
            "tests",
            {"version": 1, "cases": [{"case": "c", "containers": {"a": {}}, "expect": {"a": {"r": {"du": "1m"}}}}]},
        ),
    ],
)
def test_what_the_loader_refuses_does_not_fit(name: str, value: dict[str, Any]) -> None:
    """A word that does not exist, a number that is none, a missing key."""
    schema = run("schema", name).json
    assert objections(schema, schema, value)


def test_editors_find_the_schema_of_every_file_that_init_writes(tmp_path: Path) -> None:
    """The first line names it, as a path from the file; what stands there is what `schema` prints."""
    assert run("init", tmp_path).code == 0
    named = set()
    for path in tmp_path.rglob("*.yaml"):
        mark, _, schema = path.read_text().splitlines()[0].partition("$schema=")
        assert mark == "# yaml-language-server: ", path
        assert (path.parent / schema).resolve().parent == tmp_path / "schema"
        kind = Path(schema).stem
        assert kind == {"rules": "rules", "tests": "tests"}.get(path.parent.name, path.stem)
        assert (path.parent / schema).read_text() == run("schema", kind).stdout
        named.add(kind)
    assert named == set(SCHEMAS)
    assert {path.stem for path in (tmp_path / "schema").iterdir()} == set(SCHEMAS)


# ── which configuration holds ────────────────────────────────────────────────────────────────────────────────────────


def site(folder: Path, rule: str) -> Path:
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "mine.yaml").write_text(RULE.format(rule))
    return folder


def rules(*options: str | Path, env: dict[str, str] | None = None) -> str:
    """List the rules that hold, from what a question about none of them says."""
    ran = run(*options, "preview", "--rule", "?", env=env)
    assert ran.code == 2
    return ran.stderr.rpartition("there are: ")[2].strip()


def test_the_option_comes_before_the_variable_and_that_before_what_ships(tmp_path: Path) -> None:
    """`--config`, else $DS01_POLICY_CONFIG, else the site's, else what ships."""
    one, two = site(tmp_path / "one", "from-option"), site(tmp_path / "two", "from-variable")
    assert rules("--config", one, env={VARIABLE: str(two)}) == "from-option"
    assert rules("--config", one) == "from-option"
    assert rules(env={VARIABLE: str(two)}) == "from-variable"
    shipped = "created-never-started, idle-gpu, max-runtime, stopped-retention"
    if not Path("/etc/ds01-policy").exists():
        assert rules() == rules(env={VARIABLE: ""}) == shipped


@pytest.mark.parametrize("command", ["preview", "check", "evaluate", "audit"])
def test_a_variable_that_names_nothing_is_an_error(command: str, tmp_path: Path) -> None:
    """A mount that is missing must not turn a strict site into what ships."""
    ran = run(command, env={VARIABLE: str(tmp_path / "gone")})
    assert ran.code == 2
    assert f"{tmp_path}/gone: no such directory ($DS01_POLICY_CONFIG)" in ran.stdout + ran.stderr
