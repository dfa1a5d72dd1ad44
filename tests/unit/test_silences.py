"""Comments that silence a finding of `check`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from config_fixtures import UNIX_GROUPS, written

from ds01_policy.config.load import findings
from ds01_policy.config.problems import Finding
from ds01_policy.config.silences import silenced

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SAID = "# ds01-policy: ignore expired because it is renewed every term"
EXPIRED = "  - {user: prof, rules: '*', reason: r, approved_by: a, expires: 2020-01-01}"
QUOTED = EXPIRED.replace("reason: r", f"reason: 'x {SAID}'")
HEAD = "version: 1\nexemptions:\n"


def found(text: str, tmp_path: Path) -> list[str]:
    directory = written(tmp_path, {"exemptions.yaml": text})
    return [f"{one.line}:{one.col} {one.slug}" for one in findings(directory, NOW, unix_group=UNIX_GROUPS.get)]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        pytest.param(f"{HEAD}{EXPIRED}\n", ["3:57 expired"], id="nothing is silenced without a comment"),
        pytest.param(f"{HEAD}{EXPIRED}  {SAID}\n", [], id="on the line"),
        pytest.param(f"{HEAD}  {SAID}\n{EXPIRED}\n", [], id="on the line above"),
        pytest.param(f"{HEAD}  {SAID}\n  # Another remark.\n{EXPIRED}\n", [], id="above, with another comment between"),
        pytest.param(f"\ufeff{HEAD}  {SAID}\r\n{EXPIRED}\r\n", [], id="as Windows writes files"),
        pytest.param(f"# ü ≥ 😀\n{HEAD}  {SAID}\n{EXPIRED}\n", [], id="behind letters of several bytes"),
        pytest.param(f"{HEAD}  {SAID}\n{EXPIRED}\n{EXPIRED}\n", ["5:57 expired"], id="one line, not the one after it"),
        pytest.param(
            f"{HEAD}  {SAID}\n\n{EXPIRED}\n", ["3:3 useless_silence", "5:57 expired"], id="not across an empty line"
        ),
        pytest.param(
            f"{HEAD}{EXPIRED}  # ds01-policy: ignore expired\n",
            ["3:57 expired", "3:79 unreasoned_silence"],
            id="without a reason it silences nothing, and says so",
        ),
        pytest.param(
            f"{HEAD}{EXPIRED}  # ds01-policy: ignore expired because\n",
            ["3:57 expired", "3:79 bad_silence"],
            id="an empty reason is none",
        ),
        pytest.param(
            f"{HEAD}{EXPIRED}  # ds01-policy: ignroe expired because so\n",
            ["3:57 expired", "3:79 bad_silence"],
            id="another word",
        ),
        pytest.param(
            f"{HEAD}{EXPIRED}  # ds01-policy: ignore expird because so\n",
            ["3:57 expired", "3:79 unknown_silence"],
            id="a slug that is none",
        ),
        pytest.param(
            f"{HEAD}{EXPIRED}  # ds01-policy: ignore no_warning because so\n",
            ["3:57 expired", "3:79 useless_silence"],
            id="another slug",
        ),
        pytest.param(f"version: 1\nexemptions: []  {SAID}\n", ["2:17 useless_silence"], id="nothing to silence"),
        pytest.param(f"{HEAD}{QUOTED}\n", ["3:122 expired"], id="text in quotes"),
        pytest.param(f"{HEAD}{EXPIRED}  #ds01-policy:ignore expired because so\n", [], id="spaces that nobody needs"),
        pytest.param(f"{HEAD}{EXPIRED}  # see ds01-policy: ignore\n", ["3:57 expired"], id="a remark that mentions us"),
        pytest.param(
            f"{HEAD}{EXPIRED}  # ds01-policy: ignore stale_series because so\n",
            ["3:57 expired"],
            id="what only a look at the host finds is not missed without one",
        ),
    ],
)
def test_what_a_comment_silences(text: str, left: list[str], tmp_path: Path) -> None:
    """With a reason, on its line or above it, and nothing else."""
    assert found(text, tmp_path) == left


def test_an_error_cannot_be_silenced() -> None:
    """Not even by a comment with its slug and a reason."""
    error = Finding("expired", "f.yaml", 1, 1, "wrong")
    left, used = silenced([error], {"f.yaml": b"a: 1 # ds01-policy: ignore expired because so\n"})
    assert [one.slug for one in left] == ["expired", "useless_silence"]
    assert used == []


def test_other_files_may_say_what_they_like(tmp_path: Path) -> None:
    """A message that people get is no YAML, and its words silence nothing."""
    template = (
        '{# ds01-policy: ignore expired because so #}\n# ds01-policy: ignore expired because so\n"{{ rule }}: [\n'
    )
    files = {"templates/warning.j2": template, "exemptions.yaml": f"{HEAD}{EXPIRED}\n"}
    given = findings(written(tmp_path, files), NOW, unix_group=UNIX_GROUPS.get)
    assert [one.slug for one in given] == ["expired"]


def test_what_a_live_look_finds_can_be_silenced_at_the_signal() -> None:
    """And a comment that silences nothing then is pointed out."""
    text = {"signals.yaml": b"signals:\n  x: 1  # ds01-policy: ignore stale_series because cAdvisor is slow here\n"}
    finding = Finding("stale_series", "signals.yaml", 2, 3, "old", severity="warning")
    assert silenced([finding], text, live=True)[0] == []
    assert [one.slug for one in silenced([], text, live=True)[0]] == ["useless_silence"]
    assert silenced([], text)[0] == []
