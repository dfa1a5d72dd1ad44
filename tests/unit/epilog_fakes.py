"""Epilogs that find what they are told to, a state directory to write them down in, and lives that have ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ds01_policy.act.epilog.held import GpuFinding, Health, Held, Result
from ds01_policy.audit import Audit, read
from ds01_policy.ledger import Ledger
from ds01_policy.model import Container, Demand, Evaluation, GpuClaim, GpuRef, Mode, Plan, Snapshot, State, Status
from ds01_policy.observe.ports import FileStat, Json, SourceError
from ds01_policy.once import LOCK, Once

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
STARTED = NOON - timedelta(hours=3)
MINUTE = timedelta(minutes=1)
A, B, C = (mark * 64 for mark in "abc")
CLAIM = GpuClaim(wants=True, refs=(GpuRef("GPU-1"), GpuRef("GPU-2", 7)), unclear="half", via="--gpus")
HELD = Held("a" * 64, "train", NOON - timedelta(hours=3), NOON, (GpuRef("GPU-1"), GpuRef("GPU-2", 7)))
CLEAN = Result(
    Status.DONE,
    "GPU-1: nobody on it",
    (GpuFinding("GPU-1", Health.OK, "nobody on it"), GpuFinding("GPU-2", Health.UNKNOWN, "not told")),
    ("python (4711)",),
    ("jupyter of bob (4712)",),
)


@dataclass
class Fake:
    """An epilog that finds what it is told to find."""

    result: Result | BaseException = CLEAN
    asked: list[Held] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def run(self, held: Held) -> Result:
        self.asked.append(held)
        self.meanwhile()
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


class Place:
    """A state directory with both files open, and epilogs upon it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger.open(folder / "ledger.db")
        self.audit = Audit.open(folder / "audit.jsonl")
        self.ledger_error: Exception | None = None
        self.lines_allowed = 99

    def files(self) -> tuple[Ledger, Audit]:
        if self.ledger_error is not None:
            raise self.ledger_error
        return self.ledger, self.audit

    def once(self, epilog: Fake, by: str = "watch", **changes: Any) -> Once:
        made = Once(epilog, self.files, lambda: NOON, self.folder / LOCK, timedelta(seconds=5), by)
        return replace(made, **changes)

    def lines(self) -> list[dict[str, Any]]:
        return list(read(self.folder / "audit.jsonl"))

    def close(self) -> None:
        self.ledger.close()
        self.audit.close()


def container(mark: str = A, **changes: Any) -> Container:
    made = Container(mark, "train", "img", State.RUNNING, STARTED, STARTED, gpus=CLAIM, owner="alice")
    return replace(made, **changes)


def seen(ledger: Ledger, at: datetime, *containers: Container) -> None:
    """Let a tick pass that saw these."""
    ledger.begin(at, Mode.ENFORCE, "sha256:1")
    ledger.record(Snapshot(at, "gpu01", containers), Evaluation((), Demand(8, 0, high=False)), Plan())


@dataclass
class Docker:
    """An engine that shows these containers, lists those of them (None: all), and may be down."""

    shown: dict[str, Any] = field(default_factory=dict)  # an inspect, or the error that comes instead
    states: dict[str, str] = field(default_factory=dict)  # as listed; running unless said
    listed: list[str] | None = None
    down: SourceError | None = None

    def containers(self) -> list[Json]:
        if self.down is not None:
            raise self.down
        return [
            {"Id": each, "State": self.states.get(each, "running")}
            for each in (self.shown if self.listed is None else self.listed)
        ]

    def inspect(self, container_id: str) -> Json | None:
        answer: Json | None = self.shown.get(container_id)
        if isinstance(answer, SourceError):
            raise answer
        return answer

    def stat(self, container_id: str, path: str) -> FileStat | None:
        raise NotImplementedError
