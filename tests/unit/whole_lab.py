"""A whole host through time: what its containers really do, as Prometheus, the driver and the cgroups each see it.

One truth (`Work`) behind all sources; each of them can be blind or down. Ticks go through a real ledger, and what is
stopped is written down instead of done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from whole_host import AT, GPUS, HOUR, Host, inspect

from ds01_policy.memory import Memory
from ds01_policy.model import Action, Decision, Evidence, Kind, Mode, Outcome, Status
from ds01_policy.observe.ports import Counters, Inventory, Json, PrometheusSource, QueryResult, SourceError, Sources
from ds01_policy.policy import Policy, PrometheusSettings
from ds01_policy.tick import Report, tick

EVERY_S = 30


@dataclass(frozen=True, slots=True)
class Work:
    """What one container does for a while; without `until`, for ever."""

    container: str
    since: datetime = AT - 9 * HOUR
    until: datetime = AT + 999 * HOUR
    gpu: float = 0.0  # ratio
    cores: float = 0.0
    bytes_s: float = 0.0


@dataclass
class Lab(Host):
    """A host whose sources all tell of the same work."""

    work: list[Work] = field(default_factory=list)
    at: datetime = AT
    # Of: driver (hangs), gpu (no utilisation), proc (nothing can be counted), files (no container can be), prometheus
    # (does not answer), dcgm and cadvisor (export nothing).
    blind: set[str] = field(default_factory=set)
    unseen: set[str] = field(default_factory=set)  # containers that cAdvisor has no series of
    lost: dict[str, float] = field(default_factory=dict)  # CPU seconds that a container's counter has forgotten

    def runs(
        self, container: str, number: int, *, up: timedelta = 9 * HOUR, network: str = "none", **work: Any
    ) -> None:
        """Start a container on the GPU of that number, doing this (see Work)."""
        raw = inspect(container, f"c{container[0]}", number, up=up)
        raw["HostConfig"]["NetworkMode"] = network
        self.inspects[container] = raw
        self.work.append(Work(container, **work))

    def sources_of(self, prometheus: PrometheusSource | None) -> Sources:
        return Sources(self, prometheus, self, self, self)

    # ── the truth ────────────────────────────────────────────────────────────────────────────────────────────────────

    def used(self, gpu: int, at: datetime) -> float:
        here = [one for one, raw in self.inspects.items() if isinstance(raw, dict) and _gpu_of(raw) == str(gpu)]
        now = (each.gpu for each in self.work if each.container in here and each.since <= at < each.until)
        return max(now, default=0.0)

    def spent(self, container: str, at: datetime, what: str) -> float:
        """Add up what was used since the container started."""
        raw = self.inspects[container]
        assert isinstance(raw, dict)
        born = datetime.fromisoformat(raw["State"]["StartedAt"])
        total = -self.lost.get(container, 0.0) if what == "cores" else 0.0
        for each in self.work:
            if each.container == container:
                lasted = (min(at, each.until) - max(born, each.since)).total_seconds()
                total += max(lasted, 0.0) * float(getattr(each, what))
        return total

    # ── as its sources see it ────────────────────────────────────────────────────────────────────────────────────────

    def inventory(self) -> Inventory:
        if "driver" in self.blind:
            raise SourceError("nvidia-smi hangs")
        known = {} if "gpu" in self.blind else {gpu.uuid: self.used(gpu.index, self.at) for gpu in GPUS}
        return Inventory(GPUS, "nvml", utilization=known)

    def counters(self, pids: Mapping[str, int]) -> Counters:
        later = self.at + timedelta(seconds=0.4)
        if "proc" in self.blind:
            raise SourceError("/proc cannot be read")
        counted = [] if "files" in self.blind else list(pids)
        cpu = {one: self.spent(one, later, "cores") for one in counted}
        network = {one: self.spent(one, later, "bytes_s") for one in counted}
        return Counters(later.timestamp(), cpu, network)

    def query(self, promql: str, at: datetime) -> QueryResult:
        self.asked.append(promql)
        if "prometheus" in self.blind:
            raise self.metrics or SourceError("refuses the connection")
        now = at.timestamp()
        if "DCGM_FI_DEV_GPU_UTIL" in promql:
            times = [at - timedelta(seconds=EVERY_S * number) for number in range(150, -1, -1)]
            told: list[Json] = []
            for gpu in GPUS if "dcgm" not in self.blind else ():
                values = [[time.timestamp(), str(round(100 * self.used(gpu.index, time)))] for time in times]
                told.append({"metric": {"UUID": gpu.uuid}, "values": values})
            return QueryResult("matrix", told)
        if "DCGM" in promql:  # this exporter has nothing else
            return QueryResult("matrix" if promql.endswith("]") else "vector", [])
        what = "cores" if "cpu" in promql else "bytes_s"
        seen = [one for one in self.inspects if one not in self.unseen and "cadvisor" not in self.blind]
        asked = sorted(set(re.findall(r'"ds01_ago", "([0-9.]+)".{0,60}?"ds01_part", "(\w+)"', promql)))
        rows = []
        for one in seen:
            for ago_text, part in asked:
                then = at - timedelta(seconds=float(ago_text))
                value = then.timestamp() if part == "time" else self.spent(one, then, what)
                labels = {"id": f"/docker/{one}", "ds01_ago": ago_text, "ds01_part": part}
                rows.append({"metric": labels, "value": [now, repr(value)]})
        return QueryResult("vector", rows)


def _gpu_of(raw: Json) -> str:
    return str(raw["HostConfig"]["DeviceRequests"][0]["DeviceIDs"][0])


@dataclass
class Hands:
    """Stops whoever is still due at the second look, on paper."""

    lab: Lab
    wait: timedelta = timedelta(0)  # until the second look
    before: Callable[[], None] = lambda: None  # what happens meanwhile
    stopped: list[str] = field(default_factory=list)
    spared: dict[str, str] = field(default_factory=dict)

    def carry_out(self, decisions: Sequence[Decision], recheck: Any) -> list[Outcome]:
        self.lab.at += self.wait
        self.before()
        ends = [one for one in decisions if Action.STOP in one.actions]
        told = recheck(ends) if ends else {}
        self.stopped += [one.container.name for one in ends if not told[one.id]]
        self.spared |= {one.container.name: told[one.id] for one in ends if told[one.id]}
        return [Outcome(one.id, Action.STOP, Status.STALE if told[one.id] else Status.DONE) for one in ends]


@dataclass
class Life:
    """Ticks of one host, one after another."""

    policy: Policy
    state: Path
    lab: Lab = field(default_factory=Lab)
    prometheus: PrometheusSource | None = None
    reports: list[Report] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    spared: dict[str, str] = field(default_factory=dict)

    def tick(self, at: datetime, hands: Hands | None = None) -> Report:
        """Let one tick take place at that time."""
        self.lab.at = at
        hands = hands or Hands(self.lab)
        with closing(Memory(self.state, "gpu01", lambda _: True, reach=timedelta(hours=3))) as memory:
            sources = self.lab.sources_of(self.prometheus)
            self.reports.append(tick(self.policy, sources, memory, hands, lambda: self.lab.at))
        self.stopped += hands.stopped
        self.spared |= hands.spared
        return self.reports[-1]

    def ticks(self, *minutes: float) -> Report:
        """Let ticks take place so many minutes after AT, each; the last one's report."""
        return [self.tick(AT + timedelta(minutes=each)) for each in minutes][-1]


def enforcing(policy: Policy, *, prometheus: PrometheusSettings | None = None, **settings: Any) -> Policy:
    """Let the idle rule stop at once what it finds, without warning and as many as there are."""
    rules = tuple(replace(rule, warn=None) for rule in policy.rules if rule.id == "idle-gpu")
    budget = replace(policy.settings.budget, per_run=50, share=1.0)
    changed = replace(policy.settings, mode=Mode.ENFORCE, budget=budget, prometheus=prometheus, **settings)
    return replace(policy, rules=rules, settings=changed)


def found(report: Report, container: str) -> Kind:
    (kind,) = {one.kind for one in report.evaluation.verdicts if one.container.id == container}
    return kind


def evidence(report: Report, container: str, signal: str, window: timedelta = HOUR) -> Evidence:
    """Pick one clause's evidence over the window that matters."""
    verdict = next(one for one in report.evaluation.verdicts if one.container.id == container)
    return next(one for one in verdict.evidence if (one.reading.signal, one.reading.window) == (signal, window))
