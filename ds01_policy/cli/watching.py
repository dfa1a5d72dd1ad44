"""What `watch` runs: Docker's events followed for as long as the host is up, or everything owed seen to once.

Owns which parts stand behind it, how it ends on a signal, and its lines. Decides nothing.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.aftercare import Aftercare
from ds01_policy.aside import Aside
from ds01_policy.cli.aftermath import epilog_once
from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.journald import say
from ds01_policy.cli.serving import Served
from ds01_policy.cli.wiring import directory_of, live_sources, now, policy_of
from ds01_policy.config.load import load
from ds01_policy.config.problems import PolicyError
from ds01_policy.gpu_claim import claim
from ds01_policy.journal import Journal
from ds01_policy.memory import AUDIT, LEDGER
from ds01_policy.model import History, Mode, Status
from ds01_policy.observe.docker import EngineDocker
from ds01_policy.observe.event_stream import EventStream
from ds01_policy.observe.host import unix_group_members
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.snapshot import identified
from ds01_policy.report.log_lines import LIMIT, epilog_line
from ds01_policy.report.priority import Priority
from ds01_policy.watch import FOLLOWING, TROUBLE, Eyes, Watch

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

    from ds01_policy.act.epilog.held import Held, Result
    from ds01_policy.cli.options import Options
    from ds01_policy.model import Container
    from ds01_policy.observe.ports import DockerSource, Inventory, Json, Sources
    from ds01_policy.policy import Policy

_GPUS_FOR_S = 60.0  # so long the list of the host's GPUs is believed
_AT_ONCE_S = 0.5  # for a worker that has nothing to do
_GOODBYE_S = 60.0  # an epilog that is at work when the program is to end


def watch(options: Options, *, once: bool) -> None:
    """Follow Docker's events until told to end; with `once`, see to what is owed now and end."""
    if options.replay is not None:
        fail(Exit.USAGE, ["watch follows this host's Docker: it cannot run on a recording"])
    policy = policy_of(options)
    sources = live_sources(policy)
    state_dir = Path(policy.settings.state_dir)
    with closing(Journal(state_dir / LEDGER, state_dir / AUDIT, sources.host.name())) as journal:
        journal.under(policy.digest)
        try:
            journal()
        except TROUBLE as error:
            fail(Exit.FAILED, [str(error), "nothing that cannot be written down is done"])
        parts = _Parts(options, policy, sources, journal)
        if once:
            raise SystemExit(int(_once(parts)))
        _follow(parts)


@dataclass
class _Parts:
    """Everything that the loop and its worker are made of."""

    options: Options
    policy: Policy
    sources: Sources
    journal: Journal
    _gpus: tuple[float, Inventory | None] | None = field(default=None, init=False)  # when they were listed, and what

    def eyes(self) -> Eyes:
        """Make eyes with a connection of their own."""
        settings = self.policy.settings.docker
        docker = EngineDocker(settings.url, settings.timeout.total_seconds())
        return Eyes(docker, self.journal, self._identified, now)

    def aftercare(self, docker: DockerSource) -> Aftercare:
        """Make what runs epilogs, under the policy as it stands now: a mode that was weakened counts at once.

        Raises SourceError where the policy cannot be read.
        """
        try:
            self.policy = policy = load(directory_of(self.options), unix_group=unix_group_members)
        except PolicyError as error:
            raise SourceError(f"no epilog is run until the policy is mended (ds01-policy check): {error}") from error
        self.journal.under(policy.digest)
        hands = policy.settings.mode is Mode.ENFORCE
        once = epilog_once(policy, self.journal, "watch", docker, hands=hands)
        return Aftercare(docker, once, self.journal, now)

    def _identified(self, raw: Json) -> Container:
        """Say who a container is and what it holds; the driver is asked only about those that have a GPU."""
        inventory = self._inventory() if claim(raw, None).wants else None
        return identified(self.policy, self.sources, History(), inventory, raw, [])

    def _inventory(self) -> Inventory | None:
        if self._gpus is None or time.monotonic() - self._gpus[0] >= _GPUS_FOR_S:
            try:
                found = self.sources.gpu.inventory()
            except SourceError:  # the next tick says so; what a container was given by UUID is known all the same
                found = None
            self._gpus = (time.monotonic(), found)
        return self._gpus[1]


def _once(parts: _Parts) -> Exit:
    """Look around, and run what is owed."""
    failed, eyes = False, parts.eyes()
    try:
        eyes.look_around()
    except SourceError as error:
        fail(Exit.NO_DOCKER, [str(error), "nothing was done"])
    try:
        for held, result in parts.aftercare(eyes.docker).run():
            _say(held, result)
            failed = failed or result.status is Status.FAILED
    except TROUBLE as error:
        fail(Exit.FAILED, [str(error)])
    return Exit.FAILED if failed else Exit.DONE


def _follow(parts: _Parts) -> None:
    settings = parts.policy.settings.docker
    eyes = parts.eyes()

    def see_to(container: str | None) -> None:
        try:
            if container is not None:
                eyes.settle(container)
                eyes.look(container)
            for held, result in parts.aftercare(eyes.docker).run(container):
                _say(held, result)
                served.ran(result.status)
        except TROUBLE as error:
            watching.behind(str(error))

    worker = Aside(see_to)
    stream = EventStream(settings.url, settings.timeout.total_seconds())
    watching = Watch(stream, parts.eyes(), worker, _complain)
    served = Served(parts.policy.settings, watching, worker, _complain)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        served.start()
        watching.follow()
    finally:
        served.stop()
        if not worker.stop(_AT_ONCE_S):
            _complain("an epilog is at work; ending when it is through")
            worker.stop(_GOODBYE_S)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """End at the first signal, in order; at a second one, at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    raise SystemExit(int(Exit.DONE))


def _say(held: Held, result: Result) -> None:
    say([epilog_line(held, result)], sys.stdout, LIMIT)


def _complain(line: str) -> None:
    priority = Priority.INFO if line == FOLLOWING else Priority.WARNING
    say([(priority, line)], sys.stderr, LIMIT)
