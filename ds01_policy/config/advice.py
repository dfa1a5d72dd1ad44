"""What `check` says about a policy that loads: things that are allowed and most likely not meant.

Owns the order of looking, and warnings about limits, groups and exemptions. None keeps a policy from running.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING

from ds01_policy.config.clause_advice import clauses
from ds01_policy.config.files import TESTS_FOLDER
from ds01_policy.config.limits_file import MAX_GPUS
from ds01_policy.config.loaded import Loaded, note, warning
from ds01_policy.config.possible import yielded
from ds01_policy.config.problems import Finding, closest
from ds01_policy.config.rule_advice import rules
from ds01_policy.config.tests_load import beside_rules, load_tests, tested
from ds01_policy.config.window_advice import windows
from ds01_policy.limits import UNKNOWN
from ds01_policy.span import reach_of
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Loaded", "advice"]


def advice(loaded: Loaded, at: datetime) -> Iterator[Finding]:
    """Yield what is worth a look; `at` says which exemptions have expired.

    Raises:
        PolicyError: when tests of rules can't be read.

    """
    yield from _types(loaded)
    yield from rules(loaded)
    yield from clauses(loaded)
    yield from windows(loaded)
    yield from _samples(loaded)
    yield from _untested(loaded)
    yield from _expired(loaded, at)
    yield from _groups(loaded)
    yield from _unused(loaded)


def _types(loaded: Loaded) -> Iterator[Finding]:
    """Yield types that identity.yaml gives and limits.yaml does not know, and the reverse."""
    document, listed = loaded.documents["limits"], loaded.policy.limits.container_types
    types = yielded(loaded.policy.identity)
    for name in sorted(types - set(listed)):
        message = f"container_types does not list {name!r}, which identity.yaml gives: group and default limits hold"
        yield warning("unlisted_type", document, ("container_types",), message)
    for name in listed:
        if name not in types and name != UNKNOWN:
            message = f"no container is ever of type {name!r}: identity.yaml gives {', '.join(sorted(types))}"
            yield warning("unknown_type", document, ("container_types", name), message, closest(name, types))


def _untested(loaded: Loaded) -> Iterator[Finding]:
    covered = tested(load_tests(loaded, beside_rules(loaded)), loaded.policy)
    for rule, document, place in loaded.placed():
        if rule.id not in covered:
            file = PurePath(document.file).parent / TESTS_FOLDER / f"{rule.id}.yaml"
            message = f"no test says what rule {rule.id!r} finds: write one into {file}"
            yield note("untested_rule", document, (*place, "id"), message)


def _samples(loaded: Loaded) -> Iterator[Finding]:
    """Yield what keeps this host's own samples from standing in for Prometheus."""
    settings, document = loaded.policy.settings, loaded.documents["settings"]
    interval, retain = settings.local_samples.interval, settings.local_samples.retain
    if interval > settings.awake:
        message = f"a sample every {format_duration(interval)} does not see who wakes up within `awake`"
        suggestion = f"run `evaluate` every {format_duration(settings.awake)}, and say so here"
        yield warning("sampled_rarely", document, ("local_samples", "interval"), message, suggestion)
    longest = reach_of(loaded.policy)
    if retain < longest:
        message = f"kept for {format_duration(retain)}, which is too short for a rule that asks about longer"
        suggestion = f"at least {-(-longest // timedelta(hours=1))}h"
        yield warning("retained_briefly", document, ("local_samples", "retain"), message, suggestion)


def _expired(loaded: Loaded, at: datetime) -> Iterator[Finding]:
    for index, exemption in enumerate(loaded.policy.exemptions):
        if at >= exemption.expires:
            message = f"expired on {exemption.expires:%Y-%m-%d %H:%M} UTC: renew it or take it out"
            yield warning("expired", loaded.documents["exemptions"], ("exemptions", index, "expires"), message)


def _groups(loaded: Loaded) -> Iterator[Finding]:
    """Yield groups that nobody is in; the default group's members need not be named."""
    limits, document, tree = loaded.policy.limits, loaded.documents["limits"], loaded.tree
    own = tree.directory is not None and "limits.yaml" not in tree.from_shipped
    for name, group in limits.groups.items():
        file = document.get("groups", name, "members_file")
        if own and file in tree.from_shipped:
            message = f"{file!r} is not in {tree.directory}: the shipped one is read, which is empty"
            yield warning("missing_file", document, ("groups", name, "members_file"), message)
        elif not group.members and name != limits.default_group:
            where = f"fill {file}" if file else "name some, or take it out"
            yield warning("empty_group", document, ("groups", name), f"group {name!r} has no members: {where}")


def _unused(loaded: Loaded) -> Iterator[Finding]:
    """Yield what limits.yaml says and nobody reads."""
    document = loaded.documents["limits"]
    for table in ("users", "container_types"):
        for name in document.get(table) or ():
            if MAX_GPUS in (document.get(table, name) or ()):
                message = f"{MAX_GPUS} is read in defaults and groups only"
                yield warning("not_used", document, (table, name, MAX_GPUS), message)
    if MAX_GPUS in (document.get("unknown_owner") or ()):
        message = f"{MAX_GPUS} is read in defaults and groups only"
        yield warning("not_used", document, ("unknown_owner", MAX_GPUS), message)
