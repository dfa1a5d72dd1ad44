"""`check --live`: whether everything that the policy needs exists on this host now.

Owns how what one look reports becomes findings. Judges no container.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.cli.wiring import live_sources, now
from ds01_policy.config.problems import Finding
from ds01_policy.demand import demand_of
from ds01_policy.doctor.look import look_around, measured
from ds01_policy.model import Problem
from ds01_policy.observe.snapshot import DockerDown

if TYPE_CHECKING:
    from ds01_policy.policy import Policy


def live_findings(policy: Policy) -> list[Finding]:
    """Ask Docker, the driver and Prometheus for everything the signals use, about every GPU container that is up."""
    sources, at = live_sources(policy), now()
    try:
        seen = look_around(policy, sources, at)
    except DockerDown as down:
        return [_finding(Problem("docker_down", str(down)))]
    problems = list(seen.snapshot.problems)
    if not seen.up:
        problems.append(Problem("no_gpu_container", "no GPU container is up, so no metric could be joined to one"))
    if sources.prometheus is not None:
        problems += measured(policy, seen, sources.prometheus, at)
    demand = demand_of(policy, seen.snapshot.containers, seen.snapshot.gpus, at)
    if not demand.gpus:
        problems.append(Problem("no_gpus", "this host shows no GPU"))
    return [_finding(problem) for problem in dict.fromkeys(problems)]


def _finding(problem: Problem) -> Finding:
    return Finding(problem.code, "live", 0, 0, problem.detail, severity="warning")
