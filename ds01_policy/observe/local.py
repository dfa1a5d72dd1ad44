"""Counters of running containers from the host's own files: CPU time of their cgroup, bytes of their network.

Owns where the kernel keeps them (cgroup v1 and v2, whichever driver named them) and, where those cannot be read,
asking the engine instead. Every container is counted by itself; one that cannot be is left out.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.observe.ports import Counters, Json, SourceError
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NANOSECONDS, MICROSECONDS = 1e9, 1e6  # in a second
# As cAdvisor leaves them out: loopback, and what belongs to containers inside this one.
_NOT_ITS_OWN = ("veth", "docker", "nerdctl")
_AT_A_TIME = 32


@dataclass(frozen=True, slots=True)
class Usage:
    """What one container has used since it started. None: not known."""

    cpu_s: float | None = None
    network_bytes: float | None = None


@dataclass(frozen=True)
class HostCounters:
    """The host this runs on. A ports.LocalSource.

    `stats` asks the engine for one container's counters (None: it is gone), for where the files cannot be read: an
    engine on another machine, or this program in a container of its own. Several threads call it. It takes up to a
    second, where the files of fifty containers take ten milliseconds.
    """

    stats: Callable[[str], Json | None] | None = None
    proc: Path = Path("/proc")
    clock: Callable[[], float] = time.time

    def counters(self, pids: Mapping[str, int]) -> Counters:
        """Count for these containers. A note says of how many, and why, it could not be done."""
        at = self.clock()
        found = {container: self._from_files(container, pid) for container, pid in pids.items()}
        blind = [container for container, usage in found.items() if usage.cpu_s is None]
        notes: list[str] = []
        if blind:
            found |= self._from_engine(blind, notes)
        return Counters(
            at,
            {container: usage.cpu_s for container, usage in found.items() if usage.cpu_s is not None},
            {container: usage.network_bytes for container, usage in found.items() if usage.network_bytes is not None},
            tuple(notes),
        )

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _from_files(self, container: str, pid: int) -> Usage:
        """Read the cgroup that names this container, and the network its first process is in."""
        if pid <= 0:
            return Usage()
        try:
            cpu_s = self._cpu_s(container, pid)
            network_bytes = bytes_of((self.proc / str(pid) / "net" / "dev").read_text(errors="replace"))
        except (OSError, ValueError, IndexError):
            return Usage()
        # The number may have been given to another process meanwhile: then whose network that was is not known.
        return Usage(cpu_s, network_bytes if cpu_s is not None and self._still(container, pid) else None)

    def _cpu_s(self, container: str, pid: int) -> float | None:
        own = cgroups_of(self._cgroup_text(pid), container)
        for kind in ("cpuacct", "unified"):
            place = self._mounts.get(kind)
            if kind not in own or place is None:
                continue
            folder = place.folder(own[kind])
            if folder is None:
                continue
            if kind == "cpuacct":
                return int((folder / "cpuacct.usage").read_text()) / NANOSECONDS
            lines = (folder / "cpu.stat").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec ")) / MICROSECONDS
        return None

    def _still(self, container: str, pid: int) -> bool:
        try:
            return bool(cgroups_of(self._cgroup_text(pid), container))
        except OSError:
            return False

    def _cgroup_text(self, pid: int) -> str:
        return (self.proc / str(pid) / "cgroup").read_text(errors="replace")

    @cached_property
    def _mounts(self) -> dict[str, CgroupMount]:
        try:
            return mounts_of((self.proc / "self" / "mountinfo").read_text(errors="replace"))
        except OSError:
            return {}

    # ── the engine ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _from_engine(self, containers: list[str], notes: list[str]) -> dict[str, Usage]:
        """Ask the engine about those whose files cannot be read, until it refuses all of a batch.

        It answers when it collects next, up to a second later, however few it is asked for: so many at a time.
        """
        found: dict[str, Usage] = {}
        if self.stats is None:
            return found
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for begin in range(0, len(containers), _AT_A_TIME):
                batch = containers[begin : begin + _AT_A_TIME]
                told = dict(zip(batch, pool.map(self._ask, batch), strict=True))
                found |= {container: usage for container, usage in told.items() if isinstance(usage, Usage)}
                refused = [(container, why) for container, why in told.items() if isinstance(why, str)]
                if refused:
                    (first, why), more = refused[0], len(refused) - 1
                    also = f", and {more} more" if more else ""
                    notes.append(f"{first[:12]}{also} could not be counted: {plain(why, 200)}")
                left = len(containers) - begin - len(batch)
                if len(refused) == len(batch) and left:
                    notes.append(f"{left} more were not counted")
                    break
        return found

    def _ask(self, container: str) -> Usage | str:
        """Ask about one container; a text is why it could not be."""
        try:
            raw = self.stats(container) if self.stats is not None else None
            return usage_of(raw) if raw is not None else Usage()
        except SourceError as error:
            return str(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return f"Docker's stats are not usable: {error!r}"


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """Where a hierarchy of cgroups lies in the file system, and which part of it that is."""

    point: Path
    root: str

    def folder(self, cgroup: str) -> Path | None:
        """Find a cgroup's folder; None: it lies outside of what is mounted here."""
        root = self.root.rstrip("/")
        if ".." in cgroup.split("/") or not (cgroup == root or cgroup.startswith(f"{root}/")):
            return None
        return self.point / cgroup[len(root) :].lstrip("/")


def mounts_of(mountinfo: str) -> dict[str, CgroupMount]:
    """Find the hierarchies that count CPU time: `cpuacct` (cgroup v1) and `unified` (v2), the first mount of each."""
    found: dict[str, CgroupMount] = {}
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        fields, kinds = mount.split(), source.split()
        if len(fields) < 5 or len(kinds) < 3:  # noqa: PLR2004  proc_pid_mountinfo(5)
            continue
        kind = {"cgroup2": "unified"}.get(kinds[0], "")
        if kinds[0] == "cgroup" and "cpuacct" in kinds[-1].split(","):
            kind = "cpuacct"
        if kind:
            point = fields[4].encode().decode("unicode_escape") if "\\" in fields[4] else fields[4]
            found.setdefault(kind, CgroupMount(Path(point), fields[3]))
    return found


def cgroups_of(text: str, container: str) -> dict[str, str]:
    """Read /proc/PID/cgroup: the container's own cgroup in each hierarchy that names it.

    What lies below (an init system in the container makes cgroups of its own) is counted in it. A process of another
    container, or of none, gives nothing.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        kind = "unified" if not controllers else "cpuacct" if "cpuacct" in controllers.split(",") else ""
        parts = path.split("/")
        own = [number for number, part in enumerate(parts) if container in part]
        if kind and own:
            found[kind] = "/".join(parts[: own[-1] + 1])
    return found


def bytes_of(dev: str) -> float | None:
    """Read /proc/PID/net/dev: bytes received and sent over all interfaces of its own. None: it has none."""
    total = None
    for line in dev.splitlines()[2:]:
        name, _, rest = line.strip().rpartition(":")
        if name == "lo" or name.startswith(_NOT_ITS_OWN):
            continue
        fields = rest.split()
        total = (total or 0.0) + int(fields[0]) + int(fields[8])
    return total


def usage_of(stats: Json) -> Usage:
    """Read the engine's stats of one container. Raises KeyError, TypeError or ValueError for another shape."""
    if datetime.fromisoformat(str(stats["read"])).astimezone(UTC).year <= 1:  # it does not run: everything is 0
        return Usage()
    networks = stats.get("networks") or {}
    own = [of for name, of in networks.items() if name != "lo" and not name.startswith(_NOT_ITS_OWN)]
    return Usage(
        cpu_s=int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / NANOSECONDS,
        network_bytes=float(sum(int(of["rx_bytes"]) + int(of["tx_bytes"]) for of in own)) if own else None,
    )
