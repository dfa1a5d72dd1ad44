"""This host's own samples: one of every running GPU container and every GPU at each look, and the answers they give.

Owns what is sampled, when a sample counts as taken, and the answers made of old samples and the new one. Weaker than
Prometheus, never looser: what they prove is readings.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.looks import JITTER, spacing_of, usual_gap_s
from ds01_policy.model import ALIVE, Answer, Problem, SourceState
from ds01_policy.observe.ports import Counters, SourceError
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ds01_policy.model import Container, LocalSeries, Sample
    from ds01_policy.observe.ports import Inventory, LocalSource
    from ds01_policy.policy import Policy
    from ds01_policy.span import Questions

NAME = "local"
# What a look that found nothing to sample leaves behind: that it took place is known all the same.
_LOOKED = ("look", "", 0.0)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What one look at this host measured: (gpu, cpu or network; join key as text; value), all at one instant."""

    at: float  # Unix seconds, when it was really taken: a little after the instant the look is about
    rows: tuple[tuple[str, str, float], ...] = ()
    unsampled: Mapping[str, str] = field(default_factory=dict)  # by join key as text: why it could not be


def sample(
    source: LocalSource,
    containers: Iterable[Container],
    inventory: Inventory | None,
    known: LocalSeries,
    at: datetime,
    problems: list[Problem],
) -> tuple[Sampled, SourceState]:
    """Take one sample of every GPU container that is up and of every GPU, as far as each source of them answers.

    Whether a rule asks about it now is no matter: a later tick may. `at` is the instant that the look is about.
    """
    pids = {one.id: one.pid for one in containers if one.gpus.wants and one.state in ALIVE and one.pid > 0}
    down = ""
    try:
        counted = source.counters(pids)
    except SourceError as error:  # what the driver says of the GPUs is worth keeping all the same
        down, counted = str(error), Counters(at.timestamp())
        problems.append(Problem("local_down", down))
    problems += [Problem("local_note", note) for note in counted.notes]
    rows = (*_rows(counted), *(("gpu", uuid, used) for uuid, used in _used(inventory)))
    up = bool(counted.cpu_s) or (not pids and not down)
    detail = down or ("" if up else "no container could be counted")
    unsampled = inventory.unmeasured if inventory is not None else {}
    state = SourceState(up, detail, {"samples": _count(known) + len(rows)})
    return Sampled(counted.at, rows or (_LOOKED,), unsampled), state


def further(known: LocalSeries, sampled: Sampled | None) -> LocalSeries:
    """Add what a look measured to what is known, for a look that comes after it."""
    told = {kind: dict(by_key) for kind, by_key in known.items()}
    if sampled is None:
        return told
    for kind, key, value in sampled.rows:
        by_key = told.setdefault(kind, {})
        by_key[key] = (*by_key.get(key, ()), (sampled.at, value))
    return told


def too_rare(policy: Policy, known: LocalSeries) -> Problem | None:
    """Find out whether the looks of late came too rarely for any of them to cover the time between two."""
    interval = policy.settings.local_samples.interval
    usual_s = usual_gap_s(_looks(known))
    if usual_s is None or usual_s <= JITTER * interval.total_seconds():
        return None
    every, wanted = format_duration(timedelta(seconds=round(usual_s))), format_duration(interval)
    detail = (
        f"`evaluate` ran every {every} of late, not every {wanted}: without Prometheus nobody can be found idle; run "
        f"it every {wanted}, or set `local_samples.interval` in settings.yaml to how often it runs"
    )
    return Problem("sampled_rarely", detail)


def _rows(counted: Counters) -> Iterable[tuple[str, str, float]]:
    yield from (("cpu", container, value) for container, value in counted.cpu_s.items())
    yield from (("network", container, value) for container, value in counted.network_bytes.items())


def _used(inventory: Inventory | None) -> Iterable[tuple[str, float]]:
    return inventory.utilization.items() if inventory is not None else ()


def _count(known: LocalSeries) -> int:
    return sum(len(samples) for by_key in known.values() for samples in by_key.values())


def _looks(known: LocalSeries) -> list[float]:
    """List every instant at which something was sampled."""
    return sorted({time for by_key in known.values() for samples in by_key.values() for time, _ in samples})


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
    what came later, never too little. That this look took place is known even if it sampled nothing: what could not be
    sampled just now is not known just now.
    """
    now = at.timestamp()
    fresh: dict[str, dict[str, Sample]] = {}
    for kind, key, value in sampled.rows if sampled is not None else ():
        fresh.setdefault(kind, {})[key] = (now, value)
    looks = (*(time for time in _looks(known) if time < now), now)
    by_id = {container.id: container for container in containers}
    settings = policy.settings
    spacing_s = spacing_of(looks, settings.local_samples.interval.total_seconds(), settings.awake.total_seconds())
    answers: dict[str, tuple[Answer, ...]] = {}
    for name, asking in asked.items():
        signal = policy.signals[name]
        if signal.fallback is None:
            continue
        old, new = known.get(signal.fallback, {}), fresh.get(signal.fallback, {})
        keys = {key for container in asking if container in by_id for key in signal.keys(by_id[container])}
        series = {key: samples for key in sorted(keys, key=str) if (samples := _joined(old, new, str(key), now))}
        reasons = sampled.unsampled if sampled is not None and signal.fallback == "gpu" else {}
        unsampled = {key: reasons[str(key)] for key in keys if str(key) in reasons}
        answers[name] = (Answer(NAME, series, spacing_s, spacing_s, looks=looks, unsampled=unsampled),)
    return answers


def _joined(
    old: Mapping[str, tuple[Sample, ...]], new: Mapping[str, Sample], key: str, now: float
) -> tuple[Sample, ...]:
    before = tuple(each for each in old.get(key, ()) if each[0] < now)
    return (*before, new[key]) if key in new else before
