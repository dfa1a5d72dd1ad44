"""One look at a host whose sources fail in every way, and the second look right before acting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from whole_host import AT, DIGITS, EDITOR, GPUS, HOUR, MINUTE, A, B, C, D, E, F, Host, inspect, when

from ds01_policy.config.load import load
from ds01_policy.evaluate import evaluate
from ds01_policy.exemptions import Exemption
from ds01_policy.model import Container, GpuRef, History, Mode, Snapshot, Spell, State
from ds01_policy.observe.envelope import SourceDown
from ds01_policy.observe.gpus import NoGpuStack
from ds01_policy.observe.ports import FileStat, Json, SourceError, SourceSlow
from ds01_policy.observe.snapshot import DockerDown, Observed, observe
from ds01_policy.plan import make_plan
from ds01_policy.policy import Policy
from ds01_policy.rules import Selector
from ds01_policy.tick import still_due


@pytest.fixture(scope="module")
def policy() -> Policy:
    found = load(None, unix_group=lambda _: None)
    return replace(found, settings=replace(found.settings, mode=Mode.ENFORCE))


def look(policy: Policy, host: Host, at: datetime = AT, history: History | None = None) -> Observed:
    return observe(policy, host.sources, at, history or History())


def names(observed: Observed) -> set[str]:
    return {container.name for container in observed.snapshot.containers}


def codes(observed: Observed) -> list[str]:
    return [problem.code for problem in observed.snapshot.problems if problem.code != "gpu_note"]


def kinds(policy: Policy, observed: Observed) -> dict[str, str]:
    """Tell what the idle rule finds, by container."""
    found = evaluate(policy, observed.snapshot, observed.demand).verdicts
    return {one.container.name: str(one.kind) for one in found if one.rule == "idle-gpu"}


# ── one of many ──────────────────────────────────────────────────────────────────────────────────────────────────────

ODD = inspect(B, "odd")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(None, [], id="vanished since the list: nothing to say"),
        pytest.param(SourceError("HTTP 500: stuck"), ["HTTP 500: stuck"], id="an error"),
        pytest.param(SourceSlow("no answer within 10 s"), ["no answer within 10 s"], id="no answer in time"),
        pytest.param({**ODD, "State": {}}, ["State.Status is missing"], id="no state"),
        pytest.param({**ODD, "State": {**ODD["State"], "Status": "levitating"}}, ["levitating"], id="an unknown state"),
        pytest.param({**ODD, "HostConfig": None}, ["no HostConfig"], id="no HostConfig"),
        pytest.param({**ODD, "Name": "/\x1b[2J", "Created": 3}, ["Created is 3"], id="a time that is none"),
        pytest.param({"Id": "b"}, ["without an id"], id="next to nothing"),
    ],
)
def test_one_bad_container_never_hides_the_others(
    policy: Policy, answer: Json | SourceError | None, told: list[str]
) -> None:
    """It is left alone and named; those beside it are seen and judged as ever."""
    host = Host({A: inspect(A, "first", 0), B: answer, C: inspect(C, "last", 1)})
    observed = look(policy, host)
    assert names(observed) == {"first", "last"}
    assert kinds(policy, observed) == {"first": "act", "last": "act"}
    unreadable = [one.detail for one in observed.snapshot.problems if one.code == "container_unreadable"]
    assert len(unreadable) == len(told)
    assert all(word in detail for word, detail in zip(told, unreadable, strict=True))
    assert all("left alone" in detail for detail in unreadable)


PATHS = st.sampled_from(
    [
        ("Id",), ("Name",), ("Created",), ("State",), ("Config",), ("HostConfig",), ("Mounts",), ("State", "Status"),
        ("State", "Pid"), ("State", "StartedAt"), ("State", "FinishedAt"), ("Config", "Labels"), ("Config", "Env"),
        ("Config", "Image"), ("HostConfig", "DeviceRequests"), ("HostConfig", "NetworkMode"),
        ("HostConfig", "RestartPolicy"), ("HostConfig", "Devices"), ("HostConfig", "Runtime"),
    ]
)  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("running") | st.just("all"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(path=PATHS, junk=JUNK)
def test_whatever_stands_in_one_inspect_the_other_container_is_judged_as_ever(
    policy: Policy, path: tuple[str, ...], junk: Any
) -> None:
    """No field of an answer, whatever is in it, costs more than its own container."""
    odd = inspect(B, "odd", 1)
    inner = odd
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    observed = look(policy, Host({B: odd, A: inspect(A, "train", 0)}))
    assert kinds(policy, observed)["train"] == "act"


def test_three_that_hang_end_the_asking_and_it_is_said(policy: Policy) -> None:
    """Each costs a whole timeout: after the third the tick goes on with what it has."""
    host = Host({container: inspect(container, f"c{container[0]}") for container in DIGITS})
    for number in (1, 3, 4):
        host.inspects[DIGITS[number]] = SourceSlow("no answer within 10 s")
    at = AT + timedelta(minutes=-int(AT.timestamp() // 60) % 10)  # then the list is begun at its beginning
    observed = look(policy, host, at)
    assert host.inspected == DIGITS[:5]
    assert names(observed) == {"c0", "c2"}
    assert codes(observed) == ["container_unreadable", "container_unreadable", "container_unreadable", "docker_slow"]
    assert observed.snapshot.problems[3].detail.startswith("5 more containers were not looked at")


def test_errors_that_come_at_once_do_not_end_the_asking(policy: Policy) -> None:
    """They cost no time."""
    host = Host({container: SourceError("HTTP 500") for container in DIGITS[:9]})
    host.inspects[A] = inspect(A, "train")
    assert names(look(policy, host)) == {"train"}
    assert len(host.inspected) == 10


def test_three_that_hang_at_the_end_of_the_list_hide_nobody(policy: Policy) -> None:
    """Then nothing is left to say."""
    host = Host({number: SourceSlow("slow") for number in (A, B, C)})
    assert "docker_slow" not in codes(look(policy, host))


def test_the_list_starts_elsewhere_each_minute(policy: Policy) -> None:
    """So that some stuck ones never hide the same others for ever; everyone is asked once a tick."""
    ids = DIGITS[:4]
    firsts = []
    for minute in range(8):
        host = Host({container: inspect(container, container[0]) for container in ids})
        look(policy, host, AT + minute * MINUTE)
        assert sorted(host.inspected) == ids
        firsts.append(host.inspected[0])
    assert set(firsts[:4]) == set(ids)
    assert firsts[4:] == firsts[:4]


# ── a source is missing ──────────────────────────────────────────────────────────────────────────────────────────────


def test_without_docker_nothing_is_known(policy: Policy) -> None:
    """The words of the engine come through."""
    with pytest.raises(DockerDown, match="connection refused"):
        look(policy, Host(down=SourceError("connection refused; is Docker running?")))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(NoGpuStack("no NVIDIA driver"), "no_gpu_stack", id="a host without a driver"),
        pytest.param(SourceError("nvidia-smi hung"), "gpu_down", id="a driver that does not answer"),
    ],
)
def test_without_the_driver_rules_over_clocks_go_on(policy: Policy, error: SourceError, code: str) -> None:
    """Which GPUs there are is not known, so nobody is idle; who ran too long still did."""
    host = Host({A: inspect(A, "train", 0, up=60 * HOUR), B: inspect(B, "old", 1, status="exited", up=HOUR)})
    host.gpus = error
    observed = look(policy, host)
    assert codes(observed)[0] == code
    assert observed.snapshot.sources["gpu"].up is False
    assert str(error) in observed.snapshot.sources["gpu"].detail
    found = evaluate(policy, observed.snapshot, observed.demand).verdicts
    assert {(one.container.name, one.rule): str(one.kind) for one in found} == {
        ("train", "idle-gpu"): "unknown",
        ("train", "max-runtime"): "act",
        ("old", "stopped-retention"): "act",
    }


def test_without_prometheus_nobody_is_idle(policy: Policy) -> None:
    """One problem, whatever the number of signals."""
    host = Host({A: inspect(A, "train")}, metrics=SourceDown("refuses the connection"))
    observed = look(policy, host)
    assert kinds(policy, observed) == {"train": "unknown"}
    assert codes(observed) == ["source_down"]
    assert observed.snapshot.sources["prometheus"].up is False


def test_prometheus_switched_off(policy: Policy) -> None:
    """As settings.yaml may say."""
    host = Host({A: inspect(A, "train")})
    observed = observe(policy, replace(host.sources, prometheus=None), AT, History())
    assert kinds(policy, observed) == {"train": "unknown"}
    assert observed.snapshot.sources["prometheus"].detail == "switched off in settings.yaml"
    assert codes(observed) == []


@pytest.mark.parametrize(
    ("inspects", "known", "lost"),
    [
        pytest.param({}, 50, True, id="fifty ran a tick ago"),
        pytest.param({}, 2, False, id="two ran: a host may well go empty"),
        pytest.param({}, 0, False, id="none ran"),
        pytest.param({A: SourceError("HTTP 500")}, 50, True, id="one is there that cannot be read"),
        pytest.param({A: inspect(A, "web", None)}, 50, False, id="one without a GPU is there"),
    ],
)
def test_docker_lists_nothing_although_containers_ran(
    policy: Policy,
    inspects: dict[str, Any],
    known: int,
    lost: bool,  # noqa: FBT001  a table's column
) -> None:
    """Another daemon answered, or the engine lost its state: a problem, and nothing counts as gone."""
    observed = look(policy, Host(inspects), history=History(last_running=known))
    assert observed.lost_everything is lost
    assert ("docker_empty" in codes(observed)) is lost


# ── the keep-alive file ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_file_is_looked_for_only_where_it_matters(policy: Policy) -> None:
    """One request a container that is due or nearly so; none for those that work, are young, stopped or exempt."""
    host = Host(
        {
            A: inspect(A, "idle", 0),
            B: inspect(B, "works", 1),
            C: inspect(C, "young", 2, up=10 * MINUTE),
            D: inspect(D, "stopped", 3, status="exited", up=HOUR),
            E: inspect(E, "editor", 4, labels=EDITOR),
            F: inspect(F, "near", 5, up=50 * MINUTE),
            DIGITS[9]: inspect(DIGITS[9], "exporter", 6, image="nvcr.io/k8s/dcgm-exporter:4"),
        },
        busy={1: AT - 2 * HOUR},
    )
    observed = look(policy, host)
    assert sorted(host.looked_for) == [A, F]
    assert kinds(policy, observed) == {
        "idle": "act", "works": "clear", "young": "young", "near": "warn", "exporter": "exempt",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "kind", "why"),
    [
        pytest.param(None, "act", "idle for 60m", id="no file"),
        pytest.param(
            FileStat(AT - HOUR), "exempt", "keep-alive file, until 2026-03-03 11:00", id="touched an hour ago"
        ),
        pytest.param(FileStat(AT - 25 * HOUR), "act", "idle for 60m", id="touched the day before yesterday"),
        pytest.param(SourceError("HTTP 500"), "unknown", "could not be looked for: HTTP 500", id="unreadable"),
        pytest.param(SourceSlow("no answer"), "unknown", "could not be looked for: no answer", id="no answer in time"),
    ],
)
def test_what_the_file_does(policy: Policy, file: FileStat | SourceError | None, kind: str, why: str) -> None:
    """It keeps the container for a day; one that cannot be looked for is not taken for absent."""
    host = Host({A: inspect(A, "train")}, files={} if file is None else {A: file})
    observed = look(policy, host)
    found = next(one for one in evaluate(policy, observed.snapshot, observed.demand).verdicts if one.rule == "idle-gpu")
    assert str(found.kind) == kind
    assert why in found.why


@pytest.mark.parametrize(
    ("life", "honoured"),
    [
        pytest.param(AT - 3 * HOUR, True, id="this very life"),
        pytest.param(AT - 30 * HOUR, False, id="an earlier life of the container"),
    ],
)
def test_how_long_the_file_has_held_comes_from_the_ledger(policy: Policy, life: datetime, honoured: bool) -> None:  # noqa: FBT001  a table's column
    """At most a day for each idle spell, counted from the spell's first tick that it held."""
    since = AT - 25 * HOUR
    spell = Spell(A, life, "idle-gpu", since, AT - 5 * MINUTE, kept_since=since)
    host = Host({A: inspect(A, "train")}, files={A: FileStat(AT - MINUTE)})
    observed = look(policy, host, history=History(spells={(A, "idle-gpu"): spell}))
    assert kinds(policy, observed) == {"train": "act" if honoured else "exempt"}


# ── the second look ──────────────────────────────────────────────────────────────────────────────────────────────────


def changed(name: str = "train", **state: str) -> Callable[[Host, Policy], Policy]:
    """Change what the engine says about the container."""

    def change(host: Host, policy: Policy) -> Policy:
        raw = host.inspects[A]
        assert isinstance(raw, dict)
        host.inspects[A] = {**raw, "Name": f"/{name}", "State": {**raw["State"], **state}}
        return policy

    return change


def gone(host: Host, policy: Policy) -> Policy:
    host.inspects[A] = None
    return policy


def busy(host: Host, policy: Policy) -> Policy:
    host.busy[0] = AT - 2 * MINUTE
    return policy


def kept(host: Host, policy: Policy) -> Policy:
    host.files[A] = FileStat(AT)
    return policy


def exempted(host: Host, policy: Policy) -> Policy:
    del host
    for_train = Exemption((Selector("name", ("train",)),), ("*",), "deadline", "admin", AT + HOUR)
    return replace(policy, exemptions=(for_train,))


def no_docker(host: Host, policy: Policy) -> Policy:
    host.down = SourceError("connection refused")
    return policy


def no_metrics(host: Host, policy: Policy) -> Policy:
    host.metrics = SourceDown("connection refused")
    return policy


def no_driver(host: Host, policy: Policy) -> Policy:
    host.gpus = SourceError("nvidia-smi hung")
    return policy


def relabelled(host: Host, policy: Policy) -> Policy:
    host.inspects[A] = inspect(A, "train", labels=EDITOR)
    return policy


def recreated(host: Host, policy: Policy) -> Policy:
    del host.inspects[A]
    host.inspects[D] = inspect(D, "train", up=MINUTE)
    return policy


def nothing(host: Host, policy: Policy) -> Policy:
    del host
    return policy


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(nothing, [], id="nothing changed"),
        pytest.param(gone, ["it is gone"], id="gone"),
        pytest.param(recreated, ["it is gone"], id="gone, and another one under its name"),
        pytest.param(changed(StartedAt=when(AT - MINUTE)), ["running since 2026-03-02 09:00", "11:59"], id="restarted"),
        pytest.param(changed(name="kept"), ["it was train,", "it is kept, running"], id="renamed"),
        pytest.param(changed(Status="paused"), ["it is train, paused"], id="paused"),
        pytest.param(changed(Status="exited", FinishedAt=when(AT)), ["it is train, exited"], id="ended by itself"),
        pytest.param(busy, ["clear: in use: gpu"], id="busy again"),
        pytest.param(kept, ["exempt: keep-alive file"], id="its user asked for time"),
        pytest.param(exempted, ["exempt: deadline (approved by admin"], id="an admin exempted it"),
        pytest.param(relabelled, ["the rule no longer matches it"], id="no longer what the rule is about"),
        pytest.param(no_metrics, ["unknown: ", "source_down"], id="Prometheus went down"),
        pytest.param(no_driver, ["unknown: "], id="the driver went down"),
        pytest.param(no_docker, ["could not be looked at again", "connection refused"], id="Docker went down"),
    ],
)  # fmt: skip
def test_the_second_look_says_why_something_is_no_longer_due(
    policy: Policy, change: Callable[[Host, Policy], Policy], why: list[str]
) -> None:
    """By the same functions that decided, about these containers alone; only what is still due gets no reason."""
    host = Host({A: inspect(A, "train", 0), B: inspect(B, "other", 1), C: inspect(C, "works", 2)}, busy={2: AT - HOUR})
    first = look(policy, host)
    evaluation = evaluate(policy, first.snapshot, first.demand)
    decisions = [
        one
        for one in make_plan(policy, first.snapshot, evaluation, warned(first.snapshot)).decisions
        if one.destructive
    ]
    assert {one.container.name for one in decisions} == {"train", "other"}
    later = change(host, policy)
    host.inspected.clear()
    answer = still_due(later, host.sources, lambda: AT + timedelta(seconds=5), History(), first.demand, decisions)
    by_name = {one.container.name: answer[one.id] for one in decisions}
    assert bool(by_name["train"]) is bool(why)
    assert all(part in by_name["train"] for part in why), by_name["train"]
    if change in (no_docker, no_metrics, no_driver):
        assert by_name["other"]
    else:
        assert by_name["other"] == "", "what changed about one says nothing about the other"
    assert set(host.inspected) == {A, B}, "nobody else is looked at"


def warned(snapshot: Snapshot) -> History:
    """Remember a warning long enough ago for every container."""
    ago = AT - 30 * MINUTE
    spells: Mapping[tuple[str, str], Spell] = {
        (one.id, "idle-gpu"): Spell(
            one.id, one.started_at, "idle-gpu", ago, AT - 5 * MINUTE, ago, Mode.ENFORCE, delivered=True
        )
        for one in snapshot.containers
    }
    return History(spells)


def test_demand_is_that_of_the_first_look(policy: Policy) -> None:
    """On a full host idle timeouts are halved; a look at one container alone must not lengthen them again."""
    host = Host({one: inspect(one, f"c{one[0]}", int(one[0]), up=40 * MINUTE) for one in DIGITS[:8]})
    first = look(policy, host)
    assert first.demand.high
    assert set(kinds(policy, first).values()) == {"act"}
    plan = make_plan(policy, first.snapshot, evaluate(policy, first.snapshot, first.demand), warned(first.snapshot))
    decision = next(one for one in plan.decisions if one.container.name == "c0" and one.destructive)
    assert still_due(policy, host.sources, lambda: AT, History(), first.demand, [decision]) == {decision.id: ""}


# ── who and what ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_container_is_joined_from_all_that_is_known(policy: Policy) -> None:
    """Docker's facts, its owner, its GPUs by the driver's names, and its run through restarts by the ledger."""
    host = Host({A: inspect(A, "train", 3)})
    observed = look(policy, host)
    (container,) = observed.snapshot.containers
    assert isinstance(container, Container)
    assert (container.owner, container.owner_via, container.type, container.group) == (
        "alice", "label ds01.user", "docker", "student",
    )  # fmt: skip
    assert container.gpus.refs == (GpuRef(GPUS[3].uuid),)
    assert container.state is State.RUNNING
    assert observed.demand.held == 1
    assert [problem.detail for problem in observed.snapshot.problems if problem.code == "gpu_note"] == ["nvml was slow"]


def test_who_is_not_asked_about_containers_without_a_gpu(policy: Policy) -> None:
    """No rule is about them; whose they are would cost look-ups and reports for nothing."""
    host = Host({A: inspect(A, "web", None, labels={"ds01.monitoring": "true"})})
    assert codes(look(policy, host)) == []
    assert codes(look(policy, Host({A: inspect(A, "web", 0, labels={"ds01.monitoring": "true"})}))) == [
        "untrusted_claim"
    ]
