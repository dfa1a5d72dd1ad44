"""The check of the GPUs that an ended container held: its strays ended, everybody else told of, the GPU judged.

Owns the order of an epilog and its time. What is proven, judged and reset is its modules'; it marks no GPU itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ds01_policy.act.epilog.health import Verdict, in_doubt, judge
from ds01_policy.act.epilog.held import GpuFinding, Health, Held, Result
from ds01_policy.act.epilog.ports import Clock, Deadline, Driver, Engine, Resets, Tasks, Unanswered, Xids
from ds01_policy.act.epilog.reset import Resetting
from ds01_policy.act.epilog.strays import Sweep, meet, sweep
from ds01_policy.model import GpuStatuses, Status
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from ds01_policy.model import GpuStatus, Xid
    from ds01_policy.policy import EpilogSettings

__all__ = ["Epilog", "GpuFinding", "Health", "Held", "Result"]

LOOKS = 4  # at most, and so far apart:
PAUSE_S = 2.5
RESET_UNIT = "ds01-policy-reset.service"


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Epilog:
    """Checks what one ended life of a container held. `hands` False: looks and tells, ends nothing, resets nothing.

    `resets` None: it resets GPUs itself, and never hands one over.
    """

    driver: Driver
    engine: Engine
    tasks: Tasks
    settings: EpilogSettings
    hands: bool
    xids: Xids | None = None
    clock: Clock = field(default_factory=Clock)
    now: Callable[[], datetime] = _utc
    resets: Resets | None = None

    def run(self, held: Held) -> Result:
        """Check it, in the time that the settings give. Raises nothing that Docker, the driver or a process can cause.

        Without a container's id the GPUs are looked at for their own sake: nobody's process is then anybody's to end.
        """
        if not held.gpus:
            return Result(Status.NOOP, f"it is not known which GPU it held{_because(held.unclear)}")
        return _Run(
            self, held, Deadline(self.clock, self.clock.seconds() + self.settings.timeout.total_seconds())
        ).all()


@dataclass(slots=True)
class _Run:
    """One epilog on its way."""

    epilog: Epilog
    held: Held
    deadline: Deadline
    looks: list[GpuStatuses] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unfinished: bool = False

    def all(self) -> Result:
        """Look, end, look again, judge, reset."""
        began = self.epilog.now()
        uuids = sorted({ref.uuid for ref in self.held.gpus})
        if not self._look(self.looks):
            words = f"the GPU could not be looked at: {'; '.join(self.notes)}"
            return Result(Status.FAILED, words, tuple(GpuFinding(uuid, Health.UNKNOWN, words) for uuid in uuids))
        swept = self._sweep()
        self._look_again(self.looks, uuids, needed=bool(swept.ended))
        xids = self._xids(self.held.ended_at or began)
        verdicts = {uuid: self._judge(uuid, self.looks, swept, xids) for uuid in uuids}
        found = [self._finding(uuid, verdict, swept) for uuid, verdict in verdicts.items()]
        return self._result(found, swept)

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self, looks: list[GpuStatuses]) -> bool:
        try:
            looks.append(self.epilog.driver.look(self.deadline.within()))
        except Unanswered as error:
            self.notes.append(str(error))
            return False
        return True

    def _look_again(self, looks: list[GpuStatuses], uuids: list[str], *, needed: bool = False) -> None:
        """Look until nothing is left in doubt: memory and utilisation take a while to go after the last process."""
        while len(looks) < LOOKS and (needed or any(map(in_doubt, _told(looks[-1], uuids)))):
            if not self.deadline.pause(PAUSE_S) or not self._look(looks):
                self.unfinished = True
                return
            needed = False

    def _xids(self, since: datetime) -> tuple[Xid, ...]:
        if self.epilog.xids is None:
            return ()
        try:
            return self.epilog.xids.since(since)
        except Unanswered as error:
            self.notes.append(f"no Xids: {error}")
            return ()

    # ── acting ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _sweep(self) -> Sweep:
        try:
            known = frozenset(str(raw.get("Id")) for raw in self.epilog.engine.containers()) | {self.held.container}
        except Unanswered as error:
            known = None
            self.notes.append(f"Docker does not answer: {error}")
        met = meet(self.looks[-1].gpus, self.held, self.epilog.tasks, known)
        return sweep(
            self.held, met, self.epilog.engine, self.epilog.tasks, self.deadline, unwanted=self._unwanted("kill")
        )

    def _unwanted(self, what: str) -> str:
        """Say why nothing may be ended or reset; empty: it may."""
        settings = self.epilog.settings
        if not self.epilog.hands:
            return "this epilog only looks"
        if what == "kill":
            return "" if settings.kill else "epilog.kill is false in settings.yaml"
        return "" if settings.reset == "when_safe" else "epilog.reset is `never` in settings.yaml"

    def _finding(self, uuid: str, verdict: Verdict, swept: Sweep) -> GpuFinding:
        """Put the verdict in words; where a reset would cure the GPU, reset it or say why not."""
        if not verdict.cure:
            return GpuFinding(uuid, verdict.health, verdict.words)
        if why := self._unwanted("reset"):
            return GpuFinding(uuid, verdict.health, f"{verdict.words}; not reset: {why}")
        epilog = self.epilog
        resetting = Resetting(epilog.driver, epilog.engine, epilog.tasks, self.deadline)
        if epilog.resets is not None and not epilog.resets.here():
            return self._handed_over(epilog.resets, uuid, verdict, resetting)
        done, words = resetting.attempt(uuid)
        words = f"{verdict.words}; {words}"
        if not done:
            return GpuFinding(uuid, verdict.health, words)
        looks = list[GpuStatuses]()  # what was seen before says nothing now
        if not self._look(looks):
            return GpuFinding(uuid, Health.UNKNOWN, f"{words}; how it is now is not known")
        self._look_again(looks, [uuid])
        after = self._judge(uuid, looks, swept, ())
        return GpuFinding(uuid, after.health, f"{words}; now: {after.words}")

    def _handed_over(self, resets: Resets, uuid: str, verdict: Verdict, resetting: Resetting) -> GpuFinding:
        """Have it reset by who may, if every gate is open; who resets it asks them all again."""
        if closed := resetting.closed(uuid):
            return GpuFinding(uuid, verdict.health, f"{verdict.words}; {closed}")
        try:
            resets.hand_over(uuid, self.held.container, verdict.words)
        except Unanswered as error:
            words = f"{verdict.words}; not reset: this process may not, and nobody could be asked to: {error}"
            return GpuFinding(uuid, verdict.health, words)
        return GpuFinding(uuid, verdict.health, f"{verdict.words}; handed to {RESET_UNIT}", unfit=True)

    def _judge(self, uuid: str, looks: list[GpuStatuses], swept: Sweep, xids: tuple[Xid, ...]) -> Verdict:
        seen = [told.gpus.get(uuid) for told in looks]
        bus = next((status.pci_bus_id for status in seen if status is not None), "").partition(".")[0]
        return judge(
            seen,
            xids=[xid for xid in xids if xid.pci_bus_id == bus],
            stuck=swept.stuck.get(uuid, ()),
            own=swept.own.get(uuid, ()),
            unreadable=looks[-1].unreadable,
        )

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _result(self, found: list[GpuFinding], swept: Sweep) -> Result:
        notes = [*self.notes]
        if self.held.unclear:
            notes.append(f"it may have held more{_because(self.held.unclear)}")
        if self.unfinished:
            notes.append("the time was over before all of it was seen")
        own = [words for by_gpu in (swept.own, swept.stuck) for told in by_gpu.values() for words in told]
        left = dict.fromkeys([*own, *swept.others])
        told = [f"{one.uuid}: {one.health}: {one.words}" for one in found]
        if swept.ended:
            told.append(f"ended: {'; '.join(swept.ended)}")
        if swept.others:
            told.append(f"left alone: {'; '.join(swept.others)}")
        unseen = any(one.uuid not in self.looks[-1].gpus for one in found)
        status = Status.FAILED if self.unfinished or unseen else Status.DONE
        return Result(status, "; ".join([*told, *notes]), tuple(found), tuple(swept.ended), tuple(left))


def _told(looked: GpuStatuses, uuids: list[str]) -> list[GpuStatus]:
    return [status for uuid in uuids if (status := looked.gpus.get(uuid)) is not None]


def _because(why: str) -> str:
    return f": {plain(why, 200)}" if why else ""
