"""What was brought along, as the text of policy files.

Owns layout and quoting: whatever was taken is read back by the strict loader as the same value.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from ds01_policy.config.bring.layers import Layer, Layers, exact
from ds01_policy.config.yaml_strict import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ds01_policy.config.bring.hints import Settings
    from ds01_policy.config.bring.leave import Leave
    from ds01_policy.config.bring.people import People

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.@+/-]*")
_SCHEMA = "# yaml-language-server: $schema=schema/{}.json"  # where `init` puts it
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "never", "y", "n"})


def limits_yaml(source: str, people: People, layers: Layers, unknown_owner: str) -> str:
    """Write limits.yaml; `unknown_owner` is the text of that section."""
    lines = [
        _SCHEMA.format("limits"),
        f"# Brought along from {source}. Each key by itself: user > container type > group > defaults, so a layer",
        "# changes only the keys it names. `never` switches a limit off.",
        "version: 1",
        "",
        "defaults:",
        *(f"  {key}: {exact(value)}" for key, value in layers.defaults.items()),
        "",
        f"default_group: {word(people.default_group)}",
        "groups:",
    ]
    for name in people.limits:
        lines += [
            f"  {word(name)}:",
            f"    members_file: {word(f'groups/{name}.members')}",
            f"    limits: {_flow(layers.groups.get(name, {}))}",
        ]
    lines += ["", *_table("users", layers.users)]
    lines += ["", *_table("container_types", layers.container_types)]
    lines += ["", "# Nobody to warn and nobody to ask: caps whatever the other layers say.", unknown_owner]
    return "\n".join(lines) + "\n"


def _table(name: str, layers: Mapping[str, Layer]) -> list[str]:
    if not layers:
        return [f"{name}: {{}}"]
    return [f"{name}:", *(f"  {word(one)}: {_flow(layer)}" for one, layer in layers.items())]


def _flow(layer: Layer) -> str:
    return "{" + ", ".join(f"{key}: {exact(value)}" for key, value in layer.items()) + "}"


def members_file(names: Iterable[str], source: str) -> str:
    """Write one name a line."""
    return "\n".join([f"# One name a line. Brought along from {source}.", *names]) + "\n"


def exemptions_yaml(source: str, leaves: Iterable[Leave]) -> str:
    """Write exemptions.yaml."""
    lines = [
        _SCHEMA.format("exemptions"),
        f"# Brought along from {source}. Who or what a rule leaves alone, until when, and who said so.",
        "version: 1",
    ]
    entries: list[str] = []
    for leave in leaves:
        who = [f"{key}: {quoted(name)}" for key, name in leave.who]
        entries += [
            f"  - {who[0]}",
            *(f"    {each}" for each in who[1:]),
            f"    rules: [{', '.join(leave.rules)}]",
            f"    reason: {quoted(leave.reason)}",
            f"    approved_by: {quoted(leave.approved_by)}",
            f"    expires: {quoted(leave.expires)}",
        ]
    lines += ["exemptions:", *entries] if entries else ["exemptions: []"]
    return "\n".join(lines) + "\n"


def with_settings(text: str, settings: Settings) -> str:
    """Put values in the places where a settings.yaml that has all these keys holds its own."""
    document = parse(text.encode(), "settings.yaml")
    lines = text.split("\n")
    for path, value in settings.items():
        line, column = document.values[path]
        before, after = lines[line - 1][: column - 1], lines[line - 1][column - 1 :]
        old = re.match(r"\S+", after)
        end = old.end() if old else 0
        lines[line - 1] = before + value + after[end:]
    return "\n".join(lines)


def word(text: str) -> str:
    """Write a name: as it is where nobody could read it as anything else."""
    plain = _PLAIN.fullmatch(text) and text.casefold() not in _WORDS
    return text if plain else quoted(text)


def quoted(text: str) -> str:
    """Quote text as YAML and JSON both read it."""
    return json.dumps(text, ensure_ascii=False)
