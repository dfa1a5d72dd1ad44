"""Whole ticks in mode enforce against a Prometheus that is wrong in every way that HTTP and JSON allow.

Real HTTP, the real client, the real ledger. Whatever it says: nobody at work is stopped. With this host's own samples
the verdicts are those of a healthy Prometheus, without them nobody is found idle; and words say what is wrong.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fault_prometheus import (
    Answer,
    FaultPrometheus,
    close,
    cut_off,
    drip_body,
    drip_headers,
    hang,
    no_http,
    reset,
    respond,
    serving,
)
from whole_host import AT, MINUTE, A, B, C, D
from whole_lab import Lab, Life, Work, enforcing, evidence, found

from ds01_policy.config.load import load
from ds01_policy.ledger import Ledger
from ds01_policy.logic import Truth
from ds01_policy.memory import LEDGER
from ds01_policy.model import Kind
from ds01_policy.observe import prometheus_http
from ds01_policy.observe.prometheus import LivePrometheus
from ds01_policy.policy import Policy, PrometheusSettings
from ds01_policy.report.layout import Clock, Page
from ds01_policy.report.tables import Tick, table
from ds01_policy.tick import Report

IDLE, ON_GPU, ON_CPU, WOKE = A, B, C, D
GAUGES, COUNTERS = ("gpu_utilization",), ("cpu_usage",)
SIGNALS = (*GAUGES, *COUNTERS)
Json = dict[str, Any]


def lab() -> Lab:
    """Four containers: idle, at work on the GPU, on the CPU alone, and one that woke up two minutes ago."""
    made = Lab()
    made.runs(IDLE, 0)
    made.runs(ON_GPU, 1, gpu=0.6)
    made.runs(ON_CPU, 2, cores=0.5)
    made.runs(WOKE, 3)
    made.work.append(Work(WOKE, AT - 2 * MINUTE, gpu=0.9, cores=1.0))
    return made


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return load(None, unix_group=lambda _: None)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let this host have taken its samples for seventy minutes: a ledger, to be copied."""
    path, host = tmp_path_factory.mktemp("warm") / LEDGER, lab()
    with Ledger.open(path) as ledger:
        for minute in range(-70, 0, 5):
            host.at = AT + minute * MINUTE
            counted = host.counters(dict.fromkeys(host.inspects, 1))
            rows = [("cpu", one, value) for one, value in counted.cpu_s.items()]
            rows += [("gpu", uuid, value) for uuid, value in host.inventory().utilization.items()]
            ledger.keep_samples(counted.at, rows, timedelta(hours=48))
    return path


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Fault:
    """How the server is wrong, and what an admin should read of it."""

    words: str  # in a problem's detail; empty: it is no fault
    answer: Answer | None = None  # always this
    lie: Callable[[Json], object] | None = None  # or this, made of the honest answer
    shifted: timedelta = timedelta(0)  # or an honest answer about another instant
    hangs: bool = False
    only: tuple[str, ...] = SIGNALS  # the signals that it is about; the others are told as they are
    prepare: Callable[[Lab], None] = lambda _: None


@pytest.fixture(scope="module")
def truths() -> dict[tuple[str, str], Json]:
    """Remember honest answers: the same questions are asked for every fault."""
    return {}


@pytest.fixture
def serve(truths: dict[tuple[str, str], Json]) -> Iterator[Callable[[Fault], FaultPrometheus]]:
    """Start a server with this fault."""
    contexts = []

    def start(fault: Fault) -> FaultPrometheus:
        host = lab()
        fault.prepare(host)
        told: list[FaultPrometheus] = []

        def answer(connection: Any) -> None:
            request = told[0].requests[-1]
            asked = {**request.in_url, **request.in_body}
            (promql,), (when,) = asked["query"], asked["time"]
            at = datetime.fromtimestamp(float(when), UTC) + fault.shifted
            key = (promql, f"{at} {sorted(host.blind)}")
            if key not in truths:
                result = host.query(promql, at)
                truths[key] = {"resultType": result.result_type, "result": list(result.result)}
            honest = {"status": "success", "data": copy.deepcopy(truths[key])}
            respond(fault.lie(honest) if fault.lie else honest)(connection)

        contexts.append(serving(fault.answer or answer))
        told.append(contexts[-1].__enter__())
        return told[0]

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


# ── lies ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def data(**changes: Any) -> Callable[[Json], Json]:
    return lambda honest: {**honest, "data": {**honest["data"], **changes}}


def envelope(**changes: Any) -> Callable[[Json], Json]:
    return lambda honest: {**honest, **changes}


def values(change: Callable[[str], object]) -> Callable[[Json], Json]:
    """Change every number that is measured; sample times stay."""

    def lie(honest: Json) -> Json:
        for row in honest["data"]["result"]:
            if row["metric"].get("ds01_part") == "time":
                continue
            for sample in row.get("values") or [row["value"]]:
                sample[1] = change(sample[1])
        return honest

    return lie


def rows(change: Callable[[list[Json]], list[Json]]) -> Callable[[Json], Json]:
    return lambda honest: {**honest, "data": {**honest["data"], "result": change(honest["data"]["result"])}}


def samples(change: Callable[[list[Any]], list[Any]]) -> Callable[[Json], Json]:
    """Change which samples a matrix holds."""
    return rows(lambda all_: [{**row, "values": change(row["values"])} if "values" in row else row for row in all_])


def relabelled(row: Json) -> Json:
    return {**row, "metric": {key: f"x{value[:12]}" for key, value in row["metric"].items()}}


def blind(*what: str) -> Callable[[Lab], None]:
    return lambda host: host.blind.update(what)


def status(code: int, body: object = "", **headers: str) -> Answer:
    return respond(body, code, **headers)


FAULTS = {
    "it hangs": Fault("gave no whole answer", hang, hangs=True),
    "it drips its headers": Fault("no whole answer", drip_headers, hangs=True),
    "it drips its body": Fault("no whole answer", drip_body, hangs=True),
    "it resets the connection": Fault("broke the connection off", reset),
    "it closes the connection": Fault("broke the connection off", close),
    "it stops in the middle of the body": Fault("broke the connection off", cut_off),
    "it speaks another protocol": Fault("broke the connection off", no_http),
    "500": Fault("failed to answer (HTTP 500", status(500, {"error": "disk"})),
    "503, starting": Fault("not ready or overloaded (HTTP 503", status(503, "Service Unavailable")),
    "503, query timed out": Fault(
        "took too long over the query", status(503, {"errorType": "timeout", "error": "query timed out"})
    ),
    "502": Fault("HTTP 502", status(502, "<html>")),
    "422": Fault("refuses the query (HTTP 422", status(422, {"errorType": "execution", "error": "many-to-many"})),
    "431": Fault("finds the query too long (HTTP 431", status(431)),
    "400": Fault("refuses the query (HTTP 400", status(400, {"errorType": "bad_data", "error": "parse error"})),
    "401": Fault("refuses the credentials (HTTP 401", status(401, "no org id")),
    "404": Fault("has no query API there", status(404, "404 page not found")),
    "429": Fault("is asked too often", status(429)),
    "302": Fault("redirects to https://sso.example/login", status(302, location="https://sso.example/login")),
    "204": Fault("HTTP 204", status(204)),
    "a login page with 200": Fault("HTML page", respond("<!doctype html>", content_type="text/html")),
    "a login page that calls itself JSON": Fault("HTML page", respond("\n<html>")),
    "nothing, with 200": Fault("no JSON at all", respond("")),
    "truncated JSON": Fault("cut off, or no JSON", lie=lambda honest: json.dumps(honest)[:-9]),
    "a list": Fault("not an object", lie=lambda honest: [honest]),
    "JSON of another program": Fault("no success", lie=lambda _: {"items": [], "kind": "List"}),
    "success without data": Fault("success without data", lie=lambda _: {"status": "success"}),
    "null for a result": Fault("without a list of results", lie=data(result=None)),
    "an error with 200": Fault("no success", lie=envelope(status="error", error="no", errorType="internal")),
    "warnings": Fault("warns about its own answer", lie=envelope(warnings=["store gpu02 is gone"])),
    "a part": Fault("only a part (isPartial)", lie=envelope(isPartial=True)),
    "a scalar": Fault("answers a scalar", lie=data(resultType="scalar", result=[AT.timestamp(), "0"])),
    "a string": Fault("answers a string", lie=data(resultType="string", result=[AT.timestamp(), "0"])),
    "a matrix called a vector": Fault("malformed", lie=lambda honest: data(
        resultType="vector" if honest["data"]["resultType"] == "matrix" else "matrix")(honest)),
    "one series twice": Fault("two series with the same labels", lie=rows(lambda all_: [*all_, *all_[:1]])),
    "numbers where strings belong": Fault("malformed", lie=values(float)),
    "words where numbers belong": Fault("malformed", lie=values(lambda _: "idle")),
    "samples that go back in time": Fault("malformed", lie=samples(lambda all_: all_[::-1]), only=GAUGES),
    "NaN": Fault("values were impossible", lie=values(lambda _: "NaN")),
    "infinity": Fault("values were impossible", lie=values(lambda _: "+Inf")),
    "less than nothing": Fault("values were impossible", lie=values(lambda _: "-1")),
    "the mark for no value": Fault("values were impossible", lie=values(lambda _: "9223372036854775794")),
    "the mark for not supported": Fault("values were impossible", lie=values(lambda _: "140737488355330")),
    "NaN in every other sample": Fault("values were impossible", lie=samples(lambda all_: [
        [time, "NaN" if index % 2 else value] for index, (time, value) in enumerate(all_)]), only=GAUGES),
    "no series at all": Fault("has no series at all", lie=rows(lambda _: [])),
    "none of the exporters": Fault("has no series at all", prepare=blind("dcgm", "cadvisor")),
    "series of other things": Fault("none whose label", lie=rows(lambda all_: [relabelled(row) for row in all_])),
    "an answer of an hour ago": Fault("was asked about: is there a cache", shifted=-60 * MINUTE),
    "an answer of two minutes ago": Fault("is there a cache", shifted=-2 * MINUTE, only=COUNTERS),
    "an answer of tomorrow": Fault("was asked about: is there a cache", shifted=timedelta(days=1)),
    "times in milliseconds": Fault(
        "malformed", lie=samples(lambda all_: [[1000 * time, one] for time, one in all_]), only=GAUGES
    ),
    "more than anybody can read": Fault("answers more than 1 MiB", respond(b"0" * 2**21)),
}  # fmt: skip


def words(report: Report) -> str:
    return "\n".join(problem.detail for problem in report.snapshot.problems)


def run(
    fault: Fault, serve: Callable[[Fault], FaultPrometheus], shipped: Policy, state: Path
) -> tuple[Life, Report, FaultPrometheus]:
    server = serve(fault)
    settings = PrometheusSettings(server.url, timeout=timedelta(seconds=0.25 if fault.hangs else 20))
    source = LivePrometheus(settings, clock=lambda: datetime.now(UTC))
    life = Life(enforcing(shipped, prometheus=settings), state, lab(), source)
    report = life.tick(AT)
    source.close()
    return life, report, server


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_http, "BODY_LIMIT", 2**20)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_without_samples_of_its_own_a_wrong_answer_stops_nobody(
    serve: Callable[[Fault], FaultPrometheus], shipped: Policy, tmp_path: Path, fault: Fault
) -> None:
    """The first tick ever: what Prometheus says is worth nothing, and there is nothing else but one look."""
    life, report, server = run(fault, serve, shipped, tmp_path)
    assert life.stopped == []
    assert report.outcomes == ()
    assert found(report, IDLE) is Kind.UNKNOWN
    assert found(report, ON_CPU) is (Kind.UNKNOWN if "cpu_usage" in fault.only else Kind.CLEAR)
    assert {found(report, one) for one in (ON_GPU, WOKE)} == {Kind.CLEAR}, "this look's own word"
    assert fault.words in words(report)
    assert len(server.requests) <= 10
    assert not fault.hangs or len(server.requests) == 1, "one timeout, not one for each query"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_with_its_own_samples_the_verdicts_are_those_of_a_healthy_prometheus(
    serve: Callable[[Fault], FaultPrometheus], shipped: Policy, sampled: Path, tmp_path: Path, fault: Fault
) -> None:
    """The idle one is found idle by this host alone and stopped, nobody else is, and the table says who answered."""
    shutil.copy(sampled, tmp_path / LEDGER)
    life, report, server = run(fault, serve, shipped, tmp_path)
    assert life.stopped == ["ca"], life.spared
    assert {found(report, one) for one in (ON_GPU, ON_CPU, WOKE)} == {Kind.CLEAR}
    for signal in fault.only:
        piece = evidence(report, IDLE, signal)
        assert (piece.truth, piece.reading.source) == (Truth.TRUE, "local")
    assert fault.words in words(report)
    assert not fault.hangs or len(server.requests) == 2, "one for each look"


HARMLESS = {
    "infos": Fault("", lie=envelope(infos=["PromQL info: metric might not be a counter"])),
    "no warnings, said": Fault("", lie=envelope(warnings=[], isPartial=False)),
    "further keys": Fault("", lie=envelope(stats={"seriesFetched": "12"})),
    "series that nobody asked for": Fault("", lie=rows(lambda all_: [*all_, *map(relabelled, all_)])),
}


@pytest.mark.parametrize("fault", HARMLESS.values(), ids=HARMLESS)
def test_what_is_no_fault_is_believed(
    serve: Callable[[Fault], FaultPrometheus], shipped: Policy, tmp_path: Path, fault: Fault
) -> None:
    """The proofs above are not held by never acting: on a cold ledger too, Prometheus' word stops the idle one."""
    life, report, _ = run(fault, serve, shipped, tmp_path)
    assert life.stopped == ["ca"]
    assert {found(report, one) for one in (ON_GPU, ON_CPU, WOKE)} == {Kind.CLEAR}
    assert evidence(report, IDLE, "cpu_usage").reading.source == "prometheus"


PARTIAL = {
    "a hole of twenty minutes": samples(lambda all_: all_[:60] + all_[100:]),
    "the newest ten minutes are missing": samples(lambda all_: all_[:-20]),
    "only the newest ten minutes": samples(lambda all_: all_[-20:]),
    "one sample in three": samples(lambda all_: all_[::3]),
    "a lone zero": samples(lambda all_: all_[-1:]),
    "every GPU at rest": values(lambda text: "0" if float(text) <= 100 else text),
    "half of the series": rows(lambda all_: all_[::2]),
    "the other half": rows(lambda all_: all_[1::2]),
    "none of the counters' present": rows(lambda all_: [row for row in all_ if row["metric"].get("ds01_ago") != "0"]),
    "none of the counters' past": rows(lambda all_: [row for row in all_ if row["metric"].get("ds01_ago", "0") == "0"]),
}


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("lie", PARTIAL.values(), ids=PARTIAL)
def test_a_well_formed_answer_that_lacks_something_ends_no_work(
    serve: Callable[[Fault], FaultPrometheus], shipped: Policy, sampled: Path, tmp_path: Path, lie: Any, *, warm: bool
) -> None:
    """Whatever is left of it; with samples of this host's own the idle one is found all the same."""
    if warm:
        shutil.copy(sampled, tmp_path / LEDGER)
    life, report, _ = run(Fault("", lie=lie), serve, shipped, tmp_path)
    assert set(life.stopped) <= {"ca"}
    assert life.stopped == ["ca"] or not warm
    assert {found(report, one) for one in (ON_GPU, WOKE)} <= {Kind.CLEAR, Kind.UNKNOWN}


@pytest.mark.parametrize(
    ("fault", "warm", "line"),
    [
        ("401", True, "readings: all from local samples (prometheus: source_down)"),
        ("none of the exporters", True, "readings: all from local samples (prometheus: no_series)"),
        (
            "an answer of an hour ago",
            False,
            (
                "readings: gpu of 2 containers unanswered (stale); cpu of 4 unanswered (source_down); "
                "gpu of 2 from local samples (prometheus: stale)"
            ),
        ),
    ],
)
def test_the_table_names_who_answered_instead(
    serve: Callable[[Fault], FaultPrometheus],
    shipped: Policy,
    sampled: Path,
    tmp_path: Path,
    fault: str,
    line: str,
    *,
    warm: bool,
) -> None:
    """A person reads in one line that Prometheus did not answer, and who did."""
    if warm:
        shutil.copy(sampled, tmp_path / LEDGER)
    life, report, _ = run(FAULTS[fault], serve, shipped, tmp_path)
    shown = Tick("evaluate", life.policy.settings.mode, report.snapshot, report.evaluation, report.plan)
    (told,) = [each for each in table(shown, Page(300), Clock(AT)).splitlines() if each.startswith("readings")]
    assert told == line
