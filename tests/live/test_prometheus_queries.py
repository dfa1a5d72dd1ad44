"""The shipped signals, asked of a real Prometheus: what its answers mean, and what readings come of them."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rig.history import SYSTEMD, History
from rig.prometheus import Prometheus
from rig.proxy import Proxy

from ds01_policy.config.load import load
from ds01_policy.model import Answer, Container, GpuClaim, GpuRef, Missing, Problem, Reading, State
from ds01_policy.observe.envelope import BadQuery, SourceDown
from ds01_policy.observe.measure import measure
from ds01_policy.observe.prometheus import LivePrometheus
from ds01_policy.observe.promql import MOST_IDS
from ds01_policy.policy import Policy, PrometheusSettings
from ds01_policy.readings import read
from ds01_policy.span import own_signals

pytestmark = pytest.mark.live

HOUR, MINUTES = timedelta(hours=1), timedelta(minutes=5)
WINDOWS = frozenset({HOUR, 0.8 * HOUR, MINUTES})
A, B, MIG = "GPU-aaaa", "GPU-bbbb", GpuRef("GPU-cccc", 7)
CPU = "container_cpu_usage_seconds_total"


def id_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.fixture(scope="module")
def shipped() -> Policy:
    """Load what ships: the expressions under test are those that people get."""
    return load(None, unix_group=lambda _: None)


class Host:
    """Containers that have been up for long, and what is measured of them."""

    def __init__(self, policy: Policy, url: str, now: float) -> None:
        self.policy = policy
        self.at = datetime.fromtimestamp(now, UTC)
        self.source = LivePrometheus(PrometheusSettings(url=url))
        self.answers: Mapping[str, Answer] = {}
        self.problems: list[Problem] = []

    def container(self, name: str = "train", *refs: GpuRef, up: timedelta = 5 * HOUR) -> Container:
        return Container(
            id_of(name), name, "image", State.RUNNING, self.at - up, started_at=self.at - up,
            gpus=GpuClaim(wants=True, refs=refs or (GpuRef(A),)),
        )  # fmt: skip

    def measure(self, *containers: Container, signals: tuple[str, ...] = ()) -> None:
        questions = dict.fromkeys(signals or own_signals(self.policy), WINDOWS)
        self.answers, self.problems, state = measure(self.policy, questions, containers, self.source, self.at)
        assert state.up, state.detail

    def reading(self, signal: str, container: Container, window: timedelta = HOUR) -> Reading:
        return read(self.policy.signals[signal], [self.answers[signal]], container, window, self.at)

    def codes(self) -> set[str]:
        return {problem.code for problem in self.problems}


@pytest.fixture
def host(shipped: Policy, prometheus_with: Callable[..., str], now: float) -> Callable[[History], Host]:
    """Put a host over a history."""
    return lambda history: Host(shipped, prometheus_with(history), now)


def idle(history: History, name: str, every: float = 30) -> History:
    return history.cpu(id_of(name), 0.001, every).network(id_of(name), 10.0, every)


def test_an_idle_host_is_read_in_six_queries(host: Callable[[History], Host], now: float) -> None:
    """Everything is known of an idle container: its bounds are tight and nothing is missing.

    One query a signal, one for each of two witnesses, one for frozen exporters.
    """
    there = host(idle(History(now).gpu(A, 0), "train"))
    train = there.container()
    there.measure(train)
    for signal, truth in (("gpu_utilization", 0.0), ("cpu_usage", 0.001), ("network_io", 10.0)):
        for window in WINDOWS:
            reading = there.reading(signal, train, window)
            assert (reading.missing, reading.coverage) == (None, 1.0)
            assert 0.6 * truth <= reading.low <= truth <= reading.high <= 1.2 * truth + 1e-9
    assert (there.source.queries, there.problems) == (6, [])


GPU_CASES: dict[str, tuple[str | float, float, float, Missing | None]] = {
    "idle": (0, 0.0, 0.0, None),
    "half busy": (50, 0.5, 0.5, None),
    "a new run after an idle hour": ("0x70m 100x2m", 0.03, 0.05, None),
    "one lone sample of zero": ("_x59m 0x2", 0.0, 1.0, Missing.LOW_COVERAGE),
    "an exporter that hung 20 minutes ago": ("0x70m _x20m", 0.0, 0.35, Missing.STALE),
    "NaN in between": ("0x60m NaNx10m 0x20m", 0.0, 0.17, Missing.LOW_COVERAGE),
    "a sentinel in between": ("0x60m 9223372036854775794x10m 0x20m", 0.0, 0.17, Missing.LOW_COVERAGE),
    "nothing": ("0x1m _x3h", 0.0, 1.0, Missing.NO_SERIES),
}


@pytest.mark.parametrize(("pattern", "low", "high", "missing"), GPU_CASES.values(), ids=GPU_CASES)
def test_gpus_read_as_intervals(
    host: Callable[[History], Host], now: float, pattern: str | float, low: float, high: float, missing: Missing | None
) -> None:
    """What is missing could have been anything; what is there counts for what it is."""
    there = host(History(now).gpu(A, pattern, every=30))
    train = there.container()
    there.measure(train, signals=("gpu_utilization",))
    reading = there.reading("gpu_utilization", train)
    assert reading.missing is missing
    assert low == pytest.approx(reading.low, abs=0.03)
    assert reading.high == pytest.approx(high, abs=0.03)


def test_a_container_that_woke_is_seen_awake(host: Callable[[History], Host], now: float) -> None:
    """The last minutes say what the hour hides."""
    there = host(History(now).gpu(A, "0x70m 100x2m"))
    train = there.container()
    there.measure(train, signals=("gpu_utilization",))
    assert there.reading("gpu_utilization", train, HOUR).high < 0.05
    assert there.reading("gpu_utilization", train, MINUTES).low == pytest.approx(0.3, abs=0.1)


def test_mig_instances_read_as_ratios_of_their_own(host: Callable[[History], Host], now: float) -> None:
    """An instance joins on its parent and number; its sibling's load and the parent's row are not its own.

    A tenth of the whole GPU is most of what the smallest instance has.
    """
    history = History(now).gpu(MIG.uuid, 0.1, gpu_instance=7).gpu(MIG.uuid, 0.0, gpu_instance=8).gpu(A, 0)
    there = host(history)
    busy, quiet = there.container("busy", MIG), there.container("quiet", GpuRef(MIG.uuid, 8))
    whole = there.container("whole", GpuRef(A))
    there.measure(busy, quiet, whole, signals=("gpu_utilization",))
    highs = [there.reading("gpu_utilization", one).high for one in (busy, quiet, whole)]
    assert highs == pytest.approx([0.7, 0, 0], abs=0.02)
    assert there.source.queries == 5, "and of the witnesses and frozen exporters one each"


def test_one_busy_gpu_of_two_makes_its_container_busy(host: Callable[[History], Host], now: float) -> None:
    """The busiest of what is held counts."""
    there = host(History(now).gpu(A, 0).gpu(B, 80))
    train = there.container("train", GpuRef(A), GpuRef(B))
    there.measure(train, signals=("gpu_utilization",))
    assert there.reading("gpu_utilization", train).low == pytest.approx(0.8, abs=0.02)


def test_a_relabelled_series_is_one_history(host: Callable[[History], Host], now: float) -> None:
    """`Hostname` became `hostname` half an hour ago: the zeros since then are not the whole hour."""
    history = History(now).gpu(A, "90x60m _x30m").gpu(A, "_x90m 0x30m", Hostname="", hostname="gpu01")
    there = host(history)
    train = there.container()
    there.measure(train, signals=("gpu_utilization",))
    reading = there.reading("gpu_utilization", train)
    assert reading.coverage > 0.98
    assert reading.low == pytest.approx(0.45, abs=0.03)


@pytest.mark.parametrize("every", [15, 60])
def test_another_scrape_interval_is_learnt_and_reported(
    host: Callable[[History], Host], now: float, every: float
) -> None:
    """Settings say 30 s: neither a healthy series is incomplete, nor a gap of two samples covered."""
    there = host(History(now).gpu(A, 0, every).gpu(B, f"0x55m _x{5 * every}s 0x{10 * every}s", every))
    whole, gap = there.container("whole"), there.container("gap", GpuRef(B))
    there.measure(whole, gap, signals=("gpu_utilization",))
    assert there.answers["gpu_utilization"].spacing_s == every
    assert there.reading("gpu_utilization", whole).missing is None
    assert there.reading("gpu_utilization", gap).coverage < 1
    assert there.codes() == {"scrape_interval"}


# ── counters ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_timestamp_of_an_offset_is_the_samples_own(prometheus_with: Callable[..., str], now: float) -> None:
    """The time of a counter's value is when it was sampled, inside `min by` and with an offset as well."""
    series = [{"id": f"/docker/{id_of('train')}", "cpu": cpu} for cpu in ("cpu00", "cpu01")]
    history = History(now)
    for labels, late in zip(series, (37, 61), strict=True):
        history.points(CPU, labels, [(-3600 - late, 10), (-late, 20)])
    server = Prometheus(prometheus_with(history))
    for offset, expected in (("", now - 61), ("offset 3600s", now - 3600 - 61)):
        found = server.value(f"min by (id) (timestamp({CPU} {offset}))", now)
        assert found == pytest.approx(expected, abs=0.01)


def test_a_cpu_that_began_in_the_window_counts_in_full(host: Callable[[History], Host], now: float) -> None:
    """Under cgroup v1 a CPU's series appears with its first second: `rate` would leave out what it begins with."""
    labels = {"id": f"/docker/{id_of('train')}", "instance": "gpu01:8080", "job": "cadvisor", "image": "x"}
    history = History(now).counter(CPU, labels | {"cpu": "cpu00"}, 0.0, base=100)
    history.counter(CPU, labels | {"cpu": "cpu01"}, "_x90m 0x30m", base=600)
    there = host(history)
    train = there.container()
    there.measure(train, signals=("cpu_usage",))
    reading = there.reading("cpu_usage", train)
    assert (reading.low, reading.high) == pytest.approx((600 / 3600, 600 / 3600), rel=0.02)
    server = Prometheus(there.source._settings.url)  # noqa: SLF001  the same server, asked the naive way
    assert server.value(f"sum by (id) (rate({CPU}[60m]))", now) == 0


@pytest.mark.parametrize(
    "path", ["/docker/{id}", SYSTEMD, "/lab.slice/docker-{id}.scope", "/docker/" + "f" * 64 + "/docker/{id}"]
)
def test_containers_join_under_any_cgroup_driver(host: Callable[[History], Host], now: float, path: str) -> None:
    """The id is looked for in the last part of the path; roll-ups and services inside are not counted twice."""
    history = History(now).cpu(id_of("train"), 0.5, path=path, cpus=4)
    for other in ("/", "/docker", path.format(id=id_of("train")) + "/system.slice/ssh.service"):
        history.counter(CPU, {"id": other, "instance": "gpu01:8080", "job": "cadvisor", "cpu": "total"}, 7.0)
    there = host(history)
    train = there.container()
    there.measure(train, signals=("cpu_usage",))
    reading = there.reading("cpu_usage", train)
    assert (reading.low, reading.high) == pytest.approx((0.4, 0.5), abs=0.015)
    assert set(there.answers["cpu_usage"].series) == {train.id}


def test_cpu_of_another_life_does_not_count(host: Callable[[History], Host], now: float) -> None:
    """Restarted 62 minutes ago: the dead life's counter is visible for five minutes more, and must not stand in.

    The restart policy gives the new life a series of its own. Their sum at the window's start is large, so that the
    increase since would look small; the old life's sample time in it gives it away.
    """
    name = id_of("train")
    history = (
        History(now)
        .cpu(name, "1x60m _x62m", base=0)
        .cpu(name, "_x60m 0.2x62m", base=0, container_label_restartcount="1")
    )
    there = host(history)
    train = there.container(up=timedelta(minutes=61, seconds=45))
    there.measure(train, signals=("cpu_usage",))
    reading = there.reading("cpu_usage", train)
    assert math.isinf(reading.high)
    assert reading.missing is Missing.LOW_COVERAGE


def test_two_collectors_do_not_add_up(host: Callable[[History], Host], now: float) -> None:
    """One exporter counts from the container's start, the other from its own: each is compared with itself."""
    name = id_of("train")
    history = (
        History(now).cpu(name, 0.5, base=5000).cpu(name, 0.5, base=0, job="process-exporter", instance="gpu01:9256")
    )
    there = host(history)
    train = there.container()
    there.measure(train, signals=("cpu_usage",))
    reading = there.reading("cpu_usage", train)
    assert (reading.low, reading.high) == pytest.approx((0.4, 0.5), abs=0.015)


def test_one_side_of_the_network_alone_is_no_reading(host: Callable[[History], Host], now: float) -> None:
    """Bytes received without bytes sent would read as half as busy."""
    labels = {"id": f"/docker/{id_of('train')}", "interface": "eth0", "instance": "gpu01:8080", "job": "cadvisor"}
    there = host(History(now).counter("container_network_receive_bytes_total", labels, 10.0))
    train = there.container()
    there.measure(train, signals=("network_io",))
    assert there.answers["network_io"].missing is Missing.NO_SERIES
    assert there.codes() == {"no_series"}


def test_loopback_does_not_keep_a_container_awake(host: Callable[[History], Host], now: float) -> None:
    """A notebook that talks to itself is no traffic."""
    history = History(now).network(id_of("train"), 10.0).network(id_of("train"), 1e6, interface="lo")
    there = host(history)
    train = there.container()
    there.measure(train, signals=("network_io",))
    assert there.reading("network_io", train).high < 12


def test_quiet_containers_that_are_looked_at_once_a_minute_are_known(
    host: Callable[[History], Host], now: float
) -> None:
    """A collector like cAdvisor slows down for quiet containers; their newest sample may be a minute old."""
    history = History(now, ahead="0s").cpu(id_of("train"), "0.001x119m _x80s", every=1)
    there = host(history)
    train = there.container()
    there.measure(train, signals=("cpu_usage",))
    assert there.reading("cpu_usage", train).missing is None


def test_many_containers_still_cost_one_query_a_signal(host: Callable[[History], Host], now: float) -> None:
    """More containers than are named one by one: each gets its own reading."""
    names = [f"c{number}" for number in range(MOST_IDS + 4)]
    history = History(now, span="70m", ahead="0s")
    for number, name in enumerate(names):
        history.cpu(id_of(name), number / 1000, every=300)
    there = host(history)
    containers = [there.container(name) for name in names]
    there.measure(*containers, signals=("cpu_usage",))
    series = there.answers["cpu_usage"].series
    assert len(series) == len(names)
    for number, container in enumerate(containers):
        (first, low), *_, (last, high) = series[container.id]
        assert (high - low) / (last - first) == pytest.approx(number / 1000, abs=1e-6)
    assert there.source.queries == 1


# ── the HTTP API ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def server(prometheus_with: Callable[..., str], now: float) -> str:
    """Start a Prometheus that knows one GPU."""
    return prometheus_with(History(now).gpu(A, 5))


def asked(url: str, promql: str, **settings: Any) -> list[dict[str, Any]]:
    source = LivePrometheus(PrometheusSettings(url=url, **settings))
    try:
        return list(source.query(promql, datetime.now(UTC)).result)
    finally:
        source.close()


def test_prometheus_takes_the_parameters_meant_for_thanos(server: str) -> None:
    """What it does not know it ignores, in a URL and in a form alike."""
    short = asked(server, "DCGM_FI_DEV_GPU_UTIL")
    long = asked(server, "DCGM_FI_DEV_GPU_UTIL" + " or DCGM_FI_DEV_GPU_UTIL" * 1000)
    assert [row["metric"]["UUID"] for row in (*short, *long)] == [A, A]
    assert short[0]["value"][1] == long[0]["value"][1] == "5"


ERRORS: dict[str, tuple[str, str]] = {
    "a parse error": ("sum(", "HTTP 400, invalid parameter"),
    "many to many": (
        "DCGM_FI_DEV_GPU_UTIL * on () group_left () (up or DCGM_FI_DEV_GPU_UTIL or vector(1))",
        "HTTP 422",
    ),
    "a form beyond 10 MiB": ("up #" + "x" * 11_000_000, "HTTP 400"),
}


@pytest.mark.parametrize(("promql", "words"), ERRORS.values(), ids=ERRORS)
def test_what_prometheus_refuses_is_a_bad_query_in_its_own_words(server: str, promql: str, words: str) -> None:
    """A mistake in signals.yaml is told from an outage."""
    with pytest.raises(BadQuery) as caught:
        asked(server, promql)
    assert words in str(caught.value)


def test_a_query_that_takes_too_long_ends_in_time(server: str) -> None:
    """Prometheus is told how long we wait, and we do not wait longer."""
    slow = "max_over_time(quantile_over_time(0.5, DCGM_FI_DEV_GPU_UTIL[1h])[2h:1ms])"
    took = []
    for _ in range(4):  # a machine that stands still for a moment makes one of them late
        began = time.monotonic()
        with pytest.raises(SourceDown, match=r"no whole answer|took too long"):
            asked(server, slow, timeout=timedelta(seconds=0.4))
        took.append(time.monotonic() - began)
    assert min(took) < 1


@pytest.mark.parametrize("kind", ["truncate", "lost", "status:503"])
def test_a_broken_answer_is_asked_for_again(server: str, faulty: Callable[[str], Proxy], kind: str) -> None:
    """One failure in passing costs no tick its data; two do."""
    proxy = faulty(server)
    proxy.fault("GET", "/api/v1/query", kind=kind)
    assert asked(proxy.url, "DCGM_FI_DEV_GPU_UTIL")
    proxy.fault("GET", "/api/v1/query", kind=kind, times=None)
    with pytest.raises(SourceDown):
        asked(proxy.url, "DCGM_FI_DEV_GPU_UTIL")


def test_an_answer_in_the_middle_of_a_tick_that_never_comes(
    shipped: Policy, server: str, faulty: Callable[[str], Proxy], now: float
) -> None:
    """The GPU was answered, CPU hangs: network is not asked for, and the tick goes on after one timeout."""
    proxy = faulty(server)
    proxy.fault("GET", "container_cpu", kind="hang", times=None)
    timeout = timedelta(seconds=5)  # long enough for what is answered to be answered in time on any machine
    source = LivePrometheus(PrometheusSettings(url=proxy.url, timeout=timeout))
    there = Host(shipped, proxy.url, now)
    began = time.monotonic()
    answers, problems, state = measure(
        shipped, dict.fromkeys(own_signals(shipped), WINDOWS), [there.container()], source, there.at
    )
    assert time.monotonic() - began < 2 * timeout.total_seconds()
    missing = {name: answer.missing for name, answer in answers.items()}
    assert missing == {
        "gpu_utilization": None,
        "cpu_usage": Missing.SOURCE_DOWN,
        "network_io": Missing.SOURCE_DOWN,
    }
    assert [problem.code for problem in problems] == ["source_down"]
    assert (state.up, len(proxy.requests)) == (False, 2)
    source.close()
