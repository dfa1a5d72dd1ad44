"""One engine inspect, checked and turned into the Docker part of a Container.

Owns what each field of API 1.40 and later means and which of them must be there. Pure: asks nothing, and adds
neither identity nor GPUs. What is not as documented is an error of that one container, never a guess.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from ds01_policy.model import Container, Mount, State
from ds01_policy.observe.ports import Json, SourceError

_RUNS = frozenset({State.RUNNING, State.PAUSED})
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}\Z")
_MISSING = object()


class Malformed(SourceError):
    """One container's inspect cannot be believed. `container_id` is "" when not even that could be read."""

    def __init__(self, container_id: str, what: str) -> None:
        """Say which container, and what is wrong with it."""
        super().__init__(f"container {container_id[:12] or 'without an id'}: Docker's inspect is not usable: {what}")
        self.container_id = container_id
        self.what = what


def is_container_id(text: object) -> bool:
    """Whether it is a full id: 64 lower-case hex digits."""
    return isinstance(text, str) and _CONTAINER_ID.match(text) is not None


def parse_time(text: str) -> datetime | None:
    """Read an RFC 3339 time as UTC, microseconds truncated; Go's zero date and "" are None.

    Raises:
        ValueError: for anything else, and for a time without a zone.

    """
    if text == "" or text.startswith("0001-01-01T00:00:00"):
        return None
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    try:
        return parsed.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is outside the calendar") from error


def container_of(raw: Json) -> Container:
    """Turn `GET /containers/ID/json` into a Container that knows what Docker knows.

    Raises:
        Malformed: when a field is missing or of the wrong type, or the fields contradict each other.

    """
    container_id = raw.get("Id") if isinstance(raw, dict) else None
    if not isinstance(container_id, str) or not is_container_id(container_id):
        raise Malformed("", f"Id is {_shown(container_id)}, not 64 hex digits")
    fields = _Fields(container_id, raw)
    for part in ("State", "Config", "HostConfig"):
        if fields.get(part) is _MISSING:
            raise Malformed(container_id, f"it has no {part}")
    state = _state(fields)
    started_at = None if state is State.CREATED else fields.time("State", "StartedAt")
    if started_at is None and state in _RUNS:
        raise Malformed(container_id, f"it is {state.value} but has no State.StartedAt")
    created_at = fields.time("Created")
    if created_at is None:
        raise Malformed(container_id, "it has no Created time")
    name = fields.text("Name").removeprefix("/")
    if not name:
        raise Malformed(container_id, "it has no Name")
    return Container(
        id=container_id,
        name=name,
        image=fields.text("Config", "Image", default=""),
        state=state,
        created_at=created_at,
        started_at=started_at,
        finished_at=None if state is State.CREATED else fields.time("State", "FinishedAt", default=""),
        labels=_labels(fields),
        restart_policy=fields.text("HostConfig", "RestartPolicy", "Name", default="") or "no",
        auto_remove=fields.flag("HostConfig", "AutoRemove"),
        network_mode=_network_mode(fields),
        pid=fields.count("State", "Pid"),
        mounts=tuple(_mount(fields, entry) for entry in fields.items("Mounts")),
    )


def shows_dockers_mounts(raw: Json) -> bool:
    """Whether a bind mount shows the container mounts of the host that come and go, Docker's own among them.

    Engines before 24.0 double the mounts of such a container each time somebody looks at its files through them, until
    the host can mount nothing more.
    """
    graph = raw.get("GraphDriver")
    layers = graph.get("Data") if isinstance(graph, dict) else None
    merged = layers.get("MergedDir") if isinstance(layers, dict) else None
    inside = (merged, raw.get("HostnamePath"), "/var/lib/docker/containers/id/hostname")
    # ROOT/overlay2/layer/merged and ROOT/containers/id/hostname: the third folder up, if there is one.
    roots = {root for path in inside if isinstance(path, str) for root in PurePosixPath(path).parents[2:3]}
    mounts = raw.get("Mounts")
    for mount in mounts if isinstance(mounts, list) else ():
        if not isinstance(mount, dict) or mount.get("Type", "bind") != "bind":
            continue
        source = PurePosixPath(str(mount.get("Source")))
        if any(root.is_relative_to(source) or source.is_relative_to(root) for root in roots):
            return True
        if mount.get("Propagation") not in (None, "", "private", "rprivate"):
            return True
    return False


class _Fields:
    """Typed look-ups in one inspect. A default stands for a field that is absent or null, never for a wrong type."""

    def __init__(self, container_id: str, raw: Json) -> None:
        self.container_id = container_id
        self._raw = raw

    def get(self, *path: str) -> Any:
        """Follow keys; null and absent are the same to Go's JSON, so both are _MISSING."""
        value: Any = self._raw
        for depth, key in enumerate(path):
            if value is _MISSING:
                return _MISSING
            if not isinstance(value, dict):
                raise self.wrong(path[:depth], value, "an object")
            value = value.get(key, _MISSING)
            if value is None:
                value = _MISSING
        return value

    def wrong(self, path: tuple[str, ...], value: object, wanted: str) -> Malformed:
        """Build the error for a field of the wrong type."""
        return Malformed(self.container_id, f"{'.'.join(path)} is {_shown(value)}, not {wanted}")

    def text(self, *path: str, default: str | None = None) -> str:
        value = self.get(*path)
        if value is _MISSING and default is not None:
            return default
        if not isinstance(value, str):
            raise self.wrong(path, value, "text")
        return value

    def time(self, *path: str, default: str | None = None) -> datetime | None:
        value = self.text(*path, default=default)
        try:
            return parse_time(value)
        except ValueError:
            raise self.wrong(path, value, "a time") from None

    def flag(self, *path: str) -> bool:
        value = self.get(*path)
        if value is _MISSING:
            return False
        if not isinstance(value, bool):
            raise self.wrong(path, value, "true or false")
        return value

    def count(self, *path: str) -> int:
        value = self.get(*path)
        if value is _MISSING:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(path, value, "a number from 0")
        return value

    def items(self, *path: str) -> list[Any]:
        value = self.get(*path)
        if value is _MISSING:
            return []
        if not isinstance(value, list):
            raise self.wrong(path, value, "a list")
        return value


def _state(fields: _Fields) -> State:
    text = fields.text("State", "Status")
    try:
        return State(text)
    except ValueError:
        known = ", ".join(State)
        raise Malformed(fields.container_id, f"State.Status is {_shown(text)}; known are {known}") from None


def _labels(fields: _Fields) -> dict[str, str]:
    labels = fields.get("Config", "Labels")
    if labels is _MISSING:
        return {}
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise fields.wrong(("Config", "Labels"), labels, "an object of texts")
    return dict(labels)


def _network_mode(fields: _Fields) -> str:
    """`default` is what the daemon calls its own bridge network.

    Who was started on no network may have been connected to one since: what it is on counts, not what it was made on.
    """
    text = fields.text("HostConfig", "NetworkMode", default="")
    if text == "none":
        on = fields.get("NetworkSettings", "Networks")
        return "bridge" if isinstance(on, dict) and set(on) - {"none"} else text
    return "bridge" if text in ("", "default") else text


def _mount(fields: _Fields, entry: object) -> Mount:
    if not isinstance(entry, dict):
        raise fields.wrong(("Mounts",), entry, "a list of objects")
    inner = _Fields(fields.container_id, entry)
    kind = inner.text("Type", default="bind")
    volume = inner.text("Name", default="")
    return Mount(
        source=volume if kind == "volume" and volume else inner.text("Source", default=""),
        destination=inner.text("Destination", default=""),
        kind=kind,
        anonymous=kind == "volume" and is_container_id(volume),  # Docker names those like containers: 64 hex
    )


def _shown(value: object) -> str:
    """Quote a value for an error text, cut short: users choose some of these."""
    if value is _MISSING:
        return "missing"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004  one line of a terminal
