"""`check --live`: whether everything that the policy needs exists on this host now.

Owns how what one look reports becomes findings. Judges no container.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ds01_policy.cli.wiring import live_sources, now
from ds01_policy.config.problems import Finding
from ds01_policy.demand import demand_of
from ds01_policy.model import ALIVE, History, Problem
from ds01_policy.observe.measure import measure
from ds01_policy.observe.snapshot import DockerDown, observe

if TYPE_CHECKING:
    from ds01_policy.policy import Policy


def live_findings(policy: Policy) -> list[Finding]:
    """Ask Docker, the driver and Prometheus for everything the signals use, about every GPU container that is up."""
    sources, at = live_sources(policy), now()
    without_metrics = replace(sources, prometheus=None)
    try:
        snapshot = observe(policy, without_metrics, at, History()).snapshot
    except DockerDown as down:
        return [_finding(Problem("docker_down", str(down)))]
    problems = list(snapshot.problems)
    up = [container for container in snapshot.containers if container.gpus.wants and container.state in ALIVE]
    if not up:
        problems.append(Problem("no_gpu_container", "no GPU container is up, so no metric could be joined to one"))
    if sources.prometheus is not None:
        # The last minutes are enough to see whether a series exists, is fresh and finds its container.
        windows = dict.fromkeys(policy.signals, frozenset({policy.settings.awake}))
        problems += measure(policy, windows, up, sources.prometheus, at)[1]
    demand = demand_of(policy, snapshot.containers, snapshot.gpus, at)
    if not demand.gpus:
        problems.append(Problem("no_gpus", "this host shows no GPU"))
    return [_finding(problem) for problem in dict.fromkeys(problems)]


def _finding(problem: Problem) -> Finding:
    return Finding(problem.code, "live", 0, 0, problem.detail, severity="warning")
