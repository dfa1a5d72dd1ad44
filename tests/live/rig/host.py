"""One host under the program: its rules, limits and GPUs, its containers, and short forms of what was said of it.

Owns what the tests of the whole program share. Asserts nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rig.age_proxy import AgeProxy
from rig.cli import Cli
from rig.engine import Engine
from rig.history import History
from rig.nvidia_smi import SmiGpu, write_nvidia_smi

# busybox's sleep takes no SIGTERM as process 1, so every stop takes its whole grace.
LIMITS = """\
version: 1
defaults:
  {idle_timeout: 60m, max_runtime: 24h, gpu_hold_after_stop: 15m, container_hold_after_stop: 30m, stop_grace: 1s}
default_group: student
groups: {student: {}}
container_types:
  {docker: {}, native: {}, compose: {}, devcontainer: {idle_timeout: never}, unknown: {idle_timeout: 30m}}
unknown_owner: {idle_timeout: 30m}
"""

GPUS = ("GPU-aaaa", "GPU-bbbb", "GPU-cccc", "GPU-dddd", "GPU-eeee", "GPU-ffff")

IDLE = """\
  - id: idle-gpu
    summary: Holds a GPU and has used neither it nor the CPU for its owner's idle timeout.
    match: {state: running, gpu: true, type: {not: devcontainer}}
    except: [infrastructure, exempted, keep_alive, {younger_than: 30m}]
    when:
      all:
        - {signal: gpu_utilization, below: 5%}
        - {signal: cpu_usage, below: 1%}
        - {signal: network_io, below: 10KiB/s}
    for: {limit: idle_timeout}
"""
# The shipped rule with a notice that a test can wait for.
RULES = f"""\
version: 1
rules:
{IDLE}\
    warn: {{at: 80%, notice: 1s}}
    then: [stop, remove, epilog]
  - id: stopped-retention
    summary: Ended a while ago.
    match: {{state: [exited, dead], gpu: true}}
    for: {{limit: container_hold_after_stop}}
    then: [remove]
  - id: created-never-started
    summary: Never started.
    match: {{state: created, gpu: true}}
    for: 30m
    then: [remove]
"""
# For tests of what happens while acting: no warning, so that the first tick already acts.
IDLE_AT_ONCE = f"version: 1\nrules:\n{IDLE}    then: [stop, remove, epilog]\n"
# The same over a clock: Docker alone decides, and no Prometheus has to run.
OVERTIME = """\
version: 1
rules:
  - id: overtime
    summary: Has run for too long.
    match: {state: running, gpu: true}
    except: [keep_alive]
    for: 1h
    then: [stop, remove, epilog]
"""


def configure(
    cli: Cli,
    proxy: AgeProxy,
    url: str | None,
    mode: str = "enforce",
    *,
    rules: str | None = RULES,
    gpus: Sequence[SmiGpu] = tuple(map(SmiGpu, GPUS)),
    files: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Cli:
    """Configure the program for an engine behind a proxy, a Prometheus' `url` (None: there is none) and these GPUs.

    Budgets allow everything, nobody is told anything, and a warning's notice is never lengthened; `settings` overlays
    that. `rules` None: the shipped ones, and the shipped limits.
    """
    ours: dict[str, Any] = {"rules/rules.yaml": rules, "limits.yaml": LIMITS} if rules else {}
    quiet: dict[str, Any] = {
        "mode": mode,
        "notify": {"channels": [], "unreached_notice": 1},
        "budget": {"per_run": 50, "share": "100%"},
    }
    return cli.configure(
        docker=proxy.url,
        prometheus=url or "never",
        nvidia_smi=write_nvidia_smi(cli.base / "nvidia-smi", gpus),
        settings=quiet | settings,
        files=ours | dict(files or {}),
    )


def run_all(engine: Engine, proxy: AgeProxy, containers: Mapping[str, Mapping[str, Any]], started: str) -> list[str]:
    """Start one GPU container for each name, some side by side, with these options of `run`: ids in the order given.

    A `flags` among the options is a list of further flags of `docker run`.
    """

    def run(name: str, options: Mapping[str, Any]) -> str:
        given = dict(options)
        flags: list[str] = given.pop("flags", [])
        container = engine.run(*flags, **{"name": name, "gpus": "device=GPU-aaaa", **given})
        proxy.age(container, started=started)
        return container

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(run, containers, containers.values()))


def rule(document: dict[str, Any], name: str, rule_id: str = "idle-gpu") -> dict[str, Any]:
    """Pick what one rule found for one container."""
    container = next(one for one in document["containers"] if one["name"] == name)
    found: dict[str, Any] = next(one for one in container["rules"] if one["rule"] == rule_id)
    return found


def plan(document: dict[str, Any]) -> dict[str, str]:
    """Shorten the plan to `name action+action: what`."""
    return {
        f"{one['name']} {'+'.join(one['actions'])}": one["held_by"] or one["disposition"] for one in document["plan"]
    }


def outcomes(document: dict[str, Any]) -> dict[str, str]:
    """Shorten the outcomes to `name: action status, action status`."""
    names = {one["id"]: one["name"] for one in document["plan"]}
    told: dict[str, list[str]] = {}
    for one in document["outcomes"]:
        told.setdefault(names[one["decision"]], []).append(f"{one['action']} {one['status']}")
    return {name: ", ".join(words) for name, words in told.items()}


def details(document: dict[str, Any], action: str) -> dict[str, str]:
    """Give the words of one action's outcome, by container name."""
    names = {one["id"]: one["name"] for one in document["plan"]}
    return {names[one["decision"]]: one["detail"] for one in document["outcomes"] if one["action"] == action}


def problems(document: dict[str, Any]) -> dict[str, str]:
    """Give the problems' details by code; of several with one code the last."""
    return {one["code"]: one["detail"] for one in document["problems"]}


def audit(cli: Cli) -> list[tuple[str, str, str, str]]:
    """Read the audit log: (kind, action, name, status) of every line."""
    lines = map(json.loads, (cli.state / "audit.jsonl").read_text().splitlines())
    return [(line["kind"], line["action"], line["name"], line.get("status", "")) for line in lines]


def acted(proxy: AgeProxy) -> Counter[tuple[str, str]]:
    """Count the calls that ended something: (stop or remove, container's id)."""
    told: Counter[tuple[str, str]] = Counter()
    for one in proxy.requests:
        parts = one.path.partition("?")[0].split("/")
        if one.method == "DELETE":
            told["remove", parts[2]] += 1
        elif one.method == "POST" and parts[-1] in {"stop", "kill"}:
            told["stop", parts[2]] += 1
    return told


Host = Callable[..., Cli]


def host_of(cli: Cli, proxy: AgeProxy, prometheus_with: Callable[..., str]) -> Host:
    """Build what the `host` fixture gives: `configure`, with a history or a URL instead of a Prometheus' URL."""

    def configured(history: History | str | None = None, mode: str = "enforce", **options: Any) -> Cli:
        url = prometheus_with(history) if isinstance(history, History) else history
        return configure(cli, proxy, url, mode, **options)

    return configured


def about(container: str, rest: str = "/json") -> str:
    """Match requests about one container, as `Proxy.fault` wants it."""
    return rf"^/containers/{container}{rest}(\?|$)"


def script(path: Path, line: str) -> Path:
    """Write a program of one line of shell, for a PATH on which it comes first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path
