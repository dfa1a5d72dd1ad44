"""PURE: what holds a rule off a container: infrastructure, exemptions, keep-alive, start-up grace.

Exceptions only ever weaken a verdict. Asks no signal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ds01_policy.model import Kind
from ds01_policy.rules import selected
from ds01_policy.span import age_of
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.exemptions import Exemption
    from ds01_policy.model import Container, Evaluation, Snapshot, Verdict
    from ds01_policy.policy import Policy
    from ds01_policy.rules import Rule


def with_exceptions(policy: Policy, snapshot: Snapshot, rule: Rule, found: Verdict) -> Verdict:
    """Weaken what a rule found by the first exception that holds."""
    container, at = found.container, snapshot.at
    exempt = _exempted_by(policy, snapshot, rule, container)
    if exempt:
        name, why = exempt
        return _weaker(found, Kind.EXEMPT, f"{why}; otherwise {found.kind}: {found.why}", held_by=name)
    for entry in rule.excepts:
        if entry.younger_than is not None and age_of(container, at) < entry.younger_than:
            ready = at - age_of(container, at) + entry.younger_than
            why = f"up {format_duration(age_of(container, at))}, start-up grace {format_duration(entry.younger_than)}"
            due = max(ready, found.due_at) if found.due_at else ready
            return _weaker(found, Kind.YOUNG, why, due_at=due)
    unreadable = any(entry.name == "keep_alive" for entry in rule.excepts) and container.keep_alive_unreadable
    if unreadable and found.kind in (Kind.ACT, Kind.WARN):
        why = f"its keep-alive file could not be looked for: {unreadable}"
        return _weaker(found, Kind.UNKNOWN, why)
    return found


def _weaker(
    found: Verdict, kind: Kind, why: str, held_by: str | None = None, due_at: datetime | None = None
) -> Verdict:
    return replace(found, kind=kind, why=why, held_by=held_by, due_at=due_at, beneath=found.kind)


def exemption_of(policy: Policy, snapshot: Snapshot, rule: Rule, container: Container) -> Exemption | None:
    """Find the first entry of exemptions.yaml that holds now for this rule and container."""
    holding = (one for one in policy.exemptions if one.covers(container, rule.id, snapshot.at, snapshot.host))
    return next(holding, None)


def _exempted_by(policy: Policy, snapshot: Snapshot, rule: Rule, container: Container) -> tuple[str, str] | None:
    """Find the first exemption. Infrastructure and exemptions.yaml count for every rule, listed or not."""
    if container.infrastructure:
        return "infrastructure", "infrastructure of this site"
    if exemption := exemption_of(policy, snapshot, rule, container):
        until = exemption.expires.strftime("%Y-%m-%d %H:%M UTC")
        return "exempted", f"{exemption.reason} (approved by {exemption.approved_by}, until {until})"
    for entry in rule.excepts:
        if entry.name == "keep_alive" and (kept := kept_until(policy, container, snapshot.at)):
            return "keep_alive", f"keep-alive file, until {kept.strftime('%Y-%m-%d %H:%M UTC')}"
        if entry.selector is not None and selected(entry.selector, container, snapshot.host):
            return entry.name, f"except {entry.name}"
    return None


def kept_until(policy: Policy, container: Container, at: datetime) -> datetime | None:
    """Tell until when the keep-alive file holds rules back; None: it does not, or no longer.

    Counted from its mtime (a date in the future counts as now), and at most `max` in one idle spell however often
    the file is touched.
    """
    if container.keep_alive is None:
        return None
    longest = policy.settings.keep_alive.max
    until = min(container.keep_alive.modified_at, at) + longest
    if container.keep_alive.honoured_since is not None:
        until = min(until, container.keep_alive.honoured_since + longest)
    return until if at < until else None


def wanting_keep_alive(policy: Policy, evaluation: Evaluation) -> frozenset[str]:
    """List the containers whose keep-alive file would make a difference now."""
    listed = {rule.id for rule in policy.rules if any(entry.name == "keep_alive" for entry in rule.excepts)}
    return frozenset(
        verdict.container.id
        for verdict in evaluation.verdicts
        if verdict.rule in listed and verdict.kind in (Kind.ACT, Kind.WARN)
    )
