"""The thread that sees to containers: one at a time, in order, bounded, and gone when it is told to go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from ds01_policy.aside import Aside

Start = Callable[..., Aside]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start one that is stopped after the test."""
    started: list[Aside] = []

    def begin(see_to: Callable[[str | None], object], most: int = 1000) -> Aside:
        started.append(Aside(see_to, most))
        return started[-1]

    yield begin
    for one in started:
        assert one.stop(10.0)


class Gate:
    """Sees to what comes, each only when it is let through."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, container: str | None) -> None:
        self.seen.append(container)
        self.begun.release()
        assert self.go.acquire(timeout=10)

    def through(self, count: int) -> None:
        """Let so many through, and wait until the one after them has begun."""
        for _ in range(count):
            self.go.release()
            assert self.begun.acquire(timeout=10)


def test_it_sees_to_one_after_the_other_each_once(start: Start) -> None:
    """What waits already is not put there twice; what is being seen to is, as something has happened since."""
    gate = Gate()
    aside = start(gate)
    assert aside.offer("a")
    assert gate.begun.acquire(timeout=10)
    assert all(aside.offer(each) for each in ("b", "c", "b", None, "a", None, "c"))
    gate.through(4)
    gate.go.release()
    assert gate.seen == ["a", "b", "c", None, "a"]


def test_what_waits_is_bounded(start: Start) -> None:
    """Beyond the bound nothing is taken but what waits already, and the word to see to everything that is owed."""
    gate = Gate()
    aside = start(gate, 2)
    aside.offer("a")
    assert gate.begun.acquire(timeout=10)
    assert [aside.offer(each) for each in ("b", "c", "d", "b", None)] == [True, True, False, True, True]
    gate.through(3)
    gate.go.release()
    assert gate.seen == ["a", "b", "c", None]


def test_what_breaks_it_is_told_to_who_asks() -> None:
    """It does not go on as if nothing had happened."""
    broken = threading.Event()

    def see_to(_: str | None) -> None:
        broken.set()
        raise ZeroDivisionError

    aside = Aside(see_to)
    aside.check()
    aside.offer("a")
    assert broken.wait(10)
    assert aside.stop(10)
    with pytest.raises(ZeroDivisionError):
        aside.check()


def test_it_ends_when_what_it_is_at_is_through() -> None:
    """Told to stop it begins nothing more; who waits for it need not wait for ever."""
    gate = Gate()
    aside = Aside(gate)
    aside.offer("a")
    aside.offer("b")
    assert gate.begun.acquire(timeout=10)
    assert not aside.stop(0.0)
    gate.go.release()
    assert aside.stop(10.0)
    assert gate.seen == ["a"]
    aside.check()
