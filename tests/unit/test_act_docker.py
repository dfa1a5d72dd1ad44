"""What is done to containers, against an engine on a unix socket that misbehaves as told."""

from __future__ import annotations

import gc
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from engine_server import served
from stopwatch import stopwatch

from ds01_policy.act.docker import Engine
from ds01_policy.act.expected import Expected
from ds01_policy.model import State, Status

ID = "a" * 64
OTHER = "b" * 64
STARTED = "2026-03-02T01:00:00.123456789Z"
NEVER = "0001-01-01T00:00:00Z"
AGAIN = "2026-03-02T03:31:07.5Z"
DECIDED = Expected("train", datetime(2026, 3, 2, 1, 0, 0, 123456, UTC), frozenset({State.RUNNING}))
ENDED = Expected("train", DECIDED.started_at, frozenset({State.EXITED}))
STOPPED = Expected("train", DECIDED.started_at, frozenset({State.EXITED, State.DEAD}), stopped=True)
GRACE = timedelta(seconds=2)

Answer = tuple[int, dict[str, Any]]
Step = Callable[["FakeEngine"], Answer | None]  # None: then do what an engine does


def container(**changes: Any) -> dict[str, Any]:
    """Inspect's answer, as far as it matters here."""
    raw: dict[str, Any] = {
        "Id": ID,
        "Name": "/train",
        "State": {"Status": "running", "StartedAt": STARTED, "ExitCode": 0},
        "HostConfig": {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": False},
    }
    for key, value in changes.items():
        match key:
            case "status" | "started":
                raw["State"][{"status": "Status", "started": "StartedAt"}[key]] = value
            case "policy":
                raw["HostConfig"]["RestartPolicy"] = {"Name": value, "MaximumRetryCount": 3}
            case "auto_remove":
                raw["HostConfig"]["AutoRemove"] = value
            case _:
                raw[key.capitalize()] = value
    return raw


class FakeEngine:
    """Docker's answers for a few containers; `script` holds, by call, what happens first at its next occurrences."""

    def __init__(self, socket: Path) -> None:
        self.url = f"unix://{socket}"
        self.containers: list[dict[str, Any]] = []
        self.script: dict[str, list[Step]] = defaultdict(list)
        self.calls: list[str] = []
        self.released = threading.Event()

    def play(self, changes: dict[str, Any], script: dict[str, list[Step]]) -> None:
        """Hold one container, changed like this, and misbehave like that."""
        self.containers[:] = [container(**changes)]
        self.script.update({call: list(steps) for call, steps in script.items()})

    def find(self, reference: str) -> dict[str, Any] | None:
        """By id, then by name, as Docker does."""
        by_id = [raw for raw in self.containers if raw["Id"] == reference]
        by_name = [raw for raw in self.containers if raw["Name"] == f"/{reference}"]
        return next(iter(by_id + by_name), None)

    def answer(self, method: str, url: str, body: bytes) -> Answer:
        """Answer one request as an engine would, after whatever the script says."""
        path = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(path.query).items()}
        if path.path == "/version":
            return self.scripted("version") or (200, {"ApiVersion": "1.41"})
        _, _, _, reference, *rest = path.path.split("/")
        match method, rest:
            case "GET", ["json"]:
                self.calls.append("look")
                return self.scripted("look") or self.inspected(reference)
            case "POST", ["update"]:
                policy = json.loads(body)["RestartPolicy"]
                self.calls.append(f"update {policy['Name']} {policy.get('MaximumRetryCount', '')}".strip())
                return self.scripted("update") or self.updated(reference, policy)
            case "POST", ["stop"]:
                self.calls.append(f"stop {query['t']}")
                return self.scripted("stop") or self.stopped(reference)
            case "DELETE", []:
                self.calls.append("remove" if (query["v"], query["force"]) == ("False", "False") else f"FORCED {url}")
                return self.scripted("remove") or self.removed(reference)
        self.calls.append(f"UNEXPECTED {method} {url}")
        return 501, {"message": "unexpected"}

    def scripted(self, call: str) -> Answer | None:
        return self.script[call].pop(0)(self) if self.script[call] else None

    def inspected(self, reference: str) -> Answer:
        found = self.find(reference)
        return (200, found) if found else gone(self)

    def updated(self, reference: str, policy: dict[str, Any]) -> Answer:
        if (found := self.find(reference)) is None:
            return gone(self)
        found["HostConfig"]["RestartPolicy"] = {"MaximumRetryCount": 0} | policy
        return 200, {"Warnings": None}

    def stopped(self, reference: str) -> Answer:
        if (found := self.find(reference)) is None:
            return gone(self)
        if found["State"]["Status"] not in ("running", "paused", "restarting"):
            return 304, {}
        found["State"] |= {"Status": "exited", "ExitCode": 137}
        if found["HostConfig"]["AutoRemove"]:
            self.containers.remove(found)
        return 204, {}

    def removed(self, reference: str) -> Answer:
        if (found := self.find(reference)) is None:
            return gone(self)
        if found["State"]["Status"] in ("running", "paused", "restarting"):
            return 409, {"message": f"You cannot remove a running container {reference}. Stop it first or force remove"}
        self.containers.remove(found)
        return 204, {}


# ── steps of a script ────────────────────────────────────────────────────────────────────────────────────────────────


def normal(_: FakeEngine) -> None:
    """Do what an engine does."""


def gone(_: FakeEngine) -> Answer:
    return 404, {"message": "No such container: x"}


def vanishes(engine: FakeEngine) -> None:
    engine.containers.clear()


def recreated(engine: FakeEngine) -> None:
    """Be removed, and created anew under the old name by its user."""
    engine.containers[:] = [container(id=OTHER, started=AGAIN)]


def restarted(engine: FakeEngine) -> None:
    engine.containers[0]["State"] |= {"Status": "running", "StartedAt": AGAIN}


def becomes(status: str) -> Step:
    def step(engine: FakeEngine) -> None:
        engine.containers[0]["State"]["Status"] = status

    return step


def renamed(engine: FakeEngine) -> None:
    engine.containers[0]["Name"] = "/keep\x1b[31m"


def fails(status: int, message: str = "boom\x1b[2J\u202e") -> Step:
    return lambda _: (status, {"message": message})


def hangs(engine: FakeEngine) -> None:
    """Answer only when the test is over."""
    engine.released.wait(60)


HANGING: set[Step] = {hangs}


def cut(_: FakeEngine) -> Answer:
    """Close the connection without an answer."""
    return 0, {}


def takes(seconds: float) -> Step:
    def step(engine: FakeEngine) -> None:
        engine.released.wait(seconds)

    return step


def after(*first: Step) -> Step:
    """Several things happen at once."""

    def step(engine: FakeEngine) -> Answer | None:
        answers = [one(engine) for one in first]
        return answers[-1]

    if hangs in first:
        HANGING.add(step)
    return step


# ── the engine under the socket ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with served(FakeEngine) as fake:
        fake.containers.append(container())
        yield fake
    assert not [call for call in fake.calls if call.startswith(("UNEXPECTED", "FORCED"))]


def hand(fake: FakeEngine, timeout_s: float | None = None, margin_s: float = 0.2) -> Engine:
    """Make one that is soon out of patience where something hangs, and nowhere else."""
    hanging = any(step in HANGING for steps in fake.script.values() for step in steps)
    return Engine(fake.url, timeout_s or (0.6 if hanging else 20.0), margin_s)


# ── stop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

ALWAYS = {"policy": "always"}
DONE, NOOP, FAILED, STALE = Status.DONE, Status.NOOP, Status.FAILED, Status.STALE


def row(
    sentence: str,
    status: Status,
    words: str,
    calls: str,
    *,
    found: dict[str, Any] | None = None,
    expect: Expected = DECIDED,
    **script: list[Step],
) -> Any:
    """One way it can go: the outcome, words in its detail, and exactly which calls were made in which order."""
    return pytest.param(found or {}, expect, script, status, words, calls.split(", "), id=sentence)


COLUMNS = ("found", "expect", "script", "status", "words", "calls")
POLICY_BACK = "look, update no, look, stop 2, look, update always 3"


@pytest.mark.parametrize(
    COLUMNS,
    [
        row("a running container is stopped", DONE, "exit code 137", "look, stop 2, look"),
        row(
            "the restart policy goes strictly before the stop",
            DONE,
            "its restart policy was always, is no now",
            "look, update no, look, stop 2, look",
            found=ALWAYS,
        ),
        row(
            "on-failure comes back too",
            DONE,
            "was on-failure",
            "look, update no, look, stop 2, look",
            found={"policy": "on-failure"},
        ),
        row("an empty policy is no policy", DONE, "", "look, stop 2, look", found={"policy": ""}),
        row(
            "a --rm container removes itself", DONE, "removed itself", "look, stop 2, look", found={"auto_remove": True}
        ),
        row(
            "a --rm container's policy cannot be set",
            DONE,
            "removed itself",
            "look, stop 2, look",
            found={"auto_remove": True, "policy": "always"},
        ),
        row("gone before the first look", NOOP, "already gone", "look", look=[vanishes]),
        row("gone before the stop", NOOP, "already gone", "look, stop 2", stop=[vanishes]),
        row("gone before the update", NOOP, "already gone", "look, update no", found=ALWAYS, update=[vanishes]),
        row("gone after the stop", DONE, "removed itself", "look, stop 2, look", look=[normal, vanishes]),
        row("already exited", NOOP, "already exited", "look", found={"status": "exited"}),
        row("already dead", NOOP, "already dead", "look", found={"status": "dead"}),
        row(
            "exits by itself just before the stop (304)",
            NOOP,
            "already exited",
            "look, stop 2, look",
            stop=[becomes("exited")],
        ),
        row(
            "exits by itself while the policy is changed: the policy is put back",
            NOOP,
            "restart policy always was put back",
            "look, update no, look, update always 3",
            found=ALWAYS,
            look=[normal, becomes("exited")],
        ),
        row(
            "restarted since",
            STALE,
            "started at 2026-03-02T03:31:07.500Z, had at 2026-03-02T01:00:00.123Z",
            "look",
            found={"started": AGAIN},
        ),
        row("renamed since", STALE, "called other now, was train", "look", found={"name": "/other"}),
        row("renamed to hostile text", STALE, "called keep\\x1b[31m now", "look", look=[renamed]),
        row("paused since", STALE, "it is paused now, was running", "look", found={"status": "paused"}),
        row("restarting since", STALE, "it is restarting now", "look", found={"status": "restarting"}),
        row("never started", STALE, "started never", "look", found={"started": NEVER, "status": "created"}),
        row("re-created under its old name", NOOP, "already gone", "look", look=[recreated]),
        row(
            "another container is named like its id",
            NOOP,
            "already gone",
            "look",
            found={"id": OTHER, "name": f"/{ID}"},
        ),
        row(
            "restarted while the policy was changed: no stop, policy back",
            STALE,
            "restart policy always was put back",
            "look, update no, look, update always 3",
            found=ALWAYS,
            update=[restarted],
        ),
        row(
            "restarted between look and stop: said, as it cannot be undone",
            DONE,
            "started again in the last moment",
            "look, stop 2, look",
            stop=[restarted],
        ),
        row(
            "a policy that cannot be changed means no stop",
            FAILED,
            "not stopped, as it would come back",
            "look, update no",
            found=ALWAYS,
            update=[fails(500)],
        ),
        row(
            "a policy change that hangs means no stop, and the policy back",
            FAILED,
            "unknown: Docker did not answer",
            "look, update no, update always 3",
            found=ALWAYS,
            update=[hangs],
        ),
        row(
            "a stop that fails puts the policy back",
            FAILED,
            "still running after the stop: Docker answered 500: boom\\x1b[2J\\u202e; its restart policy always was put",
            POLICY_BACK,
            found=ALWAYS,
            stop=[fails(500)],
        ),
        row(
            "a policy that cannot be put back is said",
            FAILED,
            "could not be put back: Docker answered 500: disk full",
            POLICY_BACK,
            found=ALWAYS,
            stop=[fails(500)],
            update=[normal, fails(500, "disk full")],
        ),
        row(
            "an error although it stopped is a stop",
            DONE,
            "although Docker answered 500",
            "look, stop 2, look",
            stop=[after(becomes("exited"), fails(500))],
        ),
        row(
            "it runs again after the stop",
            FAILED,
            "came back: it is running again",
            "look, stop 2, look",
            look=[normal, restarted],
        ),
        row(
            "it is restarting after the stop",
            FAILED,
            "came back: Docker is restarting it",
            "look, stop 2, look",
            look=[normal, becomes("restarting")],
        ),
        row("a look that fails", FAILED, "Docker answered 500", "look", look=[fails(500)]),
        row("a look that hangs", FAILED, "Docker did not answer", "look", look=[hangs]),
        row("a look that shows no container", FAILED, "cannot be read", "look", look=[lambda _: (200, {"Id": ID})]),
        row("an error without a message", FAILED, "KeyError", "look", look=[lambda _: (500, {"error": "?"})]),
        row(
            "the look after the stop hangs",
            FAILED,
            "whether it stopped is unknown",
            "look, stop 2, look",
            look=[normal, hangs],
        ),
    ],
)
def test_stop(
    engine: FakeEngine,
    found: dict[str, Any],
    expect: Expected,
    script: dict[str, list[Step]],
    status: Status,
    words: str,
    calls: list[str],
) -> None:
    """Each way a stop can go."""
    engine.play(found, script)
    result = hand(engine).stop(ID, GRACE, expect)
    assert result[0] is status, result
    assert words in result[1]
    assert engine.calls == calls


@pytest.mark.parametrize("state", ["paused", "restarting"])
def test_stop_of_other_living_states(engine: FakeEngine, state: str) -> None:
    """A paused or crash-looping container stops as well, when that is what was decided about."""
    engine.play({"status": state}, {})
    status, _ = hand(engine).stop(ID, GRACE, Expected("train", DECIDED.started_at, frozenset({State(state)})))
    assert status is Status.DONE
    assert engine.containers[0]["State"]["Status"] == "exited"


def test_stop_waits_for_the_whole_grace(engine: FakeEngine) -> None:
    """A stop that uses up its grace is no timeout, although the grace exceeds the timeout of other requests."""
    engine.play({}, {"stop": [takes(1.1)]})
    status, words = hand(engine, timeout_s=0.6, margin_s=10.0).stop(ID, timedelta(seconds=1), DECIDED)
    assert (status, words) == (Status.DONE, "exit code 137")


def test_stop_rounds_the_grace_up(engine: FakeEngine) -> None:
    """Docker counts whole seconds; nobody gets less than was promised."""
    hand(engine).stop(ID, timedelta(seconds=2.2), DECIDED)
    assert engine.calls == ["look", "stop 3", "look"]


def test_stop_that_outlasts_the_http_timeout(engine: FakeEngine) -> None:
    """A read timeout is not a failure: the container is looked at, and it has stopped."""
    engine.play(ALWAYS, {"stop": [after(becomes("exited"), hangs)]})
    status, words = hand(engine).stop(ID, timedelta(0), DECIDED)
    assert status is Status.DONE, words
    assert "although Docker did not answer" in words
    assert engine.calls == ["look", "update no", "look", "stop 0", "look"]


def test_stop_whose_connection_breaks(engine: FakeEngine) -> None:
    """Docker goes on with a stop whose caller was cut off: it is waited for, up to grace and margin."""
    engine.play({}, {"stop": [cut], "look": [normal, normal, normal, becomes("exited")]})
    status, words = hand(engine, margin_s=10.0).stop(ID, timedelta(seconds=1), DECIDED)
    assert status is Status.DONE, words
    assert engine.calls == ["look", "stop 1", "look", "look", "look"]


def test_engine_that_hangs_at_once(engine: FakeEngine) -> None:
    """Nothing is asked of an engine that does not even tell its version."""
    engine.play({}, {"version": [hangs]})
    status, words = hand(engine).stop(ID, GRACE, DECIDED)
    assert (status, engine.calls) == (Status.FAILED, [])
    assert "version" in words


def test_stop_that_never_ends(engine: FakeEngine) -> None:
    """Still running after grace and margin is a failure in words, in bounded time, and the restart policy is back."""
    engine.play(ALWAYS, {"stop": [hangs]})
    with stopwatch() as seconds:
        status, words = hand(engine).stop(ID, timedelta(seconds=1), DECIDED)
        assert seconds() < 5
    assert status is Status.FAILED
    assert "still running after the stop: Docker did not answer" in words
    assert engine.containers[0]["HostConfig"]["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 3}


@pytest.mark.filterwarnings("ignore:unclosed <socket")  # the SDK's, when it cannot connect
def test_engine_that_is_not_there(tmp_path: Path) -> None:
    """No socket: failed, in words, for both."""
    nobody = Engine(f"unix://{tmp_path}/none", timeout_s=0.3)
    for status, words in (nobody.stop(ID, GRACE, DECIDED), nobody.remove(ID, ENDED)):
        assert status is Status.FAILED
        assert "No such file" in words
    gc.collect()


@pytest.mark.parametrize(
    ("started", "same"),
    [
        pytest.param("2026-03-02T01:00:00.123456Z", True, id="microseconds"),
        pytest.param("2026-03-02T02:00:00.123456999+01:00", True, id="another zone"),
        pytest.param("2026-03-02T01:00:00.125Z", False, id="two milliseconds later"),
        pytest.param("2026-03-02T01:00:00.123456", False, id="no zone is no time"),
    ],
)
def test_same_life(engine: FakeEngine, started: str, same: bool) -> None:  # noqa: FBT001  a table's column
    """The same start, however it is written, is the same life; nothing else is."""
    engine.play({"started": started}, {})
    status, _ = hand(engine).stop(ID, GRACE, DECIDED)
    assert (status is Status.DONE) is same


# ── remove ───────────────────────────────────────────────────────────────────────────────────────────────────────────

EXITED = {"status": "exited"}
CREATED = Expected("train", None, frozenset({State.CREATED}))
IN_PROGRESS = fails(409, f"removal of container {ID} is already in progress")


@pytest.mark.parametrize(
    COLUMNS,
    [
        row("an exited container is removed, its volumes stay", DONE, "", "look, remove", found=EXITED, expect=ENDED),
        row("dead after our stop is removed", DONE, "", "look, remove", found={"status": "dead"}, expect=STOPPED),
        row(
            "created, never started, is removed",
            DONE,
            "",
            "look, remove",
            found={"status": "created", "started": NEVER},
            expect=CREATED,
        ),
        row(
            "created is being started just now",
            STALE,
            "it is running now, was created",
            "look",
            found={"started": NEVER},
            expect=CREATED,
        ),
        row("created has been started", STALE, "had never when", "look", expect=CREATED),
        row("created has run and exited", STALE, "had never when", "look", found=EXITED, expect=CREATED),
        row("gone", NOOP, "already gone", "look", expect=ENDED, look=[vanishes]),
        row("gone after our stop (--rm)", DONE, "removed itself", "look", expect=STOPPED, look=[vanishes]),
        row(
            "gone at the last moment",
            NOOP,
            "already gone",
            "look, remove",
            found=EXITED,
            expect=ENDED,
            remove=[vanishes],
        ),
        row(
            "gone at the last moment after our stop",
            DONE,
            "removed itself",
            "look, remove",
            found=EXITED,
            expect=STOPPED,
            remove=[vanishes],
        ),
        row("runs again, same start", STALE, "it is running now, was exited", "look", expect=ENDED),
        row(
            "runs again after our stop",
            STALE,
            "started at 2026-03-02T03:31:07.500Z",
            "look",
            found={"started": AGAIN},
            expect=STOPPED,
        ),
        row(
            "restarted between look and stop: stopped, but not removed",
            STALE,
            "started at 2026-03-02T03:31:07.500Z",
            "look",
            found=EXITED | {"started": AGAIN},
            expect=STOPPED,
        ),
        row(
            "ended by itself, and nobody decided about that",
            STALE,
            "it is exited now, was running",
            "look",
            found=EXITED,
        ),
        row("a running container is never removed, whatever was decided", STALE, "only what has ended", "look"),
        row("renamed", STALE, "called other now", "look", found=EXITED | {"name": "/other"}, expect=ENDED),
        row("re-created under its old name", NOOP, "already gone", "look", expect=ENDED, look=[recreated]),
        row(
            "another container is named like its id",
            NOOP,
            "already gone",
            "look",
            found=EXITED | {"id": OTHER, "name": f"/{ID}"},
            expect=ENDED,
        ),
        row(
            "started between look and removal: Docker refuses, as nothing is forced",
            STALE,
            "it is running again, so it was not removed",
            "look, remove, look",
            found=EXITED,
            expect=ENDED,
            remove=[restarted],
        ),
        row(
            "being removed already: waited for",
            DONE,
            "",
            "look, remove, look, look",
            found=EXITED,
            expect=ENDED,
            remove=[IN_PROGRESS],
            look=[normal, normal, vanishes],
        ),
        row(
            "removing itself after our stop: waited for",
            DONE,
            "removed itself",
            "look, look, look",
            found={"status": "removing"},
            expect=STOPPED,
            look=[normal, normal, vanishes],
        ),
        row(
            "being removed by somebody: waited for",
            NOOP,
            "already gone",
            "look, look",
            found={"status": "removing"},
            expect=ENDED,
            look=[normal, vanishes],
        ),
        row(
            "a removal that fails",
            FAILED,
            "still there (exited): Docker answered 500: boom\\x1b",
            "look, remove, look",
            found=EXITED,
            expect=ENDED,
            remove=[fails(500)],
        ),
        row(
            "an error although it is gone is a removal",
            DONE,
            "",
            "look, remove, look",
            found=EXITED,
            expect=ENDED,
            remove=[after(vanishes, fails(500))],
        ),
        row(
            "a removal that outlasts the timeout, and is done",
            DONE,
            "",
            "look, remove, look",
            found=EXITED,
            expect=ENDED,
            remove=[after(vanishes, hangs)],
        ),
        row(
            "the look after a failed removal hangs",
            FAILED,
            "whether it was removed is unknown",
            "look, remove, look",
            found=EXITED,
            expect=ENDED,
            remove=[fails(500)],
            look=[normal, hangs],
        ),
        row("the first look hangs", FAILED, "Docker did not answer", "look", expect=ENDED, look=[hangs]),
    ],
)
def test_remove(
    engine: FakeEngine,
    found: dict[str, Any],
    expect: Expected,
    script: dict[str, list[Step]],
    status: Status,
    words: str,
    calls: list[str],
) -> None:
    """Each way a removal can go."""
    engine.play(found, script)
    result = hand(engine).remove(ID, expect)
    assert result[0] is status, result
    assert words in result[1]
    assert engine.calls == calls


def test_remove_that_hangs(engine: FakeEngine) -> None:
    """A removal that neither answers nor happens is a failure, in bounded time."""
    engine.play(EXITED, {"remove": [hangs]})
    with stopwatch() as seconds:
        status, words = hand(engine).remove(ID, ENDED)
        assert seconds() < 5
    assert status is Status.FAILED
    assert "still there (exited): Docker did not answer" in words


def test_removal_in_progress_for_ever(engine: FakeEngine) -> None:
    """A removal by somebody else that never ends is a failure, in bounded time."""
    engine.play({"status": "removing"}, {})
    status, words = hand(engine, timeout_s=0.6).remove(ID, ENDED)
    assert status is Status.FAILED
    assert "still there (removing)" in words
    assert "remove" not in engine.calls


def test_threads_share_an_engine(engine: FakeEngine) -> None:
    """None of eight stops is answered before all have been asked for."""
    ids = [f"{number:064x}" for number in range(8)]
    engine.containers[:] = [container(id=one) for one in ids]
    all_of_them = threading.Barrier(8)

    def stops(_: FakeEngine) -> None:
        all_of_them.wait(30)

    engine.script["stop"] = [stops] * 8
    shared = Engine(engine.url, timeout_s=30)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda one: shared.stop(one, GRACE, DECIDED), ids))
    assert results == [(Status.DONE, "exit code 137")] * 8
