"""Copies the shipped policy files out, as a start for a site's own.

Owns what `init` does. Overwrites nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.config.files import shipped

if TYPE_CHECKING:
    from pathlib import Path


class AlreadyThere(Exception):
    """Files would be overwritten; nothing was written."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        """Name every file that is there already."""
        self.paths = paths
        there = "\n".join(f"{path}: is there already" for path in paths)
        super().__init__(f"{there}\nnothing was written")


def copy_out(directory: Path) -> tuple[Path, ...]:
    """Copy `config/**` to the directory and `rules/**` to its `rules`; give the files written.

    Raises:
        AlreadyThere: when any of them exists.
        OSError: when a file can't be written.

    """
    config, rules = shipped()
    copies = {directory / path.relative_to(config): path for path in _files(config)}
    copies |= {directory / "rules" / path.relative_to(rules): path for path in _files(rules)}
    there = tuple(path for path in copies if path.exists() or path.is_symlink())
    if there:
        raise AlreadyThere(there)
    for target, source in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            stream.write(source.read_bytes())
    return tuple(copies)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
