"""What is owed to containers that have ended: seen to have ended before anything is done, and within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from epilog_fakes import CLEAN, MINUTE, NOON, STARTED, A, B, C, Docker, Fake, Place, container, seen
from whole_host import inspect

from ds01_policy.act.epilog.held import Result
from ds01_policy.aftercare import Aftercare
from ds01_policy.model import Status
from ds01_policy.observe.ports import Json, SourceError


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Place]:
    with closing(Place(tmp_path)) as opened:
        opened.ledger.ended_lives(NOON - timedelta(days=30))
        yield opened


def shown(status: str, started: str = "2026-03-02T09:00:00.000000Z") -> Json:
    """Show a container in this state, whose present or last life began then (as the ledger knows it, unless said)."""
    answer = inspect(A, "train", status=status)
    answer["State"]["StartedAt"] = started
    return answer


def care(state: Place, docker: Docker, epilog: Fake) -> Aftercare:
    return Aftercare(docker, state.once(epilog), state.files, lambda: NOON)


NEWER = "2026-03-02T11:59:30Z"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(None, True, id="it is gone"),
        pytest.param(shown("exited"), True, id="it has stopped"),
        pytest.param(shown("dead"), True, id="it is dead"),
        pytest.param(shown("removing"), True, id="it is being removed"),
        pytest.param(shown("running"), False, id="it runs: a look had missed it"),
        pytest.param(shown("paused"), False, id="it is paused"),
        pytest.param(shown("restarting"), False, id="Docker is about to start it again"),
        pytest.param(shown("running", NEWER), False, id="it runs again"),
        pytest.param(shown("exited", NEWER), False, id="it has ended again: its newest life is not known yet"),
        pytest.param(SourceError("slow"), False, id="Docker does not answer"),
        pytest.param({"Id": A}, False, id="Docker's answer cannot be read"),
    ],
)
def test_only_what_has_ended_for_sure_gets_one(state: Place, answer: Any, *, expected: bool) -> None:
    """The ledger believes that the life has ended, as no look showed it. What Docker shows now decides."""
    seen(state.ledger, NOON - MINUTE, container(A))
    seen(state.ledger, NOON)
    docker, epilog = Docker({} if answer is None else {A: answer}), Fake()
    done = list(care(state, docker, epilog).run())
    assert len(done) == len(epilog.asked) == int(expected)
    if expected:
        ((held, result),) = done
        assert result == CLEAN
        assert held == epilog.asked[0]
        assert (held.container, held.started_at, held.ended_at) == (A, STARTED, NOON - MINUTE)
        assert held.gpus == container().gpus.refs
        assert held.unclear == "half"
        assert state.lines()[0]["owner"] == "alice"
    assert list(care(state, docker, epilog).run()) == []  # and nobody gets two


def test_what_does_not_fit_is_left_for_the_next_tick(state: Place) -> None:
    """The newest first; by number, and by time: none is begun once the time is spent, the one that is begun ends."""
    for number, mark in enumerate((A, B, C)):
        seen(state.ledger, NOON - (9 - number) * MINUTE, container(mark))
    seen(state.ledger, NOON)
    epilog = Fake()
    done = list(care(state, Docker(), epilog).run(most=2))
    assert [held.container for held, _ in done] == [C, B]
    assert list(care(state, Docker(), epilog).run(budget=timedelta(0))) == []
    assert [held.container for held, _ in care(state, Docker(), epilog).run(C)] == []
    assert [held.container for held, _ in care(state, Docker(), epilog).run(budget=timedelta(minutes=1))] == [A]


def test_a_failed_one_holds_no_other_up(state: Place) -> None:
    """It counts as this tick's; so do the others."""
    seen(state.ledger, NOON - MINUTE, container(A), container(B))
    seen(state.ledger, NOON)
    hangs = Result(Status.FAILED, "the driver hangs")
    assert [result for _, result in care(state, Docker(), Fake(hangs)).run()] == [hangs, hangs]
    assert list(care(state, Docker(), Fake()).run()) == []  # not at once anew
    later = replace(care(state, Docker(), Fake()), clock=lambda: NOON + MINUTE)
    later = replace(later, once=replace(later.once, clock=later.clock))
    assert [result for _, result in later.run()] == [CLEAN, CLEAN]
