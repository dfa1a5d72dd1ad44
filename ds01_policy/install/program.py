"""Where the running program lies, and whether anybody but root could change it.

Owns this question: the units run that program as root. Changes nothing.
"""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NAME = "ds01-policy"
_LINKS = 40  # as many as the kernel follows


class NoProgram(Exception):
    """The running program is nothing that a unit could run. The text is for the admin."""


@dataclass(frozen=True, slots=True)
class Program:
    """The program as it is installed."""

    script: Path  # what the units run
    code: tuple[Path, ...]  # folders of everything that it loads: environment, Python, package


def running() -> Program:
    """Find the running program's script and code.

    Raises:
        NoProgram: when it runs from no environment that it was installed into.

    """
    script = Path(sysconfig.get_path("scripts")) / NAME
    if not script.is_absolute() or not script.is_file():
        raise NoProgram(
            f"there is no {plain(str(script))}: install the package first (`sudo make install` in its repository, or "
            f"`sudo pipx install {NAME}`), then run its own `{NAME} install`"
        )
    library, package = Path(os.__file__).parent, Path(__file__).resolve().parent.parent
    code = (Path(sys.prefix), Path(sysconfig.get_path("purelib")), package, Path(os.path.realpath(sys.executable)))
    return Program(script, tuple(dict.fromkeys((*code, library))))


def written_at() -> float:
    """Tell when the program's code was put there, in Unix seconds."""
    return (Path(__file__).resolve().parent.parent / "__init__.py").stat().st_mtime


def open_to_others(
    paths: Iterable[Path],
    lstat: Callable[[Path], os.stat_result] = os.lstat,
    readlink: Callable[[Path], str] = os.readlink,
) -> list[str]:
    """List what on the way to these paths somebody but root may change, and how; empty: nothing.

    Others may write into a folder with the sticky bit on the way: what is root's there stays as it is.
    """
    found = {}
    for path in paths:
        for step, last in _way(path, lstat, readlink):
            try:
                seen = lstat(step)
            except OSError as error:
                found[str(step)] = f"cannot be looked at ({error.strerror})"
                break
            if seen.st_uid != 0:
                found[str(step)] = f"belongs to user {seen.st_uid}"
            elif not stat.S_ISLNK(seen.st_mode) and _written_by_others(seen, last=last):
                found[str(step)] = f"can be written by others (mode {stat.S_IMODE(seen.st_mode):04o})"
    return [f"{plain(path, 300)} {what}" for path, what in found.items()]


def _written_by_others(seen: os.stat_result, *, last: bool) -> bool:
    if not last and seen.st_mode & stat.S_ISVTX:
        return False
    return bool(seen.st_mode & stat.S_IWOTH) or bool(seen.st_mode & stat.S_IWGRP and seen.st_gid != 0)


def _way(
    path: Path, lstat: Callable[[Path], os.stat_result], readlink: Callable[[Path], str]
) -> Iterator[tuple[Path, bool]]:
    """Walk from the root to a path and through every link on the way; the flag says that it is the path itself."""
    left = list(path.parts[1:])
    here, links = Path("/"), 0
    yield here, not left
    while left:
        name = left.pop(0)
        if name == "..":
            here = here.parent
            continue
        step = here / name
        yield step, not left
        try:
            is_link = stat.S_ISLNK(lstat(step).st_mode)
        except OSError:
            return
        if not is_link:
            here = step
            continue
        links += 1
        if links > _LINKS:
            return
        target = Path(readlink(step))
        left = [*(target.parts[1:] if target.is_absolute() else target.parts), *left]
        here = Path("/") if target.is_absolute() else here
