"""Reads an old limits file with what lies beside it, and lays policy files out in a new directory.

Owns the order of the steps: nothing is left there that the strict loader has not read.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.config.bring import account, hints, layers, leave, people, write
from ds01_policy.config.bring.account import Old, Told
from ds01_policy.config.bring.layers import Layers, exact
from ds01_policy.config.files import shipped
from ds01_policy.config.load import findings
from ds01_policy.config.problems import Finding, PolicyError
from ds01_policy.config.shipped import AlreadyThere, copy_out
from ds01_policy.config.yaml_strict import Document, parse
from ds01_policy.units import parse_duration

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.config.bring.people import People
    from ds01_policy.config.groups import UnixGroup
    from ds01_policy.config.yaml_strict import Path as YamlPath

OVERRIDES, EXEMPTIONS, GROUPS = "user-overrides.yaml", "lifecycle-exemptions.yaml", "group-overrides.txt"


@dataclass(frozen=True, slots=True)
class Brought:
    """Policy files as texts by name, and what became of each key of the old ones."""

    files: dict[str, str]
    told: list[Told]
    source: str  # the old file, as messages call it
    advice: list[Finding] = field(default_factory=list)  # what `check` says of the result


def bring(file: Path, now: datetime) -> Brought:
    """Read an old limits file and what lies beside it.

    Raises:
        PolicyError: with everything that cannot be taken and must not be guessed.
        OSError: when a file can't be read.

    """
    beside = f"{file.parent}/" if str(file.parent) != "." else ""
    old = Old.of(file.read_bytes(), str(file))
    overrides = account.read(file.parent / OVERRIDES, f"{beside}{OVERRIDES}")
    exemptions = account.read(file.parent / EXEMPTIONS, f"{beside}{EXEMPTIONS}")
    olds = [one for one in (old, overrides, exemptions) if one is not None]
    if wrong := [finding for one in olds for finding in one.wrong]:
        raise PolicyError(wrong)

    who = people.people(old, file.parent, beside)
    settings, grace = hints.hints(old)
    taken = _layers(old, who, grace, overrides)
    leaves = leave.leaves_of(exemptions, now) if exemptions else []
    notes = [*who.told, *_filled(old, taken)]
    if (file.parent / GROUPS).exists():
        notes.append(Told(f"{beside}{GROUPS}", 0, "", "not used: what came of it stands in the groups' members files"))

    told = [line for one in olds for line in one.account(hints.SECTIONS if one is old else ())]
    if wrong := [*who.wrong, *(finding for one in olds for finding in one.wrong)]:
        raise PolicyError(wrong)
    source = ", ".join(one.document.file for one in olds)
    texts = {
        "limits.yaml": write.limits_yaml(old.document.file, who, taken, _unknown_owner()),
        "exemptions.yaml": write.exemptions_yaml(exemptions.document.file, leaves) if exemptions else "",
        "settings.yaml": write.with_settings((shipped()[0] / "settings.yaml").read_text("utf-8"), settings),
        **{f"groups/{name}.members": write.members_file(who.members[name], source) for name in who.limits},
    }
    return Brought({name: text for name, text in texts.items() if text}, [*told, *notes], str(file))


def _layers(old: Old, who: People, grace: layers.Layer, overrides: Old | None) -> Layers:
    """Take every layer of limits."""
    found = Layers(defaults=grace | layers.layer(old, ("defaults",), "limits.yaml, defaults"), groups=who.limits)
    for name in old.mapping("container_types"):
        found.container_types[name] = _one(old, ("container_types", name), "container type")
    users: list[tuple[Old, YamlPath]] = [(old, ("user_overrides", name)) for name in old.mapping("user_overrides")]
    users += [(overrides, (name,)) for name in overrides.mapping()] if overrides else []
    for one, path in users:
        name = str(path[-1])
        if name in found.users:
            one.refuse(path, f"{name} stands in both files: delete one of them")
        else:
            found.users[name] = _one(one, path, "user")
    return found


def _one(old: Old, path: YamlPath, what: str) -> layers.Layer:
    name = str(path[-1])
    if not people.NAME.fullmatch(name):
        old.refuse(path, f"{name!r} is not a name")
        return {}
    if not old.mapping(*path):
        old.say(path, f"taken as a {what} without limits of its own (limits.yaml)")
    return layers.layer(old, path, f"limits.yaml, {what} {name}")


# ── what the old file does not have ──────────────────────────────────────────────────────────────────────────────────


def _shipped_limits() -> Document:
    return parse((shipped()[0] / "limits.yaml").read_bytes(), "limits.yaml")


def _filled(old: Old, taken: Layers) -> list[Told]:
    """Add the limits and types that must be there, each with a word about it."""
    ours, notes = _shipped_limits(), []
    for key, value in ours.get("defaults").items():
        if key not in taken.defaults:
            taken.defaults[key] = None if value == "never" else parse_duration(value)
            became = f"defaults.{key} is not there: `{key}: {exact(taken.defaults[key])}`, as shipped"
            notes.append(Told(old.document.file, 0, "", became, loud=key in layers.LIMITS))
    for name in ours.get("container_types"):
        if name not in taken.container_types:
            taken.container_types[name] = {}
            notes.append(Told(old.document.file, 0, "", f"container_types.{name} is not there: limits by group hold"))
    return notes


def _unknown_owner() -> str:
    capped = _shipped_limits().get("unknown_owner")
    return f"unknown_owner: {{{', '.join(f'{key}: {value}' for key, value in capped.items())}}}"


# ── the directory ────────────────────────────────────────────────────────────────────────────────────────────────────


def settle(brought: Brought, directory: Path, now: datetime, unix_group: UnixGroup) -> Brought:
    """Lay the files out, have them checked, and only then put them in place; give what `check` advises.

    Raises:
        AlreadyThere: when the directory holds anything.
        PolicyError: when the result does not load; then nothing is left.
        OSError: when a file can't be written.

    """
    there = tuple(sorted(directory.iterdir())) if directory.is_dir() else ()
    if there or (directory.exists() and not directory.is_dir()):
        raise AlreadyThere(there or (directory,))
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".ds01-policy-", dir=directory.parent))
    draft = aside / "draft"  # not `aside` itself, which nobody else may read
    try:
        copy_out(draft)
        shutil.rmtree(draft / "groups")
        for name, text in brought.files.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        advice = [_moved(finding, draft, directory) for finding in findings(draft, now, unix_group=unix_group)]
        draft.rename(directory)
    except PolicyError as error:
        raise PolicyError([_moved(finding, draft, directory) for finding in error.findings]) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return replace(brought, advice=advice)


def _moved(finding: Finding, draft: Path, directory: Path) -> Finding:
    """Name a file by where it will be."""
    message = finding.message.replace(str(draft), str(directory))
    return replace(finding, file=finding.file.replace(str(draft), str(directory)), message=message)
