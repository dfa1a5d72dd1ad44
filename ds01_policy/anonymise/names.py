"""Every name on a recorded host, and what stands in its place: the same everywhere, in the same order.

Owns the replacements. Names sort as before and ids keep their shape: what is decided by order is decided alike.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ds01_policy.identity import USER_NAME
from ds01_policy.limits import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONG_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_SHORT_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{12,64}(?![0-9a-f])")
_UUID = re.compile(r"(?<![0-9A-Za-z])(?:GPU|MIG)-[0-9a-fA-F]+(?:-[0-9a-fA-F]+)*(?![0-9A-Za-z])")
_SHORT = 12
_GLOB = re.compile(r"[*?\[]")

HOST = "host-1"
ROOT = "root"  # on every host the same, and nobody in particular
# Folders that say nothing about whose they are.
_PLACES = frozenset({
    ".keep-alive", "app", "boot", "cache", "code", "config", "containers", "data", "datasets", "dev",
    "docker", "etc", "home", "hosts", "hostname", "lib", "local", "logs", "media", "mnt", "models",
    "notebooks", "opt", "overlay2", "proc", "project", "projects", "resolv.conf", "root", "run", "scratch",
    "shm", "share", "srv", "storage", "sys", "system.slice", "tmp", "usr", "var", "volumes", "work",
    "workdir", "workspace", "workspaces",
})  # fmt: skip


@dataclass(slots=True)
class Words:
    """Words of one kind, numbered in the order in which they sort once all of them are known."""

    kind: str
    known: dict[str, str] = field(default_factory=dict)

    def learn(self, words: Iterable[str]) -> None:
        """Take the words of this kind, all at once, so that their order is kept."""
        every = sorted({*self.known, *words})
        width = len(str(len(every)))
        self.known = {word: f"{self.kind}-{number:0{width}d}" for number, word in enumerate(every, 1)}

    def of(self, word: str) -> str:
        """Give what stands for a word; one that was never seen before comes after all others."""
        return self.known.setdefault(word, f"{self.kind}-x{len(self.known) + 1}")


@dataclass(slots=True)
class Names:
    """All replacements for one host."""

    host: str
    users: Words = field(default_factory=lambda: Words("user"))
    strangers: Words = field(default_factory=lambda: Words("no name"))  # texts that cannot be a user's name
    groups: Words = field(default_factory=lambda: Words("group"))
    images: Words = field(default_factory=lambda: Words("image"))
    volumes: Words = field(default_factory=lambda: Words("volume"))
    networks: Words = field(default_factory=lambda: Words("network"))
    folders: Words = field(default_factory=lambda: Words("folder"))
    values: Words = field(default_factory=lambda: Words("value"))
    rules: Words = field(default_factory=lambda: Words("rule"))
    containers: dict[str, str] = field(default_factory=dict)  # whole names, settled by `call`
    ids: dict[str, str] = field(default_factory=dict)  # 64 hex
    uuids: dict[str, str] = field(default_factory=dict)  # by their lower case
    others: dict[str, str] = field(default_factory=dict)  # beginnings of ids, and what only looks like one
    pids: dict[int, int] = field(default_factory=dict)

    # ── ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def learn_marks(self, texts: Iterable[str]) -> None:
        """Find every id and UUID that stands anywhere."""
        long, uuids = set[str](), set[str]()
        for text in texts:
            long.update(_LONG_HEX.findall(text))
            uuids.update(_UUID.findall(text))
        digits = [str(number).encode() for number in range(len(long))]
        self.ids = dict(zip(sorted(long), map(_hex, digits, _ranks(len(long), _SHORT)), strict=True))
        by_case = sorted({uuid.lower() for uuid in uuids})
        shortest = min((len(re.sub(r"[^0-9a-f]", "", uuid[4:])) for uuid in by_case), default=_SHORT)
        ranks = _ranks(len(by_case), min(shortest, _SHORT))
        self.uuids = {
            uuid: _shaped(uuid, rank, number) for number, (uuid, rank) in enumerate(zip(by_case, ranks, strict=True))
        }

    def marks(self, text: str) -> str:
        """Replace ids, their beginnings, and UUIDs in a text; nothing else."""
        return _UUID.sub(self._uuid, _SHORT_HEX.sub(self._id, text))

    def _id(self, found: re.Match[str]) -> str:
        text = found[0]
        if text in self.ids:
            return self.ids[text]
        if text not in self.others:
            whole = next((one for one in self.ids if one.startswith(text)), None)
            other = _hex(f"other {len(self.others)}".encode(), "") if whole is None else self.ids[whole]
            self.others[text] = text if whole is None and text.isdigit() else other[: len(text)]
        return self.others[text]

    def _uuid(self, found: re.Match[str]) -> str:
        text, low = found[0], found[0].lower()
        if low not in self.uuids and low not in self.others:
            whole = next((one for one in self.uuids if one.startswith(low)), None)
            other = _shaped(low, "", len(self.others)) if whole is None else self.uuids[whole]
            self.others[low] = other[: len(low)]
        mapped = self.uuids.get(low) or self.others[low]
        return text[:4] + (mapped[4:].upper() if text[4:].isupper() else mapped[4:])

    # ── people, places, things ───────────────────────────────────────────────────────────────────────────────────────

    def user(self, name: str) -> str:
        """Give what stands for a user; what could be nobody's name stays so."""
        if name in ("", ROOT, UNKNOWN):
            return name
        return self.users.of(name) if USER_NAME.match(name) else self.strangers.of(name)

    def call(self, names: Mapping[str, str]) -> None:
        """Settle the containers' names: by number, in the order in which they sort, and what each must end in."""
        width = len(str(len(names)))
        self.containers = {
            name: f"container-{number:0{width}d}{names[name]}" for number, name in enumerate(sorted(names), 1)
        }

    def container(self, name: str) -> str:
        """Give what stands for a container's name, with its leading slash if it has one."""
        bare = name.removeprefix("/")
        return name[: len(name) - len(bare)] + self.containers.setdefault(
            bare, f"container-x{len(self.containers) + 1}"
        )

    def pid(self, number: int) -> int:
        """Give what stands for a process."""
        return self.pids.setdefault(number, 1000 + len(self.pids)) if number > 0 else number

    def path(self, path: str, homes: Iterable[str] = ()) -> str:
        """Replace the folders of a path: whoever's home it lies in, and every name that says something."""
        if not path.startswith("/"):
            return self.folders.of(path) if path else path
        normal = "/" + posixpath.normpath(path).strip("/")
        home = next((home for home in homes if normal.startswith(f"{home.rstrip('/')}/")), None)
        if home is not None:
            user, _, rest = normal[len(home.rstrip("/")) + 1 :].partition("/")
            return f"{self.path(home).rstrip('/')}/{self.user(user)}" + self.path(f"/{rest}").rstrip("/") * bool(rest)
        return "/".join(self._folder(each) for each in normal.split("/"))

    def _folder(self, name: str) -> str:
        marked = self.marks(name)
        if name in _PLACES or name == "" or marked != name:
            return marked
        return self.users.known[name] if name in self.users.known else self.folders.of(name)

    def network(self, mode: str) -> str:
        """Replace the name of a network, or of the container whose network is shared."""
        if mode in ("", "default", "bridge", "host", "none", "container"):
            return mode
        kind, colon, of = mode.partition(":")
        if kind == "container" and colon:
            return f"container:{self.marks(of) if self.marks(of) != of else self.container(of)}"
        return self.networks.of(mode)

    def anywhere(self, value: Any) -> Any:
        """Replace ids, UUIDs and the names of rules in every text of a JSON value."""
        if isinstance(value, dict):
            return {self.anywhere(key): self.anywhere(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.anywhere(inner) for inner in value]
        return (self.rules.known.get(value) or self.marks(value)) if isinstance(value, str) else value

    def known(self) -> set[str]:
        """List every name that must not be seen any more."""
        words = (self.users, self.strangers, self.groups, self.images, self.volumes, self.networks, self.rules)
        found = {word for each in words for word in each.known} | set(self.containers) | set(self.ids) | {self.host}
        return found | {uuid[4:] for uuid in self.uuids}


def fitting(pattern: str, candidates: Iterable[str]) -> list[str]:
    """List the candidates that a shell pattern means; a pattern without wildcards means itself."""
    if not _GLOB.search(pattern):
        return [pattern]
    return sorted(each for each in candidates if fnmatchcase(each, pattern))


def _ranks(count: int, width: int) -> list[str]:
    """Make `count` hex numbers of `width` digits in rising order, spread out."""
    step = 16**width // (count + 1)
    if count and not step:
        raise ValueError(f"more than {16**width} ids of {width} digits")
    return [f"{(number + 1) * step:0{width}x}" for number in range(count)]


def _hex(seed: bytes, begin: str) -> str:
    """Make 64 hex digits that tell nothing but how they begin."""
    return begin + sha256(b"id" + seed).hexdigest()[len(begin) :]


def _shaped(uuid: str, rank: str, number: int) -> str:
    """Make a UUID of the same shape whose digits begin with `rank`."""
    digits = iter(rank + sha256(f"{uuid[:4]}{number}".encode()).hexdigest() * 4)
    body = re.sub(r"[0-9a-f]", lambda _: next(digits), uuid[4:])
    return uuid[:4].upper() + body
