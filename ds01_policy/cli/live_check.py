"""`check --live`: whether everything that the policy needs exists on this host now.

Owns how what one look reports becomes findings, and the joins in both directions. Judges no container.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.cli.wiring import live_sources, now
from ds01_policy.config.loaded import warning
from ds01_policy.config.problems import Finding
from ds01_policy.demand import demand_of
from ds01_policy.doctor.judging.prometheus import retention
from ds01_policy.doctor.look import look_around
from ds01_policy.model import ALIVE, Container, GpuClaim, GpuRef, Problem, State
from ds01_policy.observe.measure import measure
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.promql import ANY_ID, ANY_UUID, Subjects, counter_query, gauge_query
from ds01_policy.observe.samples import STANDS_FOR, key_of
from ds01_policy.observe.snapshot import DockerDown
from ds01_policy.span import own_signals, reach_of
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from ds01_policy.config.loaded import Loaded
    from ds01_policy.config.yaml_strict import Document, Path
    from ds01_policy.model import Answer, JoinKey, Snapshot
    from ds01_policy.observe.ports import PrometheusSource
    from ds01_policy.policy import Policy
    from ds01_policy.signals import Query, Signal

_URL = ("prometheus", "url")
_NAMED = 5  # in one finding; the others are counted
_INSTANCE = "instance"  # the label that Prometheus gives to everything it scrapes from one exporter


def live_findings(loaded: Loaded) -> list[Finding]:
    """Ask Docker, the driver and Prometheus for all that the signals use, about every GPU and container that is up."""
    policy = loaded.policy
    settings, signals = loaded.documents["settings"], loaded.documents["signals"]
    sources, at = live_sources(policy), now()
    try:
        seen = look_around(policy, sources, at)
    except DockerDown as down:
        return [_finding(Problem("docker_down", str(down)), settings, ("docker",))]
    snapshot = seen.snapshot
    found = [_finding(problem) for problem in snapshot.problems]
    if not seen.up:
        found.append(_finding(Problem("no_gpu_container", "no GPU container is up, so none was looked for in metrics")))
    if not demand_of(policy, snapshot.containers, snapshot.gpus, at).gpus:
        found.append(_finding(Problem("no_gpus", "this host shows no GPU")))
    if sources.prometheus is not None:
        for signal, problem in _Joins(policy, snapshot, sources.prometheus).problems():
            document, path = (signals, ("signals", signal)) if signal else (settings, _URL)
            found.append(_finding(problem, document, path))
        found += (_finding(problem, settings, _URL) for problem in _retention(policy, sources.prometheus))
    return list(dict.fromkeys(found))


def _finding(problem: Problem, document: Document | None = None, path: Path = ()) -> Finding:
    """Place what was found at the signal or setting that it is about, where somebody may silence it."""
    if document is None:
        return Finding(problem.code, "live", 0, 0, problem.detail, severity="warning")
    return warning(problem.code, document, path, problem.detail)


@dataclass(frozen=True, slots=True)
class _Joins:
    """What is on this host, and what Prometheus has about it."""

    policy: Policy
    snapshot: Snapshot
    source: PrometheusSource

    def problems(self) -> Iterator[tuple[str, Problem]]:
        """Yield what the metrics lack, and what of them nobody here is, each with its signal; "": about the source."""
        for signal in map(self.policy.signals.__getitem__, own_signals(self.policy)):
            about = self._about(signal)
            # The last minutes are enough to see whether a series exists, is fresh and finds what it is about.
            windows = {signal.name: frozenset({self.policy.settings.awake})}
            answers, told, state = measure(self.policy, windows, about, self.source, self.snapshot.at)
            yield from ((signal.name if state.up else "", problem) for problem in told)
            if not state.up:
                return
            answer = answers.get(signal.name)
            if answer is not None and answer.missing is None:
                yield from ((signal.name, problem) for problem in self._alone(signal, about, answer))
                yield from ((signal.name, problem) for problem in self._strangers(signal))

    def _everybody(self, signal: Signal) -> list[Container]:
        """List who can have series: every container, or one that stands for all GPUs of the host."""
        if signal.join == "container":
            return list(self.snapshot.containers)
        refs = tuple(sorted({ref for gpu in self.snapshot.gpus for ref in gpu.refs}))
        at = self.snapshot.at - timedelta(days=1)
        return [Container("0" * 64, "host", "", State.RUNNING, at, at, gpus=GpuClaim(bool(refs), refs))]

    def _about(self, signal: Signal) -> list[Container]:
        """List who must have series by now: who has been up long enough for a scrape or two, and is measured at all."""
        since = self.snapshot.at - self.policy.settings.awake
        return [
            each
            for each in self._everybody(signal)
            if each.state in ALIVE and each.started_at and each.started_at <= since and signal.applies(each)
        ]

    def _alone(self, signal: Signal, about: Iterable[Container], answer: Answer) -> Iterator[Problem]:
        """Yield what is on this host and has no series, or none that is fresh."""
        keys = {key: container.name for container in about for key in signal.keys(container)}
        oldest = self.snapshot.at.timestamp() - max(STANDS_FOR * answer.spacing_s, answer.lag_s)
        lacking = [key for key in keys if not answer.series.get(key)]
        late = [key for key in keys if key not in lacking and answer.series[key][-1][0] < oldest]
        if lacking:
            text = _list(_called(key, keys[key]) for key in lacking)
            yield Problem("no_partner", f"signal {signal.name}: Prometheus has no series of {text}")
        if late:
            text = _list(_called(key, keys[key]) for key in late)
            yield Problem("stale_series", f"signal {signal.name}: the newest samples of {text} are too old")

    def _strangers(self, signal: Signal) -> Iterator[Problem]:
        """Yield series that come from an exporter of this host, about what this host does not have."""
        known: Collection[JoinKey] = {key for each in self._everybody(signal) for key in signal.keys(each)}
        for query in signal.queries:
            promql = _about_anybody(signal, query, self.policy.settings.awake)
            try:
                rows = self.source.query(promql, self.snapshot.at).result
            except SourceError as error:
                yield Problem("query_failed", f"signal {signal.name}, asked about everybody: {error}")
                continue
            found = [(row["metric"].get(_INSTANCE), key_of(signal, query, row["metric"])) for row in rows]
            ours = {instance for instance, key in found if key in known and instance}
            strange = sorted({str(key) for instance, key in found if instance in ours and key and key not in known})
            if strange:
                detail = f"{_list(strange)}, of which this host shows nothing, from {_list(sorted(map(str, ours)))}"
                yield Problem("stranger_series", f"signal {signal.name}: Prometheus has series of {detail}")


def _about_anybody(signal: Signal, query: Query, window: timedelta) -> str:
    anybody = Subjects(ANY_UUID, ANY_ID)
    if signal.kind == "gauge":
        return gauge_query(query, anybody, [window])
    return counter_query(query, anybody, [], timedelta())


def _called(key: JoinKey, name: str) -> str:
    return str(key) if isinstance(key, GpuRef) else f"{name} ({key[:12]})"


def _list(names: Iterable[str]) -> str:
    each = list(names)
    more = f" and {len(each) - _NAMED} more" if len(each) > _NAMED else ""
    return ", ".join(each[:_NAMED]) + more


def _retention(policy: Policy, source: PrometheusSource) -> list[Problem]:
    """Compare how long Prometheus keeps samples with the longest window; what it does not say, nobody can compare."""
    from ds01_policy.observe.prometheus import LivePrometheus

    try:
        told = source.status("runtimeinfo") if isinstance(source, LivePrometheus) else {}
    except SourceError:  # Thanos and Mimir have no such page; whoever does not answer at all has been told of above
        return []
    kept = retention(str(told.get("storageRetention", "")))
    longest = reach_of(policy) - 2 * policy.settings.local_samples.interval
    if kept is None or longest <= kept:
        return []
    asked = f"rules ask over up to {format_duration(longest)}"
    return [Problem("window_beyond_retention", f"{asked}, and Prometheus keeps samples for {format_duration(kept)}")]
