"""Copies the shipped policy files out, as a start for a site's own.

Owns `init`. Overwrites nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.config.files import shipped
from ds01_policy.config.problems import Finding, PolicyError

if TYPE_CHECKING:
    from pathlib import Path


def init(directory: Path) -> tuple[Path, ...]:
    """Copy `config/**` to the directory and `rules/**` to its `rules`; give the files written.

    Raises:
        PolicyError: naming every file that is there already; then nothing was written.
        OSError: when a file can't be written.

    """
    config, rules = shipped()
    copies = {directory / path.relative_to(config): path for path in _files(config)}
    copies |= {directory / "rules" / path.relative_to(rules): path for path in _files(rules)}
    there = [path for path in copies if path.exists() or path.is_symlink()]
    if there:
        raise PolicyError(Finding("exists", str(path), 0, 0, "is there already; nothing was written") for path in there)
    for target, source in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            stream.write(source.read_bytes())
    return tuple(copies)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
