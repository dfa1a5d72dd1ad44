"""Who belongs to which group: names in limits.yaml, a members file, a Unix group, put together.

Owns the resolving and its errors. Asks the system only through the function it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ds01_policy.config.problems import Finding
from ds01_policy.limits import Group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_policy.config.files import Tree
    from ds01_policy.config.limits_file import LimitsFile
    from ds01_policy.config.yaml_strict import Document

UnixGroup = Callable[[str], "frozenset[str] | None"]
Place = tuple[str, int, int]

_NAME = re.compile(r"[^\s*?\[\],:/#\x00-\x1f\x7f]+")


def resolve(file: LimitsFile, document: Document, tree: Tree, unix_group: UnixGroup) -> dict[str, Group]:
    """Resolve every group's members; what is wrong goes into the document's or the tree's findings."""
    groups: dict[str, Group] = {}
    first: dict[str, str] = {}
    for name, group in file.groups.items():
        members = set()
        for member, place in _members(name, file, document, tree, unix_group):
            members.add(member)
            other = first.setdefault(member, name)
            if other != name:
                message = f"{member!r} is in group {other!r} and in {name!r}: a user has one group"
                tree.findings.append(Finding("two_groups", *place, message))
        max_gpus = group.limits.max_gpus if "max_gpus" in group.limits.model_fields_set else file.defaults.max_gpus
        groups[name] = Group(frozenset(members), group.limits.named(), max_gpus)
    return groups


def _members(
    name: str, file: LimitsFile, document: Document, tree: Tree, unix_group: UnixGroup
) -> Iterator[tuple[str, Place]]:
    """Yield each member and where that is said, in the order inline, members file, Unix group."""
    group = file.groups[name]
    for index, member in enumerate(group.members):
        yield member, (document.file, *document.at(("groups", name, "members", index)))
    if group.members_file is not None:
        yield from _in_file(group.members_file, document, ("groups", name, "members_file"), tree)
    if group.unix_group != "never":
        at = document.at(("groups", name, "unix_group"))
        found = unix_group(group.unix_group)
        if found is None:
            message = f"no Unix group {group.unix_group!r} on this host; write `unix_group: never` for none"
            document.report("unix_group", at, message)
        for member in sorted(found or ()):
            yield member, (document.file, *at)


def _in_file(name: str, document: Document, path: tuple[str, ...], tree: Tree) -> Iterator[tuple[str, Place]]:
    """Read one name a line; `#` begins a comment."""
    before = len(tree.findings)
    file = tree.fetch(name)
    if file is None:
        missing = tree.findings[before:]
        del tree.findings[before:]
        why = missing[0].message if missing else "can't be read"
        document.report("members_file", document.at(path), f"{name!r} {why}")
        return
    try:
        lines = file.data.decode().splitlines()
    except UnicodeDecodeError:
        tree.findings.append(Finding("members_file", file.shown, 1, 1, "not UTF-8 text"))
        return
    for number, line in enumerate(lines, 1):
        member = line.partition("#")[0].strip()
        if member and not _NAME.fullmatch(member):
            col = len(line) - len(line.lstrip()) + 1
            tree.findings.append(
                Finding("members_file", file.shown, number, col, f"{member[:40]!r} is not one name: one name a line")
            )
        elif member:
            yield member, (file.shown, number, len(line) - len(line.lstrip()) + 1)
