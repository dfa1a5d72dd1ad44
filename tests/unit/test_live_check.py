"""`check --live`: every metric exists and is fresh, and every join finds its partner both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_host import DEMO, Ran, configured, run
from fault_prometheus import ROW, Answer, close, cut_off, drip_body, drip_headers, hang, respond, serving, vector

from ds01_policy.cli import configuring, live_check
from ds01_policy.config.load import load
from ds01_policy.observe.ports import QueryResult, SourceError
from ds01_policy.observe.prometheus import LivePrometheus
from ds01_policy.observe.recording import replay
from ds01_policy.policy import Policy, PrometheusSettings

RECORDED = replay(DEMO)
AT = RECORDED.at
INVENTORY = RECORDED.sources.gpu.inventory().gpus
GPUS = [gpu.uuid for gpu in INVENTORY if not gpu.mig_enabled]
SLICES = [(ref.uuid, str(ref.gpu_instance)) for gpu in INVENTORY if gpu.mig_enabled for ref in gpu.refs]
ALIVE = ("running", "paused", "restarting")
UP = [str(one["Id"]) for one in RECORDED.sources.docker.containers() if one["State"] in ALIVE]
ROW_AT = float(str(ROW["value"][0]))  # type: ignore[index]  # of a table of many types
EXPORTER, CADVISOR = "gpu01:9400", "gpu01:8080"


@dataclass
class Metrics:
    """A Prometheus that has one series of everything, unless a test takes one away or adds one."""

    gpus: dict[str, float] = field(default_factory=lambda: dict.fromkeys(GPUS, 0.0))  # age of the newest sample
    containers: dict[str, float] = field(default_factory=lambda: dict.fromkeys(UP, 0.0))
    elsewhere: tuple[str, ...] = ()  # GPUs and containers of another host
    fails: str = ""  # a metric that cannot be asked for

    def query(self, promql: str, at: datetime) -> QueryResult:
        """Answer what the shipped signals ask."""
        if self.fails and self.fails in promql:
            raise SourceError("refuses it")
        if "changes(" in promql or "ENERGY" in promql:
            return QueryResult("vector", ())  # nobody exports a witness
        if 'GPU_I_ID=""' in promql and "DCGM_FI_PROF" in promql:
            return QueryResult("matrix", ())
        if "DCGM_FI_PROF" in promql:
            slices = [_gauge(*each, EXPORTER, 0.0, at) for each in SLICES if _asked("UUID", each[0], promql)]
            return QueryResult("matrix", slices)
        if "DCGM_FI_DEV" in promql:
            rows = [(uuid, EXPORTER, age) for uuid, age in self.gpus.items()]
            rows += [(uuid, "gpu02:9400", 0.0) for uuid in self.elsewhere if uuid.startswith("GPU")]
            about = [row for row in rows if _asked("UUID", row[0], promql)]
            return QueryResult("matrix", [_gauge(uuid, "", instance, age, at) for uuid, instance, age in about])
        known = [(one, CADVISOR, age) for one, age in self.containers.items()]
        known += [(one, "gpu02:8080", 0.0) for one in self.elsewhere if not one.startswith("GPU")]
        about = [row for row in known if _asked("id", f"/docker/{row[0]}", promql)]
        return QueryResult("vector", [each for row in about for each in _counters(*row, at, promql)])


def _asked(label: str, value: str, promql: str) -> bool:
    found = re.search(rf'{label}=~"([^"]*)"', promql)
    assert found
    return re.fullmatch(found[1], value) is not None


def _gauge(uuid: str, slice_: str, instance: str, age: float, at: datetime) -> dict[str, Any]:
    newest = at.timestamp() - age
    values = [[newest - 30 * step, "0"] for step in range(20, -1, -1)]
    return {"metric": {"UUID": uuid, "GPU_I_ID": slice_, "instance": instance}, "values": values}


def _counters(one: str, instance: str, age: float, at: datetime, promql: str) -> Iterable[dict[str, Any]]:
    for ago in dict.fromkeys(re.findall(r'"ds01_ago", "([^"]*)"', promql)):
        for part, value in (("value", "1"), ("time", str(at.timestamp() - float(ago) - age))):
            labels = {"id": f"/docker/{one}", "instance": instance, "ds01_ago": ago, "ds01_part": part}
            yield {"metric": labels, "value": [at.timestamp(), value]}


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Load the shipped one."""
    return load(None, unix_group=lambda _: None)


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run `check --live` on the host of the demo with these metrics."""

    def checked(metrics: Any, signals: str = "", *form: str) -> Ran:
        monkeypatch.setattr(live_check, "live_sources", lambda _: replace(RECORDED.sources, prometheus=metrics))
        for module in (live_check, configuring):
            monkeypatch.setattr(module, "now", lambda: AT)
        files = {"signals.yaml": signals} if signals else {}
        config = configured(tmp_path / str(len(list(tmp_path.iterdir()))), files, prometheus={"url": "http://x"})
        return run("--config", config, "check", "--live", *(form or ("--json",)))

    return checked


def told(ran: Ran) -> list[dict[str, Any]]:
    """List the findings, but for the one that the demo's host is there to show."""
    return [one for one in ran.json["findings"] if one["slug"] != "untrusted_claim"]


def slugs(ran: Ran) -> list[str]:
    return [one["slug"] for one in told(ran)]


def test_nothing_is_amiss(check: Callable[..., Ran]) -> None:
    """Every GPU and container has its series, and every series somebody here; other hosts are other hosts'."""
    elsewhere = ("GPU-eeeeeeee", "e" * 64)
    ran = check(Metrics(elsewhere=elsewhere))
    assert slugs(ran) == []
    assert (ran.code, len(ran.json["findings"])) == (1, 1)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param(
            lambda metrics: metrics.gpus.pop(GPUS[1]),
            [("no_partner", f"signal gpu_utilization: Prometheus has no series of {GPUS[1]}")],
            id="a GPU without a series, though nobody may hold it",
        ),
        pytest.param(
            lambda metrics: metrics.gpus.update({GPUS[0]: 120.0}),
            [("stale_series", f"signal gpu_utilization: the newest samples of {GPUS[0]} are too old")],
            id="a GPU whose series stopped",
        ),
        pytest.param(
            lambda metrics: metrics.gpus.update({"GPU-eeeeeeee": 0.0}),
            [("stranger_series", "GPU-eeeeeeee, of which this host shows nothing, from gpu01:9400")],
            id="a GPU that this host's exporter knows and its driver does not",
        ),
        pytest.param(
            lambda metrics: metrics.containers.update({"e" * 64: 0.0}),
            [("stranger_series", f"{'e' * 64}, of which this host shows nothing, from gpu01:8080")],
            id="a container of another engine",
        ),
        pytest.param(
            lambda metrics: metrics.gpus.clear(),
            [("no_series", "is dcgm-exporter scraped"), ("no_partner", f"and {len(GPUS) - 5} more")],
            id="no metric of whole GPUs at all",
        ),
        pytest.param(
            lambda metrics: setattr(metrics, "fails", "container_cpu"),
            [("source_down", "refuses it")],
            id="a query that nobody answers",
        ),
    ],
)
def test_what_is_amiss(
    change: Callable[[Metrics], Any], found: list[tuple[str, str]], check: Callable[..., Ran]
) -> None:
    """Named, each with a reason why it matters."""
    metrics = Metrics()
    change(metrics)
    ran = check(metrics)
    assert ran.code == 1
    assert slugs(ran) == [slug for slug, _ in found]
    for one, (_, text) in zip(told(ran), found, strict=True):
        assert text in one["message"]
        assert one["why"]
        assert one["severity"] == "warning"
        assert (Path(one["file"]).name, one["line"] > 0) in {("signals.yaml", True), ("settings.yaml", True)}


def test_a_container_without_series(check: Callable[..., Ran]) -> None:
    """With its name; on this host none has a network of its own, so that no series of it is missed."""
    metrics = Metrics()
    gone = UP[0]
    del metrics.containers[gone]
    found = told(check(metrics))
    assert [one["slug"] for one in found] == ["no_partner"]
    assert all(f"({gone[:12]})" in one["message"] for one in found)


def test_many_are_counted(check: Callable[..., Ran]) -> None:
    """Five are named."""
    metrics = Metrics(gpus=dict.fromkeys(GPUS[:1], 0.0))
    (one,) = told(check(metrics))
    assert f"and {len(GPUS) - 6} more" in one["message"]


def test_what_is_known_can_be_silenced_at_the_signal(check: Callable[..., Ran]) -> None:
    """With a reason, above the signal; when it is gone, the comment is pointed out."""
    from ds01_policy.config.files import shipped

    text = (shipped()[0] / "signals.yaml").read_text()
    comment = "  # ds01-policy: ignore no_partner because one GPU is passed on to a machine\n"
    text = text.replace("  gpu_utilization:\n", f"{comment}  gpu_utilization:\n")
    metrics = Metrics()
    del metrics.gpus[GPUS[1]]
    assert slugs(check(metrics, text)) == []
    assert slugs(check(Metrics(), text)) == ["useless_silence"]


# ── how long Prometheus keeps samples ────────────────────────────────────────────────────────────────────────────────


def info(retention: str) -> Answer:
    return respond({"status": "success", "data": {"storageRetention": retention}})


@pytest.mark.parametrize(
    ("answer", "tries"),
    [
        pytest.param(respond("not found", 404), 1, id="an API without it"),
        pytest.param(respond("<html>log in</html>"), 1, id="a page"),
        pytest.param(respond([]), 1, id="another shape"),
        pytest.param(respond({"data": []}), 1, id="another shape inside"),
        pytest.param(close, 2, id="no answer"),
        pytest.param(cut_off, 2, id="half an answer"),
        pytest.param(hang, 1, id="silence"),
        pytest.param(drip_headers, 1, id="headers without end"),
        pytest.param(drip_body, 1, id="a body without end"),
    ],
)
def test_who_does_not_say_fails_nothing(answer: Answer, tries: int, policy: Policy) -> None:
    """Nothing is known, in time, and queries go on."""
    with serving(*[answer] * tries, respond(vector(ROW))) as server:
        prometheus = LivePrometheus(PrometheusSettings(url=server.url, timeout=timedelta(milliseconds=300)))
        assert live_check._retention(policy, prometheus) == []  # noqa: SLF001
        assert len(prometheus.query("x", datetime.fromtimestamp(ROW_AT, UTC)).result) == 1


def test_nobody_there(policy: Policy) -> None:
    """A closed port."""
    with serving(info("15d")) as server:
        url = server.url
    assert live_check._retention(policy, LivePrometheus(PrometheusSettings(url=url))) == []  # noqa: SLF001


@pytest.mark.parametrize(
    ("said", "found"),
    [("2h", []), ("1h", ["window_beyond_retention"]), ("1h or 100GiB", ["window_beyond_retention"]), ("?", [])],
)
def test_windows_are_compared_with_it(said: str, found: list[str], policy: Policy) -> None:
    """The longest that any rule over signals may ask over: faculty's two hours."""
    with serving(info(said)) as server:
        problems = live_check._retention(policy, LivePrometheus(PrometheusSettings(url=server.url)))  # noqa: SLF001
    assert [one.code for one in problems] == found
    assert [request.path for request in server.requests] == ["/api/v1/status/runtimeinfo"]
