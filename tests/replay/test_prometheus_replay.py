"""The recorded host once more, its Prometheus over HTTP: the same requests, the same readings, the same plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from responses import GET, POST, RequestsMock, matchers

from ds01_policy.config.load import load
from ds01_policy.model import Kind, Missing
from ds01_policy.observe.ports import Json, QueryResult
from ds01_policy.observe.prometheus import LivePrometheus
from ds01_policy.observe.prometheus_http import LONGEST_GET
from ds01_policy.observe.recorded import Recording, recording_of
from ds01_policy.observe.recording import replay
from ds01_policy.policy import Policy
from ds01_policy.tick import Report, look

HERE = Path(__file__).parent
URL = "http://prometheus.invalid:9090"


@pytest.fixture(scope="module")
def policy() -> Policy:
    found = load(HERE / "demo-config", unix_group=lambda _: None)
    assert found.settings.prometheus is not None
    at = replace(found.settings.prometheus, url=URL)
    return replace(found, settings=replace(found.settings, prometheus=at))


@pytest.fixture(scope="module")
def recording() -> Recording:
    return recording_of(HERE / "demo")


def queries(recording: Recording) -> dict[str, QueryResult]:
    """Pick the answers of Prometheus, by what was asked."""
    return {question[1]: kept.answer for question, kept in recording.kept.items() if question[0] == "query"}


def serve(server: RequestsMock, recording: Recording, promql: str, answer: QueryResult) -> None:
    """Answer this query at the recorded instant, asked the way it has to be asked, and no other."""
    parameters = {
        "query": promql,
        "time": f"{recording.at.timestamp():.3f}",
        "timeout": "10000ms",
        "partial_response": "false",
        "dedup": "true",
    }
    body: Json = {"status": "success", "data": {"resultType": answer.result_type, "result": list(answer.result)}}
    if len(quote(promql)) <= LONGEST_GET:
        server.add(GET, f"{URL}/api/v1/query", json=body, match=[matchers.query_param_matcher(parameters)])
    else:
        server.add(POST, f"{URL}/api/v1/query", json=body, match=[matchers.urlencoded_params_matcher(parameters)])


def looked(policy: Policy) -> Report:
    """Look at the recorded host through an HTTP client of ours."""
    again = replay(HERE / "demo")
    assert policy.settings.prometheus is not None
    live = LivePrometheus(policy.settings.prometheus, clock=lambda: again.at)
    report = look(policy, replace(again.sources, prometheus=live), again.at, again.history)
    live.close()
    assert again.mismatches == []
    return report


def recorded_report(policy: Policy) -> Report:
    again = replay(HERE / "demo")
    return look(policy, again.sources, again.at, again.history)


def test_over_http_the_same_is_read_and_decided(policy: Policy, recording: Recording) -> None:
    """Every request is one that was recorded, every recorded answer is asked for, and nothing differs from a replay."""
    with RequestsMock(assert_all_requests_are_fired=True) as server:
        for promql, answer in queries(recording).items():
            serve(server, recording, promql, answer)
        report = looked(policy)
        assert len(server.calls) == len(queries(recording)) == 6, "and each is asked for once"
    expected = recorded_report(policy)
    assert report.plan == expected.plan
    assert report.evaluation == expected.evaluation
    assert report.snapshot == expected.snapshot


def test_a_long_query_travels_in_the_body(policy: Policy, recording: Recording) -> None:
    """Proxies take some 8 KiB of request line: what is longer is posted, and nothing of it is in the URL."""
    long = [promql for promql in queries(recording) if len(quote(promql)) > LONGEST_GET]
    with RequestsMock(assert_all_requests_are_fired=True) as server:
        for promql, answer in queries(recording).items():
            serve(server, recording, promql, answer)
        looked(policy)
        sent = [call.request for call in server.calls]
    assert long
    assert [request.method for request in sent].count("POST") == len(long)
    assert all(len(str(request.url)) < 8192 for request in sent)


@pytest.mark.parametrize("metric", ["DCGM_FI_DEV_GPU_UTIL", "container_cpu_usage_seconds_total"])
def test_a_request_that_was_not_recorded_is_refused_and_makes_idleness_unknown(
    policy: Policy, recording: Recording, metric: str
) -> None:
    """Strict one way: without its answer the signal is missing, and nobody is found idle for want of it."""
    with RequestsMock(assert_all_requests_are_fired=False) as server:
        for promql, answer in queries(recording).items():
            if metric not in promql:
                serve(server, recording, promql, answer)
        report = looked(policy)
    idle = {one.container.name: one for one in report.evaluation.verdicts if one.rule == "idle-gpu"}
    assert idle["train"].kind is Kind.UNKNOWN
    assert Missing.SOURCE_DOWN in {piece.reading.missing for piece in idle["train"].evidence}
    assert {one.kind for one in idle.values()}.isdisjoint({Kind.ACT, Kind.WARN})


def test_a_recorded_answer_that_nobody_asks_for_is_an_error(policy: Policy, recording: Recording) -> None:
    """Strict the other way."""
    server = RequestsMock(assert_all_requests_are_fired=True)
    server.start()
    for promql, answer in queries(recording).items():
        serve(server, recording, promql, answer)
    serve(server, recording, "up", QueryResult("vector", ()))
    looked(policy)
    with pytest.raises(AssertionError, match="Not all requests have been executed"):
        server.stop()
