"""Counters from the host's files, however cgroups are laid out; and from the engine where they cannot be read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ds01_policy.observe.local import HostCounters, bytes_of, cgroups_of, mounts_of, usage_of
from ds01_policy.observe.ports import Json, SourceError

BOX = "a1" * 32
OTHER = "b2" * 32
PID = 4711
HEAD = "Inter-|   Receive   |  Transmit\n face |bytes packets …|bytes packets …\n"


def line(name: str, received: int, sent: int) -> str:
    return f"{name:>6}: {received:7} 12    0    0    0     0          0         0 {sent:8}  15 0 0 0 0 0 0\n"


DEV = HEAD + line("lo", 440802272, 440802272) + line("eth0", 1000, 234)
V1 = "32 31 0:29 / {at} rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "33 31 0:30 / {at} rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
STATS: Json = {
    "read": "2026-03-02T03:31:00.123456789Z",
    "cpu_stats": {"cpu_usage": {"total_usage": 7_500_000_000}},
    "networks": {"eth0": {"rx_bytes": 40, "tx_bytes": 2}},
}


class Tree:
    """A host's /proc and /sys/fs/cgroup as files."""

    def __init__(self, base: Path) -> None:
        self.proc, self.v1, self.v2 = base / "proc", base / "v1", base / "v2"
        (self.proc / "self").mkdir(parents=True)
        self.mounts("")

    def mounts(self, text: str) -> None:
        (self.proc / "self" / "mountinfo").write_text("22 1 0:5 / / rw - ext4 /dev/sda1 rw\n" + text)

    def process(self, pid: int, cgroup: str, dev: str | None = DEV) -> None:
        folder = self.proc / str(pid)
        (folder / "net").mkdir(parents=True, exist_ok=True)
        (folder / "cgroup").write_text(cgroup)
        if dev is not None:
            (folder / "net" / "dev").write_text(dev)

    def cpu_v1(self, path: str, nanoseconds: int) -> None:
        (self.v1 / path).mkdir(parents=True, exist_ok=True)
        (self.v1 / path / "cpuacct.usage").write_text(f"{nanoseconds}\n")

    def cpu_v2(self, path: str, microseconds: int) -> None:
        (self.v2 / path).mkdir(parents=True, exist_ok=True)
        (self.v2 / path / "cpu.stat").write_text(
            f"usage_usec {microseconds}\nuser_usec 1\nsystem_usec 2\nnr_periods 0\n"
        )

    def source(self, stats: Callable[[str], Json | None] | None = None) -> HostCounters:
        return HostCounters(stats, self.proc, lambda: 1000.5)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("cgroup", "path"),
    [
        pytest.param(f"2:cpu,cpuacct:/docker/{BOX}\n1:name=systemd:/docker/{BOX}\n", f"docker/{BOX}", id="cgroupfs"),
        pytest.param(
            f"4:memory:/x\n2:cpuacct:/system.slice/docker-{BOX}.scope\n0::/init.scope\n",
            f"system.slice/docker-{BOX}.scope",
            id="systemd, hybrid",
        ),
        pytest.param(f"2:cpuacct:/lab/{BOX}\n", f"lab/{BOX}", id="a cgroup parent of one's own"),
        pytest.param(f"2:cpuacct:/docker/{OTHER}/docker/{BOX}\n", f"docker/{OTHER}/docker/{BOX}", id="inside another"),
        pytest.param(
            f"2:cpuacct:/docker/{BOX}/system.slice/x.service\n", f"docker/{BOX}", id="what lies below is counted in it"
        ),
    ],
)
def test_cgroup_v1_is_read_wherever_the_driver_put_it(tree: Tree, cgroup: str, path: str) -> None:
    """Nanoseconds of cpuacct.usage, and the bytes of the process's network."""
    tree.mounts(V1.format(at=tree.v1))
    tree.process(PID, cgroup)
    tree.cpu_v1(path, 12_345_678_901)
    found = tree.source().counters({BOX: PID})
    assert found.at == 1000.5
    assert found.cpu_s == pytest.approx({BOX: 12.345678901})
    assert found.network_bytes == {BOX: 1234.0}
    assert found.notes == ()


@pytest.mark.parametrize("path", [f"docker/{BOX}", f"system.slice/docker-{BOX}.scope", f"u.slice/docker-{BOX}.scope"])
def test_cgroup_v2_is_read_wherever_the_driver_put_it(tree: Tree, path: str) -> None:
    """Microseconds of cpu.stat."""
    tree.mounts(V2.format(at=tree.v2))
    tree.process(PID, f"0::/{path}\n")
    tree.cpu_v2(path, 12_345_678)
    assert tree.source().counters({BOX: PID}).cpu_s == pytest.approx({BOX: 12.345678})


def test_version_1_counts_where_both_are_mounted(tree: Tree) -> None:
    """On a hybrid host the unified hierarchy has no CPU time."""
    tree.mounts(V2.format(at=tree.v2) + V1.format(at=tree.v1))
    tree.process(PID, f"2:cpuacct:/docker/{BOX}\n0::/docker/{BOX}\n")
    tree.cpu_v1(f"docker/{BOX}", 2_000_000_000)
    assert tree.source().counters({BOX: PID}).cpu_s == {BOX: 2.0}


def test_a_part_of_the_hierarchy_that_is_mounted_is_read_as_such(tree: Tree) -> None:
    """Inside a container without a cgroup namespace the mount's root is not the hierarchy's."""
    tree.mounts(f"33 31 0:30 /docker/{OTHER} {tree.v2} rw - cgroup2 cgroup2 rw\n")
    tree.process(PID, f"0::/docker/{OTHER}/docker/{BOX}\n")
    tree.cpu_v2(f"docker/{BOX}", 1_000_000)
    assert tree.source().counters({BOX: PID}).cpu_s == {BOX: 1.0}
    tree.process(PID, f"0::/docker/{BOX}\n")
    assert tree.source().counters({BOX: PID}).cpu_s == {}


@pytest.mark.parametrize(
    "cgroup",
    [
        pytest.param(f"0::/docker/{OTHER}\n", id="its number was given to a process of another container"),
        pytest.param("0::/user.slice/session-3.scope\n", id="or to one of no container"),
        pytest.param(f"0::/../../docker/{BOX}\n", id="it lies above what this program sees"),
        pytest.param("garbage\n", id="what is not understood"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_process_that_is_not_the_containers_counts_nothing(tree: Tree, cgroup: str) -> None:
    """Neither CPU time nor network: somebody else's quiet must not become this container's."""
    tree.mounts(V2.format(at=tree.v2))
    tree.process(PID, cgroup)
    tree.cpu_v2(f"docker/{OTHER}", 5)
    tree.cpu_v2(f"docker/{BOX}", 5)
    found = tree.source().counters({BOX: PID})
    assert (found.cpu_s, found.network_bytes) == ({}, {})


@pytest.mark.parametrize("broken", ["cgroup", "net/dev", "cpu.stat", "process"])
def test_a_file_that_is_gone_costs_its_container_only(tree: Tree, broken: str) -> None:
    """Containers end while they are counted; the others are counted all the same."""
    tree.mounts(V2.format(at=tree.v2))
    for container, pid in ((BOX, PID), (OTHER, PID + 1)):
        tree.process(pid, f"0::/docker/{container}\n")
        tree.cpu_v2(f"docker/{container}", 3_000_000)
    folder = tree.v2 / "docker" / BOX if broken == "cpu.stat" else tree.proc / str(PID)
    if broken == "process":
        folder.rename(tree.proc / "gone")
    else:
        (folder / broken).unlink()
    found = tree.source().counters({BOX: PID, OTHER: PID + 1})
    assert found.cpu_s == {OTHER: 3.0}
    assert found.network_bytes == {OTHER: 1234.0}


@pytest.mark.parametrize(
    ("interfaces", "total"),
    [
        pytest.param([("lo", 9, 9)], None, id="loopback alone is no network"),
        pytest.param([], None, id="no interface is no network"),
        pytest.param([("lo", 9, 9), ("eth0", 0, 0)], 0, id="a quiet one is a zero"),
        pytest.param([("eth0", 1, 2), ("eth1", 10, 20)], 33, id="all of its own are added"),
        pytest.param(
            [("eth0", 1, 2), ("veth12", 9, 9), ("docker0", 9, 9), ("nerdctl0", 9, 9)], 3, id="of containers inside"
        ),
        pytest.param([("br-12", 1, 1), ("mlx5_0", 2, 2)], 6, id="as cAdvisor counts"),
        pytest.param([("eth0", 2**63, 2**63)], 2.0**64, id="very much"),
    ],
)
def test_bytes_are_of_its_own_interfaces(interfaces: list[tuple[str, int, int]], total: float | None) -> None:
    """The same ones that cAdvisor counts, received and sent."""
    assert bytes_of(HEAD + "".join(line(*each) for each in interfaces)) == total


def test_mount_points_are_told_apart() -> None:
    """Spaces in paths are written as octal numbers; other controllers count no CPU time."""
    text = (
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "33 31 0:30 / /my\\040cgroups/cpu rw - cgroup cgroup rw,cpuacct\n"
        "34 31 0:31 / /second rw - cgroup cgroup rw,cpuacct\n"
        "short line\n"
    )
    found = mounts_of(text)
    assert found.keys() == {"cpuacct"}
    assert found["cpuacct"].point == Path("/my cgroups/cpu")


def test_an_id_must_be_the_whole_id() -> None:
    """A cgroup of another container whose name merely resembles it is not taken."""
    assert cgroups_of(f"0::/docker/{BOX[:12]}\n", BOX) == {}


# ── the engine ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_engine_is_asked_where_files_cannot_be_read(tree: Tree) -> None:
    """And only about those containers."""
    tree.mounts(V2.format(at=tree.v2))
    tree.process(PID, f"0::/docker/{BOX}\n")
    tree.cpu_v2(f"docker/{BOX}", 1_000_000)
    asked: list[str] = []

    def stats(container: str) -> Json | None:
        asked.append(container)
        return STATS

    found = tree.source(stats).counters({BOX: PID, OTHER: 0})
    assert asked == [OTHER]
    assert found.cpu_s == {BOX: 1.0, OTHER: 7.5}
    assert found.network_bytes == {BOX: 1234.0, OTHER: 42.0}


@pytest.mark.parametrize(
    "stats",
    [
        pytest.param({**STATS, "read": "0001-01-01T00:00:00Z"}, id="it does not run: all zeros"),
        pytest.param({"read": STATS["read"]}, id="another shape"),
        pytest.param({**STATS, "cpu_stats": None}, id="null"),
        pytest.param({**STATS, "read": 7}, id="a time that is none"),
        pytest.param(None, id="it is gone"),
    ],
)
def test_an_answer_without_counters_counts_nothing(tree: Tree, stats: Json | None) -> None:
    """Zeros of a stopped container are not quiet."""
    found = tree.source(lambda _: stats).counters({BOX: 0})
    assert (found.cpu_s, found.network_bytes) == ({}, {})


def test_no_network_in_the_engines_answer_is_no_network() -> None:
    """`--network none` and host have none in it."""
    assert usage_of({**STATS, "networks": None}).network_bytes is None
    assert usage_of({**STATS, "networks": {}}).network_bytes is None


def test_an_engine_that_refuses_is_not_asked_for_ever(tree: Tree) -> None:
    """Each call may cost a whole timeout: after a batch that was refused the others are left out, and it is said."""
    asked: list[str] = []

    def stats(container: str) -> Json | None:
        asked.append(container)
        raise SourceError("no whole answer within 10 s")

    found = tree.source(stats).counters({f"{number:064x}": 0 for number in range(100)})
    assert len(asked) == 32
    assert found.cpu_s == {}
    assert found.notes == (
        "000000000000, and 31 more could not be counted: no whole answer within 10 s",
        "68 more were not counted",
    )


def test_the_engine_is_asked_about_many_at_once(tree: Tree) -> None:
    """It answers when it collects next, a second later or so: one after the other a tick would take a minute."""
    together = threading.Barrier(20, timeout=10)

    def stats(_: str) -> Json | None:
        together.wait()
        return STATS

    found = tree.source(stats).counters({f"{number:064x}": 0 for number in range(20)})
    assert len(found.cpu_s) == 20
