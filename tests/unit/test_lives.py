"""Which lives of a container form one run: a restart is no way around a maximum runtime."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ds01_policy.lives import remembered, running_since
from ds01_policy.model import Container, GpuClaim, GpuRef, Life, State

MONDAY = datetime(2026, 3, 2, 0, 0, tzinfo=UTC)


def at(hours: float) -> datetime:
    """Hours after Monday's midnight."""
    return MONDAY + timedelta(hours=hours)


def life(started: float, seen: float, *, since: float | None = None, ended: float | None = None) -> Life:
    return Life(
        "c" * 64, at(started), at(started if since is None else since), at(seen), None if ended is None else at(ended)
    )


SECONDS = 1 / 3600


@pytest.mark.parametrize(
    ("previous", "started", "finished", "expected"),
    [
        pytest.param(None, None, None, None, id="never started"),
        pytest.param(None, 9, None, 9, id="unknown previous life: its own start"),
        pytest.param(None, 9, 9 - SECONDS, 9, id="a restart that nobody remembers the life before of"),
        pytest.param(life(0, 8.9), 0, None, 0, id="the same life"),
        pytest.param(life(5, 8.9, since=0), 5, 5 - SECONDS, 0, id="the same life, restarted once before"),
        pytest.param(life(0, 24), 24.05, 24.04, 0, id="nightly docker restart"),
        pytest.param(life(24.05, 48, since=0), 48.05, 48.04, 0, id="the second night, still one run"),
        pytest.param(life(0, 1), 1.05, 1.05 - SECONDS, 0, id="crash loop: twenty lives between two ticks"),
        pytest.param(life(0, 1, ended=1), 3, 1, 3, id="stopped for two hours and started again"),
        pytest.param(life(0, 1), 3, 1.01, 3, id="stopped for two hours between two looks"),
        pytest.param(life(0, 1, ended=1), 1.25, 1, 0, id="down for exactly the gap"),
        pytest.param(life(0, 1, ended=1), 1.26, 1, 1.26, id="down for a little more than the gap"),
        pytest.param(
            life(0, 1.1, ended=1), 3, 3 - SECONDS, 3, id="stopped for two hours, started, crashed at once, started"
        ),
        pytest.param(life(0, 2, ended=1), 3, 3 - SECONDS, 3, id="seen stopped for an hour, then a crash loop"),
        pytest.param(life(0, 1), 1.2, None, 0, id="Docker shows no end, seen just before"),
        pytest.param(life(0, 1), 2, None, 2, id="Docker shows no end, not seen for an hour"),
        pytest.param(life(0, 1), 1.9, 1.9 - SECONDS, 0, id="restarted while the engine paused for less than an hour"),
        pytest.param(life(0, 1), 60, 60 - SECONDS, 60, id="restarted while the engine was off: nobody saw it run"),
        pytest.param(life(0, 8), 9, -1, 9, id="the end Docker shows is older than the life before: worth nothing"),
        pytest.param(life(0, 8.5), 9, 9.2, 9, id="the end Docker shows is that of this life: worth nothing"),
        pytest.param(life(5, 8, since=0), 2, None, 2, id="the clock was set back"),
    ],
)
def test_where_the_run_began(
    previous: Life | None, started: float | None, finished: float | None, expected: float | None
) -> None:
    """Lives that follow each other within the gap are one run; whatever is not known breaks it."""
    container = Container(
        "c" * 64,
        "train",
        "img",
        State.RUNNING,
        MONDAY,
        None if started is None else at(started),
        None if finished is None else at(finished),
    )
    assert running_since(container, previous) == (None if expected is None else at(expected))


@pytest.mark.parametrize(
    ("now", "before", "started", "expected"),
    [
        pytest.param("unknown", "alice", 0, "alice", id="a directory that does not answer"),
        pytest.param("unknown", "alice", 1, "unknown", id="another life: whose that was says nothing"),
        pytest.param("bob", "alice", 0, "bob", id="somebody is found: who is found now counts"),
        pytest.param("unknown", "unknown", 0, "unknown", id="nobody ever knew"),
        pytest.param("unknown", "", 0, "unknown", id="nobody wrote it down"),
    ],
)
def test_an_owner_who_was_found_once_stays_the_owner_of_that_life(
    now: str, before: str, started: float, expected: str
) -> None:
    """Nobody's caps are for who was never known, not for whose name cannot be asked for this minute."""
    container = Container("c" * 64, "train", "img", State.RUNNING, at(0), at(started), owner=now, owner_proven=True)
    found = remembered(container, Life("c" * 64, at(0), at(0), at(0), owner=before))
    assert found.owner == expected
    assert found.owner_proven is (found.owner == now)
    assert ("as found earlier in its life" in found.owner_via) is (found.owner != now)


ONE, TWO, THREE = (GpuRef(f"GPU-{name}") for name in ("one", "two", "three"))
SLICE = GpuRef("GPU-one", 7)


@pytest.mark.parametrize(
    ("now", "before", "unclear"),
    [
        pytest.param((TWO,), (ONE,), True, id="another one"),
        pytest.param((TWO, THREE), (ONE, TWO), True, id="one of two is another"),
        pytest.param((ONE,), (ONE,), False, id="the same"),
        pytest.param((GpuRef("GPU-ONE"),), (ONE,), False, id="the same in other letters"),
        pytest.param((ONE,), (ONE, TWO), False, id="one has gone: nobody works on it any more"),
        pytest.param((ONE, TWO), (ONE,), False, id="one has come: all are meant"),
        pytest.param((SLICE,), (ONE,), False, id="divided: which slice is asked elsewhere"),
        pytest.param((ONE,), (), False, id="nobody wrote it down"),
        pytest.param((), (ONE,), False, id="none can be named now: that says so itself"),
    ],
)
def test_gpus_cannot_change_within_a_life(
    now: tuple[GpuRef, ...], before: tuple[GpuRef, ...], *, unclear: bool
) -> None:
    """Numbers move when a GPU goes away; what the container was given does not."""
    claim = GpuClaim(wants=True, refs=now, via="--gpus")
    container = Container("c" * 64, "train", "img", State.RUNNING, at(0), at(0), gpus=claim)
    found = remembered(container, Life("c" * 64, at(0), at(0), at(0), gpus=before)).gpus
    assert bool(found.unclear) is unclear
    assert found.refs == (before if unclear else now)
    elsewhere = remembered(container, Life("c" * 64, at(-1), at(-1), at(0), gpus=before)).gpus
    assert elsewhere == claim
