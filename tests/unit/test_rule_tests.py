"""What a rule must say against what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ds01_policy.config.load import load
from ds01_policy.model import Mode
from ds01_policy.rule_tests import NO_MATCH, Case, Wanted, run

POLICY = load(None, unix_group=lambda _: None)
ENFORCING = replace(POLICY, settings=replace(POLICY.settings, mode=Mode.ENFORCE))
QUIET = {"gpu": "0x180", "cpu": "0x180", "network": "0x180"}
IDLE: dict[str, Any] = {**QUIET, "warned": {"idle-gpu": "25m"}}  # due now
NEW: dict[str, Any] = QUIET  # due, and not warned yet
NEAR: dict[str, Any] = {"gpu": "90x130 0x50", "cpu": "0x180", "network": "0x180"}  # due in 12 minutes
BUSY: dict[str, Any] = {**QUIET, "gpu": "80x180"}
OLD: dict[str, Any] = {"state": "exited", "ended": "45m"}  # of stopped-retention, 15 minutes too long
EXEMPT: dict[str, Any] = {**IDLE, "infrastructure": True}
BLIND: dict[str, Any] = {"cpu": "0x180", "network": "0x180"}
IDLE_SO_FAR = "idle for 48m of 60m: gpu 0% < 5%, cpu 0% < 1%, network 0 B/s < 10 KiB/s"
DEV: dict[str, Any] = {**IDLE, "type": "devcontainer"}


def differing(words: dict[str, Any], wanted: Wanted | None, rule: str = "idle-gpu") -> list[tuple[str, str, str]]:
    expect = {"c": None if wanted is None else {rule: wanted}}
    found = run(Case("it", 1, ENFORCING, {"containers": {"c": words}}, expect)).differences
    assert all((each.container, each.rule) == ("c", "" if wanted is None else rule) for each in found)
    return [(each.what, each.expected, each.found) for each in found]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (IDLE, Wanted("act")),
        (IDLE, Wanted(why=("idle for 60m", "gpu 0% < 5%"))),
        (IDLE, Wanted("act", for_=timedelta(hours=1), due="now")),
        (IDLE, Wanted(actions=("stop", "remove", "epilog"), disposition="enforce")),
        (IDLE, Wanted(disposition="enforce")),
        (NEW, Wanted(actions=("warn",), disposition="enforce")),
        (NEW, Wanted(actions=("stop", "remove", "epilog"), disposition="notice")),
        (NEW, Wanted(disposition="notice")),
        (NEAR, Wanted("warn", due="12m", actions=("warn",))),
        (NEAR, Wanted(due="2026-03-02T12:12:00+00:00")),
        (BUSY, Wanted("clear", due="never", actions=())),
        (BLIND, Wanted("unknown", missing="no_series")),
        (EXEMPT, Wanted("exempt", held_by="infrastructure")),
        (DEV, Wanted(NO_MATCH)),
    ],
)
def test_what_is_as_expected(words: dict[str, Any], wanted: Wanted) -> None:
    """Only what the test says is compared."""
    assert differing(words, wanted) == []


@pytest.mark.parametrize(
    ("words", "wanted", "said"),
    [
        (IDLE, Wanted("clear"), [("verdict", "clear", "act")]),
        (DEV, Wanted("act"), [("verdict", "act", NO_MATCH)]),
        (DEV, Wanted(due="now"), [("verdict", "one", NO_MATCH)]),
        (IDLE, Wanted(NO_MATCH), [("verdict", NO_MATCH, "act")]),
        (NEAR, Wanted(why=("idle", "gpu 9%", "cpu 9%")), [("why", "gpu 9% … cpu 9%", IDLE_SO_FAR)]),
        (IDLE, Wanted(for_=timedelta(hours=2)), [("for", "2h", "60m")]),
        (IDLE, Wanted(for_=timedelta(days=1, hours=1, seconds=1)), [("for", "90001s", "60m")]),
        (IDLE, Wanted(due="1s"), [("due", "1s", "now")]),
        (IDLE, Wanted(due="never"), [("due", "never", "now")]),
        (NEAR, Wanted(due="now"), [("due", "now", "12m")]),
        (NEAR, Wanted(due="11m59s"), [("due", "11m59s", "12m")]),
        (NEAR, Wanted(due="2026-03-02T12:11:59Z"), [("due", "2026-03-02T12:11:59Z", "12m")]),
        (BUSY, Wanted(due="now"), [("due", "now", "never")]),
        (BLIND, Wanted(missing="stale"), [("missing", "stale", "no_series")]),
        (IDLE, Wanted(missing="stale"), [("missing", "stale", "nothing")]),
        (EXEMPT, Wanted(held_by="exempted"), [("held_by", "exempted", "infrastructure")]),
        (IDLE, Wanted(held_by="exempted"), [("held_by", "exempted", "nothing")]),
        (IDLE, Wanted(actions=("stop",)), [("actions", "stop", "stop, remove, epilog")]),
        (NEW, Wanted(actions=("stop",)), [("actions", "stop", "warn; stop, remove, epilog")]),
        (IDLE, Wanted(actions=()), [("actions", "nothing is due", "stop, remove, epilog")]),
        (BUSY, Wanted(actions=("warn",)), [("actions", "warn", "nothing is due")]),
        (IDLE, Wanted(disposition="notice"), [("disposition", "notice", "enforce")]),
        (NEW, Wanted(actions=("warn",), disposition="notice"), [("disposition", "notice", "enforce")]),
        (NEW, Wanted(disposition="enforce"), [("disposition", "enforce", "notice")]),
        (BUSY, Wanted(disposition="enforce"), [("disposition", "enforce", "nothing is due")]),
        (IDLE, None, [("rules", NO_MATCH, "idle-gpu, max-runtime")]),
    ],
)  # fmt: skip
def test_what_is_not_as_expected(
    words: dict[str, Any], wanted: Wanted | None, said: list[tuple[str, str, str]]
) -> None:
    """Each thing that differs, expected and found."""
    assert differing(words, wanted) == said


@pytest.mark.parametrize(
    ("due", "said"),
    [("15m ago", []), ("now", []), ("14m ago", [("due", "14m ago", "15m ago")]), ("15m", [("due", "15m", "15m ago")])],
)
def test_what_was_due_before(due: str, said: list[tuple[str, str, str]]) -> None:
    """Rules over clocks know since when."""
    assert differing(OLD, Wanted(due=due), "stopped-retention") == said


def test_the_whole_plan() -> None:
    """Everything that is due, nothing else, each with what holds it."""
    row = {"containers": {"c": NEW}}
    plan = {"c idle-gpu warn": "enforce", "c idle-gpu stop+remove+epilog": "notice"}
    assert run(Case("it", 1, ENFORCING, row, {}, plan)).differences == ()
    wrong = {"c idle-gpu warn": "mode", "c max-runtime warn": "enforce"}
    found = run(Case("it", 1, ENFORCING, row, {}, wrong)).differences
    assert [(each.what, each.expected, each.found) for each in found] == [
        ("plan: c idle-gpu warn", "mode", "enforce"),
        ("plan: c max-runtime warn", "enforce", "not due"),
        ("plan: c idle-gpu stop+remove+epilog", "not due", "notice"),
    ]
    assert len(run(Case("it", 1, ENFORCING, row, {}, {})).differences) == 2


def test_problems() -> None:
    """Those that are named must be among them."""
    row = {"containers": {"c": {**IDLE, "type": "slurm"}}}
    assert run(Case("it", 1, ENFORCING, row, {}, problems=("unlisted_type",))).differences == ()
    (each,) = run(Case("it", 1, ENFORCING, row, {}, problems=("owner_unproven",))).differences
    assert (each.what, each.expected, each.found) == ("problem", "owner_unproven", "unlisted_type")


def test_looks_of_our_own_are_weaker_than_samples() -> None:
    """`source: local`: five minutes apart, and between two looks the busier one holds."""
    busy_once = {**QUIET, "gpu": "0x150 90x5 0x25"}

    def kind(source: str, words: dict[str, Any]) -> str:
        return (
            run(Case("it", 1, ENFORCING, {"source": source, "containers": {"c": words}}, {}))
            .verdicts["c", "idle-gpu"]
            .kind
        )

    assert [kind(source, QUIET) for source in ("prometheus", "local")] == ["act", "act"]
    assert [kind(source, busy_once) for source in ("prometheus", "local")] == ["clear", "clear"]
    short = {**QUIET, "gpu": "0x177 90x1 0x2"}
    assert [kind(source, short) for source in ("prometheus", "local")] == ["clear", "act"]  # nobody looked
    assert kind("local", {**QUIET, "gpu": "0x150 _x10 0x20"}) == "unknown"


def test_what_we_do_not_look_at_ourselves_has_no_source() -> None:
    """A signal without a `fallback`, with `source: local`."""
    signals = {
        name: replace(each, fallback=None if name == "cpu_usage" else each.fallback)
        for name, each in POLICY.signals.items()
    }
    case = Case("it", 1, replace(ENFORCING, signals=signals), {"source": "local", "containers": {"c": QUIET}}, {})
    verdict = run(case).verdicts["c", "idle-gpu"]
    assert [piece.label for piece in verdict.evidence if piece.reading.missing == "source_down"] == ["cpu", "cpu"]
