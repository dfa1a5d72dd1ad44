"""Make a Snapshot: list, inspect, identify, resolve GPUs, then measure what the rules will ask.

Owns the order of asking and what one unreadable container costs (itself only). Decides nothing.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ds01_policy.demand import demand_of
from ds01_policy.evaluate import evaluate
from ds01_policy.exceptions import wanting_keep_alive
from ds01_policy.gpu_claim import claim
from ds01_policy.host_processes import host_processes, unclaimed
from ds01_policy.identity import identify
from ds01_policy.lives import remembered, running_since
from ds01_policy.model import KeepAlive, Problem, Snapshot, SourceState
from ds01_policy.observe.fallback import Sampled, answers_of, sample, too_rare
from ds01_policy.observe.gpus import NoGpuStack
from ds01_policy.observe.inspected import container_of
from ds01_policy.observe.measure import measure
from ds01_policy.observe.ports import SourceError, SourceSlow
from ds01_policy.partitions import dated, partitions
from ds01_policy.span import Questions, questions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from ds01_policy.model import Answer, Container, Demand, History
    from ds01_policy.observe.ports import Inventory, Json, OnGpus, Sources
    from ds01_policy.policy import Policy

# So many inspects may run into the timeout in one tick.
PATIENCE = 3
# Fewer than this, and a host may well have gone empty between two ticks.
SUSPICIOUSLY_MANY = 3


class DockerDown(Exception):
    """Docker could not be observed: there is nothing to decide about."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A snapshot, and what the tick needs beside it."""

    snapshot: Snapshot
    demand: Demand
    lost_everything: bool = False  # Docker lists nothing although containers ran a tick ago
    sampled: Sampled | None = None  # this host's own samples of this tick, to be kept


def observe(
    policy: Policy,
    sources: Sources,
    at: datetime,
    history: History,
    *,
    only: Collection[str] | None = None,
    demand: Demand | None = None,
) -> Observed:
    """Ask all sources, at one instant.

    With `only`, looks at those containers alone (a fresh look before acting); `demand` is then given, and who is on the
    GPUs beside containers is not asked.

    Raises:
        DockerDown: when Docker does not answer.

    """
    problems: list[Problem] = []
    with ThreadPoolExecutor(
        2
    ) as aside:  # the driver is another process that takes its time: Docker need not wait for it
        driver = aside.submit(sources.gpu.inventory)
        on_gpus = aside.submit(sources.tasks.look) if sources.tasks is not None and only is None else None
        ids = _listed(sources, at, only)
        answers_of_docker = _inspect_all(sources, ids, problems)
        inventory, gpu_state = _inventory(driver, problems)
        without_stack = isinstance(driver.exception(), NoGpuStack)  # which is said: it need not be said twice
        on = _on_gpus(on_gpus, [] if without_stack else problems)
    containers = _containers(policy, sources, history, inventory, answers_of_docker, problems)
    strangers = host_processes(on.statuses, on.tasks, ids, at) if on is not None else ()
    problems += unclaimed(on.statuses, on.tasks, containers) if on is not None else ()
    states = {"docker": SourceState(up=True)}
    lost = only is None and not containers and history.last_running >= SUSPICIOUSLY_MANY
    if lost:
        detail = (
            f"Docker shows no container, though {history.last_running} with GPUs ran at the last tick: wrong daemon?"
        )
        problems.append(Problem("docker_empty", detail))
    gpus = inventory.gpus if inventory else ()
    divided = {**history.partitions, **partitions(gpus, history.partitions, at)}
    containers = [replace(one, gpus=dated(one.gpus, one.started_at, divided)) for one in containers]
    demand = demand or demand_of(policy, containers, gpus, at)
    snapshot = Snapshot(at, sources.host.name(), tuple(containers), gpus, host_processes=strangers)
    asked = questions(policy, snapshot, demand)
    sampled = here = None
    if sources.local is not None:  # before Prometheus, which may take its time: counters go on meanwhile
        sampled, here = sample(sources.local, containers, inventory, history.samples, at, problems)
    answers, states["prometheus"] = _measure(policy, sources, snapshot, asked, problems)
    states["gpu"] = gpu_state
    if here is not None:
        states["local"] = here
        if asked and (rare := too_rare(policy, history.samples)) is not None:
            problems.append(rare)
        local = answers_of(policy, asked, containers, history.samples, sampled, at)
        answers = {name: (*answers.get(name, ()), *local.get(name, ())) for name in {**asked, **answers}}
    snapshot = replace(snapshot, answers=answers, sources=states)
    snapshot = _look_for_keep_alive(policy, sources, snapshot, demand, history, problems)
    return Observed(replace(snapshot, problems=tuple(dict.fromkeys(problems))), demand, lost, sampled)


def _inventory(asked: Future[Inventory], problems: list[Problem]) -> tuple[Inventory | None, SourceState]:
    try:
        inventory = asked.result()
    except NoGpuStack as error:  # a host without GPUs, or without their driver: said once, rules over clocks go on
        problems.append(Problem("no_gpu_stack", str(error)))
        return None, SourceState(up=False, detail=str(error))
    except SourceError as error:
        problems.append(Problem("gpu_down", f"the host's GPUs could not be listed: {error}"))
        return None, SourceState(up=False, detail=str(error))
    problems += [Problem("gpu_note", note) for note in inventory.notes]
    return inventory, SourceState(up=True, extra={"via": inventory.via})


def _on_gpus(asked: Future[OnGpus] | None, problems: list[Problem]) -> OnGpus | None:
    """Find out who is on the GPUs; what is not known costs one problem."""
    if asked is None:
        return None
    try:
        found = asked.result()
    except SourceError as error:
        problems.append(Problem("gpu_processes_unknown", f"who is on the GPUs cannot be listed: {error}"))
        return None
    unlisted = [uuid for uuid, status in found.statuses.gpus.items() if status.processes is None]
    unlisted += found.statuses.unreadable
    if unlisted:
        detail = f"the driver does not list who is on {len(unlisted)} of {found.statuses.count} GPUs: "
        problems.append(Problem("gpu_processes_unknown", detail + "; ".join(unlisted)))
    return found


def _listed(sources: Sources, at: datetime, only: Collection[str] | None) -> list[str]:
    try:
        return _in_turn([str(entry["Id"]) for entry in sources.docker.containers()], at) if only is None else list(only)
    except (SourceError, KeyError) as error:
        raise DockerDown(str(error)) from error


def _inspect_all(sources: Sources, ids: list[str], problems: list[Problem]) -> list[Json]:
    """Ask Docker about every container; one that cannot be read costs itself only."""
    found = []
    slow = 0
    for number, container_id in enumerate(ids):
        try:
            raw = sources.docker.inspect(container_id)
            if raw is not None:
                found.append(raw)
        except SourceError as error:
            problems.append(_unreadable(container_id, error))
            slow += isinstance(error, SourceSlow)
            if slow >= PATIENCE and number + 1 < len(ids):
                # Each costs a whole timeout: the tick must end in time, and another one begins elsewhere in the list.
                left = f"{len(ids) - number - 1} more containers were not looked at: Docker takes too long"
                problems.append(Problem("docker_slow", left))
                break
    return found


def _unreadable(container_id: str, error: SourceError) -> Problem:
    return Problem("container_unreadable", f"{container_id[:12]}: {error}; left alone")


def _containers(
    policy: Policy,
    sources: Sources,
    history: History,
    inventory: Inventory | None,
    answers: Iterable[Json],
    problems: list[Problem],
) -> list[Container]:
    containers = []
    for raw in answers:
        try:
            containers.append(identified(policy, sources, history, inventory, raw, problems))
        except SourceError as error:
            problems.append(_unreadable(str(raw.get("Id")), error))
    return containers


def _in_turn(ids: list[str], at: datetime) -> list[str]:
    """Begin elsewhere in the list at each tick, so that some stuck containers never hide the others for ever."""
    start = int(at.timestamp() // 60) % len(ids) if ids else 0
    return ids[start:] + ids[:start]


def identified(
    policy: Policy, sources: Sources, history: History, inventory: Inventory | None, raw: Json, problems: list[Problem]
) -> Container:
    """Join Docker's facts with who it belongs to and what it may use."""
    facts = container_of(raw)
    gpus = claim(raw, inventory.gpus if inventory else None)
    uid = sources.host.uid_of_process(facts.pid) if facts.pid and gpus.wants else None
    facts = replace(facts, gpus=gpus)
    who = identify(
        policy.identity, facts, process_uid=uid, user_of_uid=sources.host.user_of_uid, host=sources.host.name()
    )
    if gpus.wants:  # whose a container without a GPU is, no rule asks
        problems += who.problems
    previous = history.lives.get(facts.id)
    facts = replace(facts, owner=who.owner, owner_via=who.owner_via, owner_proven=who.proven)
    facts = remembered(facts, previous)
    return replace(
        facts,
        type=who.type,
        type_via=who.type_via,
        group=policy.limits.group_of(facts.owner),
        infrastructure=who.infrastructure,
        running_since=running_since(facts, previous),
    )


def _measure(
    policy: Policy, sources: Sources, snapshot: Snapshot, asked: Questions, problems: list[Problem]
) -> tuple[dict[str, tuple[Answer, ...]], SourceState]:
    if sources.prometheus is None:
        return {}, SourceState(up=False, detail="switched off in settings.yaml", off=True)
    wanted: Iterable[Container] = [
        container for container in snapshot.containers if any(container.id in by_id for by_id in asked.values())
    ]
    windows = {name: frozenset(window for some in by_id.values() for window in some) for name, by_id in asked.items()}
    answers, found, state = measure(policy, windows, wanted, sources.prometheus, snapshot.at)
    problems += found
    return {name: (answer,) for name, answer in answers.items()}, state


def _look_for_keep_alive(
    policy: Policy, sources: Sources, snapshot: Snapshot, demand: Demand, history: History, problems: list[Problem]
) -> Snapshot:
    """Ask for the keep-alive file only where it would make a difference: one request a container."""
    wanting = wanting_keep_alive(policy, evaluate(policy, snapshot, demand))
    if not wanting:
        return snapshot
    containers = []
    slow = unasked = 0
    for container in snapshot.containers:
        if container.id not in wanting:
            containers.append(container)
            continue
        if slow >= PATIENCE:  # as for inspects: each costs a whole timeout
            containers.append(replace(container, keep_alive_unreadable="Docker takes too long"))
            unasked += 1
            continue
        try:
            stat = sources.docker.stat(container.id, policy.settings.keep_alive.path)
        except SourceError as error:
            containers.append(replace(container, keep_alive_unreadable=str(error)))
            unknown = f"{container.name} ({container.short}): whether it has a keep-alive file is not known: {error}"
            problems.append(Problem("keep_alive_unreadable", unknown))
            slow += isinstance(error, SourceSlow)
            continue
        keep_alive = KeepAlive(stat.modified_at, _kept_since(container, history)) if stat else None
        containers.append(replace(container, keep_alive=keep_alive))
    if unasked:
        problems.append(Problem("docker_slow", f"{unasked} more keep-alive files were not looked for"))
    return replace(snapshot, containers=tuple(containers))


def _kept_since(container: Container, history: History) -> datetime | None:
    """Find since when a keep-alive file has held this idle spell of this very life back."""
    known = [
        spell.kept_since
        for (container_id, _), spell in history.spells.items()
        if container_id == container.id and spell.started_at == container.started_at and spell.kept_since is not None
    ]
    return min(known, default=None)
