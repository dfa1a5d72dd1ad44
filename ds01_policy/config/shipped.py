"""Copies the shipped policy files out, as a start for a site's own, and their JSON Schemas for its editors.

Owns what `init` does. Overwrites nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.config.files import shipped
from ds01_policy.config.schema import SCHEMAS, schema_text

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_FOLDER = "schema"


class AlreadyThere(Exception):
    """Files would be overwritten; nothing was written."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        """Name every file that is there already."""
        self.paths = paths
        there = "\n".join(f"{path}: is there already" for path in paths)
        super().__init__(f"{there}\nnothing was written")


def copy_out(directory: Path) -> tuple[Path, ...]:
    """Copy `config/**` to the directory and `rules/**` to its `rules`, write `schema/*.json`; give the files written.

    The first line of each file names its schema, as a path from where it stands.

    Raises:
        AlreadyThere: when any of them exists.
        OSError: when a file can't be written.

    """
    copies = {directory / name: data for name, data in contents().items()}
    there = tuple(path for path in copies if path.exists() or path.is_symlink())
    if there:
        raise AlreadyThere(there)
    for target, data in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            stream.write(data)
    return tuple(copies)


def contents() -> dict[str, bytes]:
    """Read everything that `init` writes, by its path below the directory."""
    config, rules = shipped()
    found = {path.relative_to(config).as_posix(): path.read_bytes() for path in _files(config)}
    found |= {f"rules/{path.relative_to(rules).as_posix()}": path.read_bytes() for path in _files(rules)}
    return found | {f"{SCHEMA_FOLDER}/{name}.json": schema_text(name).encode() for name in SCHEMAS}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
