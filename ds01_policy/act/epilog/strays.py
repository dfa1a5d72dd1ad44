"""Ends what a removed container left on its GPUs, and says whose everything else is.

Owns the proof that a process is that container's, and signalling through a handle that is opened before the proof is
read again. A process of which any part of the proof is missing is only told of.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.act.epilog.ports import Deadline, Engine, Tasks, Unanswered
from ds01_policy.act.expected import Unreadable, found
from ds01_policy.model import State
from ds01_policy.ownership import Belongs, Gone, Hidden, Owner, owner_of
from ds01_policy.text import plain
from ds01_policy.units import Unit, format_quantity

if TYPE_CHECKING:
    from ds01_policy.act.epilog.held import Held
    from ds01_policy.model import GpuProcess, GpuStatus, HostTask

TERM_S, KILL_S = 5.0, 3.0  # from SIGTERM to SIGKILL, and from that to giving up
NEEDS_S = 2.0  # below that nothing is ended: SIGKILL would come at once
# Docker writes down that a container has started after its first process has, and the kernel tells whole seconds.
START_SLACK = timedelta(seconds=60)
_MPS = "nvidia-cuda-mps"  # as much as a kernel keeps of nvidia-cuda-mps-server and -control
_ENDED = frozenset({State.EXITED, State.DEAD})


@dataclass(frozen=True, slots=True)
class Met:
    """A process on GPUs that the container held."""

    pid: int
    task: HostTask | None  # None: it cannot be looked at
    owner: Owner
    told: Mapping[str, GpuProcess]  # by GPU, as the driver tells it

    @property
    def serves_others(self) -> bool:
        """Whether it is part of MPS: ending a server, or a client in the middle of its work, ends others with it."""
        names = [process.name.rpartition("/")[2] for process in self.told.values()]
        names += [self.task.command] if self.task else []
        return any(name.startswith(_MPS) for name in names) or any(
            process.kind.startswith("M") for process in self.told.values()
        )


@dataclass(slots=True)
class Sweep:
    """What became of the processes that were met."""

    ended: list[str] = field(default_factory=list)  # the container's own, in words
    others: list[str] = field(default_factory=list)  # somebody else's, or nobody knows whose
    own: dict[str, list[str]] = field(default_factory=dict)  # the container's own that were left, by GPU
    stuck: dict[str, list[str]] = field(default_factory=dict)  # the container's own that cannot be ended, by GPU


def meet(statuses: Mapping[str, GpuStatus], held: Held, tasks: Tasks, known: frozenset[str] | None) -> list[Met]:
    """Look up every process on what the container held. `known`: this engine's containers; None: it does not answer."""
    told: dict[int, dict[str, GpuProcess]] = {}
    for ref in held.gpus:
        status = statuses.get(ref.uuid)
        for process in status.processes or () if status else ():
            if ref.gpu_instance is None or process.gpu_instance in (None, ref.gpu_instance):
                told.setdefault(process.pid, {})[ref.uuid] = process
    met = []
    for pid, by_gpu in sorted(told.items()):
        with contextlib.suppress(Gone):
            met.append(_met(pid, by_gpu, tasks, known))
    return met


def _met(pid: int, told: Mapping[str, GpuProcess], tasks: Tasks, known: frozenset[str] | None) -> Met:
    try:
        task = tasks.look(pid)
    except Hidden as hidden:
        return Met(pid, None, Owner(Belongs.UNKNOWN, why=str(hidden)), told)
    if known is None:
        return Met(pid, task, Owner(Belongs.UNKNOWN, why="Docker does not tell which containers there are"), told)
    return Met(pid, task, owner_of(task.cgroup, known), told)


def sweep(held: Held, met: Sequence[Met], engine: Engine, tasks: Tasks, deadline: Deadline, *, unwanted: str) -> Sweep:
    """End what is the container's own. `unwanted`: why nothing may be ended; empty: it may.

    SIGTERM to all of them at once, SIGKILL to those that are still there TERM_S later.
    """
    done = Sweep()
    mine = []
    for one in met:
        if one.owner.belongs is not Belongs.CONTAINER or one.owner.container != held.container:
            done.others.append(described(one))
        elif why := not_to_be_ended(one, held, one.task):
            _leave(done.own, one, why)
        else:
            mine.append(one)
    if unwanted:
        for one in mine:
            _leave(done.own, one, unwanted)
    elif mine:
        _end(held, mine, engine, tasks, deadline, done)
    return done


def not_to_be_ended(met: Met, held: Held, task: HostTask | None) -> str:
    """Say why a process in the container's cgroup is left alone all the same; empty: nothing speaks for it."""
    if task is None:
        return "it cannot be looked at"
    if met.serves_others:
        return "it belongs to MPS, and ending it would end others"
    if held.started_at is None or task.started_at < held.started_at - START_SLACK:
        return "it has run since before the container was started"
    return ""


def _not_gone(held: Held, engine: Engine, tasks: Tasks) -> str:
    """Say why the container may not be gone after all; empty: it is, by every witness."""
    try:
        raw = engine.inspect(held.container)
        if raw is not None and raw.get("Id") == held.container:
            now = found(raw)
            if now.state not in _ENDED:
                return f"Docker shows the container {now.state}"
            if now.started_at != held.started_at:
                return "the container has been started anew since"
        if tasks.tended(held.container):
            return "a containerd shim still tends the container, though Docker shows it gone"
    except (Unanswered, Unreadable, Hidden) as error:
        return f"whether the container is gone is not known: {plain(str(error), 160)}"
    return ""


def _end(held: Held, mine: Sequence[Met], engine: Engine, tasks: Tasks, deadline: Deadline, done: Sweep) -> None:
    with ExitStack() as handles:
        proven = _proven(held, mine, tasks, handles, done)
        why = _not_gone(held, engine, tasks) if proven else ""  # asked last: what has ended can be started again
        if deadline.left_s < NEEDS_S:
            why = why or "there is no time left to end it properly"
        if why:
            for one in proven.values():
                _leave(done.own, one, why)
            return
        asked = _signal(proven, signal.SIGTERM, done)
        deaf = _wait(asked, deadline, TERM_S)
        killed = _signal(deaf, signal.SIGKILL, done)
        stuck = _wait(killed, deadline, KILL_S)
        for handle, one in asked.items():
            if handle not in deaf:
                done.ended.append(f"{described(one)}, with SIGTERM")
            elif handle in killed and handle not in stuck:
                done.ended.append(f"{described(one)}, with SIGKILL")
        for one in stuck.values():
            _leave(done.stuck, one, _state(one, tasks))


def _proven(held: Held, mine: Sequence[Met], tasks: Tasks, handles: ExitStack, done: Sweep) -> dict[int, Met]:
    """Open a handle of each, then read its proof again; give those of which it holds, by handle."""
    proven = {}
    for one in mine:
        try:
            # The handle first: from here on it means this process or none, whoever gets its number.
            handle = tasks.open(one.pid)
            handles.callback(os.close, handle)
            why = _changed(one, held, tasks.look(one.pid))
        except Gone:
            continue
        except Hidden as hidden:
            why = str(hidden)
        if why:
            _leave(done.own, one, why)
        else:
            proven[handle] = one
    return proven


def _changed(before: Met, held: Held, now: HostTask) -> str:
    """Say why what has the number now is not what was met; empty: it is, and still the container's."""
    task = before.task
    if task is None or now.start_ticks != task.start_ticks:
        return "its number is another process' by now"
    if now.cgroup != task.cgroup:
        return "it is in another cgroup by now"
    return not_to_be_ended(before, held, now)


def _signal(targets: Mapping[int, Met], number: signal.Signals, done: Sweep) -> dict[int, Met]:
    """Send through the handles, and tell to whom it was sent, those among them that have ended meanwhile."""
    sent = {}
    for handle, one in targets.items():
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
        except OSError as error:
            _leave(done.own, one, f"{number.name} is refused: {error.strerror}")
            continue
        sent[handle] = one
    return sent


def _wait(targets: Mapping[int, Met], deadline: Deadline, seconds: float) -> dict[int, Met]:
    """Wait until all have ended; return those that have not."""
    left = dict(targets)
    until = deadline.clock.seconds() + min(seconds, deadline.left_s)
    poll = select.poll()
    for handle in left:
        poll.register(handle, select.POLLIN)  # readable: it has ended
    while left:
        remaining = until - deadline.clock.seconds()
        for handle, _ in poll.poll(max(0.0, remaining) * 1000):
            poll.unregister(handle)
            del left[handle]
        if remaining <= 0:
            break
    return left


def _state(one: Met, tasks: Tasks) -> str:
    try:
        state = tasks.look(one.pid).state
    except (Gone, Hidden):
        return "its state is not known"
    return {"D": "it hangs in the kernel", "Z": "it has ended, and the driver keeps what it held"}.get(
        state, f"it is in state {state}"
    )


def _leave(by_gpu: dict[str, list[str]], one: Met, why: str) -> None:
    for uuid in one.told:
        by_gpu.setdefault(uuid, []).append(f"{described(one)}: {why}")


def described(one: Met) -> str:
    """Say which process it is and whose: `python (pid 4711, alice, 1.2 GiB, container 0123456789ab)`."""
    first = next(iter(one.told.values()))
    name = one.task.command if one.task else first.name.rpartition("/")[2] or "a process"
    memory = [process.used_memory_bytes for process in one.told.values()]
    known = [used for used in memory if used is not None]
    facts = [f"pid {one.pid}"]
    if one.task is not None:
        facts.append(plain(one.task.user, 40) if one.task.user else f"uid {one.task.uid}")
    if known:
        facts.append(format_quantity(sum(known), Unit.BYTES))
    facts.append(whose(one.owner))
    return f"{plain(name, 40)} ({', '.join(facts)})"


def whose(owner: Owner) -> str:
    """Say to whom a process belongs."""
    match owner.belongs:
        case Belongs.CONTAINER:
            return f"container {owner.container[:12]}"
        case Belongs.FOREIGN:
            return f"container {owner.container[:12]} of {plain(owner.place, 40)}"
        case Belongs.HOST:
            return f"of the host: {plain(owner.place, 80)}" if owner.place else "of the host"
        case Belongs.UNKNOWN:
            return f"nobody knows whose: {plain(owner.why, 160)}"
