"""The policy that a recording was made under: its files laid out inside the recording, and read from there.

Owns the layout and what is too secret to be kept. What lay outside the directory, and what only shipped then, is
inside here: a recording decides the same on any host and in any later version.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ds01_policy.config.problems import Finding, PolicyError
from ds01_policy.config.yaml_strict import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOLDER, INDEX = "policy", "policy.json"
_REDACTED = "redacted"
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@\"']+@")


@dataclass(frozen=True, slots=True)
class Kept:
    """What stands beside a recorded policy."""

    digest: str  # of the files as they were
    kept_as: str  # of the files as they are kept: without secrets
    unix_groups: Mapping[str, frozenset[str] | None] = field(default_factory=dict)  # as the host told them

    def unix_group(self, name: str) -> frozenset[str] | None:
        """Give the members of a Unix group of then; None: there was no such group."""
        return self.unix_groups.get(name)


def kept_of(directory: Path | None) -> Kept | None:
    """Read what stands beside the policy of a recording; None: this directory is no recording's.

    Raises:
        PolicyError: when it cannot be understood.

    """
    path = None if directory is None else directory.absolute().parent / INDEX
    if directory is None or path is None or directory.absolute().name != FOLDER or not path.is_file():
        return None
    try:
        value = json.loads(path.read_text("utf-8"))
        groups = {
            str(name): None if members is None else frozenset(map(str, members))
            for name, members in value["unix_groups"].items()
        }
        return Kept(str(value["digest"]), str(value["kept_as"]), groups)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PolicyError([Finding("unreadable", str(path), 0, 0, f"is not what `record` writes: {error}")]) from error


def place(name: str) -> str:
    """Tell where a recording keeps a file that the policy calls `name`, relative to its policy directory."""
    path = PurePosixPath(name)
    if not path.is_absolute() and ".." not in path.parts:
        return name
    # `..` is kept apart from a folder that is really called so nowhere: no policy can name one.
    inside = ("__" if part == ".." else part for part in path.parts if part.strip("/"))
    return str(PurePosixPath("outside", *inside))


def files_of(read: Mapping[str, bytes], folders: Iterable[str] = ("rules",)) -> dict[str, str]:
    """Lay out what was read of a policy, by path inside its directory; without what is secret. Raises UnicodeError.

    `folders` are those of the rules: one without any rule must not be taken for one that is missing.
    """
    files: dict[str, str] = {}
    for name, data in read.items():
        text = _settings(data) if name == "settings.yaml" else data.decode()
        files[place(name)] = _CREDENTIALS.sub(f"{_REDACTED}@", text)
    empty = [folder for folder in map(place, folders) if not any(name.startswith(f"{folder}/") for name in files)]
    return files | {f"{folder}/.kept": "" for folder in empty}


def folders_of(settings: Any) -> list[str]:
    """List the folders of rules that the settings name."""
    named = settings.get("rules", "rules") if isinstance(settings, dict) else "rules"
    return [named] if isinstance(named, str) else list(named)


def index(digest: str, kept_as: str, unix_groups: Mapping[str, frozenset[str] | None]) -> str:
    """Write what stands beside."""
    groups = {name: None if members is None else sorted(members) for name, members in sorted(unix_groups.items())}
    return json.dumps({"digest": digest, "kept_as": kept_as, "unix_groups": groups}, indent=2) + "\n"


def _settings(data: bytes) -> str:
    """Write the settings anew, from their values: comments may hold what was tried and should not be known."""
    value = parse(data, "settings.yaml").value
    return as_yaml(redacted(value)) if isinstance(value, dict) else "version: 1\n"


def redacted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replace what is secret in settings, or may be: headers, names to log in with, where messages go."""
    kept = dict(settings)
    prometheus, notify = kept.get("prometheus"), kept.get("notify")
    if isinstance(prometheus, dict):
        kept["prometheus"] = prometheus = dict(prometheus)
        if isinstance(prometheus.get("headers"), dict):
            prometheus["headers"] = dict.fromkeys(prometheus["headers"], _REDACTED)
        if isinstance(prometheus.get("basic_auth"), dict):
            prometheus["basic_auth"] = {**prometheus["basic_auth"], "username": _REDACTED}
    if isinstance(notify, dict) and isinstance(notify.get("channels"), list):
        channels = [_channel(channel) for channel in notify["channels"]]
        kept["notify"] = {**notify, "channels": channels}
    return kept


def _channel(channel: Any) -> Any:
    """Keep which kind of channel it is: an address is a secret to whoever can post there."""
    scheme, is_url, _ = str(channel).partition("://")
    return f"{scheme}://{_REDACTED}" if is_url else channel


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    return [_without_null(inner) for inner in value] if isinstance(value, list) else value


def as_yaml(value: Mapping[str, Any]) -> str:
    """Write values so that the strict loader reads the same ones: JSON, which YAML is too, one key a line."""
    lines = ",\n".join(
        f"  {json.dumps(key)}: {json.dumps(_without_null(inner), ensure_ascii=False)}"
        for key, inner in value.items()
        if inner is not None  # a section of comments only
    )
    return f"{{\n{lines}\n}}\n" if lines else "{}\n"
