"""limits.yaml: defaults ← groups ← container types ← users. The shape people write.

Owns the shape and which limits exist. Resolving who belongs to a group is groups.py's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator

from ds01_policy import limits
from ds01_policy.config.problems import closest
from ds01_policy.config.scalars import (
    Duration,
    DurationOrNever,
    Items,
    Maybe,
    Name,
    Section,
    Table,
    Text,
    absent,
    between,
    names_of,
    refuse,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ds01_policy.config.yaml_strict import Document, Path

# What the engine itself reads, and what holds where no layer says. Any other limit that a rule names must be set.
ENGINE: limits.Layer = {"gpu_hold_after_stop": timedelta(minutes=15), "stop_grace": timedelta(seconds=60)}
EVERYBODY = "everybody"  # the group of a file that has none
MAX_GPUS = "max_gpus"  # the one limit that is a count

_YEARS = timedelta(days=3650)
Limit = Annotated[DurationOrNever, between(timedelta(milliseconds=1), _YEARS, "; write `never` to switch it off")]
Hold = Annotated[DurationOrNever, between(timedelta(0), _YEARS)]


def _count_or_never(value: Any) -> int | None:
    if value == "never":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise refuse("wrong_type", f"must be a whole number or `never`, not {shown(value)}")


class LayerFile(Section):
    """The limits one layer sets. Rules may name further ones (`for: {limit: …}`)."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Limit] = Field(init=False)

    idle_timeout: Limit = None
    max_runtime: Limit = None
    gpu_hold_after_stop: Hold = None
    container_hold_after_stop: Hold = None
    stop_grace: Annotated[Duration, between(timedelta(0), timedelta(minutes=10))] = timedelta(0)
    max_gpus: Annotated[
        int | None,
        PlainValidator(_count_or_never),
        WithJsonSchema({"anyOf": [{"type": "integer"}, {"const": "never"}]}),
    ] = None

    def named(self) -> limits.Layer:
        """Get the durations this layer sets; None: never."""
        return {key: getattr(self, key) for key in self.model_fields_set if key != MAX_GPUS}


KNOWN = frozenset(LayerFile.model_fields)


class GroupFile(Section):
    """Who belongs to a group, and the limits they share."""

    members: Items[Name] = Field(default_factory=list)
    members_file: Maybe[Text] = None
    unix_group: Text = "never"
    limits: LayerFile = absent()


class LimitsFile(Section):
    """limits.yaml."""

    version: Literal[1] = 1
    defaults: LayerFile = absent()
    groups: Table[GroupFile] = Field(default_factory=dict)
    default_group: Maybe[Name] = None
    users: Table[LayerFile] = Field(default_factory=dict)
    container_types: Table[LayerFile] = Field(default_factory=dict)
    unknown_owner: LayerFile = absent()

    @field_validator("default_group")
    @classmethod
    def _listed(cls, value: str | None, info: ValidationInfo) -> str | None:
        groups = names_of(info).groups
        if value is not None and groups is not None and value not in groups:
            message = f"default_group {value!r} is not in groups"
            raise refuse("unknown_group", message, suggestion=closest(value, groups))
        return value


def convert(file: LimitsFile, members: Mapping[str, frozenset[str]]) -> limits.Limits:
    """Convert, with the members of each group. A file without any group has one that holds everybody."""
    groups = {name: _group(group, members[name], file.defaults) for name, group in file.groups.items()}
    default_group = file.default_group or EVERYBODY
    return limits.Limits(
        defaults={**ENGINE, **file.defaults.named()},
        default_group=default_group,
        groups=groups or {default_group: limits.Group(max_gpus=file.defaults.max_gpus)},
        users={name: layer.named() for name, layer in file.users.items()},
        container_types={name: layer.named() for name, layer in file.container_types.items()},
        unknown_owner=file.unknown_owner.named(),
    )


def _group(file: GroupFile, members: frozenset[str], defaults: LayerFile) -> limits.Group:
    max_gpus = file.limits.max_gpus if MAX_GPUS in file.limits.model_fields_set else defaults.max_gpus
    return limits.Group(members, file.limits.named(), max_gpus)


def unknown_limits(document: Document, allowed: frozenset[str]) -> None:
    """Report each limit that neither the engine nor a rule knows: most likely a typing error, which sets nothing."""
    for path in _layers(document):
        layer = document.get(*path)
        for key in layer if isinstance(layer, dict) else ():
            if key not in allowed:
                message = f"unknown limit {key!r}: neither the engine nor a rule asks for it"
                document.report("unknown_limit", document.at_key((*path, key)), message, closest(key, allowed))


def missing_default_group(document: Document) -> None:
    """Report groups without a default: who is in none of them must not fall into one by chance."""
    if document.get("groups") and "default_group" not in document.value:
        message = "default_group is missing: say which group holds for everybody who is in none"
        document.report("missing_key", document.at_key(("groups",)), message)


def _layers(document: Document) -> Iterator[Path]:
    yield ("defaults",)
    yield ("unknown_owner",)
    for table in ("users", "container_types", "groups"):
        entries = document.get(table)
        for name in entries if isinstance(entries, dict) else ():
            yield (table, name, "limits") if table == "groups" else (table, name)
