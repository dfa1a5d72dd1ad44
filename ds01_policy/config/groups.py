"""Who belongs to which group: names in limits.yaml, a members file, a Unix group, put together.

Owns the resolving and its errors. Asks the system only through the function it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ds01_policy.config.problems import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_policy.config.files import Tree
    from ds01_policy.config.yaml_strict import Document

UnixGroup = Callable[[str], "frozenset[str] | None"]
Place = tuple[str, int, int]

_NAME = re.compile(r"[^\s*?\[\],:/#\x00-\x1f\x7f]+")


def members(document: Document, tree: Tree, unix_group: UnixGroup) -> dict[str, frozenset[str]]:
    """Put every group's members together; what is wrong goes into the document's or the tree's findings.

    Reads the raw document: a mistake elsewhere in it must not hide one here.
    """
    groups: dict[str, frozenset[str]] = {}
    first: dict[str, str] = {}
    entries = document.get("groups")
    for name in entries if isinstance(entries, dict) else ():
        found = set()
        for member, place in _members(name, document, tree, unix_group):
            found.add(member)
            other = first.setdefault(member, name)
            if other != name:
                message = f"{member!r} is in group {other!r} and in {name!r}: a user has one group"
                tree.findings.append(Finding("two_groups", *place, message))
        groups[name] = frozenset(found)
    return groups


def _members(name: str, document: Document, tree: Tree, unix_group: UnixGroup) -> Iterator[tuple[str, Place]]:
    """Yield each member and where that is said, in the order inline, members file, Unix group."""
    path = ("groups", name)
    inline, file, unix = (document.get(*path, key) for key in ("members", "members_file", "unix_group"))
    for index, member in enumerate(inline if isinstance(inline, list) else ()):
        if isinstance(member, str):
            yield member, (document.file, *document.at((*path, "members", index)))
    if isinstance(file, str):
        yield from _in_file(file, document, (*path, "members_file"), tree)
    if isinstance(unix, str) and unix != "never":
        at = document.at((*path, "unix_group"))
        found = unix_group(unix)
        if found is None:
            message = f"no Unix group {unix!r} on this host; write `unix_group: never` for none"
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
