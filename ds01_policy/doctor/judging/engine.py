"""PURE: the Docker engine's own words, and what it shows of containers → findings.

Owns which engines do, and what a container's GPUs need. Asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ds01_policy.doctor.finding import Finding, bad, count, note, ok, skipped, some
from ds01_policy.doctor.judging.clocks import skew
from ds01_policy.limits import UNKNOWN
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ds01_policy.model import Container, Problem

API_OLDEST = (1, 41)  # Docker 20.10: one-shot stats; before 19.03 an inspect does not even show `--gpus`
DOWN = "`systemctl status docker`; see docker.url in settings.yaml; run as root"
# Problems of a look that mean that something was not seen.
_UNSEEN = {
    "container_unreadable": "`docker inspect` it; a container that Docker itself cannot read needs a restart of Docker",
    "keep_alive_unreadable": "it is not stopped as idle while that is so: can root read what is mounted there?",
    "docker_slow": "look at the engine's load and log: `journalctl -u docker`",
    "local_down": "run as root on the host itself; without these samples nothing replaces Prometheus",
}
# What the driver's own finding says already.
_SAID_ELSEWHERE = frozenset({"gpu_note", "gpu_down", "no_gpu_stack"})


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine told: GET /version and GET /info, or why one of them was not answered."""

    url: str
    version: Mapping[str, Any] | None = None
    info: Mapping[str, Any] | None = None
    error: str = ""  # of the first that failed
    asked_at: datetime | None = None  # halfway through GET /info


def engine(facts: EngineFacts, *, gpus: bool) -> Iterator[Finding]:
    """Judge the engine; `gpus`: this host has some."""
    if facts.version is None:
        yield bad("docker", f"{plain(facts.error)} (nothing is decided until it answers)", DOWN)
        return
    told = facts.version
    name = f"Docker {_word(told.get('Version'))} (API {_word(told.get('ApiVersion'))}) at {plain(facts.url, 100)}"
    api = _dotted(told.get("ApiVersion"))
    if api is None:
        yield bad("docker", f"what answers at {plain(facts.url, 100)} names no API version", "see docker.url")
        return
    if api < API_OLDEST:
        needed = ".".join(map(str, API_OLDEST))
        yield bad("docker_old", f"{name}: API {needed} is needed", "install Docker 20.10 or newer")
    if facts.info is None:
        what = f"{name} does not tell about itself: {plain(facts.error)}"
        yield bad("docker", what, "`docker info`; `journalctl -u docker`")
        return
    yield ok("docker", f"{name}, {_set_up(facts.info)}")
    yield from _gpu_route(facts.info, gpus=gpus)
    yield from _clock(facts)


def _set_up(info: Mapping[str, Any]) -> str:
    words = [
        f"cgroup v{_word(info.get('CgroupVersion', '1'))} by {_word(info.get('CgroupDriver'))}",
        f"default runtime {_word(info.get('DefaultRuntime'))}",
    ]
    if "nvidia" in _object(info.get("Runtimes")):
        words.append("nvidia runtime there")
    if devices := _cdi(info):
        words.append(f"{count(devices, 'CDI device')} of NVIDIA")
    words.append(f"live restore {'on' if info.get('LiveRestoreEnabled') is True else 'off'}")
    return ", ".join(words)


def _gpu_route(info: Mapping[str, Any], *, gpus: bool) -> Iterator[Finding]:
    """Find out how containers can get at GPUs. The hook that `--gpus` used before CDI is not shown by the engine."""
    if not gpus:
        return
    hooked = "nvidia" in _object(info.get("Runtimes"))
    if not hooked and not _cdi(info):
        what = "Docker shows neither an nvidia runtime nor CDI devices, though this host has GPUs"
        do = "if containers cannot get GPUs: `nvidia-ctk runtime configure --runtime=docker`, then restart Docker"
        yield note("docker_gpu", what, do)
    elif hooked and not _cdi(info) and info.get("CgroupDriver") == "systemd":
        what = "cgroups by systemd, GPUs by NVIDIA's hook: a `systemctl daemon-reload` can take GPUs from what runs"
        do = "reload only when no GPU container runs (`ds01-policy install` looks first), or let Docker use CDI"
        yield note("docker_reload", what, do)


def _cdi(info: Mapping[str, Any]) -> int:
    """Count NVIDIA's devices that the engine found through CDI; engines before 28.3 do not tell."""
    found = info.get("DiscoveredDevices")
    ids = [str(_object(each).get("ID", "")) for each in found] if isinstance(found, list) else []
    return sum(one.startswith("nvidia.com/gpu=") for one in ids)


def _clock(facts: EngineFacts) -> Iterator[Finding]:
    try:
        told = datetime.fromisoformat(str(_object(facts.info).get("SystemTime")))
        ahead_s = (told - facts.asked_at).total_seconds() if facts.asked_at else 0.0
    except (ValueError, TypeError):  # none, or without a time zone
        return
    yield skew("docker_clock", "Docker", ahead_s, "ages of containers are wrong by that much")


# ── containers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def containers(every: Sequence[Container] | None, problems: Sequence[Problem], error: str) -> Iterator[Finding]:
    """Judge what a look at all containers showed; None: there was none, and `error` says why unless that is said."""
    if every is None:
        why = f": {plain(error)}" if error else ""
        yield skipped("containers", f"no container could be looked at{why}", "see docker")
        return
    gpu = [one for one in every if one.gpus.wants]
    yield ok("containers", f"{count(len(every), 'container')}, {len(gpu)} of them with GPUs")
    if unclear := [f"{plain(one.name, 40)} ({plain(one.gpus.unclear, 80)})" for one in gpu if one.gpus.unclear]:
        what = f"which GPUs it may use is unclear, so it is never idle: {some(unclear, between='; ')}"
        do = "compare with `nvidia-smi -L`; one that names a GPU or MIG instance that is gone must be made anew"
        yield note("gpu_unclear", what, do)
    if nobodys := [one.name for one in gpu if one.owner == UNKNOWN]:
        what = f"nobody is known to own {some(nobodys)}: the strictest limits hold, and nobody can be told"
        yield note("owner_unknown", what, "see `owner` in identity.yaml: which labels, names and mounts tell")
    for code in dict.fromkeys(problem.code for problem in problems):
        details = some(dict.fromkeys(problem.detail for problem in problems if problem.code == code), between="; ")
        if code in _UNSEEN:
            yield bad(code, details, _UNSEEN[code])
        elif code not in _SAID_ELSEWHERE:
            yield note(code, details, "`ds01-policy preview` shows whom it is about")


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _word(value: object) -> str:
    return plain(str(value), 40) if value else "?"


def _dotted(value: object) -> tuple[int, ...] | None:
    try:
        return tuple(int(part) for part in str(value).split("."))
    except ValueError:
        return None
