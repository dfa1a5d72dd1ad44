"""Who answered what: one line for people, a metric, a note in `explain`, and a word in every line of the audit log."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from report_host import (
    AT,
    CPU,
    GPUS,
    HISTORY,
    HOUR,
    NETWORK,
    PLAN,
    POLICY,
    QUIET,
    SNAPSHOT,
    STOP_TRAIN,
    container,
)

from ds01_policy.audit import Audit
from ds01_policy.logic import Truth
from ds01_policy.metrics import families, text
from ds01_policy.model import Action, Demand, Evaluation, Evidence, History, Kind, Missing, Mode, Snapshot, Verdict
from ds01_policy.report.about import About
from ds01_policy.report.explain import explain_document, explain_text
from ds01_policy.report.layout import Clock, Page
from ds01_policy.report.sources import answered, in_words
from ds01_policy.report.tables import Tick, table
from ds01_policy.tick import Report

GPU = QUIET[0]


def lacking(of: Evidence, missing: Missing) -> Evidence:
    """Let nobody answer."""
    return replace(of, truth=Truth.UNKNOWN, reading=replace(of.reading, missing=missing))


def local(of: Evidence, missing: Missing | None = None, detail: str = "") -> Evidence:
    """Let this host answer; `missing` is what Prometheus lacks, None: there is no Prometheus."""
    here = replace(of.reading, source="local")
    there = replace(of.reading, missing=missing, detail=detail)
    return replace(of, reading=replace(here, parts=(there, here)) if missing else here)


def verdicts(*evidence: tuple[Evidence, ...], kind: Kind = Kind.UNKNOWN) -> list[Verdict]:
    """Give each of these clauses to a container of its own."""
    return [
        Verdict(container(f"{number:x}", f"c{number}", number % 8), "idle-gpu", kind, "", for_=HOUR, evidence=pieces)
        for number, pieces in enumerate(evidence)
    ]


DOWN = Missing.SOURCE_DOWN
STALE = local(GPU, Missing.STALE)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        pytest.param([], "", id="nothing was asked"),
        pytest.param([()], "", id="rules over clocks ask nobody"),
        pytest.param([QUIET, QUIET], "readings: all from prometheus", id="as it should be"),
        pytest.param(
            [tuple(local(each) for each in QUIET)], "readings: all from local samples", id="without a Prometheus"
        ),
        pytest.param(
            [tuple(local(each, DOWN) for each in QUIET)] * 3,
            "readings: all from local samples (prometheus: source_down)",
            id="an outage, the ledger warm",
        ),
        pytest.param(
            [tuple(lacking(each, DOWN) for each in QUIET)], "readings: all unanswered (source_down)", id="or cold"
        ),
        pytest.param(
            [QUIET, (GPU, local(CPU, Missing.NO_SERIES), local(NETWORK, Missing.NO_SERIES)), QUIET],
            "readings: cpu, network of 1 container from local samples (prometheus: no_series); "
            "the others from prometheus",
            id="one container that cAdvisor lost",
        ),
        pytest.param(
            [*[(STALE, CPU)] * 12, (lacking(GPU, Missing.CONFLICT), lacking(CPU, Missing.NO_SERIES))],
            "readings: gpu of 1 container unanswered (conflict); cpu of 1 unanswered (no_series); "
            "gpu of 12 from local samples (prometheus: stale); the others from prometheus",
            id="nobody comes first, then who stands in",
        ),
        pytest.param(
            [(lacking(GPU, DOWN), lacking(CPU, DOWN))] * 2 + [(lacking(GPU, DOWN),)],
            "readings: all unanswered (source_down)",
            id="signals that not everybody has",
        ),
        pytest.param(
            [(local(GPU, DOWN), local(CPU, DOWN))] * 2 + [(local(GPU, DOWN), lacking(CPU, DOWN))],
            "readings: cpu of 1 container unanswered (source_down); "
            "gpu of 3, cpu of 2 from local samples (prometheus: source_down)",
            id="different numbers of containers",
        ),
        pytest.param(
            [(replace(GPU, truth=Truth.UNKNOWN),)],
            "readings: all from prometheus",
            id="measured, and too near the threshold",
        ),
    ],
)  # fmt: skip
def test_one_line_says_who_answered(found: list[tuple[Evidence, ...]], line: str) -> None:
    """Short where all is well; else what is missing first, and who stands in for whom, and why."""
    assert in_words(answered(verdicts(*found))) == line


def test_of_several_windows_the_weakest_answer_counts() -> None:
    """The hour from Prometheus, the last minutes from this host: its exporter has just died."""
    awake = replace(GPU, reading=replace(GPU.reading, window=timedelta(minutes=5)))
    for order in ((GPU, local(awake, Missing.STALE)), (local(awake, Missing.STALE), GPU)):
        line = in_words(answered(verdicts(order)))
        assert line == "readings: all from local samples (prometheus: stale)"


def test_what_a_verdict_did_not_need_is_not_called_unanswered() -> None:
    """One look finds it at work: that the hour before is not known is no news. What nobody said anything about is."""
    awake = replace(GPU, truth=Truth.FALSE, reading=replace(GPU.reading, source="local"))
    pieces = (lacking(GPU, DOWN), awake, lacking(CPU, DOWN))
    line = in_words(answered(verdicts(pieces, kind=Kind.CLEAR)))
    assert line == "readings: cpu of 1 container unanswered (source_down); gpu of 1 from local samples"


def test_the_page_has_the_line_below_the_sources() -> None:
    """`preview` and `evaluate` alike; a page about one rule speaks of that rule's readings."""
    found = verdicts(QUIET, (local(GPU, Missing.STALE), CPU))
    snapshot = Snapshot(AT, "gpu01", tuple(each.container for each in found), GPUS)
    for command in ("preview", "evaluate"):
        tick = Tick(command, Mode.OBSERVE, snapshot, Evaluation(tuple(found), Demand(8, 2, high=False)), PLAN)
        lines = table(tick, Page(200), Clock(AT)).splitlines()
        assert lines[2].startswith("readings: gpu of 1 container from local samples (prometheus: stale); the others")
        assert "readings" not in table(tick, Page(200), Clock(AT), rule="max-runtime")


def test_the_metric_counts_containers_by_signal_and_source() -> None:
    """Label values come from the policy and the program alone; each container counts once for a signal."""
    twice = [*verdicts(QUIET, QUIET, (local(GPU, Missing.STALE), lacking(CPU, Missing.NO_SERIES)))] * 2
    snapshot = Snapshot(AT, "gpu01", ())
    report = Report(snapshot, Evaluation(tuple(twice), Demand(8, 2, high=False)), PLAN, History())
    told = text(families(report, Mode.OBSERVE, AT, AT, 1.0)).splitlines()
    assert {line for line in told if line.startswith("ds01_policy_readings{")} == {
        'ds01_policy_readings{signal="gpu_utilization",source="prometheus",missing=""} 2.0',
        'ds01_policy_readings{signal="gpu_utilization",source="local",missing="stale"} 1.0',
        'ds01_policy_readings{signal="cpu_usage",source="prometheus",missing=""} 2.0',
        'ds01_policy_readings{signal="cpu_usage",source="",missing="no_series"} 1.0',
        'ds01_policy_readings{signal="network_io",source="prometheus",missing=""} 2.0',
    }


@pytest.mark.parametrize("kind", ["intent", "withheld"])
def test_every_line_of_the_audit_log_says_who_answered(tmp_path: Path, kind: str) -> None:
    """On whose word somebody was stopped can be told a year later, clause by clause."""
    verdict = replace(STOP_TRAIN.verdict, evidence=(local(GPU, Missing.STALE, "the newest sample is 1200s old"), CPU))
    decision = replace(STOP_TRAIN, verdict=verdict)
    with Audit.open(tmp_path / "audit.jsonl") as audit:
        if kind == "intent":
            audit.intent(decision, Action.STOP, AT)
        else:
            audit.withheld(decision, AT)
    line = json.loads((tmp_path / "audit.jsonl").read_text())
    assert line["kind"] == kind
    assert [(one["signal"], one["source"], one["instead_of"]) for one in line["evidence"]] == [
        ("gpu_utilization", "local", "prometheus: stale"),
        ("cpu_usage", "prometheus", None),
    ]


def test_explain_says_why_somebody_else_speaks() -> None:
    """Below the clauses, in words; the column BY names who."""
    stale = local(GPU, Missing.STALE, "the newest sample is 1200s old")
    verdict = replace(STOP_TRAIN.verdict, evidence=(stale, CPU))
    evaluation = Evaluation((verdict,), Demand(8, 2, high=False))
    about = About(POLICY, Mode.ENFORCE, SNAPSHOT, evaluation, PLAN, HISTORY, verdict.container)
    told = explain_text(about, Page(120), Clock(AT))
    assert "  gpu by local, not prometheus: stale (the newest sample is 1200s old)\n" in told
    clauses = [line.split() for line in told.splitlines() if line.startswith("  true")]
    assert [(line[1], line[-1]) for line in clauses] == [("gpu", "local"), ("cpu", "prometheus")]
    told_json = explain_document(about, Clock(AT))["rules"][0]["evidence"]
    assert [(one["source"], one["instead_of"]) for one in told_json] == [
        ("local", "prometheus: stale"),
        ("prometheus", None),
    ]
