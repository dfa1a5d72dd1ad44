"""`ds01-policy test`: what it prints, how it ends, and the tests that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_host import REPOSITORY, run
from config_fixtures import written

from ds01_policy.model import Kind
from ds01_policy.report.layout import Page
from ds01_policy.report.tested import Ran, results_text
from ds01_policy.rule_tests import Case
from ds01_policy.rule_tests import run as run_case

GIVEN = "version: 1\ngiven: {settings: {}}\ncases:\n"
GOOD = GIVEN + (
    "  - case: idle\n    containers: {train: {gpu: 0x180, cpu: 0x180, network: 0x180}}\n"
    "    expect: {train: {idle-gpu: act}}\n"
)
BAD = GOOD + (
    "  - case: at work\n    containers: {train: {gpu: 0x120 60x10 0x50, cpu: 0x180, network: 0x180}}\n"
    "    expect: {train: {idle-gpu: {verdict: clear, why: in use, due: never, actions: [], disposition: enforce}}}\n"
)
# Read it: what was expected and found, aligned; why; what would be done; and every clause.
FAILURE = """\
t.yaml:7: at work
  train idle-gpu
  - verdict      clear
  + verdict      warn
  - why          in use
  + why          idle for 48m of 60m: gpu 0% < 5%, cpu 0% < 1%,
                 network 0 B/s < 10 KiB/s
  - due          never
  + due          12m
  - actions      nothing is due
  + actions      warn
    plan         warn: enforce
           CLAUSE              OVER  MEASURED  SEEN  BY
    true   gpu < 5%            48m   0%        100%  prometheus
    true   cpu < 1%            48m   0%        100%  prometheus
    true   network < 10 KiB/s  48m   0 B/s     100%  prometheus
    true   gpu < 5%            5m    0%        100%  prometheus
    true   cpu < 1%            5m    0%        100%  prometheus
    true   network < 10 KiB/s  5m    0 B/s     100%  prometheus
    false  gpu < 5%            60m   10%       100%  prometheus
    true   cpu < 1%            60m   0%        100%  prometheus
    true   network < 10 KiB/s  60m   0 B/s     100%  prometheus
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_passed(tmp_path: Path) -> None:
    """One line for the file."""
    written(tmp_path, {"t.yaml": GOOD})
    ran = run("test", "t.yaml")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "1 passed in t.yaml\n", "")
    assert run("test", tmp_path / "t.yaml").stdout == "1 passed in t.yaml\n"  # as short as it can be said


def test_one_failed(tmp_path: Path) -> None:
    """Expected against found with the evidence, then the summary; exit 1."""
    written(tmp_path, {"t.yaml": BAD})
    ran = run("test", "t.yaml")
    assert (ran.code, ran.stderr) == (1, "")
    assert ran.stdout == f"{FAILURE}\n1 passed, 1 failed in t.yaml\n"


def test_several_files_have_a_last_line(tmp_path: Path) -> None:
    """One line each, and all of them together."""
    written(tmp_path, {"x/a.yaml": GOOD, "x/b.yaml": BAD})
    lines = run("test", "x").stdout.splitlines()
    assert lines[-3:] == ["1 passed in x/a.yaml", "1 passed, 1 failed in x/b.yaml", "2 passed, 1 failed in all"]


def test_a_broken_file_runs_nothing(tmp_path: Path) -> None:
    """Every mistake with its place on stderr; exit 2."""
    written(tmp_path, {"a.yaml": GOOD, "b.yaml": GOOD.replace("cpu:", "cup:").replace("act", "acct")})
    ran = run("test", "a.yaml", "b.yaml")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr.splitlines()[0].startswith("b.yaml:6:32: 'acct' is not act, warn,")
    assert ran.stderr.splitlines()[-1] == "1 error: no test was run"


def test_a_broken_policy_is_said_first(tmp_path: Path) -> None:
    """There is nothing to test."""
    written(tmp_path, {"etc/settings.yaml": "mode: kill\n", "t.yaml": GOOD})
    ran = run("--config", "etc", "test", "t.yaml")
    assert (ran.code, ran.stdout) == (2, "")
    assert "etc/settings.yaml:1:7: 'kill' is not" in ran.stderr


def test_a_path_where_nothing_is() -> None:
    """Named, and exit 2."""
    ran = run("test", "gone.yaml")
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == "gone.yaml: there is no such file or folder\n1 error: no test was run\n"


def test_no_tests_are_no_success(tmp_path: Path) -> None:
    """A pipeline that finds none must not be green."""
    rule = "version: 1\nrules: [{id: x, match: {state: created}, for: 1h, then: [remove]}]\n"
    written(tmp_path, {"etc/rules/x.yaml": rule, "empty/notes.txt": ""})
    for command, folder in ((("test",), "etc/rules/tests"), (("test", "empty"), "empty")):
        ran = run("--config", "etc", *command)
        assert (ran.code, ran.stdout) == (1, "")
        assert ran.stderr == f"no test was run: there is no *.yaml in {folder}\n"


# ── as JSON, in colour, of hostile text ──────────────────────────────────────────────────────────────────────────────


def test_as_json(tmp_path: Path) -> None:
    """One document: every case, and of those that failed what was found."""
    written(tmp_path, {"t.yaml": BAD})
    ran = run("test", "t.yaml", "--json")
    assert ran.code == 1
    told = ran.json
    assert (told["schema"], told["command"], told["passed"], told["failed"]) == (1, "test", 1, 1)
    (file,) = told["files"]
    assert (file["file"], file["passed"], file["failed"]) == ("t.yaml", 1, 1)
    idle, at_work = file["cases"]
    assert idle == {"case": "idle", "line": 4, "passed": True, "differences": [], "verdicts": [], "plan": []}
    assert (at_work["case"], at_work["line"], at_work["passed"]) == ("at work", 7, False)
    assert at_work["differences"][0] == {
        "container": "train", "rule": "idle-gpu", "what": "verdict", "expected": "clear", "found": "warn",
    }  # fmt: skip
    assert [each["rule"] for each in at_work["verdicts"]] == ["idle-gpu", "max-runtime"]
    assert at_work["plan"][0]["actions"] == ["warn"]


def result(name: str) -> Ran:
    from test_rule_tests import BUSY, ENFORCING

    from ds01_policy.rule_tests import Wanted

    case = Case(name, 3, ENFORCING, {"containers": {"c": BUSY}}, {"c": {"idle-gpu": Wanted("act")}})
    return Ran("t.yaml", (run_case(case),))


def test_what_is_expected_is_red_and_what_is_found_green() -> None:
    """On a terminal; widths are the same."""
    plain, coloured = (results_text([result("x")], Page(80, colour)) for colour in (False, True))
    assert "\x1b[31m  - verdict      \x1b[0mact" in coloured
    assert "\x1b[32m  + verdict      \x1b[0mclear" in coloured
    assert "\x1b" not in plain


def test_nothing_is_wider_than_the_page() -> None:
    """Long sentences are wrapped, tables cut."""
    assert all(len(line) <= 66 for line in results_text([result("it goes on " * 20)], Page(66)).splitlines())


def test_what_people_write_cannot_move_the_cursor() -> None:
    """Escapes are shown."""
    assert "\x1b" not in results_text([result("\x1b[2J")], Page(80))


# ── what ships ───────────────────────────────────────────────────────────────────────────────────────────────────────

COVERED = {
    "idle-gpu": {"act", "warn", "clear", "unknown", "young", "exempt", "off", "no match"},
    # No start-up grace, so never young.
    "max-runtime": {"act", "warn", "clear", "unknown", "exempt", "off", "no match"},
    # They warn nobody; Docker always tells when something was created or ended; the first has a fixed time.
    "created-never-started": {"act", "clear", "exempt"},
    "stopped-retention": {"act", "clear", "exempt", "off", "no match"},
}


def test_the_shipped_rules_pass_their_tests() -> None:
    """Every verdict that can come about, of every shipped rule."""
    ran = run("--config", REPOSITORY / "config", "test", "--json")
    assert (ran.code, ran.stderr) == (0, "")
    assert [Path(file["file"]).relative_to(REPOSITORY).as_posix() for file in ran.json["files"]] == [
        "rules/tests/clocks.yaml",
        "rules/tests/idle-gpu.yaml",
    ]


def test_the_shipped_tests_are_about_every_verdict() -> None:
    """What cannot come about is written here, with the reason."""
    from ds01_policy.config.load import load_whole
    from ds01_policy.config.tests_load import beside_rules, load_tests

    loaded = load_whole(None, unix_group=lambda _: None)
    said: dict[str, set[str | None]] = {rule.id: set() for rule in loaded.policy.rules}
    for file in load_tests(loaded, beside_rules(loaded)):
        for expected in (rules for case in file.cases for rules in case.expect.values() if rules):
            for rule, wanted in expected.items():
                said[rule].add(wanted.verdict)
    assert {rule: verdicts & {*Kind, "no match"} for rule, verdicts in said.items()} == COVERED


def test_init_brings_the_tests_along(tmp_path: Path) -> None:
    """They pass there, whatever limits and settings the site chooses; a rule that is changed fails them."""
    assert run("init", tmp_path / "etc").code == 0
    assert run("--config", "etc", "test").stdout.splitlines()[-1].endswith("passed in all")
    limits, settings = tmp_path / "etc" / "limits.yaml", tmp_path / "etc" / "settings.yaml"
    limits.write_text(limits.read_text().replace("idle_timeout: 60m", "idle_timeout: 90m"))
    settings.write_text(settings.read_text().replace("awake: 5m", "awake: 10m").replace("above: 80%", "above: 1%"))
    assert run("--config", "etc", "test").code == 0
    rule = tmp_path / "etc" / "rules" / "idle-gpu.yaml"
    rule.write_text(rule.read_text().replace("below: 5%", "below: 50%").replace("at: 80%", "at: 90%"))
    ran = run("--config", "etc", "test")
    assert ran.code == 1
    assert "failed in etc/rules/tests/idle-gpu.yaml" in ran.stdout
