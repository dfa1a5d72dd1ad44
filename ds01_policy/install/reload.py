"""PURE: whether a `systemctl daemon-reload` would take GPUs away from containers that run now.

Owns the judgement. Where NVIDIA's hook hands GPUs over, runc and systemd do not know of it, and when systemd loads its
units anew it applies only the device rules that it knows. Whatever cannot be told counts as a danger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ds01_policy.install.layout import UNITS
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAMED = 10
# NVIDIA's device nodes as systemd lists them in a scope's DeviceAllow=: one GPU's, and the one that all GPUs need.
_ONE_GPU = re.compile(r"(?:/dev/nvidia\d+|/dev/char/195:(?!255\b|254\b)\d+|char-nvidia)(?:\s|\Z)")
_CONTROL = re.compile(r"(?:/dev/nvidiactl|/dev/char/195:255|char-nvidia)(?:\s|\Z)")


class Danger(StrEnum):
    """Whether a reload does harm."""

    NONE = "none"
    MIGHT = "might"
    WOULD = "would"


@dataclass(frozen=True, slots=True)
class Scope:
    """One running GPU container's cgroup as systemd knows it. `known` False: systemd has none under the usual name."""

    container: str  # its name, as the user wrote it
    known: bool = False
    policy: str = ""  # DevicePolicy=
    allowed: tuple[str, ...] = ()  # DeviceAllow=, one a device


@dataclass(frozen=True, slots=True)
class ReloadFacts:
    """What Docker and systemd told. `error`: why one of them did not."""

    driver: str = ""  # of cgroups, as Docker says
    scopes: Sequence[Scope] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a reload would do, and why that is known."""

    danger: Danger
    why: str
    containers: tuple[str, ...] = ()  # whom it is about, by name


def judge(facts: ReloadFacts) -> Judgement:
    """Judge a reload."""
    if facts.error:
        return Judgement(Danger.MIGHT, f"whether GPU containers run cannot be told: {plain(facts.error)}")
    if not facts.scopes:
        return Judgement(Danger.NONE, "no GPU container runs")
    if facts.driver == "cgroupfs":
        return Judgement(Danger.NONE, "Docker manages cgroups itself (cgroupfs), a reload does not touch them")
    by = {danger: [scope for scope in facts.scopes if _danger(scope) is danger] for danger in Danger}
    if would := by[Danger.WOULD]:
        why = (
            "systemd does not know the GPUs that NVIDIA's hook gave them, and takes them away when it loads units anew"
        )
        return Judgement(Danger.WOULD, why, _names([*would, *by[Danger.MIGHT]]))
    if might := by[Danger.MIGHT]:
        why = "systemd shows no cgroup of theirs, so whether it knows their GPUs cannot be told"
        return Judgement(Danger.MIGHT, why, _names(might))
    return Judgement(Danger.NONE, "systemd knows the GPUs of every container that runs")


def _danger(scope: Scope) -> Danger:
    if not scope.known:
        return Danger.MIGHT
    if scope.policy == "auto" and not scope.allowed:  # a privileged container: every device
        return Danger.NONE
    lists = any(map(_ONE_GPU.match, scope.allowed)) and any(map(_CONTROL.match, scope.allowed))
    return Danger.NONE if lists else Danger.WOULD


def _names(scopes: Sequence[Scope]) -> tuple[str, ...]:
    return tuple(sorted(plain(scope.container, 80) for scope in scopes))


def named(judgement: Judgement) -> str:
    """Name the containers for one line."""
    more = len(judgement.containers) - _NAMED
    return ", ".join(judgement.containers[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def stale(units: Mapping[str, Mapping[str, str]], drop_ins: Mapping[str, frozenset[str]]) -> list[str]:
    """List the units that systemd has loaded otherwise than they stand now; `drop_ins`: paths that stand, by unit.

    Asking systemd is not enough: 252 and others do not notice a drop-in in a folder that is new.
    """
    return [
        name
        for name, told in units.items()
        if told.get("NeedDaemonReload") == "yes"
        or ("DropInPaths" in told and _loaded(name, told) != drop_ins.get(name))
    ]


def _loaded(name: str, told: Mapping[str, str]) -> frozenset[str] | None:
    """Pick the drop-ins below /etc that systemd has loaded; None: none."""
    folder = f"{UNITS / name}.d/"
    return frozenset(path for path in told["DropInPaths"].split() if path.startswith(folder)) or None
