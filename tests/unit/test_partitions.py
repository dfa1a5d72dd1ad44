"""MIG that changes under a running container: an instance number that is given out again is another instance."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_host import AT, HOUR, MINUTE, A, B, Host, inspect

from ds01_policy.act.dry_run import DryRun
from ds01_policy.config.load import load
from ds01_policy.ledger import Ledger, LedgerError, schema
from ds01_policy.memory import LEDGER, Memory, remembered
from ds01_policy.model import (
    Demand,
    Evaluation,
    Gpu,
    GpuClaim,
    GpuRef,
    Kind,
    MigDevice,
    Missing,
    Partition,
    Plan,
    Snapshot,
    Verdict,
)
from ds01_policy.observe.ports import Counters, Inventory, Json, SourceError, Sources
from ds01_policy.observe.recorded_values import history_json, history_of
from ds01_policy.partitions import dated, partitions
from ds01_policy.policy import HighDemand, Policy
from ds01_policy.span import reach_of
from ds01_policy.tick import Report, look, still_due, tick

UUID = "GPU-00000000-0000-4000-8000-0000000000aa"
WHOLE, SEVEN, NINE = GpuRef(UUID), GpuRef(UUID, 7), GpuRef(UUID, 9)
BEFORE = AT - HOUR


def gpu(*devices: tuple[str, int], uuid: str = UUID, places: tuple[int, ...] | None = None) -> Gpu:
    """Divide a GPU: (MIG UUID, GPU instance), in order of index."""
    found = [
        MigDevice(f"MIG-{name}", index, instance, 0)
        for index, (name, instance) in zip(places or range(len(devices)), devices, strict=True)
    ]
    return Gpu(uuid, 0, mig_enabled=True, mig_devices=tuple(found))


# ── since when ───────────────────────────────────────────────────────────────────────────────────────────────────────

KNOWN = partitions([gpu(("a", 7), ("b", 9))], {}, BEFORE)
DATED = {ref: replace(one, since=BEFORE) for ref, one in KNOWN.items()}


@pytest.mark.parametrize(
    ("known", "listed", "since"),
    [
        pytest.param({}, gpu(("a", 7), ("b", 9)), {SEVEN: None, NINE: None}, id="a first look knows nothing"),
        pytest.param(KNOWN, gpu(("a", 7), ("b", 9)), {SEVEN: None, NINE: None}, id="the same: still unknown"),
        pytest.param(DATED, gpu(("a", 7), ("b", 9)), {SEVEN: BEFORE, NINE: BEFORE}, id="the same: since then"),
        pytest.param(DATED, gpu(("x", 7), ("b", 9)), {SEVEN: AT, NINE: BEFORE}, id="one has another device"),
        pytest.param(KNOWN, gpu(("x", 7), ("b", 9)), {SEVEN: AT, NINE: None}, id="known to have changed now"),
        pytest.param(DATED, gpu(("a", 7), ("b", 9), ("c", 9)), {SEVEN: BEFORE, NINE: AT}, id="one has one device more"),
        pytest.param(DATED, gpu(("b", 9)), {NINE: BEFORE}, id="one is gone"),
        pytest.param(
            {WHOLE: Partition(), NINE: DATED[NINE]},
            gpu(("a", 7), ("b", 9)),
            {SEVEN: AT, NINE: BEFORE},
            id="one is there that was not",
        ),
        pytest.param({WHOLE: Partition()}, gpu(("a", 7)), {SEVEN: AT}, id="a whole GPU was divided"),
        pytest.param(DATED, gpu(("b", 9), ("a", 7)), {SEVEN: BEFORE, NINE: BEFORE}, id="other places, same instances"),
        pytest.param(DATED, gpu(("b", 7), ("a", 9)), {SEVEN: AT, NINE: AT}, id="they changed hands"),
        pytest.param(DATED, gpu(("a", 7), uuid="GPU-z"), {GpuRef("GPU-z", 7): None}, id="a GPU that is new here"),
        pytest.param(
            {ref: replace(one, since=AT + HOUR) for ref, one in KNOWN.items()},
            gpu(("a", 7), ("b", 9)),
            {SEVEN: AT, NINE: AT},
            id="the clock was set back",
        ),
    ],
)
def test_an_instance_is_another_one_when_it_consists_of_other_devices(
    known: Mapping[GpuRef, Partition], listed: Gpu, since: Mapping[GpuRef, datetime | None]
) -> None:
    """From the look on that first saw it so; of what was so at the first look of all, nobody knows since when."""
    found = partitions([listed], known, AT)
    assert {ref: one.since for ref, one in found.items() if ref.gpu_instance is not None} == since


@pytest.mark.parametrize(
    ("listed", "since"),
    [
        pytest.param(gpu(("a", 7), ("b", 9)), BEFORE, id="the same"),
        pytest.param(gpu(("b", 9), ("a", 7)), AT, id="the same devices at other places"),
        pytest.param(gpu(("a", 7), ("b", 9), places=(0, 3)), AT, id="one moved to another place"),
        pytest.param(gpu(("a", 7), ("b", 9), ("c", 4)), AT, id="one more"),
        pytest.param(gpu(), AT, id="none left"),
    ],
)
def test_a_gpu_was_divided_anew_when_any_place_changed(listed: Gpu, since: datetime) -> None:
    """Whoever was given `0:1` got what stood there when it started."""
    assert partitions([listed], DATED, AT)[WHOLE].since == since


@given(st.lists(st.lists(st.sampled_from([("a", 7), ("b", 7), ("c", 9)]), unique=True, max_size=3), max_size=6))
def test_what_is_held_against_samples_is_a_change_that_was_seen(story: list[list[tuple[str, int]]]) -> None:
    """Whatever a GPU went through: an instance is as old as the last look at which it differed from the one before."""
    known: dict[GpuRef, Partition] = {}
    seen: list[tuple[str, ...] | None] = []  # what instance 7 consisted of, look by look
    for number, devices in enumerate(story):
        listed = gpu(*devices)
        known = partitions([listed], known, AT + number * MINUTE)
        seen.append(listed.made_of.get(SEVEN))
    changes = [number for number in range(1, len(seen)) if seen[number] != seen[number - 1]]
    if seen and seen[-1] is not None:
        assert known[SEVEN].since == (AT + changes[-1] * MINUTE if changes else None)


# ── what it means for a container ────────────────────────────────────────────────────────────────────────────────────


def test_a_claim_learns_when_its_instances_came_to_be() -> None:
    """Only of what it holds, only of instances, only where it is known."""
    now = {WHOLE: Partition(("x",), AT), SEVEN: Partition(("y",), AT), NINE: Partition(("z",), None)}
    claim = GpuClaim(wants=True, refs=(SEVEN, NINE, GpuRef("GPU-z")))
    assert dated(claim, BEFORE, now) == replace(claim, since={SEVEN: AT})
    assert dated(GpuClaim(wants=True, refs=(WHOLE,)), BEFORE, now).since == {}
    assert dated(claim, BEFORE, {}) is claim


@pytest.mark.parametrize(
    ("since", "started_at", "unclear"),
    [
        pytest.param(AT, BEFORE, True, id="divided anew under it"),
        pytest.param(BEFORE, AT, False, id="divided anew before it started"),
        pytest.param(AT, AT, False, id="started at the look that saw it"),
        pytest.param(None, BEFORE, False, id="nobody knows"),
        pytest.param(AT, None, True, id="never started"),
    ],
)
def test_a_place_is_unclear_once_its_gpu_was_divided_anew(
    since: datetime | None, started_at: datetime | None, *, unclear: bool
) -> None:
    """Its name for the device does not go with it; what was unclear already stays said."""
    claim = GpuClaim(wants=True, refs=(SEVEN,), unclear="something", by_place=(UUID,))
    found = dated(claim, started_at, {WHOLE: Partition(("x",), since)})
    assert found.unclear.startswith("something")
    assert (
        f"names MIG devices by their place on {UUID}, which was re-partitioned under it" in found.unclear
    ) is unclear


# ── in the ledger ────────────────────────────────────────────────────────────────────────────────────────────────────


def note(state: Path, at: datetime, *gpus: Gpu, suspicious: bool = False) -> dict[GpuRef, datetime | None]:
    """Let a tick write down what it listed; give since when each instance is what it is."""
    with Ledger.open(state / LEDGER) as ledger:
        snapshot = Snapshot(at, "gpu01", (), tuple(gpus))
        ledger.record(snapshot, Evaluation((), Demand(0, 0, high=False)), Plan(), suspicious=suspicious)
    found = remembered(state).partitions
    return {ref: one.since for ref, one in found.items() if ref.gpu_instance is not None}


def test_what_is_listed_is_remembered_from_tick_to_tick(tmp_path: Path) -> None:
    """A change, a disappearance and a return each at the tick that saw it."""
    assert note(tmp_path, AT, gpu(("a", 7), ("b", 9))) == {SEVEN: None, NINE: None}
    assert note(tmp_path, AT + MINUTE, gpu(("a", 7), ("x", 9))) == {SEVEN: None, NINE: AT + MINUTE}
    assert note(tmp_path, AT + 2 * MINUTE, gpu(("x", 9))) == {NINE: AT + MINUTE}
    assert note(tmp_path, AT + 3 * MINUTE, gpu(("a", 7), ("x", 9))) == {SEVEN: AT + 3 * MINUTE, NINE: AT + MINUTE}
    assert remembered(tmp_path).partitions[SEVEN] == Partition(("MIG-a",), AT + 3 * MINUTE)


def test_a_gpu_that_is_not_listed_for_a_while_keeps_what_is_known(tmp_path: Path) -> None:
    """No answer of the driver, a GPU that cannot be read, a Docker that lists nothing: none divides a GPU anew."""
    other = gpu(("c", 3), uuid="GPU-z")
    note(tmp_path, AT, gpu(("a", 7)), other)
    assert note(tmp_path, AT + MINUTE, gpu(("x", 7)), other) == {SEVEN: AT + MINUTE, GpuRef("GPU-z", 3): None}
    for number, listed in enumerate([(), (Gpu("lost:0", 0), other), (other,)], start=2):
        since = note(tmp_path, AT + number * MINUTE, *listed)
        assert since == {SEVEN: AT + MINUTE, GpuRef("GPU-z", 3): None}
    later = note(tmp_path, AT + 9 * MINUTE, gpu(("x", 7)), gpu(("d", 3), uuid="GPU-z"), suspicious=True)
    assert later == {SEVEN: AT + MINUTE, GpuRef("GPU-z", 3): AT + 9 * MINUTE}


def test_a_gpu_that_was_taken_out_is_forgotten_in_the_end(tmp_path: Path) -> None:
    """With everything else of so long ago."""
    note(tmp_path, AT, gpu(("a", 7)))
    assert note(tmp_path, AT + timedelta(days=91), gpu(("c", 3), uuid="GPU-z")) == {GpuRef("GPU-z", 3): None}


def test_a_ledger_of_before_gets_the_table(tmp_path: Path) -> None:
    """It knows nothing yet, and keeps the rest."""
    with closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
        for statement in (*schema.MIGRATIONS[0], *schema.MIGRATIONS[1]):
            connection.execute(statement)
        connection.execute("INSERT INTO breaker VALUES (?)", (schema.stamp(AT),))
        connection.execute("PRAGMA user_version = 2")
    assert (remembered(tmp_path).partitions, remembered(tmp_path).breaker_since) == ({}, AT)
    assert note(tmp_path, AT, gpu(("a", 7))) == {SEVEN: None}


@pytest.mark.parametrize("column", ["devices = 'MIG-a'", "since = 'lately'", "since = 5", "devices = '5'"])
def test_a_row_that_makes_no_sense_is_damage(tmp_path: Path, column: str) -> None:
    """It is named, not guessed at."""
    note(tmp_path, AT, gpu(("a", 7)))
    with closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
        connection.execute(f"UPDATE partitions SET {column}")  # noqa: S608  the table's own text
    with Ledger.open(tmp_path / LEDGER) as ledger, pytest.raises(LedgerError, match="unreadable row"):
        ledger.history()


# ── stories ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Sliced(Host):
    """A host without Prometheus whose GPU is divided; each instance is as busy as is said, idle where nothing is."""

    divided: Gpu = field(default_factory=lambda: gpu(("a", 7), ("b", 9)))
    used: dict[GpuRef, float] = field(default_factory=dict)
    now: datetime = AT
    silent: bool = False  # the driver does not answer

    @property
    def sources(self) -> Sources:
        return Sources(self, None, self, self, self)

    def inventory(self) -> Inventory:
        if self.silent:
            raise SourceError("the driver hangs")
        used = {str(ref): self.used.get(ref, 0.0) for ref in self.divided.refs}
        return Inventory((self.divided,), "nvml", (), used)

    def counters(self, pids: Mapping[str, int]) -> Counters:
        return Counters(self.now.timestamp(), dict.fromkeys(pids, 10.0))


def holding(container: str, name: str, device: str, up: timedelta) -> Json:
    raw = inspect(container, name, up=up)
    raw["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] = [device]
    return raw


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Take what ships; that all of this one GPU is held halves nobody's hour."""
    shipped = load(None, unix_group=lambda _: None)
    return replace(shipped, settings=replace(shipped.settings, high_demand=HighDemand(above=2.0)))


@dataclass
class Story:
    """One host through time, with a real ledger between ticks."""

    policy: Policy
    state: Path
    host: Sliced

    def tick(self, at: datetime) -> Report:
        self.host.now = at
        with closing(Memory(self.state, "gpu01", lambda _: True, reach=reach_of(self.policy))) as memory:
            return tick(self.policy, self.host.sources, memory, DryRun(), lambda: at)

    def until(self, begin: int, end: int) -> dict[int, Verdict]:
        """Tick every five minutes; tell what the idle rule finds for the first container, by minute."""
        return {minute: idle(self.tick(AT + minute * MINUTE), A) for minute in range(begin, end + 1, 5)}


def idle(report: Report, container: str) -> Verdict:
    return next(one for one in report.evaluation.verdicts if one.rule == "idle-gpu" and one.container.id == container)


@pytest.fixture
def story(policy: Policy, tmp_path: Path) -> Story:
    return Story(policy, tmp_path, Sliced({A: holding(A, "train", "0", up=3 * HOUR)}))


def test_idle_hours_of_another_instance_stop_nobody(story: Story) -> None:
    """Divided anew under a running container that may use all of the GPU: its hour begins at the look that saw it."""
    before = story.until(0, 65)
    assert before[65].kind is Kind.ACT
    story.host.divided = gpu(("x", 7), ("b", 9))
    after = story.until(70, 135)
    assert {minute for minute, verdict in after.items() if verdict.kind is Kind.ACT} == {130, 135}
    assert after[70].kind is Kind.UNKNOWN
    assert "its GPU was re-partitioned, seen 2026-03-02 13:10 UTC" in after[70].why
    assert "known from 14:10 UTC on" in after[75].why
    assert after[125].kind in (Kind.UNKNOWN, Kind.WARN)


def test_what_vanished_and_came_back_begins_anew(story: Story) -> None:
    """Nobody knows what happened in between."""
    story.until(0, 65)
    story.host.divided = gpu(("b", 9))
    gone = story.until(70, 70)[70]
    assert gone.kind is Kind.ACT, "what is left of the GPU is the same as ever, and idle"
    story.host.divided = gpu(("a", 7), ("b", 9))
    back = story.until(75, 135)
    assert {minute for minute, verdict in back.items() if verdict.kind is Kind.ACT} == {135}


def test_a_change_to_a_neighbouring_instance_costs_nothing(story: Story) -> None:
    """Who holds one instance by its name is not asked to wait because another one was made."""
    story.host.inspects[A] = holding(A, "train", "MIG-b", up=3 * HOUR)
    story.until(0, 65)
    story.host.divided = gpu(("b", 9), ("x", 7), ("y", 3))
    assert story.until(70, 70)[70].kind is Kind.ACT


def test_who_was_given_a_place_is_protected_once_another_device_may_stand_there(story: Story) -> None:
    """`0:1` was instance 9 when it started; now it is another one, idle for hours. Only a restart makes it clear."""
    story.host.inspects[A] = holding(A, "train", "0:1", up=3 * HOUR)
    story.host.inspects[B] = holding(B, "other", "MIG-c", up=3 * HOUR)
    story.host.divided = gpu(("a", 7), ("b", 9), ("c", 3))
    story.host.used = {NINE: 0.9}
    assert story.until(0, 65)[65].kind is Kind.CLEAR
    story.host.divided = gpu(("b", 9), ("c", 3))
    for minute in (70, 200, 500):
        verdict = story.until(minute, minute)[minute]
        assert verdict.kind is Kind.UNKNOWN
        assert "which was re-partitioned under it (seen 2026-03-02 13:10 UTC)" in verdict.why
        assert {piece.reading.missing for piece in verdict.evidence if piece.label == "gpu"} == {Missing.NOT_JOINED}
    story.host.inspects[A] = holding(A, "train", "0:1", up=-8 * HOUR)
    assert idle(story.tick(AT + 570 * MINUTE), A).container.gpus.unclear == ""


def test_a_driver_that_does_not_answer_makes_nobody_forget(story: Story) -> None:
    """A name that says itself which instance it means is resolved without the driver; what is known of that stays."""
    story.host.inspects[A] = holding(A, "train", f"MIG-{UUID}/7/0", up=3 * HOUR)
    story.until(0, 65)
    story.host.divided = gpu(("x", 7), ("b", 9))
    story.until(70, 75)
    story.host.silent = True
    verdict = story.until(80, 80)[80]
    assert verdict.container.gpus.since == {SEVEN: AT + 70 * MINUTE}
    assert (verdict.kind, verdict.container.gpus.unclear) == (Kind.UNKNOWN, "")
    story.host.silent = False
    assert story.until(85, 85)[85].container.gpus.since == {SEVEN: AT + 70 * MINUTE}


def test_a_cold_ledger_holds_nothing_against_anybody(story: Story) -> None:
    """When the instances were made is not known, so samples count as far back as the container's own start."""
    assert story.until(0, 65)[65].kind is Kind.ACT
    assert idle(story.tick(AT + 70 * MINUTE), A).container.gpus.since == {}


def test_who_only_looks_finds_the_same(story: Story) -> None:
    """From the ledger, and from a recording of it."""
    story.until(0, 65)
    story.host.divided = gpu(("x", 7), ("b", 9))
    story.until(70, 85)
    at = AT + 88 * MINUTE
    story.host.now = at
    history = remembered(story.state, reach_of(story.policy))
    found = idle(look(story.policy, story.host.sources, at, history), A)
    again = idle(look(story.policy, story.host.sources, at, history_of(history_json(history))), A)
    assert found.container.gpus.since == {SEVEN: AT + 70 * MINUTE}
    assert found == again
    assert found.kind is Kind.UNKNOWN


def test_a_change_seen_right_before_acting_ends_the_act(story: Story) -> None:
    """What was decided a moment ago rests on samples of an instance that is no longer there."""
    story.until(0, 60)
    at = AT + 65 * MINUTE
    history = remembered(story.state, reach_of(story.policy))
    report = story.tick(at)
    (due,) = [one for one in report.plan.decisions if one.verdict.rule == "idle-gpu" and one.destructive]

    def again() -> str:
        return still_due(story.policy, story.host.sources, lambda: at, history, report.evaluation.demand, [due])[due.id]

    assert again() == ""
    story.host.divided = gpu(("x", 7), ("b", 9))
    assert "its GPU was re-partitioned, seen 2026-03-02 13:05 UTC" in again()
