"""A few words → Snapshot and History: the table language in which rules are tested.

Owns what the words mean (`gpu: 0x58 100x2`, `warned: 15m`). Decides nothing: evaluate and plan do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
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
from ds01_policy.series import Unreadable, samples_of
from ds01_policy.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01_policy.model import JoinKey, Sample
    from ds01_policy.policy import Policy
    from ds01_policy.signals import Signal

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
EVERY_S = 30.0
LOCAL = "local"
WORDS = frozenset({
    "up", "created", "ended", "state", "owner", "type", "gpus", "unclear", "network_mode", "infrastructure",
    "keep_alive", "kept", "keep_alive_unreadable", "labels", "image", "running_for", "warned", "seen", "unreached",
    "warned_mode", "was", "id", "warned_life",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of a table, ready to be decided."""

    snapshot: Snapshot
    history: History
    ids: Mapping[str, str] = field(default_factory=dict)  # container id by the name the table uses


def scenario(policy: Policy, row: Mapping[str, Any]) -> Scenario:
    """Build what a row describes.

    Keys of a row: `at`, `host`, `gpus` (names, or {name: number of GPU instances}), `down` (signals nobody answers),
    `frozen` (GPUs whose exporter repeats old values), `source` (prometheus, or local: looks of the engine's own, far
    apart), `every` (between samples), `history` (last_tick, breaker, unwritable), and `containers`: name → words, which
    `_container` lists. A series is named by its signal or the signal's label, and may be given for each GPU:
    `gpu: {a: 0x60, b: 80x60}`.

    Series are text, read as they stand: in YAML `0x60` would else be ninety-six.

    Raises:
        Unreadable: for words without a meaning.

    """
    at = datetime.fromisoformat(str(row["at"])) if "at" in row else NOON
    every = _every(policy, row)
    gpus = tuple(_gpu(index, name, row.get("gpus", {})) for index, name in enumerate(_gpu_names(row)))
    containers: list[Container] = []
    series: dict[str, dict[JoinKey, tuple[Sample, ...]]] = {name: {} for name in policy.signals}
    spells: dict[tuple[str, str], Spell] = {}
    kinds: dict[tuple[str, str], Kind] = {}
    for name, words in row.get("containers", {}).items():
        container = _container(policy, name, words, gpus, at)
        containers.append(container)
        for word, signal in signal_words(policy.signals).items():
            if word in words:
                with _at("containers", name, word):
                    _measure(series[signal.name], signal, container, words[word], at, every)
        _remember(policy, container, words, at, spells, kinds)
    if strange := set(map(str, row.get("frozen", ()))) - {gpu.uuid.removeprefix("GPU-") for gpu in gpus}:
        raise Unreadable(f"{min(strange)} is not in `gpus` of the host", "frozen")
    answers = {signal.name: _answers(signal, series[signal.name], row, every) for signal in policy.signals.values()}
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


@contextmanager
def _at(*path: str) -> Iterator[None]:
    """Say where it stands, of what has no meaning."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(str(error), *path) from None


def signal_words(signals: Mapping[str, Signal]) -> dict[str, Signal]:
    """List the words for a container's series: each signal's name and, where it means nothing else, its label."""
    named = dict(signals)
    return {**{each.label: each for each in signals.values() if each.label not in WORDS}, **named}


def _every(policy: Policy, row: Mapping[str, Any]) -> float:
    if "every" in row:
        return parse_duration(str(row["every"])).total_seconds()
    return policy.settings.local_samples.interval.total_seconds() if row.get("source") == LOCAL else EVERY_S


def _measure(
    series: dict[JoinKey, tuple[Sample, ...]],
    signal: Signal,
    container: Container,
    said: Any,
    at: datetime,
    every: float,
) -> None:
    """Take down one container's series: one text for all its GPUs, or one for each."""
    keys = signal.keys(container)
    texts = (
        {_ref(str(name)): text for name, text in said.items()} if isinstance(said, dict) else dict.fromkeys(keys, said)
    )
    if not keys or not set(texts) <= set(keys):
        raise Unreadable(f"it does not hold {next((key for key in texts if key not in keys), 'a GPU')}")
    for key, text in texts.items():
        found = samples_of(signal, str(text), at, every)
        if series.setdefault(key, found) != found:
            raise Unreadable(f"{signal.label} of {key} is given twice, and differs")


def _gpu_names(row: Mapping[str, Any]) -> list[str]:
    if "gpus" in row:
        return list(row["gpus"])
    named = [gpu for words in row.get("containers", {}).values() for gpu in _held(words)]
    wanted = list(dict.fromkeys(name.partition("/")[0] for name in named if name != "all"))
    # As many again stand free, so that a row which does not speak of demand is not about high demand.
    return [*wanted, *(f"spare{number}" for number in range(len(wanted)))]


def _held(words: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in words.get("gpus", ["a"])]


def _ref(held: str) -> GpuRef:
    gpu, _, instance = held.partition("/")
    if instance and not instance.isdecimal():
        raise Unreadable(f"{held!r}: write a for a GPU, a/1 for one instance of it")
    return GpuRef(f"GPU-{gpu}", int(instance) if instance else None)


def _gpu(index: int, name: str, spec: Any) -> Gpu:
    instances = int(spec[name]) if isinstance(spec, dict) and name in spec else 0
    devices = tuple(MigDevice(f"MIG-{name}-{number}", number, number, 0) for number in range(instances))
    return Gpu(f"GPU-{name}", index, mig_enabled=bool(devices), mig_devices=devices)


def _container(policy: Policy, name: str, words: Mapping[str, Any], gpus: tuple[Gpu, ...], at: datetime) -> Container:
    """Read the words that say what it is: WORDS, but for those that `_remember` reads.

    `up: never` is one whose start Docker does not show. GPUs are `a`, `a/1` (an instance of it) or `all`; `keep_alive`
    is the age of the file, `kept` how long it has held this spell; `running_for` goes through restarts.
    """
    if unknown := set(words) - WORDS - signal_words(policy.signals).keys():
        raise Unreadable(f"{name}: no meaning for {', '.join(sorted(unknown))}", "containers", name, min(unknown))
    state = State(words.get("state", "running"))
    never = state is State.CREATED or words.get("up") == "never"
    started = None if never else _ago(at, words.get("up", "3h"))
    there = {ref for gpu in gpus for ref in gpu.refs}
    refs: set[GpuRef] = set()
    with _at("containers", name, "gpus"):
        for held in _held(words):
            refs |= there if held == "all" else {_ref(held)}
            if not refs <= there:
                raise Unreadable(f"{held} is not in `gpus` of the host")
    owner = str(words.get("owner", "alice"))
    unclear = str(words.get("unclear", ""))
    return Container(
        id=str(words.get("id") or hashlib.sha256(name.encode()).hexdigest()),
        name=name,
        image=str(words.get("image", "pytorch:2")),
        state=state,
        created_at=_ago(
            at, words.get("created") or words.get("running_for") or ("3h" if never else words.get("up", "3h"))
        ),
        started_at=started,
        finished_at=_ago(at, words["ended"]) if "ended" in words else None,
        running_since=_ago(at, words["running_for"]) if "running_for" in words else started,
        labels={str(key): str(value) for key, value in words.get("labels", {}).items()},
        gpus=GpuClaim(wants=bool(refs or unclear), refs=tuple(sorted(refs)), unclear=unclear, via="--gpus"),
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


def _answers(
    signal: Signal, series: Mapping[JoinKey, tuple[Sample, ...]], row: Mapping[str, Any], every: float
) -> tuple[Answer, ...]:
    source = str(row.get("source", "prometheus"))
    if {signal.label, signal.name} & set(row.get("down", ())):
        return (Answer(source, missing=Missing.SOURCE_DOWN, detail="connection refused"),)
    if source != LOCAL:
        return (Answer(source, series, every, signal.lag_s, frozen=_frozen(row) if signal.join == "gpu" else {}),)
    if signal.fallback is None:
        return ()
    looks = sorted({time for samples in series.values() for time, _ in samples})
    return (Answer(source, series, every, every, looks=tuple(looks)),)


def _frozen(row: Mapping[str, Any]) -> dict[str, str]:
    return {f"GPU-{name}": f"exporter frozen: nothing of GPU-{name} has changed" for name in row.get("frozen", ())}
