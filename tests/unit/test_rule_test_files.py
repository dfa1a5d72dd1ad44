"""Files of rule tests: read as strictly as every other file, and every mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_fixtures import UNIX_GROUPS, written

from ds01_policy.config.load import load, load_whole
from ds01_policy.config.problems import PolicyError
from ds01_policy.config.tests_load import Cases, beside_rules, load_tests, named
from ds01_policy.rule_tests import run

HEAD = "version: 1\ncases:\n"
CASE = "  - case: one\n    containers: {train: {gpu: 0x60, up: 3h}}\n    expect: {train: {idle-gpu: unknown}}\n"
RULE = "{id: mine, match: {state: running}, for: 60m, warn: {at: 80%, notice: 10m}, then: [stop]}"


def read(directory: Path, text: str) -> tuple[Cases, ...]:
    path = written(directory, {"t.yaml": text}) / "t.yaml"
    return load_tests(load_whole(None, unix_group=UNIX_GROUPS.get), [path])


def wrong(directory: Path, text: str) -> list[str]:
    try:
        read(directory, text)
    except PolicyError as error:
        return [f"{one.line}:{one.col} {one.slug}" for one in error.findings]
    return []


def with_case(more: str = "", containers: str = "{train: {}}", expect: str = "{train: {idle-gpu: act}}") -> str:
    return f"{HEAD}  - case: one\n{more}    containers: {containers}\n    expect: {expect}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(HEAD + CASE, [], id="nothing is wrong"),
        pytest.param(HEAD.replace("1", "2") + CASE, ["1:10 bad_value"], id="another version"),
        pytest.param("version: 1\ncases: []\n", ["2:8 wrong_type"], id="no case"),
        pytest.param("version: 1\n", ["1:1 missing_key"], id="no cases"),
        pytest.param(HEAD + CASE + CASE, ["6:11 duplicate_case"], id="the same sentence twice"),
        pytest.param(
            with_case().replace("case: one", "case: one\n    when: now"), ["4:5 unknown_key"], id="an unknown key"
        ),
        pytest.param(with_case().replace("expect:", "expects:"), ["3:5 missing_key", "5:5 unknown_key"], id="a slip"),
        pytest.param(with_case(containers="&a {train: {}}"), ["4:17 anchor"], id="an anchor"),
        pytest.param(with_case("    at: 2026-03-02\n"), ["4:9 bad_time"], id="a time without a zone"),
        pytest.param(with_case("    at: 12:00\n"), ["4:9 bad_time"], id="no date"),
        pytest.param(with_case("    mode: kill\n"), ["4:11 bad_value"], id="no mode"),
        pytest.param(with_case("    every: 30\n"), ["4:12 bad_duration"], id="no unit"),
        pytest.param(with_case("    every: 2h\n"), ["4:12 out_of_range"], id="too seldom"),
        pytest.param(with_case("    source: tea leaves\n"), ["4:13 bad_value"], id="no source"),
        pytest.param(with_case("    down: [gpu, gup]\n"), ["4:17 unknown_signal"], id="no signal"),
        pytest.param(with_case("    gpus: {a: many}\n"), ["4:15 wrong_type"], id="no number of instances"),
        pytest.param(with_case("    gpus: [b]\n"), ["5:25 bad_scenario"], id="a GPU that the host has not"),
        pytest.param(with_case("    history: {last_tik: 5m}\n"), ["4:15 unknown_key"], id="no history"),
        pytest.param(with_case(containers="{train: {gpus: [a/x]}}"), ["4:32 bad_scenario"], id="no instance"),
        pytest.param(with_case(containers="{train: {up: 3}}"), ["4:30 bad_duration"], id="up for three what"),
        pytest.param(with_case(containers="{train: {state: runing}}"), ["4:33 bad_value"], id="no state"),
        pytest.param(with_case(containers="{train: {usr: alice}}"), ["4:26 unknown_word"], id="no word"),
        pytest.param(with_case(containers="{train: {gpu: busy}}"), ["4:31 bad_scenario"], id="no series"),
        pytest.param(with_case(containers="{train: {gpu: 60}}"), ["4:31 bad_series"], id="a number"),
        pytest.param(with_case(containers="{train: {gpu: [0x60]}}"), ["4:31 bad_series"], id="a list"),
        pytest.param(with_case(containers="{train: {gpu: {b: 0x60}}}"), ["4:31 bad_scenario"], id="a GPU it has not"),
        pytest.param(
            with_case(containers="{a: {gpu: 0x60}, b: {gpu: 9x60}}", expect="{a: {idle-gpu: act}}"),
            ["4:43 bad_scenario"],
            id="one GPU, two truths",
        ),
        pytest.param(
            with_case(containers="{train: {warned: {idle: 5m}}}"), ["4:35 unknown_rule"], id="warned by nobody"
        ),
        pytest.param(with_case(containers="{train: {was: {idle-gpu: fine}}}"), ["4:42 bad_value"], id="was no verdict"),
        pytest.param(with_case(expect="{trian: {idle-gpu: act}}"), ["5:14 unknown_container"], id="no container"),
        pytest.param(with_case(expect="{train: {idle-gup: act}}"), ["5:22 unknown_rule"], id="no rule"),
        pytest.param(with_case(expect="{train: {idle-gpu: idle}}"), ["5:32 bad_value"], id="no verdict"),
        pytest.param(with_case(expect="{train: none}"), ["5:21 bad_value"], id="no rules, in other words"),
        pytest.param(with_case(expect="{train: {}}"), ["5:21 wrong_type"], id="nothing about a container"),
        pytest.param(with_case(expect="{train: {idle-gpu: {}}}"), ["5:32 empty"], id="nothing about a rule"),
        pytest.param(
            with_case(expect="{train: {idle-gpu: {verdict: act, du: now}}}"), ["5:47 unknown_key"], id="no expectation"
        ),
        pytest.param(with_case(expect="{train: {idle-gpu: {due: soon}}}"), ["5:38 bad_duration"], id="no time"),
        pytest.param(with_case(expect="{train: {idle-gpu: {for: 60}}}"), ["5:38 bad_duration"], id="for sixty what"),
        pytest.param(with_case(expect="{train: {idle-gpu: {actions: [kill]}}}"), ["5:43 bad_value"], id="no action"),
        pytest.param(
            with_case(expect="{train: {idle-gpu: {missing: data}}}"), ["5:42 bad_value"], id="nothing missing"
        ),
        pytest.param(with_case(expect="{train: {idle-gpu: {disposition: no}}}"), ["5:46 bad_value"], id="no guard"),
        pytest.param(with_case("    plan: {train idle-gpu: enforce}\n"), ["4:12 bad_plan"], id="no decision"),
        pytest.param(with_case("    plan: {train idle-gpu warn: yes}\n"), ["4:33 bad_value"], id="no disposition"),
        pytest.param(
            with_case("    given: {limits: {defaults: {idle_timeout: 60}}}\n"),
            ["4:47 bad_duration"],
            id="given: limits",
        ),
        pytest.param(
            with_case("    given: {limits: {default_group: a, groups: {b: {}}}}\n"),
            ["4:37 unknown_group"],
            id="no group",
        ),
        pytest.param(
            with_case("    given: {limits: {groups: {b: {}}}}\n"),
            ["4:22 missing_key"],
            id="groups, and none for others",
        ),
        pytest.param(
            with_case("    given: {limits: {defaults: {idle_timout: 60m}}}\n"), ["4:33 unknown_limit"], id="no limit"
        ),
        pytest.param(
            with_case("    given: {limits: {default_group: a, groups: {a: {members_file: x}}}}\n"),
            ["4:53 not_here"],
            id="members from another file",
        ),
        pytest.param(
            with_case(
                "    given: {exemptions: [{user: a, rules: [x], reason: r, approved_by: b, expires: 2026-01-01}]}\n"
            ),
            ["4:44 unknown_rule"],
            id="given: exemptions",
        ),
        pytest.param(with_case("    given: {settings: {awak: 5m}}\n"), ["4:24 unknown_key"], id="given: settings"),
        pytest.param(
            with_case(f"    given: {{rules: [{RULE.replace('60m', '60')}]}}\n", expect="{train: {mine: act}}"),
            ["4:62 bad_duration"],
            id="given: rules",
        ),
        pytest.param(
            with_case(f"    given: {{rules: [{RULE}]}}\n"),
            ["6:22 unknown_rule"],
            id="given rules are all that there are",
        ),
        pytest.param(
            with_case(f"    given: {{rules: [{RULE}, {RULE}]}}\n", expect="{train: {mine: act}}"),
            ["4:117 duplicate_rule"],
            id="given rules have names of their own",
        ),
    ],
)
def test_what_is_wrong_with_a_file(text: str, found: list[str], tmp_path: Path) -> None:
    """Its place and its slug."""
    assert wrong(tmp_path, text) == found


def test_all_mistakes_of_all_files_come_at_once(tmp_path: Path) -> None:
    """Nothing is run before every file is in order."""
    written(tmp_path, {"a.yaml": with_case("    mode: kill\n") + "nonsense", "b.yaml": with_case("    at: soon\n")})
    loaded = load_whole(None, unix_group=UNIX_GROUPS.get)
    with pytest.raises(PolicyError) as caught:
        load_tests(loaded, [tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "gone.yaml"])
    assert {Path(one.file).name for one in caught.value.findings} == {"a.yaml", "b.yaml", "gone.yaml"}


def test_what_is_meant_is_suggested(tmp_path: Path) -> None:
    """A slip of the pen is named."""
    with pytest.raises(PolicyError) as caught:
        read(tmp_path, with_case(containers="{train: {warnd: {idle-gpu: 5m}}}", expect="{train: {idle: act}}"))
    assert [one.suggestion for one in caught.value.findings] == ["warned", "idle-gpu"]
    with pytest.raises(PolicyError) as caught:
        read(tmp_path, with_case(containers="{train: {cup: 0x60}}", expect="{train: {idle-gpu: acct}}"))
    assert [one.suggestion for one in caught.value.findings] == ["act"]


def test_hexadecimal_is_minutes(tmp_path: Path) -> None:
    """`0x60` is sixty minutes of zero, whatever YAML says; elsewhere it is a number."""
    (file,) = read(tmp_path, HEAD + CASE)
    assert file.cases[0].row["containers"]["train"]["gpu"] == "0x60"


# ── given ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_test_gives_holds_in_the_place_of_the_site(tmp_path: Path) -> None:
    """For the whole file, or for one case, part by part; and only there."""
    text = (
        "version: 1\ngiven:\n  limits: {defaults: {max_runtime: 1h}}\n  settings: {high_demand: {above: 1%}}\ncases:\n"
        "  - case: as given\n    containers: {a: {up: 2h}}\n    expect: {a: {max-runtime: {verdict: act, for: 1h}}}\n"
        "  - case: another limit\n    given: {limits: {defaults: {max_runtime: 3h}}}\n    containers: {a: {up: 2h}}\n"
        "    expect: {a: {max-runtime: {verdict: clear, for: 3h}}}\n"
    )
    (file,) = read(tmp_path, text)
    assert [run(case).differences for case in file.cases] == [(), ()]
    assert {case.policy.settings.high_demand.above for case in file.cases} == {0.01}
    assert {case.policy.settings.mode for case in file.cases} == {"enforce"}


def test_a_limit_that_a_test_leaves_out_is_unknown(tmp_path: Path) -> None:
    """A rule that is added to the policy later does not break the file."""
    text = with_case("    given: {limits: {defaults: {max_runtime: 1h}}}\n", expect="{train: {idle-gpu: unknown}}")
    (file,) = read(tmp_path, text)
    assert run(file.cases[0]).differences == ()


# ── which files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tests_stand_beside_the_rules(tmp_path: Path) -> None:
    """In the folder of tests of each folder of rules, or beside a rule by name; none of them is taken for rules."""
    files = {
        "settings.yaml": "version: 1\nrules: [rules, more]\n",
        "rules/one.yaml": f"version: 1\nrules: [{RULE}]\n",
        "rules/one.test.yaml": with_case(),
        "rules/tests/b.yml": with_case(),
        "rules/tests/a.yaml": with_case(),
        "rules/tests/notes.txt": "",
        "more/tests/c.yaml": "not: [even yaml",
    }
    loaded = load_whole(written(tmp_path, files), unix_group=UNIX_GROUPS.get)
    assert [rule.id for rule in loaded.policy.rules] == ["mine"]
    found = [path.relative_to(tmp_path).as_posix() for path in beside_rules(loaded)]
    assert found == ["rules/tests/a.yaml", "rules/tests/b.yml", "rules/one.test.yaml", "more/tests/c.yaml"]
    assert load(tmp_path, unix_group=UNIX_GROUPS.get) == loaded.policy  # a broken test stops nobody's policy


def test_the_shipped_tests_stand_in_with_the_shipped_rules(tmp_path: Path) -> None:
    """A site without rules of its own has the shipped ones, and their tests."""
    loaded = load_whole(written(tmp_path, {"settings.yaml": "version: 1\n"}), unix_group=UNIX_GROUPS.get)
    assert [path.name for path in beside_rules(loaded)] == ["clocks.yaml", "idle-gpu.yaml"]


def test_named_files_and_folders(tmp_path: Path) -> None:
    """A file, a folder of tests, a folder of rules with tests in it; each once."""
    written(tmp_path, {"x/a.yaml": "", "x/b.yaml": "", "rules/r.yaml": "", "rules/tests/c.yaml": ""})
    found = named([tmp_path / "x" / "b.yaml", tmp_path / "x", tmp_path / "rules"])
    assert [path.name for path in found] == ["b.yaml", "a.yaml", "c.yaml"]
    with pytest.raises(PolicyError) as caught:
        named([tmp_path / "x", tmp_path / "y"])
    assert [one.slug for one in caught.value.findings] == ["no_file"]
