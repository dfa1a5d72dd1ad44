"""Every recording in this folder is a test: a replay of it says what was found when it was made, to the byte.

`ds01-policy record DIR` writes such a folder, `--anonymise` one that may be shown to others. Put it here and it is run.
Where a change of what is decided or shown is meant: `ds01-policy --replay DIR preview --json > DIR/expected.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ds01_policy.cli.app import app
from ds01_policy.config.kept import FOLDER
from ds01_policy.config.load import load
from ds01_policy.observe.recording import replay
from ds01_policy.tick import look

HERE = Path(__file__).parent
RECORDINGS = sorted(path.parent for path in HERE.glob("*/expected.json"))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name)
def test_a_recording_says_what_it_said(recording: Path) -> None:
    """The same document; nothing is asked that it has no answer to."""
    ran = CliRunner().invoke(app, ["--replay", str(recording), "preview", "--json"])
    assert (ran.exit_code, ran.stderr) == (0, "")
    expected = (recording / "expected.json").read_text(encoding="utf-8")
    assert json.loads(ran.stdout) == json.loads(expected)
    assert ran.stdout == expected


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name)
def test_a_recording_holds_nothing_that_nobody_asks_for(recording: Path) -> None:
    """An answer that is left over was given to a question that nobody asks any more."""
    again = replay(recording)

    look(load(recording / FOLDER, unix_group=lambda _: None), again.sources, again.at, again.history)
    assert again.unused() == []


def test_there_is_one() -> None:
    """Or the tests above would pass by running nothing."""
    assert RECORDINGS
