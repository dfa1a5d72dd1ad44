"""PURE: how long a rule asks about one container, and so what must be measured.

Owns windows. Judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.limits import limit_for
from ds01_policy.model import ALIVE, Demand, LimitValue, State
from ds01_policy.rules import Rule, matches, signals_of

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Container, Snapshot
    from ds01_policy.policy import Policy

Questions = dict[str, dict[str, set[timedelta]]]  # by signal, by container id: the windows to be answered

IDLE_TIMEOUT = "idle_timeout"


@dataclass(frozen=True, slots=True)
class Span:
    """How long a rule asks, for one container. `act` None: never."""

    act: timedelta | None
    warn: timedelta | None
    limit: LimitValue | None = None


def span_of(policy: Policy, rule: Rule, container: Container, demand: Demand) -> Span:
    """Resolve `for` and `warn.at` for one container.

    Raises:
        KeyError: when the limit it names is set by no layer.

    """
    limit = limit_for(policy.limits, container, rule.for_.limit) if rule.for_.limit else None
    act = limit.value if limit else rule.for_.duration
    if act is None:
        return Span(None, None, limit)
    if demand.high and limit and limit.key == IDLE_TIMEOUT:
        act *= policy.settings.high_demand.idle_timeout
    return Span(act, act * rule.warn.at if rule.warn else None, limit)


def questions(policy: Policy, snapshot: Snapshot, demand: Demand) -> Questions:
    """List what must be measured: by signal, by container id, over which windows. Only what can be answered."""
    asked: Questions = {}
    for container in snapshot.containers:
        for rule in policy.rules:
            if rule.when is None or not is_up(container) or not matches(rule.match, container, snapshot.host):
                continue
            try:
                span = span_of(policy, rule, container, demand)
            except KeyError:
                continue
            windows = {
                window
                for whole in (span.act, span.warn)
                if whole is not None and age_of(container, snapshot.at) >= whole
                for window in (whole, min(policy.settings.awake, whole))
            }
            for name in signals_of(rule.when) if windows else ():
                if policy.signals[name].applies(container):
                    asked.setdefault(name, {}).setdefault(container.id, set()).update(windows)
    return asked


def own_signals(policy: Policy) -> list[str]:
    """List the signals that are wanted for themselves: all but those that no rule asks and that are only witnesses."""
    aside = {witness.signal for signal in policy.signals.values() for witness in signal.witnesses}
    aside |= {signal.frozen.counter for signal in policy.signals.values() if signal.frozen and signal.frozen.counter}
    ruled = {name for rule in policy.rules if rule.when is not None for name in signals_of(rule.when)}
    return [name for name in policy.signals if name not in aside or name in ruled]


def reach_of(policy: Policy) -> timedelta:
    """Tell how far back any rule over signals may ever ask, and two sampling intervals more."""
    layers = (
        policy.limits.defaults,
        policy.limits.unknown_owner,
        *(group.limits for group in policy.limits.groups.values()),
        *policy.limits.users.values(),
        *policy.limits.container_types.values(),
    )
    windows = [timedelta(0)]
    for rule in policy.rules:
        if rule.when is not None:
            windows += [layer.get(rule.for_.limit or "") or timedelta(0) for layer in layers]
            windows.append(rule.for_.duration or timedelta(0))
    return max(windows) + 2 * policy.settings.local_samples.interval


def is_up(container: Container) -> bool:
    """Whether a life is going on that can be measured."""
    return container.state in ALIVE and container.started_at is not None


def age_of(container: Container, at: datetime) -> timedelta:
    """Tell how long the present life has lasted; for one never started, how long it has existed."""
    since = container.started_at if container.state is not State.CREATED else container.created_at
    return at - (since or container.created_at)
