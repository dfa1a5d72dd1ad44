"""Who a container belongs to and what type it is, by the ordered matchers of identity.yaml.

Owns the matchers and how far a claim is believed. Everything a user can set is a claim; pure, asks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ds01_policy.rules import Selector


@dataclass(frozen=True, slots=True)
class TypeMatcher:
    """First matcher whose selectors all hold names the type. No selectors: always holds."""

    type: str
    selectors: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnerMatcher:
    """One way to find an owner."""

    via: Literal["label", "label_home", "name", "mounts", "process"]
    label: str = ""  # for label and label_home
    guarded: bool = False  # for label: a wrapper or an authorization plugin of the site controls this label
    pattern: str = ""  # for name: a regular expression with a group `user` or `uid`
    homes: tuple[str, ...] = ("/home",)  # for label_home and mounts


@dataclass(frozen=True, slots=True)
class Trust:
    """What makes an infrastructure label believable. Shell patterns."""

    owners: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """identity.yaml."""

    types: tuple[TypeMatcher, ...] = ()
    owners: tuple[OwnerMatcher, ...] = ()
    infrastructure_labels: tuple[str, ...] = ()  # `key=value`
    trusted: Trust = Trust()
