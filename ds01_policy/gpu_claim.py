"""Which GPUs a container may use, from every route by which Docker hands one over.

Owns the routes and how they add up. Pure, and never raises: what cannot be read may be a GPU, unclear which, because
one that goes unseen is neither protected nor reclaimed.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any, TypeGuard

from ds01_policy import gpu_names
from ds01_policy.gpu_names import Meant
from ds01_policy.model import GpuClaim, GpuRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01_policy.model import Gpu

GPUS, CDI, ENV, MOUNT = "--gpus", "--device (CDI)", "NVIDIA_VISIBLE_DEVICES", "nvidia-container-devices mount"
DEVICE, CGROUP, PRIVILEGED = "--device", "--device-cgroup-rule", "privileged"

# Any of these in a device request without a driver's name selects the NVIDIA driver, as long as `amd` is not beside it.
_CAPABILITIES = frozenset({"gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"})
# Runtimes that are known to make nothing of NVIDIA_VISIBLE_DEVICES, which CUDA images bake into their environment.
_PLAIN_RUNTIME = re.compile(r"(?:runc|crun|youki|sysbox-runc|io\.containerd\.runc\..*|io\.containerd\.runtime\..*)\Z")
_NODE = re.compile(r"/dev/(?:nvidia|char/195:)(\d{1,3})\Z", re.ASCII)
_CONTROL_NODES = frozenset({254, 255})  # minors of nvidia-modeset and nvidiactl: every GPU's, and none
_DRIVER_NODE = re.compile(r"/dev/(?:nvidia|char/195:)")
_CGROUP_RULE = re.compile(r"\s*([abc])\s+(\d+|\*):(\d+|\*)\s+([rwm]+)\s*\Z", re.ASCII)
_NVIDIA_MAJOR = "195"
_DIGITS = 7  # of a minor number, which the kernel keeps in twenty bits
_MOUNT_ROOT = "/var/run/nvidia-container-devices"
_REASONS_SHOWN = 3


def claim(raw: Mapping[str, Any], inventory: tuple[Gpu, ...] | None, *, default_runtime: str = "runc") -> GpuClaim:
    """Read what a raw inspect says about GPUs, and resolve it through the host's GPUs (None: they are not known).

    `default_runtime` is the daemon's, for an engine that leaves `HostConfig.Runtime` empty.
    """
    tally = _Tally(inventory)
    host, config = raw.get("HostConfig"), raw.get("Config")
    if not isinstance(host, dict) or not isinstance(config, dict):
        tally.add("inspect", Meant(unclear="has no readable HostConfig and Config"))
        return tally.claim()
    handed = _device_requests(tally, host.get("DeviceRequests"))
    runtime = host.get("Runtime") or default_runtime
    plain = isinstance(runtime, str) and _PLAIN_RUNTIME.match(runtime) is not None
    # For a device request Docker appends NVIDIA_VISIBLE_DEVICES itself, for a CDI device as `void`; the last one wins.
    if not plain and not handed:
        _environment(tally, config.get("Env"), runtime)
    if not plain or handed:
        _mounts(tally, raw.get("Mounts"))
    _devices(tally, host.get("Devices"))
    _cgroup_rules(tally, host.get("DeviceCgroupRules"))
    if host.get("Privileged"):
        tally.may_look_at_all(PRIVILEGED)
    return tally.claim()


class _Tally:
    """Adds routes up."""

    def __init__(self, inventory: tuple[Gpu, ...] | None) -> None:
        self.inventory = inventory
        self.asked = False  # for a GPU, by any route that means one
        self._refs: set[GpuRef] = set()
        self._routes: dict[str, None] = {}  # in order, each once
        self._reasons: dict[str, None] = {}
        self._by_place: set[str] = set()

    def add(self, route: str, meant: Meant) -> None:
        """Take in what one route asked for; nothing, if that is no GPU."""
        if meant.refs or meant.unclear:
            self.asked = True
            self._note(route, meant)

    def add_names(self, route: str, names: list[str]) -> None:
        """Take in device names: `void` (or `none`) among them means no GPU at all, else `all` means all."""
        if "void" in names or "none" in names:
            return
        for name in ["all"] if "all" in names else names:
            self.add(route, gpu_names.named(name, self.inventory))

    def may_look_at_all(self, route: str) -> None:
        """Take in a container that could open any GPU but asked for none by name."""
        if self.inventory is None:
            self._note(route, Meant(unclear=f"may use every GPU, and {gpu_names.NOT_LISTED}"))
        elif self.inventory:
            self._note(route, gpu_names.every(self.inventory))

    def _note(self, route: str, meant: Meant) -> None:
        self._routes[route] = None
        self._refs.update(meant.refs)
        self._by_place.update(filter(None, [meant.by_place]))
        if meant.unclear:
            self._reasons[f"{route} {meant.unclear}"] = None

    def claim(self) -> GpuClaim:
        """Give the sum."""
        if not self._routes:
            return GpuClaim()
        reasons = list(self._reasons)
        if len(reasons) > _REASONS_SHOWN:
            reasons[_REASONS_SHOWN:] = [f"and {len(reasons) - _REASONS_SHOWN} more"]
        refs = sorted(self._refs, key=lambda ref: (ref.uuid, -1 if ref.gpu_instance is None else ref.gpu_instance))
        return GpuClaim(
            wants=True,
            refs=tuple(refs),
            unclear="; ".join(reasons),
            via=" + ".join(self._routes),
            holds=self.asked,
            by_place=tuple(sorted(self._by_place)),
        )


def _device_requests(tally: _Tally, requests: object) -> bool:
    """`--gpus` and `--device vendor/class=name`. Tell whether an NVIDIA device was named or counted."""
    handed = False
    for request in _entries(tally, GPUS, requests):
        driver, ids, count = request.get("Driver") or "", request.get("DeviceIDs") or [], request.get("Count") or 0
        if not isinstance(driver, str) or not _texts(ids) or type(count) is not int:
            tally.add(GPUS, Meant(unclear="has a device request that cannot be read"))
        elif driver == "cdi":
            meant = [gpu_names.cdi(name, tally.inventory) for name in ids]
            handed = handed or any(each.refs or each.unclear for each in meant)
            for each in meant:
                tally.add(CDI, each)
        elif driver.startswith("nvidia") or (not driver and _for_nvidia(request.get("Capabilities"))):
            handed = handed or bool(ids) or count != 0
            tally.add_names(GPUS, ["all"] if count < 0 else ids)
            if count > 0:
                tally.add(GPUS, gpu_names.first(count, tally.inventory))
    return handed


def _for_nvidia(capabilities: object) -> bool:
    """Whether any of the alternatives selects the NVIDIA driver; none readable: it may."""
    groups = [group for group in capabilities if isinstance(group, list)] if isinstance(capabilities, list) else []
    return not groups or any("amd" not in group and any(name in group for name in _CAPABILITIES) for group in groups)


def _environment(tally: _Tally, env: object, runtime: object) -> None:
    """NVIDIA_VISIBLE_DEVICES, as the NVIDIA runtime reads it."""
    if env is not None and not _texts(env):
        tally.add(ENV, Meant(unclear="may be set: the environment cannot be read"))
        return
    variables: dict[str, str] = {}
    for line in env or ():
        key, _, value = line.partition("=")
        variables[key] = value
    # Images older than the variable mean all.
    legacy = bool(variables.get("CUDA_VERSION")) and not variables.get("NVIDIA_REQUIRE_CUDA")
    value = variables.get("NVIDIA_VISIBLE_DEVICES", "all" if legacy else "")
    names = [name.strip() for name in value.split(",") if name.strip()]
    if isinstance(runtime, str) and "nvidia" in runtime.casefold():
        tally.add_names(ENV, names)
    elif names and not {"void", "none"} & set(names):
        reason = f"names {value[:80]!r} under the runtime {str(runtime)[:80]!r}, which may or may not hand GPUs over"
        tally.add(ENV, Meant(unclear=reason))


def _mounts(tally: _Tally, mounts: object) -> None:
    """/dev/null mounted over a device's name below one directory: the other way to tell the NVIDIA runtime."""
    names = []
    for mount in mounts if isinstance(mounts, list) else ():
        if not isinstance(mount, dict) or _path(mount.get("Source")) != "/dev/null":
            continue
        root, _, name = _path(mount.get("Destination")).partition(f"{_MOUNT_ROOT}/")
        if root or not name or name.startswith("imex/"):
            continue
        if name.startswith("cdi/"):
            name = name.removeprefix("cdi/")
            name = name if "=" in name else "=".join(name.rsplit("/", 1))
        names.append(name)
    tally.add_names(MOUNT, names)


def _devices(tally: _Tally, devices: object) -> None:
    """Device nodes passed one by one. The host's path counts; the container's where the host's says nothing."""
    before = tally.asked
    others = []
    numbered = False
    for device in _entries(tally, DEVICE, devices):
        paths = [_path(device.get("PathOnHost")), _path(device.get("PathInContainer"))]
        nodes = [int(node[1]) for node in map(_NODE.match, paths) if node and int(node[1]) not in _CONTROL_NODES]
        if paths[0] == "/dev":
            tally.add(DEVICE, gpu_names.every(tally.inventory))
        elif nodes:
            numbered = True
            tally.add(DEVICE, gpu_names.minor(nodes[0], tally.inventory))
        else:
            others += [path for path in paths if _DRIVER_NODE.match(path)]
    # nvidiactl, nvidia-uvm and nvidia-caps go along with GPUs that another route hands over.
    if others and not numbered and not before:
        tally.add(DEVICE, Meant(unclear=f"passes {others[0][:80]!r} but no numbered GPU"))


def _cgroup_rules(tally: _Tally, rules: object) -> None:
    """Permission to open device nodes by number, which a container can make for itself."""
    if rules is not None and not _texts(rules):
        tally.add(CGROUP, Meant(unclear="cannot be read"))
        return
    numbers: dict[int, str] = {}  # of NVIDIA's nodes, and the rule that names each
    for rule in rules or ():
        found = _CGROUP_RULE.match(rule)
        if not found or found[1] == "b" or not {"r", "w"} & set(found[4]):
            continue
        major, number = (part.lstrip("0") or "0" for part in (found[2], found[3]))
        if major == "*" or (major == _NVIDIA_MAJOR and number == "*"):
            tally.may_look_at_all(CGROUP)
        elif major == _NVIDIA_MAJOR and len(number) <= _DIGITS:
            numbers[int(number)] = rule.strip()
    for number in sorted(numbers.keys() - _CONTROL_NODES):
        tally.add(CGROUP, gpu_names.minor(number, tally.inventory))
    if numbers and numbers.keys() <= _CONTROL_NODES:
        allowed = " and ".join(map(repr, numbers.values()))
        tally.add(CGROUP, Meant(unclear=f"allows {allowed}, and no numbered GPU"))


def _entries(tally: _Tally, route: str, entries: object) -> list[dict[str, Any]]:
    """Return the objects of a list; what is no object, or no list, is something that may be a GPU."""
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        tally.add(route, Meant(unclear="cannot be read from Docker's inspect"))
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _path(value: object) -> str:
    """Normalise an absolute path; "" for anything else."""
    return "/" + posixpath.normpath(value).lstrip("/") if isinstance(value, str) and value.startswith("/") else ""
