"""PURE: what came after our stops: for how long GPUs stayed free of who had had them, and which stops are regretted.

Owns both definitions and their edges. Where a look leaves something open, less is counted, never more. Asks nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.limits import UNKNOWN
from ds01_policy.model import ALIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from ds01_policy.model import Container, GpuRef, Stop

    WasUp = Callable[[str, Stop], bool]  # whether a container went on while one was stopped

# So long after a stop GPU-seconds are counted: nobody knows whether it would have gone on for longer.
REACH = timedelta(hours=24)
# Whoever starts again within this was using it after all, or is using it now.
REGRET = timedelta(hours=1)
# Between two ticks further apart than this nobody looked: no more than this is counted for one tick.
LONGEST_GAP = timedelta(hours=1)


def advanced(
    stops: Sequence[Stop], containers: Iterable[Container], at: datetime, was_up: WasUp, *, unseen: bool = False
) -> list[Stop]:
    """Take stops (in the order in which they were made) one tick further, by what is listed at `at`.

    Reclaimed is the time since the stop, at most REACH, up to when whoever had a GPU has that same GPU again, each GPU
    or GPU instance counting as one:

    - Whoever had it is the container's owner; of an unknown one only that container, or one of its name, has it again.
      It has it again from the StartedAt of a container on that says that it may use it (a whole GPU and an instance of
      it are the same), whether that still runs or not; also if that was up all the time. Once had again, nothing more.
    - When the stopped container itself has been up again, nothing more at all.
    - What is stopped later on the same GPU takes it over: at no time does a GPU count for two stops.
    - While nobody knows which GPUs a container of the owner's has, or while a container could not be looked at
      (`unseen`), the count waits; the tick after that makes up for it, as far as LONGEST_GAP.
    - A clock that is set back adds nothing until it is where it was. One that jumps ahead adds LONGEST_GAP at most.
    - What was started and removed between two ticks is not known.

    Regretted, once, is a stop after which, within REGRET, that container is started again, or any GPU container of its
    owner's that was not up then (one that was has only been restarted); of an unknown owner only one of its name. One
    start may show that several stops are regretted. Infrastructure belongs to nobody.
    """
    seen = _Seen.of(containers)
    return [
        _regretted(_reclaimed(stop, stops[number:], seen, at, unseen=unseen), seen, was_up)
        for number, stop in enumerate(stops, 1)
    ]


@dataclass(frozen=True, slots=True)
class _Seen:
    """GPU containers, by what they are looked up by."""

    by_id: dict[str, list[Container]] = field(default_factory=lambda: defaultdict(list))
    by_name: dict[str, list[Container]] = field(default_factory=lambda: defaultdict(list))
    by_owner: dict[str, list[Container]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, containers: Iterable[Container]) -> _Seen:
        seen = cls()
        for container in containers:
            if container.gpus.wants and not container.infrastructure:
                seen.by_id[container.id].append(container)
                seen.by_name[container.name].append(container)
                seen.by_owner[container.owner].append(container)
        return seen

    def theirs(self, stop: Stop) -> list[Container]:
        """Give the containers of whoever had the stopped one, each once."""
        known = stop.owner != UNKNOWN
        others = self.by_owner.get(stop.owner, ()) if known else self.by_name.get(stop.name, ())
        return list({container.id: container for container in (*self.by_id.get(stop.container, ()), *others)}.values())


def _reclaimed(stop: Stop, later: Sequence[Stop], seen: _Seen, at: datetime, *, unseen: bool) -> Stop:
    if not stop.gpus:
        return stop
    theirs = [container for container in seen.theirs(stop) if _has_run_since(container, stop)]
    itself = [container for container in theirs if container.id == stop.container]
    if not itself and (unseen or any(each.gpus.unclear for each in theirs)):
        return stop
    until = max(stop.counted_until, min(at, stop.at + REACH))
    seconds, free = 0.0, []
    for ref in stop.gpus:
        ends = [
            each.started_at or stop.at for each in theirs if each.id == stop.container or _uses(each.gpus.refs, ref)
        ]
        ends += [other.at for other in later if _uses(other.gpus, ref)]
        if not ends:
            free.append(ref)
        end = min(until, max(stop.counted_until, min(ends, default=until)))
        seconds += min(end - stop.counted_until, LONGEST_GAP).total_seconds()
    return replace(stop, gpus=tuple(free), counted_until=until, gpu_seconds=stop.gpu_seconds + seconds)


def _has_run_since(container: Container, stop: Stop) -> bool:
    if container.state in ALIVE:
        return True
    if container.id == stop.container:
        return container.started_at != stop.started_at
    return container.started_at is not None and container.started_at > stop.at


def _uses(refs: Iterable[GpuRef], one: GpuRef) -> bool:
    return any(
        ref.uuid == one.uuid and (None in (ref.gpu_instance, one.gpu_instance) or ref.gpu_instance == one.gpu_instance)
        for ref in refs
    )


def _regretted(stop: Stop, seen: _Seen, was_up: WasUp) -> Stop:
    if stop.regretted:
        return stop
    began = [
        container
        for container in seen.theirs(stop)
        if container.started_at is not None and stop.at < container.started_at <= stop.at + REGRET
    ]
    if any(container.id == stop.container or not was_up(container.id, stop) for container in began):
        return replace(stop, regretted=True)
    return stop
