"""Examines the whole chain of one host: every part is asked, and a part that fails or hangs hides no other.

Owns the order of parts and how long each may take. What is wanting, judging/ says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from ds01_policy.doctor.asking import host, metrics, surroundings
from ds01_policy.doctor.asking.installation import installation as installed
from ds01_policy.doctor.asking.state import state as state_facts
from ds01_policy.doctor.finding import Finding, bad, skipped
from ds01_policy.doctor.judging import devices, engine, installation, prometheus, series, state
from ds01_policy.doctor.judging import surroundings as around
from ds01_policy.doctor.look import Look, look_around, measured
from ds01_policy.install.layout import POLICY
from ds01_policy.observe.aside import Aside, Late
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.snapshot import DockerDown
from ds01_policy.span import reach_of
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from ds01_policy.doctor.asking.metrics import Server
    from ds01_policy.doctor.judging.engine import EngineFacts
    from ds01_policy.model import Gpu
    from ds01_policy.observe.ports import Sources
    from ds01_policy.policy import Policy

T = TypeVar("T")

# Every call ends by itself; these are for file systems and user databases that hang, which nothing else ends.
_FILES_S = 15.0
_PROGRAMS_S = 20.0
_CALLS = 12  # timeouts of a source that its part may use up
# What the doctor asks in more detail itself.
_ASKED_HERE = frozenset(
    {"source_down", "query_failed", "no_series", "join_empty", "scrape_interval", "impossible_values"}
)


@dataclass(frozen=True)
class Examination:
    """What is examined: a policy, and who is asked. `server` None: Prometheus is switched off."""

    policy: Policy
    sources: Sources
    server: Server | None
    at: datetime
    doubts: Sequence[str] = ()  # what `check` says
    own: bool = True  # the policy is this host's, not just what ships
    say: Callable[[str], None] = field(default=lambda _: None)  # shows what is waited for

    def findings(self) -> list[Finding]:
        """Ask everything, and judge it, in the order of the chain."""
        settings = self.policy.settings
        interval = settings.local_samples.interval
        files = _Part("state", partial(state_facts, settings, reach_of(self.policy)), _FILES_S)
        timer = _Part("timer", surroundings.timer, _PROGRAMS_S)
        ours = settings if self.policy.directory == str(POLICY) else None
        install = _Part("installation", partial(installed, ours), _FILES_S + _PROGRAMS_S)
        channels = _Part("notify", surroundings.channels, _PROGRAMS_S)
        docker_s = settings.docker.timeout.total_seconds()
        docker = _Part("docker", partial(host.engine, settings.docker), 2 * docker_s + _FILES_S)
        self.say("asking Docker and the driver …")
        driver = self._driver()
        gpu = host.devices(driver)
        seen = _Part("containers", partial(self._look, driver), _CALLS * docker_s + _FILES_S).answer()
        found = list(around.configuration(self.policy, self.doubts, own=self.own))
        found += docker.judged(partial(engine.engine, gpus=bool(gpu.gpus)))
        found += _containers(seen, repeated=docker.answer())
        found += devices.devices(gpu)
        self.say("asking Prometheus …")
        known = gpu.gpus is not None or gpu.no_stack
        found += self._prometheus(gpu.readable if known else None, seen)
        window = reach_of(self.policy) - 2 * interval
        expected = state.Expected(interval, settings.local_samples.retain, window)
        found += files.judged(partial(state.state, expected=expected, at=self.at))
        found += channels.judged(partial(around.channels, configured=settings.notify.channels))
        found += timer.judged(partial(around.timer, interval=interval))
        found += install.judged(partial(installation.installation, settings=settings))
        return list(dict.fromkeys(found))

    def _driver(self) -> host.Remembered:
        limit_s = _CALLS * self.policy.settings.gpu.timeout.total_seconds()
        told = _Part("gpu", partial(host.driver, self.sources.gpu), limit_s).answer()
        return host.Remembered(told) if isinstance(told, SourceError) else told

    def _look(self, driver: host.Remembered) -> Look:
        try:
            return look_around(self.policy, replace(self.sources, gpu=driver), self.at)
        except DockerDown as down:
            raise SourceError(str(down)) from down

    def _prometheus(self, gpus: tuple[Gpu, ...] | None, seen: Look | SourceError) -> Iterator[Finding]:
        """Ask the server, one question after the other; each ends within its own timeout."""
        settings = self.policy.settings.prometheus
        if settings is None or self.server is None:
            yield from prometheus.off()
            return
        facts = metrics.server(self.server, settings.url, self.at)
        yield from prometheus.server(facts, reach_of(self.policy))
        if facts.error:
            yield skipped("series", "no metric could be looked for", "see prometheus")
            return
        here = series.Here(gpus, seen.snapshot.containers if isinstance(seen, Look) else None)
        for told in metrics.metrics(self.policy, self.server, here, self.at):
            yield from series.series(told, here, settings.scrape_interval, self.at)
        if isinstance(seen, Look):
            for problem in measured(self.policy, seen, self.server, self.at):
                if problem.code not in _ASKED_HERE:
                    yield bad(problem.code, plain(problem.detail), "`ds01-policy preview` shows whom it is about")


def _containers(seen: Look | SourceError, *, repeated: EngineFacts | SourceError) -> Iterable[Finding]:
    if isinstance(seen, Look):
        return engine.containers(seen.snapshot.containers, seen.snapshot.problems, "")
    known = isinstance(repeated, SourceError) or repeated.version is None  # the engine's own finding says it
    return engine.containers(None, (), "" if known else str(seen))


class _Part(Generic[T]):
    """One part of the chain, asked in a thread of its own from the moment it is made."""

    def __init__(self, slug: str, ask: Callable[[], T], limit_s: float) -> None:
        self._slug = slug
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._aside = Aside(ask, f"doctor-{slug}")

    def answer(self) -> T | SourceError:
        """Wait for what came of it."""
        try:
            return self._aside.by(self._deadline)
        except Late:
            return SourceError(f"no answer within {self._limit_s:.0f}s")
        except SourceError as error:
            return error

    def judged(self, judge: Callable[[T], Iterable[Finding]]) -> list[Finding]:
        """Judge what came of it; that nothing did is wanting."""
        told = self.answer()
        if isinstance(told, SourceError):
            what = f"{self._slug} could not be examined: {plain(str(told))}"
            return [bad(self._slug, what, "a file system or a user database may hang: `dmesg | tail`, `findmnt`")]
        return list(judge(told))
