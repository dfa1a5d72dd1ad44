"""GPUs that wait for their reset: a small file for each, by who may not reset it, for who may.

Owns the files: written in one step, read strictly, taken away. Resets nothing; a request alone is no reason to.
"""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ds01_policy.durable import sync_folder
from ds01_policy.text import plain

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "resets"  # in the state directory
LIMIT_BYTES = 16 * 1024
_WHY_LIMIT = 1000  # characters
_NEW = ".new"  # being written: whoever writes has the epilogs' lock
_GPU = re.compile(r"GPU-[0-9A-Za-z-]{1,60}\Z")
_CONTAINER = re.compile(r"([0-9a-f]{64})?\Z")
_BY = re.compile(r"[a-z][a-z-]{0,19}\Z")
_FIELDS = ("gpu", "container", "asked_at", "why", "by")


class Refused(Exception):
    """A file is no request. The text says why, for the admin."""


@dataclass(frozen=True, slots=True)
class Request:
    """One GPU that an epilog wants to have reset."""

    gpu: str  # UUID, and the file's name
    container: str  # 64 hex: after which; empty: after none
    asked_at: datetime
    why: str  # for people
    by: str  # which command asked


def is_gpu(name: str) -> bool:
    """Whether a file of this name may be a request."""
    return _GPU.match(name) is not None


def ask(folder: Path, request: Request) -> None:
    """Write a request, so that it survives a power cut and nobody sees half of it. Raises OSError.

    A second one for the same GPU takes the first one's place, and its time: the GPU waits since then. One process at a
    time, with the epilogs' lock.
    """
    if not is_gpu(request.gpu):
        raise OSError(0, f"{plain(request.gpu, 80)} is no GPU's UUID")
    told = {"gpu": request.gpu, "container": request.container, "asked_at": request.asked_at.isoformat()}
    text = json.dumps({**told, "why": plain(request.why, _WHY_LIMIT), "by": request.by}) + "\n"
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    else:
        sync_folder(folder.parent)
    descriptor = os.open(folder / _NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        with suppress(FileNotFoundError):
            since = (folder / request.gpu).lstat().st_mtime_ns
            os.utime(descriptor, ns=(since, since))
        os.fsync(descriptor)
    (folder / _NEW).replace(folder / request.gpu)
    sync_folder(folder)


def listed(folder: Path) -> dict[str, datetime]:
    """List what lies there, whatever it is, with since when, the oldest first. Raises OSError."""
    found = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found[entry.name] = datetime.fromtimestamp(entry.stat(follow_symlinks=False).st_mtime, UTC)
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return {}
    found.pop(_NEW, None)
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def waiting(folder: Path) -> dict[str, datetime]:
    """Tell since when which GPUs wait for a reset; what cannot be read is not known to wait."""
    try:
        return {name: at for name, at in listed(folder).items() if is_gpu(name)}
    except OSError:
        return {}


def read(folder: Path, name: str) -> Request | None:
    """Read one; None: it is gone. Raises Refused for what is not a request that this program, as this user, wrote."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"it cannot be opened ({error.strerror})") from None
    try:
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode):
            raise Refused("it is no plain file")
        if there.st_uid != os.geteuid() or there.st_mode & 0o022:
            raise Refused("others than this user own it or may write it")
        text = os.read(descriptor, LIMIT_BYTES + 1)
    except OSError as error:
        raise Refused(f"it cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)
    if len(text) > LIMIT_BYTES:
        raise Refused(f"it has more than {LIMIT_BYTES} bytes")
    return _request(name, text)


def take_away(folder: Path, name: str) -> bool:
    """Remove one for good; False: it is gone already. Raises OSError."""
    try:
        (folder / name).unlink()
    except FileNotFoundError:
        return False
    sync_folder(folder)
    return True


def _request(name: str, text: bytes) -> Request:
    fields = _fields(text)
    if fields["gpu"] != name or not is_gpu(name):
        raise Refused(f"its GPU is {plain(fields['gpu'], 80)}, which is not its name")
    if not _CONTAINER.match(fields["container"]):
        raise Refused(f"{plain(fields['container'], 80)} is no container's id")
    if not _BY.match(fields["by"]) or len(fields["why"]) > _WHY_LIMIT:
        raise Refused("who asked, or why, is not as this program writes it")
    try:
        asked_at = datetime.fromisoformat(fields["asked_at"])
        if asked_at.tzinfo is None:
            raise Refused("when it was asked has no time zone")
        asked_at = asked_at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused(f"{plain(fields['asked_at'], 60)} is no time") from None
    return Request(name, fields["container"], asked_at, fields["why"], fields["by"])


def _fields(text: bytes) -> dict[str, str]:
    """Read one object with exactly these fields, each once, all of them texts. Raises Refused."""
    try:
        value = json.loads(text, object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        raise Refused("it is not JSON, or has a field twice") from None
    if not isinstance(value, dict) or set(value) != set(_FIELDS):
        raise Refused(f"it is no object of {', '.join(_FIELDS)} alone")
    if not all(isinstance(one, str) for one in value.values()):
        raise Refused("not all of its fields are texts")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError
    return fields
