"""`record DIR`: sources that pass everything through and keep what was asked and answered.

Owns the directory and the order of writing. What a file looks like is recorded.py's; decides nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from ds01_policy.observe.ports import SourceError, Sources
from ds01_policy.observe.recorded import Kept, Recording, RecordingError, files_of
from ds01_policy.observe.recorded_values import time_json
from ds01_policy.observe.replay import Replay, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from ds01_policy.model import History
    from ds01_policy.observe.ports import (
        Counters,
        DockerSource,
        FileStat,
        GpuSource,
        HostSource,
        Inventory,
        Json,
        LocalSource,
        OnGpus,
        PrometheusSource,
        QueryResult,
        TaskSource,
    )
    from ds01_policy.observe.recorded import Question

__all__ = ["Recorder", "RecordingError", "Replay", "replay"]  # the way back stands beside the way in

_Answer = TypeVar("_Answer")


class Recorder:
    """Observe through `sources`, then `finish`: only then anything is written."""

    def __init__(self, sources: Sources, directory: Path) -> None:
        """Take a directory that is new, or empty and ours; nobody else will read it.

        Raises:
            RecordingError: when the directory cannot be used.

        """
        _prepare(directory)
        self._directory = directory
        self._host = sources.host
        self._tape = _Tape()
        self.sources = Sources(
            docker=_Docker(self._tape, sources.docker),
            prometheus=None if sources.prometheus is None else _Prometheus(self._tape, sources.prometheus),
            gpu=_Gpu(self._tape, sources.gpu),
            host=_Host(self._tape, sources.host),
            local=None if sources.local is None else _Local(self._tape, sources.local),
            tasks=None if sources.tasks is None else _Tasks(self._tape, sources.tasks),
        )

    def finish(self, at: datetime, history: History, versions: Mapping[str, str]) -> None:
        """Write the recording of what was asked at `at`, with what the ledger remembered then.

        Raises:
            RecordingError: when a file cannot be written.

        """
        self.write(files_of(self.recording(at, history, versions)))

    def recording(self, at: datetime, history: History, versions: Mapping[str, str]) -> Recording:
        """Give what was asked and told so far, to be written."""
        has_prometheus = self.sources.prometheus is not None
        has_local = self.sources.local is not None
        return Recording(at, self._host.name(), has_prometheus, self._tape.kept, history, versions, has_local)

    def write(self, files: Mapping[str, str]) -> None:
        """Write files, by their path inside the directory. Raises RecordingError."""
        for name, text in files.items():
            path = self._directory / name
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with path.open("x", encoding="utf-8", newline="") as file:
                    file.write(text)
            except OSError as error:
                raise RecordingError(f"{path} cannot be written: {error.strerror}") from error


def _prepare(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if any(directory.iterdir()):
            raise RecordingError(f"{directory} is not empty: name a new directory")
        if directory.stat().st_uid != os.geteuid():
            raise RecordingError(f"{directory} belongs to somebody else: name a new directory")
        directory.chmod(0o700)
    except OSError as error:
        raise RecordingError(f"{directory} cannot be used: {error.strerror}") from error


class _Tape:
    """Answers by question. A question asked twice keeps its first answer: that is what the snapshot was made of."""

    def __init__(self) -> None:
        self.kept: dict[Question, Kept] = {}

    def take(self, question: Question, ask: Callable[[], _Answer]) -> _Answer:
        try:
            answer = ask()
        except SourceError as error:
            self.kept.setdefault(question, Kept.failed(error))
            raise
        self.kept.setdefault(question, Kept(answer))
        return answer


class _Docker:
    def __init__(self, tape: _Tape, inner: DockerSource) -> None:
        self._tape, self._inner = tape, inner

    def containers(self) -> list[Json]:
        return self._tape.take(("containers",), self._inner.containers)

    def inspect(self, container_id: str) -> Json | None:
        return self._tape.take(("inspect", container_id), lambda: self._inner.inspect(container_id))

    def stat(self, container_id: str, path: str) -> FileStat | None:
        return self._tape.take(("stat", container_id, path), lambda: self._inner.stat(container_id, path))


class _Prometheus:
    def __init__(self, tape: _Tape, inner: PrometheusSource) -> None:
        self._tape, self._inner = tape, inner

    def query(self, promql: str, at: datetime) -> QueryResult:
        return self._tape.take(("query", promql, str(time_json(at))), lambda: self._inner.query(promql, at))


class _Gpu:
    def __init__(self, tape: _Tape, inner: GpuSource) -> None:
        self._tape, self._inner = tape, inner

    def inventory(self) -> Inventory:
        return self._tape.take(("inventory",), self._inner.inventory)


class _Local:
    def __init__(self, tape: _Tape, inner: LocalSource) -> None:
        self._tape, self._inner = tape, inner

    def counters(self, pids: Mapping[str, int]) -> Counters:
        return self._tape.take(("counters",), lambda: self._inner.counters(pids))


class _Tasks:
    def __init__(self, tape: _Tape, inner: TaskSource) -> None:
        self._tape, self._inner = tape, inner

    def look(self) -> OnGpus:
        return self._tape.take(("tasks",), self._inner.look)


class _Host:
    def __init__(self, tape: _Tape, inner: HostSource) -> None:
        self._tape, self._inner = tape, inner

    def name(self) -> str:
        return self._inner.name()

    def uid_of_process(self, pid: int) -> int | None:
        return self._tape.take(("uid", str(pid)), lambda: self._inner.uid_of_process(pid))

    def user_of_uid(self, uid: int) -> str | None:
        return self._tape.take(("user", str(uid)), lambda: self._inner.user_of_uid(uid))
