"""One tick's questions to one source: a signal's queries, sent and read into its Answer, and what is wrong with them.

Owns which keys are asked for, and the words for answers that are empty. Proves nothing: readings.py does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.model import Answer, GpuRef, Missing, Problem
from ds01_policy.observe.envelope import BadQuery, SourceDown
from ds01_policy.observe.ports import NotRecorded, SourceError
from ds01_policy.observe.promql import counter_query, gauge_query, subjects
from ds01_policy.observe.samples import STANDS_FOR, Gathered, counter_samples, gauge_samples
from ds01_policy.text import plain

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.model import Container, JoinKey
    from ds01_policy.observe.ports import PrometheusSource, QueryResult
    from ds01_policy.policy import Policy, PrometheusSettings
    from ds01_policy.signals import Query, Signal

NAME = "prometheus"
DRIFT = "recording_drift"  # the code of what a recording cannot answer
# A learnt spacing that differs more from the configured one is reported.
_TOLERANCE = 0.25
# Seeing a container wake takes at least so many samples within `awake`; a spacing learnt to be longer is not believed.
_SAMPLES_WHILE_AWAKE = 4


@dataclass(slots=True)
class Asking:
    """One tick's questions to one source."""

    policy: Policy
    source: PrometheusSource
    at: datetime
    settings: PrometheusSettings
    witnesses: bool = False  # asked beside the signals themselves: one that is not there is silent, and no problem
    queries: int = 0
    down: SourceDown | None = None
    answered: bool = False
    failed: dict[str, SourceError] = field(default_factory=dict)  # by signal
    problems: list[Problem] = field(default_factory=list)


def answer(asking: Asking, signal: Signal, windows: frozenset[timedelta], needing: list[Container]) -> Answer:
    """Ask all queries of one signal; where one of them fails, the signal has no answer."""
    found: list[Gathered] = []
    missing = None
    for query in signal.queries:
        keys = {key for container in needing for key in signal.keys(container) if query.answers(key)}
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
            absent = _nothing_joined(signal, query, promql, gathered)
            missing = Missing.NOT_JOINED if absent.code == "join_empty" else Missing.NO_SERIES
            asking.problems += [] if asking.witnesses else [absent]
    series = {key: samples for gathered in found for key, samples in gathered.series.items()}
    beside = {key: samples for gathered in found for key, samples in gathered.beside.items()}
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
        beside=beside,
    )


def _ask(
    asking: Asking,
    signal: Signal,
    query: Query,
    windows: frozenset[timedelta],
    keys: set[JoinKey],
    needing: list[Container],
) -> tuple[str, Gathered]:
    gauge = signal.kind == "gauge"
    uuids = (key.uuid for key in keys if isinstance(key, GpuRef))
    about = subjects(uuids, (container.id for container in needing))
    late = timedelta(seconds=max(STANDS_FOR * _usual_s(asking), signal.lag_s))
    promql = gauge_query(query, about, windows) if gauge else counter_query(query, about, windows, late)
    result = send(asking, promql)
    expected = "matrix" if gauge else "vector"
    if result.result_type != expected:
        wanted = "samples over [{{ range }}]" if gauge else "an instant vector"
        raise BadQuery(f"signal {signal.name} answers a {result.result_type}; a {signal.kind}'s expr selects {wanted}")
    told = {_told_by(query, key) for key in keys}
    if gauge:
        gathered = gauge_samples(signal, query, result.result, told, _usual_s(asking), _longest_s(asking))
    else:
        gathered = counter_samples(signal, query, result.result, told)
    if query.devices == "parent":
        known = gathered.series
        series = {key: known[_told_by(query, key)] for key in keys if _told_by(query, key) in known}
        gathered = replace(gathered, series=series)
    return promql, gathered


def _told_by(query: Query, key: JoinKey) -> JoinKey:
    """Name what a query knows of a GPU: of an instance maybe only its whole GPU."""
    return GpuRef(key.uuid) if query.devices == "parent" and isinstance(key, GpuRef) else key


def send(asking: Asking, promql: str) -> QueryResult:
    """Ask, unless the source is known to be down."""
    if asking.down is not None:
        raise asking.down
    asking.queries += 1
    try:
        return asking.source.query(promql, asking.at)
    except SourceDown as error:
        asking.down = error
        raise


def _usual_s(asking: Asking) -> float:
    return asking.settings.scrape_interval.total_seconds()


def _longest_s(asking: Asking) -> float:
    awake_s = asking.policy.settings.awake.total_seconds()
    return max(_usual_s(asking), awake_s / _SAMPLES_WHILE_AWAKE)


def _spacing(asking: Asking, signal: Signal, found: list[Gathered]) -> float:
    """Settle how long a sample stands: as the data shows, or as settings.yaml says where they don't.

    Counters were asked for at single instants, which show no spacing. It matters little for them: only how late the
    newest sample is, for which the signal has its own `lag`.
    """
    usual, longest = _usual_s(asking), _longest_s(asking)
    learnt = [gathered.spacing_s for gathered in found if gathered.spacing_s is not None]
    if not learnt:
        return usual
    used = min(*learnt, longest)
    if abs(min(learnt) - usual) > _TOLERANCE * usual and not asking.witnesses:
        detail = (
            f"signal {signal.name} is sampled every {min(learnt):.0f}s, not every {usual:.0f}s: {used:.0f}s is used; "
            "set `prometheus.scrape_interval` in settings.yaml to what Prometheus does"
        )
        asking.problems.append(Problem("scrape_interval", detail))
    return used


def _nothing_joined(signal: Signal, query: Query, promql: str, gathered: Gathered) -> Problem:
    what = f"signal {signal.name}" + (f" ({query.devices} GPUs)" if query.devices else "")
    label = query.id_label if signal.join == "container" else query.uuid_label
    if gathered.joined:
        detail = f"{what}: Prometheus has no value together with its sample time: see `expr` and `time` in signals.yaml"
        return Problem("no_series", detail)
    if gathered.rows:
        kind = "container id" if signal.join == "container" else "GPU that is held"
        detail = (
            f"{what}: Prometheus has {gathered.rows} series, but none whose label {label} names a {kind}: "
            "see the labels in signals.yaml"
        )
        return Problem("join_empty", detail)
    exporter = "cAdvisor" if signal.join == "container" else "dcgm-exporter"
    detail = (
        f"{what}: Prometheus has no series at all: is {exporter} scraped (Status → Targets), does it export this "
        f"metric, and with the label {label}? asked: {plain(promql, 200)}"
    )
    return Problem("no_series", detail)


def is_down(asking: Asking) -> bool:
    """Whether the source answers nobody, rather than not this or that query."""
    if asking.down is not None:
        return True
    return not asking.answered and any(
        not isinstance(error, (BadQuery, NotRecorded)) for error in asking.failed.values()
    )
