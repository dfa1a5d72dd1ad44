"""`--replay DIR`: sources that answer what was recorded, and only what was asked then.

Owns the strictness: a question that was not recorded is an error and noted, an answer nobody asks for is listed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ds01_policy.observe.ports import NotRecorded, SourceError, Sources
from ds01_policy.observe.recorded import metric_of, recording_of
from ds01_policy.observe.recorded_values import time_json
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from ds01_policy.model import History
    from ds01_policy.observe.ports import Counters, FileStat, Inventory, Json, OnGpus, QueryResult
    from ds01_policy.observe.recorded import Question, Recording


_BEFORE, _SHOWN = 30, 150  # characters of a query that are shown before the first difference, and in all


@dataclass(frozen=True, slots=True)
class Replay:
    """A recorded host. `mismatches` grows as questions are asked that it has no answer to."""

    sources: Sources
    at: datetime
    host: str
    history: History
    mismatches: list[str]
    _tape: _Tape = field(repr=False)

    def unused(self) -> list[str]:
        """List the recorded answers that nobody has asked for so far, by file."""
        return self._tape.unused()


def replay(directory: Path) -> Replay:
    """Open a recording.

    Raises:
        RecordingError: when it is none, or a file in it cannot be understood.

    """
    return replay_of(recording_of(directory))


def replay_of(recording: Recording) -> Replay:
    """Answer from a recording that is read already."""
    tape = _Tape(recording)
    prometheus = _Prometheus(tape) if recording.has_prometheus else None
    local = _Local(tape) if recording.has_local else None
    tasks = _Tasks(tape) if ("tasks",) in recording.kept else None  # recordings of 0.1 have none
    sources = Sources(_Docker(tape), prometheus, _Gpu(tape), _Host(tape, recording.host), local, tasks)
    return Replay(sources, recording.at, recording.host, recording.history, tape.mismatches, tape)


class _Tape:
    def __init__(self, recording: Recording) -> None:
        self._kept = recording.kept
        self._asked: set[Question] = set()
        self.mismatches: list[str] = []

    def answer(self, question: Question, what: str) -> Any:
        if question not in self._kept:
            message = (
                f"this recording has no answer to {plain(what, 300)}: "
                "the rules or signals ask something else than when it was recorded"
                f"{self._instead(question)}"
            )
            if message not in self.mismatches:
                self.mismatches.append(message)
            raise NotRecorded(message)
        self._asked.add(question)
        kept = self._kept[question]
        if error := kept.raised():
            raise error
        return kept.answer

    def _instead(self, question: Question) -> str:
        """Name what was asked then about the same metric: most likely the same question in other words."""
        if question[0] != "query":
            return ""
        then = [
            kept[1]
            for kept in self._kept
            if kept[0] == "query" and kept not in self._asked and metric_of(kept[1]) == metric_of(question[1])
        ]
        return f"; {_difference(then[0], question[1])}" if then else ""

    def unused(self) -> list[str]:
        return [kept.place for question, kept in self._kept.items() if question not in self._asked]


def _difference(then: str, now: str) -> str:
    """Show where two texts part: queries are long, and begin alike."""
    same = next((index for index, (old, new) in enumerate(zip(then, now, strict=False)) if old != new), None)
    start = max((min(len(then), len(now)) if same is None else same) - _BEFORE, 0)
    old, new = (plain(("…" if start else "") + text[start:], _SHOWN) for text in (then, now))
    return f"then it asked {old!r} where it asks {new!r} now"


class _Docker:
    def __init__(self, tape: _Tape) -> None:
        self._tape = tape

    def containers(self) -> list[Json]:
        found: list[Json] = self._tape.answer(("containers",), "the list of containers")
        return found

    def inspect(self, container_id: str) -> Json | None:
        found: Json | None = self._tape.answer(("inspect", container_id), f"an inspect of {container_id[:12]}")
        return found

    def stat(self, container_id: str, path: str) -> FileStat | None:
        what = f"a stat of {path} in {container_id[:12]}"
        found: FileStat | None = self._tape.answer(("stat", container_id, path), what)
        return found


class _Prometheus:
    def __init__(self, tape: _Tape) -> None:
        self._tape = tape

    def query(self, promql: str, at: datetime) -> QueryResult:
        when = str(time_json(at))
        found: QueryResult = self._tape.answer(("query", promql, when), f"the query {promql} at {when}")
        return found


class _Gpu:
    def __init__(self, tape: _Tape) -> None:
        self._tape = tape

    def inventory(self) -> Inventory:
        found: Inventory = self._tape.answer(("inventory",), "which GPUs there are")
        return found


class _Local:
    def __init__(self, tape: _Tape) -> None:
        self._tape = tape

    def counters(self, pids: Mapping[str, int]) -> Counters:  # noqa: ARG002  those of then were counted
        found: Counters = self._tape.answer(("counters",), "what containers have used")
        return found


class _Tasks:
    def __init__(self, tape: _Tape) -> None:
        self._tape = tape

    def look(self) -> OnGpus:
        found: OnGpus = self._tape.answer(("tasks",), "who is on the GPUs")
        return found


class _Host:
    """The host never fails: what was not recorded is unknown, and noted."""

    def __init__(self, tape: _Tape, name: str) -> None:
        self._tape, self._name = tape, name

    def name(self) -> str:
        return self._name

    def uid_of_process(self, pid: int) -> int | None:
        try:
            found: int | None = self._tape.answer(("uid", str(pid)), f"whose process {pid} is")
        except SourceError:
            return None
        return found

    def user_of_uid(self, uid: int) -> str | None:
        try:
            found: str | None = self._tape.answer(("user", str(uid)), f"the name of uid {uid}")
        except SourceError:
            return None
        return found
