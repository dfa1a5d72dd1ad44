"""Following Docker's events: what is remembered as containers start, and that no end is missed or told in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from epilog_fakes import CLAIM, MINUTE, NOON, STARTED, A, B, C, Docker, Place, container, seen
from events_engine import HEAD, EventsEngine, Script, chunk, event, events_engine, holding, line, sending, telling
from whole_host import inspect

from ds01_policy import watch
from ds01_policy.ledger import LedgerError
from ds01_policy.model import Container, GpuClaim
from ds01_policy.observe.event_stream import EventStream
from ds01_policy.observe.inspected import container_of
from ds01_policy.observe.ports import Json, SourceError
from ds01_policy.watch import Eyes, Watch

WEEK = timedelta(days=7)
BORN = "2026-03-02T09:00:00Z"  # STARTED, as Docker writes it


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with closing(Place(tmp_path)) as opened:
        opened.ledger.ended_lives(NOON - WEEK)
        yield opened


def shown(mark: str, status: str = "running", *, gpu: bool = True, started: str = BORN) -> Json:
    answer = inspect(mark, "train", 0 if gpu else None, status=status)
    answer["State"]["StartedAt"] = started
    return answer


def identified(raw: Json) -> Container:
    """Join what Docker shows with what it holds: a GPU where it asked for one."""
    return replace(container_of(raw), gpus=CLAIM if raw["HostConfig"]["DeviceRequests"] else GpuClaim())


def eyes_of(place: Place, docker: Docker, at: datetime = NOON) -> Eyes:
    return Eyes(docker, place.files, identified, lambda: at)


def owed(place: Place, at: datetime = NOON) -> list[str]:
    return [life.container for life in place.ledger.ended_lives(at)]


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_container_holds_is_remembered_while_it_is_there(place: Place) -> None:
    """A life that begins and ends between two ticks is known all the same; one without a GPU is nobody's business."""
    docker = Docker({A: shown(A), B: shown(B, gpu=False), C: shown(C, "created", started="0001-01-01T00:00:00Z")})
    eyes = eyes_of(place, docker)
    for mark in (A, B, C):
        eyes.look(mark)
    assert place.ledger.going_on() == {A: STARTED}
    assert set(place.ledger.lives()) == {A}
    docker.shown.clear()
    assert eyes.look(A) is None
    assert eyes.look(B) is None
    assert owed(place) == [A]
    assert place.ledger.ended_lives(NOON)[0].gpus == CLAIM.refs


@pytest.mark.parametrize("answer", [SourceError("slow"), {"Id": A}], ids=["no answer", "no container"])
def test_what_cannot_be_seen_changes_nothing(place: Place, answer: Any) -> None:
    """A life goes on until it is seen to have ended."""
    seen(place.ledger, NOON - MINUTE, container(A))
    with pytest.raises(SourceError):
        eyes_of(place, Docker({A: answer})).look(A)
    assert place.ledger.going_on() == {A: STARTED}


def test_looking_around_finds_what_nobody_told_of(place: Place) -> None:
    """What began and what ended while nobody followed: unknown ones are remembered, ended ones are owed."""
    gone, stopped, again = ("d" * 64, "e" * 64, "f" * 64)
    seen(place.ledger, NOON - 2 * MINUTE, container(A), *(container(each) for each in (gone, stopped, again)))
    docker = Docker({A: shown(A), B: shown(B), stopped: shown(stopped, "exited")})
    docker.shown[again] = shown(again, started="2026-03-02T11:59:00Z")
    docker.shown[stopped]["State"]["FinishedAt"] = "2026-03-02T11:59:30Z"
    docker.states = {stopped: "exited"}
    eyes_of(place, docker).look_around()
    assert place.ledger.going_on() == {A: STARTED, B: STARTED, again: NOON - MINUTE}
    assert sorted(owed(place)) == sorted([gone, stopped])


def test_one_that_cannot_be_read_hides_no_other(place: Place) -> None:
    """All others are looked at, then it is told."""
    docker = Docker({A: SourceError("slow"), B: shown(B), C: SourceError("slower")})
    with pytest.raises(SourceError, match="slow"):
        eyes_of(place, docker).look_around()
    assert place.ledger.going_on() == {B: STARTED}


def test_a_docker_without_any_container_is_not_believed(place: Place) -> None:
    """Three at work and then none at all may be another Docker: nothing is held to have ended, and it is told."""
    seen(place.ledger, NOON - MINUTE, container(A), container(B), container(C))
    with pytest.raises(SourceError, match="wrong daemon"):
        eyes_of(place, Docker()).look_around()
    assert owed(place) == []
    seen(place.ledger, NOON, container(A), container(B))
    eyes_of(place, Docker()).look_around()
    assert sorted(owed(place)) == [A, B, C]


class Passing(Docker):
    """An engine that shows one state after the other."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)

    def inspect(self, container_id: str) -> Json | None:
        del container_id
        answer: Json | None = self.answers.pop(0)
        return answer


@pytest.mark.parametrize(
    ("answers", "left"),
    [
        pytest.param([shown(A, "removing"), shown(A, "removing"), None, "never"], 1, id="it is removed"),
        pytest.param([shown(A, "running"), shown(A, "exited"), "never"], 1, id="Docker has not noticed yet"),
        pytest.param([shown(A, "exited"), "never"], 1, id="it is there, and has ended"),
        pytest.param([shown(A, "restarting"), "never"], 1, id="Docker starts it again"),
        pytest.param([None, "never"], 1, id="it is gone"),
        pytest.param([shown(A, "running")] * 6, 0, id="it runs on"),
        pytest.param([shown(A, "removing")] * 21, 0, id="it is never gone"),
    ],
)
def test_a_container_that_dies_is_given_a_moment(
    place: Place, monkeypatch: pytest.MonkeyPatch, answers: list[Any], left: int
) -> None:
    """Until it is out of Docker's hands, at most for as long as its state is worth waiting for."""
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(watch, "POLL_S", 0.5)
    monkeypatch.setattr(watch, "STILL_UP_S", 2.5)
    docker = Passing(*answers)
    eyes_of(place, docker).settle(A)
    assert len(docker.answers) == left


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


# ── following ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Enough(Exception):
    """The test has seen what it waited for."""


class Worker:
    """Takes what is offered, as long as there is room, and ends the loop when the test has seen enough."""

    def __init__(self, enough: Callable[[], bool], room: int = 99) -> None:
        self.offered: list[str | None] = []
        self.enough = enough
        self.room = room
        self.checks = 0

    def offer(self, container: str | None) -> bool:
        if container is not None and self.offered.count(container) + len(self.offered) >= self.room:
            return False
        self.offered.append(container)
        return True

    def check(self) -> None:
        self.checks += 1
        if self.enough():
            raise Enough
        assert self.checks < 1000, "it never came"


@pytest.fixture
def engine() -> Iterator[EventsEngine]:
    with events_engine() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "IDLE_S", 0.01)
    monkeypatch.setattr(watch, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(watch, "LONGEST_WAIT_S", 0.01)


class Following:
    """One watch upon an engine, run until something is the case."""

    def __init__(self, engine: EventsEngine, place: Place, docker: Docker | None = None) -> None:
        self.engine, self.place = engine, place
        self.docker = docker or Docker()
        self.logged: list[str] = []
        self.worker = Worker(lambda: False)

    def until(self, enough: Callable[[Worker], bool], *, room: int = 99) -> None:
        self.worker = Worker(lambda: enough(self.worker), room)
        stream = EventStream(self.engine.url, 5.0)
        with pytest.raises(Enough):
            Watch(stream, eyes_of(self.place, self.docker), self.worker, self.logged.append).follow()
        with pytest.raises(SourceError, match="not connected"):
            stream.read(0)

    def since(self) -> list[float | None]:
        return [float(asked["since"][0]) if "since" in asked else None for asked in self.engine.asked]


@pytest.fixture
def following(engine: EventsEngine, place: Place) -> Following:
    return Following(engine, place)


def test_ends_are_handed_on_and_starts_are_looked_at(following: Following) -> None:
    """First whatever is owed; then each that dies or is removed, in order."""
    following.docker.shown = {A: shown(A)}
    following.docker.listed = []  # it starts only later
    following.engine.scripts = [telling(event("start", A), event("die", A), event("die", B), event("destroy", A))]
    following.until(lambda worker: len(worker.offered) >= 4)
    assert following.worker.offered == [None, A, B, A]
    assert following.place.ledger.going_on() == {A: STARTED}
    assert following.logged == ["following Docker's events"]


def test_it_goes_on_where_it_was(following: Following) -> None:
    """Connected anew it asks from the last event on, and some seconds before; so it does when it is started anew."""
    last = NOON - MINUTE
    ahead = NOON + timedelta(hours=1)  # the clock was set back meanwhile
    following.engine.scripts = [
        sending(HEAD, chunk(line(event("die", A, last - MINUTE), event("die", B, last))), line(event("die", C))[:20]),
        telling(event("die", C, ahead)),
    ]
    following.until(lambda worker: C in worker.offered)
    assert following.worker.offered == [None, A, B, None, C]
    overlap = watch.OVERLAP.total_seconds()
    assert following.since() == [None, last.timestamp() - overlap]
    assert any("ended" in words for words in following.logged)
    assert following.logged[-1] == "following Docker's events"
    assert following.place.ledger.watched_until() == NOON  # never later than now
    following.until(lambda worker: bool(worker.offered))
    assert following.since()[2] == NOON.timestamp() - overlap


def test_a_clock_that_was_set_back_hides_no_event(following: Following) -> None:
    """What the ledger says of a time that has not come yet is asked for from now on."""
    following.place.ledger.watched(NOON + timedelta(hours=1))
    following.until(lambda worker: bool(worker.offered))
    assert following.since() == [NOON.timestamp() - watch.OVERLAP.total_seconds()]


def test_up_to_when_it_has_followed_is_written_down_as_it_goes(following: Following) -> None:
    """Killed at any moment it asks for little more than it missed."""
    following.engine.scripts = [telling(event("die", A, NOON - MINUTE))]
    following.until(lambda _: following.place.ledger.watched_until() == NOON - MINUTE)


def test_trouble_is_told_once_and_never_ends_it(following: Following) -> None:
    """An engine that is away for a while: one line, however often is tried; then one that says that all is well."""
    following.engine.scripts = [*[sending(b"HTTP/1.1 503 no\r\n\r\n")] * 5, telling(event("die", A))]
    following.until(lambda worker: A in worker.offered)
    assert len(following.engine.asked) == 6
    assert len(following.logged) == 2
    assert "503" in following.logged[0]
    assert following.logged[1] == "following Docker's events"


def test_the_wait_between_two_tries_grows(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a bound; and from the beginning after a connection that was a good one."""
    clock = Clock()
    slept: list[float] = []
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(clock, "sleep", slept.append)
    monkeypatch.setattr(watch, "FIRST_WAIT_S", 1.0)
    monkeypatch.setattr(watch, "LONGEST_WAIT_S", 7.0)

    def lasting(connection: Any) -> None:
        clock.now += watch.STEADY_S
        connection.sendall(HEAD)

    refused: Script = sending(b"HTTP/1.1 503 no\r\n\r\n")
    following.engine.scripts = [refused, refused, refused, refused, lasting, refused]
    following.until(lambda _: len(slept) >= 6)
    assert slept == [2.0, 4.0, 7.0, 7.0, 1.0, 2.0]


@pytest.mark.parametrize("why", ["garbage", "overflow", "docker", "ledger"])
def test_what_could_not_be_seen_to_is_found_by_looking(
    following: Following, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """An event nobody could read, or too many, or while Docker or the ledger failed: everything is looked at."""
    monkeypatch.setattr(watch, "AGAIN_S", 0.02)
    told = {"garbage": b"what?\n", "overflow": line(*(event("die", f"{n:064x}") for n in range(9)))}
    following.engine.scripts = [telling(event("start", A), then=threading.Event().wait)]
    if why in told:
        following.engine.scripts = [holding(HEAD + chunk(told[why]))]
    if why == "docker":
        following.docker.shown = {A: SourceError("docker is slow")}
        following.docker.listed = []
    if why == "ledger":
        following.docker.shown = {A: shown(A)}
        following.place.ledger_error = LedgerError("ledger_full", "no space left")
    expected = {
        "garbage": "an event of Docker's could not be read",
        "overflow": "more containers end than can be seen to at once",
        "docker": "docker is slow",
        "ledger": "no space left",
    }
    following.until(lambda worker: worker.offered.count(None) >= 2, room=4)
    assert following.logged.count(expected[why]) == 1
    assert len(following.engine.asked) == 1  # over the same connection


def test_an_engine_that_cannot_be_looked_at_is_listened_to_all_the_same(following: Following) -> None:
    """That the list of containers fails hides no event."""
    following.docker.down = SourceError("the list is a mess")
    following.engine.scripts = [telling(event("die", A))]
    following.until(lambda worker: A in worker.offered)
    assert "the list is a mess" in following.logged


def test_a_storm_of_events_is_one_connection(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of events: one connection, each handed on, nothing to be told of."""
    monkeypatch.setattr(watch, "AGAIN_S", 3600.0)
    many = [event("die", f"{number:064x}", NOON) for number in range(3000)]
    following.engine.scripts = [holding(HEAD + chunk(line(*many)) + chunk(line(event("die", A))))]
    following.until(lambda worker: A in worker.offered, room=10**9)
    assert len(following.engine.asked) == 1
    assert following.logged == ["following Docker's events"]
    assert following.place.ledger.watched_until() == NOON.astimezone(UTC)
