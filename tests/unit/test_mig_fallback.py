"""A host without Prometheus through two hours: whole ticks, a real ledger, and the driver asked by its real binding.

Only the library itself is a stand-in, and the containers' own counters are said.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import gpu_fixtures as fake
import pytest
from whole_host import AT, HOUR, MINUTE, A, B, C, D, Host, inspect

from ds01_policy.act.dry_run import DryRun
from ds01_policy.config.load import load
from ds01_policy.memory import Memory
from ds01_policy.model import Kind, Verdict
from ds01_policy.observe.gpus import HostGpus
from ds01_policy.observe.ports import Counters, Json, Sources
from ds01_policy.policy import GpuSettings, Policy
from ds01_policy.span import reach_of
from ds01_policy.tick import Report, tick

HOPPER_IDLE, HOPPER_BUSY = (f"MIG-00000000-3333-5000-8000-00000000000{index}" for index in (0, 1))
AMPERE = "MIG-00000000-2222-5000-8000-000000000000"
WHOLE = "GPU-00000000-1111-4000-8000-000000000000"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake.stub_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def policy() -> Policy:
    shipped = load(None, unix_group=lambda _: None)
    return replace(shipped, settings=replace(shipped.settings, prometheus=None))


@dataclass
class Quiet(Host):
    """Containers that use next to no CPU, and a driver that is really asked."""

    settings: GpuSettings = field(default_factory=lambda: GpuSettings(timeout=timedelta(seconds=10)))
    now: datetime = AT

    @property
    def sources(self) -> Sources:
        return Sources(self, None, HostGpus(self.settings), self, self)

    def counters(self, pids: Mapping[str, int]) -> Counters:
        used = (self.now - AT).total_seconds() * 1e-4
        return Counters(self.now.timestamp(), dict.fromkeys(pids, used))


def holding(container: str, name: str, device: str) -> Json:
    raw = inspect(container, name, up=3 * HOUR)
    raw["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] = [device]
    return raw


def once(policy: Policy, state: Path, host: Quiet, at: datetime) -> Report:
    host.now = at
    memory = Memory(state, "gpu01", lambda _: True, reach=reach_of(policy), retain=policy.settings.local_samples.retain)
    with closing(memory):
        return tick(policy, host.sources, memory, DryRun(), lambda: at)


def idle(report: Report) -> dict[str, Verdict]:
    return {one.container.name: one for one in report.evaluation.verdicts if one.rule == "idle-gpu"}


def test_two_hours_of_slices_without_prometheus(
    policy: Policy, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle slice is due exactly when its looks cover the hour; a busy one and one nobody can measure never are."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STUB_GPUS", "4")
    monkeypatch.setenv("NVML_STUB_RATE", "0")
    devices = {A: ("idle", HOPPER_IDLE), B: ("busy", HOPPER_BUSY), C: ("ampere", AMPERE), D: ("whole", WHOLE)}
    host = Quiet({container: holding(container, *held) for container, held in devices.items()})
    found: dict[int, dict[str, Verdict]] = {}
    for minute in range(0, 121, 5):
        works = 6 if minute == 90 else 0  # percent of the whole GPU: a moment's work on a slice
        monkeypatch.setenv("NVML_STUB_GPM", f"3/1={works} 3/9={14 if minute % 10 else 3}")
        report = once(policy, tmp_path, host, AT + minute * MINUTE)
        assert report.problems == ()
        assert [one.code for one in report.snapshot.problems] == []
        found[minute] = idle(report)

    due = {name: [minute for minute in found if found[minute][name].kind is Kind.ACT] for name in found[0]}
    assert due["whole"] == list(range(60, 121, 5))
    assert due["idle"] == list(range(60, 90, 5)), "the moment's work at 90 counts for the hour after it"
    assert due["busy"] == due["ampere"] == []

    assert {found[minute]["busy"].kind for minute in range(10, 121, 5)} == {Kind.CLEAR}
    for minute in range(0, 60, 5):
        verdict = found[minute]["idle"]
        assert verdict.kind is (Kind.UNKNOWN if minute < 50 else Kind.WARN), "it is warned at 80 % of the hour"
        if minute < 50:
            assert "known from 13:00 UTC on, when samples cover 60m" in verdict.why
    for told in found.values():
        assert told["ampere"].kind is Kind.UNKNOWN
        assert "this GPU, driver or NVML tells nothing of MIG instances (GPM, from Hopper on)" in told["ampere"].why
    (gpu,) = [
        piece.reading for piece in found[60]["idle"].evidence if piece.label == "gpu" and piece.reading.window == HOUR
    ]
    assert (gpu.source, gpu.value, gpu.high, gpu.coverage, gpu.missing) == ("local", 0.0, 0.0, 1.0, None)


def test_counters_that_hang_leave_everything_else_as_it_is(
    policy: Policy, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tick ends; the whole GPU is sampled as ever, the slice has no look and says why."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("NVML_STUB_GPUS", "4")
    monkeypatch.setenv("NVML_STUB_RATE", "0")
    monkeypatch.setenv("NVML_STUB_GPM", "3/1=0 3/9=0")
    monkeypatch.setenv("NVML_STUB", "nvmlGpmMetricsGet=hang")
    host = Quiet({A: holding(A, "idle", HOPPER_IDLE), D: holding(D, "whole", WHOLE)})
    host.settings = GpuSettings(timeout=timedelta(seconds=4))
    report = once(policy, tmp_path, host, AT)
    (problem,) = report.snapshot.problems
    assert problem.detail.startswith("how busy MIG instances are could not be read: NVML did not answer within 4s")
    assert "NVML did not answer" in idle(report)["idle"].why
    assert "known from 13:00 UTC on" in idle(report)["whole"].why


@pytest.mark.parametrize("never", [False, True], ids=["library and command", "the command alone"])
def test_a_host_without_any_gpu_stack_says_so_once_and_goes_on(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, never: bool
) -> None:
    """Containers that hold no GPU here, ran too long, or ended long ago are handled as ever; nobody is found idle."""
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"not a library")  # hides one that may be installed here
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    host = Quiet(
        {
            A: inspect(A, "plain", None, up=60 * HOUR),
            B: inspect(B, "train", 0, up=60 * HOUR),
            C: inspect(C, "old", 1, status="exited", up=HOUR),
            D: holding(D, "slice", HOPPER_IDLE),
        }
    )
    host.settings = GpuSettings("never" if never else "auto", timeout=timedelta(seconds=10))
    for minute in (0, 5):
        report = once(policy, tmp_path / "state", host, AT + minute * MINUTE)
        (problem,) = report.snapshot.problems
        assert problem.code == "no_gpu_stack"
        assert problem.detail == (
            "nvidia-smi -L is not installed: there is no `nvidia-smi`, and gpu.nvml is `never` in settings.yaml"
            if never
            else "this host has no NVIDIA driver: neither libnvidia-ml.so.1 nor nvidia-smi is installed"
        )
        assert report.problems == ()
        verdicts = {(one.container.name, one.rule): one for one in report.evaluation.verdicts}
        assert {key: str(one.kind) for key, one in verdicts.items()} == {
            ("train", "idle-gpu"): "unknown",
            ("train", "max-runtime"): "act",
            ("slice", "idle-gpu"): "unknown",
            ("slice", "max-runtime"): "clear",
            ("old", "stopped-retention"): "act",
        }
        assert "the host's GPUs could not be listed" in verdicts["train", "idle-gpu"].why
        assert "the host's MIG devices could not be listed" in verdicts["slice", "idle-gpu"].why
        assert {one.container.name for one in report.plan.decisions} == {"train", "old"}
