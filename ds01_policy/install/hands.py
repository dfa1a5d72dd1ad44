"""Does the steps: writes each file whole or not at all, and never through a link.

Owns the file system below one root. Decides nothing; a dry run has hands that do nothing.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.durable import sync_folder
from ds01_policy.install.differences import Do, Kind, Stands
from ds01_policy.install.layout import UNITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import PurePath

    from ds01_policy.install.differences import Step

_FOLDER_MODE = 0o755
_MOST_BYTES = 2**20  # of a file that is compared; ours are some kilobytes


class Hands:
    """Writes below `root`; what is written does not depend on it."""

    says_would = False

    def __init__(self, root: Path = Path("/")) -> None:
        """Take the root: `/`, or a folder that a package is staged in."""
        self._root = root

    @property
    def owner(self) -> int:
        """Whose the files are to be: root's; in a staging folder whoever stages."""
        return 0 if self._root == Path("/") else os.geteuid()

    def path(self, path: PurePath) -> Path:
        """Give the real place of an absolute path."""
        return self._root / path.relative_to("/")

    def look(self, path: PurePath) -> Stands:
        """Tell what is at a path, itself and not where it leads.

        Raises:
            OSError: when it cannot be looked at.

        """
        real = self.path(path)
        try:
            seen = real.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return Stands(Kind.ABSENT)
        mode = stat.S_IMODE(seen.st_mode)
        if stat.S_ISLNK(seen.st_mode):
            return Stands(Kind.LINK, uid=seen.st_uid, target=str(real.readlink()))
        if stat.S_ISDIR(seen.st_mode):
            return Stands(Kind.FOLDER, mode=mode, uid=seen.st_uid)
        if not stat.S_ISREG(seen.st_mode):
            return Stands(Kind.OTHER, mode=mode, uid=seen.st_uid)
        with real.open("rb") as stream:
            return Stands(Kind.FILE, stream.read(_MOST_BYTES), mode, seen.st_uid)

    def drop_ins(self, units: Iterable[str]) -> dict[str, frozenset[str]]:
        """List the drop-ins that stand, of the units that have any: everybody's."""
        found = {}
        for name in units:
            folder = UNITS / f"{name}.d"
            names = [path.name for path in self.path(folder).glob("*.conf")]
            if names:
                found[name] = frozenset(str(folder / one) for one in names)
        return found

    def do(self, step: Step) -> None:
        """Do one step, and find it done after a power cut.

        Raises:
            OSError: when it fails; what stood there stands then.

        """
        real = self.path(step.path)
        if step.do is Do.WRITE:
            _replace(real, lambda new: _written(new, step.content, step.mode))
        elif step.do is Do.LINK:
            _replace(real, lambda new: new.symlink_to(step.target))
        elif step.do is Do.MAKE:
            real.mkdir(mode=step.mode, parents=True)
            real.chmod(step.mode)
        elif step.do is Do.CLOSE:
            os.chown(real, self.owner, -1, follow_symlinks=False)
            real.chmod(step.mode)
        elif step.do is Do.REMOVE:
            real.unlink()
            if real.parent.name.endswith(".d") and real.parent.name.startswith("ds01-policy"):
                with suppress(OSError):  # drop-ins of somebody else's are in there
                    real.parent.rmdir()

    def put_folder(self, path: PurePath, fill: Callable[[Path], object]) -> None:
        """Make a folder with all that `fill` puts into it, at once; an empty one may stand there.

        Raises:
            OSError: when it fails; nothing new stands there then.

        """
        real = self.path(path)
        real.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        new = real.with_name(f".{real.name}.new~")
        _clear(new)
        new.mkdir(mode=_FOLDER_MODE)
        try:
            fill(new)
            new.rename(real)
        except OSError:
            _clear(new)
            raise
        sync_folder(real.parent)


class Idle(Hands):
    """Looks and does nothing."""

    says_would = True

    def do(self, step: Step) -> None:
        """Leave it."""

    def put_folder(self, path: PurePath, fill: Callable[[Path], object]) -> None:
        """Leave it."""


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    """Put something new into the place of a file or a link. Nobody reads a name with `~`."""
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new~")
    new.unlink(missing_ok=True)  # of a run that was interrupted
    try:
        make(new)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _written(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as stream:  # noqa: PTH123  an open descriptor, not a path
        stream.write(content)
        stream.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def _clear(folder: Path) -> None:
    """Remove what an interrupted run left of a folder: files and folders below it, never where a link leads."""
    if not folder.is_symlink() and folder.is_dir():
        for one in folder.iterdir():
            _clear(one)
        folder.rmdir()
    else:
        folder.unlink(missing_ok=True)
