"""What came after a stop: GPU-seconds that stayed free, and stops that their owners took back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.model import Container, GpuClaim, GpuRef, State, Stop
from ds01_policy.stops import LONGEST_GAP, REACH, advanced

STOPPED = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
STARTED = STOPPED - timedelta(hours=3)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
A, B, C = (mark * 64 for mark in "abc")
GPU, OTHER, SLICE = GpuRef("GPU-1"), GpuRef("GPU-2"), GpuRef("GPU-1", 7)
STOP = Stop(A, "train", "alice", "idle-gpu", STARTED, STOPPED - MINUTE, STOPPED, STOPPED, (GPU,))


def container(mark: str = B, after: float | None = 2, **changes: Any) -> Container:
    """Build a GPU container that was started so many minutes after the stop, for alice, on the same GPU."""
    started = None if after is None else STOPPED + after * MINUTE
    claim = GpuClaim(wants=True, refs=changes.pop("refs", (GPU,)), unclear=changes.pop("unclear", ""), via="--gpus")
    made = Container(mark, "again", "img", State.RUNNING, STARTED, started, owner="alice", gpus=claim)
    return replace(made, **changes)


def stopped(**changes: Any) -> Container:
    """Show the stopped container as it is left."""
    return container(A, -180, name="train", state=State.EXITED, finished_at=STOPPED, **changes)


def tick(stop: Stop, *containers: Container, after: float = 5, up: tuple[str, ...] = (), **more: Any) -> Stop:
    """Take one stop a tick further, so many minutes after the stop; `up`: who was up when it was made."""
    (told,) = advanced([stop], containers, STOPPED + after * MINUTE, lambda one, _: one in up, **more)
    return told


# ── reclaimed ────────────────────────────────────────────────────────────────────────────────────────────────────────

RECLAIMED: list[tuple[str, dict[str, Any], list[Container], float]] = [
    ("nobody came back", {}, [], 5),
    ("it lies there, stopped", {}, [stopped()], 5),
    ("it was started again", {}, [container(A, 2, name="train")], 2),
    ("it was started again and has ended", {}, [container(A, 2, name="train", state=State.EXITED)], 2),
    ("it ran again while the clock was set back", {}, [container(A, -30, name="train", state=State.EXITED)], 0),
    ("it never stopped", {}, [container(A, -180, name="train")], 0),
    ("it was started again on another GPU", {}, [container(A, 2, refs=(OTHER,))], 2),
    ("its owner has the GPU again", {}, [container()], 2),
    ("its owner had it for a moment", {}, [container(state=State.EXITED)], 2),
    ("its owner had it all the time, through another container", {}, [container(after=-30)], 0),
    ("its owner has a container that ended long ago", {}, [container(after=-30, state=State.EXITED)], 5),
    ("its owner has one that was never started", {}, [container(after=None, state=State.CREATED)], 5),
    ("its owner has another GPU", {}, [container(refs=(OTHER,))], 5),
    ("its owner has a part of the GPU", {}, [container(refs=(SLICE,))], 2),
    ("its owner has the whole GPU of a part", {"gpus": (SLICE,)}, [container()], 2),
    ("its owner has another part", {"gpus": (SLICE,)}, [container(refs=(GpuRef("GPU-1", 8),))], 5),
    ("somebody else has the GPU", {}, [container(owner="bob")], 5),
    ("somebody else's is called the same", {}, [container(owner="bob", name="train")], 5),
    ("nobody knows what its owner has", {}, [container(refs=(), unclear="?")], 0),
    ("nobody knows what somebody else has", {}, [container(owner="bob", refs=(), unclear="?")], 5),
    ("its owner's has no GPU", {}, [replace(container(), gpus=GpuClaim())], 5),
    ("its owner runs infrastructure on every GPU", {}, [container(infrastructure=True)], 5),
    ("nobody's, and somebody unknown has the GPU", {"owner": "unknown"}, [container(owner="unknown")], 5),
    ("nobody's, and one of its name has the GPU", {"owner": "unknown"}, [container(owner="bob", name="train")], 2),
    ("nobody's, and it was started again", {"owner": "unknown"}, [container(A, 2, owner="unknown")], 2),
    ("it held two GPUs, and each counts as one", {"gpus": (GPU, OTHER)}, [], 10),
    ("it held two GPUs, and one is had again", {"gpus": (GPU, OTHER)}, [container()], 7),
    ("it held none that anybody knew", {"gpus": ()}, [], 0),
    ("two have the GPU again: the first counts", {}, [container(C, 4), container()], 2),
    ("its start lies ahead of the clock", {}, [container(after=90)], 5),
]


@pytest.mark.parametrize(
    ("stop", "listed", "minutes"), [row[1:] for row in RECLAIMED], ids=[row[0] for row in RECLAIMED]
)
def test_gpu_seconds_are_those_without_who_had_the_gpu(
    stop: dict[str, Any], listed: list[Container], minutes: float
) -> None:
    """Five minutes after the stop: for how long each GPU has been free of whoever had it."""
    assert tick(replace(STOP, **stop), *listed).gpu_seconds == minutes * 60


def test_each_tick_adds_what_has_passed_since_the_one_before() -> None:
    """The row remembers what has been counted; the same tick twice counts once."""
    stop = STOP
    for minutes, expected in ((5, 300), (5, 300), (10, 600), (12.5, 750)):
        stop = tick(stop, after=minutes)
        assert stop.gpu_seconds == expected


def test_what_was_had_again_is_over_for_good() -> None:
    """Also when it is given back a moment later."""
    stop = tick(replace(STOP, gpus=(GPU, OTHER)), container(), after=5)
    assert (stop.gpus, stop.gpu_seconds) == ((OTHER,), 7 * 60)
    assert tick(stop, after=10).gpu_seconds == 12 * 60


def test_one_that_was_up_again_is_over_for_good() -> None:
    """All of its GPUs, whatever it has now."""
    stop = tick(replace(STOP, gpus=(GPU, OTHER)), container(A, 2, refs=()), after=5)
    assert (stop.gpus, stop.gpu_seconds) == ((), 4 * 60)
    assert tick(stop, stopped(), after=60).gpu_seconds == 4 * 60


def test_a_day_is_the_most_that_a_stop_brings() -> None:
    """Nobody knows whether it would have gone on."""
    stop = STOP
    for hours in (*range(1, 24), 23.5, 24.5, 25, 48):
        stop = tick(stop, after=hours * 60)
    assert stop.gpu_seconds == REACH.total_seconds()


@pytest.mark.parametrize("what", ["a container that could not be looked at", "GPUs that are unclear for a while"])
def test_what_is_not_known_waits_and_is_made_up_for(what: str) -> None:
    """Nothing is counted on a look that leaves it open; what the next one shows counts from the same moment on."""
    unclear = container(after=-30, refs=(), unclear="the driver did not answer")
    waiting = tick(STOP, after=5, unseen=True) if "look" in what else tick(STOP, unclear, after=5)
    assert waiting == STOP
    assert tick(waiting, container(after=-30, refs=(OTHER,)), after=10).gpu_seconds == 600
    assert tick(waiting, container(after=2), after=10).gpu_seconds == 120


def test_of_itself_a_look_knows_enough_whatever_else_it_missed() -> None:
    """That it is up again is no matter of what could not be seen."""
    assert tick(STOP, container(A, 2), after=5, unseen=True).gpus == ()


def test_after_a_long_silence_only_an_hour_counts() -> None:
    """Nobody looked: the timer was off, or the clock jumped ahead."""
    stop = tick(STOP, after=10 * 60)
    assert stop.gpu_seconds == LONGEST_GAP.total_seconds()
    assert tick(stop, after=10 * 60 + 5).gpu_seconds == LONGEST_GAP.total_seconds() + 300


def test_a_clock_that_is_set_back_adds_nothing_until_it_is_where_it_was() -> None:
    """No second counts twice, and none is taken away; who comes back meanwhile is seen."""
    stop = tick(STOP, after=30)
    for minutes in (-60, 10, 30):
        assert tick(stop, after=minutes) == stop
    assert tick(stop, after=31).gpu_seconds == 31 * 60
    back = tick(stop, container(after=9), after=10)
    assert (back.gpus, back.gpu_seconds) == ((), 30 * 60)
    assert tick(back, after=60).gpu_seconds == 30 * 60


def test_a_gpu_counts_for_one_stop_at_a_time() -> None:
    """Two that shared it, or one that came after: the later stop takes over what the earlier one had counted."""
    later = replace(STOP, container=C, owner="bob", at=STOPPED + 2 * MINUTE, counted_until=STOPPED + 2 * MINUTE)
    first, second = advanced([STOP, later], [], STOPPED + 5 * MINUTE, lambda *_: False)
    assert (first.gpu_seconds, second.gpu_seconds) == (120, 180)
    elsewhere = replace(later, gpus=(OTHER,))
    first, second = advanced([STOP, elsewhere], [], STOPPED + 5 * MINUTE, lambda *_: False)
    assert (first.gpu_seconds, second.gpu_seconds) == (300, 180)


@settings(deadline=None)
@given(st.lists(st.integers(-120, 30 * 60), max_size=30), st.lists(st.integers(-300, 30 * 60), max_size=3))
def test_it_only_ever_grows_and_never_beyond_its_bounds(ticks: list[int], starts: list[int]) -> None:
    """Whatever the clock does and whoever comes back: no more than has passed, and no more than a day."""
    stop, latest = STOP, 0
    for minutes in ticks:
        back = [container(f"{n:064x}", start) for n, start in enumerate(starts) if start <= minutes]
        told = tick(stop, *back, after=minutes)
        latest = max(latest, minutes)
        assert stop.gpu_seconds <= told.gpu_seconds <= min(latest * 60, REACH.total_seconds())
        assert told.counted_until >= stop.counted_until
        stop = told


# ── regretted ────────────────────────────────────────────────────────────────────────────────────────────────────────

REGRETS: list[tuple[str, dict[str, Any], list[Container], tuple[str, ...], bool]] = [
    ("nobody came back", {}, [stopped()], (), False),
    ("it was started again", {}, [container(A, 2)], (), True),
    ("it was started again, and ended", {}, [container(A, 2, state=State.EXITED)], (), True),
    ("it was started again, and was up before of course", {}, [container(A, 2)], (A,), True),
    ("a new one of its owner's", {}, [container()], (), True),
    ("a new one on another GPU", {}, [container(refs=(OTHER,))], (), True),
    ("a new one, nobody knows on which GPU", {}, [container(refs=(), unclear="?")], (), True),
    ("one that was up then, and was restarted", {}, [container()], (B,), False),
    ("one that was up then, and still is", {}, [container(after=-30)], (B,), False),
    ("one at the very moment", {}, [container(after=0)], (), False),
    ("a new one at the end of the hour", {}, [container(after=60)], (), True),
    ("a new one after the hour", {}, [container(after=61)], (), False),
    ("one that was made and not started", {}, [container(after=None, state=State.CREATED)], (), False),
    ("a new one without a GPU", {}, [replace(container(), gpus=GpuClaim())], (), False),
    ("a new one of somebody else's", {}, [container(owner="bob")], (), False),
    ("somebody else's under the same name", {}, [container(owner="bob", name="train")], (), False),
    ("infrastructure", {}, [container(infrastructure=True)], (), False),
    ("nobody's, and a new one of nobody's", {"owner": "unknown"}, [container(owner="unknown")], (), False),
    ("nobody's, and one of its name", {"owner": "unknown"}, [container(owner="unknown", name="train")], (), True),
    ("nobody's, and it was started again", {"owner": "unknown"}, [container(A, 2, owner="unknown")], (), True),
]


@pytest.mark.parametrize(
    ("stop", "listed", "up", "expected"), [row[1:] for row in REGRETS], ids=[row[0] for row in REGRETS]
)
def test_a_stop_is_regretted_when_its_owner_starts_again_within_the_hour(
    stop: dict[str, Any], listed: list[Container], up: tuple[str, ...], *, expected: bool
) -> None:
    """Looked at much later: when it was started counts, not when that was seen."""
    assert tick(replace(STOP, **stop), *listed, after=90, up=up).regretted is expected


def test_a_regret_stays_and_needs_no_certain_look() -> None:
    """What was seen has happened; that something else could not be seen does not change it."""
    stop = tick(STOP, container(), after=5, unseen=True)
    assert (stop.regretted, stop.gpu_seconds) == (True, 0)
    assert tick(stop, after=10).regretted


def test_one_start_answers_every_stop_before_it() -> None:
    """Two of hers were stopped, she starts one: both owners started again."""
    other = replace(STOP, container=C, name="second")
    told = advanced([STOP, other], [container()], STOPPED + 5 * MINUTE, lambda *_: False)
    assert [stop.regretted for stop in told] == [True, True]
