"""Values of the model ↔ JSON that a person can read and diff, for recordings.

Owns the shape of each value in a recording. Whatever does not fit raises KeyError, TypeError or ValueError.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ds01_policy.model import Gpu, GpuRef, History, Kind, Life, MigDevice, Mode, Partition, Spell, Unfit
from ds01_policy.observe.ports import Counters, FileStat, Inventory, QueryResult

if TYPE_CHECKING:
    from ds01_policy.observe.ports import Json


def time_json(at: datetime | None) -> str | None:
    """Write a time in UTC, to the microsecond where it has any: `2026-03-02T03:31:00Z`."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def time_of(text: Any) -> datetime:
    """Read a time; one without a zone is an error."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return at.astimezone(UTC)


def _maybe_time(text: Any) -> datetime | None:
    return None if text is None else time_of(text)


# ── sources ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def inventory_json(inventory: Inventory) -> Json:
    """Write the host's GPUs."""
    return {
        "via": inventory.via,
        "notes": list(inventory.notes),
        "utilization": dict(sorted(inventory.utilization.items())),
        "unmeasured": dict(sorted(inventory.unmeasured.items())),
        "gpus": [
            {
                "uuid": gpu.uuid,
                "index": gpu.index,
                "pci_bus_id": gpu.pci_bus_id,
                "minor": gpu.minor,
                "name": gpu.name,
                "mig_enabled": gpu.mig_enabled,
                "mig_devices": [
                    {
                        "uuid": device.uuid,
                        "index": device.index,
                        "gpu_instance": device.gpu_instance,
                        "compute_instance": device.compute_instance,
                    }
                    for device in gpu.mig_devices
                ],
            }
            for gpu in inventory.gpus
        ],
    }


def inventory_of(value: Json) -> Inventory:
    """Read the host's GPUs."""
    gpus = (
        Gpu(**{**gpu, "mig_devices": tuple(MigDevice(**device) for device in gpu["mig_devices"])})
        for gpu in value["gpus"]
    )
    utilization, unmeasured = (dict(value.get(name, {})) for name in ("utilization", "unmeasured"))  # not in 0.1
    return Inventory(tuple(gpus), value["via"], tuple(value["notes"]), utilization, unmeasured)


def stat_json(stat: FileStat | None) -> Json | None:
    """Write a file's stat; None: there is no such file."""
    if stat is None:
        return None
    return {"modified_at": time_json(stat.modified_at), "name": stat.name, "link_target": stat.link_target}


def stat_of(value: Json | None) -> FileStat | None:
    """Read a file's stat."""
    return None if value is None else FileStat(time_of(value["modified_at"]), value["name"], value["link_target"])


def counters_json(counted: Counters) -> Json:
    """Write what containers have used."""
    return {
        "at": counted.at,
        "cpu_s": dict(sorted(counted.cpu_s.items())),
        "network_bytes": dict(sorted(counted.network_bytes.items())),
        "notes": list(counted.notes),
    }


def counters_of(value: Json) -> Counters:
    """Read what containers have used."""
    cpu_s, network = ({str(key): float(one) for key, one in value[name].items()} for name in ("cpu_s", "network_bytes"))
    return Counters(float(value["at"]), cpu_s, network, tuple(value["notes"]))


def query_json(answer: QueryResult) -> Json:
    """Write what Prometheus answered."""
    return {"result_type": answer.result_type, "result": list(answer.result)}


def query_of(value: Json) -> QueryResult:
    """Read what Prometheus answered."""
    return QueryResult(value["result_type"], value["result"])


# ── what the ledger remembers ────────────────────────────────────────────────────────────────────────────────────────


def history_json(history: History) -> Json:
    """Write what earlier ticks left behind, in a stable order."""
    return {
        "last_tick_at": time_json(history.last_tick_at),
        "last_running": history.last_running,
        "breaker_since": time_json(history.breaker_since),
        "failed": {container: time_json(at) for container, at in sorted(history.failed.items())},
        "writable": history.writable,
        "unwritable_why": history.unwritable_why,
        "lives": [
            {
                "container": life.container,
                "started_at": time_json(life.started_at),
                "running_since": time_json(life.running_since),
                "last_seen": time_json(life.last_seen),
                "ended_at": time_json(life.ended_at),
                "owner": life.owner,
                "gpus": [{"uuid": ref.uuid, "gpu_instance": ref.gpu_instance} for ref in life.gpus],
            }
            for _, life in sorted(history.lives.items())
        ],
        "last_kinds": [
            {"container": container, "rule": rule, "kind": kind.value}
            for (container, rule), kind in sorted(history.last_kinds.items())
        ],
        "spells": [_spell_json(spell) for _, spell in sorted(history.spells.items(), key=lambda item: item[0])],
        "partitions": [
            {
                "uuid": ref.uuid,
                "gpu_instance": ref.gpu_instance,
                "devices": list(partition.devices),
                "since": time_json(partition.since),
            }
            for ref, partition in sorted(history.partitions.items())
        ],
        "samples": {
            kind: {key: [list(sample) for sample in samples] for key, samples in sorted(by_key.items())}
            for kind, by_key in sorted(history.samples.items())
        },
        "unfit": {gpu: {"since": time_json(one.since), "why": one.why} for gpu, one in sorted(history.unfit.items())},
        "resets": {gpu: time_json(at) for gpu, at in sorted(history.resets.items())},
    }


def _spell_json(spell: Spell) -> Json:
    return {
        "container": spell.container,
        "rule": spell.rule,
        "started_at": time_json(spell.started_at),
        "since": time_json(spell.since),
        "seen": time_json(spell.seen),
        "warned_at": time_json(spell.warned_at),
        "warned_mode": None if spell.warned_mode is None else spell.warned_mode.value,
        "delivered": spell.delivered,
        "kept_since": time_json(spell.kept_since),
        "promised_at": time_json(spell.promised_at),
    }


def history_of(value: Json) -> History:
    """Read what earlier ticks left behind."""
    spells = [_spell_of(spell) for spell in value["spells"]]
    return History(
        spells={(spell.container, spell.rule): spell for spell in spells},
        last_kinds={(each["container"], each["rule"]): Kind(each["kind"]) for each in value["last_kinds"]},
        last_tick_at=_maybe_time(value["last_tick_at"]),
        lives={life["container"]: _life_of(life) for life in value["lives"]},
        last_running=int(value["last_running"]),
        breaker_since=_maybe_time(value["breaker_since"]),
        failed={container: time_of(at) for container, at in value.get("failed", {}).items()},
        samples={
            kind: {key: tuple((float(at), float(one)) for at, one in samples) for key, samples in by_key.items()}
            for kind, by_key in value.get("samples", {}).items()  # recordings of 0.1 have none
        },
        partitions={
            GpuRef(each["uuid"], each["gpu_instance"]): Partition(tuple(each["devices"]), _maybe_time(each["since"]))
            for each in value.get("partitions", ())
        },
        unfit={gpu: Unfit(time_of(one["since"]), str(one["why"])) for gpu, one in value.get("unfit", {}).items()},
        resets={gpu: time_of(at) for gpu, at in value.get("resets", {}).items()},
        writable=bool(value["writable"]),
        unwritable_why=str(value["unwritable_why"]),
    )


def _life_of(value: Json) -> Life:
    return Life(
        container=value["container"],
        started_at=time_of(value["started_at"]),
        running_since=time_of(value["running_since"]),
        last_seen=time_of(value["last_seen"]),
        ended_at=_maybe_time(value["ended_at"]),
        owner=str(value.get("owner", "")),
        gpus=tuple(GpuRef(each["uuid"], each["gpu_instance"]) for each in value.get("gpus", ())),
    )


def _spell_of(value: Json) -> Spell:
    mode = value["warned_mode"]
    return Spell(
        container=value["container"],
        started_at=_maybe_time(value["started_at"]),
        rule=value["rule"],
        since=time_of(value["since"]),
        seen=time_of(value["seen"]),
        warned_at=_maybe_time(value["warned_at"]),
        warned_mode=None if mode is None else Mode(mode),
        delivered=bool(value["delivered"]),
        kept_since=_maybe_time(value["kept_since"]),
        promised_at=_maybe_time(value.get("promised_at")),
    )
