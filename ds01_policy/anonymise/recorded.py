"""A recording with every name replaced: only what the engine reads is kept, field by field.

Owns which field holds which kind of name. What people or programs wrote in their own words is left out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ds01_policy.anonymise.names import HOST, Names
from ds01_policy.anonymise.tasks import tasks
from ds01_policy.observe.ports import Counters, FileStat, Inventory, QueryResult
from ds01_policy.observe.recorded import Kept, Recording
from ds01_policy.observe.recorded_values import (
    counters_json,
    counters_of,
    history_json,
    history_of,
    inventory_json,
    inventory_of,
)
from ds01_policy.observe.redacted import CONNECTED, redact_inspect, redact_listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01_policy.anonymise.asked import Asked
    from ds01_policy.observe.ports import Json
    from ds01_policy.observe.recorded import Question

LEFT_OUT = "in words that were left out"
_GPU_MOUNTS = "/var/run/nvidia-container-devices"
# Labels of series whose values say nothing about people.
_PUBLIC = frozenset({
    "__name__", "cpu", "device", "DCGM_FI_DRIVER_VERSION", "ds01_ago", "ds01_part", "gpu", "GPU_I_ID", "GPU_I_PROFILE",
    "interface", "modelName", "pci_bus_id",
})  # fmt: skip
_HOST_CONFIG = ("DeviceCgroupRules", "Runtime", "Privileged", "AutoRemove", "RestartPolicy")
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?\Z", re.ASCII)
_NODE = re.compile(r"/dev(/nvidia[0-9a-z-]*|/char/[0-9:]+|/nvidia-caps/[0-9a-z-]+)?\Z", re.ASCII)


def renamed(recording: Recording, names: Names, asked: Asked) -> Recording:
    """Replace every name of a recording."""
    kept = {
        _question(question, names, asked): _kept(question[0], one, names, asked)
        for question, one in recording.kept.items()
    }
    history = history_json(recording.history)
    history["unwritable_why"] = LEFT_OUT if recording.history.unwritable_why else ""
    for life in history["lives"]:  # of those that are gone nobody asks any more
        life["owner"] = (
            names.user(life["owner"]) if life["owner"] in {*names.users.known, *names.strangers.known} else ""
        )
    for unfit in history["unfit"].values():
        unfit["why"] = LEFT_OUT
    return replace(recording, host=HOST, kept=kept, history=history_of(names.anywhere(history)))


def _question(question: Question, names: Names, asked: Asked) -> Question:
    match question:
        case ("inspect", container):
            return "inspect", names.marks(container)
        case ("stat", container, path):
            return "stat", names.marks(container), names.path(path)
        case ("query", promql, at):
            return "query", asked.query(promql), at
        case ("uid", pid):
            return "uid", str(names.pid(int(pid)))
    return question


def _kept(kind: str, kept: Kept, names: Names, asked: Asked) -> Kept:  # noqa: C901, PLR0911  one line a kind
    if kept.error is not None:
        return Kept(error=f"it failed, {LEFT_OUT}", kind=kept.kind)
    if kept.answer is None:
        return Kept()
    match kind:
        case "containers":
            return Kept([_listed(redact_listed(entry), names) for entry in kept.answer])
        case "inspect":
            return Kept(_inspect(redact_inspect(kept.answer), names, asked))
        case "stat":
            stat: FileStat = kept.answer
            link = names.path(stat.link_target) if stat.link_target else ""
            return Kept(FileStat(stat.modified_at, names.path(f"/{stat.name}").removeprefix("/"), link))
        case "query":
            return Kept(_answer(kept.answer, names))
        case "inventory":
            inventory: Inventory = kept.answer
            unmeasured = dict.fromkeys(inventory.unmeasured, LEFT_OUT)
            value = inventory_json(replace(inventory, notes=_notes(inventory.notes), unmeasured=unmeasured))
            return Kept(inventory_of(names.anywhere(value)))
        case "counters":
            counters: Counters = kept.answer
            return Kept(counters_of(names.anywhere(counters_json(replace(counters, notes=_notes(counters.notes))))))
        case "tasks":
            return Kept(tasks(kept.answer, names, _notes))
        case "user":
            return Kept(names.user(kept.answer))
    return kept


def _notes(notes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"note {number}, {LEFT_OUT}" for number, _ in enumerate(notes, 1))


def _listed(entry: Json, names: Names) -> Json:
    kept: Json = {key: entry[key] for key in ("Created", "State") if key in entry}
    kept["Id"] = names.marks(str(entry.get("Id")))
    if isinstance(entry.get("Names"), list):
        kept["Names"] = [names.container(str(name)) for name in entry["Names"]]
    return kept


# ── one inspect ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _inspect(raw: Json, names: Names, asked: Asked) -> Json:
    """Keep of an inspect what the engine reads. What is not as documented stays so, without its words."""
    kept: Json = {key: raw[key] for key in ("Created", "RestartCount") if key in raw}
    kept["Id"] = names.marks(str(raw.get("Id")))
    if "Name" in raw:
        kept["Name"] = names.container(raw["Name"]) if isinstance(raw["Name"], str) else odd(raw["Name"])
    for key, part in (("State", _state), ("HostConfig", _host_config), ("Config", _config)):
        if key in raw:
            value = raw[key]
            kept[key] = part(value, names, asked) if isinstance(value, dict) else odd(value)
    if "NetworkSettings" in raw:
        kept |= CONNECTED
    if "Mounts" in raw:
        mounts = raw["Mounts"]
        listed = isinstance(mounts, list)
        kept["Mounts"] = [_mount(mount, names, asked) for mount in mounts] if listed else odd(mounts)
    return kept


def odd(value: Any) -> Any:
    """Keep the shape of what nobody expected there."""
    if isinstance(value, str):
        return "odd"
    if isinstance(value, list):
        return [odd(inner) for inner in value]
    return {} if isinstance(value, dict) else value


def _state(state: Json, names: Names, _: Asked) -> Json:
    kept = {key: value for key, value in state.items() if key in ("Status", "StartedAt", "FinishedAt")}
    kept |= {key: value for key, value in state.items() if isinstance(value, bool)}
    pid = state.get("Pid")
    return kept if "Pid" not in state else kept | {"Pid": names.pid(pid) if isinstance(pid, int) else odd(pid)}


def _host_config(host: Json, names: Names, _: Asked) -> Json:
    kept = {key: names.anywhere(host[key]) for key in _HOST_CONFIG if key in host}
    if "DeviceRequests" in host:
        kept["DeviceRequests"] = _requests(host["DeviceRequests"], names)
    if isinstance(host.get("NetworkMode"), str):
        kept["NetworkMode"] = names.network(host["NetworkMode"])
    if "Devices" in host:
        devices = host["Devices"]
        kept["Devices"] = [_device(each, names) for each in devices] if isinstance(devices, list) else odd(devices)
    return kept


def _requests(requests: Any, names: Names) -> Any:
    if not isinstance(requests, list):
        return odd(requests)
    keys = ("Driver", "Count", "DeviceIDs", "Capabilities")
    return [
        names.anywhere({key: each[key] for key in keys if key in each}) if isinstance(each, dict) else odd(each)
        for each in requests
    ]


def _device(device: Any, names: Names) -> Any:
    if not isinstance(device, dict):
        return odd(device)
    keys = ("PathOnHost", "PathInContainer")
    paths = {key: device[key] for key in keys if isinstance(device.get(key), str)}
    return {key: path if _NODE.match(path) else names.path(path) for key, path in paths.items()}


def _config(config: Json, names: Names, asked: Asked) -> Json:
    kept: Json = {}
    if "Image" in config:
        image = config["Image"]
        kept["Image"] = names.images.of(image) if isinstance(image, str) and image else odd(image)
    if "Env" in config:
        env = config["Env"]
        kept["Env"] = [_variable(entry, names) for entry in env] if isinstance(env, list) else odd(env)
    if "Labels" in config:
        labels = config["Labels"]
        kept["Labels"] = asked.labels(labels) if isinstance(labels, dict) else odd(labels)
    return kept


def _variable(entry: Any, names: Names) -> Any:
    if not isinstance(entry, str):
        return odd(entry)
    return names.marks(entry)


def _mount(mount: Any, names: Names, asked: Asked) -> Any:
    if not isinstance(mount, dict):
        return odd(mount)
    kept: Json = {key: mount[key] for key in ("Type", "RW", "Propagation") if key in mount}
    source, destination, volume = (mount.get(key) for key in ("Source", "Destination", "Name"))
    if source == "/dev/null" and isinstance(destination, str) and destination.startswith(_GPU_MOUNTS):
        return kept | {"Source": source, "Destination": names.marks(destination)}
    if isinstance(source, str):
        kept["Source"] = names.path(source, asked.homes) if source.startswith("/") else names.volumes.of(source)
    if isinstance(destination, str):
        kept["Destination"] = names.path(destination, asked.homes)
    if isinstance(volume, str) and volume:
        marked = names.marks(volume)
        kept["Name"] = marked if marked != volume else names.volumes.of(volume)
    return kept


# ── answers of Prometheus ────────────────────────────────────────────────────────────────────────────────────────────


def _answer(answer: QueryResult, names: Names) -> QueryResult:
    rows = [{**row, "metric": _labels(row.get("metric", {}), names)} for row in answer.result]
    return QueryResult(answer.result_type, rows)


def _labels(metric: Mapping[str, Any], names: Names) -> dict[str, Any]:
    return {key: _label(key, value, names) for key, value in metric.items()}


def _label(key: str, value: Any, names: Names) -> Any:
    if not isinstance(value, str) or key in _PUBLIC or value == "" or _NUMBER.match(value):
        return value
    if value.startswith("/"):
        return names.path(value)
    marked = names.marks(value)
    return marked if marked != value else names.values.of(value)
