"""Stories of whole hosts over hours and days, each of which has cost somebody their work or their GPU somewhere.

Decision tables tell single moments; here the same functions meet one tick after another, with a real ledger between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_host import on_demo
from config_fixtures import loaded, wrong
from whole_host import AT, DIGITS, GPUS, HOUR, MINUTE, A, B, Host, inspect, when

from ds01_policy.act.dry_run import DryRun
from ds01_policy.config.load import load
from ds01_policy.evaluate import evaluate
from ds01_policy.exemptions import Exemption
from ds01_policy.memory import Memory
from ds01_policy.model import Action, GpuRef, HeldBy, Kind, Mode
from ds01_policy.observe.envelope import SourceDown
from ds01_policy.observe.ports import FileStat, Json
from ds01_policy.observe.samples import gauge_samples
from ds01_policy.policy import Policy
from ds01_policy.report.about import About
from ds01_policy.report.document import document, dumps
from ds01_policy.report.explain import explain_text
from ds01_policy.report.layout import Clock, Page
from ds01_policy.report.tables import Tick, table
from ds01_policy.rules import Selector
from ds01_policy.scenario import scenario
from ds01_policy.tick import Report, tick

HOSTILE = "\x1b[31m\u202e';--\"\n{{ 7*7 }} $(reboot) \r\x00\u200b名前"


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Take what ships, in mode observe: there the whole ladder is gone through without touching anything."""
    return load(None, unix_group=lambda _: None)


@dataclass
class Story:
    """One host through time."""

    policy: Policy
    state: Path
    host: Host = field(default_factory=Host)

    def tick(self, at: datetime) -> Report:
        with closing(Memory(self.state, "gpu01", lambda _: True)) as memory:
            return tick(self.policy, self.host.sources, memory, DryRun(), lambda: at)


@pytest.fixture
def story(policy: Policy, tmp_path: Path) -> Story:
    return Story(policy, tmp_path / "state")


def found(report: Report, name: str, rule: str = "idle-gpu") -> Kind | None:
    """Tell what a rule found; None: it is not about this container."""
    each = (one for one in report.evaluation.verdicts if (one.container.name, one.rule) == (name, rule))
    return next((one.kind for one in each), None)


def plan(report: Report) -> dict[str, str]:
    return {
        f"{one.container.name} {one.verdict.rule} {one.actions[0]}": str(one.held_by) for one in report.plan.decisions
    }


def restarted(raw: Json, at: datetime, ended: datetime, status: str = "running") -> Json:
    """Give a container a new life, as the engine would show it."""
    return {**raw, "State": {**raw["State"], "Status": status, "StartedAt": when(at), "FinishedAt": when(ended)}}


# ── somebody's work ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_container_under_an_old_name_starts_from_nothing(story: Story) -> None:
    """Its predecessor was warned an hour ago; it gets a warning and a notice of its own."""
    story.host.inspects[A] = inspect(A, "train")
    assert plan(story.tick(AT)) == {"train idle-gpu warn": "mode", "train idle-gpu stop": "notice"}
    assert plan(story.tick(AT + 15 * MINUTE)) == {"train idle-gpu stop": "mode"}
    del story.host.inspects[A]
    story.host.inspects[B] = inspect(B, "train")  # up for three hours at noon, whatever it was called before
    assert plan(story.tick(AT + 20 * MINUTE)) == {"train idle-gpu warn": "mode", "train idle-gpu stop": "notice"}


def test_a_restart_asks_for_a_new_warning(story: Story) -> None:
    """The old life's warning is not the new one's notice, and the hour before the restart is not held against it."""
    raw = story.host.inspects[A] = inspect(A, "train")
    story.tick(AT)
    assert plan(story.tick(AT + 15 * MINUTE)) == {"train idle-gpu stop": "mode"}
    story.host.inspects[A] = restarted(raw, AT + 16 * MINUTE, AT + 15 * MINUTE)
    assert found(story.tick(AT + 20 * MINUTE), "train") is Kind.YOUNG
    again = story.tick(AT + 80 * MINUTE)
    assert plan(again) == {"train idle-gpu warn": "mode", "train idle-gpu stop": "notice"}


def test_work_between_two_idle_stretches_ends_the_warning(story: Story) -> None:
    """Who worked since is warned again before anything follows."""
    story.host.inspects[A] = inspect(A, "train")
    story.tick(AT)
    story.host.busy[0], story.host.until[0] = AT + 5 * MINUTE, AT + 25 * MINUTE
    assert found(story.tick(AT + 15 * MINUTE), "train") is Kind.CLEAR
    later = story.tick(AT + 90 * MINUTE)
    assert plan(later) == {"train idle-gpu warn": "mode", "train idle-gpu stop": "notice"}


def test_docker_listing_nothing_for_a_moment_ends_nothing(story: Story) -> None:
    """It is reported; when all are there again, their warnings still stand."""
    everyone: dict[str, Any] = {one: inspect(one, f"c{one[0]}", int(one[0])) for one in DIGITS[:4]}
    story.host.inspects = dict(everyone)
    story.tick(AT)
    story.host.inspects = {}
    for minutes in (5, 10):
        empty = story.tick(AT + minutes * MINUTE)
        assert "docker_empty" in {problem.code for problem in empty.snapshot.problems}
        assert empty.plan.decisions == ()
    story.host.inspects = everyone
    back = story.tick(AT + 15 * MINUTE)
    assert {key for key in plan(back) if key.endswith("warn")} == set(), "nobody is told twice"
    assert len(plan(back)) == 4


def test_a_host_that_turns_idle_at_once_is_believed_only_after_a_while(story: Story) -> None:
    """From one minute to the next all metrics say zero: nobody is warned for two hours, then it is taken for real."""
    for number in range(4):
        story.host.inspects[DIGITS[number]] = inspect(DIGITS[number], f"c{number}", number, up=9 * HOUR)
        story.host.busy[number], story.host.until[number] = AT - 9 * HOUR, AT
    assert found(story.tick(AT + 45 * MINUTE), "c0") is Kind.CLEAR
    held = []
    for minutes in range(50, 200, 10):
        report = story.tick(AT + minutes * MINUTE)
        warnings = {value for key, value in plan(report).items() if key.endswith("warn")}
        held.append((minutes, warnings))
    assert all(warnings == {"breaker"} for minutes, warnings in held if minutes < 170), held
    assert held[-1][1] != {"breaker"}
    assert {"mode"} in [warnings for _, warnings in held], "then they are warned"


@pytest.mark.parametrize("dark", [1, 3], ids=["one tick", "several ticks"])
def test_an_outage_before_the_host_turns_idle_does_not_disarm_the_breaker(story: Story, dark: int) -> None:
    """All work, the metrics go away, and come back with zeros for the whole window: a collector that was restarted."""
    for number in range(4):
        story.host.inspects[DIGITS[number]] = inspect(DIGITS[number], f"c{number}", number, up=9 * HOUR)
        story.host.busy[number] = AT - 9 * HOUR
    assert found(story.tick(AT), "c0") is Kind.CLEAR
    story.host.metrics = SourceDown("connection refused")
    for ticks in range(1, dark + 1):
        assert found(story.tick(AT + ticks * 10 * MINUTE), "c0") is Kind.UNKNOWN
    story.host.metrics = None
    story.host.busy.clear()
    back = story.tick(AT + (dark + 1) * 10 * MINUTE)
    assert found(back, "c0") is Kind.ACT
    assert {value for key, value in plan(back).items() if key.endswith("warn")} == {"breaker"}


@pytest.mark.parametrize(
    ("selector", "told"),
    [
        (Selector("owner", ("alice",)), ["train (aaaaaaaaaaaa) is exempt as alice's, which only label ds01.user says"]),
        (
            Selector("group", ("student",)),
            ["train (aaaaaaaaaaaa) is exempt as alice's, which only label ds01.user says"],
        ),
        (Selector("name", ("train",)), []),
    ],
    ids=["by owner", "by group", "by name"],
)
def test_an_exemption_that_rests_on_an_unproven_owner_is_told_of(
    story: Story, selector: Selector, told: list[str]
) -> None:
    """Anybody can write alice's name into a label; where the exemption asks for no name, that does not matter."""
    exemption = Exemption((selector,), ("*",), "a demonstration", "admin", AT + HOUR)
    story.policy = replace(story.policy, exemptions=(exemption,))
    story.host.inspects[A] = inspect(A, "train")
    report = story.tick(AT)
    assert found(report, "train") is Kind.EXEMPT
    problems = (*report.snapshot.problems, *report.evaluation.problems)
    assert [one.detail for one in problems if one.code == "owner_unproven"] == told


NEVER = {"idle_timeout": None, "max_runtime": None}


@pytest.mark.parametrize(
    ("users", "groups", "told"),
    [
        ({"alice": NEVER}, {}, True),
        ({}, {"student": NEVER}, False),
        ({"alice": {"idle_timeout": None}}, {}, False),
    ],
    ids=["her own limits", "the limits of the group that anybody is in", "one of them, and another rule still holds"],
)
def test_never_by_somebody_elses_name_is_told_of(
    story: Story, users: dict[str, Any], groups: dict[str, Any], *, told: bool
) -> None:
    """A label is enough to borrow a `never`; whoever reads the report learns of it."""
    limits = story.policy.limits
    changed = {name: replace(group, limits=groups.get(name, group.limits)) for name, group in limits.groups.items()}
    story.policy = replace(story.policy, limits=replace(limits, users=users, groups=changed))
    story.host.inspects[A] = inspect(A, "train")
    report = story.tick(AT)
    assert found(report, "train") is Kind.OFF
    problems = [one.detail for one in report.evaluation.problems if one.code == "owner_unproven"]
    words = "train (aaaaaaaaaaaa) is left alone for ever as alice's, which only label ds01.user says"
    assert problems == ([words] if told else [])


def test_a_keep_alive_file_that_cannot_be_looked_for_is_told_of(story: Story) -> None:
    """It protects for as long as that is so: nobody should have to find that out by chance."""
    story.host.inspects[A] = inspect(A, "train")
    story.host.files[A] = SourceDown("HTTP 500: permission denied")
    report = story.tick(AT)
    assert found(report, "train") is Kind.UNKNOWN
    details = [one.detail for one in report.snapshot.problems if one.code == "keep_alive_unreadable"]
    assert details == [
        "train (aaaaaaaaaaaa): whether it has a keep-alive file is not known: HTTP 500: permission denied"
    ]


def test_what_a_warning_said_holds_although_the_limit_becomes_shorter(story: Story) -> None:
    """Warned after 48 of its 60 minutes: not before they are over. Then an admin halves them."""
    story.host.inspects[A] = inspect(A, "train", up=12 * HOUR)
    story.host.busy[0], story.host.until[0] = AT - 12 * HOUR, AT - 48 * MINUTE
    story.policy = replace(story.policy, limits=replace(story.policy.limits, unknown_owner={}))
    first = story.tick(AT)
    (warning,) = first.plan.decisions
    assert (warning.actions, warning.act_at) == ((Action.WARN,), AT + 12 * MINUTE)
    limits = story.policy.limits
    half = {**limits.defaults, "idle_timeout": HOUR / 2}
    story.policy = replace(story.policy, limits=replace(limits, defaults=half))
    (act,) = story.tick(AT + 11 * MINUTE).plan.decisions
    assert (act.verdict.kind, act.held_by) == (Kind.ACT, HeldBy.NOTICE)
    assert act.detail == f"the warning said: not before {AT + 12 * MINUTE:%Y-%m-%d %H:%M} UTC; 1m left"
    assert plan(story.tick(AT + 12 * MINUTE)) == {"train idle-gpu stop": "mode"}


def test_an_outage_while_the_breaker_withholds_does_not_let_go(story: Story) -> None:
    """Held back for two hours from when they turned idle, whatever could not be asked in between."""
    for number in range(4):
        story.host.inspects[DIGITS[number]] = inspect(DIGITS[number], f"c{number}", number, up=9 * HOUR)
        story.host.busy[number] = AT - 9 * HOUR
    story.tick(AT)
    story.host.busy.clear()
    assert set(plan(story.tick(AT + 10 * MINUTE)).values()) >= {"breaker"}
    story.host.metrics = SourceDown("connection refused")
    dark = story.tick(AT + 20 * MINUTE)
    assert "all containers turned idle in one tick" in dark.plan.breaker
    story.host.metrics = None
    for minutes, held in ((30, True), (125, True), (135, False)):
        back = story.tick(AT + minutes * MINUTE)
        assert {value == "breaker" for key, value in plan(back).items() if key.endswith("warn")} == {held}, minutes


def test_whoever_restarts_for_ever_is_stopped_in_the_end(story: Story) -> None:
    """Every 25 minutes: never idle for long enough, and the notice of 30 would never be over in any one life."""
    raw = inspect(A, "train", up=47 * HOUR)
    held = {}
    for minutes in range(0, 180, 5):
        begun = AT + (minutes // 25 * 25) * MINUTE
        story.host.inspects[A] = restarted(raw, begun, begun - timedelta(seconds=2)) if minutes >= 25 else raw
        held[minutes] = plan(story.tick(AT + minutes * MINUTE))
    warned = [minutes for minutes, due in held.items() if "train max-runtime warn" in due]
    assert len(warned) == 1, "warned once, in whichever life"
    assert held[60]["train max-runtime stop"] == "mode", "which is all that keeps it alive in this story"
    assert held[175] == {"train max-runtime stop": "mode"}


def test_who_has_been_idle_for_long_is_not_starved_by_what_others_leave(policy: Policy, tmp_path: Path) -> None:
    """One may be ended at a tick, and at every tick another ended container is due as well."""
    narrow = replace(policy.settings, budget=replace(policy.settings.budget, per_run=1))
    story = Story(replace(policy, settings=narrow), tmp_path / "state")
    train = inspect(A, "train")
    acts = []
    for ticks in range(8):
        at = AT + ticks * 5 * MINUTE
        left = restarted(inspect(DIGITS[1], "left", 1, status="exited"), at - 9 * HOUR, at - 31 * MINUTE, "exited")
        story.host.inspects = {A: train, DIGITS[1]: left}
        due = plan(story.tick(at))
        acts.append({name for name in ("train", "left") for key, held in due.items() if name in key and held == "mode"})
    assert {"train", "left"} <= set().union(*acts)


def test_a_gpu_that_is_renumbered_under_a_container_is_not_taken_for_its_own(story: Story) -> None:
    """It works on the third GPU, which it was given by number; the first one goes away, and another is the third."""
    story.host.inspects[A] = inspect(A, "train", 2)
    story.host.busy[2] = AT - 9 * HOUR
    mine = story.tick(AT).snapshot.containers[0].gpus.refs
    story.host.gpus = tuple(replace(gpu, index=gpu.index - 1) for gpu in GPUS[1:])
    for minutes in (5, 10, 70):
        later = story.tick(AT + minutes * MINUTE)
        assert found(later, "train") is Kind.UNKNOWN, minutes
        (container,) = later.snapshot.containers
        assert container.gpus.refs == mine
        assert "the host's were renumbered" in container.gpus.unclear
        assert not [key for key in plan(later) if "idle-gpu" in key]


MIG = "GPU-00000000-0000-4000-8000-0000000000aa"


@pytest.mark.parametrize(
    ("raw", "devices", "kind"),
    [
        pytest.param("0.9", "instance", Kind.CLEAR, id="a busy slice reads 0.9 of 1, which is no 0.9 %"),
        pytest.param("0.14", "instance", Kind.CLEAR, id="a busy slice beside others reads 0.14"),
        pytest.param("0.003", "instance", Kind.ACT, id="an idle slice"),
        pytest.param("90", "whole", Kind.CLEAR, id="a busy whole GPU reads 90 of 100"),
        pytest.param("0.9", "whole", Kind.ACT, id="a whole GPU at 0.9 %"),
    ],
)
def test_ratios_and_percentages_are_told_apart(policy: Policy, raw: str, devices: str, kind: Kind) -> None:
    """One rule says 5 % for both metrics; the shipped signal brings them to one unit."""
    signal = policy.signals["gpu_utilization"]
    query = next(one for one in signal.queries if one.devices == devices)
    key = GpuRef(MIG, 1) if devices == "instance" else GpuRef(MIG)
    labels = {"UUID": MIG, **({"GPU_I_ID": "1"} if devices == "instance" else {})}
    now = AT.timestamp()
    rows = [{"metric": labels, "values": [[now - 30 * ago, raw] for ago in range(130, -1, -1)]}]
    samples = gauge_samples(signal, query, rows, {key}, 30.0, 75.0).series[key]
    words = {"gpus": ["a"], "gpu": "0x180", "cpu": "0x180", "network": "0x180"}
    built = scenario(policy, {"containers": {"train": words}})
    (held,) = built.snapshot.containers[0].gpus.refs
    answers = dict(built.snapshot.answers)
    answers[signal.name] = (replace(answers[signal.name][0], series={held: samples}),)
    evaluation = evaluate(policy, replace(built.snapshot, at=AT, answers=answers))
    assert next(one.kind for one in evaluation.verdicts if one.rule == "idle-gpu") is kind


@pytest.mark.parametrize(
    ("up", "series", "kind"),
    [
        pytest.param("31m", "0x180", Kind.YOUNG, id="its zeros are not the next one's"),
        pytest.param("65m", "90x115 0x65", Kind.ACT, id="nor is its work"),
        pytest.param("65m", "0x115 90x65", Kind.CLEAR, id="and what is its own counts"),
    ],
)
def test_a_slice_that_belonged_to_somebody_else_an_hour_ago(policy: Policy, up: str, series: str, kind: Kind) -> None:
    """Instance numbers are used again at once: only what was measured in the container's own life is about it."""
    words = {"gpus": ["a/0"], "up": up, "gpu": series, "cpu": "0x180", "network": "0x180"}
    built = scenario(policy, {"gpus": {"a": "2"}, "containers": {"next": words}})
    evaluation = evaluate(policy, built.snapshot)
    assert next(one.kind for one in evaluation.verdicts if one.rule == "idle-gpu") is kind


LIMITS = """\
version: 1
defaults: {idle_timeout: 60m, container_hold_after_stop: 30m, FURTHER}
default_group: student
groups: {student: {limits: {}}}
container_types: {native: {}, docker: {}, compose: {}, devcontainer: {}, unknown: {}}
"""


def limits(further: str) -> str:
    return LIMITS.replace("FURTHER", further)


PATIENT = """\
version: 1
rules:
  - {id: patient, match: {state: created, gpu: true}, for: {limit: patience}, then: [remove]}
"""


def test_a_limit_that_nobody_sets_is_neither_zero_nor_never(tmp_path: Path) -> None:
    """`never` is a word that an admin writes; what is not set is refused, and cannot be judged in any case."""
    row = {"containers": {"hers": {"state": "created", "created": "9h"}}}
    for default, kind, words in (
        ("patience: never", Kind.OFF, "patience is never (defaults)"),
        ("patience: 1h", Kind.ACT, "created for 9h"),
    ):
        policy = loaded(tmp_path, {"limits.yaml": limits(default), "rules/patient.yaml": PATIENT})
        (verdict,) = evaluate(policy, scenario(policy, row).snapshot).verdicts
        assert verdict.kind is kind
        assert words in verdict.why
    bare = replace(policy, limits=replace(policy.limits, defaults={}))
    (verdict,) = evaluate(bare, scenario(bare, row).snapshot).verdicts
    assert (verdict.kind, verdict.why) == (Kind.UNKNOWN, "no limit patience is set for it: add it to limits.yaml")
    (refused,) = wrong(tmp_path, {"limits.yaml": limits("stop_grace: 60s"), "rules/patient.yaml": PATIENT})
    assert "no limit 'patience' in limits.yaml's defaults" in refused.message


@pytest.mark.parametrize(
    ("value", "hours"),
    [("0.5h", 0.5), ("30m", 0.5), ("24h", 24), ("1d", 24), ("48", None), ("null", None), ("0", None)],
)
def test_a_limit_means_what_it_says_or_nothing_at_all(tmp_path: Path, value: str, hours: float | None) -> None:
    """Half an hour is not five hours, a day is not for ever, and a number without a unit is refused."""
    files = {"limits.yaml": limits(f"max_runtime: {value}")}
    if hours is None:
        assert [Path(one.file).name for one in wrong(tmp_path, files)] == ["limits.yaml"]
    else:
        assert loaded(tmp_path, files).limits.defaults["max_runtime"] == timedelta(hours=hours)


def test_the_time_zone_of_the_host_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The document is the same, byte for byte, in Berlin and on the other side of the world."""
    seen = set()
    for zone in ("UTC", "Europe/Berlin", "Pacific/Kiritimati"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        seen.add(on_demo("preview", "--all", "--json").stdout)
    monkeypatch.delenv("TZ")
    time.tzset()
    assert len(seen) == 1


# ── what idles for ever ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_restart_each_night_is_no_way_around_the_maximum_runtime(story: Story) -> None:
    """The ledger knows the lives before; after two days the rule is due as if it had never been restarted."""
    raw = inspect(A, "train", up=HOUR)
    story.host.busy[0] = AT - HOUR
    due = []
    for hours in range(0, 60, 2):
        at = AT + hours * HOUR
        nights = hours // 24
        began = AT + nights * 24 * HOUR - HOUR
        story.host.inspects[A] = restarted(raw, began, began - MINUTE) if nights else raw
        report = story.tick(at)
        assert found(report, "train") in (Kind.CLEAR, Kind.YOUNG), "it works, and is not idle"
        if found(report, "train", "max-runtime") is Kind.ACT:
            due.append(hours)
    assert due[0] == 48 - 2 + 2, "the first look after two days of running"
    assert due == list(range(48, 60, 2))


def test_a_crash_loop_is_running_as_well(story: Story) -> None:
    """Up for a minute each time, and between two lives `restarting`: its clock is that of the loop."""
    raw = inspect(A, "loop", up=MINUTE, labels={"ds01.user": ""})
    few = replace(story.policy.limits, unknown_owner={"max_runtime": 4 * HOUR})
    story.policy = replace(story.policy, limits=few)
    kinds = []
    for number in range(5 * 5):
        at = AT + number * 12 * MINUTE
        status = "restarting" if number % 2 else "running"
        story.host.inspects[A] = restarted(raw, at - MINUTE, at - 2 * MINUTE, status)
        kinds.append(found(story.tick(at), "loop", "max-runtime"))
    assert kinds[0] is Kind.CLEAR
    assert kinds.index(Kind.ACT) == 4 * 5
    assert kinds.index(Kind.WARN) == 0.9 * 4 * 5


def test_a_file_that_cron_touches_every_hour_keeps_for_a_day(story: Story) -> None:
    """Counted from the first tick of the idle spell that it held back, however fresh it is, or dated 2099."""
    story.host.inspects[A] = inspect(A, "train")
    kinds: dict[int, Kind | None] = {}
    for hours in range(30):
        at = AT + hours * HOUR
        story.host.files[A] = FileStat(at if hours % 2 else at + 999 * 24 * HOUR)
        kinds[hours] = found(story.tick(at), "train")
    assert {hours for hours, kind in kinds.items() if kind is Kind.EXEMPT} == set(range(24))
    assert {kinds[hours] for hours in range(24, 30)} == {Kind.ACT}


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        pytest.param({"ds01.monitoring": "true"}, "alice", id="calls itself monitoring"),
        pytest.param({"ds01.protected": "true"}, "alice", id="calls itself protected"),
        pytest.param({"ds01.protected": "true", "ds01.user": "root"}, "root", id="and root's, by a mere label"),
        pytest.param({"ds01.container_type": "devcontainer"}, "alice", id="calls itself an editor"),
    ],
)
def test_a_label_that_anybody_can_set_does_not_keep_a_gpu_for_ever(
    story: Story, labels: Mapping[str, str], owner: str
) -> None:
    """A type may change which limits hold; the maximum runtime ends it in any case."""
    story.host.inspects[A] = inspect(A, "prometheus-exporter", up=200 * HOUR, labels=labels)
    report = story.tick(AT)
    (container,) = report.snapshot.containers
    assert container.owner == owner
    assert not container.infrastructure
    assert found(report, "prometheus-exporter", "max-runtime") is Kind.ACT


# ── what users write ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_hostile_text_goes_nowhere_raw(story: Story) -> None:
    """Name, image, labels, owner, folder: in no query, and as visible escapes in every text and document."""
    raw = inspect(A, f"x{HOSTILE}", image=f"img{HOSTILE}", labels={"ds01.user": HOSTILE, HOSTILE: HOSTILE})
    raw["Mounts"] = [{"Type": "bind", "Source": f"/home/{HOSTILE}/x", "Destination": f"/{HOSTILE}"}]
    raw["HostConfig"]["NetworkMode"] = f"net{HOSTILE}"
    story.host.inspects = {A: raw, B: inspect(B, "beside", 1, labels={"ds01.protected": "true"})}
    report = story.tick(AT)
    assert len(report.snapshot.containers) == 2
    assert story.host.asked
    assert all(character.isascii() and character.isprintable() for promql in story.host.asked for character in promql)
    assert all("reboot" not in promql and "beside" not in promql for promql in story.host.asked)
    clock = Clock(AT)
    shown = Tick("evaluate", Mode.OBSERVE, report.snapshot, report.evaluation, report.plan, (), report.problems)
    texts = [table(shown, Page(), clock, all_=True, rule=None)]
    for container in report.snapshot.containers:
        about = About(
            story.policy, Mode.OBSERVE, report.snapshot, report.evaluation, report.plan, report.history, container
        )
        texts.append(explain_text(about, Page(), clock))
    for text in texts:
        assert all(character.isprintable() for character in text.replace("\n", ""))
        assert r"\x1b[31m\u202e" in text or "beside" in text
    written = dumps(document("preview", "", Mode.OBSERVE, report.snapshot, report.evaluation, report.plan, all_=True))
    assert written.isascii()
    names = {one["name"] for one in json.loads(written)["containers"]}
    assert names == {f"x{HOSTILE}", "beside"}, "programs get it as it is"


def test_the_host_has_enough_gpus_for_these_stories() -> None:
    """High demand would halve the timeouts they are about."""
    assert len(GPUS) > 4 / 0.8
