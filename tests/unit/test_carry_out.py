"""Carrying decisions out: what is recorded, done and withheld, in which order, whatever breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from decided import NOW, STARTED, STOP_AND_REMOVE, container, decision

from ds01_policy.act.carry_out import DockerActuator
from ds01_policy.act.dry_run import DryRun
from ds01_policy.act.expected import Expected
from ds01_policy.act.notify import Delivery
from ds01_policy.model import Action, Decision, Outcome, State, Status

DONE, NOOP, FAILED, STALE, WITHHELD = Status.DONE, Status.NOOP, Status.FAILED, Status.STALE, Status.WITHHELD
Result = tuple[Status, str]


class DiskFull(Exception):
    """A record that cannot be written."""


def stopping(number: int = 1, *actions: Action, state: State = State.RUNNING) -> Decision:
    of = container(id=f"{number:064x}", name=f"c{number}", state=state)
    return decision(*(actions or STOP_AND_REMOVE), of=of, id=f"d{number}")


def warning(number: int = 1) -> Decision:
    return decision(Action.WARN, of=container(id=f"{number:064x}", name=f"c{number}"), id=f"w{number}")


def still_due(decisions: Sequence[Decision]) -> Mapping[str, str]:
    return {one.id: "" for one in decisions}


@dataclass
class World:
    """Engine, people and records; each writes into one log, and does as it is told by `on`."""

    on: dict[str, Callable[[], object]] = field(default_factory=dict)  # by "stop c1", "intend remove c1" and the like
    log: list[str] = field(default_factory=list)
    expected: dict[str, Expected] = field(default_factory=dict)
    graces: list[timedelta] = field(default_factory=list)
    recording_threads: set[int] = field(default_factory=set)

    def _do(self, what: str, default: object) -> object:
        self.log.append(what)
        answer = self.on.get(what)
        return default if answer is None else answer()

    # the engine
    def stop(self, container_id: str, grace: timedelta, expect: Expected) -> Result:
        assert container_id == f"{int(expect.name[1:]):064x}"
        self.graces.append(grace)
        self.expected[f"stop {expect.name}"] = expect
        return self._do(f"stop {expect.name}", (DONE, "exit code 0"))  # type: ignore[return-value]

    def remove(self, container_id: str, expect: Expected) -> Result:
        assert container_id == f"{int(expect.name[1:]):064x}"
        self.expected[f"remove {expect.name}"] = expect
        return self._do(f"remove {expect.name}", (DONE, ""))  # type: ignore[return-value]

    def epilog(self, one: Decision) -> Result:
        return self._do(f"epilog {one.container.name}", (DONE, "clean"))  # type: ignore[return-value]

    # people
    def warn(self, one: Decision) -> Delivery:
        reached = Delivery(delivered=True, attempted=True, detail="tty: pts/0 reached")
        return self._do(f"warn {one.container.name}", reached)  # type: ignore[return-value]

    def stopped(self, one: Decision, outcomes: Sequence[Outcome]) -> Delivery:
        assert [(outcome.action, outcome.status) for outcome in outcomes] == [(Action.STOP, DONE)]
        reached = Delivery(delivered=True, attempted=True, detail="tty: pts/0 reached")
        return self._do(f"tell {one.container.name}", reached)  # type: ignore[return-value]

    # records
    def intend(self, one: Decision, action: Action, at: datetime) -> None:
        assert at == NOW
        self.recording_threads.add(threading.get_ident())
        self._do(f"intend {action} {one.container.name}", None)

    def conclude(self, one: Decision, outcome: Outcome, at: datetime) -> None:
        assert (outcome.decision, outcome.at, at) == (one.id, NOW, NOW)
        self.recording_threads.add(threading.get_ident())
        self._do(f"conclude {outcome.action} {one.container.name} {outcome.status}", None)

    def carry_out(
        self,
        *decisions: Decision,
        recheck: Callable[[Sequence[Decision]], Mapping[str, str]] = still_due,
        parallel: int = 16,
    ) -> list[tuple[Action, Status, str]]:
        actuator = DockerActuator(
            engine=self,
            messenger=self,
            record=self,
            clock=lambda: NOW,
            grace_of=lambda one: timedelta(seconds=len(one.container.name)),
            epilog=self.epilog,
            parallel=parallel,
        )
        return [(one.action, one.status, one.detail) for one in actuator.carry_out(decisions, recheck)]


def raises(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


@pytest.fixture
def world() -> World:
    return World()


# ── one decision ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_action_is_written_down_before_and_after(world: World) -> None:
    """Intent, act, outcome; action by action; the owner is told once the stop is done."""
    assert world.carry_out(stopping()) == [
        (Action.STOP, DONE, "exit code 0; owner: tty: pts/0 reached"),
        (Action.REMOVE, DONE, ""),
        (Action.EPILOG, DONE, "clean"),
    ]
    assert world.log == [
        "intend stop c1", "stop c1", "tell c1", "conclude stop c1 done",
        "intend remove c1", "remove c1", "conclude remove c1 done",
        "intend epilog c1", "epilog c1", "conclude epilog c1 done",
    ]  # fmt: skip
    assert world.graces == [timedelta(seconds=2)]


def test_what_was_decided_about_is_what_is_expected(world: World) -> None:
    """The stop expects the state decided about; the removal, what our own stop leaves."""
    world.carry_out(stopping())
    assert world.expected == {
        "stop c1": Expected("c1", STARTED, frozenset({State.RUNNING})),
        "remove c1": Expected("c1", STARTED, frozenset({State.EXITED, State.DEAD}), stopped=True),
    }


def test_a_container_that_ended_by_itself_is_not_ours_to_remove(world: World) -> None:
    """Its user may have stopped it to save something: the removal still expects the state decided about."""
    world.on["stop c1"] = lambda: (NOOP, "already exited")
    world.carry_out(stopping())
    assert world.expected["remove c1"] == Expected("c1", STARTED, frozenset({State.RUNNING}))
    assert "tell c1" not in world.log


def test_removal_alone_expects_the_state_decided_about(world: World) -> None:
    """A created container is removed only while it is created."""
    world.carry_out(stopping(1, Action.REMOVE, state=State.CREATED))
    assert world.expected == {"remove c1": Expected("c1", STARTED, frozenset({State.CREATED}))}


@pytest.mark.parametrize("status", [FAILED, STALE])
@pytest.mark.parametrize(("broken", "left"), [("stop", ["remove", "epilog"]), ("remove", ["epilog"])])
def test_nothing_follows_what_did_not_work(world: World, status: Status, broken: str, left: list[str]) -> None:
    """After an action that failed or is stale, the rest is withheld, said and written down, and not intended."""
    world.on[f"{broken} c1"] = lambda: (status, "so it is")
    outcomes = world.carry_out(stopping())
    assert [(action, one, words) for action, one, words in outcomes if one is not DONE] == [
        (Action(broken), status, "so it is"),
        *((Action(action), WITHHELD, f"as {broken} was {status}") for action in left),
    ]
    after = world.log[world.log.index(f"conclude {broken} c1 {status}") + 1 :]
    assert after == [f"conclude {action} c1 withheld" for action in left]


def test_gone_already_still_gets_its_epilog(world: World) -> None:
    """A container that is gone leaves a GPU that wants checking all the same."""
    world.on |= {"stop c1": lambda: (NOOP, "already gone"), "remove c1": lambda: (NOOP, "already gone")}
    assert [status for _, status, _ in world.carry_out(stopping())] == [NOOP, NOOP, DONE]


# ── warnings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("delivery", "status"),
    [
        pytest.param(Delivery(delivered=True, attempted=True, detail="x"), DONE, id="reached"),
        pytest.param(Delivery(delivered=False, attempted=True, detail="x"), DONE, id="nobody there"),
        pytest.param(Delivery(delivered=False, attempted=False, detail="x"), FAILED, id="no channel works"),
    ],
)
def test_warnings(world: World, delivery: Delivery, status: Status) -> None:
    """A warning that was tried is done, with whether it reached anybody; one that could not be tried has failed."""
    world.on["warn c1"] = lambda: delivery
    actuator = DockerActuator(world, world, world, lambda: NOW, lambda _: timedelta(), world.epilog)
    (outcome,) = actuator.carry_out([warning()], still_due)
    assert (outcome.status, outcome.delivered, outcome.detail) == (status, delivery.delivered, "x")
    assert world.log == ["intend warn c1", "warn c1", f"conclude warn c1 {status}"]


def test_warnings_go_first_and_are_not_rechecked(world: World) -> None:
    """People hear before anything is stopped, whatever the order of decisions."""
    asked: list[str] = []

    def recheck(decisions: Sequence[Decision]) -> Mapping[str, str]:
        asked.extend(one.id for one in decisions)
        world.log.append("recheck")
        return still_due(decisions)

    outcomes = world.carry_out(stopping(1, Action.STOP), warning(2), recheck=recheck)
    assert asked == ["d1"]
    assert world.log.index("conclude warn c2 done") < world.log.index("recheck") < world.log.index("intend stop c1")
    assert [action for action, _, _ in outcomes] == [Action.STOP, Action.WARN]  # as given


# ── what must not be done ────────────────────────────────────────────────────────────────────────────────────────────


def test_suppressed_decisions_are_not_touched(world: World) -> None:
    """What the plan holds back is held back here too."""
    assert world.carry_out(decision(*STOP_AND_REMOVE, suppressed=True), decision(Action.WARN, suppressed=True)) == []
    assert world.log == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param({"d1": "busy again", "d2": ""}, "busy again", id="busy again"),
        pytest.param({"d2": ""}, "the fresh look does not show it", id="not shown by the fresh look"),
    ],
)
def test_no_longer_due(world: World, answer: dict[str, str], why: str) -> None:
    """What a fresh look does not confirm is stale, and nothing is intended or done; the others go on."""
    outcomes = world.carry_out(stopping(1), stopping(2, Action.STOP), recheck=lambda _: answer)
    assert outcomes == [
        (Action.STOP, STALE, why),
        (Action.REMOVE, WITHHELD, "as stop was stale"),
        (Action.EPILOG, WITHHELD, "as stop was stale"),
        (Action.STOP, DONE, "exit code 0; owner: tty: pts/0 reached"),
    ]
    assert [entry for entry in world.log if "c1" in entry] == [
        "conclude stop c1 stale", "conclude remove c1 withheld", "conclude epilog c1 withheld",
    ]  # fmt: skip


def test_a_fresh_look_that_fails(world: World) -> None:
    """Without a fresh look nothing is destroyed."""

    def recheck(_: Sequence[Decision]) -> Mapping[str, str]:
        raise DiskFull("in between")

    outcomes = world.carry_out(stopping(1, Action.STOP), recheck=recheck)
    assert outcomes == [(Action.STOP, STALE, "could not look again: DiskFull: in between")]
    assert "stop c1" not in world.log


@pytest.mark.parametrize("action", ["stop", "remove"])
def test_what_cannot_be_written_down_first_is_not_done(world: World, action: str) -> None:
    """A full disk withholds the action and those after it; other decisions have intents of their own."""
    world.on[f"intend {action} c1"] = raises(DiskFull("no space left"))
    outcomes = world.carry_out(stopping(1), stopping(2, Action.STOP))
    withheld = [(one, words) for one, status, words in outcomes if status is WITHHELD]
    words = "it could not be written down first: DiskFull: no space left"
    assert withheld == [(one, words) for one in STOP_AND_REMOVE[STOP_AND_REMOVE.index(Action(action)) :]]
    assert f"{action} c1" not in world.log
    assert "stop c2" in world.log


def test_a_warning_that_cannot_be_written_down_is_not_sent(world: World) -> None:
    """Else it would be sent again at every tick."""
    world.on["intend warn c1"] = raises(DiskFull())
    assert [status for _, status, _ in world.carry_out(warning())] == [WITHHELD]
    assert "warn c1" not in world.log


def test_an_outcome_that_cannot_be_written_down_is_still_told(world: World) -> None:
    """What was done stays done and is reported, with what went wrong."""
    world.on["conclude stop c1 done"] = raises(DiskFull("no space left"))
    (outcome,) = world.carry_out(stopping(1, Action.STOP))
    assert outcome[:2] == (Action.STOP, DONE)
    assert outcome[2].endswith("could not be written down: DiskFull: no space left")


# ── one never stops the others ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("broken", ["stop c1", "remove c1", "epilog c1", "warn c3"])
def test_an_unexpected_error_stays_with_its_decision(world: World, broken: str) -> None:
    """One bad container never stops the others from being handled; its error is in words, escaped."""
    world.on[broken] = raises(RuntimeError("odd\x1b[2J"))
    outcomes = world.carry_out(stopping(1), stopping(2), warning(3))
    failed = [(action, words) for action, status, words in outcomes if status is FAILED]
    assert failed == [(Action(broken.partition(" ")[0]), "unexpected: RuntimeError: odd\\x1b[2J")]
    assert {"stop c2", "remove c2", "epilog c2", "warn c3"} <= set(world.log)


@pytest.mark.parametrize(
    ("tell", "words"),
    [
        pytest.param(raises(RuntimeError("no bus")), "exit code 0; owner not told: RuntimeError: no bus", id="breaks"),
        pytest.param(
            lambda: Delivery(delivered=False, attempted=True, detail="tty: alice has no terminal open"),
            "exit code 0; owner: tty: alice has no terminal open",
            id="reaches nobody",
        ),
    ],
)
def test_telling_the_owner_never_undoes_a_stop(world: World, tell: Callable[[], object], words: str) -> None:
    """Best effort: the stop is done, what came of telling is in its detail, and the rest goes on."""
    world.on["tell c1"] = tell
    outcomes = world.carry_out(stopping())
    assert outcomes[0] == (Action.STOP, DONE, words)
    assert [status for _, status, _ in outcomes] == [DONE, DONE, DONE]


# ── side by side ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stops_run_side_by_side(world: World) -> None:
    """None of ten stops ends before all have begun; records are written by one thread alone."""
    all_of_them = threading.Barrier(10)

    def stop() -> Result:
        all_of_them.wait(30)
        return DONE, ""

    world.on |= {f"stop c{number}": stop for number in range(10)}
    outcomes = world.carry_out(*(stopping(number) for number in range(10)))
    assert [status for _, status, _ in outcomes] == [DONE] * 30
    assert world.recording_threads == {threading.get_ident()}


def test_a_slow_one_holds_up_no_other(world: World) -> None:
    """Whose stop is done goes on to its removal while others still stop."""
    removed = threading.Event()

    def remove() -> Result:
        removed.set()
        return DONE, ""

    world.on |= {
        "stop c1": lambda: (DONE, "") if removed.wait(30) else (FAILED, "the other one waited for us"),
        "remove c2": remove,
    }
    assert [status for _, status, _ in world.carry_out(stopping(1), stopping(2))] == [DONE] * 6


def test_outcomes_are_written_down_as_they_come(world: World) -> None:
    """A run that is killed while a slow one stops has lost nothing of the others."""

    def stop() -> Result:
        deadline = time.monotonic() + 30
        while "conclude epilog c2 done" not in world.log and time.monotonic() < deadline:
            time.sleep(0.01)
        return DONE, ""

    world.on["stop c1"] = stop
    world.carry_out(stopping(1), stopping(2))
    assert world.log.index("conclude epilog c2 done") < world.log.index("conclude stop c1 done")


def test_epilogs_run_one_at_a_time(world: World) -> None:
    """Two checks, or resets, of one GPU at once would see each other."""
    inside: list[int] = []
    most: list[int] = []

    def epilog() -> Result:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return DONE, ""

    world.on |= {f"epilog c{number}": epilog for number in range(4)}
    world.carry_out(*(stopping(number) for number in range(4)))
    assert most == [1, 1, 1, 1]


def test_each_batch_is_looked_at_right_before_it(world: World) -> None:
    """What is acted on a minute later is not judged by a look from before that minute."""

    def recheck(decisions: Sequence[Decision]) -> Mapping[str, str]:
        world.log.append("recheck " + " ".join(one.container.name for one in decisions))
        return still_due(decisions)

    world.carry_out(*(stopping(number, Action.STOP) for number in range(5)), recheck=recheck, parallel=2)
    order = [entry for entry in world.log if entry.startswith(("recheck", "stop"))]
    assert [entry for entry in order if entry.startswith("recheck")] == ["recheck c0 c1", "recheck c2 c3", "recheck c4"]
    assert [sorted(order[start : start + 3]) for start in (0, 3)] == [
        ["recheck c0 c1", "stop c0", "stop c1"],
        ["recheck c2 c3", "stop c2", "stop c3"],
    ]


def test_nothing_to_do(world: World) -> None:
    """No decisions: no look, no thread, no outcome."""
    assert world.carry_out(recheck=raises(AssertionError())) == []  # type: ignore[arg-type]


# ── dry run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dry_run_withholds_everything() -> None:
    """Each action of what would be carried out has an outcome; nothing is asked, nothing is done."""
    decisions = [warning(2), stopping(1), decision(Action.STOP, suppressed=True)]
    outcomes = DryRun().carry_out(decisions, still_due)
    assert [(one.decision, one.action, one.status, one.detail) for one in outcomes] == [
        ("w2", Action.WARN, WITHHELD, "dry run"),
        *(("d1", action, WITHHELD, "dry run") for action in STOP_AND_REMOVE),
    ]
