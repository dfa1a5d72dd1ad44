"""PURE: what stands on a host against what should: the steps that make it agree, each with its reason.

Owns what may be replaced and removed: only what carries our mark. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import TYPE_CHECKING

from ds01_policy.install.layout import LINK, MARK, is_ours
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ds01_policy.install.layout import File, Wanted

PRIVATE = 0o700
AS_IT_SHOULD_BE = "as it should be"
_PERMISSIONS = 0o7777


class Kind(StrEnum):
    """What is at a path, itself and not where it leads."""

    ABSENT = "nothing"
    FILE = "a file"
    LINK = "a link"
    FOLDER = "a folder"
    OTHER = "something that is no file"


@dataclass(frozen=True, slots=True)
class Stands:
    """One path as it is."""

    kind: Kind
    content: bytes = b""  # of a file
    mode: int = 0
    uid: int = 0
    target: str = ""  # of a link


Look = Callable[[PurePath], Stands]


class Do(StrEnum):
    """What a step does."""

    KEEP = "keep"
    WRITE = "write"
    MAKE = "make"  # a folder
    CLOSE = "close"  # a folder: to everybody but root
    LINK = "link"
    REMOVE = "remove"
    REFUSE = "refuse"  # somebody else's stands where ours must be


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, or to leave as it is. `why` is for the admin."""

    do: Do
    path: PurePath
    why: str
    content: bytes = b""
    mode: int = 0
    target: str = ""


def steps(wanted: Wanted, look: Look, *, owner: int = 0) -> list[Step]:
    """List what makes a host agree, what is used before its users."""
    found = [_folder(path, look(path), owner) for path in wanted.folders]
    found += [_file(file, look(file.path), owner) for file in wanted.files]
    for path in wanted.absent:
        found += _gone(path, look(path), "settings.yaml no longer asks for it")
    if wanted.link != LINK:
        found.append(_link(wanted.link, look(LINK)))
    return found


def removals(paths: Iterable[PurePath], look: Look, script: PurePath) -> list[Step]:
    """List what takes an installation away: of these paths the files that carry our mark, and the link to `script`."""
    found: list[Step] = []
    for path in paths:
        found += _gone(path, look(path), "")
    stands = look(LINK)
    if script != LINK and stands.kind is not Kind.ABSENT:
        ours = stands.kind is Kind.LINK and stands.target == str(script)
        found.append(Step(Do.REMOVE, LINK, "") if ours else Step(Do.KEEP, LINK, f"it does not lead to {_said(script)}"))
    return found


def _file(file: File, stands: Stands, owner: int) -> Step:
    def write(why: str) -> Step:
        return Step(Do.WRITE, file.path, why, file.content, file.mode)

    if stands.kind is Kind.ABSENT:
        return write("new")
    if stands.kind is Kind.LINK and stands.target == "/dev/null":
        return Step(Do.REFUSE, file.path, f"is masked: `systemctl unmask {plain(file.path.name)}`, then install again")
    if stands.kind is not Kind.FILE:
        return _refuse(file.path, stands)
    if stands.content != file.content and not is_ours(stands.content):
        return _refuse(file.path, stands)
    wrong = "has changed" if stands.content != file.content else _ill_kept(stands, owner, file.mode)
    return write(wrong) if wrong else Step(Do.KEEP, file.path, AS_IT_SHOULD_BE)


def _ill_kept(stands: Stands, owner: int, mode: int) -> str:
    """Say what is wrong with a path besides its content; empty: nothing."""
    if stands.uid != owner:
        return f"belonged to user {stands.uid}"
    return "" if stands.mode & _PERMISSIONS == mode else f"had mode {stands.mode & _PERMISSIONS:04o}"


def _refuse(path: PurePath, stands: Stands) -> Step:
    lacks = f", and does not begin with {MARK.decode()!r}" if stands.kind is Kind.FILE else ""
    return Step(Do.REFUSE, path, f"{stands.kind} of somebody else's is there{lacks}: move it away, then install again")


def _folder(path: PurePath, stands: Stands, owner: int) -> Step:
    if stands.kind is Kind.ABSENT:
        return Step(Do.MAKE, path, "new", mode=PRIVATE)
    if stands.kind is Kind.LINK:
        return Step(Do.KEEP, path, f"a link to {plain(stands.target)}, which must be private to root")
    if stands.kind is not Kind.FOLDER:
        return _refuse(path, stands)
    if wrong := _ill_kept(stands, owner, PRIVATE):
        return Step(Do.CLOSE, path, wrong, mode=PRIVATE)
    return Step(Do.KEEP, path, AS_IT_SHOULD_BE)


def _link(script: PurePath, stands: Stands) -> Step:
    if stands.kind is Kind.ABSENT:
        return Step(Do.LINK, LINK, f"leads to {_said(script)}", target=str(script))
    if stands.kind is not Kind.LINK:
        return Step(Do.KEEP, LINK, f"{stands.kind} of somebody else's; this program is {_said(script)}")
    if stands.target == str(script):
        return Step(Do.KEEP, LINK, AS_IT_SHOULD_BE)
    if PurePath(stands.target).name == LINK.name:
        return Step(Do.LINK, LINK, f"led to {_said(stands.target)}, leads to {_said(script)}", target=str(script))
    return Step(Do.KEEP, LINK, f"leads to {_said(stands.target)}, which is not this program: {_said(script)}")


def _gone(path: PurePath, stands: Stands, why: str) -> Iterator[Step]:
    if stands.kind is Kind.ABSENT:
        return
    if stands.kind is Kind.FILE and is_ours(stands.content):
        yield Step(Do.REMOVE, path, why)
    else:
        yield Step(Do.KEEP, path, f"{stands.kind} that `ds01-policy install` did not write")


def _said(path: PurePath | str) -> str:
    return plain(str(path), 200)
