"""PURE: whose a process is, from the text of its /proc/PID/cgroup: a container of this engine's, or whose else.

Owns what each shape of line means (cgroup v1 and v2, either driver, other runtimes, users and services). Whatever is
not plainly one container's is not that container's: where the lines contradict each other, nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

_UNKNOWN_CGROUP = "it cannot be read"
# The last segment that a kernel shows of a cgroup that was removed under its last, ended process.
_DELETED = " (deleted)"
_CONTAINER = re.compile(r"(?:(?P<runtime>[a-z][a-z0-9_.-]*)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?")
_DOCKERS = frozenset({None, "docker"})  # the cgroupfs driver writes the bare id, systemd's `docker-ID.scope`
_USER = re.compile(r"user-(?P<uid>[0-9]{1,10})\.slice")
_UNIT = re.compile(r".+\.(?:service|scope|slice)")


class Gone(Exception):
    """There is no such process, or no longer."""


class Hidden(Exception):
    """A process is there and cannot be looked at. The text says why."""


class Belongs(StrEnum):
    """To whom a process belongs."""

    CONTAINER = "container"  # one that this engine knows
    FOREIGN = "foreign"  # a container of another engine or runtime
    HOST = "host"  # no container's
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a process is, as its cgroups prove."""

    belongs: Belongs
    container: str = ""  # 64 hex, for CONTAINER and FOREIGN
    place: str = ""  # for HOST the unit, for FOREIGN the runtime; hostile text: users name units of their own
    uid: int | None = None  # for HOST: whose session it is, where it is one
    why: str = ""  # for UNKNOWN


def owner_of(text: str | None, known: Collection[str]) -> Owner:
    """Read /proc/PID/cgroup (None: it could not be read). `known`: the ids of this engine's containers, gone ones too.

    Of containers within containers the outermost one that the engine knows counts: what it runs inside is its own.
    A session or service of a user is that user's, whatever the user called the cgroups in it.
    """
    if not text or not text.strip():
        return Owner(Belongs.UNKNOWN, why=_UNKNOWN_CGROUP)
    owners = []
    for line in filter(None, text.split("\n")):  # only that ends a line here: names may hold any other character
        fields = line.split(":", 2)
        if len(fields) < 3 or not fields[2].startswith("/"):  # noqa: PLR2004  cgroups(7): number, controllers, path
            return Owner(Belongs.UNKNOWN, why="it has a line that is not understood")
        owners.append(_of_path(fields[2].removesuffix(_DELETED), frozenset(known)))
    return _agreed(owners)


def _of_path(path: str, known: frozenset[str]) -> Owner:
    segments = [segment for segment in path.split("/") if segment]
    if ".." in segments:  # above the reader's own root: what stands there is hidden
        return Owner(Belongs.UNKNOWN, why="it lies outside the cgroup namespace of this program")
    users = [found for found in map(_USER.fullmatch, segments) if found]
    if users or "user.slice" in segments[:1]:
        return Owner(Belongs.HOST, place=segments[-1], uid=int(users[0]["uid"]) if users else None)
    containers = [found for found in map(_CONTAINER.fullmatch, segments) if found]
    ours = [found["id"] for found in containers if found["runtime"] in _DOCKERS and found["id"] in known]
    if ours:
        return Owner(Belongs.CONTAINER, ours[0])
    if containers:
        runtime = containers[0]["runtime"] or next((segment for segment in segments if segment != ".."), "")
        return Owner(Belongs.FOREIGN, containers[0]["id"], runtime)
    units = [segment for segment in segments if _UNIT.fullmatch(segment) and not segment.endswith(".slice")]
    return Owner(Belongs.HOST, place=units[0] if units else "/".join(segments))


def _agreed(owners: list[Owner]) -> Owner:
    """Add up what the hierarchies say.

    A hierarchy that the engine does not use leaves a container's process where its own service was, or at the root:
    that contradicts nothing. Two containers do, and so does a user's session.
    """
    unknown = next((owner for owner in owners if owner.belongs is Belongs.UNKNOWN), None)
    if unknown is not None:
        return unknown
    contained = {owner for owner in owners if owner.belongs in (Belongs.CONTAINER, Belongs.FOREIGN)}
    if len({owner.container for owner in contained}) > 1:
        return Owner(Belongs.UNKNOWN, why="its cgroups name more than one container")
    session = next((owner for owner in owners if owner.uid is not None), None)
    if contained and session is not None:
        return Owner(Belongs.UNKNOWN, why="its cgroups name a container and a user's session")
    if contained:
        return min(contained, key=lambda owner: owner.place)
    return session or max(owners, key=lambda owner: bool(owner.place))
