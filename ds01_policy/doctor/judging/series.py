"""PURE: what Prometheus has of one metric, against the GPUs and containers of this host → findings.

Owns whether a metric is there, fresh, and joined both ways. Asks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.doctor.finding import Finding, Status, count, ok, roughly, skipped, some
from ds01_policy.doctor.judging.strangers import strangers
from ds01_policy.model import ALIVE, GpuRef
from ds01_policy.text import plain
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ds01_policy.model import Container, Gpu, JoinKey
    from ds01_policy.signals import Query, Signal

# A container is found by cAdvisor, scraped and joined within that time.
SEEN_WITHIN = timedelta(minutes=2)
_TOLERANCE = 0.25  # of the interval in settings.yaml
_DISTANCE = 2.0  # spacings that a newest sample may be old


@dataclass(frozen=True, slots=True)
class Row:
    """One series: its labels, what it is about (None: nothing that is known), and its newest sample in Unix seconds."""

    labels: Mapping[str, str]
    key: JoinKey | None
    newest: float


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one query about every GPU or container, whichever host's."""

    signal: Signal
    query: Query
    rows: tuple[Row, ...] = ()
    spacing_s: float | None = None  # learnt; None: not to be told, as of counters
    dropped: int = 0  # impossible values
    earlier: Mapping[JoinKey, float] = field(default_factory=dict)  # of this host, not in rows: when it was last there
    labels: tuple[str, ...] = ()  # of the bare metric, where no row has the one it is joined by
    error: str = ""
    needed: bool = True  # a rule asks it; else it only bears witness

    @property
    def name(self) -> str:
        """What findings call it."""
        kinds = {"whole": " of whole GPUs", "instance": " of MIG instances", "parent": " of GPUs"}
        return self.signal.name + kinds.get(self.query.devices or "", "")

    @property
    def exporter(self) -> str:
        """Who usually exports it."""
        return "cAdvisor" if self.signal.join == "container" else "dcgm-exporter"

    @property
    def label(self) -> str:
        """The label it is joined by."""
        return self.query.id_label if self.signal.join == "container" else self.query.uuid_label

    def trouble(self, slug: str, what: str, do: str) -> Finding:
        """Find something wanting; of a metric that no rule asks it is worth a note."""
        status = Status.BAD if self.needed else Status.NOTE
        optional = "" if self.needed else "may stay so (no rule asks it, it only checks on another signal); else: "
        return Finding(slug, status, f"{self.name}: {what}", optional + do)


@dataclass(frozen=True, slots=True)
class Here:
    """This host, as far as known. None: not to be told now."""

    gpus: tuple[Gpu, ...] | None
    containers: tuple[Container, ...] | None

    def expected(self, told: Told, at: datetime) -> dict[JoinKey, str] | None:
        """Tell what must have a series, with what people call it."""
        if told.signal.join == "container":
            if self.containers is None:
                return None
            return {
                one.id: one.name
                for one in self.containers
                if one.gpus.wants and one.state in ALIVE and told.signal.applies(one)
                if at - (one.started_at or at) >= SEEN_WITHIN
            }
        if self.gpus is None:
            return None
        parents = told.query.devices == "parent"
        return {
            ref: f"GPU {gpu.index}" + ("" if ref.gpu_instance is None else f" gi{ref.gpu_instance}") + f" ({ref.uuid})"
            for gpu in self.gpus
            for ref in ((GpuRef(gpu.uuid),) if parents else gpu.refs)
            if told.query.answers(ref)
        }


def series(told: Told, here: Here, usual: timedelta, at: datetime) -> Iterator[Finding]:
    """Judge what came of one query; `usual` is prometheus.scrape_interval."""
    expected = here.expected(told, at)
    if told.error:
        do = "see the signal in signals.yaml, and Prometheus' log"
        yield told.trouble("query_failed", plain(told.error, 300), do)
        return
    if expected is not None and not expected and told.signal.join == "gpu":
        return  # this host has none of that kind: nothing will ask
    if expected is None:
        what = f"{len(told.rows)} series there; whether this host's are among them cannot be told"
        yield skipped("series", f"{told.name}: {what}", "see docker and gpu")
        return
    if not told.rows:
        yield _nothing(told, expected, at)
        return
    keyed = [row for row in told.rows if row.key is not None]
    if not keyed and not any(row.labels.get(told.label) for row in told.rows):
        yield _no_label(told)
        return
    yield from _joined(told, here, expected, keyed, at, usual)
    yield from strangers(told, here, keyed)
    yield from _sampling(told, usual)


def _nothing(told: Told, expected: Mapping[JoinKey, str], at: datetime) -> Finding:
    if not expected and told.signal.join == "container":
        return ok("series", f"{told.name}: no series, and no GPU container that would need one")
    last = f" (last seen {_age(max(told.earlier.values()), at)} ago)" if told.earlier else ""
    metric = plain(told.query.metric, 80) or "this metric"
    do = (
        f"is {told.exporter} up (Prometheus: Status → Targets), and does it export {metric}? "
        "Else name the metric that it does export in signals.yaml"
    )
    if told.query.devices == "instance" and "_PROF_" in metric:
        do += "; dcgm-exporter before 4 needs `-f /etc/dcgm-exporter/dcp-metrics-included.csv` for it"
    return told.trouble("no_series", f"Prometheus has no series of it at all{last}", do)


def _no_label(told: Told) -> Finding:
    there = sorted({*told.labels, *(label for row in told.rows for label in row.labels)} - {"__name__"})
    meant = [label for label in there if label.lower() == told.label.lower()]
    hint = f"write {plain(meant[0], 40)} for {told.label}" if meant else f"name the label that stands for {told.label}"
    key = "id_label" if told.signal.join == "container" else "uuid_label"
    what = f"there, and none of its series with the label {told.label}; its labels are {some(there, 12)}"
    return told.trouble("label_missing", what, f"{hint} in `expr` and `{key}` of the signal in signals.yaml")


def _joined(
    told: Told, here: Here, expected: Mapping[JoinKey, str], keyed: list[Row], at: datetime, usual: timedelta
) -> Iterator[Finding]:
    """Look for what has no series, or an old one."""
    newest: dict[JoinKey, float] = {}
    for row in keyed:
        if row.key is not None:
            newest[row.key] = max(row.newest, newest.get(row.key, row.newest))
    lacking = {key: name for key, name in expected.items() if key not in newest}
    late_s = max(_DISTANCE * max(told.spacing_s or 0.0, usual.total_seconds()), told.signal.lag_s)
    stale = {key: name for key, name in expected.items() if key in newest and at.timestamp() - newest[key] > late_s}
    if lacking:
        yield _lacking(told, expected, lacking, keyed, at)
    if stale:
        oldest = _age(min(newest[key] for key in stale), at)
        what = f"the newest sample of {some(stale.values())} is up to {oldest} old"
        do = f"is {told.exporter} hung? Look at its target in Prometheus, and restart it"
        yield told.trouble("stale_series", what, do)
    fresh = [key for key in expected if key in newest and key not in stale]
    if not (lacking or stale):
        yield ok("series", _well(told, here, fresh, newest, at))


def _well(told: Told, here: Here, fresh: list[JoinKey], newest: Mapping[JoinKey, float], at: datetime) -> str:
    what = "GPU container" if told.signal.join == "container" else "GPU"
    if told.query.devices == "instance":
        what = "MIG instance"
    words = f"{told.name}: {count(len(fresh), what)} with a series"
    if fresh:
        words += f", newest sample at most {_age(min(newest[key] for key in fresh), at)} old"
    if told.signal.join == "container" and here.containers is not None:
        known = {one.id for one in here.containers}
        foreign = sum(key not in known for key in newest)
        words += f"; {count(foreign, 'container')} that this host does not have" if foreign else ""
    return words


def _lacking(
    told: Told,
    expected: Mapping[JoinKey, str],
    lacking: Mapping[JoinKey, str],
    keyed: list[Row],
    at: datetime,
) -> Finding:
    what = f"{len(lacking)} of {len(expected)} without a series: {some(lacking.values())}"
    if ended := [told.earlier[key] for key in lacking if key in told.earlier]:
        what += f"; last seen {_age(max(ended), at)} ago"
    if told.signal.join == "container":
        do = "is this host's cAdvisor scraped, and does it see Docker's cgroups? Until then they are never found idle"
        slug = "container_without_series"
    else:
        do = "restart dcgm-exporter on this host (it lists GPUs at its start), then look at its target in Prometheus"
        slug = "gpu_without_series"
    if len(lacking) == len(expected) and keyed:
        what += "; all series that there are belong to others"
        do = f"does this Prometheus scrape this host's {told.exporter}? {do[0].upper()}{do[1:]}"
    return told.trouble(slug, what, do)


def _sampling(told: Told, usual: timedelta) -> Iterator[Finding]:
    usual_s = usual.total_seconds()
    if told.spacing_s is not None and abs(told.spacing_s - usual_s) > _TOLERANCE * usual_s:
        what = f"sampled every {told.spacing_s:.0f}s, prometheus.scrape_interval says {format_duration(usual)}"
        do = f"set prometheus.scrape_interval in settings.yaml to {told.spacing_s:.0f}s"
        yield told.trouble("scrape_interval", what, do)
    if told.dropped:
        what = f"{count(told.dropped, 'value')} were impossible (NaN, or outside min…max) and left out"
        yield Finding(
            "impossible_values", Status.NOTE, f"{told.name}: {what}", "look at the metric itself; restart its exporter"
        )


def _age(then: float, at: datetime) -> str:
    return roughly(timedelta(seconds=at.timestamp() - then))
