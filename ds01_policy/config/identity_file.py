"""identity.yaml: ordered matchers for container types and owners, and whose word on infrastructure is believed.

Owns the shape people write. Finding out who a container belongs to is identity.py's.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ds01_policy import identity
from ds01_policy.config.scalars import AbsolutePath, Items, Maybe, Name, Section, Text, absent, pattern, refuse, shown
from ds01_policy.config.selection import Selection, selector

_KEY_AND_VALUE = pattern(r"[^=\s]+=.+", "bad_label", "is not a label with its value: write key=value")
_MAX_PATTERN = 1000


class TypeMatchFile(Section):
    """What a container's type can be told from: nothing else is known yet."""

    name: Maybe[Selection[Text]] = None
    image: Maybe[Selection[Text]] = None
    label: Maybe[Selection[Text]] = None


class TypeFile(Section):
    """One matcher; without `match` it always holds."""

    type: Name
    match: Maybe[TypeMatchFile] = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.match is not None and not self.match.model_fields_set:
            raise refuse("bad_match", "matches everything: leave `match` out if that is meant", "match")
        return self


def _expression(value: str) -> str:
    try:
        names = re.compile(value).groupindex if len(value) <= _MAX_PATTERN else None
    except (re.error, RecursionError, OverflowError) as error:
        raise refuse("bad_pattern", f"{shown(value)} is not a regular expression: {error}") from None
    if names is None:
        raise refuse("bad_pattern", f"longer than {_MAX_PATTERN} characters")
    if not {"user", "uid"} & set(names):
        message = f"{shown(value)} has no group named user or uid; write (?P<user>…) or (?P<uid>…)"
        raise refuse("bad_pattern", message)
    return value


class OwnerFile(Section):
    """One way to find an owner, tried in the order of the file."""

    via: Literal["label", "label_home", "name", "mounts", "process"]
    label: Maybe[Text] = None
    guarded: bool = False
    pattern: Maybe[Annotated[Text, AfterValidator(_expression)]] = None
    homes: Maybe[Annotated[list[AbsolutePath], Field(min_length=1)]] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed, allowed = _KEYS[self.via]
        for key in needed:
            if getattr(self, key) is None:
                raise refuse("missing_key", f"via {self.via} needs `{key}`")
        for key in sorted(self.model_fields_set - needed - allowed - {"via"}):
            raise refuse("unknown_key", f"`{key}` means nothing with via {self.via}", key)
        return self


# via: keys it needs, keys it may have
_KEYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "label": (frozenset({"label"}), frozenset({"guarded"})),
    "label_home": (frozenset({"label"}), frozenset({"homes"})),
    "name": (frozenset({"pattern"}), frozenset()),
    "mounts": (frozenset(), frozenset({"homes"})),
    "process": (frozenset(), frozenset()),
}


class TrustedFile(Section):
    """What makes an infrastructure label believable. Shell patterns."""

    owners: Items[Text] = Field(default_factory=list)
    images: Items[Text] = Field(default_factory=list)
    names: Items[Text] = Field(default_factory=list)


class InfrastructureFile(Section):
    """Which labels claim to be infrastructure, and whose claim is believed."""

    labels: Items[Annotated[Text, _KEY_AND_VALUE]] = Field(default_factory=list)
    trusted: TrustedFile = absent()


class IdentityFile(Section):
    """identity.yaml."""

    version: Literal[1] = 1
    types: Items[TypeFile] = Field(default_factory=list)
    owners: Items[OwnerFile] = Field(default_factory=list)
    infrastructure: InfrastructureFile = absent()


def convert(file: IdentityFile) -> identity.Identity:
    """Convert a checked file."""
    trusted = file.infrastructure.trusted
    return identity.Identity(
        types=tuple(_type(matcher) for matcher in file.types),
        owners=tuple(_owner(matcher) for matcher in file.owners),
        infrastructure_labels=tuple(file.infrastructure.labels),
        trusted=identity.Trust(tuple(trusted.owners), tuple(trusted.images), tuple(trusted.names)),
    )


def _type(file: TypeFile) -> identity.TypeMatcher:
    if file.match is None:
        return identity.TypeMatcher(file.type)
    given = [(name, getattr(file.match, name)) for name in ("name", "image", "label")]
    return identity.TypeMatcher(file.type, tuple(selector(name, value) for name, value in given if value is not None))


def _owner(file: OwnerFile) -> identity.OwnerMatcher:
    given: dict[str, Any] = {"label": file.label, "pattern": file.pattern, "homes": file.homes and tuple(file.homes)}
    set_here = {key: value for key, value in given.items() if value is not None}
    return identity.OwnerMatcher(via=file.via, guarded=file.guarded, **set_here)
