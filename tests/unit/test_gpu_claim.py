"""Every route to a GPU, on a host whose GPUs are known and on one whose are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.gpu_claim import claim
from ds01_policy.model import Gpu, GpuClaim, GpuRef, MigDevice

UUID = "GPU-{}a1f0000-0000-0000-0000-00000000000{}"
A, B, C = UUID.format(3, 1), UUID.format(4, 2), UUID.format(5, 3)
MIG_1, MIG_2, MIG_3 = (f"MIG-9044{n}af0-2fe6-57fb-86fe-54186d5a658{n}" for n in (1, 2, 3))
# GPU 0 and 1 are whole, and their minors are crossed; GPU 2 is cut into instances 7 and 9, 9 holding two devices.
HOST = (
    Gpu(A, 0, pci_bus_id="00000000:09:00.0", minor=1),
    Gpu(B, 1, pci_bus_id="00000000:0A:00.0", minor=0),
    Gpu(
        C,
        2,
        pci_bus_id="00000001:0B:00.0",
        mig_enabled=True,
        mig_devices=(MigDevice(MIG_1, 0, 9, 0), MigDevice(MIG_2, 1, 7, 0), MigDevice(MIG_3, 2, 9, 1)),
    ),
)
WHOLE_A, WHOLE_B, C7, C9 = GpuRef(A), GpuRef(B), GpuRef(C, 7), GpuRef(C, 9)
ALL = (WHOLE_A, WHOLE_B, C7, C9)
STRANGE = UUID.format(9, 9)
NOT_LISTED = "the host's GPUs could not be listed"


def inspect(*env: str, mounts: list[dict[str, str]] | None = None, **host: Any) -> dict[str, Any]:
    return {
        "Config": {"Env": list(env) or None},
        "HostConfig": {"Runtime": "runc", "Privileged": False, "DeviceRequests": None, "Devices": [], **host},
        "Mounts": mounts or [],
    }


def gpus(*ids: str, count: int = 0, driver: str = "", capabilities: object = (["gpu"],)) -> dict[str, Any]:
    groups = list(capabilities) if isinstance(capabilities, tuple) else capabilities
    request = {"Driver": driver, "Count": count, "DeviceIDs": list(ids) or None, "Capabilities": groups, "Options": {}}
    return inspect(DeviceRequests=[request])


def cdi(*names: str) -> dict[str, Any]:
    return gpus(*names, driver="cdi", capabilities=None)


def nvidia(*env: str, runtime: str = "nvidia") -> dict[str, Any]:
    return inspect(*env, Runtime=runtime)


def env(value: str, runtime: str = "nvidia") -> dict[str, Any]:
    return nvidia("PATH=/bin", f"NVIDIA_VISIBLE_DEVICES={value}", runtime=runtime)


def mounted(*names: str, runtime: str = "nvidia") -> dict[str, Any]:
    root = "/var/run/nvidia-container-devices"
    mounts = [{"Type": "bind", "Source": "/dev/null", "Destination": f"{root}/{name}"} for name in names]
    return inspect(mounts=mounts, Runtime=runtime)


def devices(*pairs: tuple[str, str]) -> dict[str, Any]:
    return inspect(Devices=[{"PathOnHost": a, "PathInContainer": b, "CgroupPermissions": "rwm"} for a, b in pairs])


def node(*paths: str) -> dict[str, Any]:
    return devices(*[(path, path) for path in paths])


RESOLVED = [
    # --gpus
    pytest.param(gpus(count=-1), ALL, "--gpus", id="--gpus all"),
    pytest.param(gpus(count=2), (WHOLE_A, WHOLE_B), "--gpus", id="--gpus 2 is always the first two"),
    pytest.param(gpus(count=3), ALL, "--gpus", id="--gpus 3 takes a divided GPU whole"),
    pytest.param(gpus("1"), (WHOLE_B,), "--gpus", id="device=1"),
    pytest.param(gpus("2"), (C7, C9), "--gpus", id="device=2, which is divided"),
    pytest.param(gpus("0", "1"), (WHOLE_A, WHOLE_B), "--gpus", id="device=0,1"),
    pytest.param(gpus("1", "1", A), (WHOLE_A, WHOLE_B), "--gpus", id="the same twice"),
    pytest.param(gpus(A), (WHOLE_A,), "--gpus", id="device=GPU-…"),
    pytest.param(gpus(A.upper()), (WHOLE_A,), "--gpus", id="device=GPU-… in capitals"),
    pytest.param(gpus(C), (C7, C9), "--gpus", id="device=GPU-… of a divided GPU"),
    pytest.param(gpus("2:0"), (C9,), "--gpus", id="device=2:0 counts MIG devices"),
    pytest.param(gpus("2:1"), (C7,), "--gpus", id="device=2:1"),
    pytest.param(gpus(MIG_2), (C7,), "--gpus", id="device=MIG-…"),
    pytest.param(gpus(MIG_1.upper()), (C9,), "--gpus", id="device=MIG-… in capitals"),
    pytest.param(gpus(MIG_1, MIG_3), (C9,), "--gpus", id="two devices of one instance"),
    pytest.param(gpus(f"MIG-{C}/7/0"), (C7,), "--gpus", id="device=MIG-GPU-…/gi/ci"),
    pytest.param(gpus("all"), ALL, "--gpus", id="device=all"),
    pytest.param(gpus("0", capabilities=(["compute", "utility", "gpu"],)), (WHOLE_A,), "--gpus", id="gpu named last"),
    pytest.param(gpus("0", capabilities=(["utility"],)), (WHOLE_A,), "--gpus", id="utility alone"),
    pytest.param(gpus("0", capabilities=(["gpu", "amd"], ["gpu"])), (WHOLE_A,), "--gpus", id="either maker"),
    pytest.param(gpus("0", driver="nvidia"), (WHOLE_A,), "--gpus", id="driver nvidia"),
    pytest.param(gpus("0", driver="nvidia.cdi", capabilities=None), (WHOLE_A,), "--gpus", id="driver nvidia.cdi"),
    pytest.param(gpus("0", driver="nvidia.runtime-hook"), (WHOLE_A,), "--gpus", id="driver nvidia.runtime-hook"),
    pytest.param(gpus("nvidia.com/gpu=1", driver="nvidia.cdi"), (WHOLE_B,), "--gpus", id="a CDI name by --gpus"),
    # CDI
    pytest.param(cdi("nvidia.com/gpu=0"), (WHOLE_A,), "--device (CDI)", id="nvidia.com/gpu=0"),
    pytest.param(cdi("nvidia.com/gpu=all"), ALL, "--device (CDI)", id="nvidia.com/gpu=all"),
    pytest.param(cdi(f"nvidia.com/gpu={A}"), (WHOLE_A,), "--device (CDI)", id="nvidia.com/gpu=GPU-…"),
    pytest.param(cdi("nvidia.com/gpu=2:1"), (C7,), "--device (CDI)", id="nvidia.com/gpu=2:1"),
    pytest.param(cdi(f"nvidia.com/gpu={MIG_2}"), (C7,), "--device (CDI)", id="nvidia.com/gpu=MIG-…"),
    pytest.param(cdi(f"nvidia.com/mig-1g.10gb={MIG_2}"), (C7,), "--device (CDI)", id="nvidia.com/mig-1g.10gb=MIG-…"),
    pytest.param(cdi("nvidia.com/gpu=gpu1"), (WHOLE_B,), "--device (CDI)", id="nvidia.com/gpu=gpu1"),
    pytest.param(cdi("nvidia.com/gpu=mig2:0"), (C9,), "--device (CDI)", id="nvidia.com/gpu=mig2:0"),
    pytest.param(cdi("management.nvidia.com/gpu=all"), ALL, "--device (CDI)", id="management.nvidia.com/gpu=all"),
    pytest.param(cdi("nvidia.com/gpu=0", "nvidia.com/gds=all"), (WHOLE_A,), "--device (CDI)", id="a GPU and storage"),
    # the variable
    pytest.param(env("all"), ALL, "NVIDIA_VISIBLE_DEVICES", id="variable: all"),
    pytest.param(env("0"), (WHOLE_A,), "NVIDIA_VISIBLE_DEVICES", id="variable: index"),
    pytest.param(env(f" 1 , {MIG_2},"), (WHOLE_B, C7), "NVIDIA_VISIBLE_DEVICES", id="variable: list with blanks"),
    pytest.param(env("2:0,2:1"), (C7, C9), "NVIDIA_VISIBLE_DEVICES", id="variable: MIG pairs"),
    pytest.param(env("0,all"), ALL, "NVIDIA_VISIBLE_DEVICES", id="variable: all wins over a list"),
    pytest.param(env("nvidia.com/gpu=1"), (WHOLE_B,), "NVIDIA_VISIBLE_DEVICES", id="variable: CDI name"),
    pytest.param(env("0000:0a:00.0"), (WHOLE_B,), "NVIDIA_VISIBLE_DEVICES", id="variable: PCI address"),
    pytest.param(env("00000001:0B:00.0"), (C7, C9), "NVIDIA_VISIBLE_DEVICES", id="variable: PCI address with domain"),
    pytest.param(env("1", runtime="nvidia-legacy"), (WHOLE_B,), "NVIDIA_VISIBLE_DEVICES", id="runtime nvidia-legacy"),
    pytest.param(
        nvidia("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=1"),
        (WHOLE_B,),
        "NVIDIA_VISIBLE_DEVICES",
        id="the last wins",
    ),
    pytest.param(nvidia("CUDA_VERSION=8.0"), ALL, "NVIDIA_VISIBLE_DEVICES", id="an image older than the variable"),
    # mounts
    pytest.param(mounted("1"), (WHOLE_B,), "nvidia-container-devices mount", id="mount: index"),
    pytest.param(mounted(A, MIG_2), (WHOLE_A, C7), "nvidia-container-devices mount", id="mounts: UUIDs"),
    pytest.param(mounted("all"), ALL, "nvidia-container-devices mount", id="mount: all"),
    pytest.param(
        mounted("cdi/nvidia.com/gpu/1"), (WHOLE_B,), "nvidia-container-devices mount", id="mount: CDI as path"
    ),
    pytest.param(mounted("cdi/nvidia.com/gpu=1"), (WHOLE_B,), "nvidia-container-devices mount", id="mount: CDI name"),
    # device nodes
    pytest.param(node("/dev/nvidia0"), (WHOLE_B,), "--device", id="/dev/nvidia0 is a minor number"),
    pytest.param(node("/dev/nvidia2"), (C7, C9), "--device", id="/dev/nvidia2 by index, as the minor is unknown"),
    pytest.param(
        node("/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"), (WHOLE_A,), "--device", id="with its helpers"
    ),
    pytest.param(devices(("/dev/null", "/dev/nvidia0")), (WHOLE_B,), "--device", id="a node by its name inside"),
    pytest.param(devices(("/dev/nvidia1", "/dev/nvidia0")), (WHOLE_A,), "--device", id="the host's name counts"),
    pytest.param(node("/dev/char/195:1"), (WHOLE_A,), "--device", id="by device number"),
    pytest.param(
        inspect(DeviceCgroupRules=["c 195:1 rw"]), (WHOLE_A,), "--device-cgroup-rule", id="permission for one node"
    ),
    pytest.param(
        inspect(DeviceCgroupRules=["c 0195:001 rw"]),
        (WHOLE_A,),
        "--device-cgroup-rule",
        id="permission with zeros before",
    ),
    pytest.param(
        inspect(DeviceCgroupRules=["c 195:255 rw", "c 195:1 rw", "c 510:* rw"]),
        (WHOLE_A,),
        "--device-cgroup-rule",
        id="permission for one node and for what every GPU needs",
    ),
    pytest.param(node("//dev/../dev//nvidia1"), (WHOLE_A,), "--device", id="by a crooked path"),
    pytest.param(node("/dev/"), ALL, "--device", id="all of /dev"),
]


@pytest.mark.parametrize(("raw", "refs", "via"), RESOLVED)
def test_each_route_names_its_gpus(raw: dict[str, Any], refs: tuple[GpuRef, ...], via: str) -> None:
    """On a host whose GPUs are known, what a container may use is exact."""
    found = replace(claim(raw, HOST), by_place=())
    assert found == GpuClaim(wants=True, refs=refs, unclear="", via=via, holds=True)


@pytest.mark.parametrize(
    ("raw", "by_place"),
    [
        pytest.param(gpus("2:0"), (C,), id="device=2:0"),
        pytest.param(gpus("0", "2:0", "2:1"), (C,), id="two of them on one GPU"),
        pytest.param(cdi("nvidia.com/gpu=mig2:0"), (C,), id="nvidia.com/gpu=mig2:0"),
        pytest.param(env("2:0"), (C,), id="variable: 2:0"),
        pytest.param(gpus(MIG_1), (), id="a MIG device by its UUID"),
        pytest.param(gpus(f"MIG-{C}/7/0"), (), id="a MIG device by its numbers"),
        pytest.param(gpus("2"), (), id="a whole GPU by its index, whatever it is divided into"),
        pytest.param(gpus(count=-1), (), id="--gpus all"),
        pytest.param(gpus("2:5"), (), id="a place where nothing is"),
    ],
)
def test_whose_mig_devices_are_counted_is_remembered(raw: dict[str, Any], by_place: tuple[str, ...]) -> None:
    """At a place there may be another device after a re-partitioning; a name goes with its device."""
    assert claim(raw, HOST).by_place == by_place


EMPTY = Gpu(C, 2, pci_bus_id="00000001:0B:00.0", mig_enabled=True)  # MIG is on, and all instances are destroyed


@pytest.mark.parametrize(
    ("raw", "refs"),
    [
        pytest.param(gpus(MIG_1), (), id="a MIG device by its UUID"),
        pytest.param(gpus(f"MIG-{C}/7/0"), (C7,), id="a MIG device by its numbers"),
        pytest.param(gpus("2:0"), (), id="a MIG device by its place"),
        pytest.param(env(MIG_2), (), id="the variable"),
        pytest.param(cdi(f"nvidia.com/gpu={MIG_2}"), (), id="a CDI name"),
        pytest.param(mounted(MIG_2), (), id="a mount"),
    ],
)
def test_a_mig_device_whose_gpu_has_no_instance_left_is_unclear(raw: dict[str, Any], refs: tuple[GpuRef, ...]) -> None:
    """Every spelling: who runs on what is not there any more is protected, with the reason."""
    found = claim(raw, (*HOST[:2], EMPTY))
    assert found.wants
    assert found.refs == refs
    assert "not among this host's MIG devices: re-partitioned?" in found.unclear


NOTHING = [
    pytest.param(inspect(), id="nothing asked"),
    pytest.param(inspect("NVIDIA_VISIBLE_DEVICES=all"), id="the variable under runc, as CUDA images bake it in"),
    pytest.param(env("all", runtime="io.containerd.runc.v2"), id="the variable under runc by its long name"),
    pytest.param(env("all", runtime=""), id="the variable under the daemon's default"),
    pytest.param(env("none"), id="variable: none, the driver alone"),
    pytest.param(env("void"), id="variable: void"),
    pytest.param(env("all,void"), id="variable: void anywhere wins"),
    pytest.param(env(""), id="variable: empty"),
    pytest.param(env(" , "), id="variable: blanks"),
    pytest.param(nvidia(), id="the NVIDIA runtime alone"),
    pytest.param(nvidia("CUDA_VERSION=12.4", "NVIDIA_REQUIRE_CUDA=cuda>=12.4"), id="a newer image that says nothing"),
    pytest.param(nvidia("CUDA_VERSION=8.0", "NVIDIA_VISIBLE_DEVICES="), id="an older image that says: nothing"),
    pytest.param(nvidia("NVIDIA_VISIBLE_DEVICES"), id="the variable without a value"),
    pytest.param(env("void", runtime="runsc"), id="nothing, under a runtime nobody knows"),
    pytest.param(gpus(), id="a device request for zero GPUs"),
    pytest.param(gpus("none"), id="device=none"),
    pytest.param(gpus("0", driver="amd"), id="driver amd"),
    pytest.param(gpus("0", capabilities=(["gpu", "amd"],)), id="capability amd"),
    pytest.param(gpus("0", capabilities=(["tpu"],)), id="another capability"),
    pytest.param(cdi("amd.com/gpu=0"), id="amd.com/gpu=0"),
    pytest.param(cdi("gpu.intel.com/gpu=card0"), id="gpu.intel.com/gpu=card0"),
    pytest.param(cdi("nvidia.com/gds=all"), id="storage of NVIDIA's"),
    pytest.param(cdi("vendor.example/nic=0"), id="a network card"),
    pytest.param(mounted("0", runtime="runc"), id="a device mount under runc"),
    pytest.param(mounted("imex/0"), id="an IMEX channel"),
    pytest.param(mounted("void", "0"), id="mounts: void among them"),
    pytest.param(inspect(mounts=[{"Source": "/data", "Destination": "/x"}], Runtime="nvidia"), id="another mount"),
    pytest.param(node("/dev/dri/renderD128", "/dev/fuse"), id="/dev/dri and others"),
    pytest.param(inspect("A=b", Runtime=5), id="a runtime that is a number, and no variable"),
    pytest.param(inspect(DeviceCgroupRules=["c 13:* rwm", "b *:* rwm", "c *:* m"]), id="rules for other devices"),
    pytest.param(inspect(DeviceCgroupRules=[f"c 195:{'9' * 5000} rw"]), id="a number that no device has"),
]


@pytest.mark.parametrize("raw", NOTHING)
@pytest.mark.parametrize("inventory", [pytest.param(HOST, id="known"), pytest.param(None, id="unknown")])
def test_what_asks_for_no_gpu_wants_none(raw: dict[str, Any], inventory: tuple[Gpu, ...] | None) -> None:
    """A container without a GPU is permanent, so nothing here may look like a claim."""
    assert claim(raw, inventory) == GpuClaim()


UNCLEAR = [
    pytest.param(
        gpus(STRANGE), (GpuRef(STRANGE),), f"--gpus names '{STRANGE}', which is not among", id="a GPU of another host"
    ),
    pytest.param(
        gpus("0", STRANGE), (WHOLE_A, GpuRef(STRANGE)), "not among this host's GPUs", id="one of two GPUs is strange"
    ),
    pytest.param(gpus("7"), (), "names '7', which is not among this host's GPUs", id="an index too high"),
    pytest.param(gpus("0", "7"), (WHOLE_A,), "names '7'", id="one of two indices is too high"),
    pytest.param(gpus(count=5), ALL, "counts 5 GPUs, and this host lists 3 of them", id="more GPUs than there are"),
    pytest.param(gpus(count=10**9), ALL, "counts 1000000000 GPUs", id="a billion GPUs"),
    pytest.param(
        gpus(f"MIG-{'0' * 8}"), (), "not among this host's MIG devices: re-partitioned?", id="a MIG device of before"
    ),
    pytest.param(gpus("2:5"), (), "names '2:5', which is not among this host's MIG devices", id="a MIG pair of before"),
    pytest.param(gpus("0:0"), (), "re-partitioned?", id="a MIG pair on a whole GPU"),
    pytest.param(gpus(f"MIG-{C}/3/0"), (GpuRef(C, 3),), "re-partitioned?", id="a MIG instance of before"),
    pytest.param(
        gpus(f"MIG-{STRANGE}/3/0"), (GpuRef(STRANGE, 3),), "re-partitioned?", id="a MIG instance of another host"
    ),
    pytest.param(gpus(f"MIG-{A}/3/0"), (GpuRef(A, 3),), "re-partitioned?", id="a MIG instance of a GPU now whole"),
    pytest.param(gpus("the fast one"), (), "no way to name a GPU", id="a word"),
    pytest.param(gpus(""), (), "names '', which", id="an empty name"),
    pytest.param(gpus("0000:0c:00.0"), (), "not among this host's GPUs", id="a PCI address of nothing"),
    pytest.param(env("0,banana"), (WHOLE_A,), "NVIDIA_VISIBLE_DEVICES names 'banana'", id="one of a list is a word"),
    pytest.param(
        env("all", runtime="runsc"), (), "under the runtime 'runsc', which may or may not", id="a runtime nobody knows"
    ),
    pytest.param(
        cdi("lab.example/gpu=shared"), (), "'lab.example/gpu=shared', which may be a GPU", id="a CDI name of the site"
    ),
    pytest.param(cdi("evilamd.com/gpu=0"), (), "may be a GPU", id="a vendor that ends like another"),
    pytest.param(cdi("nvidia.com/vgpu=0"), (), "may be a GPU", id="another class of NVIDIA's"),
    pytest.param(cdi("gpu0"), (), "not a CDI name", id="a CDI request without a vendor"),
    pytest.param(
        node("/dev/nvidia9"), (), "passes /dev/nvidia9, and this host lists no such GPU", id="a node of no GPU"
    ),
    pytest.param(node("/dev/nvidiactl"), (), "passes '/dev/nvidiactl' but no numbered GPU", id="nvidiactl alone"),
    pytest.param(node("/dev/nvidia-caps/nvidia-cap21"), (), "'/dev/nvidia-caps/nvidia-cap21'", id="nvidia-caps alone"),
    pytest.param(node("/dev/char/195:255"), (), "no numbered GPU", id="nvidiactl by its number"),
    pytest.param(
        inspect(DeviceCgroupRules=["c 195:255 rw"]), (), "and no numbered GPU", id="permission for nvidiactl alone"
    ),
    pytest.param(
        inspect(DeviceCgroupRules=["c 195:9 rw"]),
        (),
        "this host lists no such GPU",
        id="permission for a node of no GPU",
    ),
    pytest.param(inspect(DeviceRequests=["gpu"]), (), "cannot be read", id="a device request that is a word"),
    pytest.param(inspect(DeviceRequests={}), (), "cannot be read", id="device requests that are no list"),
    pytest.param(
        gpus("0", driver="nvidia") | {"Config": None}, (), "no readable HostConfig and Config", id="no Config"
    ),
    pytest.param(
        inspect(DeviceRequests=[{"Driver": "", "Count": "2"}]), (), "cannot be read", id="a count that is text"
    ),
    pytest.param(inspect(DeviceRequests=[{"Driver": 5}]), (), "cannot be read", id="a driver that is a number"),
    pytest.param(inspect(Devices=[None]), (), "--device cannot be read", id="a device that is null"),
    pytest.param(
        inspect(DeviceCgroupRules=[195]), (), "--device-cgroup-rule cannot be read", id="a rule that is a number"
    ),
    pytest.param(
        {"Config": {"Env": "A=b"}, "HostConfig": {"Runtime": "nvidia"}}, (), "environment", id="an Env that is text"
    ),
]


@pytest.mark.parametrize(("raw", "refs", "words"), UNCLEAR)
def test_what_cannot_be_resolved_says_why_and_keeps_the_rest(
    raw: dict[str, Any], refs: tuple[GpuRef, ...], words: str
) -> None:
    """Unclear protects every GPU and makes idleness unknown; nothing that did resolve is lost."""
    found = claim(raw, HOST)
    assert found.wants
    assert found.refs == refs
    assert words in found.unclear


UNLISTED = [
    pytest.param(gpus(A), (WHOLE_A,), "", id="a UUID says itself what it is"),
    pytest.param(gpus(A.upper()), (WHOLE_A,), "", id="a UUID in capitals becomes what metrics carry"),
    pytest.param(cdi(f"nvidia.com/gpu={A}"), (WHOLE_A,), "", id="a UUID by CDI"),
    pytest.param(env(A), (WHOLE_A,), "", id="a UUID by the variable"),
    pytest.param(gpus(f"MIG-{C}/7/0"), (C7,), "", id="MIG-GPU-…/gi/ci says itself what it is"),
    pytest.param(gpus(count=2), (), f"--gpus counts 2 GPUs by index, and {NOT_LISTED}", id="--gpus 2"),
    pytest.param(gpus(count=-1), (), f"--gpus asks for all GPUs, and {NOT_LISTED}", id="--gpus all"),
    pytest.param(gpus("0"), (), f"--gpus names '0', and {NOT_LISTED}", id="an index"),
    pytest.param(gpus("0:1"), (), f"--gpus names '0:1', and {NOT_LISTED}", id="a MIG pair"),
    pytest.param(gpus("0000:09:00.0"), (), f"--gpus names '0000:09:00.0', and {NOT_LISTED}", id="a PCI address"),
    pytest.param(
        gpus(MIG_1), (), f"--gpus names '{MIG_1}', and the host's MIG devices could not be listed", id="a MIG UUID"
    ),
    pytest.param(gpus(A, "1"), (WHOLE_A,), f"--gpus names '1', and {NOT_LISTED}", id="a UUID and an index"),
    pytest.param(node("/dev/nvidia0"), (), f"--device passes /dev/nvidia0, and {NOT_LISTED}", id="a device node"),
    pytest.param(inspect(Privileged=True), (), f"privileged may use every GPU, and {NOT_LISTED}", id="privileged"),
]


@pytest.mark.parametrize(("raw", "refs", "unclear"), UNLISTED)
def test_without_the_hosts_gpus_only_names_that_say_themselves_what_they_are_resolve(
    raw: dict[str, Any], refs: tuple[GpuRef, ...], unclear: str
) -> None:
    """The driver may be asked in vain; then what is counted or looked up is unclear, in words."""
    found = claim(raw, None)
    assert (found.wants, found.refs, found.unclear) == (True, refs, unclear)


def test_privileged_may_use_every_gpu_but_asked_for_none() -> None:
    """It counts for idleness and protection, not as a hold."""
    assert claim(inspect(Privileged=True), HOST) == GpuClaim(wants=True, refs=ALL, via="privileged", holds=False)


@pytest.mark.parametrize("rule", ["c *:* rwm", "c 195:* rwm", "a *:* rw"])
def test_permission_for_every_device_is_like_privileged(rule: str) -> None:
    """`--device-cgroup-rule 'c *:* rwm'` lets a container make any node, or any of NVIDIA's."""
    found = claim(inspect(DeviceCgroupRules=[rule]), HOST)
    assert found == GpuClaim(wants=True, refs=ALL, via="--device-cgroup-rule", holds=False)


def test_privileged_on_a_host_without_gpus_wants_none() -> None:
    """There is nothing to look at."""
    assert claim(inspect(Privileged=True), ()) == GpuClaim()


def test_all_gpus_of_a_host_that_lists_none_is_unclear() -> None:
    """GPUs can fall off the bus while a container still holds them."""
    found = claim(gpus(count=-1), ())
    assert (found.wants, found.refs, found.unclear) == (True, (), "--gpus asks for all GPUs, and this host lists none")


def test_routes_add_up() -> None:
    """A container may come by its GPUs in several ways at once; refs are sorted and stand once."""
    raw = gpus("1")
    raw["HostConfig"]["Devices"] = [{"PathOnHost": "/dev/nvidia1", "PathInContainer": "/dev/nvidia1"}]
    raw["HostConfig"]["DeviceRequests"] += cdi(f"nvidia.com/gpu={MIG_2}")["HostConfig"]["DeviceRequests"]
    assert claim(raw, HOST) == GpuClaim(
        wants=True, refs=(WHOLE_A, WHOLE_B, C7), via="--gpus + --device (CDI) + --device", holds=True
    )
    raw["HostConfig"]["Privileged"] = True
    assert claim(raw, HOST).refs == ALL
    assert claim(raw, HOST).holds


def test_helpers_beside_another_route_are_not_unclear() -> None:
    """`--gpus device=0 --device /dev/nvidiactl` is clear enough."""
    raw = gpus("0")
    raw["HostConfig"]["Devices"] = node("/dev/nvidiactl", "/dev/nvidia-uvm")["HostConfig"]["Devices"]
    assert claim(raw, HOST) == GpuClaim(wants=True, refs=(WHOLE_A,), via="--gpus")


@pytest.mark.parametrize(
    "request_", [pytest.param(gpus("0"), id="--gpus"), pytest.param(cdi("nvidia.com/gpu=0"), id="CDI")]
)
def test_a_device_request_overrides_the_variable_of_the_image(request_: dict[str, Any]) -> None:
    """With nvidia as default runtime and a CUDA image, `--gpus device=0` is one GPU: Docker sets the variable last."""
    request_["HostConfig"]["Runtime"] = "nvidia"
    request_["Config"]["Env"] = ["NVIDIA_VISIBLE_DEVICES=all"]
    assert claim(request_, HOST).refs == (WHOLE_A,)


def test_a_request_for_something_else_does_not_override_the_variable() -> None:
    """A network card by CDI leaves the image's `all` as it is."""
    raw = cdi("vendor.example/nic=0")
    raw["HostConfig"]["Runtime"] = "nvidia"
    raw["Config"]["Env"] = ["NVIDIA_VISIBLE_DEVICES=all"]
    assert claim(raw, HOST).refs == ALL


def test_an_empty_runtime_means_the_daemons() -> None:
    """Where the daemon's default is nvidia, an image's variable counts."""
    assert claim(env("1", runtime=""), HOST, default_runtime="nvidia").refs == (WHOLE_B,)


def test_a_whole_gpu_and_a_stale_instance_of_it_can_stand_side_by_side() -> None:
    """Sorting must bear both."""
    assert claim(gpus("0", f"MIG-{A}/3/0"), HOST).refs == (WHOLE_A, GpuRef(A, 3))


def test_many_reasons_are_counted_and_user_text_is_quoted_and_cut() -> None:
    """The reason goes to terminals and tables."""
    found = claim(gpus(*[f"\x1b[{n}m{'x' * 5000}" for n in range(9)]), HOST)
    assert "\x1b" not in found.unclear
    assert found.unclear.endswith("; and 6 more")
    assert len(found.unclear) < 700


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["all", "0", "2:1", A, MIG_1, "nvidia", "cdi", "nvidia.com/gpu=", "/dev/nvidia0", "c 195:* rwm"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "Driver",
                    "Count",
                    "DeviceIDs",
                    "Capabilities",
                    "PathOnHost",
                    "PathInContainer",
                    "Source",
                    "Destination",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
HOST_KEYS = ["DeviceRequests", "Runtime", "Devices", "DeviceCgroupRules", "Privileged"]


@settings(deadline=None)
@given(
    host=st.dictionaries(st.sampled_from(HOST_KEYS), ANYTHING, max_size=5) | ANYTHING,
    config=st.dictionaries(st.just("Env"), ANYTHING) | ANYTHING,
    mounts=ANYTHING,
    inventory=st.sampled_from([None, (), HOST]),
)
def test_whatever_an_inspect_holds_there_is_a_claim(
    host: object, config: object, mounts: object, inventory: tuple[Gpu, ...] | None
) -> None:
    """It never raises; what is wanted either resolves or says why not, and what is not wanted has no refs."""
    found = claim({"HostConfig": host, "Config": config, "Mounts": mounts}, inventory)
    assert found.wants == bool(found.refs or found.unclear)
    assert found.wants == bool(found.via)
    assert len(set(found.refs)) == len(found.refs)
    if not isinstance(host, dict) or not isinstance(config, dict):
        assert found.unclear


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["0", "1", "2", "7", "2:0", "2:1", A, MIG_2, STRANGE, f"MIG-{C}/9/1", "x"]), max_size=5)
)
def test_knowing_less_of_the_host_never_makes_a_claim_clearer_or_smaller(ids: list[str]) -> None:
    """Losing the driver may hide which GPUs are meant, never that GPUs are meant."""
    known, unknown = claim(gpus(*ids), HOST), claim(gpus(*ids), None)
    assert unknown.wants == known.wants
    if not unknown.unclear:
        assert {ref.uuid for ref in known.refs} == {ref.uuid for ref in unknown.refs}
