"""A selftest from beginning to end: what it proves, what it says where that fails, and that all is cleared up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selftest_world import ALICE, NAME, NONCE, OWN, SelftestHost, ended, fails, outcome, words
from whole_host import AT, GPUS, A, B, inspect

from ds01_policy.act.notify import Delivery
from ds01_policy.audit import Audit
from ds01_policy.config.load import load
from ds01_policy.ledger import Ledger
from ds01_policy.memory import LEDGER
from ds01_policy.model import Mode, Status
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.snapshot import DockerDown
from ds01_policy.selftest.narrow import NOTICE
from ds01_policy.selftest.step import Refused

LADDER = ["warn alice", "stop 5e1f", "remove 5e1f", "epilog 5e1f"]
SILENT = Delivery(delivered=False, attempted=False, detail="tty: not usable")
UNREACHED = Delivery(delivered=False, attempted=True, detail="tty: alice has no terminal open")


def test_one_throwaway_goes_the_whole_way() -> None:
    """Every step is proven, in order, on a GPU that was free, and nothing is left."""
    host = SelftestHost({A: inspect(A, "train", 0)})
    course = host.run()
    assert ended(course) == dict.fromkeys(
        ["image", "start", "seen", "warn", "notice", "stop", "remove", "epilog", "cleanup", "others"], "ok"
    )
    assert host.log == ["make", "start", *LADDER, "clear"]
    assert (course.container, course.name, course.gpu) == (OWN, NAME, GPUS[1].uuid)
    assert words(course, "seen").startswith(
        "seen as alice's (label ds01.user), group student, type docker; holds GPU-1"
    )
    assert host.told == list(course.steps)
    assert set(host.inspects) == {A}
    assert not host.state_dirs[0].exists()


def test_the_notice_is_what_passes_between_the_warning_and_the_stop() -> None:
    """The stop waits for it, and no longer than a tick more."""
    host = SelftestHost()
    at: dict[str, Any] = {}
    host.on["warn alice"] = lambda: (at.update(warn=host.at), Delivery(True, True, "told"))[1]  # noqa: FBT003  as it is
    host.on["stop 5e1f"] = lambda: (at.update(stop=host.at), (Status.DONE, ""))[1]
    host.run()
    assert NOTICE <= at["stop"] - at["warn"] <= NOTICE + timedelta(seconds=1)


def test_the_hosts_own_state_is_neither_read_from_nor_written_to(tmp_path: Path) -> None:
    """A ledger and an audit log of the host stay as they are, byte by byte; what ticks remember lies elsewhere."""
    with Ledger.open(tmp_path / LEDGER) as ledger:
        ledger.begin(AT, Mode.ENFORCE, "sha256:x")
    Audit.open(tmp_path / "audit.jsonl", host="gpu01", digest="sha256:x").close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    host = SelftestHost()
    assert not host.run(state=tmp_path).failed
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert tmp_path not in host.state_dirs


# ── what fails ───────────────────────────────────────────────────────────────────────────────────────────────────────


def disappears(host: SelftestHost) -> None:
    host.inspects.pop(OWN)


def removed_at_once(host: SelftestHost) -> str:
    through = host.started()
    disappears(host)
    return through


def is_ended(host: SelftestHost) -> None:
    host.inspects[OWN]["State"] |= {"Status": "exited", "FinishedAt": "2026-03-02T12:00:02Z"}  # type: ignore[index]


def docker_goes(host: SelftestHost) -> None:
    host.down = SourceError("connection refused")


def told_to_end(host: SelftestHost) -> bool:
    del host
    return False


def paused(host: SelftestHost) -> None:
    host.inspects[OWN]["State"] |= {"Status": "paused"}  # type: ignore[index]


def unreadable(host: SelftestHost) -> None:
    host.inspects[OWN] = SourceError("State.Status is missing")


def row(sentence: str, failed: str, said: str, **on: Any) -> Any:
    """One way it can fail: the step that says so, and with which words."""
    return pytest.param({key.replace("_", " "): each for key, each in on.items()}, failed, said, id=sentence)


@pytest.mark.parametrize(
    ("on", "failed", "said"),
    [
        row("the image is refused", "image", "authz: no | --image REF", make=fails("authz: no")),
        row("the container does not start", "start", "no such device | --no-gpu", start=fails("no such device")),
        row("no channel is usable", "warn", "tty: not usable", warn_alice=lambda: SILENT),
        row("the stop fails", "stop", "still running", stop_5e1f=outcome(Status.FAILED, "still running")),
        row("somebody else was quicker", "stop", "somebody else's", stop_5e1f=outcome(Status.NOOP, "already exited")),
        row("the remove fails", "remove", "still there", remove_5e1f=outcome(Status.FAILED, "still there")),
        row("the remove is stale", "remove", "runs again", remove_5e1f=outcome(Status.STALE, "runs again")),
        row("somebody else removed it", "remove", "already gone", remove_5e1f=outcome(Status.NOOP, "already gone")),
        row("it is only said to be removed", "remove", "still lists it", remove_5e1f=outcome(Status.DONE, "")),
        row("the epilog fails", "epilog", "the driver hangs", epilog_5e1f=outcome(Status.FAILED, "the driver hangs")),
        row("the epilog does nothing", "epilog", "not known", epilog_5e1f=outcome(Status.NOOP, "not known")),
        row("it disappears before the first tick", "seen", "somebody removed it", start=removed_at_once),
        row("it disappears", "stop", "it is gone, not through", wait_2=disappears),
        row("it ends by itself", "stop", "it is exited, not through", wait_2=is_ended),
        row("it is paused by somebody", "stop", "it is paused, not through", wait_2=paused),
        row("it cannot be looked at", "warn", "it is not seen: 5e1f5e1f5e1f: State.Status", wait_2=unreadable),
        row("Docker goes away", "warn", "connection refused", wait_2=docker_goes),
        row("it is told to end before the warning", "warn", "told to end", wait_1=told_to_end),
        row("it is told to end before the stop", "stop", "told to end", wait_4=told_to_end),
        row("what was made stays", "cleanup", "docker rm -f", clear=fails("there; do: docker rm -f x")),
    ],
)  # fmt: skip
def test_what_fails_is_said_and_cleared_up(on: dict[str, Callable[..., Any]], failed: str, said: str) -> None:
    """The first step that fails is the last of the ladder, says why, and what to do."""
    host = SelftestHost({B: inspect(B, "train", 7)})
    for call, then in on.items():
        host.on[call] = partial(then, host) if call.startswith("wait") or then is removed_at_once else then
    course = host.run(timeout=timedelta(seconds=30))
    told = [step for step in course.failed if step.name != "others"]
    assert [step.name for step in told] == [failed]
    assert said in f"{told[0].what} | {told[0].do}"
    assert host.log[-1] == "clear"
    assert set(host.inspects) == {B}
    later = host.log[host.log.index("start") + 1 : -1] if "start" in host.log else []
    assert later == LADDER[: len(later)]
    assert not host.state_dirs or not host.state_dirs[0].exists()


def test_one_that_cannot_be_looked_at_yet_is_waited_for() -> None:
    """Docker lists it: nobody has removed it."""
    host = SelftestHost()
    hidden: list[Any] = []

    def start() -> str:
        through = host.started()
        hidden.append(host.inspects[OWN])
        unreadable(host)
        return through

    host.on |= {"start": start, "wait 1": lambda: host.inspects.update({OWN: hidden.pop()})}
    course = host.run()
    assert ended(course)["seen"] == "ok"
    assert not course.failed


def gets(host: SelftestHost, **request: Any) -> None:
    """Let Docker give it something else than was asked for."""

    def start() -> str:
        through = host.started()
        whole = {"Driver": "", "Count": 0, "DeviceIDs": ["0"], "Capabilities": [["gpu"]]}
        host.inspects[OWN]["HostConfig"]["DeviceRequests"] = [whole | request]  # type: ignore[index]
        return through

    host.on["start"] = start


@pytest.mark.parametrize(
    ("given", "asked", "said"),
    [
        pytest.param({"DeviceIDs": ["3"]}, {"gpu": "0"}, "seen to hold GPU-3", id="another GPU"),
        pytest.param({"DeviceIDs": ["0", "1"]}, {"gpu": "0"}, "0000, GPU-1", id="one more"),
        pytest.param({"DeviceIDs": None}, {"gpu": "0"}, "seen to hold none", id="none"),
        pytest.param({"DeviceIDs": ["0", "99"]}, {"gpu": "0"}, "not among this host's", id="nobody knows what"),
        pytest.param({}, {"no_gpu": True}, "asked for no GPU, and it may use one through --gpus", id="one unasked"),
    ],
)
def test_a_gpu_that_is_not_the_one_asked_for_is_a_failure(
    given: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    """What a hold is read from would be wrong for every container of this host."""
    host = SelftestHost()
    gets(host, **given)
    course = host.run(**asked)
    assert [step.name for step in course.failed] == ["seen"]
    assert said in words(course, "seen")
    assert host.log == ["make", "start", "clear"]


def test_a_stop_that_comes_too_soon_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notice is measured, not believed."""
    monkeypatch.setattr("ds01_policy.selftest.ladder.NOTICE", timedelta(seconds=5))
    course = SelftestHost().run()
    assert [step.name for step in course.failed] == ["notice"]
    assert "promised 5s" in words(course, "notice")


def test_what_never_comes_ends_when_the_time_is_over() -> None:
    """And says what the last tick found."""
    host = SelftestHost()
    host.on["stop 5e1f"] = outcome(Status.STALE, "it is busy")
    course = host.run(timeout=timedelta(seconds=20))
    assert words(course, "stop") == "not done within 20s; the last tick: stop: it is busy | "
    assert 20 <= course.seconds <= 23
    assert set(host.inspects) == set()


def test_a_ledger_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is done, as on a host whose disk is full."""
    monkeypatch.setattr(Ledger, "open", classmethod(lambda _, path: _full(path)))
    host = SelftestHost()
    course = host.run()
    assert "the disk is full" in words(course, "warn")
    assert host.log == ["make", "start", "clear"]


def _full(path: Path) -> Ledger:
    from ds01_policy.ledger import LedgerError

    raise LedgerError("ledger_io", f"{path}: the disk is full")


def test_a_gpu_that_is_found_unfit_fails_the_epilog(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the epilog does its work is proven; that the host is well is not."""
    host = SelftestHost()
    recall = "ds01_policy.memory.Ledger.history"
    real = Ledger.history

    def history(self: Ledger, reach: timedelta | None = None) -> Any:
        from ds01_policy.model import Unfit

        return replace(real(self, reach), unfit={GPUS[0].uuid: Unfit(AT, "off the bus")})

    monkeypatch.setattr(recall, history)
    course = host.run()
    assert [step.name for step in course.failed] == ["epilog"]
    assert f"ds01-policy epilog --gpu {GPUS[0].uuid}" in words(course, "epilog")


def test_an_unforeseen_error_clears_up_all_the_same() -> None:
    """It comes through, after what was made is gone."""
    host = SelftestHost()

    def bug(*_: object) -> None:
        raise ZeroDivisionError

    host.on["wait 3"] = bug
    with pytest.raises(ZeroDivisionError):
        host.run()
    assert host.log[-1] == "clear"
    assert set(host.inspects) == set()


def test_a_reader_who_has_had_enough_leaves_nothing_behind() -> None:
    """A closed pipe under the output is found out at the next step; the throwaway is gone before that is said."""
    host = SelftestHost()

    def closed(step: object) -> None:
        del step
        if "start" in host.log:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        host.run(tell=closed)
    assert host.log == ["make", "start", "clear"]
    assert set(host.inspects) == set()


# ── what is only said ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_warning_that_reached_nobody_is_no_failure() -> None:
    """It counts as given, as on any host; what to do is said."""
    host = SelftestHost()
    host.on["warn alice"] = lambda: UNREACHED
    course = host.run()
    assert (course.failed, ended(course)["warn"]) == ((), "note")
    assert "notify.channels" in words(course, "warn")


def test_an_owner_that_nobody_would_know_is_said() -> None:
    """Without a matcher in identity.yaml warnings reach nobody."""
    policy = load(None, unix_group=lambda _: None)
    course = SelftestHost().run(policy=replace(policy, identity=replace(policy.identity, owners=())))
    assert (course.failed, ended(course)["seen"]) == ((), "note")
    assert "seen as unknown's" in words(course, "seen")


def test_without_a_gpu_the_epilog_is_not_proven() -> None:
    """The rest is."""
    host = SelftestHost()
    course = host.run(no_gpu=True)
    assert (course.failed, ended(course)["epilog"], course.gpu) == ((), "skipped", "")
    assert host.orders[0].gpu is None
    assert host.log == ["make", "start", *LADDER, "clear"]


def test_containers_of_killed_selftests_are_named_and_left() -> None:
    """Anybody can call a container so: whether it is one is for a person to judge. A young one may be at work."""
    label = {"ds01-policy.selftest": "ffffffffffff"}
    old, young, other = (inspect(each * 64, "ds01-policy-selftest-ffffffffffff", None, labels=label) for each in "abc")
    young["Created"] = "2026-03-02T11:58:00Z"
    other["Name"] = "/ds01-policy-selftest-eeeeeeeeeeee"  # its label says otherwise
    host = SelftestHost({raw["Id"]: raw for raw in (old, young, other)})
    course = host.run()
    assert ended(course)["leftovers"] == "note"
    assert words(course, "leftovers").endswith(
        "docker rm -f aaaaaaaaaaaa; docker rmi ds01-policy-selftest:ffffffffffff"
    )
    assert set(host.inspects) == {raw["Id"] for raw in (old, young, other)}


def test_nothing_is_begun_without_docker() -> None:
    """There is nobody to ask for a container."""
    host = SelftestHost(down=SourceError("no such socket"))
    with pytest.raises(DockerDown):
        host.run()
    assert host.log == []


def test_an_image_that_cannot_be_used_is_a_mistake_of_the_caller() -> None:
    """Said as such, with nothing done."""
    host = SelftestHost()

    def refused() -> str:
        raise Refused("--image nix: this host has no such image")

    host.on["make"] = refused
    with pytest.raises(Refused):
        host.run()
    assert host.log == ["make", "clear"]


def test_the_throwaway_lasts_longer_than_the_selftest_and_says_what_it_is() -> None:
    """Killed without mercy, the program leaves something that ends by itself."""
    host = SelftestHost()
    host.run(timeout=timedelta(seconds=90))
    order = host.orders[0]
    assert (order.lasts_s, order.nonce, order.person) == (150, NONCE, ALICE)
    assert json.dumps(order.labels) == '[["ds01.user", "alice"]]'
