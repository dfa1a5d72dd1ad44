"""GPU processes of no container: seen, with whose they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from epilog_world import DOCKER, GIB, MIB, OTHER, A, B, gpu

from ds01_policy.host_processes import host_processes, looked_up, short_name
from ds01_policy.model import GpuProcess, GpuStatuses, HostProcess, HostTask

SINCE = datetime(2026, 3, 2, tzinfo=UTC)
JUPYTER = "0::/user.slice/user-1007.slice/session-3.scope\n"


def task(pid: int, cgroup: str | None, user: str | None = "alice") -> HostTask:
    return HostTask(pid, 1007, user, "jupyter-lab", 500, SINCE, cgroup)


def listed(*processes: GpuProcess) -> GpuStatuses:
    return GpuStatuses({A: gpu(A, *processes)})


def test_a_bare_metal_process_is_seen() -> None:
    """Whose, what, how much and since when."""
    statuses = listed(GpuProcess(7, "C", "", 14 * GIB))
    assert host_processes(statuses, {7: task(7, JUPYTER)}, {OTHER}) == (
        HostProcess(A, 7, "jupyter-lab", "alice", "session-3.scope", 14 * GIB, None, SINCE, 1007),
    )


@pytest.mark.parametrize(
    ("cgroup", "place"),
    [
        pytest.param(DOCKER[OTHER], None, id="a container's process is its owner's"),
        pytest.param(f"0::/docker/{'c3' * 32}\n", "container c3c3c3c3c3c3 of docker", id="another engine's"),
        pytest.param("0::/\n", "", id="no unit"),
        pytest.param(
            f"0::{'/user.slice/user-1007.slice'}/docker/{OTHER}\n", OTHER, id="a session that imitates a container"
        ),
        pytest.param(
            f"0::/docker/{OTHER}\n1:cpu:/docker/{'c3' * 32}\n",
            "whose is not known: its cgroups name more than one container",
            id="two containers at once",
        ),
        pytest.param("nonsense\n", "whose is not known: it has a line that is not understood", id="no cgroup line"),
        pytest.param(None, "whose is not known: it cannot be read", id="a cgroup that cannot be read"),
    ],
)
def test_which_processes_belong_to_no_container(cgroup: str | None, place: str | None) -> None:
    """What Docker does not know is not a container's."""
    found = host_processes(listed(GpuProcess(7, "C", "", None)), {7: task(7, cgroup)}, {OTHER})
    assert [one.place for one in found] == ([] if place is None else [place])


def test_one_that_cannot_be_looked_at_is_told_by_what_the_driver_says() -> None:
    """It holds the GPU all the same."""
    (found,) = host_processes(listed(GpuProcess(7, "C", "/opt/x/train", MIB)), {}, ())
    assert (found.command, found.user, found.started_at) == ("train", "", None)


def test_a_user_that_nobody_is_called_has_a_number() -> None:
    """Nobody is left out for want of a name."""
    (found,) = host_processes(listed(GpuProcess(7, "C", "", None)), {7: task(7, JUPYTER, None)}, ())
    assert found.user == "uid 1007"


def test_the_largest_comes_first_and_each_gpu_by_itself() -> None:
    """A process on two GPUs holds memory on both."""
    small, large = GpuProcess(7, "C", "", MIB), GpuProcess(8, "C", "", GIB)
    statuses = GpuStatuses({A: gpu(A, small, large), B: gpu(B, large), "x": gpu("x", processes=None)})
    found = host_processes(statuses, {}, ())
    assert [(one.gpu, one.pid) for one in found] == [(A, 8), (B, 8), (A, 7)]


def test_each_process_is_looked_up_once() -> None:
    """And one that is gone is left out."""
    asked: list[int] = []

    def look(pid: int) -> HostTask | None:
        asked.append(pid)
        return task(pid, JUPYTER) if pid == 7 else None

    both = GpuProcess(7, "C", "", None)
    statuses = GpuStatuses({A: gpu(A, both, GpuProcess(8, "C", "", None)), B: gpu(B, both)})
    assert list(looked_up(statuses, look)) == [7]
    assert asked == [7, 8]


@pytest.mark.parametrize(
    ("cgroup", "started", "seen"),
    [
        pytest.param(f"0::/docker/{'c3' * 32}\n", 60, True, id="a container that Docker did not list"),
        pytest.param(f"0::/docker/{'c3' * 32}\n", -1, False, id="one that may have been started since it was asked"),
        pytest.param(f"0::/docker/{'c3' * 32}\n", 1, False, id="one started in the same second"),
        pytest.param(JUPYTER, -1, True, id="a process of no container is told of however new"),
        pytest.param(None, -1, True, id="and so is one whose cgroup cannot be read"),
    ],
)
def test_a_container_that_docker_could_not_have_listed_yet(cgroup: str | None, started: int, seen: bool) -> None:  # noqa: FBT001  a table's column
    """It was started after Docker was asked: whose it is, the next look tells."""
    at = SINCE + timedelta(seconds=started)
    found = host_processes(listed(GpuProcess(7, "C", "", None)), {7: task(7, cgroup)}, {OTHER}, at)
    assert bool(found) is seen


@pytest.mark.parametrize(
    ("name", "short"),
    [
        pytest.param("/usr/bin/python3.11", "python3.11", id="a path"),
        pytest.param("python", "python", id="a name"),
        pytest.param("python train.py --token hunter2/x", "python", id="arguments may be secret"),
        pytest.param("", "", id="no name"),
        pytest.param("/", "", id="nothing but a slash"),
        pytest.param(" \t\n", "", id="nothing but space"),
    ],
)
def test_of_a_drivers_name_only_the_program_is_kept(name: str, short: str) -> None:
    """Users write it."""
    assert short_name(name) == short
