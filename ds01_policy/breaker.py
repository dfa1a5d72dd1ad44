"""PURE: a whole host that turns idle in one tick is a collector fault until shown otherwise.

Owns when the breaker trips and when it lets go.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.model import ALIVE, Kind
from ds01_policy.rules import by_id
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from ds01_policy.model import Evaluation, History, Snapshot
    from ds01_policy.policy import Policy

# Two ticks further apart than this are not "one tick": a host may well fall idle overnight while the timer is off.
CONSECUTIVE = timedelta(minutes=15)


def breaker_reason(policy: Policy, snapshot: Snapshot, evaluation: Evaluation, history: History) -> str:
    """Say why everything decided from metrics is withheld; empty when it is not.

    Trips when nobody is seen working and at least `breaker.at_least` containers, and at least half of those that can
    be judged, were seen working when last anything was known of them: one tick ago, or before an outage of the
    metrics, which often comes back as zeros. Lets go once anybody is seen working again, or after `breaker.hold`.
    """
    over_signals = {rule.id for rule in by_id(policy.rules).values() if rule.when is not None}
    idle: set[str] = set()
    working: set[str] = set()
    for verdict in evaluation.verdicts:
        if verdict.rule in over_signals and verdict.container.state in ALIVE:
            if verdict.kind in (Kind.ACT, Kind.WARN):
                idle.add(verdict.container.id)
            elif verdict.kind is Kind.CLEAR:
                working.add(verdict.container.id)
    if working - idle:
        return ""
    settings = policy.settings.breaker
    since = history.breaker_since
    if since is not None:  # also where nobody can be judged at all: an outage is no reason to let go
        left = since + settings.hold - snapshot.at
        return _words(len(idle), left) if left > timedelta() else ""
    if history.last_tick_at is None or snapshot.at - history.last_tick_at > CONSECUTIVE:
        return ""
    turned = {
        container
        for container in idle
        if any(history.last_kinds.get((container, rule)) is Kind.CLEAR for rule in over_signals)
    }
    if len(turned) >= settings.at_least and 2 * len(turned) >= len(idle):
        return _words(len(turned), settings.hold)
    return ""


def _words(count: int, left: timedelta) -> str:
    return (
        f"{count or 'all'} containers turned idle in one tick and nobody on this host is seen working: taken for a "
        f"fault of the metrics until somebody is, or for another {format_duration(left)}"
    )
