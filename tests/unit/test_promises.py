"""The promises, over the whole pure core and the real ledger: whatever fails, in whatever order, they hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01_policy.config.load import load
from ds01_policy.evaluate import evaluate
from ds01_policy.exemptions import Exemption
from ds01_policy.ledger import Ledger
from ds01_policy.model import (
    Action,
    Answer,
    Disposition,
    HeldBy,
    History,
    KeepAlive,
    Kind,
    Missing,
    Mode,
    Outcome,
    Plan,
    Snapshot,
    Spell,
    Status,
)
from ds01_policy.plan import make_plan
from ds01_policy.policy import Policy
from ds01_policy.rules import Selector
from ds01_policy.scenario import NOON, Scenario, scenario

IDLE = {"gpu": "0x180", "cpu": "0x180", "network": "0x180"}


@pytest.fixture(scope="module")
def policy() -> Policy:
    shipped = load(None, unix_group=lambda _: None)
    return replace(shipped, settings=replace(shipped.settings, mode=Mode.ENFORCE))


def series(draw: Any, busy: str) -> str:
    """Draw three hours in pieces, quiet or busy."""
    minutes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=6))
    values = [draw(st.sampled_from(["0", "4", busy])) for _ in minutes]
    return " ".join(f"{value}x{length}" for value, length in zip(values, minutes, strict=True)) + " 0x60"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_deleting_samples_never_makes_a_container_stoppable(policy: Policy, data: st.DataObject) -> None:
    """What is not due with all its samples is not due with fewer, whichever are lost.

    Two losses are invisible by design and left out: the newest moments of a counter, which a healthy series may show
    late as well, and an even thinning of every series of a metric, which is a slower scrape.
    """
    draw = data.draw
    row = {
        "containers": {
            "train": {
                "gpus": ["a", "b"],
                "gpu": series(draw, "90"),
                "cpu": series(draw, "50"),
                "network": series(draw, "9000000"),
            },
            "other": {"gpus": ["c"], "gpu": series(draw, "60"), "cpu": series(draw, "1.5"), "network": "0x180"},
        }
    }
    built = scenario(policy, row)
    due = {verdict.container.name for verdict in evaluate(policy, built.snapshot).verdicts if verdict.kind is Kind.ACT}
    thinned = {}
    for name, (answer,) in built.snapshot.answers.items():
        late = NOON.timestamp() - max(1.5 * answer.spacing_s, answer.lag_s)
        losses = draw(st.lists(st.tuples(st.integers(0, 360), st.integers(1, 60)), max_size=5))
        kept = {
            key: tuple(
                sample
                for index, sample in enumerate(samples)
                if (name != "gpu_utilization" and sample[0] > late)
                or not any(start <= index < start + length for start, length in losses)
            )
            for key, samples in answer.series.items()
        }
        gone = draw(st.sets(st.sampled_from(sorted(kept, key=str)), max_size=1)) if kept else set()
        thinned[name] = (replace(answer, series={key: value for key, value in kept.items() if key not in gone}),)
    after = evaluate(policy, replace(built.snapshot, answers=thinned))
    assert {verdict.container.name for verdict in after.verdicts if verdict.kind is Kind.ACT} <= due


TICK_S = 300


def sampled_here(answer: Answer) -> Answer:
    """Let this host have looked every five minutes at what Prometheus saw every thirty seconds."""
    looks = tuple(NOON.timestamp() - TICK_S * number for number in range(35, -1, -1))
    series = {key: tuple(one for one in samples if one[0] in looks) for key, samples in answer.series.items()}
    return Answer("local", series, TICK_S, TICK_S, looks=looks)


def long_pieces(draw: Any, busy: str) -> str:
    """Draw three hours and more in pieces of at least six minutes: no tick misses one."""
    minutes = draw(st.lists(st.integers(6, 70), min_size=1, max_size=6))
    values = [draw(st.sampled_from(["0", "0", "4", busy])) for _ in minutes]
    end = draw(st.sampled_from(["0x60", "0x70", "0x45", "0x6"]))
    pieces = " ".join(f"{value}x{length}" for value, length in zip(values, minutes, strict=True))
    return f"0x180 {pieces} {end}"


def thin(draw: Any, answer: Answer, *, newest_stay: bool) -> Answer:
    """Lose stretches of samples, or all of one key's."""
    late = NOON.timestamp() - max(1.5 * answer.spacing_s, answer.lag_s) if newest_stay else float("inf")
    losses = draw(st.lists(st.tuples(st.integers(0, 600), st.integers(1, 120)), max_size=5))
    kept = {
        key: tuple(
            sample
            for index, sample in enumerate(samples)
            if sample[0] > late or not any(start <= index % 601 < start + length for start, length in losses)
        )
        for key, samples in answer.series.items()
    }
    gone = draw(st.sets(st.sampled_from(sorted(kept, key=str)), max_size=2)) if kept else set()
    return replace(answer, series={key: value for key, value in kept.items() if key not in gone})


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_losing_samples_of_either_source_never_makes_a_container_stoppable(policy: Policy, data: st.DataObject) -> None:
    """Both sources saw the same; whatever is lost of Prometheus, of this host's own samples or of both, only protects.

    Only protects, that is, from what neither source proves alone: for a while after work ended, a look taken during it
    may speak against Prometheus, which saw the end. Where that look is lost, Prometheus' word stands alone. The newest
    moments of a counter in Prometheus stay, as above; of this host's own even those may go.
    """
    draw = data.draw
    row = {
        "containers": {
            "train": {
                "gpus": ["a", "b"],
                "gpu": long_pieces(draw, "90"),
                "cpu": long_pieces(draw, "50"),
                "network": "0x180",
            },
            "other": {"gpus": ["c"], "gpu": long_pieces(draw, "60"), "cpu": "0x180", "network": "0x180"},
        }
    }
    built = scenario(policy, row)
    whole = {name: (answer, sampled_here(answer)) for name, (answer,) in built.snapshot.answers.items()}
    due = names_due(policy, replace(built.snapshot, answers=whole))
    for alone in (0, 1):
        answers = {name: (both[alone],) for name, both in whole.items()}
        due |= names_due(policy, replace(built.snapshot, answers=answers))
    thinned = {
        name: (
            thin(draw, ours, newest_stay=name != "gpu_utilization"),
            thin(draw, here, newest_stay=False),
        )
        for name, (ours, here) in whole.items()
    }
    assert names_due(policy, replace(built.snapshot, answers=thinned)) <= due
    outage = {name: (Answer("prometheus", missing=Missing.SOURCE_DOWN), here) for name, (_, here) in thinned.items()}
    assert names_due(policy, replace(built.snapshot, answers=outage)) <= due


def names_due(policy: Policy, snapshot: Snapshot) -> set[str]:
    return {verdict.container.name for verdict in evaluate(policy, snapshot).verdicts if verdict.kind is Kind.ACT}


def test_this_host_alone_finds_what_both_would(policy: Policy) -> None:
    """The property above is not held by never acting: an outage leaves an idle container due, and a busy one not."""
    row = {"containers": {"idle": IDLE, "busy": {"gpus": ["b"], **IDLE, "gpu": "60x180"}}}
    built = scenario(policy, row)
    here = {name: (sampled_here(answer),) for name, (answer,) in built.snapshot.answers.items()}
    assert names_due(policy, replace(built.snapshot, answers=here)) == {"idle"}


def enforced(policy: Policy, snapshot: Snapshot, history: History, mode: Mode | None = None) -> set[str]:
    """Name what would really be stopped or removed."""
    plan = make_plan(policy, snapshot, evaluate(policy, snapshot), history, mode)
    return {decision.container.name for decision in plan.decisions if decision.enforced and decision.destructive}


GUARDS = (
    "infrastructure", "exemption", "keep_alive", "unreadable", "young", "ledger", "breaker", "observe", "warn",
    "no_budget", "unwarned", "early", "unclear", "outage",
)  # fmt: skip


def guarded(guard: str, policy: Policy, built: Scenario) -> tuple[Policy, Snapshot, History]:  # noqa: C901, PLR0912  one case a guard
    """Apply one guard to the container called `train`."""
    snapshot, history = built.snapshot, built.history
    train = next(container for container in snapshot.containers if container.name == "train")
    rest = tuple(container for container in snapshot.containers if container.name != "train")
    at = snapshot.at
    spells = dict(history.spells)
    mine = (train.id, "idle-gpu")
    match guard:
        case "infrastructure":
            train = replace(train, infrastructure=True)
        case "exemption":
            held = Exemption((Selector("name", ("train",)),), ("*",), "r", "admin", at + timedelta(days=1))
            policy = replace(policy, exemptions=(held,))
        case "keep_alive":
            train = replace(train, keep_alive=KeepAlive(at - timedelta(hours=1)))
        case "unreadable":
            train = replace(train, keep_alive_unreadable="timed out")
        case "young":
            train = replace(train, started_at=at - timedelta(minutes=20), running_since=at - timedelta(minutes=20))
        case "ledger":
            history = replace(history, writable=False)
        case "breaker":
            history = replace(history, breaker_since=at - timedelta(minutes=30))
        case "observe" | "warn":
            policy = replace(policy, settings=replace(policy.settings, mode=Mode(guard)))
        case "no_budget":
            policy = replace(
                policy, settings=replace(policy.settings, budget=replace(policy.settings.budget, per_run=0))
            )
        case "unwarned":
            spells.pop(mine, None)
            history = replace(history, spells=spells)
        case "early":
            if mine in spells:
                spells[mine] = replace(spells[mine], warned_at=at - timedelta(minutes=1))
            history = replace(history, spells=spells)
        case "unclear":
            train = replace(train, gpus=replace(train.gpus, unclear="privileged"))
        case "outage":
            snapshot = replace(snapshot, answers=dict.fromkeys(snapshot.answers, (Answer("prometheus"),)))
    return policy, replace(snapshot, containers=(train, *rest)), history


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.sampled_from(GUARDS), min_size=1, max_size=4, unique=True))
def test_a_guard_never_strengthens_a_decision(policy: Policy, guards: list[str]) -> None:
    """Each guard that comes on top leaves `train` no more stoppable than it was; any one of them protects it."""
    row = {
        "containers": {
            "train": {"gpus": ["a"], **IDLE, "warned": {"idle-gpu": "25m"}},
            "other": {"gpus": ["b"], **IDLE, "gpu": "90x180"} if "breaker" not in guards else {"gpus": ["b"], **IDLE},
        }
    }
    built = scenario(policy, row)
    assert enforced(policy, built.snapshot, built.history) == {"train"}
    for guard in guards:
        policy, snapshot, history = guarded(guard, policy, built)
        built = Scenario(snapshot, history)
        assert "train" not in enforced(policy, snapshot, history), guard


@dataclass
class Life:
    """What really happened to one container, beside what the ledger believes."""

    started: Any
    warnings: list[Any] = field(default_factory=list)  # when a real warning of mode enforce really went out


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["quiet", "quiet", "quiet", "quiet", "works", "outage", "restarts", "kept"]),
        st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.WARN, Mode.OBSERVE]),
        st.sampled_from(["sent", "sent", "unreached", "killed before", "killed after", "failed"]),
        st.sampled_from([1, 5, 5, 5, 5, 11, 25, 90]),
    ),
    min_size=4,
    max_size=14,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(events=EVENTS)
def test_no_order_of_faults_yields_a_stop_without_notice(
    policy: Policy, tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, Mode, str, int]]
) -> None:
    """Whenever a stop is let through, a real warning went out in this very life, at least the notice ago."""
    notice = timedelta(minutes=10)
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    at, life = NOON, Life(NOON - timedelta(hours=3))
    for event, mode, sending, minutes in events:
        at += timedelta(minutes=minutes)
        if event == "restarts":
            life = Life(at - timedelta(hours=2))  # long enough ago to be judged: the hardest case
        words = {**IDLE, "up": f"{int((at - life.started).total_seconds())}s"}
        if event == "works":
            words["gpu"] = "0x170 90x10"
        if event == "kept":
            words["keep_alive"] = "1h"
        built = scenario(
            policy, {"at": at.isoformat(), "down": ["gpu"] if event == "outage" else [], "containers": {"train": words}}
        )
        with Ledger.open(path) as ledger:
            ledger.begin(at, mode, "sha256:x")
            history = ledger.history()
            evaluation = evaluate(policy, built.snapshot)
            plan = make_plan(policy, built.snapshot, evaluation, history, mode)
            ledger.record(built.snapshot, evaluation, plan)
            simulated = [one for one in plan.decisions if one.actions == (Action.WARN,) and one.held_by is HeldBy.MODE]
            ledger.simulate_warnings(simulated, at)
            stops = [one for one in plan.decisions if one.enforced and Action.STOP in one.actions]
            assert not stops or mode is Mode.ENFORCE
            assert not stops or event in ("quiet", "restarts")
            for _ in stops:
                assert any(at - sent >= notice for sent in life.warnings), "stopped without notice"
            _send(ledger, plan, life, sending, at)


def _send(ledger: Ledger, plan: Plan, life: Life, sending: str, at: Any) -> None:
    for decision in plan.decisions:
        if not decision.enforced or decision.actions != (Action.WARN,):
            continue
        ledger.intend(decision, Action.WARN, at)
        if sending in ("sent", "unreached", "killed after") and decision.mode is Mode.ENFORCE:
            life.warnings.append(at)
        if sending in ("sent", "unreached", "failed"):
            status = Status.FAILED if sending == "failed" else Status.DONE
            outcome = Outcome(decision.id, Action.WARN, status, delivered=sending == "sent", at=at)
            ledger.conclude(decision, outcome, at)


def test_the_property_above_can_fail(policy: Policy) -> None:
    """A ledger that believed in a warning nobody sent would let the stop through: the guard is what holds it."""
    built = scenario(policy, {"containers": {"train": IDLE}})
    train = built.snapshot.containers[0]
    forged = Spell(
        train.id, train.started_at, "idle-gpu", NOON, NOON, NOON - timedelta(hours=1), Mode.ENFORCE, delivered=True
    )
    assert enforced(policy, built.snapshot, History()) == set()
    assert enforced(policy, built.snapshot, History({(train.id, "idle-gpu"): forged})) == {"train"}
    plan = make_plan(policy, built.snapshot, evaluate(policy, built.snapshot), History())
    assert {one.disposition for one in plan.decisions if one.destructive} == {Disposition.SUPPRESS}
