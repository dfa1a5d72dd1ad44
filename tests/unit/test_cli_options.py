"""Global options may stand anywhere."""

from __future__ import annotations

import pytest

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
