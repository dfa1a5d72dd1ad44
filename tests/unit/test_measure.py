"""Asking for all signals of a tick: how often, for what, and what a failure costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fault_prometheus import hang, respond, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.identity import Identity
from ds01_policy.limits import Limits
from ds01_policy.model import Container, GpuClaim, GpuRef, Missing, Problem, SourceState, State
from ds01_policy.observe.envelope import BadQuery, SourceDown, read_data
from ds01_policy.observe.measure import measure
from ds01_policy.observe.ports import Json, QueryResult, SourceError
from ds01_policy.observe.prometheus import LivePrometheus
from ds01_policy.policy import Policy, PrometheusSettings, Settings
from ds01_policy.signals import Frozen, Query, Signal, Witness
from ds01_policy.units import Unit

AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
NOW = AT.timestamp()
HOUR, MINUTES = timedelta(hours=1), timedelta(minutes=5)
TRAIN, OTHER = "a1" * 32, "b2" * 32

SIGNALS = [
    Signal(
        "gpu", "gpu", Unit.RATIO, "gauge", "gpu",
        (
            Query('UTIL{UUID=~"{{ uuids }}"}[{{ range }}]', devices="whole", scale=0.01, maximum=100),
            Query('ENGINE{UUID=~"{{ uuids }}"}[{{ range }}]', devices="instance", maximum=1.5),
        ),
        ceiling=1.0,
    ),
    Signal(
        "cpu", "cpu", Unit.CORES, "counter", "container",
        (Query('CPU{id=~"{{ ids }}"} {{ offset }}', time='timestamp(CPU{id=~"{{ ids }}"} {{ offset }})'),),
        lag_s=90,
    ),
    Signal(
        "net", "network", Unit.BYTES_PER_S, "counter", "container",
        (Query("NET {{ offset }}", time="timestamp(NET {{ offset }})"),),
        not_on_network=frozenset({"none"}),
    ),
]  # fmt: skip
SETTINGS = PrometheusSettings()
QUESTIONS = {signal.name: frozenset({HOUR, MINUTES}) for signal in SIGNALS}


def policy(*signals: Signal, prometheus: PrometheusSettings | None = SETTINGS) -> Policy:
    nobody = Identity()
    return Policy(
        Settings(prometheus=prometheus),
        {signal.name: signal for signal in signals or SIGNALS},
        Limits({}, "student"),
        nobody,
        (),
    )


def container(id_: str = TRAIN, *refs: GpuRef, network: str = "bridge") -> Container:
    return Container(
        id_, "train", "image", State.RUNNING, AT - 2 * HOUR, started_at=AT - 2 * HOUR,
        gpus=GpuClaim(wants=True, refs=refs or (GpuRef("GPU-a"),)), network_mode=network,
    )  # fmt: skip


@dataclass
class Fake:
    """Answers each query by the metric it begins with."""

    answers: dict[str, QueryResult | SourceError]
    asked: list[str] = field(default_factory=list)

    def query(self, promql: str, at: datetime) -> QueryResult:
        assert at == AT
        self.asked.append(promql)
        answer = next(answer for metric, answer in self.answers.items() if metric in promql)
        if isinstance(answer, SourceError):
            raise answer
        return answer


def gauge(*values: float, every: float = 30, **labels: str) -> Json:
    first = NOW - (len(values) - 1) * every
    samples = [[first + number * every, str(value)] for number, value in enumerate(values)]
    return {"metric": {"UUID": "GPU-a", **labels}, "values": samples}


def counter(container: str, **values: float) -> list[Json]:
    return [
        {"metric": {"id": f"/docker/{container}", "ds01_ago": ago[1:], "ds01_part": part}, "value": [NOW, str(number)]}
        for ago, value in values.items()
        for part, number in (("value", value), ("time", NOW - float(ago[1:])))
    ]


def matrix(*rows: Json) -> QueryResult:
    return QueryResult("matrix", rows)


def vector(*rows: Json) -> QueryResult:
    return QueryResult("vector", rows)


def good() -> dict[str, QueryResult | SourceError]:
    return {
        "UTIL": matrix(gauge(*[50] * 130)),
        "ENGINE": matrix(gauge(*[0.5] * 130, GPU_I_ID="7")),
        "CPU": vector(*counter(TRAIN, _0=100, _300=90, _3600=10)),
        "NET": vector(*counter(TRAIN, _0=100, _300=90, _3600=10)),
    }


def ask(
    fake: Fake, containers: Iterable[Container] = (container(),), questions: Any = None, rules: Policy | None = None
) -> tuple[dict[str, Any], list[Problem], SourceState]:
    return measure(rules or policy(), QUESTIONS if questions is None else questions, containers, fake, AT)


class TestWhatIsAsked:
    def test_a_tick_asks_once_for_each_query_however_many_containers_and_windows(self) -> None:
        """Three signals of a hundred containers over two windows: three queries."""
        fake = Fake(good())
        crowd = [container(f"{number:064x}", GpuRef(f"GPU-{number:x}")) for number in range(100)]
        answers, _, state = ask(fake, [container(), *crowd])
        assert len(fake.asked) == 3
        assert set(answers) == {"gpu", "cpu", "net"}
        assert state == SourceState(up=True, extra={"queries": 3})

    def test_answers_come_in_the_signals_unit(self) -> None:
        """Samples by GPU and by container id, with how often they come and how late they may be."""
        answers, problems, _ = ask(Fake(good()))
        assert answers["gpu"].series[GpuRef("GPU-a")][-1] == (NOW, 0.5)
        assert answers["cpu"].series == {TRAIN: ((NOW - 3600, 10), (NOW - 300, 90), (NOW, 100))}
        assert [(answers[name].spacing_s, answers[name].lag_s) for name in ("gpu", "cpu")] == [(30, 0), (30, 90)]
        assert [answer.source for answer in answers.values()] == ["prometheus"] * 3
        assert not problems

    @pytest.mark.parametrize(
        ("refs", "metrics"),
        [
            ([GpuRef("GPU-a")], ["UTIL"]),
            ([GpuRef("GPU-a", 7)], ["ENGINE"]),
            ([GpuRef("GPU-b"), GpuRef("GPU-a", 7)], ["UTIL", "ENGINE"]),
        ],
        ids=["whole GPUs", "instances", "both"],
    )
    def test_only_the_kinds_of_gpu_that_are_held_are_asked_about(self, refs: list[GpuRef], metrics: list[str]) -> None:
        """A host without MIG is not asked for MIG metrics, and the other way round."""
        fake = Fake(good())
        ask(fake, [container(TRAIN, *refs)], {"gpu": frozenset({HOUR})})
        assert [promql.partition("{")[0] for promql in fake.asked] == metrics
        assert 'UUID=~"GPU-a"' in fake.asked[-1]

    @pytest.mark.parametrize(
        ("containers", "questions"),
        [
            ([], QUESTIONS),
            ([container()], {}),
            ([container()], {"gpu": frozenset()}),
            ([container(network="none")], {"net": frozenset({HOUR})}),
            ([replace(container(), gpus=GpuClaim(wants=True, unclear="privileged"))], {"gpu": frozenset({HOUR})}),
        ],
        ids=["no container", "no question", "no window", "no network", "no GPU that is known"],
    )
    def test_nothing_is_asked_that_nobody_needs(self, containers: list[Container], questions: Any) -> None:
        """And what is not asked is not answered, nor a problem."""
        fake = Fake({})
        answers, problems, state = ask(fake, containers, questions)
        assert (answers, problems, fake.asked) == ({}, [], [])
        assert state == SourceState(up=True, detail="nothing had to be asked", extra={"queries": 0})

    def test_it_works_without_settings_of_its_own(self) -> None:
        """A recording may be read under a policy that switches Prometheus off."""
        answers, _, _ = ask(Fake(good()), rules=policy(prometheus=None))
        assert answers["gpu"].spacing_s == 30


# What speaks against the signal gpu: one in its unit, one in watts from a counter, and one that tells frozen exporters.
WITNESSED = (
    replace(
        SIGNALS[0],
        witnesses=(Witness("engine"), Witness("power", above=200, explained_by=0.05)),
        frozen=Frozen('CHANGES{UUID=~"{{ uuids }}"}[{{ range }}]', counter="power"),
    ),
    *SIGNALS[1:],
    Signal(
        "engine", "engine", Unit.RATIO, "gauge", "gpu",
        (Query('WHOLE{UUID=~"{{ uuids }}"}[{{ range }}]', devices="whole", maximum=1.5),), ceiling=1.0,
    ),
    Signal(
        "power", "power", Unit.WATTS, "counter", "gpu",
        (Query("ENERGY {{ offset }}", time="timestamp(ENERGY {{ offset }})", devices="parent", scale=0.001),),
    ),
)  # fmt: skip
RULES = policy(*WITNESSED)


def energy(uuid: str = "GPU-a", **values: float) -> list[Json]:
    rows = counter(TRAIN, **values)
    return [{**row, "metric": {**row["metric"], "UUID": uuid}} for row in rows]


def changed(**windows: float) -> list[Json]:
    """Count changes of GPU-a over so many seconds."""
    return [
        {"metric": {"UUID": "GPU-a", "ds01_ago": window[1:]}, "value": [NOW, str(times)]}
        for window, times in windows.items()
    ]


def beside(**other: QueryResult | SourceError) -> dict[str, QueryResult | SourceError]:
    """Answer witnesses of an idle GPU whose exporter lives, or what is given instead."""
    witnesses: dict[str, QueryResult | SourceError] = {
        "WHOLE": matrix(gauge(*[0] * 130)),
        "ENERGY": vector(*energy(_0=90_000, _300=60_000, _3600=0)),
        "CHANGES": vector(*changed(_900=30, _300=10)),
    }
    return {**good(), **witnesses, **other}


class TestWitnesses:
    def test_they_are_asked_after_all_signals_once_each(self) -> None:
        """However many containers, GPUs and windows: two witnesses and frozen exporters are three queries more."""
        fake = Fake(beside())
        crowd = [container(f"{number:064x}", GpuRef(f"GPU-{number:x}")) for number in range(50)]
        answers, problems, state = ask(fake, [container(), *crowd], rules=RULES)
        asked = [next(name for name in beside() if name in promql) for promql in fake.asked]
        assert asked == ["UTIL", "CPU", "NET", "WHOLE", "ENERGY", "CHANGES"]
        assert set(answers) == {"gpu", "cpu", "net", "engine", "power"}
        assert (problems, state) == ([], SourceState(up=True, extra={"queries": 6}))
        assert 'CHANGES{UUID=~"GPU-0|GPU-1|' not in fake.asked[-1], "only GPUs that have an answer can be frozen"
        assert '"GPU-a"}[300s], "ds01_ago", "300"' in fake.asked[-1]
        assert '"GPU-a"}[900s], "ds01_ago", "900"' in fake.asked[-1]

    def test_they_are_asked_over_the_windows_of_who_names_them(self) -> None:
        """A counter's instants are those windows, and the last minutes that tell whether it stands still."""
        fake = Fake(beside())
        ask(fake, questions={"gpu": frozenset({HOUR})}, rules=RULES)
        power = next(promql for promql in fake.asked if "ENERGY" in promql)
        assert "offset 3600s" in power
        assert "offset 300s" in power
        assert "WHOLE" in fake.asked[1]
        assert "[3900s]" in fake.asked[1]

    def test_a_signal_that_rules_ask_and_others_name_is_asked_once(self) -> None:
        """Over the windows of both."""
        fake = Fake(beside())
        answers, _, _ = ask(fake, questions={"gpu": frozenset({HOUR}), "power": frozenset({2 * MINUTES})}, rules=RULES)
        (power,) = [promql for promql in fake.asked if "ENERGY" in promql]
        assert all(f"offset {seconds}s" in power for seconds in (300, 600, 3600))
        assert "power" in answers

    def test_an_instance_is_told_of_its_parent_and_its_siblings_are_kept(self) -> None:
        """The energy of the whole GPU under the instance's own name; siblings beside, of the same GPU only."""
        rows = [
            gauge(*[0.1] * 130, GPU_I_ID=instance, UUID=uuid)
            for uuid, instance in (("GPU-a", "7"), ("GPU-a", "8"), ("GPU-b", "7"))
        ]
        fake = Fake(beside(ENGINE=matrix(*rows)))
        ref = GpuRef("GPU-a", 7)
        answers, problems, _ = ask(fake, [container(TRAIN, ref)], {"gpu": frozenset({HOUR})}, RULES)
        assert set(answers["power"].series) == {ref}
        assert answers["power"].series[ref][-1] == (NOW, 90.0)
        assert set(answers["gpu"].series) == {ref}
        assert set(answers["gpu"].beside) == {GpuRef("GPU-a", 8)}
        assert not problems
        assert not any("WHOLE" in promql for promql in fake.asked), "no whole GPU is held"

    def test_those_that_are_not_exported_are_silent(self) -> None:
        """Older exporters have no profiling metrics: no problem, and nothing is weakened."""
        fake = Fake(beside(WHOLE=matrix(), ENERGY=vector(), CHANGES=vector()))
        answers, problems, state = ask(fake, rules=RULES)
        assert (problems, state.up) == ([], True)
        assert (answers["engine"].series, answers["power"].series, answers["gpu"].frozen) == ({}, {}, {})

    def test_how_often_they_are_sampled_is_not_reported_again(self) -> None:
        """The signal itself has said it."""
        fake = Fake(beside(UTIL=matrix(gauge(*[0] * 100, every=15)), WHOLE=matrix(gauge(*[0] * 100, every=15))))
        _, problems, _ = ask(fake, questions={"gpu": frozenset({HOUR})}, rules=RULES)
        assert [problem.code for problem in problems] == ["scrape_interval"]

    @pytest.mark.parametrize("value", [float("nan"), 9.2e18, -1, 140737488355328])
    def test_their_impossible_values_are_dropped_and_counted(self, value: float) -> None:
        """Gauge and counter alike; the signal keeps its answer."""
        capped = [
            replace(one, queries=(replace(one.queries[0], maximum=1e14),)) if one.name == "power" else one
            for one in WITNESSED
        ]
        fake = Fake(beside(WHOLE=matrix(gauge(*[value] * 9)), ENERGY=vector(*energy(_0=value, _300=value))))
        answers, problems, _ = ask(fake, questions={"gpu": frozenset({HOUR})}, rules=policy(*capped))
        assert not answers["engine"].series[GpuRef("GPU-a")]
        assert (answers["engine"].dropped, answers["power"].dropped, answers["power"].series) == (9, 2, {})
        assert [problem.code for problem in problems] == ["impossible_values"] * 2
        assert answers["gpu"].series

    @pytest.mark.parametrize(
        "error", [BadQuery("parse error"), SourceError("warns"), SourceDown("gave no answer in 10s")]
    )
    @pytest.mark.parametrize("query", ["WHOLE", "ENERGY", "CHANGES"])
    def test_one_that_fails_costs_no_signal_its_answer(self, query: str, error: SourceError) -> None:
        """It is reported, the source is not called down, and nobody waits for a second timeout."""
        fake = Fake(beside(**{query: error}))
        answers, problems, state = ask(fake, rules=RULES)
        assert [name for name in ("gpu", "cpu", "net") if answers[name].missing] == []
        assert [problem.code for problem in problems] == ["query_failed"]
        assert problems[0].detail.startswith("witness ")
        assert str(error) in problems[0].detail
        assert state.up
        if isinstance(error, SourceDown):
            assert query in fake.asked[-1], "nothing is asked after a timeout"

    def test_a_source_that_is_down_is_not_asked_for_witnesses(self) -> None:
        """One timeout a tick."""
        fake = Fake(beside(CPU=SourceDown("gone")))
        answers, problems, _ = ask(fake, rules=RULES)
        assert set(answers) == {"gpu", "cpu", "net"}
        assert [problem.code for problem in problems] == ["source_down"]
        assert len(fake.asked) == 2

    def test_changes_of_another_shape_are_a_failure(self) -> None:
        """A range selector as it stands, without `changes`."""
        _, problems, _ = ask(Fake(beside(CHANGES=matrix())), rules=RULES)
        assert "`changes` answers a matrix" in problems[0].detail


RISING, FLAT = energy(_0=90_000, _300=60_000), energy(_0=60_000, _300=60_000)
FROZEN: dict[str, tuple[QueryResult | SourceError, list[Json], str]] = {
    "all stands still for a quarter of an hour": (vector(*changed(_900=0, _300=0)), FLAT, "15m"),
    "and the counter is not exported": (vector(*changed(_900=0, _300=0)), [], "15m"),
    "but the counter rises": (vector(*changed(_900=0, _300=0)), RISING, ""),
    "only the last minutes stand still": (vector(*changed(_900=9, _300=0)), FLAT, "5m"),
    "only the counter stands still": (vector(*changed(_900=30, _300=9)), FLAT, ""),
    "the counter alone, and of the rest nothing is known": (vector(), FLAT, "5m"),
    "the counter alone, and the rest could not be asked": (BadQuery("refused"), FLAT, "5m"),
    "nothing is known": (vector(), [], ""),
    "the counter was not sampled through the last minutes": (vector(), FLAT[:2], ""),
    "the counter began anew": (vector(), energy(_0=10_000, _300=60_000), ""),
    "another GPU stands still": (
        vector({"metric": {"UUID": "GPU-z", "ds01_ago": "900"}, "value": [NOW, "0"]}), RISING, "",
    ),
    "it is not known how often something changed": (vector(*changed(_900=float("nan"))), RISING, ""),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "counted", "since"), FROZEN.values(), ids=FROZEN)
@pytest.mark.parametrize("ref", [GpuRef("GPU-a"), GpuRef("GPU-a", 7)], ids=["whole", "instance"])
def test_an_exporter_that_repeats_old_values_is_found_out(
    changes: QueryResult | SourceError, counted: list[Json], since: str, ref: GpuRef
) -> None:
    """What never stands still has stood still, and nothing else has moved: its word is not taken, and that is said."""
    fake = Fake(beside(CHANGES=changes, ENERGY=vector(*counted)))
    answers, problems, _ = ask(fake, [container(TRAIN, ref)], {"gpu": frozenset({HOUR})}, RULES)
    codes = [problem.code for problem in problems if problem.code != "query_failed"]
    assert codes == (["exporter_frozen"] if since else [])
    words = {"GPU-a": f"exporter frozen: nothing of GPU-a has changed for {since}, although its "} if since else {}
    for answer in answers.values():
        assert {uuid: text[: len(words.get(uuid, ""))] for uuid, text in answer.frozen.items()} == words


def test_a_counter_stands_still_for_its_own_gpu_only() -> None:
    """One exporter lost one GPU of two; and the counter itself is not believed there, whether a witness or not."""
    signal = replace(WITNESSED[0], witnesses=())
    rows = [*energy(_0=60_000, _300=60_000), *energy("GPU-b", _0=90_000, _300=60_000)]
    fake = Fake(
        beside(UTIL=matrix(gauge(*[0] * 130), gauge(*[0] * 130, UUID="GPU-b")), ENERGY=vector(*rows), CHANGES=vector())
    )
    held = [container(TRAIN, GpuRef("GPU-a"), GpuRef("GPU-b"))]
    questions = {"gpu": frozenset({HOUR}), "power": frozenset({HOUR})}
    answers, _, _ = ask(fake, held, questions, policy(signal, *WITNESSED[1:]))
    assert [set(answers[name].frozen) for name in ("gpu", "power")] == [{"GPU-a"}, {"GPU-a"}]


def test_gpus_that_freeze_together_are_one_problem() -> None:
    """Eight GPUs of one exporter: some are named, the rest counted."""
    uuids = [f"GPU-{number}" for number in range(8)]
    stopped = [{"metric": {"UUID": uuid, "ds01_ago": "900"}, "value": [NOW, "0"]} for uuid in uuids]
    rows = [gauge(*[0] * 130, UUID=uuid) for uuid in uuids]
    fake = Fake(beside(UTIL=matrix(*rows), CHANGES=vector(*stopped)))
    held = [container(f"{number:064x}", GpuRef(uuid)) for number, uuid in enumerate(uuids)]
    answers, problems, _ = ask(fake, held, {"gpu": frozenset({HOUR})}, RULES)
    assert set(answers["gpu"].frozen) == set(uuids)
    assert [problem.code for problem in problems] == ["exporter_frozen"]
    assert "nothing of GPU-0, GPU-1, GPU-2, GPU-3 and 4 more GPUs has changed for 15m" in problems[0].detail
    assert "restart dcgm-exporter" in problems[0].detail


SPACING: dict[str, tuple[list[Json], float, str | None]] = {
    "as configured": ([gauge(*[0] * 100)], 30, None),
    "twice as often": ([gauge(*[0] * 100, every=15)], 15, "is sampled every 15s, not every 30s: 15s is used"),
    "half as often": ([gauge(*[0] * 100, every=60)], 60, "is sampled every 60s, not every 30s: 60s is used"),
    "nearly as configured": ([gauge(*[0] * 100, every=35)], 35, None),
    "so rarely that waking would be missed": (
        [gauge(*[0] * 100, every=300)],
        75,
        "every 300s, not every 30s: 75s is used",
    ),
    "two lonely samples": ([gauge(0, 0, every=1800)], 30, None),
    "one GPU of two with holes": ([gauge(*[0] * 100), gauge(*[0] * 10, every=300, UUID="GPU-b")], 30, None),
}


@pytest.mark.parametrize(("rows", "spacing", "words"), SPACING.values(), ids=SPACING)
def test_a_wrong_scrape_interval_is_neither_lenient_nor_blinding(
    rows: list[Json], spacing: float, words: str | None
) -> None:
    """The data teach how long a sample stands, within bounds; the admin is told what settings.yaml has wrong."""
    answers, problems, _ = ask(Fake({"UTIL": matrix(*rows)}), questions={"gpu": frozenset({HOUR, MINUTES})})
    assert answers["gpu"].spacing_s == pytest.approx(spacing)
    assert [problem.code for problem in problems] == ([] if words is None else ["scrape_interval"])
    assert all(words in problem.detail for problem in problems if words)


def test_a_scrape_interval_is_reported_once_a_signal_however_many_kinds_of_gpu() -> None:
    """Whole GPUs and instances come from one exporter; the stricter of two spacings holds."""
    rows = {"UTIL": matrix(gauge(*[0] * 100, every=15)), "ENGINE": matrix(gauge(*[0] * 100, every=60, GPU_I_ID="7"))}
    both = [container(TRAIN, GpuRef("GPU-a"), GpuRef("GPU-a", 7))]
    answers, problems, _ = ask(Fake(dict(rows)), both, {"gpu": frozenset({HOUR})})
    assert answers["gpu"].spacing_s == 15
    assert [problem.code for problem in problems] == ["scrape_interval"]


EMPTY: dict[str, tuple[str, QueryResult, Missing, str, str]] = {
    "no series": ("gpu", matrix(), Missing.NO_SERIES, "no_series", "signal gpu (whole GPUs): Prometheus has no series"),
    "no counters": ("cpu", vector(), Missing.NO_SERIES, "no_series", "is cAdvisor scraped"),
    "a renamed label": (
        "gpu", matrix({"metric": {"uuid": "GPU-a"}, "values": [[NOW, "0"]]}), Missing.NOT_JOINED, "join_empty",
        "1 series, but none whose label UUID names a GPU that is held",
    ),
    "other containers only": (
        "cpu", vector(*counter(OTHER, _0=1)), Missing.NOT_JOINED, "join_empty",
        "none whose label id names a container id",
    ),
    "no sample times": (
        "cpu", vector(*counter(TRAIN, _0=1)[::2]), Missing.NO_SERIES, "no_series", "see `expr` and `time`",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("signal", "result", "missing", "code", "words"), EMPTY.values(), ids=EMPTY)
def test_an_empty_answer_is_a_problem_and_never_zero(
    signal: str, result: QueryResult, missing: Missing, code: str, words: str
) -> None:
    """The reading is missing for a reason, and the admin is told what to look at."""
    answers, problems, state = ask(Fake({"": result}), questions={signal: frozenset({HOUR})})
    assert (answers[signal].series, answers[signal].missing) == ({}, missing)
    assert [problem.code for problem in problems] == [code]
    assert words in problems[0].detail
    assert state.up


def test_one_empty_kind_of_gpu_does_not_hide_the_other() -> None:
    """Whole GPUs are read although the profiling metric for instances is not exported, which is a problem."""
    fake = Fake({**good(), "ENGINE": matrix()})
    both = [container(TRAIN, GpuRef("GPU-a"), GpuRef("GPU-a", 7))]
    answers, problems, _ = ask(fake, both, {"gpu": frozenset({HOUR})})
    assert set(answers["gpu"].series) == {GpuRef("GPU-a")}
    assert answers["gpu"].missing is None
    assert [problem.detail[:28] for problem in problems] == ["signal gpu (instance GPUs): "]


def test_impossible_values_are_reported() -> None:
    """Sentinels in a metric are for the admin to look at, and no values."""
    fake = Fake({"UTIL": matrix(gauge(0, float("nan"), 9.2e18, 0, 0))})
    answers, problems, _ = ask(fake, questions={"gpu": frozenset({HOUR})})
    assert answers["gpu"].dropped == 2
    assert [(problem.code, problem.detail[:37]) for problem in problems] == [
        ("impossible_values", "signal gpu: 2 values were impossible ")
    ]


class TestFailure:
    def test_a_dead_source_is_asked_once_and_reported_once(self) -> None:
        """Waiting for every signal's timeout would take longer than the tick has."""
        fake = Fake({"": SourceDown("Prometheus at http://x gave no whole answer within 10s")})
        answers, problems, state = ask(fake)
        assert len(fake.asked) == 1
        assert {answer.missing for answer in answers.values()} == {Missing.SOURCE_DOWN}
        assert {answer.detail for answer in answers.values()} == {state.detail}
        assert [problem.code for problem in problems] == ["source_down"]
        assert (state.up, state.extra) == (False, {"queries": 1})

    def test_what_was_answered_before_it_died_counts(self) -> None:
        """All answers are of one instant, so the early ones are no worse."""
        answers, problems, state = ask(Fake({**good(), "CPU": SourceDown("gone")}))
        missing = {name: answer.missing for name, answer in answers.items()}
        assert missing == {"gpu": None, "cpu": Missing.SOURCE_DOWN, "net": Missing.SOURCE_DOWN}
        assert [problem.code for problem in problems] == ["source_down"]
        assert not state.up

    @pytest.mark.parametrize("error", [BadQuery("refused"), SourceError("warns")])
    def test_one_refused_query_costs_its_signal_only(self, error: SourceError) -> None:
        """A bad template in signals.yaml does not blind the others."""
        answers, problems, state = ask(Fake({**good(), "CPU": error}))
        assert [name for name, answer in answers.items() if answer.missing] == ["cpu"]
        assert problems == [Problem("query_failed", f"signal cpu: {error}")]
        assert state == SourceState(up=True, extra={"queries": 3})

    def test_a_source_that_answers_nothing_believable_is_down(self) -> None:
        """Warnings on every answer, or a recording of an outage, are one problem and not three."""
        fake = Fake({"": SourceError("warns about its own answer")})
        _, problems, state = ask(fake)
        assert len(fake.asked) == 3
        assert [problem.code for problem in problems] == ["source_down"]
        assert (state.up, state.detail) == (False, "warns about its own answer")

    def test_a_file_of_bad_templates_is_no_outage(self) -> None:
        """A server that refuses every query is there all the same."""
        _, problems, state = ask(Fake({"": BadQuery("parse error")}))
        assert [problem.code for problem in problems] == ["query_failed"] * 3
        assert state.up

    @pytest.mark.parametrize(
        ("name", "result", "words"),
        [("gpu", vector(), "a gauge's expr selects samples"), ("cpu", matrix(), "a counter's expr selects an instant")],
    )
    def test_an_answer_of_another_shape_names_the_template(self, name: str, result: QueryResult, words: str) -> None:
        """A range selector where an instant was needed, or the other way round, is a mistake in signals.yaml."""
        answers, problems, _ = ask(Fake({"": result}), questions={name: frozenset({HOUR})})
        assert answers[name].missing is Missing.SOURCE_DOWN
        assert words in problems[0].detail

    def test_a_template_that_cannot_be_rendered_asks_nothing(self) -> None:
        """Its signal fails, the others are asked."""
        broken = replace(SIGNALS[1], queries=(Query("{{ nonsense }}", time="x"),))
        fake = Fake(good())
        answers, problems, _ = ask(fake, rules=policy(SIGNALS[0], broken, SIGNALS[2]))
        assert [name for name, answer in answers.items() if answer.missing] == ["cpu"]
        assert "can't be rendered: 'nonsense' is undefined" in problems[0].detail
        assert len(fake.asked) == 2

    @pytest.mark.parametrize("answer", [hang, respond("", 302, location="/login"), respond("", 503)])
    def test_a_real_broken_server_ends_in_time(self, answer: Callable[[Any], None]) -> None:
        """One timeout, one reason, no matter how many signals are needed."""
        with serving(answer) as server:
            source = LivePrometheus(PrometheusSettings(url=server.url, timeout=timedelta(seconds=0.4)))
            answers, problems, state = measure(policy(), QUESTIONS, [container()], source, AT)
            assert {answer.missing for answer in answers.values()} == {Missing.SOURCE_DOWN}
            assert [problem.code for problem in problems] == ["source_down"]
            assert (state.up, source.queries) == (False, 1)
            source.close()


LABELS = st.fixed_dictionaries(
    {},
    optional={
        "UUID": st.sampled_from(["GPU-a", "GPU-b", ""]),
        "GPU_I_ID": st.sampled_from(["7", "", "-1", "x" * 99]),
        "id": st.sampled_from([f"/docker/{TRAIN}", f"/docker/{OTHER}", "/", TRAIN]),
        "ds01_ago": st.sampled_from(["0", "300", "3600", "-1", "x"]),
        "ds01_part": st.sampled_from(["value", "time", ""]),
        "job": st.sampled_from(["a", "b"]),
    },
)
VALUE = st.sampled_from(["0", "1", "50", "100", "1e300", "-1", "NaN", "+Inf", "1772452800"])
TIMES = st.lists(st.floats(NOW - 4000, NOW), max_size=12).map(sorted)
ROWS = st.lists(
    st.tuples(LABELS, TIMES.flatmap(lambda times: st.tuples(*[st.tuples(st.just(t), VALUE) for t in times])))
)


@given(ROWS, VALUE, st.sampled_from(["gpu", "cpu"]))
@settings(deadline=None)
def test_no_answer_that_is_well_formed_breaks_the_assembly(rows: Any, value: str, signal: str) -> None:
    """Whatever labels, times and numbers come, samples ascend, are finite and lie within what is possible."""
    kind = "matrix" if signal == "gpu" else "vector"
    data = {
        "resultType": kind,
        "result": [
            {"metric": labels, "values": [list(sample) for sample in samples], "value": [NOW, value]}
            for labels, samples in {frozenset(labels.items()): (labels, samples) for labels, samples in rows}.values()
        ],
    }
    answers, _, _ = ask(Fake({"": read_data(data)}), questions={signal: frozenset({HOUR, MINUTES})})
    for samples in answers[signal].series.values():
        times = [time for time, _ in samples]
        assert times == sorted(times)
        assert all(0 <= value <= (1.0 if signal == "gpu" else 1e300) for _, value in samples)
