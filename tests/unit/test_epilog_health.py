"""How a GPU is, as a table: from what the driver told of it, and what a reset would cure."""

from __future__ import annotations

from typing import Any

import pytest
from epilog_world import GIB, MIB, ago, gpu
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.act.epilog.health import XIDS, in_doubt, judge
from ds01_policy.act.epilog.held import Health
from ds01_policy.model import GpuStatus, Xid

OK, WARN, CRITICAL, UNKNOWN = Health.OK, Health.WARN, Health.CRITICAL, Health.UNKNOWN
HELD, LATCHED, CLEAN = gpu(memory_used_bytes=3 * GIB), gpu(utilization_ratio=1.0), gpu()


@pytest.mark.parametrize(
    ("looks", "health", "words", "cure"),
    [
        pytest.param([CLEAN], OK, "nobody on it", False, id="clean"),
        pytest.param([gpu(memory_used_bytes=900 * MIB)], OK, "nobody on it", False, id="the driver's own memory"),
        pytest.param([HELD, HELD], CRITICAL, "3 GiB held with no process", True, id="memory stays"),
        pytest.param([HELD, CLEAN], OK, "nobody on it", False, id="memory went"),
        pytest.param([CLEAN, HELD], UNKNOWN, "3 GiB held with no process, seen once", False, id="memory came back"),
        pytest.param([HELD], UNKNOWN, "seen once only", False, id="one look at held memory proves nothing"),
        pytest.param([HELD, CLEAN, HELD], UNKNOWN, "seen once only", False, id="only the last two looks count"),
        pytest.param(
            [gpu("x", 7, memory_used_bytes=3 * GIB), HELD], UNKNOWN, "seen once", False, id="its process has just gone"
        ),
        pytest.param(
            [LATCHED, LATCHED], WARN, "utilisation stays at 100% with no process", True, id="latched utilisation"
        ),
        pytest.param([LATCHED, CLEAN], OK, "nobody on it", False, id="utilisation fell"),
        pytest.param([gpu(utilization_ratio=0.94)] * 2, OK, "nobody on it", False, id="nearly latched is not latched"),
        pytest.param([gpu("x", 7, 8, utilization_ratio=1.0)] * 2, UNKNOWN, "in use (2 processes)", False, id="in use"),
        pytest.param(
            [gpu("x", 7, memory_used_bytes=3 * GIB)] * 2, UNKNOWN, "what is held is theirs", False, id="memory in use"
        ),
        pytest.param([gpu(processes=None)], UNKNOWN, "who is on it is not told", False, id="no list of processes"),
        pytest.param([gpu(memory_used_bytes=None)], UNKNOWN, "memory is held is not told", False, id="no memory told"),
        # MIG
        pytest.param(
            [gpu(mig_current=True, memory_used_bytes=30 * GIB)] * 2, OK, "nobody on it", False, id="MIG: memory"
        ),
        pytest.param([gpu("x", 7, mig_current=True)], OK, "nothing wrong with it", False, id="MIG: in use"),
        # what the driver asks for
        pytest.param([gpu(recovery_action="reset")], CRITICAL, "asks for `reset`: reset it", True, id="a reset"),
        pytest.param(
            [gpu(recovery_action="drain and reset")], CRITICAL, "keep new work off", True, id="drain and reset"
        ),
        pytest.param([gpu(recovery_action="drain p2p")], CRITICAL, "together with other GPUs", False, id="drain p2p"),
        pytest.param([gpu(recovery_action="reboot")], CRITICAL, "reboot this host", False, id="a reboot"),
        pytest.param([gpu(recovery_action="action 9")], CRITICAL, "asks for `action 9`", False, id="something new"),
        pytest.param([gpu(recovery_action="")], OK, "nobody on it", False, id="it does not say"),
        pytest.param(
            [gpu("x", 7, recovery_action="reset")], CRITICAL, "in use (1 process)", True, id="a reset, in use"
        ),
        # memory errors
        pytest.param([gpu(remap_pending=True)], WARN, "that does not hurry", False, id="a pending remap"),
        pytest.param([gpu(remap_failure=True)], CRITICAL, "have it replaced", False, id="a failed remap"),
        pytest.param([gpu(ecc_uncorrected=0)], OK, "nobody on it", False, id="no memory errors"),
        pytest.param([gpu(ecc_uncorrected=2)], WARN, "2 uncorrectable", False, id="errors the driver dealt with"),
        pytest.param(
            [gpu(ecc_uncorrected=2, recovery_action="")], CRITICAL, "reset it, or", False, id="errors on an old driver"
        ),
        # lost
        pytest.param([GpuStatus("x", trouble="GPU is lost")], CRITICAL, "in trouble: GPU is lost", False, id="lost"),
        pytest.param(
            [GpuStatus("x", trouble="GPU requires reset")], CRITICAL, "requires reset", False, id="needs a reset"
        ),
        pytest.param([GpuStatus("x", trouble="Unknown Error")], UNKNOWN, "Unknown Error", False, id="an unknown error"),
        pytest.param([CLEAN, None], UNKNOWN, "does not tell of it", False, id="not told of any more"),
        pytest.param([], UNKNOWN, "does not tell of it", False, id="never looked at"),
    ],
)
def test_health(looks: list[GpuStatus | None], health: Health, words: str, cure: bool) -> None:  # noqa: FBT001
    """One row a finding."""
    verdict = judge(looks)
    assert (verdict.health, bool(verdict.cure)) == (health, cure)
    assert words in verdict.words


def test_a_gpu_that_is_missing_while_another_cannot_be_read_is_lost() -> None:
    """A GPU that fell off the bus has no UUID any more."""
    verdict = judge([None], unreadable=("GPU 1 cannot be read: GPU is lost",))
    assert (verdict.health, verdict.words) == (CRITICAL, "lost: GPU 1 cannot be read: GPU is lost")


@pytest.mark.parametrize(
    ("told", "health", "words"),
    [
        ({"stuck": ("python (pid 7): it hangs in the kernel",)}, CRITICAL, "not even SIGKILL ends python (pid 7)"),
        ({"own": ("python (pid 7): epilog.kill is false",)}, WARN, "left of the container: python (pid 7)"),
    ],
)
def test_the_containers_own_processes_that_are_left(told: dict[str, Any], health: Health, words: str) -> None:
    """A GPU that the container's own process holds is not clean."""
    verdict = judge([gpu("x", 7)], **told)
    assert verdict.health is health
    assert words in verdict.words


@pytest.mark.parametrize("code", [13, 31, 43, 45, 68, 69])
def test_what_programs_do_to_themselves_says_nothing_of_the_gpu(code: int) -> None:
    """45 is what ending a process leaves in the log."""
    assert judge([CLEAN], xids=[Xid(code, "00000000:07:00", ago(1))]).health is OK


@pytest.mark.parametrize("code", [48, 63, 64, 74, 79, 92, 94, 95, 109, 119, 120, 140, 154])
def test_xids_of_the_hardware_count(code: int) -> None:
    """With their number and what they mean; several of one kind once."""
    verdict = judge([CLEAN], xids=[Xid(code, "00000000:07:00", ago(1))] * 3)
    assert verdict.health is XIDS[code][0]
    assert verdict.health in (WARN, CRITICAL)
    assert verdict.words == f"Xid {code} since ({XIDS[code][1]}), 3 times"
    assert not verdict.cure


def test_the_worst_comes_first_and_only_what_a_reset_cures_is_named_for_it() -> None:
    """Several things may be wrong at once."""
    status = gpu(memory_used_bytes=2 * GIB, remap_pending=True, recovery_action="reboot")
    verdict = judge([status, status])
    assert verdict.health is CRITICAL
    assert verdict.words.split("; ")[0] == "the driver asks for `reboot`: reboot this host"
    assert verdict.words.endswith("that does not hurry")
    assert verdict.cure == "2 GiB held with no process"


@pytest.mark.parametrize(
    ("status", "doubt"),
    [
        (CLEAN, False),
        (HELD, True),
        (LATCHED, True),
        (gpu("x", 7, memory_used_bytes=3 * GIB, utilization_ratio=1.0), False),
        (gpu(mig_current=True, memory_used_bytes=3 * GIB), False),
        (gpu(recovery_action="reset"), False),
    ],
)
def test_what_one_more_look_would_tell(status: GpuStatus, doubt: bool) -> None:  # noqa: FBT001
    """Only what takes a while to go away."""
    assert in_doubt(status) is doubt


@given(
    used=st.none() | st.integers(0, 80 * GIB),
    ratio=st.none() | st.floats(0, 1),
    processes=st.none() | st.just(()) | st.just(gpu("x", 7).processes),
    action=st.sampled_from(["", "none", "reset", "reboot"]),
    looks=st.integers(1, 3),
)
def test_less_told_is_never_worse(**told: Any) -> None:
    """What a driver does not tell is not held against a GPU: without a fact it is never more than unknown for it."""
    looks = told.pop("looks")
    facts = {
        "memory_used_bytes": told["used"],
        "utilization_ratio": told["ratio"],
        "processes": told["processes"],
        "recovery_action": told["action"],
    }
    full = judge([gpu(**facts)] * looks)
    for name, nothing in (("memory_used_bytes", None), ("utilization_ratio", None), ("processes", None)):
        less = judge([gpu(**{**facts, name: nothing})] * looks)
        order = (OK, UNKNOWN, WARN, CRITICAL)
        assert less.health is UNKNOWN or order.index(less.health) <= order.index(full.health)
