"""Policy that a test writes out itself: settings, limits, exemptions or rules in the place of the site's.

Owns that these are checked as strictly as the files that they stand for. Reads no file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from ds01_policy.config import groups, limits_file
from ds01_policy.config.exemptions_file import ExemptionsFile, exemption
from ds01_policy.config.files import Tree
from ds01_policy.config.names import duplicate_rules
from ds01_policy.config.rules_file import RulesFile, rule
from ds01_policy.config.scalars import Names
from ds01_policy.config.settings_file import settings
from ds01_policy.config.shape import validate
from ds01_policy.rules import by_id

if TYPE_CHECKING:
    from ds01_policy.config.tests_file import GivenFile
    from ds01_policy.config.yaml_strict import Document, Path
    from ds01_policy.policy import Policy


def with_given(policy: Policy, document: Document, path: Path, given: GivenFile | None) -> Policy:
    """Put what a test gives in the place of the policy's own; what is wrong goes into the document's findings."""
    if given is None:
        return policy
    if given.settings is not None:
        mode = policy.settings.mode  # a test says itself how far its plan goes
        policy = replace(policy, settings=replace(settings(given.settings, PurePath(policy.directory)), mode=mode))
    if given.rules is not None:
        part = document.part((*path, "rules"), "rules")
        duplicate_rules([part])
        rules = validate(part, RulesFile, _names(policy))
        if rules is not None:
            made = (rule(entry, policy.signals, f"{document.file}:{document.at(path)[0]}") for entry in rules.rules)
            policy = replace(policy, rules=tuple(made))
    if given.limits is not None:
        policy = _with_limits(policy, document.part((*path, "limits")))
    if given.exemptions is not None:
        exemptions = validate(document.part((*path, "exemptions"), "exemptions"), ExemptionsFile, _names(policy))
        if exemptions is not None:
            policy = replace(policy, exemptions=tuple(map(exemption, exemptions.exemptions)))
    return policy


def _names(policy: Policy) -> Names:
    return Names(
        signals={name: signal.unit for name, signal in policy.signals.items()},
        groups=frozenset(policy.limits.groups),
        rules=frozenset(by_id(policy.rules)),
    )


def _with_limits(policy: Policy, part: Document) -> Policy:
    """Put limits in place, whose members stand in them: a test asks no other file and no Unix group."""
    before = len(part.findings)
    for name in part.get("groups") or ():
        for key in ("members_file", "unix_group"):
            if part.get("groups", name, key) is not None:
                message = "a test reads nothing else: write the members here, `members: [alice]`"
                part.report("not_here", part.at_key(("groups", name, key)), message)
    if len(part.findings) > before:
        return policy
    nowhere = Tree(None)
    members = groups.members(part, nowhere, lambda _: frozenset())
    part.findings += nowhere.findings
    limits_file.missing_default_group(part)
    asked = {each.for_.limit for each in policy.rules if each.for_.limit is not None}
    limits_file.unknown_limits(part, limits_file.KNOWN | asked)
    file = validate(part, limits_file.LimitsFile, replace(_names(policy), groups=frozenset(part.get("groups") or ())))
    if file is None:
        return policy
    # A limit that a rule asks for and that is not set here makes its verdict unknown, which says so.
    return replace(policy, limits=limits_file.convert(file, members))
