"""Asks Prometheus about itself, and for every GPU's and container's series of each signal, whichever host's.

Owns the questions. Judges nothing.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from ds01_policy.doctor.judging.prometheus import ServerFacts
from ds01_policy.doctor.judging.series import Here, Row, Told
from ds01_policy.model import GpuRef
from ds01_policy.observe.envelope import SourceDown
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.promql import (
    AGO_LABEL,
    PART_LABEL,
    TIME,
    VALUE,
    Subjects,
    counter_query,
    gauge_query,
    subjects,
)
from ds01_policy.observe.samples import gauge_samples, key_of
from ds01_policy.rules import signals_of
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from ds01_policy.model import JoinKey
    from ds01_policy.observe.ports import Json, QueryResult
    from ds01_policy.policy import Policy
    from ds01_policy.signals import Query, Signal

# Also series that lack the label: then it can be said that the label is what is wrong.
EVERYTHING = Subjects(uuids=".*", ids=".*")
_EARLIER = frozenset(timedelta(minutes=minutes) for minutes in (10, 20, 40, 60))


class Server(Protocol):
    """A Prometheus that also tells of itself."""

    @property
    def notes(self) -> tuple[str, ...]:
        """About the secrets' files, for an admin."""

    @property
    def clock_skew_s(self) -> float | None:
        """How far its clock was ahead of ours at the last answer."""

    def query(self, promql: str, at: datetime) -> QueryResult:
        """Ask at one instant. Raises SourceError."""

    def status(self, what: str) -> Json:
        """Ask for a page of /api/v1/status. Raises SourceError."""


def server(source: Server, url: str, at: datetime) -> ServerFacts:
    """Ask whether it answers at all, and what it is."""
    try:
        source.query("vector(1)", at)
    except SourceError as error:
        return ServerFacts(url, str(error), notes=source.notes)
    told: dict[str, str] = {}
    for page, key in (("buildinfo", "version"), ("runtimeinfo", "storageRetention")):
        with suppress(SourceError):  # what only speaks the query API has no such page
            told[key] = plain(str(source.status(page).get(key) or ""), 60)
    return ServerFacts(
        url,
        version=told.get("version", ""),
        retention=told.get("storageRetention", ""),
        ahead_s=source.clock_skew_s,
        notes=source.notes,
    )


def metrics(policy: Policy, source: Server, here: Here, at: datetime) -> Iterator[Told]:
    """Ask for each query of each signal that this host has something for. A server that stops answering ends it."""
    needed = {name for rule in policy.rules if rule.when is not None for name in signals_of(rule.when)}
    for signal in policy.signals.values():
        for query in signal.queries:
            blank = Told(signal, query, needed=signal.name in needed)
            expected = here.expected(blank, at)
            if signal.join == "gpu" and expected is not None and not expected:
                continue
            try:
                yield _told(policy, source, blank, expected or {}, at)
            except SourceError as error:
                yield Told(signal, query, error=str(error), needed=blank.needed)
                if isinstance(error, SourceDown):
                    return


def _told(policy: Policy, source: Server, blank: Told, expected: Mapping[JoinKey, str], at: datetime) -> Told:
    """Ask one query about everything, and about what of this host is not in the answer once more, further back."""
    signal, query = blank.signal, blank.query
    awake = frozenset({policy.settings.awake})
    rows = _rows(source, signal, query, EVERYTHING, awake if signal.kind == "gauge" else frozenset(), at)
    found = {row.key for row, _ in rows}
    lacking = {key for key in expected if key not in found}
    earlier: dict[JoinKey, float] = {}
    if lacking and (found - {None} or not rows):
        uuids = (key.uuid for key in lacking if isinstance(key, GpuRef))
        about = subjects(uuids, (key for key in lacking if isinstance(key, str)))
        with suppress(SourceError):  # it only says since when
            for row, _ in _rows(source, signal, query, about, _EARLIER, at):
                if row.key in lacking:
                    earlier[row.key] = max(row.newest, earlier.get(row.key, row.newest))
    labels: tuple[str, ...] = ()
    if rows and not found - {None} and query.metric:
        with suppress(SourceError):  # templates may add labels up: the bare metric shows which it has
            bare = source.query(f"topk(1, {query.metric})", at)
            labels = tuple(sorted({label for raw in bare.result for label in raw["metric"]}))
    own = [raw for row, raw in rows if row.key in expected] or [raw for row, raw in rows if row.key is not None]
    usual_s = policy.settings.prometheus.scrape_interval.total_seconds() if policy.settings.prometheus else 0.0
    gathered = gauge_samples(signal, query, own, set(expected), usual_s, usual_s) if signal.kind == "gauge" else None
    return Told(
        signal,
        query,
        tuple(row for row, _ in rows),
        gathered.spacing_s if gathered else None,
        gathered.dropped if gathered else 0,
        earlier,
        labels,
        needed=blank.needed,
    )


def _rows(
    source: Server, signal: Signal, query: Query, about: Subjects, windows: frozenset[timedelta], at: datetime
) -> list[tuple[Row, Json]]:
    """Ask, and tell each series with its newest sample, beside its raw form."""
    gauge = signal.kind == "gauge"
    late = timedelta(seconds=signal.lag_s)
    promql = gauge_query(query, about, windows) if gauge else counter_query(query, about, windows, late)
    result = source.query(promql, at)
    expected = "matrix" if gauge else "vector"
    if result.result_type != expected:
        wanted = "samples over [{{ range }}]" if gauge else "an instant vector"
        raise SourceError(f"it answers a {result.result_type}; a {signal.kind}'s expr selects {wanted}")
    if gauge:
        return [
            (Row(raw["metric"], _key(signal, query, raw["metric"]), float(raw["values"][-1][0])), raw)
            for raw in result.result
            if raw["values"]
        ]
    return _instants(signal, query, result.result)


def _instants(signal: Signal, query: Query, raws: Sequence[Json]) -> list[tuple[Row, Json]]:
    newest: dict[frozenset[tuple[str, str]], float] = {}
    values = False
    for raw in raws:
        labels = {name: value for name, value in raw["metric"].items() if name not in (AGO_LABEL, PART_LABEL)}
        part = raw["metric"].get(PART_LABEL)
        values = values or part == VALUE
        if part == TIME:
            key = frozenset(labels.items())
            newest[key] = max(float(raw["value"][1]), newest.get(key, 0.0))
    if values and not newest:
        raise SourceError("it has values, and no time of any sample: see `time` of the signal in signals.yaml")
    return [(Row(dict(key), _key(signal, query, dict(key)), time), {}) for key, time in newest.items()]


def _key(signal: Signal, query: Query, labels: Mapping[str, str]) -> JoinKey | None:
    key = key_of(signal, query, labels)
    return GpuRef(key.uuid) if query.devices == "parent" and isinstance(key, GpuRef) else key
