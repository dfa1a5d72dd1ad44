"""How `check` writes what it finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_host import run
from config_fixtures import written

from ds01_policy.cli.findings import written as as_text
from ds01_policy.config.problems import Finding
from ds01_policy.config.why import WHY
from ds01_policy.report.layout import Page

PAGE = Page(80)
EXPIRED = "version: 1\nexemptions:\n" + 2 * (
    "  - {user: prof, rules: [idle-gpu], reason: demo, approved_by: admin, expires: 2020-01-31}\n"
)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a configuration with two findings, and stand beside it."""
    written(tmp_path, {"etc/exemptions.yaml": EXPIRED})
    monkeypatch.chdir(tmp_path)
    return "etc"


def test_for_people(config: str) -> None:
    """Place first, slug last; why it matters once."""
    ran = run("--config", config, "check")
    expired = "expired on 2020-02-01 00:00 UTC: renew it or take it out [expired]"
    assert (ran.code, ran.stderr) == (1, "")
    assert ran.stdout.splitlines() == [
        f"etc/exemptions.yaml:3:71: {expired}",
        f"    {WHY['expired']}",
        f"etc/exemptions.yaml:4:71: {expired}",
        "2 findings",
    ]


@pytest.mark.parametrize("option", [("--json",), ("--format", "json"), ("--json", "--format", "github")])
def test_for_programs(option: tuple[str, ...], config: str) -> None:
    """One document; `--json` is short for it."""
    ran = run("--config", config, "check", *option)
    assert ran.code == 1
    first, second = ran.json["findings"]
    assert first == {
        "slug": "expired", "file": "etc/exemptions.yaml", "line": 3, "column": 71, "severity": "warning",
        "message": "expired on 2020-02-01 00:00 UTC: renew it or take it out", "suggestion": "", "why": WHY["expired"],
    }  # fmt: skip
    assert second["line"] == 4


def test_for_a_pull_request(config: str) -> None:
    """One command a line and nothing else, file names as the repository has them."""
    ran = run("--config", Path(config).absolute(), "check", "--format", "github")
    assert ran.code == 1
    assert ran.stdout.splitlines()[0] == (
        "::warning file=etc/exemptions.yaml,line=3,col=71,title=expired::"
        "expired on 2020-02-01 00:00 UTC: renew it or take it out%0A" + WHY["expired"]
    )
    assert len(ran.stdout.splitlines()) == 2


def test_what_is_only_named_is_no_failure(tmp_path: Path) -> None:
    """A rule without a test: said, and no reason to stop whoever deploys it."""
    rule = "version: 1\nrules:\n  - {id: old, match: {state: created, gpu: true}, for: 30m, then: [remove]}\n"
    written(tmp_path, {"etc/rules/old.yaml": rule})
    ran = run("--config", tmp_path / "etc", "check", "--json")
    assert [(one["slug"], one["severity"]) for one in ran.json["findings"]] == [("untested_rule", "note")]
    assert ran.code == 0
    assert run("--config", tmp_path / "etc", "check", "--format", "github").stdout.startswith("::notice file=")


def test_an_error_for_a_pull_request(config: str) -> None:
    """As an error, and exit 2."""
    Path(config, "settings.yaml").write_text("mode: kil\n")
    ran = run("--config", config, "check", "--format", "github")
    assert ran.code == 2
    assert ran.stdout.startswith("::error file=etc/settings.yaml,line=1,col=7,title=bad_value::'kil' is not observe,")
    assert ran.stdout.endswith("%0AThe policy is not used as long as this is so.\n")


@pytest.mark.parametrize(
    ("finding", "command"),
    [
        pytest.param(
            Finding("x", "a,b:c%.yaml", 1, 2, "100% of 1, 2: three"),
            "::error file=a%2Cb%3Ac%25.yaml,line=1,col=2,title=x::100%25 of 1, 2: three%0A",
            id="percent signs everywhere, commas and colons in properties",
        ),
        pytest.param(
            Finding("x", "f", 1, 2, "one\r\ntwo\x1b", "three"),
            r"::error file=f,line=1,col=2,title=x::one\r\ntwo\x1b; did you mean 'three'?%0A",
            id="line ends cannot begin another command",
        ),
        pytest.param(
            Finding("docker_down", "live", 0, 0, "refused", severity="warning"),
            "::warning title=docker_down::refused%0A",
            id="what has no place",
        ),
    ],
)
def test_what_github_would_misread(finding: Finding, command: str) -> None:
    """Escaped as its commands want it."""
    said = as_text([finding], "github", PAGE)
    assert said.startswith(command)
    assert said.count("\n") == 1


def test_a_file_name_with_a_line_end_stays_one_line() -> None:
    """It is written by whoever owns the folder."""
    said = as_text([Finding("x", "a\n::error::b", 1, 1, "m")], "github", PAGE)
    assert said.startswith("::error file=a%0A%3A%3Aerror%3A%3Ab,line=1")
    assert said.count("\n") == 1


def test_nothing_found() -> None:
    """Each form says so in its way."""
    assert as_text([], "text", PAGE) == "0 findings\n"
    assert as_text([], "github", PAGE) == ""
    assert '"findings": []' in as_text([], "json", PAGE)
