"""Groups of an old file and who is in them: names in the file, and in `groups/NAME.members` beside it.

Owns that everybody ends up in one group. What groups may do is layers.py's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ds01_policy.config.bring.account import Told
from ds01_policy.config.bring.layers import Layer, layer
from ds01_policy.config.problems import Finding

if TYPE_CHECKING:
    from pathlib import Path as FilePath

    from ds01_policy.config.bring.account import Old
    from ds01_policy.config.yaml_strict import Path

NAME = re.compile(r"[^\s*?\[\],:/#\x00-\x1f\x7f\ufffd\u25a1]+")
_NOT_A_NAME = "is not a name: no spaces, `*`, `?`, `,`, `:`, `#` or `/`"
_EVERYBODY = "everybody"
_USUAL = "student"


@dataclass(slots=True)
class People:
    """Every group with its limits and members, each name in one of them."""

    default_group: str = _EVERYBODY
    limits: dict[str, Layer] = field(default_factory=dict)  # by group, in the order of the file
    members: dict[str, list[str]] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)  # about members' files
    wrong: list[Finding] = field(default_factory=list)


def people(old: Old, folder: FilePath, shown: str) -> People:
    """Take groups and members; `folder` holds `groups/*.members`, which messages call `shown`. Raises OSError."""
    found = People()
    group_of: dict[str, str] = {}
    for name in old.mapping("groups"):
        path: Path = ("groups", name)
        if not NAME.fullmatch(name):
            old.refuse(path, f"{name!r} {_NOT_A_NAME}")
            continue
        found.limits[name] = layer(old, path, f"limits.yaml, group {name}", besides=("members",))
        found.members[name] = []
        if not old.mapping(*path):
            old.say(path, f"taken as a group without limits of its own (limits.yaml, group {name})")
        if "members" in old.mapping(*path):
            _listed(old, (*path, "members"), name, found, group_of)
        _filed(folder, shown, name, found, group_of)
    _left_over(folder, shown, found)
    _default(old, found)
    return found


def _listed(old: Old, path: Path, group: str, found: People, group_of: dict[str, str]) -> None:
    """Take the names that stand in the limits file itself."""
    value = old.document.get(*path)
    if value is not None and not isinstance(value, list):
        old.refuse(path, "must be a list of names")
        return
    names = []
    for index in range(len(value or ())):
        name = old.text_at((*path, index))
        if name is None or not NAME.fullmatch(name):
            old.refuse((*path, index), _NOT_A_NAME)
        else:
            names.append(name)
    others = _join(names, group, found, group_of)
    if others:
        line = old.document.at_key(path)[0]
        found.told += [
            Told(old.document.file, line, "", _elsewhere(name, group_of, group), loud=True) for name in others
        ]
    taken = [name for name in names if name not in others]
    told = f"{_count(taken)} taken as groups/{group}.members" if names else "nobody is listed"
    for index in range(len(value or ())):  # refused ones have spoken for themselves
        old.told.pop((*path, index), None)
    old.say(path, told)


def _filed(folder: FilePath, shown: str, group: str, found: People, group_of: dict[str, str]) -> None:
    """Take the names of a members' file: one a line, `#` begins a comment."""
    file = f"{shown}groups/{group}.members"
    try:
        data = (folder / "groups" / f"{group}.members").read_bytes()
    except FileNotFoundError:
        return
    names = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        name = line.partition("#")[0].strip()
        if name and not NAME.fullmatch(name):
            found.wrong.append(Finding("old_value", file, number, 1, f"{name[:40]!r} {_NOT_A_NAME}"))
        elif name:
            others = _join([name], group, found, group_of)
            found.told += [Told(file, number, "", _elsewhere(one, group_of, group), loud=True) for one in others]
            names += [] if others else [name]
    found.told.append(Told(file, 0, "", f"{_count(names)} taken as groups/{group}.members"))


def _join(names: list[str], group: str, found: People, group_of: dict[str, str]) -> list[str]:
    """Put names into a group; give those that are in another one already."""
    others = []
    for name in names:
        if group_of.setdefault(name, group) != group:
            others.append(name)
        elif name not in found.members[group]:
            found.members[group].append(name)
    return others


def _elsewhere(name: str, group_of: dict[str, str], group: str) -> str:
    return f"{name} is in group {group_of[name]} already, and a user has one group: left out of {group}"


def _left_over(folder: FilePath, shown: str, found: People) -> None:
    for path in sorted((folder / "groups").glob("*.members")):
        if path.stem not in found.limits:
            why = f"not used: the limits file has no group {path.stem}"
            found.told.append(Told(f"{shown}groups/{path.name}", 0, "", why, loud=True))


def _default(old: Old, found: People) -> None:
    """Settle the group of everybody who is in none."""
    path: Path = ("default_group",)
    if path in old.document.keys:
        name = old.text_at(path)
        if name is not None and NAME.fullmatch(name):
            found.default_group = name
            added = "" if name in found.limits else "; no such group was there, so it has no limits of its own"
            old.say(path, f"taken as `default_group: {name}` (limits.yaml){added}", loud=bool(added))
        elif path not in old.told:
            old.refuse(path, "must be the name of a group")
    else:
        found.default_group = _USUAL if _USUAL in found.limits else _EVERYBODY
        old.note(f"default_group is not there: who is in no group is in {found.default_group}")
    found.limits.setdefault(found.default_group, {})
    found.members.setdefault(found.default_group, [])


def _count(names: list[str]) -> str:
    return f"{len(names)} name{'s' if len(names) != 1 else ''}"
