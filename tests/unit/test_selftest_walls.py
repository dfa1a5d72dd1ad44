"""A selftest touches nothing but its throwaway, whatever stands beside it and calls itself what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from decided import STOP_AND_REMOVE, container, decision
from selftest_world import NAME, NONCE, OWN, SelftestHost, alike, ended, mine, shipped, words
from whole_host import AT, DIGITS, A, B, C, D, E, F, inspect

from ds01_policy.identity import Trust
from ds01_policy.model import Action, Container, Decision, GpuClaim, History, Kind, Mode, Outcome, State, Status
from ds01_policy.observe.ports import FileStat, SourceError, Sources
from ds01_policy.policy import Budget
from ds01_policy.rules import Match, matches
from ds01_policy.selftest import narrow
from ds01_policy.selftest.order import LABEL
from ds01_policy.tick import Actuator, look


def neighbours() -> dict[str, Any]:
    """Everything that could be taken for the throwaway, and what a rule of the host would stop."""
    dressed_up = alike(A, f"{NAME}-2")
    paused = alike(D, "ds01-policy-selftest-0123456789ac", status="paused")
    ended = alike(E, "ds01-policy-selftest-ffffffffffff", status="exited", up=timedelta(hours=9))
    return {raw["Id"]: raw for raw in (dressed_up, inspect(B, "idle", 1), paused, ended)}


def comes_later(host: SelftestHost, container_id: str, name: str, **options: Any) -> Callable[[], None]:
    """Create one while the selftest runs, by somebody who has read the throwaway's labels."""

    def create() -> None:
        raw = alike(container_id, name, **options)
        raw["Config"]["Labels"] = dict(host.inspects[OWN]["Config"]["Labels"])  # type: ignore[index]
        host.inspects[container_id] = raw

    return create


def beleaguered() -> SelftestHost:
    """Build a host on which neighbours come to resemble the throwaway more and more."""
    host = SelftestHost(neighbours())
    host.on["wait 1"] = comes_later(host, C, OWN)  # its name is the throwaway's id
    host.on["wait 2"] = comes_later(host, F, f"{NAME}x", up=timedelta(seconds=1))
    host.on["wait 4"] = comes_later(host, DIGITS[0], "late", status="created")
    return host


def test_nothing_else_is_touched_whatever_it_is_called_and_carries() -> None:
    """All of them are in the same life and state after it, and no call that does anything was about them."""
    host = beleaguered()
    before = deepcopy(neighbours())
    course = host.run()
    assert course.failed == ()
    assert host.log == ["make", "start", "warn alice", "stop 5e1f", "remove 5e1f", "epilog 5e1f", "clear"]
    assert {each: host.inspects[each] for each in before} == before
    assert set(host.inspects) == {*before, C, F, DIGITS[0]}
    assert words(course, "others").startswith("4 other containers before and after")


# ── each wall alone ──────────────────────────────────────────────────────────────────────────────────────────────────


def fell_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    real = narrow.rule
    monkeypatch.setattr(narrow, "rule", lambda *about: replace(real(*about), match=Match()))


def fell_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = {"prometheus": None, "local": None, "tasks": None}
    monkeypatch.setattr(narrow, "sources_for", lambda sources, _: replace(sources, **blind))


def fell_hands(monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(self: narrow.Guard, decisions: Sequence[Decision], recheck: Any) -> list[Outcome]:
        return list(self.hands.carry_out(decisions, recheck))

    monkeypatch.setattr(narrow.Guard, "carry_out", carry_out)


FELL = {"rule": fell_rule, "sources": fell_sources, "hands": fell_hands}


def touched(host: SelftestHost) -> set[str]:
    """Name by their ids whom a stop or a remove was about."""
    return {call.split()[1] for call in host.log if call.startswith(("stop", "remove", "epilog"))}


@pytest.mark.parametrize("wall", FELL)
def test_each_wall_holds_what_the_others_let_through(wall: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the two others down, nobody else is touched; where the hands had to refuse, the selftest fails."""
    for name, fell in FELL.items():
        if name != wall:
            fell(monkeypatch)
    host = beleaguered()
    if wall == "rule":  # for a rule, a name and an id are the same: this one the other walls hold
        del host.on["wait 1"]
    course = host.run(timeout=timedelta(seconds=20))
    assert touched(host) <= {"5e1f"}
    assert ended(course)["others"] == ("failed" if wall == "hands" else "ok")
    assert not [step for step in course.steps if step.name != "others" and "refused" in step.what]
    assert ("beyond the throwaway: warn of " in words(course, "others")) is (wall == "hands")


def test_without_walls_they_would_be_touched_and_the_selftest_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail; and what the audit log has of anybody else is itself a failure."""
    for fell in FELL.values():
        fell(monkeypatch)
    host = beleaguered()
    course = host.run(timeout=timedelta(seconds=20))
    assert touched(host) - {"5e1f"}
    assert ended(course)["others"] == "failed"
    assert "intent stop of " in words(course, "others")


# ── the walls themselves ─────────────────────────────────────────────────────────────────────────────────────────────


def a_container(**changes: Any) -> Container:
    return container(**{"id": OWN, "name": NAME, "labels": {LABEL: NONCE}, **changes})


@pytest.mark.parametrize(
    ("changes", "hit"),
    [
        pytest.param({}, True, id="the throwaway"),
        pytest.param({"name": "renamed"}, True, id="the throwaway, renamed"),
        pytest.param({"gpus": GpuClaim(wants=True)}, True, id="the throwaway with a GPU"),
        pytest.param({"id": A}, False, id="another one of the same name and label"),
        pytest.param({"labels": {}}, False, id="the same id without the label"),
        pytest.param({"labels": {LABEL: "0123456789ac"}}, False, id="another selftest's label"),
        pytest.param({"labels": {LABEL: "*"}}, False, id="a pattern for a label"),
        pytest.param({"state": State.EXITED}, False, id="ended"),
        pytest.param({"state": State.PAUSED}, False, id="paused"),
        pytest.param({"id": OWN[:-1] + "0"}, False, id="an id that differs in its last digit"),
        pytest.param({"id": OWN[:12] + "0" * 52}, False, id="an id with the same beginning"),
    ],
)
def test_the_rule_matches_one_container(
    changes: Mapping[str, Any],
    hit: bool,  # noqa: FBT001  a table's column
) -> None:
    """By its whole id and the nonce together."""
    assert matches(narrow.rule(OWN, NONCE).match, a_container(**changes), "gpu01") is hit


def test_of_all_containers_one_can_be_seen() -> None:
    """Another one is neither listed nor looked at nor searched for a file."""
    host = SelftestHost({**neighbours(), OWN: mine()}, files={A: FileStat(AT), OWN: FileStat(AT)})
    docker = narrow.sources_for(Sources(host, host, host, host, host, host), OWN).docker  # type: ignore[arg-type]
    assert docker.containers() == [{"Id": OWN}]
    assert (docker.inspect(OWN) or {})["Name"] == f"/{NAME}"
    assert docker.stat(OWN, "/workspace/.keep-alive") == FileStat(AT)
    for call in (lambda: docker.inspect(A), lambda: docker.stat(A, "/workspace/.keep-alive")):
        with pytest.raises(SourceError, match="is not the selftest's"):
            call()
    assert (host.inspected, host.looked_for) == ([OWN], [OWN])


class Hands:
    """Hands that write down what they are given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def carry_out(self, decisions: Sequence[Decision], recheck: Any) -> list[Outcome]:
        del recheck
        self.given += [one.id for one in decisions]
        return [Outcome(one.id, action, Status.DONE) for one in decisions for action in one.actions]


@pytest.mark.parametrize(
    ("of", "rule", "refused"),
    [
        pytest.param(OWN, narrow.RULE, False, id="the throwaway by the selftest's rule"),
        pytest.param(A, narrow.RULE, True, id="another one"),
        pytest.param(OWN, "idle-gpu", True, id="the throwaway by another rule"),
    ],
)
@pytest.mark.parametrize("actions", [(Action.WARN,), STOP_AND_REMOVE], ids=["a warning", "an act"])
def test_hands_refuse_what_is_not_the_selftests_own(
    of: str,
    rule: str,
    refused: bool,  # noqa: FBT001  a table's column
    actions: tuple[Action, ...],
) -> None:
    """Each refusal is an outcome that failed, and is remembered."""
    hands = Hands()
    guard = narrow.Guard(hands, OWN)
    asked = decision(*actions, of=container(id=of), rule=rule)
    outcomes = guard.carry_out([asked], lambda _: {})
    assert [(one.decision, one.action) for one in outcomes] == [("d1", action) for action in actions]
    assert {one.status for one in outcomes} == {Status.FAILED if refused else Status.DONE}
    assert (hands.given, len(guard.refused)) == ([] if refused else ["d1"], int(refused))


def test_the_policy_is_the_hosts_own_but_for_what_it_decides(tmp_path: Path) -> None:
    """How Docker and people are reached stays; what could act on, exempt or hold back anything else goes."""
    own = shipped()
    infrastructure = replace(own.identity, infrastructure_labels=(LABEL,), trusted=Trust(images=("*",)))
    settings = replace(own.settings, budget=Budget(per_run=0, share=0))
    policy = narrow.policy_for(replace(own, identity=infrastructure, settings=settings), OWN, NONCE, tmp_path)
    assert [rule.id for rule in policy.rules] == [narrow.RULE]
    assert (policy.settings.mode, policy.settings.state_dir) == (Mode.ENFORCE, tmp_path)
    assert (policy.settings.epilog.reset, policy.settings.epilog.kill) == ("never", own.settings.epilog.kill)
    assert (policy.settings.docker, policy.settings.gpu) == (own.settings.docker, own.settings.gpu)
    assert policy.settings.notify.channels == own.settings.notify.channels
    assert (policy.settings.metrics_file, policy.exemptions, policy.identity.trusted) == (None, (), Trust())
    assert (policy.templates, policy.identity.owners) == (own.templates, own.identity.owners)
    host = SelftestHost()
    assert not host.run(policy=replace(own, identity=infrastructure, settings=settings)).failed


def test_the_hosts_own_rules_leave_the_throwaway_alone() -> None:
    """A run of the timer in the middle of a selftest finds nothing due, in whatever state it meets the throwaway."""
    for state in ("created", "running", "exited"):
        raw = mine(lambda raw: raw["State"].update(Status=state))  # noqa: B023  called at once
        raw["Created"] = "2026-03-02T11:59:30Z"
        if state != "created":
            raw["State"] |= {"StartedAt": "2026-03-02T11:59:31Z", "FinishedAt": "2026-03-02T11:59:59Z"}
        host = SelftestHost({OWN: raw})
        report = look(shipped(), host.sources, AT, History())
        found = {verdict.rule: verdict.kind for verdict in report.evaluation.verdicts}
        assert found, state
        assert not {Kind.ACT, Kind.WARN} & set(found.values()), (state, found)
        assert report.plan.decisions == ()


def test_a_guard_is_hands() -> None:
    """It stands where the actuator stands."""
    guard: Actuator = narrow.Guard(Hands(), OWN)
    assert guard.carry_out([], lambda _: {}) == []
