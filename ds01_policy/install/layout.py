"""PURE: what an installed host looks like: which file goes where, with which content and mode.

Owns the places, and what follows from settings.yaml for the units. Reads and writes nothing.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING

from ds01_policy.install.unit_text import Unwritable, bare, executable, quoted, schedule, values
from ds01_policy.policy import LocalSamples, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

UNITS = PurePosixPath("/etc/systemd/system")
POLICY = PurePosixPath("/etc/ds01-policy")
STATE = PurePosixPath("/var/lib/ds01-policy")
LOGROTATE = PurePosixPath("/etc/logrotate.d/ds01-policy")
LINK = PurePosixPath("/usr/local/bin/ds01-policy")
SERVICE, TIMER = "ds01-policy.service", "ds01-policy.timer"
WATCH, RESET_PATH = "ds01-policy-watch.service", "ds01-policy-reset.path"
DROP_IN = "50-settings.conf"

MARK = b"# written by ds01-policy install"  # how a file starts that it may replace and remove
_SHIPPED_PROGRAM = "/opt/ds01-policy/bin/ds01-policy"
_MARKED = MARK.decode()
# Folders that a unit does not see as they are, by the setting that hides them, and what shows them again.
_HIDDEN = (
    ("ProtectHome", ("/home", "/root", "/run/user"), "ProtectHome=read-only"),
    ("PrivateTmp", ("/tmp", "/var/tmp"), "PrivateTmp=no"),  # noqa: S108  names them, writes nothing there
)
_ROTATABLE = re.compile(r"/[\w/.+@:,=%~ -]*", re.ASCII)  # what logrotate does not read as a pattern or a quote


@dataclass(frozen=True, slots=True)
class File:
    """A file with all of its content."""

    path: PurePath
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Shipped:
    """What this version brings along for a host: units by name, and the rotation of the audit log, as they ship."""

    units: Mapping[str, str]
    logrotate: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should stand there. Nothing else of the host is this program's."""

    files: tuple[File, ...]
    absent: tuple[PurePath, ...]  # files of ours that stood there for settings that have changed
    folders: tuple[PurePath, ...]  # private to root
    link: PurePath  # what `LINK` leads to
    notes: tuple[str, ...] = ()  # what could not be laid out, and what to do


def wanted(shipped: Shipped, script: PurePath, code: Sequence[PurePath], settings: Settings | None) -> Wanted:
    """Lay out a host that runs `script`, whose code lies in the folders `code`.

    `settings` None: they cannot be read, so nothing is said about what follows from them.

    Raises:
        Unwritable: when the program lies where no unit can name it.

    """
    program = executable(script)
    files = [
        File(UNITS / name, _owned(text.replace(_SHIPPED_PROGRAM, program))) for name, text in shipped.units.items()
    ]
    if settings is None:
        return Wanted(tuple(files), (), (STATE,), script)
    notes: list[str] = []
    absent: list[PurePath] = []
    for name, text in shipped.units.items():
        path = UNITS / f"{name}.d" / DROP_IN
        try:
            lines = _drop_in(name, text, [script, *code], settings)
        except Unwritable as error:
            notes.append(str(error))
            continue
        if lines:
            files.append(File(path, _owned("\n".join([_WHY, *lines]) + "\n")))
        else:
            absent.append(path)
    state = PurePosixPath(settings.state_dir)
    if _ROTATABLE.fullmatch(str(state)):
        files.append(File(LOGROTATE, _owned(_rotation(shipped.logrotate, state))))
    else:
        absent.append(LOGROTATE)
        notes.append(
            "logrotate cannot name the folder in state_dir: rotate its audit.jsonl yourself, or choose another"
        )
    return Wanted(tuple(files), tuple(absent), tuple(dict.fromkeys((STATE, state))), script, tuple(notes))


_WHY = (
    "# Follows from settings.yaml and from where the program lies: `ds01-policy install` writes it anew after a change."
)


def _owned(text: str) -> bytes:
    return f"{_MARKED}\n{text}".encode()


def is_ours(content: bytes) -> bool:
    """Whether a file was written by `ds01-policy install`, this version's or another."""
    return content.startswith(MARK)


def _rotation(text: str, state: PurePath) -> str:
    name = f'"{state}/audit.jsonl"' if " " in str(state) else f"{state}/audit.jsonl"
    return text.replace(f"{STATE}/audit.jsonl", name)


def _drop_in(name: str, unit: str, program: Sequence[PurePath], settings: Settings) -> list[str]:
    """Say what settings.yaml changes about one unit; empty: nothing."""
    if name == TIMER:
        interval = settings.local_samples.interval
        return [] if interval == LocalSamples().interval else ["[Timer]", *schedule(interval)]
    if name.endswith(".path"):
        return _watched(unit, PurePosixPath(settings.state_dir))
    written = [settings.state_dir]
    if name == SERVICE and settings.metrics_file is not None:
        written.append(settings.metrics_file.parent)
    lines = list(_visible(unit, [*program, *written, *_read(settings)]))
    if missing := [path for path in written if not _may_write(unit, path)]:
        # "-": a folder that is not there yet must not keep the unit from starting; doctor says that it is missing.
        paths = [quoted(f"-{_normal(path)}") for path in dict.fromkeys(missing)]
        lines.append(f"ReadWritePaths={' '.join(paths)}")
    return ["[Service]", *lines] if lines else []


def _watched(unit: str, state: PurePath) -> list[str]:
    """Move what a path unit watches to where the state is."""
    if state == STATE:
        return []
    keys = ("PathExists", "PathExistsGlob", "PathChanged", "PathModified", "DirectoryNotEmpty")
    paths = [(key, PurePosixPath(value)) for key in keys for value in values(unit, key)]
    lines = [
        # A pattern of ours below a folder that is none.
        f"{key}={bare(_literal(state) if key.endswith('Glob') else state)}/{path.relative_to(STATE)}"
        for key, path in paths
        if path.is_relative_to(STATE)
    ]
    return ["[Path]", f"{lines[0].partition('=')[0]}=", *lines] if lines else []


def _literal(path: PurePath) -> str:
    """Write a path as a pattern that is that path alone: glob(7)."""
    return re.sub(r"[*?\[\\]", r"\\\g<0>", str(path))


def _read(settings: Settings) -> Iterator[PurePath]:
    """List what the program reads outside of /etc/ds01-policy."""
    if settings.prometheus is not None:
        for path in (settings.prometheus.password_file, settings.prometheus.bearer_token_file):
            if path is not None:
                yield path
        if settings.prometheus.ca_file is not None:
            yield settings.prometheus.ca_file
    scheme, _, socket = settings.docker.url.partition("://")
    if scheme == "unix":
        yield PurePosixPath(socket)
    if settings.gpu.nvidia_smi.startswith("/"):
        yield PurePosixPath(settings.gpu.nvidia_smi)


def _visible(unit: str, needed: Sequence[PurePath]) -> Iterator[str]:
    """Take back what would hide any of these paths from the unit."""
    for key, folders, instead in _HIDDEN:
        hides = values(unit, key)[-1:] not in ([], ["no"], ["false"], ["read-only"])
        if hides and any(_within(path, folder) for path in needed for folder in folders):
            yield instead


def _may_write(unit: str, path: PurePath) -> bool:
    """Whether the unit may write below a folder as it ships."""
    if values(unit, "ProtectSystem")[-1:] != ["strict"]:
        return True
    allowed = [f"/var/lib/{name}" for value in values(unit, "StateDirectory") for name in value.split()]
    allowed += [word.lstrip("-+") for value in values(unit, "ReadWritePaths") for word in value.split()]
    return any(_within(path, folder) for folder in allowed)


def _within(path: PurePath, folder: str) -> bool:
    return PurePosixPath(_normal(path)).is_relative_to(folder)


def _normal(path: PurePath) -> str:
    """Take out `..`, which systemd refuses in a path."""
    return posixpath.normpath(str(path))
