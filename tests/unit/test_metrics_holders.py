"""Who holds which GPU: the rows that join the exporters' metrics with people."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from epilog_fakes import NOON, STARTED, A, B, C
from exposition_reader import read
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.metrics import text
from ds01_policy.metrics.holders import MOST, holders
from ds01_policy.model import Container, GpuClaim, GpuRef, State

INFO = "ds01_policy_container_gpu_info"
LEFT_OUT = f"{INFO}_left_out"
GPU = GpuRef("GPU-1")


def container(mark: str = A, *refs: GpuRef, **changes: Any) -> Container:
    claim: dict[str, Any] = {"wants": True, "refs": refs, "via": "--gpus"}
    claim |= {name: changes.pop(name) for name in ("unclear", "holds", "wants") if name in changes}
    gpus = GpuClaim(**claim)
    made = Container(
        mark, "train", "img", State.RUNNING, STARTED, STARTED, gpus=gpus, owner="alice", group="student", type="docker"
    )
    return replace(made, **changes)


def rows(*containers: Container) -> list[dict[str, str]]:
    """Read what a scraper sees; every row is 1."""
    found = read(text(holders(containers)))[INFO]
    assert set(found.values()) <= {1.0}
    return [dict(labels) for labels in found]


def held(*containers: Container) -> list[str]:
    """Shorten the rows to `owner GPU instance`."""
    return [f"{row['owner']} {row.get('gpu_uuid', '-')} {row.get('gpu_instance', '-')}" for row in rows(*containers)]


def test_a_row_says_who_and_what() -> None:
    """All that a join may need; the instance of a whole GPU is empty, which to Prometheus is no label."""
    assert rows(container(A, GPU)) == [
        {"id": A, "name": "train", "owner": "alice", "group": "student", "type": "docker", "gpu_uuid": "GPU-1"}
    ]
    assert rows(container(A, GpuRef("GPU-1", 0)))[0]["gpu_instance"] == "0"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(container(A, GPU), ["alice GPU-1 -"], id="a whole GPU"),
        pytest.param(container(A, GpuRef("GPU-1", 7)), ["alice GPU-1 7"], id="an instance, of its physical GPU"),
        pytest.param(container(A, GPU, GpuRef("GPU-2")), ["alice GPU-1 -", "alice GPU-2 -"], id="each of two GPUs"),
        pytest.param(container(A, GPU, owner="unknown"), ["unknown GPU-1 -"], id="nobody's, in JSON's own word"),
        pytest.param(container(A, unclear="?"), ["alice - -"], id="nobody knows which: one row without a GPU"),
        pytest.param(container(A, GPU, unclear="?"), ["alice GPU-1 -", "alice - -"], id="and nobody knows which else"),
        pytest.param(container(A, GPU, holds=False), ["alice - -"], id="a privileged one holds none"),
        pytest.param(container(A, GPU, infrastructure=True), ["alice - -"], id="infrastructure holds none"),
        pytest.param(container(A), ["alice - -"], id="a host without GPUs"),
        pytest.param(container(A, wants=False), [], id="none without a GPU"),
        pytest.param(container(A, GPU, state=State.PAUSED), ["alice GPU-1 -"], id="a paused one is up"),
        pytest.param(container(A, GPU, state=State.RESTARTING), ["alice GPU-1 -"], id="a restarting one is up"),
        pytest.param(container(A, GPU, state=State.CREATED, started_at=None), [], id="one that never started is not"),
        pytest.param(container(A, GPU, state=State.EXITED), [], id="one that has ended is not"),
        pytest.param(container(A, GPU, state=State.DEAD), [], id="a dead one is not"),
        pytest.param(container(A, GPU, state=State.REMOVING), [], id="one on its way out is not"),
    ],
)
def test_every_gpu_container_that_is_up_is_told_of(made: Container, expected: list[str]) -> None:
    """With what it holds, as demand counts it."""
    assert held(made) == expected


def test_whoever_shares_a_gpu_has_a_row() -> None:
    """Two people on one GPU are two rows."""
    assert held(container(A, GPU), container(B, GPU, owner="bob")) == ["alice GPU-1 -", "bob GPU-1 -"]


def test_the_rows_are_bounded_and_the_oldest_stay() -> None:
    """Somebody starts hundreds of containers: who was up before them is still told of, and how many are not."""
    refs = [GpuRef("GPU-1", instance) for instance in range(7)]
    crowd = [
        container(f"{number:064x}", *refs, owner="bob", started_at=NOON + timedelta(seconds=number))
        for number in range(200)
    ]
    told = holders([*crowd, container(C, GPU)])
    found = read(text(told))
    assert len(found[INFO]) == MOST
    assert found[LEFT_OUT] == {(): 7 * 200 + 1 - MOST}
    assert sum(dict(row)["id"] == C for row in found[INFO]) == 1
    assert holders([container(C, GPU), *reversed(crowd)]) == told
    assert read(text(holders([])))[LEFT_OUT] == {(): 0.0}


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text(), st.text()), max_size=5))
def test_hostile_names_break_nothing(told: list[tuple[str, str, str, str]]) -> None:
    """Any names, owners, groups and UUIDs: as many rows as there are containers, and none can pass for another's."""
    crowd = [
        container(f"{number:064x}", GpuRef(uuid), name=name, owner=owner, group=group)
        for number, (name, owner, group, uuid) in enumerate(told)
    ]
    assert [row["id"] for row in rows(*crowd)] == [one.id for one in crowd]
