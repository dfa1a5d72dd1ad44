"""A whole epilog: looked, ended, looked again, judged, reset; in its time, and with its hands tied where they are."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from epilog_world import (
    DOCKER,
    GIB,
    MINE,
    OTHER,
    A,
    B,
    FakeDriver,
    FakeEngine,
    FakeTasks,
    FakeTime,
    FakeXids,
    Start,
    ago,
    gpu,
    held,
    raw,
    spawning,
)

from ds01_policy.act.epilog import Epilog, GpuFinding, Health, Held, Result
from ds01_policy.act.epilog.ports import Clock
from ds01_policy.model import GpuRef, GpuStatus, Status, Xid
from ds01_policy.policy import EpilogSettings

NUMBER, NEIGHBOUR = 5_000_000, 5_000_001
FULL = gpu(memory_used_bytes=3 * GIB)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start real processes that are gone after the test."""
    with spawning() as one:
        yield one


def epilog(driver: FakeDriver, *, time: Clock | None = None, hands: bool = True, **parts: Any) -> Epilog:
    settings = EpilogSettings(**parts.pop("settings", {}))
    return Epilog(
        driver,
        parts.get("engine", FakeEngine({OTHER: raw(OTHER)})),
        parts.get("tasks", FakeTasks()),
        settings,
        hands,
        parts.get("xids"),
        time or FakeTime().clock(),
    )


def changed(driver: FakeDriver) -> list[str]:
    return [call for call in driver.calls if call != "look"]


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clean_gpu_takes_one_look() -> None:
    """And nothing else."""
    driver = FakeDriver([[gpu(A), gpu(B)]])
    assert epilog(driver).run(held(A)) == Result(
        Status.DONE, f"{A}: ok: nobody on it", (GpuFinding(A, Health.OK, "nobody on it"),)
    )
    assert driver.calls == ["look"]


def test_exactly_the_gpus_it_held_are_judged() -> None:
    """The neighbour's is none of its business, however it is."""
    driver = FakeDriver([[gpu(A), gpu(B, recovery_action="reset")]])
    assert [one.uuid for one in epilog(driver).run(held(A)).findings] == [A]
    assert [one.uuid for one in epilog(driver).run(held(GpuRef(B, 3), GpuRef(B, 5), A)).findings] == [A, B]


@pytest.mark.parametrize("unclear", ["", "--gpus names a GPU that is not listed"])
def test_without_a_gpu_there_is_nothing_to_look_at(unclear: str) -> None:
    """Unable to tell which GPU, it looks at none; it never takes all of them."""
    driver = FakeDriver([[gpu()]])
    life = Held(MINE, "train", ago(10), ago(1), (), unclear)
    done = epilog(driver).run(life)
    assert (done.status, done.findings, driver.calls) == (Status.NOOP, (), [])
    assert unclear in done.detail


def test_a_driver_that_does_not_answer_is_a_failure_that_blames_no_gpu() -> None:
    """Unknown is not unhealthy."""
    done = epilog(FakeDriver(["NVML did not answer; nvidia-smi did not answer"])).run(held(A))
    assert done.status is Status.FAILED
    assert done.findings[0].health is Health.UNKNOWN
    assert "nvidia-smi did not answer" in done.detail


def test_memory_that_goes_in_time_is_clean() -> None:
    """Freeing forty gigabytes takes the driver some seconds."""
    driver = FakeDriver([[FULL], [FULL], [gpu()]])
    done = epilog(driver).run(held(A))
    assert (done.status, done.findings[0].health) == (Status.DONE, Health.OK)
    assert driver.calls == ["look"] * 3


@pytest.mark.parametrize(("seconds", "looks", "status"), [(2, 1, Status.FAILED), (6, 3, Status.FAILED)])
def test_an_epilog_whose_time_is_over_says_so(seconds: float, looks: int, status: Status) -> None:
    """What was not seen is not made up."""
    driver = FakeDriver([[FULL]])
    done = epilog(driver, settings={"timeout": timedelta(seconds=seconds), "reset": "never"}).run(held(A))
    assert (done.status, len(driver.calls)) == (status, looks)
    assert "the time was over" in done.detail


def test_a_driver_that_stops_answering_half_way_is_said() -> None:
    """The first look still tells something."""
    done = epilog(FakeDriver([[FULL], "it hangs"])).run(held(A))
    assert (done.status, done.findings[0].health) == (Status.FAILED, Health.UNKNOWN)
    assert "it hangs" in done.detail


@pytest.mark.parametrize(
    ("unreadable", "health"), [((), Health.UNKNOWN), (("GPU 0 cannot be read: lost",), Health.CRITICAL)]
)
def test_a_gpu_that_the_driver_does_not_tell_of_was_not_looked_at(unreadable: tuple[str, ...], health: Health) -> None:
    """That is a failure, and blames it only where the driver cannot read one."""
    done = epilog(FakeDriver([[gpu(B)]], unreadable=unreadable)).run(held(A))
    assert (done.status, done.findings[0].health) == (Status.FAILED, health)


def test_that_it_may_have_held_more_is_said() -> None:
    """The GPUs that are known are looked at all the same."""
    assert (
        "it may have held more: one is lost" in epilog(FakeDriver([[gpu()]])).run(held(A, unclear="one is lost")).detail
    )


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_stray_ends_and_the_neighbour_lives(start: Start) -> None:
    """Then the GPU is looked at once more."""
    stray, neighbour = start(), start()
    tasks = FakeTasks()
    tasks.add(NUMBER, stray.pid, DOCKER[MINE])
    tasks.add(NEIGHBOUR, neighbour.pid, DOCKER[OTHER])
    driver = FakeDriver([[gpu(A, NUMBER, NEIGHBOUR)], [gpu(A, NEIGHBOUR)]])
    done = epilog(driver, tasks=tasks, time=Clock(sleep=lambda _: None)).run(held(A))
    assert stray.wait(10) == -signal.SIGTERM
    assert neighbour.poll() is None
    assert done.status is Status.DONE
    assert [text.split(" (")[0][:6] for text in (*done.ended, *done.left)] == ["python", "python"]
    assert f"container {OTHER[:12]}" in done.left[0]
    assert done.findings[0].health is Health.UNKNOWN  # in use by the neighbour
    assert driver.calls == ["look", "look"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({"hands": False}, "this epilog only looks", id="hands tied"),
        pytest.param({"settings": {"kill": False}}, "epilog.kill is false", id="not to be killed"),
    ],
)
def test_with_tied_hands_it_only_tells(start: Start, options: dict[str, Any], why: str) -> None:
    """No signal and no reset, whatever is found."""
    stray = start()
    tasks = FakeTasks()
    tasks.add(NUMBER, stray.pid, DOCKER[MINE])
    done = epilog(FakeDriver([[gpu(A, NUMBER, recovery_action="reset")]]), tasks=tasks, **options).run(held(A))
    assert stray.poll() is None
    assert done.ended == ()
    assert why in done.left[0]
    assert why in done.findings[0].words


def test_looking_at_a_gpu_for_its_own_sake_ends_nobody(start: Start) -> None:
    """No process belongs to no container."""
    process = start()
    tasks = FakeTasks()
    tasks.add(NUMBER, process.pid, DOCKER[MINE])
    done = epilog(FakeDriver([[gpu(A, NUMBER)]]), tasks=tasks).run(Held("", "", None, None, (GpuRef(A),)))
    assert (process.poll(), done.ended, len(done.left)) == (None, (), 1)


def test_without_docker_nobody_is_ended(start: Start) -> None:
    """It is said that whose they are is not known."""
    process = start()
    tasks = FakeTasks()
    tasks.add(NUMBER, process.pid, DOCKER[MINE])
    done = epilog(FakeDriver([[gpu(A, NUMBER)]]), tasks=tasks, engine=FakeEngine(broken="no socket")).run(held(A))
    assert process.poll() is None
    assert "Docker does not answer: no socket" in done.detail
    assert "Docker does not tell which containers there are" in done.left[0]


# ── the GPU ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bad", [FULL, gpu(recovery_action="reset"), gpu(utilization_ratio=1.0)])
def test_a_gpu_that_a_reset_cures_is_reset_and_looked_at_again(bad: GpuStatus) -> None:
    """How it is then is what counts."""

    class Cured(FakeDriver):
        def reset(self, uuid: str, within: timedelta) -> None:
            super().reset(uuid, within)
            self.looks = [[gpu()]]

    driver = Cured([[bad]])
    done = epilog(driver).run(held(A))
    assert changed(driver) == ["reset GPU-a"]
    assert (done.status, done.findings[0].health) == (Status.DONE, Health.OK)
    assert done.findings[0].words.endswith("; was reset; now: nobody on it")


def test_after_a_reset_only_what_is_seen_since_counts() -> None:
    """Memory that goes a moment later is gone."""

    class CuredSlowly(FakeDriver):
        def reset(self, uuid: str, within: timedelta) -> None:
            super().reset(uuid, within)
            self.looks = [[FULL], [gpu()]]

    assert epilog(CuredSlowly([[FULL]])).run(held(A)).findings[0].health is Health.OK


def test_a_gpu_that_stays_bad_after_a_reset_is_critical() -> None:
    """A reset is tried once."""
    driver = FakeDriver([[gpu(recovery_action="reset")]])
    done = epilog(driver).run(held(A))
    assert changed(driver) == ["reset GPU-a"]
    assert done.findings[0].health is Health.CRITICAL


def test_a_reset_after_which_nobody_can_look_is_unknown() -> None:
    """Neither good nor bad is made up."""

    class Hangs(FakeDriver):
        def reset(self, uuid: str, within: timedelta) -> None:
            super().reset(uuid, within)
            self.looks = ["it hangs"]

    done = epilog(Hangs([[gpu(recovery_action="reset")]])).run(held(A))
    assert done.findings[0].health is Health.UNKNOWN


@pytest.mark.parametrize(
    ("status", "options", "why"),
    [
        pytest.param(
            gpu(recovery_action="reset"), {"settings": {"reset": "never"}}, "epilog.reset is `never`", id="never"
        ),
        pytest.param(gpu(recovery_action="reset"), {"hands": False}, "this epilog only looks", id="tied hands"),
        pytest.param(gpu(recovery_action="reset", mig_current=True), {}, "MIG mode is on", id="MIG"),
        pytest.param(gpu(A, NUMBER, recovery_action="reset"), {}, "on it by the driver's list", id="somebody on it"),
        pytest.param(gpu(recovery_action="reboot"), {}, "reboot this host", id="what no reset cures"),
    ],
)
def test_a_gpu_that_is_not_reset_says_why(status: GpuStatus, options: dict[str, Any], why: str) -> None:
    """It stays critical, and the admin reads what to do."""
    driver = FakeDriver([[status]])
    done = epilog(driver, **options).run(held(A))
    assert changed(driver) == []
    assert done.findings[0].health is Health.CRITICAL
    assert why in done.findings[0].words


def test_the_second_gpu_is_judged_by_its_own_looks() -> None:
    """That the first one was reset changes nothing for it."""
    bad = gpu(B, memory_used_bytes=3 * GIB)
    driver = FakeDriver([[FULL, bad]], refuses={"reset": "In use by another client"})
    done = epilog(driver, settings={"timeout": timedelta(seconds=60)}).run(held(A, B))
    assert [one.health for one in done.findings] == [Health.CRITICAL, Health.CRITICAL]
    assert changed(driver) == ["reset GPU-a", "reset GPU-b"]


@pytest.mark.parametrize(
    ("told", "health", "detail"),
    [
        ((Xid(79, "00000000:07:00", ago(-86400)),), Health.CRITICAL, "Xid 79"),
        ((Xid(79, "00000000:07:00", ago(600)),), Health.OK, "nobody on it"),
        ((Xid(79, "00000000:47:00", ago(-86400)),), Health.OK, "nobody on it"),
        ((Xid(45, "00000000:07:00", ago(-86400)),), Health.OK, "nobody on it"),
        ("it may not be read", Health.OK, "no Xids: it may not be read"),
    ],
    ids=["of the hardware", "from before it ended", "of another GPU", "of programs", "a log that cannot be read"],
)
def test_what_the_kernel_has_logged_since(told: tuple[Xid, ...] | str, health: Health, detail: str) -> None:
    """Only errors of this GPU since the container ended."""
    done = epilog(FakeDriver([[gpu()]]), xids=FakeXids(told)).run(held(A))
    assert done.findings[0].health is health
    assert detail in done.detail


def test_errors_between_the_end_and_the_epilog_count() -> None:
    """A watcher may have been down for a while."""
    life = Held(MINE, "train", ago(3600), ago(300), (GpuRef(A),))
    done = epilog(FakeDriver([[gpu()]]), xids=FakeXids((Xid(79, "00000000:07:00", ago(200)),))).run(life)
    assert done.findings[0].health is Health.CRITICAL
