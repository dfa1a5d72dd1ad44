"""What `check` says about a policy that loads: things that are allowed and most likely not meant.

Owns these warnings; they never keep a policy from running.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ds01_policy.config.limits_file import MAX_GPUS
from ds01_policy.config.names import rule_ids
from ds01_policy.config.problems import Finding, closest
from ds01_policy.config.selection import alive
from ds01_policy.limits import UNKNOWN
from ds01_policy.model import Action
from ds01_policy.rules import AllOf, AnyOf, Clause, NotOf
from ds01_policy.span import reach_of
from ds01_policy.units import format_duration, format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from ds01_policy.config.files import Tree
    from ds01_policy.config.yaml_strict import Document, Path
    from ds01_policy.identity import Identity
    from ds01_policy.policy import Policy
    from ds01_policy.rules import Condition


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy, and the documents it came from."""

    policy: Policy
    documents: Mapping[str, Document]  # by kind
    rules: tuple[Document, ...]
    tree: Tree


def advice(loaded: Loaded, at: datetime) -> Iterator[Finding]:
    """Yield what is worth a look; `at` says which exemptions have expired."""
    yield from _types(loaded)
    yield from _rules(loaded)
    yield from _samples(loaded)
    yield from _expired(loaded, at)
    yield from _unused(loaded)


def _warning(slug: str, document: Document, path: Path, message: str, suggestion: str = "") -> Finding:
    return Finding(slug, document.file, *document.at_key(path), message, suggestion, "warning")


def yielded(identity: Identity) -> frozenset[str]:
    """List every type a container can turn out to be; `unknown` where no matcher takes what is left."""
    types = {matcher.type for matcher in identity.types}
    return frozenset(types if any(not matcher.selectors for matcher in identity.types) else types | {UNKNOWN})


def _types(loaded: Loaded) -> Iterator[Finding]:
    """Yield types that identity.yaml gives and limits.yaml does not know, and the reverse."""
    document, listed = loaded.documents["limits"], loaded.policy.limits.container_types
    types = yielded(loaded.policy.identity)
    for name in sorted(types - set(listed)):
        message = f"container_types does not list {name!r}, which identity.yaml gives: group and default limits hold"
        yield _warning("unlisted_type", document, ("container_types",), message)
    for name in listed:
        if name not in types and name != UNKNOWN:
            message = f"no container is ever of type {name!r}: identity.yaml gives {', '.join(sorted(types))}"
            yield _warning("unknown_type", document, ("container_types", name), message, closest(name, types))


def _rules(loaded: Loaded) -> Iterator[Finding]:
    policy, types = loaded.policy, yielded(loaded.policy.identity) | {UNKNOWN}
    for rule, (document, path, _) in zip(policy.rules, rule_ids(loaded.rules), strict=True):
        place = path[:-1]
        destructive = Action.STOP in rule.then or Action.REMOVE in rule.then
        if destructive and rule.warn is None and alive(rule.match.selectors):
            message = f"rule {rule.id!r} ends containers that run and warns nobody: give it a `warn`"
            yield _warning("no_warning", document, (*place, "then"), message)
        for value in (value for each in rule.match.selectors if each.name == "type" for value in each.values):
            if not any(fnmatchcase(name, value) for name in types):
                message = f"no container is ever of type {value!r}: identity.yaml gives {', '.join(sorted(types))}"
                yield _warning("unknown_type", document, (*place, "match", "type"), message, closest(value, types))
        yield from _thresholds(loaded, document, (*place, "when"), rule.when)
    if not policy.rules:
        yield _warning("no_rules", loaded.documents["settings"], ("rules",), "there is no rule at all")


def _thresholds(loaded: Loaded, document: Document, path: Path, condition: Condition | None) -> Iterator[Finding]:
    """Yield thresholds that no reading can be on the other side of: a clause that is always or never true."""
    match condition:
        case Clause(signal=name, comparator=comparator, threshold=threshold):
            signal = loaded.policy.signals[name]
            if threshold < 0 or (signal.ceiling is not None and threshold > signal.ceiling):
                highest = "" if signal.ceiling is None else f" to {format_quantity(signal.ceiling, signal.unit)}"
                message = f"{name} is never there: it goes from 0{highest}"
                yield _warning("out_of_reach", document, (*path, comparator), message)
        case NotOf(part=part):
            yield from _thresholds(loaded, document, (*path, "not"), part)
        case AllOf(parts=parts) | AnyOf(parts=parts):
            for index, part in enumerate(parts):
                key = "all" if isinstance(condition, AllOf) else "any"
                yield from _thresholds(loaded, document, (*path, key, index), part)


def _samples(loaded: Loaded) -> Iterator[Finding]:
    """Yield what keeps this host's own samples from standing in for Prometheus."""
    settings, document = loaded.policy.settings, loaded.documents["settings"]
    interval, retain = settings.local_samples.interval, settings.local_samples.retain
    if interval > settings.awake:
        message = f"a sample every {format_duration(interval)} does not see who wakes up within `awake`"
        suggestion = f"run `evaluate` every {format_duration(settings.awake)}, and say so here"
        yield _warning("sampled_rarely", document, ("local_samples", "interval"), message, suggestion)
    longest = reach_of(loaded.policy)
    if retain < longest:
        message = f"kept for {format_duration(retain)}, which is too short for a rule that asks about longer"
        suggestion = f"at least {format_duration(longest)}"
        yield _warning("retained_briefly", document, ("local_samples", "retain"), message, suggestion)


def _expired(loaded: Loaded, at: datetime) -> Iterator[Finding]:
    for index, exemption in enumerate(loaded.policy.exemptions):
        if at >= exemption.expires:
            message = f"expired on {exemption.expires:%Y-%m-%d %H:%M} UTC: renew it or take it out"
            yield _warning("expired", loaded.documents["exemptions"], ("exemptions", index, "expires"), message)


def _unused(loaded: Loaded) -> Iterator[Finding]:
    """Yield what limits.yaml says and nobody reads."""
    document, tree = loaded.documents["limits"], loaded.tree
    own = tree.directory is not None and "limits.yaml" not in tree.from_shipped
    for name in loaded.policy.limits.groups:
        file = document.get("groups", name, "members_file")
        if own and file in tree.from_shipped:
            message = f"{file!r} is not in {tree.directory}: the shipped one is read, which is empty"
            yield _warning("missing_file", document, ("groups", name, "members_file"), message)
    for table in ("users", "container_types"):
        for name in document.get(table) or ():
            if MAX_GPUS in (document.get(table, name) or ()):
                message = f"{MAX_GPUS} is read in defaults and groups only"
                yield _warning("not_used", document, (table, name, MAX_GPUS), message)
    if MAX_GPUS in (document.get("unknown_owner") or ()):
        yield _warning(
            "not_used", document, ("unknown_owner", MAX_GPUS), f"{MAX_GPUS} is read in defaults and groups only"
        )
