"""Hours of container age in seconds: which times Docker's answers are to show instead of the real ones.

Pure: works on Docker's decoded JSON. Only the life that was aged is rewritten; after a restart the real time shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]
When = str | timedelta | datetime  # "3h" ago, or an instant
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(slots=True)
class Disguise:
    """What one container's answers are changed to."""

    created: str | None = None  # Docker's text, always shown: a container is created once
    started: tuple[str, str] | None = None  # (real, shown): shown while the real one is the same
    finished: tuple[str, str] | None = None
    edits: list[Callable[[Json], None]] = field(default_factory=list)  # change an inspect answer in place

    def inspect(self, answer: Json) -> Json:
        """Rewrite `GET /containers/ID/json`."""
        if self.created:
            answer["Created"] = self.created
        for key, pair in (("StartedAt", self.started), ("FinishedAt", self.finished)):
            if pair and answer["State"][key] == pair[0]:
                answer["State"][key] = pair[1]
        for edit in self.edits:
            edit(answer)
        return answer

    def item(self, item: Json) -> Json:
        """Rewrite one element of `GET /containers/json`, where only the creation has a time of its own."""
        if self.created:
            item["Created"] = int(datetime.fromisoformat(self.created).timestamp())
        return item


def seconds(text: str) -> float:
    """Read `90s`, `3h`, `1d12h`."""
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        raise ValueError(f"not a duration: {text!r}")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    return sum(timedelta(**{UNITS[unit]: float(count)}).total_seconds() for count, unit in parts)


def instant(when: When, now: datetime) -> datetime:
    """Resolve "3h" (ago) or a timedelta against `now`."""
    if isinstance(when, datetime):
        return when
    return now - (when if isinstance(when, timedelta) else timedelta(seconds=seconds(when)))


def docker_time(when: datetime) -> str:
    """As Docker prints times: UTC, nine digits."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "001Z"
