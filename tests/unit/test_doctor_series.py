"""Metrics of this host against its GPUs and containers, both ways: what is asked, and what the answers mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from decided import container

from ds01_policy.config.load import load
from ds01_policy.doctor.asking.metrics import metrics, server
from ds01_policy.doctor.finding import Finding, Status
from ds01_policy.doctor.judging.series import Here, Row, Told, series
from ds01_policy.model import Container, Gpu, GpuClaim, GpuRef, JoinKey, MigDevice, State
from ds01_policy.observe.envelope import BadQuery, SourceDown
from ds01_policy.observe.ports import Json, QueryResult, SourceError
from ds01_policy.signals import Query, Signal
from ds01_policy.units import Unit

AT = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)
NOW = AT.timestamp()
USUAL = timedelta(seconds=30)
A, B, C = (f"GPU-{letter}0000000-0000-4000-8000-000000000000" for letter in "abc")
ONE, TWO, GONE = "1" * 64, "2" * 64, "f" * 64
MIG = Gpu(C, 2, mig_enabled=True, mig_devices=(MigDevice("MIG-1", 0, 1, 0), MigDevice("MIG-5", 1, 5, 0)))
GPU = Signal(
    "gpu_utilization", "gpu", Unit.RATIO, "gauge", "gpu",
    (
        Query('UTIL{UUID=~"{{ uuids }}", GPU_I_ID=""}[{{ range }}]', devices="whole", maximum=100),
        Query('DCGM_PROF_X{UUID=~"{{ uuids }}", GPU_I_ID!=""}[{{ range }}]', devices="instance"),
        Query('ENERGY{UUID=~"{{ uuids }}"}[{{ range }}]', devices="parent"),
    ),
    ceiling=1.0,
)  # fmt: skip
CPU = Signal(
    "cpu_usage", "cpu", Unit.CORES, "counter", "container",
    (Query('sum by (id) (CPU{id=~"{{ ids }}"})', time='min by (id) (timestamp(CPU{id=~"{{ ids }}"}))'),),
    lag_s=90.0, not_on_network=frozenset({"host"}),
)  # fmt: skip
WHOLE, INSTANCE, PARENT = GPU.queries


def up(identifier: str = ONE, name: str = "train", **changes: Any) -> Container:
    return container(**{"id": identifier, "name": name, "gpus": GpuClaim(wants=True, refs=(GpuRef(A),)), **changes})


def row(key: JoinKey | None, age_s: float = 10, **labels: str) -> Row:
    return Row(labels, key, NOW - age_s)


def refs(*parts: tuple[str, int | None], age_s: float = 10, instance: str = "gpu01:9400") -> tuple[Row, ...]:
    return tuple(row(GpuRef(*part), age_s, instance=instance, UUID=part[0]) for part in parts)


def brief(findings: Iterable[Finding]) -> list[str]:
    told = list(findings)
    assert all(bool(one.do) is (one.status is not Status.OK) for one in told), told
    return [f"{one.status} {one.slug}" for one in told]


def whole(*rows: Row, **more: Any) -> Told:
    return Told(GPU, WHOLE, rows, **{"spacing_s": 30.0, **more})


def cpu(*rows: Row, **more: Any) -> Told:
    return Told(CPU, CPU.queries[0], rows, **more)


TWO_GPUS = Here((Gpu(A, 0), Gpu(B, 1)), (up(),))
BOTH = refs((A, None), (B, None))


@pytest.mark.parametrize(
    ("told", "here", "expected"),
    [
        pytest.param(whole(*BOTH), TWO_GPUS, ["ok series"], id="every GPU has a fresh series"),
        pytest.param(whole(BOTH[0]), TWO_GPUS, ["bad gpu_without_series"], id="one GPU has none"),
        pytest.param(whole(), TWO_GPUS, ["bad no_series"], id="there is no series at all"),
        pytest.param(whole(needed=False), TWO_GPUS, ["note no_series"], id="of a metric that no rule asks"),
        pytest.param(whole(error="refused"), TWO_GPUS, ["bad query_failed"], id="the query is refused"),
        pytest.param(whole(row(None, uuid=A)), TWO_GPUS, ["bad label_missing"], id="the label is called otherwise"),
        pytest.param(
            whole(*refs((A, None), (B, None), age_s=400)), TWO_GPUS, ["bad stale_series"], id="the exporter hung"
        ),
        pytest.param(
            whole(BOTH[0], *refs((B, None), age_s=61)), TWO_GPUS, ["bad stale_series"], id="one GPU's series stopped"
        ),
        pytest.param(whole(BOTH[0], *refs((B, None), age_s=60)), TWO_GPUS, ["ok series"], id="one scrape was missed"),
        pytest.param(
            whole(*refs((A, None), (B, None), age_s=110), spacing_s=60.0), TWO_GPUS,
            ["ok series", "bad scrape_interval"], id="scraped every minute, not every half",
        ),
        pytest.param(whole(*BOTH, spacing_s=36.0), TWO_GPUS, ["ok series"], id="scraped nearly as set"),
        pytest.param(
            whole(*BOTH, dropped=4), TWO_GPUS, ["ok series", "note impossible_values"], id="values that cannot be"
        ),
        pytest.param(
            whole(*BOTH, *refs((C, None), instance="gpu02:9400")), TWO_GPUS,
            ["ok series", "note series_of_unknown_gpu"], id="another host's GPU",
        ),
        pytest.param(
            whole(*BOTH, *refs((C, None))), TWO_GPUS,
            ["ok series", "bad series_of_unknown_gpu"], id="this host's exporter knows a GPU that is gone",
        ),
        pytest.param(
            whole(*refs((C, None), instance="gpu02:9400")), TWO_GPUS,
            ["bad gpu_without_series", "note series_of_unknown_gpu"], id="only another host is scraped",
        ),
        pytest.param(
            whole(*(row(GpuRef(one)) for one in (A, B, C))), TWO_GPUS,
            ["ok series", "note series_of_unknown_gpu"], id="series that name no target",
        ),
        pytest.param(whole(*BOTH), Here(None, ()), ["skipped series"], id="whose GPUs these are is not known"),
        pytest.param(whole(), Here(None, ()), ["skipped series"], id="whether one is needed is not known"),
        pytest.param(whole(*BOTH), Here((MIG,), ()), [], id="this host has MIG instances only"),
        pytest.param(whole(), Here((), ()), [], id="this host has no GPU"),
        pytest.param(
            Told(GPU, INSTANCE, refs((C, 1), (C, 5))), Here((MIG,), ()), ["ok series"], id="every MIG instance has one"
        ),
        pytest.param(
            Told(GPU, INSTANCE, refs((C, 1), (C, 3))), Here((MIG,), ()),
            ["bad gpu_without_series", "bad series_of_unknown_gpu"], id="re-partitioned under the exporter",
        ),
        pytest.param(
            Told(GPU, PARENT, refs((C, None))), Here((MIG,), ()), ["ok series"], id="one number for all instances"
        ),
        pytest.param(cpu(row(ONE, id=ONE)), TWO_GPUS, ["ok series"], id="the container has its series"),
        pytest.param(cpu(row(TWO, id=TWO)), TWO_GPUS, ["bad container_without_series"], id="another has one"),
        pytest.param(cpu(row(None, id="/")), TWO_GPUS, ["bad container_without_series"], id="none but the whole host"),
        pytest.param(cpu(row(None, name="x")), TWO_GPUS, ["bad label_missing"], id="series without any id"),
        pytest.param(cpu(row(ONE, 91, id=ONE)), TWO_GPUS, ["bad stale_series"], id="later than its lag"),
        pytest.param(cpu(row(ONE, 89, id=ONE)), TWO_GPUS, ["ok series"], id="late as it may be"),
        pytest.param(cpu(), TWO_GPUS, ["bad no_series"], id="nobody exports it"),
        pytest.param(cpu(), Here((), ()), ["ok series"], id="no container needs it"),
        pytest.param(
            cpu(), Here((), (up(network_mode="host"),)), ["ok series"], id="it means nothing for the only container"
        ),
        pytest.param(
            cpu(row(TWO, id=TWO)), Here((), (up(started_at=AT - timedelta(seconds=119)),)), ["ok series"],
            id="a container that has just started",
        ),
        pytest.param(
            cpu(row(TWO, id=TWO)), Here((), (up(started_at=AT - timedelta(seconds=120)),)),
            ["bad container_without_series"], id="a container that should have been seen by now",
        ),
        pytest.param(
            cpu(row(TWO, id=TWO)), Here((), (up(state=State.EXITED), up(TWO, gpus=GpuClaim()))), ["ok series"],
            id="those that ended or have no GPU need none",
        ),
        pytest.param(cpu(row(ONE, id=ONE)), Here((), None), ["skipped series"], id="Docker is down"),
    ],
)  # fmt: skip
def test_both_ways(told: Told, here: Here, expected: list[str]) -> None:
    """A metric is there, fresh, and about what this host has; what this host has, has a metric."""
    assert brief(series(told, here, USUAL, AT)) == expected


@pytest.mark.parametrize(
    ("told", "here", "says"),
    [
        (whole(BOTH[0]), TWO_GPUS, f"1 of 2 without a series: GPU 1 ({B})"),
        (whole(BOTH[0], earlier={GpuRef(B): NOW - 1300}), TWO_GPUS, "; last seen 21m ago"),
        (whole(earlier={GpuRef(B): NOW - 1300}), TWO_GPUS, "no series of it at all (last seen 21m ago)"),
        (whole(row(None, uuid=A)), TWO_GPUS, "write uuid for UUID in `expr` and `uuid_label`"),
        (whole(row(None), labels=("gpu", "job")), TWO_GPUS, "its labels are gpu, job"),
        (cpu(row(None, name="x")), TWO_GPUS, "name the label that stands for id in `expr` and `id_label`"),
        (
            cpu(row(GONE, id=GONE)), Here((), tuple(up(str(n) * 64, f"job{n}") for n in range(5))),
            "5 of 5 without a series: job0, job1, job2, and 2 more; all series that there are belong to others",
        ),
        (cpu(row(ONE, id=ONE), row(GONE, id=GONE)), TWO_GPUS, "; 1 container that this host does not have"),
        (Told(GPU, INSTANCE), Here((MIG,), ()), "export DCGM_PROF_X?"),
        (Told(GPU, INSTANCE), Here((MIG,), ()), "dcp-metrics-included.csv"),
        (whole(needed=False), TWO_GPUS, "checks on another signal); else: is dcgm-exporter up"),
        (whole(*BOTH, spacing_s=15.0), TWO_GPUS, "sampled every 15s, prometheus.scrape_interval says 30s"),
        (cpu(row(GONE, id=GONE)), Here((), (up(name="\x1b[2J"),)), "1 of 1 without a series: \\x1b[2J"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_said(told: Told, here: Here, says: str) -> None:
    """Who, how many, since when, and where to write what."""
    assert says in "\n".join(f"{one.what} / {one.do}" for one in series(told, here, USUAL, AT))


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────────


class Scripted:
    """A server that answers by words of the query; each answer is rows, or an error."""

    def __init__(self, **answers: list[Json] | SourceError) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.notes = ("password_file /x can be read by everybody: chmod 600",)
        self.clock_skew_s = 3.0

    def query(self, promql: str, at: datetime) -> QueryResult:
        """Answer; what no word of fits is empty."""
        assert at == AT
        self.asked.append(promql)
        answer = next((answer for word, answer in self.answers.items() if word in promql), [])
        if isinstance(answer, SourceError):
            raise answer
        return QueryResult("matrix" if "[" in promql else "vector", answer)

    def status(self, what: str) -> Json:
        """Tell of itself, or not."""
        answer = self.answers.get(what, SourceError("has no such page"))
        if isinstance(answer, SourceError):
            raise answer
        return answer[0]


POLICY = load(None, unix_group=lambda _: frozenset())
POLICY = replace(POLICY, signals={"gpu_utilization": GPU, "cpu_usage": CPU})


def samples(*ages: float, value: str = "0", **labels: str) -> Json:
    return {"metric": labels, "values": [[NOW - age, value] for age in sorted(ages, reverse=True)]}


def instant(age: float, **labels: str) -> list[Json]:
    return [
        {"metric": {**labels, "ds01_ago": "0", "ds01_part": part}, "value": [NOW, text]}
        for part, text in (("value", "12.5"), ("time", str(NOW - age)))
    ]


def told_by(scripted: Scripted, here: Here) -> dict[str, Told]:
    return {told.name: told for told in metrics(POLICY, scripted, here, AT)}


def test_everything_is_asked_for_whichever_host_s() -> None:
    """Also series that lack the label, so that it can be said what is wrong with them."""
    scripted = Scripted(UTIL=[samples(10, 40, 70, 100, 130, UUID=A)], CPU=instant(20, id=f"/docker/{ONE}"))
    told = told_by(scripted, replace(TWO_GPUS, gpus=(Gpu(A, 0),)))
    assert [line for line in scripted.asked if "UTIL" in line] == ['UTIL{UUID=~".*", GPU_I_ID=""}[600s]']
    gauge, counter = told["gpu_utilization of whole GPUs"], told["cpu_usage"]
    assert gauge.rows == (Row({"UUID": A}, GpuRef(A), NOW - 10),)
    assert gauge.spacing_s == 30
    assert counter.rows == (Row({"id": f"/docker/{ONE}"}, ONE, NOW - 20),)
    assert (counter.spacing_s, counter.needed) == (None, True)
    assert not any("DCGM_PROF_X" in line for line in scripted.asked), "this host has no MIG instance to ask about"


def test_what_is_missing_is_looked_for_further_back() -> None:
    """Only what this host has, and only as far as an hour."""
    scripted = Scripted(**{B[:10]: [samples(1300, 1330, UUID=B), samples(9, UUID=A)], "UTIL": [samples(10, UUID=A)]})
    told = told_by(scripted, TWO_GPUS)["gpu_utilization of whole GPUs"]
    assert told.earlier == {GpuRef(B): NOW - 1300}
    assert f'UTIL{{UUID=~"{B}", GPU_I_ID=""}}[3900s]' in scripted.asked


def test_the_bare_metric_shows_its_labels_where_a_sum_hides_them() -> None:
    """`sum by (id)` of series without an id has no label at all."""
    bare = [{"metric": {"__name__": "CPU", "cgroup": "/docker/x"}, "value": [NOW, "1"]}]
    told = told_by(Scripted(**{"topk(1, CPU)": bare, "CPU": instant(20)}), TWO_GPUS)["cpu_usage"]
    (found,) = series(told, TWO_GPUS, USUAL, AT)
    assert found.slug == "label_missing"
    assert "its labels are cgroup" in found.what


def test_impossible_values_and_the_spacing_are_this_host_s() -> None:
    """Another host's exporter, scraped every five seconds and leaking sentinels, says nothing about this one."""
    others = samples(*range(0, 100, 5), value="9223372036854775794", UUID=C)
    scripted = Scripted(UTIL=[samples(10, 40, 70, 100, 130, UUID=A), others])
    told = told_by(scripted, replace(TWO_GPUS, gpus=(Gpu(A, 0),)))["gpu_utilization of whole GPUs"]
    assert (told.spacing_s, told.dropped) == (30, 0)


def test_a_query_that_is_refused_hides_no_other() -> None:
    """Each metric for itself."""
    told = told_by(Scripted(UTIL=BadQuery("parse error"), CPU=instant(20, id=ONE)), TWO_GPUS)
    assert told["gpu_utilization of whole GPUs"].error == "parse error"
    assert told["cpu_usage"].rows


def test_a_server_that_stops_answering_is_not_asked_on() -> None:
    """Each question would cost its whole timeout."""
    scripted = Scripted(UTIL=SourceDown("gave no whole answer within 10s"))
    assert [told.error for told in metrics(POLICY, scripted, TWO_GPUS, AT)] == ["gave no whole answer within 10s"]
    assert len(scripted.asked) == 1


def test_templates_that_answer_something_else_are_told() -> None:
    """Values without times, or an average where samples are wanted."""
    only_values = [one for one in instant(20, id=ONE) if one["metric"]["ds01_part"] == "value"]
    assert "no time of any sample" in told_by(Scripted(CPU=only_values), TWO_GPUS)["cpu_usage"].error
    average = replace(GPU, queries=(replace(WHOLE, expr='avg_over_time(UTIL{UUID=~"{{ uuids }}"})'),))
    policy = replace(POLICY, signals={"gpu_utilization": average})
    (told,) = metrics(policy, Scripted(), TWO_GPUS, AT)
    assert "it answers a vector; a gauge's expr selects samples over" in told.error


def test_a_server_tells_of_itself() -> None:
    """Version and retention where it has such pages; its clock, and what is wrong with the secrets, always."""
    full = server(Scripted(buildinfo=[{"version": "2.42.0"}], runtimeinfo=[{"storageRetention": "15d"}]), "u", AT)
    assert (full.version, full.retention, full.ahead_s, full.error) == ("2.42.0", "15d", 3.0, "")
    bare = server(Scripted(), "u", AT)
    assert (bare.version, bare.retention, bare.error) == ("", "", "")
    down = server(Scripted(vector=SourceDown("refuses the connection")), "u", AT)
    assert (down.error, down.notes) == ("refuses the connection", Scripted().notes)
