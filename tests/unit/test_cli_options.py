"""Global options may stand anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import ds01_policy
import ds01_policy.cli
from ds01_policy.cli import HELP_COLUMNS
from ds01_policy.cli.app import app
from ds01_policy.cli.options import hoisted


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("preview --json", "preview --json"),
        ("preview --json --config DIR", "--config DIR preview --json"),
        ("preview --config=DIR --all --replay R", "--config=DIR --replay R preview --all"),
        ("--verbose explain train", "--verbose explain train"),
        ("explain train -v", "-v explain train"),
        ("preview --config", "--config preview"),
        ("explain -- --config", "explain -- --config"),
        ("", ""),
    ],
)
def test_global_options_are_read_wherever_they_stand(written: str, read: str) -> None:
    """What comes after `--` is left alone; an option without its value stays an error of its own."""
    assert hoisted(written.split()) == read.split()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_written_help_is_what_typer_would_write(flag: str) -> None:
    """The file is there for speed alone: write it anew when this fails, as the message says."""
    written = (Path(ds01_policy.cli.__file__).parent / "help.txt").read_text(encoding="utf-8")
    shown = CliRunner().invoke(app, [flag], prog_name="ds01-policy", env={"COLUMNS": str(HELP_COLUMNS)}).output
    assert written == shown, f"ds01_policy/cli/help.txt is old; it should read:\n{shown}"


def test_which_version_this_is() -> None:
    """One line, and nothing else is done."""
    ran = CliRunner().invoke(app, ["--version"])
    assert (ran.exit_code, ran.output) == (0, f"ds01-policy {ds01_policy.__version__}\n")
