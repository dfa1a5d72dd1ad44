"""The limits that hold for one container: users > container types > groups > defaults, key by key.

Owns the precedence and the caps of the unknown owner. A key nobody sets is an error found at load, never a zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.model import LimitValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01_policy.model import Container

Never = type(None)
Layer = dict[str, timedelta | None]  # None: never. A key that is absent is not set in this layer

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of users and the limits they share. `members` is resolved at load."""

    members: frozenset[str] = frozenset()
    limits: Mapping[str, timedelta | None] = field(default_factory=dict)
    max_gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """limits.yaml, resolved."""

    defaults: Mapping[str, timedelta | None]
    default_group: str
    groups: Mapping[str, Group] = field(default_factory=dict)
    users: Mapping[str, Mapping[str, timedelta | None]] = field(default_factory=dict)
    container_types: Mapping[str, Mapping[str, timedelta | None]] = field(default_factory=dict)
    unknown_owner: Mapping[str, timedelta | None] = field(default_factory=dict)

    def group_of(self, owner: str) -> str:
        """Find the first group, in file order, that lists the owner; else the default group."""
        for name, group in self.groups.items():
            if owner in group.members:
                return name
        return self.default_group


def limit_for(limits: Limits, container: Container, key: str) -> LimitValue:
    """Look one limit up for one container.

    Raises:
        KeyError: when no layer sets it; `check` reports that before anything runs.

    """
    found = _layered(limits, container, key)
    if container.owner == UNKNOWN and key in limits.unknown_owner:
        cap = limits.unknown_owner[key]
        if cap is not None and (found.value is None or cap < found.value):
            return LimitValue(key, cap, "unknown_owner")
    return found


def _layered(limits: Limits, container: Container, key: str) -> LimitValue:
    layers: tuple[tuple[str, Mapping[str, timedelta | None]], ...] = (
        (f"users: {container.owner}", limits.users.get(container.owner, {})),
        (f"container_types: {container.type}", limits.container_types.get(container.type, {})),
        (
            f"groups: {container.group}",
            limits.groups[container.group].limits if container.group in limits.groups else {},
        ),
        ("defaults", limits.defaults),
    )
    for name, layer in layers:
        if key in layer:
            return LimitValue(key, layer[key], name)
    raise KeyError(key)
