"""What a tick does after acting: epilogs that are owed, and unfit GPUs told everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from epilog_fakes import CLEAN, HELD
from whole_host import AT, MINUTE, A, B, C, Host, inspect

from ds01_policy.act.epilog.held import Held, Result
from ds01_policy.config.load import load
from ds01_policy.memory import LEDGER, Memory, remembered
from ds01_policy.metrics import GPU_LIMIT, families, success, text
from ds01_policy.model import Decision, History, Mode, Outcome, Problem, Status, Unfit
from ds01_policy.policy import Policy
from ds01_policy.report.document import document
from ds01_policy.tick import MemoryLost, Report, look, tick

if TYPE_CHECKING:
    from ds01_policy.tick import Recheck

LOST = {"GPU-1": Unfit(AT - timedelta(days=1), "it fell off the bus")}
TOLD = Problem(
    "unfit_gpu",
    "GPU-1 is unfit since 2026-03-01 12:00 UTC: it fell off the bus; a later epilog that finds it well clears that; "
    "once you have seen to it yourself: ds01-policy epilog --gpu GPU-1 --clear",
)


@dataclass
class Aftermath:
    """What there is to catch up with."""

    owed: list[tuple[Held, Result]] = field(default_factory=list)
    found: dict[str, Unfit] = field(default_factory=dict)
    lost: MemoryLost | None = None
    asked: list[str] = field(default_factory=list)

    def catch_up(self) -> Sequence[tuple[Held, Result]]:
        self.asked.append("catch_up")
        if self.lost is not None:
            raise self.lost
        return self.owed

    def unfit(self) -> dict[str, Unfit]:
        self.asked.append("unfit")
        return self.found


@dataclass
class Hands:
    """An actuator that does nothing and notes when it was asked to act."""

    asked: list[str]

    def carry_out(self, decisions: Sequence[Decision], recheck: Recheck) -> list[Outcome]:
        del decisions, recheck
        self.asked.append("act")
        return []


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(None, unix_group=lambda _: None)


def ticked(policy: Policy, state: Path, aftermath: Aftermath, host: Host | None = None, minutes: int = 0) -> Report:
    at = AT + minutes * MINUTE
    sources = (host or Host({A: inspect(A, "train")})).sources
    with closing(Memory(state, "gpu01", lambda _: True)) as memory:
        return tick(policy, sources, memory, Hands(aftermath.asked), lambda: at, aftermath=aftermath)


def codes(report: Report) -> list[str]:
    return [problem.code for problem in report.problems]


def test_it_comes_after_acting_and_its_finding_is_this_tick_s(policy: Policy, tmp_path: Path) -> None:
    """What was found a moment ago is already told, as is what became of each epilog."""
    aftermath = Aftermath([(HELD, CLEAN)], LOST)
    report = ticked(policy, tmp_path, aftermath)
    assert aftermath.asked == ["act", "catch_up", "unfit"]
    assert report.epilogs == ((HELD, CLEAN),)
    assert report.history.unfit == LOST
    assert report.problems == (TOLD,)
    assert success(report)


def test_a_failed_epilog_is_a_problem_and_no_failure_of_the_tick(policy: Policy, tmp_path: Path) -> None:
    """It is tried anew; a host without nvidia-smi does not alarm anybody at every tick for that."""
    report = ticked(policy, tmp_path, Aftermath([(HELD, Result(Status.FAILED, "the driver hangs")), (HELD, CLEAN)]))
    assert report.problems == (Problem("epilog_failed", "train (aaaaaaaaaaaa): the driver hangs"),)
    assert success(report)


def test_without_a_memory_that_can_be_written_nothing_is_begun(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where it cannot be opened, not where the tick cannot be written down; unfit GPUs are told all the same."""
    with closing(Memory(tmp_path, "gpu01", lambda _: True)) as memory:
        memory.recall(AT, Mode.OBSERVE, "")
        memory.files()[0].mark_unfit("GPU-1", "it fell off the bus", AT - timedelta(days=1))
    aftermath = Aftermath([(HELD, CLEAN)])
    with monkeypatch.context() as patch:
        patch.setattr(Memory, "settle", _lost)
        report = ticked(policy, tmp_path, aftermath)
    assert (aftermath.asked, report.epilogs, codes(report)) == (["act"], (), ["ledger", "unfit_gpu"])
    (tmp_path / LEDGER).write_bytes(b"x" * 5000)
    report = ticked(policy, tmp_path, aftermath)
    assert (aftermath.asked, report.epilogs, codes(report)) == (["act"] * 2, (), ["ledger"])
    assert not success(report)


def _lost(*_: object) -> None:
    raise MemoryLost("disk full")


def test_a_memory_that_is_lost_meanwhile_fails_the_tick(policy: Policy, tmp_path: Path) -> None:
    """An admin must know that epilogs cannot be written down."""
    report = ticked(policy, tmp_path, Aftermath(lost=MemoryLost("disk full")))
    assert report.problems == (Problem("ledger", "disk full"),)
    assert not report.history.writable
    assert not success(report)


def test_to_a_docker_without_containers_nobody_has_ended(policy: Policy, tmp_path: Path) -> None:
    """Four at work and then none at all may be another Docker, to which every container is gone."""
    four = Host({mark: inspect(mark, mark, number) for number, mark in enumerate((A, B, C, "d" * 64))})
    ticked(policy, tmp_path, Aftermath(), four)
    aftermath = Aftermath([(HELD, CLEAN)])
    report = ticked(policy, tmp_path, aftermath, Host(), minutes=5)
    assert aftermath.asked == ["act"]
    assert report.epilogs == ()


def test_a_look_tells_of_unfit_gpus_too(policy: Policy, tmp_path: Path) -> None:
    """Preview and explain change nothing, and tell what the ledger knows."""
    with closing(Memory(tmp_path, "gpu01", lambda _: True)) as memory:
        memory.recall(AT, Mode.OBSERVE, "")
        memory.files()[0].mark_unfit("GPU-1", "it fell off the bus", AT - timedelta(days=1))
    report = look(policy, Host({A: inspect(A, "train")}).sources, AT, remembered(tmp_path))
    assert report.problems == (TOLD,)
    told = document(
        "preview", "", Mode.OBSERVE, report.snapshot, report.evaluation, report.plan, problems=report.problems
    )
    assert {"code": "unfit_gpu", "detail": TOLD.detail} in told["problems"]


def test_a_metric_tells_of_each_unfit_gpu(policy: Policy) -> None:
    """By UUID, whatever stands in it, and never of more than a host can have."""
    sources = Host({A: inspect(A, "train")}).sources

    def written(unfit: dict[str, Unfit]) -> str:
        report = look(policy, sources, AT, History(unfit=unfit))
        return text(families(report, Mode.OBSERVE, AT, AT, None))

    assert 'ds01_policy_gpu_unfit{gpu="GPU-1"} 1.0\n' in written(LOST)
    assert "# TYPE ds01_policy_gpu_unfit gauge\n# HELP" not in written({})
    assert "ds01_policy_gpu_unfit{" not in written({})
    hostile = {'GPU-"}\n\\': LOST["GPU-1"]}
    assert 'ds01_policy_gpu_unfit{gpu="GPU-\\"}\\\\n\\\\"} 1.0\n' in written(hostile)
    many = {f"GPU-{number}": LOST["GPU-1"] for number in range(GPU_LIMIT + 50)}
    assert written(many).count("ds01_policy_gpu_unfit{") == GPU_LIMIT
