"""What a selftest finds, step by step: values, and the page they are shown on.

Owns their words' layout. Proves nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from ds01_policy.report.layout import wrap
from ds01_policy.text import plain

if TYPE_CHECKING:
    from ds01_policy.observe.ports import Json
    from ds01_policy.report.layout import Clock, Page, Style


class Refused(Exception):
    """What was asked for cannot be done on this host; nothing was done. The text is for the admin."""


class Failed(Exception):
    """A step failed. The text is for the admin."""


class Status(StrEnum):
    """How a step ended. Only `failed` fails the selftest."""

    OK = "ok"
    NOTE = "note"  # worth knowing
    SKIPPED = "skipped"  # could not be proven here
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried. `name` is stable; `do` is empty where there is nothing to do."""

    name: str
    status: Status
    what: str
    do: str = ""
    after_s: float = 0.0  # seconds since the selftest began


@dataclass(frozen=True, slots=True)
class Course:
    """A whole selftest, as it went."""

    host: str
    at: datetime  # when it began
    steps: tuple[Step, ...]
    container: str = ""  # 64 hex; empty: none was made
    name: str = ""
    gpu: str = ""  # as Docker was asked for it; empty: none

    @property
    def failed(self) -> tuple[Step, ...]:
        """The steps that failed."""
        return tuple(step for step in self.steps if step.status is Status.FAILED)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max((step.after_s for step in self.steps), default=0.0)


_LEADS = {Status.OK: "ok", Status.NOTE: "note", Status.SKIPPED: "skip", Status.FAILED: "FAILED"}
_STYLES: dict[Status, tuple[Style, ...]] = {
    Status.OK: ("green",),
    Status.NOTE: ("yellow",),
    Status.SKIPPED: ("dim",),
    Status.FAILED: ("bold", "red"),
}
_LEAD, _NAME = 8, 10  # columns
_LIMIT = 1000
_LADDER = ("warn", "stop", "remove", "epilog")


def title(host: str, page: Page, clock: Clock) -> str:
    """Write what stands above the steps."""
    words = f"{plain(host, 60)}, {clock.stamp()}, selftest"
    return "\n".join(page.paint(line, "bold") for line in wrap(words, page.columns)) + "\n"


def line(step: Step, page: Page) -> str:
    """Write one step, as it is done."""
    lead = page.paint(_LEADS[step.status].ljust(_LEAD), *_STYLES[step.status])
    indent = _LEAD + _NAME
    first, *more = page.hang(" " * _LEAD + step.name.ljust(_NAME), plain(step.what, _LIMIT), indent=indent)
    lines = [lead + first[_LEAD:], *more]
    if step.do:
        lines += page.hang(" " * indent + "do: ", plain(step.do, _LIMIT))
    return "\n".join(lines) + "\n"


def summary(course: Course, page: Page) -> str:
    """Write what it comes to."""
    took = f"{course.seconds:.0f}s"
    if course.failed:
        where = ", ".join(dict.fromkeys(step.name for step in course.failed))
        return "\n" + page.paint(f"FAILED ({where}), after {took}", "bold", "red") + "\n"
    proven = [name for name in _LADDER if any(_proves(step, name) for step in course.steps)]
    text = f"proven in {took}: {', '.join(proven)}"
    missing = [name for name in _LADDER if name not in proven]
    if missing:
        text += f"; not proven here: {', '.join(missing)}"
    return "\n" + page.paint(text, "bold") + "\n"


def _proves(step: Step, name: str) -> bool:
    return step.name == name and step.status in (Status.OK, Status.NOTE)


def document(course: Course) -> Json:
    """Build the JSON document."""
    return {
        "schema": 1,
        "command": "selftest",
        "at": course.at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "host": course.host,
        "container": {"id": course.container, "name": course.name} if course.container else None,
        "gpu": course.gpu or None,
        "ok": not course.failed,
        "seconds": round(course.seconds, 1),
        "steps": [
            {
                "step": step.name,
                "status": step.status.value,
                "what": step.what,
                "do": step.do or None,
                "after_s": round(step.after_s, 1),
            }
            for step in course.steps
        ],
    }
