"""Whose a process is: /proc/PID/cgroup of every shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.ownership import Belongs, Owner, owner_of

GONE, OTHER, STRANGE = "a1" * 32, "b2" * 32, "c3" * 32
KNOWN = {GONE, OTHER}
SCOPE = f"/system.slice/docker-{GONE}.scope"


def v1(*paths: str) -> str:
    """One line for each hierarchy, the way v1 counts them down; the last one is the unified hierarchy's."""
    names = ["memory", "cpu,cpuacct", "devices", "pids", "name=systemd"]
    lines = [f"{len(paths) - at}:{names[at]}:{path}" for at, path in enumerate(paths[:-1])]
    return "\n".join([*lines, f"0::{paths[-1]}"]) + "\n"


def foreign(container_id: str, runtime: str) -> Owner:
    return Owner(Belongs.FOREIGN, container_id, runtime)


def host(place: str = "", uid: int | None = None) -> Owner:
    return Owner(Belongs.HOST, place=place, uid=uid)


def container(container_id: str) -> Owner:
    return Owner(Belongs.CONTAINER, container_id)


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        # Docker, its own containers
        pytest.param(f"0::/system.slice/docker-{GONE}.scope\n", container(GONE), id="v2, systemd driver"),
        pytest.param(f"0::/docker/{GONE}\n", container(GONE), id="v2, cgroupfs driver"),
        pytest.param(f"0::/lab.slice/lab-gpu.slice/docker-{GONE}.scope\n", container(GONE), id="v2, cgroup-parent"),
        pytest.param(f"0::/docker/{GONE}/init.scope\n", container(GONE), id="v2, a cgroup inside the container"),
        pytest.param(f"0::/docker/{GONE} (deleted)\n", container(GONE), id="v2, the cgroup is deleted already"),
        pytest.param(
            v1(f"/docker/{GONE}", f"/docker/{GONE}", f"/docker/{GONE}", "/", f"/docker/{GONE}", "/"),
            container(GONE),
            id="v1, cgroupfs driver; one hierarchy that Docker does not use",
        ),
        pytest.param(
            v1(SCOPE, SCOPE, "/system.slice/docker.service"),
            container(GONE),
            id="v1, systemd driver; the unified hierarchy names Docker's service",
        ),
        pytest.param(v1(f"/docker/{OTHER}", f"/docker/{OTHER}", "/"), container(OTHER), id="the neighbour's"),
        # containers in containers
        pytest.param(
            f"0::/docker/{OTHER}/docker/{GONE}\n", container(OTHER), id="made inside another: the outermost one known"
        ),
        pytest.param(f"0::/docker/{STRANGE}/docker/{GONE}\n", container(GONE), id="the engine runs in a container"),
        pytest.param(f"0::{SCOPE}/docker/{STRANGE}\n", container(GONE), id="what ran inside the gone one"),
        pytest.param(
            f"0::/docker/{OTHER}/docker-{GONE}.scope\n", container(OTHER), id="a cgroup called like it, in another one"
        ),
        pytest.param(
            v1(f"/docker/{OTHER}/docker/{GONE}", "/", "/"), container(OTHER), id="v1, called like it in one hierarchy"
        ),
        # other engines and runtimes
        pytest.param(f"0::/docker/{STRANGE}\n", foreign(STRANGE, "docker"), id="another Docker's"),
        pytest.param(f"0::/machine.slice/libpod-{STRANGE}.scope/container\n", foreign(STRANGE, "libpod"), id="podman"),
        pytest.param(f"0::/machine.slice/libpod-{GONE}.scope\n", foreign(GONE, "libpod"), id="podman never ours"),
        pytest.param(
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1234.slice/cri-containerd-{STRANGE}.scope\n",
            foreign(STRANGE, "cri-containerd"),
            id="Kubernetes, systemd driver",
        ),
        pytest.param(
            v1(f"/kubepods/besteffort/pod1f2e/{STRANGE}", f"/kubepods/besteffort/pod1f2e/{STRANGE}", "/"),
            foreign(STRANGE, "kubepods"),
            id="Kubernetes, cgroupfs driver",
        ),
        pytest.param(f"0::/kubepods.slice/crio-{STRANGE}.scope\n", foreign(STRANGE, "crio"), id="CRI-O"),
        # no container at all
        pytest.param(
            "0::/user.slice/user-1007.slice/session-3.scope\n",
            host("session-3.scope", uid=1007),
            id="a user's session",
        ),
        pytest.param(
            "0::/user.slice/user-1007.slice/user@1007.service/app.slice/jupyter.service\n",
            host("jupyter.service", uid=1007),
            id="a user's own service",
        ),
        pytest.param(
            f"0::/user.slice/user-1007.slice/user@1007.service/app.slice/docker-{GONE}.scope\n",
            host(f"docker-{GONE}.scope", uid=1007),
            id="a user calls a scope of his own like the container",
        ),
        pytest.param(
            f"0::/user.slice/docker-{GONE}.scope\n",
            host(f"docker-{GONE}.scope"),
            id="anything below user.slice",
        ),
        pytest.param(
            v1("/user.slice", "/user.slice", "/user.slice/user-1000.slice/session-9.scope", "/user.slice"),
            host("session-9.scope", uid=1000),
            id="v1, a user's session",
        ),
        pytest.param("0::/system.slice/nvidia-mps.service\n", host("nvidia-mps.service"), id="a service"),
        pytest.param("0::/system.slice/slurmstepd.scope/job_12/step_0\n", host("slurmstepd.scope"), id="Slurm"),
        pytest.param(
            f"0::/system.slice/job.service/x\x0b0::\u2028docker-{GONE}.scope\n",
            host("job.service"),
            id="a name that imitates another line",
        ),
        pytest.param("0::/init.scope\n", host("init.scope"), id="init itself"),
        pytest.param("0::/\n", host(), id="the root: no unit"),
        pytest.param(v1("/", "/", "/"), host(), id="v1, the root everywhere"),
        pytest.param(v1("/slurm/uid_1000/job_12", "/", "/"), host("slurm/uid_1000/job_12"), id="v1, Slurm"),
        pytest.param(f"0::/docker/{GONE[:63]}\n", host(f"docker/{GONE[:63]}"), id="63 digits are no id"),
        pytest.param(f"0::/docker/x{GONE}\n", host(f"docker/x{GONE}"), id="an id within a longer word"),
        pytest.param(f"0::/docker/{GONE}0\n", host(f"docker/{GONE}0"), id="65 digits are no id"),
    ],
)
def test_the_cgroup_says_whose_a_process_is(text: str, owner: Owner) -> None:
    """Every shape that kernels, engines and service managers write."""
    assert owner_of(text, KNOWN) == owner


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(None, "cannot be read", id="nobody could read it"),
        pytest.param("", "cannot be read", id="empty"),
        pytest.param(" \n", "cannot be read", id="blank"),
        pytest.param("0::/../" + GONE + "\n", "outside the cgroup namespace", id="beside the reader's own namespace"),
        pytest.param(f"0::/../../docker/{GONE}\n", "outside the cgroup namespace", id="further out"),
        pytest.param(v1(f"/docker/{GONE}", "/../x", "/"), "outside the cgroup namespace", id="one hierarchy of them"),
        pytest.param(v1(f"/docker/{GONE}", f"/docker/{OTHER}", "/"), "more than one container", id="two containers"),
        pytest.param(
            v1(f"/docker/{GONE}", f"/docker/{STRANGE}", "/"), "more than one container", id="and an unknown container"
        ),
        pytest.param(
            v1(f"/docker/{GONE}", "/user.slice/user-1000.slice/session-1.scope", "/"),
            "a container and a user's session",
            id="a container and a session",
        ),
        pytest.param(f"0::/system.slice/job.service/x\x0b0::/docker/{GONE}/..\n", "outside", id="a name with dots"),
        pytest.param(f"docker/{GONE}\n", "not understood", id="a line of another shape"),
        pytest.param(f"0::docker/{GONE}\n", "not understood", id="a path that begins nowhere"),
    ],
)
def test_what_is_not_plain_is_nobodys(text: str | None, why: str) -> None:
    """Unreadable, hidden or contradictory cgroups prove nothing."""
    owner = owner_of(text, KNOWN)
    assert (owner.belongs, owner.container) == (Belongs.UNKNOWN, "")
    assert why in owner.why


@given(st.text(max_size=300))
def test_no_text_without_the_id_is_the_containers(text: str) -> None:
    """Whatever stands there, a container whose id does not stand there owns nothing."""
    assert owner_of(text, {GONE}).belongs is not Belongs.CONTAINER


@given(
    prefix=st.sampled_from(["/user.slice", "/user.slice/user-1000.slice/user@1000.service/app.slice"]), rest=st.text()
)
def test_nothing_in_a_users_session_is_a_containers(prefix: str, rest: str) -> None:
    """Users may name the cgroups in their own slice as they like."""
    line = f"0::/user.slice{prefix}/docker-{GONE}.scope/{rest}".split("\n")[0]
    assert owner_of(line, {GONE}).belongs in (Belongs.HOST, Belongs.UNKNOWN)
