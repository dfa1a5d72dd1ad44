"""A few words → Snapshot and History: the table language in which rules are tested.

Owns what the words mean (`gpu: 0x58 100x2`, `warned: 15m`). Decides nothing: evaluate and plan do.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ds01_policy.model import (
    Answer,
    Container,
    Gpu,
    GpuClaim,
    GpuRef,
    History,
    KeepAlive,
    Kind,
    MigDevice,
    Missing,
    Mode,
    Snapshot,
    Spell,
    State,
)
from ds01_policy.units import Unit, parse_duration, parse_quantity, parse_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01_policy.model import JoinKey, Sample
    from ds01_policy.policy import Policy
    from ds01_policy.signals import Signal

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
EVERY_S = 30.0


class Unreadable(ValueError):
    """The table says something that has no meaning; the text names it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of a table, ready to be decided."""

    snapshot: Snapshot
    history: History
    ids: Mapping[str, str] = field(default_factory=dict)  # container id by the name the table uses


def scenario(policy: Policy, row: Mapping[str, Any]) -> Scenario:
    """Build what a row describes.

    Keys of a row: `at`, `host`, `gpus` (names, or {name: number of GPU instances}), `down` (signals nobody answers),
    `frozen` (GPUs whose exporter repeats old values), `every` (between samples), `history` (last_tick, breaker,
    unwritable), and `containers`: name → words, which `_container` lists.

    Values are text, read as they stand: in YAML `0x60` would else be ninety-six.

    Raises:
        Unreadable: for words without a meaning.

    """
    at = datetime.fromisoformat(str(row["at"])) if "at" in row else NOON
    every = parse_duration(str(row["every"])).total_seconds() if "every" in row else EVERY_S
    gpus = tuple(_gpu(index, name, row.get("gpus", {})) for index, name in enumerate(_gpu_names(row)))
    containers: list[Container] = []
    series: dict[str, dict[JoinKey, tuple[Sample, ...]]] = {}
    spells: dict[tuple[str, str], Spell] = {}
    kinds: dict[tuple[str, str], Kind] = {}
    for name, words in row.get("containers", {}).items():
        container = _container(policy, name, words, gpus, at)
        containers.append(container)
        for signal in policy.signals.values():
            if signal.label in words:
                samples = _samples(signal, str(words[signal.label]), at, every)
                for key in signal.keys(container):
                    series.setdefault(signal.name, {})[key] = samples
        _remember(policy, container, words, at, spells, kinds)
    answers = {
        signal.name: (_answer(signal, series.get(signal.name, {}), row, every),) for signal in policy.signals.values()
    }
    past = row.get("history", {})
    history = History(
        spells,
        kinds,
        last_tick_at=at - parse_duration(past.get("last_tick", "5m")) if spells or kinds or past else None,
        breaker_since=at - parse_duration(past["breaker"]) if "breaker" in past else None,
        writable=not _yes(past, "unwritable"),
        unwritable_why="disk full" if _yes(past, "unwritable") else "",
    )
    snapshot = Snapshot(at, str(row.get("host", "gpu01")), tuple(containers), gpus, answers)
    return Scenario(snapshot, history, {container.name: container.id for container in containers})


def _gpu_names(row: Mapping[str, Any]) -> list[str]:
    if "gpus" in row:
        return list(row["gpus"])
    named = [gpu for words in row.get("containers", {}).values() for gpu in _held(words)]
    wanted = list(dict.fromkeys(name.partition("/")[0] for name in named if name != "all"))
    # As many again stand free, so that a row which does not speak of demand is not about high demand.
    return [*wanted, *(f"spare{number}" for number in range(len(wanted)))]


def _held(words: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in words.get("gpus", ["a"])]


def _gpu(index: int, name: str, spec: Any) -> Gpu:
    instances = int(spec[name]) if isinstance(spec, dict) and name in spec else 0
    devices = tuple(MigDevice(f"MIG-{name}-{number}", number, number, 0) for number in range(instances))
    return Gpu(f"GPU-{name}", index, mig_enabled=bool(devices), mig_devices=devices)


def _container(policy: Policy, name: str, words: Mapping[str, Any], gpus: tuple[Gpu, ...], at: datetime) -> Container:
    """Read: up · created · ended · state · owner · type · gpus (`a`, `a/1`, `all`, []) · unclear · network_mode ·
    infrastructure · keep_alive (age of the file) · kept (how long it has held this spell) · labels · image ·
    running_for (through restarts) · id.
    """  # noqa: D205  a list of words, one sentence
    known = {
        "up", "created", "ended", "state", "owner", "type", "gpus", "unclear", "network_mode", "infrastructure",
        "keep_alive", "kept", "keep_alive_unreadable", "labels", "image", "running_for", "warned", "seen", "unreached",
        "warned_mode", "was", "id", "warned_life", *(signal.label for signal in policy.signals.values()),
    }  # fmt: skip
    if unknown := set(words) - known:
        raise Unreadable(f"{name}: no meaning for {', '.join(sorted(unknown))}")
    state = State(words.get("state", "running"))
    started = None if state is State.CREATED else _ago(at, words.get("up", "3h"))
    refs: list[GpuRef] = []
    for held in _held(words):
        if held == "all":
            refs += [ref for gpu in gpus for ref in gpu.refs]
        else:
            gpu, _, instance = held.partition("/")
            refs.append(GpuRef(f"GPU-{gpu}", int(instance) if instance else None))
    owner = str(words.get("owner", "alice"))
    unclear = str(words.get("unclear", ""))
    return Container(
        id=str(words.get("id") or hashlib.sha256(name.encode()).hexdigest()),
        name=name,
        image=str(words.get("image", "pytorch:2")),
        state=state,
        created_at=_ago(at, words.get("created", words.get("running_for", words.get("up", "3h")))),
        started_at=started,
        finished_at=_ago(at, words["ended"]) if "ended" in words else None,
        running_since=_ago(at, words["running_for"]) if "running_for" in words else started,
        labels={str(key): str(value) for key, value in words.get("labels", {}).items()},
        gpus=GpuClaim(wants=bool(refs or unclear), refs=tuple(sorted(set(refs))), unclear=unclear, via="--gpus"),
        type=str(words.get("type", "docker")),
        owner=owner,
        owner_via="label ds01.user",
        group=policy.limits.group_of(owner),
        infrastructure=_yes(words, "infrastructure"),
        keep_alive=_keep_alive(words, at),
        keep_alive_unreadable=str(words.get("keep_alive_unreadable", "")),
        network_mode=str(words.get("network_mode", "bridge")),
    )


def _yes(words: Mapping[str, Any], key: str) -> bool:
    return str(words.get(key, "false")).lower() == "true"


def _ago(at: datetime, words: Any) -> datetime:
    text = str(words)
    return at + parse_duration(text[1:]) if text.startswith("+") else at - parse_duration(text)


def _keep_alive(words: Mapping[str, Any], at: datetime) -> KeepAlive | None:
    if "keep_alive" not in words:
        return None
    return KeepAlive(_ago(at, words["keep_alive"]), _ago(at, words["kept"]) if "kept" in words else None)


def _remember(
    policy: Policy,
    container: Container,
    words: Mapping[str, Any],
    at: datetime,
    spells: dict[tuple[str, str], Spell],
    kinds: dict[tuple[str, str], Kind],
) -> None:
    """Read: warned ({rule: how long ago}), warned_mode, unreached, seen (last tick of it), was ({rule: verdict})."""
    for rule, ago in words.get("warned", {}).items():
        warned = _ago(at, ago)
        spells[container.id, rule] = Spell(
            container.id,
            _ago(at, words["warned_life"]) if "warned_life" in words else container.started_at,
            rule,
            since=warned,
            seen=_ago(at, words.get("seen", "5m")),
            warned_at=warned,
            warned_mode=Mode(words.get("warned_mode", policy.settings.mode)),
            delivered=not _yes(words, "unreached"),
        )
    for rule, kind in words.get("was", {}).items():
        kinds[container.id, rule] = Kind(kind)


def _answer(
    signal: Signal, series: Mapping[JoinKey, tuple[Sample, ...]], row: Mapping[str, Any], every: float
) -> Answer:
    if signal.label in row.get("down", ()):
        return Answer("prometheus", missing=Missing.SOURCE_DOWN, detail="connection refused")
    frozen = {f"GPU-{name}": f"exporter frozen: nothing of GPU-{name} has changed" for name in row.get("frozen", ())}
    return Answer("prometheus", series, every, signal.lag_s, frozen=frozen if signal.join == "gpu" else {})


def _samples(signal: Signal, text: str, at: datetime, every: float) -> tuple[Sample, ...]:
    """Read `0x58 100x2`: values for so many minutes, ending now; `_x10` is ten minutes without samples."""
    pieces = [_piece(signal, token) for token in text.split()]
    start = at.timestamp() - sum(minutes for _, minutes in pieces) * 60
    samples: list[Sample] = []
    total, begin = 0.0, start
    for value, minutes in pieces:
        steps = round(minutes * 60 / every)
        for step in range(1, steps + 1):
            total += (value or 0.0) * every
            if value is not None and not math.isnan(value):
                samples.append((begin + step * every, total if signal.kind == "counter" else value))
        begin += minutes * 60
    return tuple(samples)


def _piece(signal: Signal, token: str) -> tuple[float | None, float]:
    value, times, minutes = token.rpartition("x")
    if not times:
        raise Unreadable(f"{token!r}: write VALUExMINUTES, like 0x58 or _x10")
    if value == "_":
        return None, float(minutes)
    if value == "nan":
        return math.nan, float(minutes)
    try:
        if signal.unit in (Unit.RATIO, Unit.CORES):
            return parse_ratio(f"{value.removesuffix('%')}%"), float(minutes)
        return (float(value) if value.isdigit() else parse_quantity(value, signal.unit)), float(minutes)
    except ValueError as error:
        raise Unreadable(f"{token!r}: {error}") from error
