"""Where policy files are, and their bytes: a directory of the site's own, and what ships for everything it leaves out.

Owns lookup, reading and the digest. A file that is there and can't be read is an error, not a reason to look elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ds01_policy.config.kept import place
from ds01_policy.config.problems import Finding, PolicyError, closest
from ds01_policy.config.yaml_strict import MAX_BYTES

KINDS = ("settings", "signals", "limits", "identity", "exemptions")
SITE = Path("/etc/ds01-policy")
TESTS = (".test.yaml", "_test.yaml")  # tests of rules may live beside them; the others are in the folder below
TESTS_FOLDER = "tests"
VARIABLE = "DS01_POLICY_CONFIG"

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped() -> tuple[Path, Path]:
    """Find the shipped `config` and `rules`: inside an installed package, else beside it in a clone."""
    return _shipped_root() / "config", _shipped_root() / "rules"


def shipped_deploy() -> Path:
    """Find the shipped `deploy`, which has units, log rotation and what watches over them, in the same way."""
    return _shipped_root() / "deploy"


def _shipped_root() -> Path:
    inside = _PACKAGE / "defaults"
    return inside if inside.is_dir() else _PACKAGE.parent


def find_directory(option: Path | str | None, environ: Mapping[str, str], site: Path = SITE) -> Path | None:
    """Choose the configuration directory: `--config`, else $DS01_POLICY_CONFIG, else the site's; None: what ships.

    Raises:
        PolicyError: for a directory that was named and is not there.

    """
    named, said_by = (option, "--config") if option is not None else (environ.get(VARIABLE), f"${VARIABLE}")
    if option is None and not named:
        return site if site.is_dir() else None
    if not named or not Path(named).is_dir():
        raise PolicyError([Finding("no_directory", str(named or said_by), 0, 0, f"no such directory ({said_by})")])
    return Path(named)


@dataclass(slots=True)
class File:
    """One file that was read."""

    name: str  # relative to the configuration directory, or absolute
    shown: str  # for messages: the path to open
    data: bytes


@dataclass(slots=True)
class Tree:
    """A configuration directory over the shipped one, and what was read of both."""

    directory: Path | None
    recorded: bool = False  # of a recording: holds what lay outside of it, and what shipped then (kept.py)
    read: dict[str, bytes] = field(default_factory=dict)
    from_shipped: set[str] = field(default_factory=set)  # names the directory does not have itself
    texts: dict[str, bytes] = field(default_factory=dict)  # what was read, by the path that messages show
    findings: list[Finding] = field(default_factory=list)

    @property
    def base(self) -> Path:
        """Where relative paths start."""
        return self.directory or shipped()[0]

    def fetch(self, name: str) -> File | None:
        """Read a file of the directory, else the shipped one of that name. None: there is none, or it can't be read."""
        own = self._path(name)
        is_shipped = self.directory is None or _absent(own)
        return self.open(shipped()[0] / name if is_shipped else own, name, is_shipped=is_shipped)

    def fetch_shipped(self, name: str) -> File | None:
        """Read a shipped file, to fill gaps of the directory's own: of a recording, the one that filled them then."""
        path = self._path(f"shipped/{name}") if self.recorded else shipped()[0] / name
        return None if self.recorded and _absent(path) else self.open(path, f"shipped/{name}", is_shipped=True)

    def _path(self, name: str) -> Path:
        return self.base / (place(name) if self.recorded else name)

    def open(self, path: Path, name: str, *, is_shipped: bool) -> File | None:
        """Read one file and remember it for the digest; what goes wrong is a finding."""
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except OSError as error:
            self.findings.append(Finding("unreadable", str(path), 0, 0, f"can't be read: {error.strerror}"))
            return None
        self.read[name] = self.texts[str(path)] = data
        if is_shipped:
            self.from_shipped.add(name)
        return File(name, str(path), data)

    def forget(self, name: str) -> None:
        """Leave a file out of the digest: nothing of it is used."""
        self.read.pop(name, None)

    def rule_files(self, folders: list[str]) -> Iterator[File]:
        """Read the rules of these folders in order, each sorted by name. A missing `rules` is the shipped one."""
        for folder in folders:
            path, is_shipped = self.rules_folder(folder)
            for name in self._rule_names(path):
                file = self.open(path / name, f"{folder}/{name}", is_shipped=is_shipped)
                if file:
                    yield file

    def rules_folder(self, folder: str) -> tuple[Path, bool]:
        """Find a folder of rules, and whether it is the shipped one: that stands in for a missing `rules`."""
        path = self._path(folder)
        return (shipped()[1], True) if folder == "rules" and _absent(path) else (path, False)

    def _rule_names(self, folder: Path) -> list[str]:
        try:
            names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            self.findings.append(Finding("no_directory", str(folder), 0, 0, f"no folder of rules: {error.strerror}"))
            return []
        for name in names:
            if name.endswith(".yml"):
                message = "rules are read from *.yaml only: rename it"
                self.findings.append(Finding("unknown_file", str(folder / name), 0, 0, message))
        return [name for name in names if name.endswith(".yaml") and not name.endswith(TESTS)]

    def misnamed(self) -> None:
        """Report files that are read by nobody because their name is nearly that of a policy file."""
        try:
            paths = sorted(self.directory.iterdir()) if self.directory else []
        except OSError as error:
            self.findings.append(Finding("unreadable", str(self.directory), 0, 0, f"can't be read: {error.strerror}"))
            return
        for path in paths:
            if path.suffix not in (".yaml", ".yml") or path.name in [f"{kind}.yaml" for kind in KINDS]:
                continue
            meant = closest(path.stem, (*KINDS, "rules"))
            if meant:
                message = "is read by nobody, so the shipped one would hold"
                meant = "rules/" if meant == "rules" else f"{meant}.yaml"
                self.findings.append(Finding("unknown_file", str(path), 0, 0, message, meant))

    def digest(self) -> str:
        """Hash the name and content of every file that was read: the same files give the same digest anywhere."""
        return digest_of(self.read)


def digest_of(read: Mapping[str, bytes]) -> str:
    """Hash files by name."""
    total = hashlib.sha256()
    for name in sorted(read):
        for part in (name.encode(errors="surrogateescape"), read[name]):
            total.update(len(part).to_bytes(8, "big") + part)
    return f"sha256:{total.hexdigest()}"


def _absent(path: Path) -> bool:
    """Whether there is nothing at all, not even something that can't be looked at."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
