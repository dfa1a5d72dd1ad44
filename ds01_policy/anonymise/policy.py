"""The policy with every name replaced, written anew from its values: comments, reasons and texts are left out.

Owns which key of which file holds which kind of name. What is not known here is not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ds01_policy.anonymise.asked import Asked
    from ds01_policy.anonymise.names import Names
    from ds01_policy.config.advice import Loaded
    from ds01_policy.policy import Policy

Json = dict[str, Any]

LEFT_OUT = "left out"
_SETTINGS = ("version", "mode", "awake", "budget", "breaker", "high_demand", "local_samples", "epilog")
_RULE = ("when", "for", "warn", "then", "mode")
_SIGNAL = ("label", "unit", "kind", "join", "ceiling", "lag", "fallback")
_QUERY = ("devices", "scale", "min", "max", "uuid_label", "instance_label", "id_label")
_FROZEN = ("after", "counter", "uuid_label")
_SELECTORS = ("state", "type", "gpu", "owner", "group", "name", "image", "label", "host")


def files(loaded: Loaded, names: Names, asked: Asked) -> dict[str, Json]:
    """Give the values of each policy file by its name."""
    documents = {kind: document.value or {} for kind, document in loaded.documents.items()}
    written = {
        "settings.yaml": _settings(documents["settings"], names),
        "limits.yaml": _limits(documents["limits"], loaded.policy, names),
        "identity.yaml": _identity(documents["identity"], asked),
        "signals.yaml": _signals(documents["signals"], names, asked),
        "exemptions.yaml": _exemptions(documents["exemptions"], names, asked),
    }
    width = len(str(len(loaded.rules)))
    for number, document in enumerate(loaded.rules, 1):
        entries = document.get("rules") or []
        name = f"rules/{number:0{width}d}.yaml"
        written[name] = {"version": 1, "rules": [_rule(entry, names, asked) for entry in entries]}
    return written


def _picked(value: Mapping[str, Any], keys: Iterable[str]) -> Json:
    return {key: value[key] for key in keys if key in value}


def _settings(value: Json, names: Names) -> Json:
    """Keep what is decided by; where things are is left out."""
    kept = _picked(value, _SETTINGS)
    prometheus = value.get("prometheus")
    if prometheus == "never":
        kept["prometheus"] = "never"
    elif isinstance(prometheus, dict):
        kept["prometheus"] = _picked(prometheus, ("scrape_interval",))
    keep_alive = value.get("keep_alive")
    if isinstance(keep_alive, dict):
        kept["keep_alive"] = dict(keep_alive)
        if "path" in keep_alive:
            kept["keep_alive"]["path"] = names.path(keep_alive["path"])
    if isinstance(value.get("notify"), dict):
        kept["notify"] = _picked(value["notify"], ("unreached_notice",))
    return kept


def _limits(value: Json, policy: Policy, names: Names) -> Json:
    kept = _picked(value, ("version", "defaults", "container_types", "unknown_owner"))
    groups = value.get("groups") or {}
    kept["groups"] = {
        names.groups.of(name): {
            "members": sorted(names.user(member) for member in policy.limits.groups[name].members),
            "limits": (group or {}).get("limits") or {},
        }
        for name, group in groups.items()
    }
    if "default_group" in value:
        kept["default_group"] = names.groups.of(value["default_group"])
    kept["users"] = {names.user(name): layer or {} for name, layer in (value.get("users") or {}).items()}
    return kept


def _exemptions(value: Json, names: Names, asked: Asked) -> Json:
    kept = []
    for entry in value.get("exemptions") or []:
        who = {key: asked.selector(key, entry[key]) for key in ("user", "group", "container", "label") if key in entry}
        rules = entry["rules"] if isinstance(entry["rules"], list) else [entry["rules"]]
        kept.append(
            {
                **who,
                "rules": [_rule_name(rule, names) for rule in rules],
                "reason": LEFT_OUT,
                "approved_by": names.user(str(entry["approved_by"])),
                "expires": entry["expires"],
            }
        )
    return {"version": 1, "exemptions": kept}


def _rule_name(rule: str, names: Names) -> str:
    return names.rules.known.get(rule, rule)


def _identity(value: Json, asked: Asked) -> Json:
    infrastructure = value.get("infrastructure") or {}
    trusted = infrastructure.get("trusted") or {}
    return {
        "version": 1,
        "types": [_type(entry, asked) for entry in value.get("types") or []],
        "owners": [_owner(entry, number, asked) for number, entry in enumerate(value.get("owners") or [])],
        "infrastructure": {
            "labels": [one for label in infrastructure.get("labels") or [] for one in _exactly(label, asked)],
            "trusted": {
                "owners": _listed("owner", trusted.get("owners"), asked),
                "images": asked.trusted_images(trusted.get("images") or []),
                "names": _listed("name", trusted.get("names"), asked),
            },
        },
    }


def _listed(kind: str, patterns: list[str] | None, asked: Asked) -> list[str]:
    return list(asked.selector(kind, patterns)) if patterns else []


def _exactly(label: str, asked: Asked) -> list[str]:
    key, _, value = label.partition("=")
    return [f"{key}={asked.value(key, value)}"]


def _type(entry: Json, asked: Asked) -> Json:
    match = entry.get("match")
    kept = _picked(entry, ("type",))
    if match:
        kept["match"] = {key: asked.selector(key, value) for key, value in match.items()}
    return kept


def _owner(entry: Json, number: int, asked: Asked) -> Json:
    """Keep a way to find owners; a pattern for names becomes one for the names that stand here instead."""
    kept = _picked(entry, ("via", "label", "guarded"))
    if "homes" in entry:
        kept["homes"] = [asked.names.path(home) for home in entry["homes"]]
    return kept | {"pattern": pattern_of(number)} if entry["via"] == "name" else kept


def pattern_of(number: int) -> str:
    """Find in a replaced name what the matcher with this number found in the name before."""
    return rf"\.o{number}\.(?P<user>[^.]+)|\.u{number}\.(?P<uid>[0-9]+)"


def _signals(value: Json, names: Names, asked: Asked) -> Json:
    kept = {}
    for name, signal in (value.get("signals") or {}).items():
        kept[name] = _picked(signal, _SIGNAL)
        if signal.get("not_on_network"):
            kept[name]["not_on_network"] = [names.network(mode) for mode in signal["not_on_network"]]
        if signal.get("witnesses"):
            kept[name]["witnesses"] = [dict(witness) for witness in signal["witnesses"]]
        if signal.get("frozen"):
            frozen = signal["frozen"]
            kept[name]["frozen"] = {**_picked(frozen, _FROZEN), "changes": asked.query(frozen["changes"])}
        kept[name]["queries"] = [
            {
                **{key: asked.query(query[key]) for key in ("expr", "time") if key in query},
                **_picked(query, _QUERY),
            }
            for query in signal["queries"]
        ]
    return {"version": 1, "signals": kept}


def _rule(entry: Json, names: Names, asked: Asked) -> Json:
    kept: Json = {"id": _rule_name(entry["id"], names), "match": _selectors(entry["match"], asked)}
    kept["except"] = [  # a name, a duration, or a selector
        each if isinstance(each, str) or "younger_than" in each else _selectors(each, asked)
        for each in entry.get("except") or []
    ]
    return kept | _picked(entry, _RULE)


def _selectors(value: Json, asked: Asked) -> Json:
    return {key: asked.selector(key, inner) for key, inner in value.items() if key in _SELECTORS}
