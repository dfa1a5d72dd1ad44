"""A recording as files: which question's answer stands in which file, written and read back.

Owns names, layout and JSON text. Asks no source.

{meta,gpu,host,local,tasks,history}.json · docker/{containers,stat,inspect/ID12}.json · prometheus/NN-NAME.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ds01_policy.model import History
from ds01_policy.observe.envelope import BadQuery, SourceDown
from ds01_policy.observe.gpus import NoGpuStack
from ds01_policy.observe.ports import NotRecorded, SourceError, SourceSlow
from ds01_policy.observe.recorded_tasks import on_gpus_json, on_gpus_of
from ds01_policy.observe.recorded_values import (
    counters_json,
    counters_of,
    history_json,
    history_of,
    inventory_json,
    inventory_of,
    query_json,
    query_of,
    stat_json,
    stat_of,
    time_json,
    time_of,
)
from ds01_policy.observe.redacted import redact_inspect, redact_listed
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from ds01_policy.observe.ports import Json

SCHEMA = 1

# What was asked: ("containers",), ("inspect", id), ("stat", id, path), ("query", promql, time), ("inventory",),
# ("counters",), ("tasks",), ("uid", pid), ("user", uid).
Question = tuple[str, ...]


class RecordingError(SourceError):
    """A recording cannot be written or read; the text says which file and what to do."""


# The errors that the engine tells apart: a replay must raise the same kind.
_KINDS: dict[str, type[SourceError]] = {
    "source_down": SourceDown,
    "bad_query": BadQuery,
    "no_gpu_stack": NoGpuStack,
    "slow": SourceSlow,
    "not_recorded": NotRecorded,
}


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer as it was given, or the words and the kind of the SourceError that came instead."""

    answer: Any = None
    error: str | None = None
    kind: str = ""  # a key of _KINDS; empty: a plain SourceError
    place: str = ""  # file it was read from

    @classmethod
    def failed(cls, error: SourceError) -> Kept:
        """Keep an error."""
        return cls(error=str(error), kind=next((kind for kind, each in _KINDS.items() if isinstance(error, each)), ""))

    @classmethod
    def failed_in(cls, value: Json, place: str) -> Kept:
        """Read an error back."""
        return cls(error=str(value["error"]), kind=str(value.get("kind", "")), place=place)

    def raised(self) -> SourceError | None:
        """Give the error that came instead of an answer."""
        return None if self.error is None else _KINDS.get(self.kind, SourceError)(self.error)

    def json(self, write: Callable[[Any], Any]) -> Any:
        """Write the answer, or the error in its place."""
        if self.error is None:
            return write(self.answer)
        return {"error": self.error, "kind": self.kind} if self.kind else {"error": self.error}


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that stands in one recording."""

    at: datetime
    host: str
    has_prometheus: bool
    kept: Mapping[Question, Kept]
    history: History = field(default_factory=History)
    versions: Mapping[str, str] = field(default_factory=dict)
    has_local: bool = False


# ── to files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def files_of(recording: Recording) -> dict[str, str]:
    """Lay a recording out as the text of each file by its relative path; the same recording gives the same bytes."""
    files: dict[str, Any] = {
        "meta.json": {
            "schema": SCHEMA,
            "at": time_json(recording.at),
            "host": recording.host,
            "prometheus": recording.has_prometheus,
            "local": recording.has_local,
            "versions": dict(sorted(recording.versions.items())),
        },
        "history.json": history_json(recording.history),
    }
    asked: dict[str, dict[Question, Kept]] = {}
    for question, kept in sorted(recording.kept.items()):
        asked.setdefault(question[0], {})[question] = kept
    for kept in asked.get("containers", {}).values():
        files["docker/containers.json"] = kept.json(lambda listed: [redact_listed(entry) for entry in listed])
    for (_, container), kept in asked.get("inspect", {}).items():
        name = f"docker/inspect/{re.sub('[^0-9a-f]', '_', container[:12])}.json"
        files[name] = _inspect_json(container, kept)
    if stats := asked.get("stat"):
        files["docker/stat.json"] = [
            {"container": container, "path": path, **kept.json(lambda stat: {"stat": stat_json(stat)})}
            for (_, container, path), kept in stats.items()
        ]
    for number, ((_, promql, at), kept) in enumerate(asked.get("query", {}).items(), start=1):
        answer = {"query": promql, "at": at, **kept.json(query_json)}
        files[f"prometheus/{number:02d}-{_slug(promql)}.json"] = answer
    for kept in asked.get("inventory", {}).values():
        files["gpu.json"] = kept.json(inventory_json)
    for kept in asked.get("counters", {}).values():
        files["local.json"] = kept.json(counters_json)
    for kept in asked.get("tasks", {}).values():
        files["tasks.json"] = kept.json(on_gpus_json)
    files["host.json"] = {
        "uid_of_process": {pid: kept.answer for (_, pid), kept in asked.get("uid", {}).items()},
        "user_of_uid": {uid: kept.answer for (_, uid), kept in asked.get("user", {}).items()},
    }
    return {name: _text(value) + "\n" for name, value in files.items()}


def _inspect_json(container: str, kept: Kept) -> Json:
    """Keep the engine's own shape, so that a file reads like `docker inspect`."""
    if kept.error is None and kept.answer is not None:
        return redact_inspect(kept.answer)
    return {"Id": container, **kept.json(lambda _: {"gone": True})}


def metric_of(promql: str) -> str:
    """Find the first metric in a query; a query without any is all of itself."""
    metric = re.search(r"[A-Za-z_:][A-Za-z0-9_:]*(?=\s*[{\[])", promql)
    return metric[0] if metric else promql


def _slug(promql: str) -> str:
    """Name a query by the first metric in it."""
    return re.sub(r"[^a-z0-9]+", "_", metric_of(promql).lower()).strip("_")[:48] or "query"


def _text(value: Any, indent: str = "") -> str:
    """Indent by two, but keep a list of plain values, like one sample, on its line. Pure printable ASCII."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        inside = (f"{deeper}{_line(key)}: {_text(inner, deeper)}" for key, inner in value.items())
        return "{\n" + ",\n".join(inside) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        return "[\n" + ",\n".join(f"{deeper}{_text(inner, deeper)}" for inner in value) + f"\n{indent}]"
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)


# ── from files ───────────────────────────────────────────────────────────────────────────────────────────────────────


def recording_of(directory: Path) -> Recording:
    """Read a recording back.

    Raises:
        RecordingError: when it is none, or a file in it cannot be understood.

    """
    if not (directory / "meta.json").is_file():
        raise RecordingError(f"{directory} is not a recording: it has no meta.json (`record DIR` makes one)")
    meta = _parsed(directory, "meta.json", _meta_of)
    kept: dict[Question, Kept] = {}
    for path in sorted(directory.rglob("*.json")):
        name = path.relative_to(directory).as_posix()
        for read_name, read in _READERS.items():
            if re.fullmatch(read_name, name):
                kept.update(_parsed(directory, name, read))
    history = _parsed(directory, "history.json", lambda value, _: history_of(value))
    return Recording(meta["at"], meta["host"], meta["prometheus"], kept, history, meta["versions"], meta["local"])


def _parsed(directory: Path, name: str, read: Callable[[Any, str], Any]) -> Any:
    path = directory / name
    try:
        return read(json.loads(path.read_text(encoding="utf-8")), name)
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise RecordingError(f"{path} is not what `record` writes: {plain(what, 200)}") from error


def _meta_of(value: Json, _: str) -> Json:
    if value["schema"] != SCHEMA:
        raise ValueError(f"its schema is {value['schema']}, this version reads {SCHEMA}: record the host anew")
    known = {"at": time_of(value["at"]), "host": str(value["host"]), "prometheus": bool(value["prometheus"])}
    return {**value, **known, "local": bool(value.get("local", False))}  # recordings of 0.1 have no such key


_Found = dict[Question, Kept]


def _containers(value: Any, name: str) -> _Found:
    if isinstance(value, dict):
        return {("containers",): Kept.failed_in(value, name)}
    if not isinstance(value, list):
        raise TypeError("it is neither a list nor an error")
    return {("containers",): Kept(value, place=name)}


def _inspect(value: Json, name: str) -> _Found:
    question = ("inspect", str(value["Id"]))
    if set(value) == {"Id", "gone"}:
        return {question: Kept(place=name)}
    return {question: Kept.failed_in(value, name) if "error" in value else Kept(value, place=name)}


def _stat(value: list[Json], name: str) -> _Found:
    return {
        ("stat", str(each["container"]), str(each["path"])): _kept(
            each, f"{name} ({each['container'][:12]} {each['path']})", lambda each: stat_of(each["stat"])
        )
        for each in value
    }


def _query(value: Json, name: str) -> _Found:
    at = time_json(time_of(value["at"]))
    return {("query", str(value["query"]), str(at)): _kept(value, name, query_of)}


def _inventory(value: Json, name: str) -> _Found:
    return {("inventory",): _kept(value, name, inventory_of)}


def _counters(value: Json, name: str) -> _Found:
    return {("counters",): _kept(value, name, counters_of)}


def _tasks(value: Json, name: str) -> _Found:
    return {("tasks",): _kept(value, name, on_gpus_of)}


def _host(value: Json, name: str) -> _Found:
    processes, users = value["uid_of_process"], value["user_of_uid"]
    return {
        **{("uid", pid): Kept(uid, place=f"{name} (process {pid})") for pid, uid in processes.items()},
        **{("user", uid): Kept(user, place=f"{name} (uid {uid})") for uid, user in users.items()},
    }


def _kept(value: Json, place: str, read: Callable[[Json], Any]) -> Kept:
    return Kept.failed_in(value, place) if "error" in value else Kept(read(value), place=place)


_READERS: dict[str, Callable[[Any, str], _Found]] = {
    r"docker/containers\.json": _containers,
    r"docker/inspect/[^/]+\.json": _inspect,
    r"docker/stat\.json": _stat,
    r"prometheus/[^/]+\.json": _query,
    r"gpu\.json": _inventory,
    r"local\.json": _counters,
    r"tasks\.json": _tasks,
    r"host\.json": _host,
}
