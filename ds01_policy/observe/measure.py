"""Ask a source for every signal that is needed, as few times as possible: Answers, and what is wrong with them.

Owns which keys and windows are asked for, what a failed query costs (its signal; a dead source costs all that are
left), and the words for answers that are empty. Proves nothing: readings.py does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.model import Answer, GpuRef, Missing, Problem, SourceState
from ds01_policy.observe.envelope import BadQuery, SourceDown
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.promql import counter_query, gauge_query, subjects
from ds01_policy.observe.samples import STANDS_FOR, Gathered, counter_samples, gauge_samples
from ds01_policy.policy import PrometheusSettings
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ds01_policy.model import Container, JoinKey
    from ds01_policy.observe.ports import PrometheusSource
    from ds01_policy.policy import Policy
    from ds01_policy.signals import Query, Signal

NAME = "prometheus"
# A learnt spacing that differs more from the configured one is reported.
_TOLERANCE = 0.25
# Seeing a container wake takes at least so many samples within `awake`; a spacing learnt to be longer is not believed.
_SAMPLES_WHILE_AWAKE = 4


@dataclass(slots=True)
class _Asking:
    """One tick's questions to one source."""

    policy: Policy
    source: PrometheusSource
    at: datetime
    settings: PrometheusSettings
    queries: int = 0
    down: SourceDown | None = None
    answered: bool = False
    failed: dict[str, SourceError] = field(default_factory=dict)  # by signal
    problems: list[Problem] = field(default_factory=list)


def measure(
    policy: Policy,
    questions: Mapping[str, frozenset[timedelta]],
    containers: Iterable[Container],
    source: PrometheusSource,
    at: datetime,
) -> tuple[dict[str, Answer], list[Problem], SourceState]:
    """Ask for signals over windows: by signal name one Answer, what an admin should know, and whether the source is up.

    `containers` are those that need data. Signals that none of them needs are not asked for and not answered. A signal
    costs one query for each kind of GPU that is held, or one.
    """
    asking = _Asking(policy, source, at, policy.settings.prometheus or PrometheusSettings())
    containers = list(containers)
    answers: dict[str, Answer] = {}
    for name, windows in questions.items():
        signal = policy.signals[name]
        needing = [container for container in containers if signal.applies(container) and signal.keys(container)]
        if windows and needing:
            answers[name] = _answer(asking, signal, windows, needing)
    return answers, [*_failures(asking), *asking.problems], _state(asking)


def _answer(asking: _Asking, signal: Signal, windows: frozenset[timedelta], needing: list[Container]) -> Answer:
    """Ask all queries of one signal; where one of them fails, the signal has no answer."""
    found: list[Gathered] = []
    missing = None
    for query in signal.queries:
        keys = {key for container in needing for key in signal.keys(container) if _answers_for(query, key)}
        if not keys:
            continue
        try:
            promql, gathered = _ask(asking, signal, query, windows, keys, needing)
        except SourceError as error:
            asking.failed[signal.name] = error
            return Answer(NAME, missing=Missing.SOURCE_DOWN, detail=str(error))
        asking.answered = True
        found.append(gathered)
        if not gathered.series:
            missing = _nothing_joined(asking, signal, query, promql, gathered)
    series = {key: samples for gathered in found for key, samples in gathered.series.items()}
    if dropped := sum(gathered.dropped for gathered in found):
        detail = f"signal {signal.name}: {dropped} values were impossible (NaN, or outside min…max) and left out"
        asking.problems.append(Problem("impossible_values", detail))
    return Answer(
        NAME,
        series,
        spacing_s=_spacing(asking, signal, found),
        lag_s=signal.lag_s,
        missing=None if series else missing,
        detail="" if series or not missing else "no series of it belongs to what was asked about",
        dropped=dropped,
    )


def _ask(
    asking: _Asking,
    signal: Signal,
    query: Query,
    windows: frozenset[timedelta],
    keys: set[JoinKey],
    needing: list[Container],
) -> tuple[str, Gathered]:
    if asking.down is not None:
        raise asking.down
    gauge = signal.kind == "gauge"
    uuids = (key.uuid for key in keys if isinstance(key, GpuRef))
    about = subjects(uuids, (container.id for container in needing))
    late = timedelta(seconds=max(STANDS_FOR * _usual_s(asking), signal.lag_s))
    promql = gauge_query(query, about, windows) if gauge else counter_query(query, about, windows, late)
    asking.queries += 1
    try:
        result = asking.source.query(promql, asking.at)
    except SourceDown as error:
        asking.down = error
        raise
    expected = "matrix" if gauge else "vector"
    if result.result_type != expected:
        wanted = "samples over [{{ range }}]" if gauge else "an instant vector"
        raise BadQuery(f"signal {signal.name} answers a {result.result_type}; a {signal.kind}'s expr selects {wanted}")
    if gauge:
        return promql, gauge_samples(signal, query, result.result, keys, _usual_s(asking), _longest_s(asking))
    return promql, counter_samples(signal, query, result.result, keys)


def _answers_for(query: Query, key: JoinKey) -> bool:
    """Whether a query can know this GPU: whole ones and instances come from different metrics."""
    if query.devices is None or not isinstance(key, GpuRef):
        return True
    return (key.gpu_instance is None) == (query.devices == "whole")


def _usual_s(asking: _Asking) -> float:
    return asking.settings.scrape_interval.total_seconds()


def _longest_s(asking: _Asking) -> float:
    awake_s = asking.policy.settings.awake.total_seconds()
    return max(_usual_s(asking), awake_s / _SAMPLES_WHILE_AWAKE)


def _spacing(asking: _Asking, signal: Signal, found: list[Gathered]) -> float:
    """Settle how long a sample stands: as the data shows, or as settings.yaml says where they don't.

    Counters were asked for at single instants, which show no spacing. It matters little for them: only how late the
    newest sample is, for which the signal has its own `lag`.
    """
    usual, longest = _usual_s(asking), _longest_s(asking)
    learnt = [gathered.spacing_s for gathered in found if gathered.spacing_s is not None]
    if not learnt:
        return usual
    used = min(*learnt, longest)
    if abs(min(learnt) - usual) > _TOLERANCE * usual:
        detail = (
            f"signal {signal.name} is sampled every {min(learnt):.0f}s, not every {usual:.0f}s: {used:.0f}s is used; "
            "set `prometheus.scrape_interval` in settings.yaml to what Prometheus does"
        )
        asking.problems.append(Problem("scrape_interval", detail))
    return used


def _nothing_joined(asking: _Asking, signal: Signal, query: Query, promql: str, gathered: Gathered) -> Missing:
    what = f"signal {signal.name}" + (f" ({query.devices} GPUs)" if query.devices else "")
    label = query.id_label if signal.join == "container" else query.uuid_label
    if gathered.joined:
        detail = f"{what}: Prometheus has no value together with its sample time: see `expr` and `time` in signals.yaml"
        asking.problems.append(Problem("no_series", detail))
        return Missing.NO_SERIES
    if gathered.rows:
        kind = "container id" if signal.join == "container" else "GPU that is held"
        detail = (
            f"{what}: Prometheus has {gathered.rows} series, but none whose label {label} names a {kind}: "
            "see the labels in signals.yaml"
        )
        asking.problems.append(Problem("join_empty", detail))
        return Missing.NOT_JOINED
    exporter = "cAdvisor" if signal.join == "container" else "dcgm-exporter"
    detail = (
        f"{what}: Prometheus has no series at all: is {exporter} scraped (Status → Targets), does it export this "
        f"metric, and with the label {label}? asked: {plain(promql, 200)}"
    )
    asking.problems.append(Problem("no_series", detail))
    return Missing.NO_SERIES


def _failures(asking: _Asking) -> list[Problem]:
    """Report a source that answers nothing once, a query that fails beside others for its signal."""
    if _is_down(asking):
        why = asking.down or next(error for error in asking.failed.values() if not isinstance(error, BadQuery))
        detail = f"{why}; until it answers nobody is found idle; rules over clocks go on"
        return [Problem("source_down", detail)]
    return [Problem("query_failed", f"signal {name}: {error}") for name, error in asking.failed.items()]


def _is_down(asking: _Asking) -> bool:
    """Whether the source answers nobody, rather than not this or that query."""
    if asking.down is not None:
        return True
    return not asking.answered and any(not isinstance(error, BadQuery) for error in asking.failed.values())


def _state(asking: _Asking) -> SourceState:
    extra = {"queries": asking.queries}
    if _is_down(asking):
        return SourceState(up=False, detail=str(asking.down or next(iter(asking.failed.values()))), extra=extra)
    return SourceState(up=True, detail="" if asking.queries else "nothing had to be asked", extra=extra)
