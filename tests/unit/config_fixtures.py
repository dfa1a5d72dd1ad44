"""Policy directories for tests, made of text."""

from __future__ import annotations

from pathlib import Path

from ds01_policy.config.load import load
from ds01_policy.config.problems import Finding, PolicyError
from ds01_policy.policy import Policy

UNIX_GROUPS = {"gpu-users": frozenset({"erin", "frank"}), "nobody-in-it": frozenset[str]()}

RULE = """\
version: 1
rules:
  - id: mine
    match: {state: running, gpu: true}
    for: 60m
    warn: {at: 80%, notice: 10m}
    then: [stop]
"""


def written(directory: Path, files: dict[str, str]) -> Path:
    """Write files into a configuration directory."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def loaded(directory: Path, files: dict[str, str]) -> Policy:
    """Load a directory with these files over the shipped ones."""
    return load(written(directory, files), unix_group=UNIX_GROUPS.get)


def wrong(directory: Path, files: dict[str, str]) -> tuple[Finding, ...]:
    """List what is wrong with these files; nothing if they load."""
    try:
        loaded(directory, files)
    except PolicyError as error:
        return error.findings
    return ()


def places(directory: Path, files: dict[str, str]) -> list[str]:
    """List what is wrong as `file:line:col slug`, with file names relative to the directory."""
    return [
        f"{Path(one.file).relative_to(directory)}:{one.line}:{one.col} {one.slug}" for one in wrong(directory, files)
    ]
