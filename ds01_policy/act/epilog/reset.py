"""Resets one GPU, if nothing speaks against it in two looks, and leaves persistence mode as it was.

Owns the order of looking, switching and resetting. What speaks against a reset is gates.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.act.epilog.gates import Scene, against
from ds01_policy.act.epilog.ports import Deadline, Driver, Engine, Json, Tasks, Unanswered
from ds01_policy.gpu_claim import claim
from ds01_policy.ownership import Gone, Hidden
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds01_policy.model import Gpu, GpuStatus

PAUSE_S = 2.0  # between the two looks
NEEDS_S = 6.0  # below that a reset is not begun: it could not be seen through
AFTER_S = 2.0  # kept back for switching persistence mode on again
_DAEMON = "nvidia-persiste"  # as much as a kernel keeps of nvidia-persistenced


@dataclass(frozen=True, slots=True)
class Resetting:
    """The parts a reset needs."""

    driver: Driver
    engine: Engine
    tasks: Tasks
    deadline: Deadline

    def attempt(self, uuid: str) -> tuple[bool, str]:
        """Reset it if every gate is open, twice. Whether it was reset, and in words what was done or why not.

        That no container starts on it between the last look and the reset, nobody can make sure of; a reset fails
        while anybody has the GPU open.
        """
        closed, persistent = self._twice(uuid)
        if closed:
            return False, closed
        if self.deadline.left_s < NEEDS_S:
            return False, "not reset: there is no time left for it"
        return self._reset(uuid, persistent=persistent)

    def closed(self, uuid: str) -> str:
        """Ask every gate, twice, and change nothing: in words what speaks against a reset; empty: nothing does."""
        return self._twice(uuid)[0]

    def _twice(self, uuid: str) -> tuple[str, bool]:
        """Say what speaks against a reset in one of two looks, and whether persistence mode is on."""
        persistent = False
        for turn in range(2):
            if turn and not self.deadline.pause(PAUSE_S):
                return "not reset: there is no time left to look twice", persistent
            scene = self._scene(uuid)
            if reasons := against(scene):
                return f"not reset: {'; '.join(reasons)}", persistent
            persistent = bool(scene.status and scene.status.persistence_mode)
        return "", persistent

    def _reset(self, uuid: str, *, persistent: bool) -> tuple[bool, str]:
        if not persistent:
            return self._reset_now(uuid)
        try:
            self.driver.persist(uuid, self.deadline.within(), on=False)
        except Unanswered as error:
            words = f"not reset: persistence mode, which holds it open, cannot be switched off: {error}"
            return False, self._persistent_again(uuid, words)
        done, words = self._reset_now(uuid)
        return done, self._persistent_again(uuid, words)

    def _reset_now(self, uuid: str) -> tuple[bool, str]:
        if reasons := against(self._scene(uuid, daemon=False)):  # nobody at all may have it open now
            return False, f"not reset: {'; '.join(reasons)}"
        try:
            self.driver.reset(uuid, self.deadline.within(self.deadline.left_s - AFTER_S))
        except Unanswered as error:
            return False, f"the reset failed: {error}"
        return True, "was reset"

    def _persistent_again(self, uuid: str, words: str) -> str:
        try:
            # However late it is: that change must not stay.
            self.driver.persist(uuid, timedelta(seconds=AFTER_S), on=True)
        except Unanswered as error:
            return f"{words}; switch persistence mode on again: `nvidia-smi -pm 1 -i {uuid}` ({error})"
        return words

    def _scene(self, uuid: str, *, daemon: bool = True) -> Scene:
        """Look at everything the gates ask about. `daemon`: persistence mode's own process may have the GPU open."""
        try:
            told = self.driver.look(self.deadline.within())
        except Unanswered as error:
            return Scene(None, why_unknown=str(error))
        status = told.gpus.get(uuid)
        if status is None:
            return Scene(None)
        unknown = []
        containers = open_by = None
        try:
            gpus = tuple(self.driver.gpus(self.deadline.within()))
            containers = users_of(uuid, self._containers(), gpus)
        except Unanswered as error:
            unknown.append(str(error))
        try:
            open_by = self._open_by(status, daemon=daemon and bool(status.persistence_mode))
        except Hidden as error:
            unknown.append(str(error))
        return Scene(status, told.via, told.count, containers, open_by, "; ".join(unknown))

    def _containers(self) -> list[Json]:
        """Inspect every container there is. Raises Unanswered."""
        found = []
        for listed in self.engine.containers():
            raw = self.engine.inspect(str(listed.get("Id")))
            if raw is not None:
                found.append(raw)
        return found

    def _open_by(self, status: GpuStatus, *, daemon: bool) -> tuple[str, ...] | None:
        """List who has its device open, in words. Raises Hidden."""
        if status.minor is None:
            return None
        found = []
        for pid in self.tasks.holders(status.minor):
            try:
                command = self.tasks.look(pid).command
            except Gone:
                continue
            if not (daemon and command == _DAEMON):
                found.append(f"{plain(command, 40)} (pid {pid})")
        return tuple(found)


def users_of(uuid: str, containers: Sequence[Json], gpus: tuple[Gpu, ...]) -> tuple[str, ...]:
    """Name the containers, in whatever state, that may use this GPU; one of which that is not clear may."""
    found = []
    for raw in containers:
        its = claim(raw, gpus)
        if its.unclear or any(ref.uuid == uuid for ref in its.refs):
            found.append(str(raw.get("Name", "")).removeprefix("/") or str(raw.get("Id"))[:12])
    return tuple(found)
