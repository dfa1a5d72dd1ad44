"""Follows Docker's events: remembers what containers hold as they start, and sees to what they leave as they end.

Owns the order of looking, listening and catching up, and that no failure of a part ends it. Runs no epilog twice: Once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from ds01_policy.audit import Audit, AuditError
from ds01_policy.ledger import Ledger, LedgerError
from ds01_policy.model import ALIVE, State
from ds01_policy.observe.events import START
from ds01_policy.observe.inspected import container_of
from ds01_policy.observe.ports import SourceError

if TYPE_CHECKING:
    from ds01_policy.model import Container
    from ds01_policy.observe.events import Event
    from ds01_policy.observe.ports import DockerSource, Json

OVERLAP = timedelta(seconds=10)  # what happened shortly before the last event seen is asked for again
IDLE_S = 5.0  # how long to listen before looking around for other things to do
STEADY_S = 10.0  # a connection that lasts so long was a good one
AGAIN_S = 60.0  # when something went wrong, so long until everything is looked at anew
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 30.0  # before connecting again
SETTLE_S = 10.0  # so long a container that is being removed may take to be gone
STILL_UP_S = 1.0  # so long one that has died may look as if it had not
POLL_S = 0.1
MOST_SAID = 100
FOLLOWING = "following Docker's events"  # said whenever it begins to, and begins again
# Containers seen at work before Docker lists none at all, and it is taken for another Docker.
SUSPICIOUSLY_MANY = 3
TROUBLE = (LedgerError, AuditError, SourceError)


class Stream(Protocol):
    """Docker's events."""

    @property
    def unreadable(self) -> int:
        """How many lines could not be read."""

    def open(self, since: datetime | None) -> None:
        """Connect. Raises SourceError."""

    def read(self, wait_s: float) -> list[Event]:
        """Wait for events. Raises SourceError."""

    def close(self) -> None:
        """Disconnect."""


class Worker(Protocol):
    """Runs epilogs aside, one at a time."""

    def offer(self, container: str | None) -> bool:
        """Have a container seen to; None: whatever is owed. False: too many are waiting."""

    def check(self) -> None:
        """Raise what ended it, if anything did."""


@dataclass(frozen=True, slots=True)
class Eyes:
    """Looks at containers and writes down what they hold. For one thread: each has a connection of its own."""

    docker: DockerSource
    files: Callable[[], tuple[Ledger, Audit]]  # raises LedgerError or AuditError
    identified: Callable[[Json], Container]  # who and what it is, and which GPUs it holds; raises SourceError
    clock: Callable[[], datetime]

    def look(self, container: str) -> Container | None:
        """Look at one container and write down the life that it shows; None: it is gone, and so it is written down.

        Raises SourceError, LedgerError or AuditError.
        """
        raw = self.docker.inspect(container)
        ledger, _ = self.files()
        if raw is None:
            ledger.vanished(container, self.clock())
            return None
        found = self.identified(raw)
        if found.gpus.wants:
            ledger.remember(found, self.clock())
        return found

    def look_around(self) -> None:
        """Look at every container that runs, and at every one that the ledger believes to. Raises as `look` does.

        What cannot be read is left alone, and the first such error is raised in the end.
        """
        listed = {str(entry.get("Id")): str(entry.get("State")) for entry in self.docker.containers()}
        ledger, _ = self.files()
        believed = ledger.going_on()
        if not listed and len(believed) >= SUSPICIOUSLY_MANY:
            raise SourceError(f"Docker shows no container, though {len(believed)} with GPUs ran before: wrong daemon?")
        trouble: SourceError | None = None
        for container in {*(each for each, state in listed.items() if state in ALIVE), *believed}:
            try:
                self.look(container)
            except SourceError as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    def settle(self, container: str) -> None:
        """Wait, not for long, until a container that has died is out of Docker's hands. Raises SourceError."""
        began = time.monotonic()
        while (raw := self.docker.inspect(container)) is not None:
            state = container_of(raw).state
            # One that is up has most likely been started again, and may be up for days.
            patience = SETTLE_S if state is State.REMOVING else STILL_UP_S if state is State.RUNNING else 0.0
            if time.monotonic() - began >= patience:
                return
            time.sleep(POLL_S)


class Watch:
    """The main loop. Nothing that goes wrong with Docker, ledger or audit log ends it."""

    def __init__(self, stream: Stream, eyes: Eyes, worker: Worker, log: Callable[[str], object]) -> None:
        """Take the parts; `log` gets one line each time that something changes for the worse or the better."""
        self._stream = stream
        self._eyes = eyes
        self._worker = worker
        self._log = log
        self._last: datetime | None = None  # the time of the last event seen, unless it stands in the ledger
        self._behind_since: float | None = None  # something went wrong: look at everything anew in a while
        self._following = False
        self._said: set[str] = set()  # trouble that was told of since all was well
        self.last_event: datetime | None = None  # the time of the last event seen

    @property
    def following(self) -> bool:
        """Whether it is connected to Docker's events. Any thread may ask."""
        return self._following

    def follow(self) -> None:
        """Follow events for ever; ends by an exception from outside, or by what ended the worker."""
        wait_s = FIRST_WAIT_S
        while True:
            began = time.monotonic()
            try:
                self._stream.open(self._since())
                if not self._following:
                    self._log(FOLLOWING)
                self._following = True
                self._catch_up()
                self._listen()
            except SourceError as error:
                self._following = False
                self._trouble(f"{error}; trying again")
            finally:
                self._stream.close()
                self._note()
            wait_s = FIRST_WAIT_S if time.monotonic() - began >= STEADY_S else min(2 * wait_s, LONGEST_WAIT_S)
            time.sleep(wait_s)
            self._worker.check()

    def _since(self) -> datetime | None:
        """Tell from when on events are asked for; None: nobody has watched before."""
        try:
            last = self._last or self._eyes.files()[0].watched_until()
        except (LedgerError, AuditError) as error:
            self._trouble(str(error))
            return None
        return None if last is None else min(last, self._eyes.clock()) - OVERLAP

    def _listen(self) -> None:
        """Take events as they come. Raises SourceError when the stream ends."""
        unreadable = 0
        while True:
            events = self._stream.read(IDLE_S)
            for event in events:
                self._on(event)
            if self._stream.unreadable > unreadable:
                unreadable = self._stream.unreadable
                self.behind("an event of Docker's could not be read")
            if not events:
                self._note()
            if self._behind_since is not None and time.monotonic() - self._behind_since >= AGAIN_S:
                self._catch_up()
            self._worker.check()

    def _on(self, event: Event) -> None:
        if event.action == START:
            self._seen(event.container)
        elif not self._worker.offer(event.container):
            self.behind("more containers end than can be seen to at once")
        if event.at is not None:
            self._last = max(self._last or event.at, event.at)
            self.last_event = event.at

    def _seen(self, container: str) -> None:
        """Write down what a container holds while it is there to be asked."""
        try:
            self._eyes.look(container)
        except TROUBLE as error:
            self.behind(str(error))

    def _catch_up(self) -> None:
        """Look at everything, and have everything seen to that is owed."""
        self._behind_since = None
        try:
            self._eyes.look_around()
        except TROUBLE as error:
            self.behind(str(error))
        else:
            self._said.clear()
        if not self._worker.offer(None):
            self.behind("more containers end than can be seen to at once")

    def _note(self) -> None:
        """Write down up to when events have been seen to."""
        if self._last is None:
            return
        try:
            self._eyes.files()[0].watched(min(self._last, self._eyes.clock()))
        except (LedgerError, AuditError) as error:
            self.behind(str(error))
        else:
            self._last = None

    def behind(self, why: str) -> None:
        """Note that something could not be seen to: in a while everything is looked at anew. Any thread may."""
        self._trouble(why)
        if self._behind_since is None:
            self._behind_since = time.monotonic()

    def _trouble(self, why: str) -> None:
        """Tell of each trouble once, not at each try."""
        if why not in self._said:
            if len(self._said) >= MOST_SAID:
                self._said.clear()
            self._said.add(why)
            self._log(why)
