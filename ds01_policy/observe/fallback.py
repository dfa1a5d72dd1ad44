"""This host's own samples: one of every running GPU container and every GPU at each look, and the answers they give.

Owns what is sampled, when a sample counts as taken, and the answers made of old samples and the new one. Weaker than
Prometheus, never looser: what they prove is readings.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.model import ALIVE, Answer, Problem, SourceState
from ds01_policy.observe.ports import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ds01_policy.model import Container, LocalSeries, Sample
    from ds01_policy.observe.ports import Counters, Inventory, LocalSource
    from ds01_policy.policy import Policy
    from ds01_policy.span import Questions

NAME = "local"


@dataclass(frozen=True, slots=True)
class Sampled:
    """What one look at this host measured: (gpu, cpu or network; join key as text; value), all at one instant."""

    at: float  # Unix seconds, when it was really taken: a little after the instant the look is about
    rows: tuple[tuple[str, str, float], ...] = ()


def sample(
    source: LocalSource,
    containers: Iterable[Container],
    inventory: Inventory | None,
    known: LocalSeries,
    problems: list[Problem],
) -> tuple[Sampled | None, SourceState]:
    """Take one sample of every GPU container that is up and of every GPU; None: the source does not answer.

    Whether a rule asks about it now is no matter: a later tick may.
    """
    pids = {one.id: one.pid for one in containers if one.gpus.wants and one.state in ALIVE and one.pid > 0}
    try:
        counted = source.counters(pids)
    except SourceError as error:
        problems.append(Problem("local_down", str(error)))
        return None, SourceState(up=False, detail=str(error), extra={"samples": _count(known)})
    problems += [Problem("local_note", note) for note in counted.notes]
    rows = (*_rows(counted), *(("gpu", uuid, used) for uuid, used in _used(inventory)))
    up = bool(counted.cpu_s) or not pids
    detail = "" if up else "no container could be counted"
    return Sampled(counted.at, rows), SourceState(up, detail, {"samples": _count(known) + len(rows)})


def _rows(counted: Counters) -> Iterable[tuple[str, str, float]]:
    yield from (("cpu", container, value) for container, value in counted.cpu_s.items())
    yield from (("network", container, value) for container, value in counted.network_bytes.items())


def _used(inventory: Inventory | None) -> Iterable[tuple[str, float]]:
    return inventory.utilization.items() if inventory is not None else ()


def _count(known: LocalSeries) -> int:
    return sum(len(samples) for by_key in known.values() for samples in by_key.values())


def answers_of(
    policy: Policy,
    asked: Questions,
    containers: Iterable[Container],
    known: LocalSeries,
    sampled: Sampled | None,
    at: datetime,
) -> dict[str, tuple[Answer, ...]]:
    """Answer the signals that have a fallback, for the containers that are asked about: by signal, one Answer or none.

    The sample of this very look counts as taken at `at`, the instant it is about: its counters then include a little of
    what came later, never too little.
    """
    now = at.timestamp()
    fresh: dict[str, dict[str, Sample]] = {}
    for kind, key, value in sampled.rows if sampled is not None else ():
        fresh.setdefault(kind, {})[key] = (now, value)
    looks = {time for by_key in known.values() for samples in by_key.values() for time, _ in samples if time < now}
    if fresh:
        looks.add(now)
    by_id = {container.id: container for container in containers}
    interval_s = policy.settings.local_samples.interval.total_seconds()
    answers: dict[str, tuple[Answer, ...]] = {}
    for name, asking in asked.items():
        signal = policy.signals[name]
        if signal.fallback is None:
            continue
        old, new = known.get(signal.fallback, {}), fresh.get(signal.fallback, {})
        keys = {key for container in asking if container in by_id for key in signal.keys(by_id[container])}
        series = {key: samples for key in sorted(keys, key=str) if (samples := _joined(old, new, str(key), now))}
        answers[name] = (Answer(NAME, series, interval_s, interval_s, looks=tuple(sorted(looks))),)
    return answers


def _joined(
    old: Mapping[str, tuple[Sample, ...]], new: Mapping[str, Sample], key: str, now: float
) -> tuple[Sample, ...]:
    before = tuple(each for each in old.get(key, ()) if each[0] < now)
    return (*before, new[key]) if key in new else before
