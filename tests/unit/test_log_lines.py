"""What a tick writes into the journal: lines to be read by eye, each with its urgency, and hostile text in them."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_host import (
    AT,
    CLOCK,
    EVALUATION,
    HISTORY,
    HOUR,
    OLD,
    OLD_LONG,
    PLAN,
    SNAPSHOT,
    STOP_OLD,
    STOP_TRAIN,
    TRAIN,
)

from ds01_policy.act.epilog.held import GpuFinding, Health, Held, Result
from ds01_policy.model import Action, Evaluation, HeldBy, Mode, Outcome, Plan, Problem, Status
from ds01_policy.report.log_lines import LIMIT, epilog_line, log_lines
from ds01_policy.report.priority import Priority, marked
from ds01_policy.tick import Report

UP = "docker up, prometheus up (8 queries), gpu up (via nvml)"
TOOK = timedelta(seconds=1.34)
OUTCOMES = (
    Outcome("d1", Action.WARN, Status.DONE, "tty: alice has no terminal open", delivered=False),
    Outcome("d4", Action.STOP, Status.DONE, "exit code 137; owner: tty: pts/3 reached"),
    Outcome("d4", Action.REMOVE, Status.FAILED, "Docker answered 409: removal is in progress"),
    Outcome("d4", Action.EPILOG, Status.WITHHELD, "as remove was failed"),
)
GONE = Held("9" * 64, "gone", AT - HOUR, AT, TRAIN.gpus.refs)
WELL = Result(Status.DONE, "GPU-1a1f0000: ok: well", (GpuFinding("GPU-1a1f0000", Health.OK, "well"),))
REPORT = Report(SNAPSHOT, EVALUATION, PLAN, HISTORY, OUTCOMES, (), ((GONE, WELL),))
QUIET = Report(
    replace(SNAPSHOT, containers=(), problems=()),
    Evaluation((), replace(EVALUATION.demand, held=0, high=False)),
    Plan(),
    HISTORY,
)


def lines(report: Report, mode: Mode = Mode.ENFORCE) -> list[str]:
    """Write one tick as the journal gets it."""
    return [marked(text, priority) for priority, text in log_lines(report, mode, TOOK, CLOCK)]


def test_a_busy_tick_in_full() -> None:
    """Who, which rule, what and why; below each decision what became of it; then the rest, and a line that sums up."""
    train, old = "train (111111111111, GPU 1) of alice, idle-gpu", "old (777777777777, GPU 0) of unknown, max-runtime"
    draft = "draft (666666666666, GPU 0) of erin, never-started"
    why = "idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%, network 12 B/s < 10 KiB/s"
    *told, last = lines(REPORT)
    assert told == [
        f"<5>{train}: next: warn; the act may follow in 10m, 04:41 – {why}",
        f"<5>{train}: warn done (tty: alice has no terminal open; nobody was provably reached)",
        f"<6>{train}: held: stop, remove, epilog (notice: no warning has gone out yet) – {why}",
        f"<6>{draft}: held: remove (mode: mode observe does not act); due since 00:01 – created for 5h ≥ 30m",
        f"<5>{old}: next: stop, remove, epilog; due since 02:31 – running for 26h ≥ 24h",
        f"<5>{old}: stop done (exit code 137; owner: tty: pts/3 reached)",
        f"<3>{old}: remove failed (Docker answered 409: removal is in progress)",
        f"<4>{old}: epilog withheld (as remove was failed)",
        "<6>epilog of gone (999999999999), done: GPU-1a1f0000: ok: well",
        "<4>untrusted_infrastructure: jax (222222222222) claims to be infrastructure; it is not honoured",
    ]
    assert last == (
        "<6>mode enforce; 4 due: 2 enforced, 2 held back (mode 1, notice 1); actions: done 2, failed 1, withheld 1; "
        "1 warned; 1 unknown (gpu stale 1); 1 exempt; 1 not matched by any rule; 7 of 8 GPUs held, demand is HIGH; "
        f"{UP}; took 1.3 s"
    )


def test_a_quiet_tick_is_one_line() -> None:
    """Three hundred of them a day: nothing to scroll past."""
    assert lines(QUIET, Mode.OBSERVE) == [
        f"<6>mode observe; 0 due; Docker lists no container; 0 of 8 GPUs held; {UP}; took 1.3 s"
    ]


@pytest.mark.parametrize(
    ("held_by", "priority"),
    [
        (HeldBy.MODE, Priority.INFO),
        (HeldBy.NOTICE, Priority.INFO),
        (HeldBy.EXEMPT, Priority.INFO),
        (HeldBy.STALE, Priority.INFO),
        (HeldBy.BUDGET, Priority.WARNING),
        (HeldBy.BREAKER, Priority.WARNING),
        (HeldBy.LEDGER, Priority.WARNING),
    ],
)
def test_what_is_held_back_is_urgent_where_it_is_out_of_the_ordinary(held_by: HeldBy, priority: Priority) -> None:
    """A notice that runs wakes nobody; a breaker that trips should."""
    decision = replace(STOP_TRAIN, held_by=held_by, detail="words")
    (first, text), *_ = log_lines(replace(QUIET, plan=Plan((decision,))), Mode.ENFORCE, TOOK, CLOCK)
    assert first is priority
    assert f"held: stop, remove, epilog ({held_by}: words)" in text


def test_an_act_of_which_nothing_is_known_is_an_error() -> None:
    """It was handed over, and nobody told what became of it: an admin looks, and does not take it for done."""
    told = lines(replace(QUIET, plan=Plan((STOP_OLD,))))
    assert told[1].startswith("<3>old (777777777777, GPU 0) of unknown, max-runtime: stop, remove, epilog: ")
    assert told[1].endswith(": nothing is known of what became of it")


@pytest.mark.parametrize(
    ("result", "priority"),
    [
        pytest.param(WELL, Priority.INFO, id="all is well"),
        pytest.param(replace(WELL, ended=("python3 (pid 7)",)), Priority.NOTICE, id="a process was ended"),
        pytest.param(Result(Status.FAILED, "the GPU could not be looked at"), Priority.ERROR, id="nobody could look"),
        pytest.param(
            replace(WELL, findings=(GpuFinding("GPU-1", Health.WARN, "a row will be remapped"),)),
            Priority.WARNING,
            id="a GPU that will need care",
        ),
        pytest.param(
            replace(
                WELL,
                findings=(GpuFinding("GPU-0", Health.OK, "well"), GpuFinding("GPU-1", Health.CRITICAL, "off the bus")),
                ended=("python3 (pid 7)",),
            ),
            Priority.ERROR,
            id="one bad GPU among good ones",
        ),
        pytest.param(Result(Status.NOOP, "already done"), Priority.INFO, id="nothing to do"),
    ],
)
def test_how_urgent_an_epilog_is(result: Result, priority: Priority) -> None:
    """The worst of what it found counts."""
    assert epilog_line(GONE, result)[0] is priority


def test_problems_are_warnings_and_a_lost_memory_is_an_error() -> None:
    """Nothing is stopped until the ledger is mended: that one cannot wait. A failed epilog has a line of its own.

    A host without NVML is so at every tick: nothing to be woken for.
    """
    codes = ("ledger", "source_down", "epilog_failed", "gpu_note")
    told = lines(replace(QUIET, problems=tuple(Problem(code, "x") for code in codes)))
    assert told[:-1] == ["<3>ledger: x", "<4>source_down: x", "<6>gpu_note: x"]


HOSTILE = st.text(st.characters(codec="utf-8"), max_size=2000)


@settings(max_examples=60)
@given(name=HOSTILE, owner=HOSTILE, why=HOSTILE, detail=HOSTILE)
def test_hostile_text_stays_inside_its_line(name: str, owner: str, why: str, detail: str) -> None:
    """A name can neither break its line, nor drive a terminal, nor hide what follows by its length."""
    named = replace(OLD, name=name, owner=owner)
    decision = replace(STOP_OLD, verdict=replace(OLD_LONG, container=named, why=why))
    report = Report(
        replace(SNAPSHOT, containers=(named,), problems=(Problem("note", detail),)),
        Evaluation((decision.verdict,), EVALUATION.demand),
        Plan((decision,)),
        HISTORY,
        (Outcome("d4", Action.STOP, Status.DONE, detail),),
        (),
        ((replace(GONE, name=name), replace(WELL, detail=detail)),),
    )
    told = log_lines(report, Mode.ENFORCE, TOOK, CLOCK)
    assert len(told) == 5
    for _, text in told:
        assert len(text) <= LIMIT
        assert not {unicodedata.category(each) for each in text} & {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}
    assert all("777777777777, GPU 0" in text for _, text in told[:2])
