"""selftest: a throwaway container through warn, stop, remove and epilog, by the same parts as `evaluate`.

Owns which parts stand behind it, that a signal ends it in order, what it prints and its exit code.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import sys
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.cli.acting import Hands, is_up
from ds01_policy.cli.aftermath import Aftermath
from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.wiring import Progress, World, live_sources, now, page, policy_of
from ds01_policy.lock import RunLock
from ds01_policy.memory import Memory
from ds01_policy.model import History, Mode
from ds01_policy.observe.docker import EngineDocker
from ds01_policy.observe.snapshot import DockerDown
from ds01_policy.report.document import dumps
from ds01_policy.report.layout import Clock
from ds01_policy.selftest.order import Person
from ds01_policy.selftest.run import Asked, Parts, selftest
from ds01_policy.selftest.step import Refused, Step, document, line, summary, title
from ds01_policy.tick import tick
from ds01_policy.units import format_duration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from ds01_policy.cli.options import Options
    from ds01_policy.observe.ports import Sources
    from ds01_policy.policy import Policy
    from ds01_policy.selftest.order import Order
    from ds01_policy.selftest.run import Place, Ticker
    from ds01_policy.tick import Actuator, Report

_SHORTEST, _LONGEST = timedelta(seconds=20), timedelta(minutes=30)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(options: Options, *, gpu: str | None, no_gpu: bool, image: str | None, timeout: str, json: bool) -> None:
    """Prove on this host that an act is carried out, with a container of our own."""
    if options.replay is not None:
        fail(Exit.USAGE, ["selftest starts a container on this host: it cannot run on a recording (--replay)"])
    if gpu is not None and no_gpu:
        fail(Exit.USAGE, ["--gpu and --no-gpu contradict each other"])
    asked = Asked(_person(), gpu, no_gpu, _timeout(timeout))
    policy = policy_of(options)
    sources = live_sources(policy)
    progress, shown = Progress(), page()
    above = [title(sources.host.name(), shown, Clock(now()))]  # written with the first step: until then nothing is done

    def tell(step: Step) -> None:
        progress.done()
        if not json:
            sys.stdout.write("".join(above) + line(step, shown))
            sys.stdout.flush()
            above.clear()
        progress.say("selftest …")

    with _bell() as wait:
        parts = Parts(policy, sources, _place(policy, image), _ticker(progress), now, wait, tell)
        try:
            course = selftest(parts, asked)
        except Refused as refused:
            fail(Exit.USAGE, [str(refused), "nothing was done"])
        except DockerDown as down:
            fail(Exit.NO_DOCKER, [f"Docker could not be observed: {down}", "nothing was done"])
        finally:
            progress.done()
    if json:
        sys.stdout.write(dumps(document(course), indented=sys.stdout.isatty()))
    else:
        sys.stdout.write(summary(course, shown))
    raise SystemExit(int(Exit.FAILED if course.failed else Exit.DONE))


def _timeout(text: str) -> timedelta:
    try:
        timeout = parse_duration(text)
    except ValueError as error:
        fail(Exit.USAGE, [f"--timeout {error}"])
    if not _SHORTEST <= timeout <= _LONGEST:
        fail(Exit.USAGE, [f"--timeout is from {format_duration(_SHORTEST)} to {format_duration(_LONGEST)}"])
    return timeout


def _person() -> Person:
    """Find out who asks: whoever ran sudo, else whose process this is."""
    uid = os.geteuid()
    with suppress(KeyError, ValueError):
        found = pwd.getpwnam(os.environ["SUDO_USER"]) if uid == 0 and "SUDO_USER" in os.environ else pwd.getpwuid(uid)
        return Person(found.pw_name, found.pw_uid, found.pw_gid)
    return Person("root" if uid == 0 else str(uid), uid, os.getegid())


def _place(policy: Policy, image: str | None) -> Callable[[Order], Place]:
    def place(order: Order) -> Place:
        from ds01_policy.selftest.throwaway import Throwaway  # with Docker's library, which is slow to load

        settings = policy.settings.docker
        return Throwaway(settings.url, settings.timeout.total_seconds(), order, image)

    return place


def _ticker(progress: Progress) -> Ticker:
    @contextmanager
    def ticker(
        policy: Policy, sources: Sources, state_dir: Path, wall: Callable[[Actuator], Actuator]
    ) -> Iterator[Callable[[], Report]]:
        """Make ticks as `evaluate` makes them."""
        world = World(sources, now, History)
        settings = policy.settings.docker
        with (
            RunLock(state_dir / "lock"),
            closing(Memory(state_dir, sources.host.name(), lambda container: is_up(world, container))) as memory,
            EngineDocker(settings.url, settings.timeout.total_seconds()) as docker,
        ):
            hands = wall(Hands(policy, memory, world, progress))
            # Whose a process on the GPU is, only the list of all containers tells.
            aftermath = Aftermath(policy, docker, memory.files, Mode.ENFORCE)
            yield lambda: tick(policy, sources, memory, hands, now, aftermath=aftermath)

    return ticker


@contextmanager
def _bell() -> Iterator[Callable[[float], bool]]:
    """Give what waits so many seconds, and says whether to go on: not once a signal has asked the program to end.

    A signal interrupts nothing else: between asking Docker for a container and knowing its id, it would be left behind.
    """
    heard, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def rung(_number: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):
            os.write(ring, b"!")

    before = {number: signal.signal(number, rung) for number in _SIGNALS}
    try:
        yield lambda seconds: not select.select([heard], [], [], seconds)[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(heard)
        os.close(ring)
