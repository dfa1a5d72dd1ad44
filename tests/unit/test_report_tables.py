"""What preview and evaluate print: golden pages to be read by eye, 80 columns, and hostile text that stays text."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_host import (
    AT,
    CLOCK,
    DAY_LIMIT,
    EVALUATION,
    GPUS,
    HOUR,
    JAX_IDLE,
    KEPT_IDLE,
    OLD,
    OLD_LONG,
    PLAN,
    QUIET,
    SNAPSHOT,
    STOP_OLD,
    STOP_TRAIN,
    TRAIN,
    TRAIN_IDLE,
)

from ds01_policy.logic import Truth
from ds01_policy.model import (
    Action,
    Demand,
    Evaluation,
    GpuClaim,
    Kind,
    Missing,
    Mode,
    Outcome,
    Plan,
    Problem,
    Snapshot,
    SourceState,
    Status,
    Verdict,
)
from ds01_policy.report.layout import Page, columns
from ds01_policy.report.tables import Tick, table

PREVIEW = Tick("preview", Mode.ENFORCE, SNAPSHOT, EVALUATION, PLAN)
UNSAFE = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}


def page(tick: Tick = PREVIEW, width: int = 80, *, colour: bool = False, **options: Any) -> str:
    """Print one page."""
    return table(tick, Page(width, colour), CLOCK, **options)


def test_preview_in_full() -> None:
    """The whole page as an admin sees it: due first, enforced before held, then what to know of, then one line."""
    assert (
        page()
        == """\
gpu01, Mon 2026-03-02 04:31 (UTC+01:00), preview, mode enforce
docker up, prometheus up (8 queries), gpu up (via nvml); 7 of 8 GPUs held,
demand is HIGH
readings: gpu of 1 container unanswered (stale); the others from prometheus

train  alice (student), GPU 1, running, 111111111111
  why    idle-gpu: idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%,
         network 12 B/s < 10 KiB/s
  NEXT   warn; the act may follow in 10m, 04:41
  HELD   stop, remove, epilog (notice: no warning has gone out yet)

old  unknown (student), GPU 0, running, 777777777777
  why    max-runtime: running for 26h ≥ 24h
  NEXT   stop, remove, epilog; due since 02:31

draft  erin (student), GPU 0, created, 666666666666
  why    never-started: created for 5h ≥ 30m
  HELD   remove (mode: mode observe does not act); due since 00:01

FINDS    NAME  OWNER  GPU  WHY
unknown  jax   bob    2    idle-gpu: gpu: stale (newest sample is 20m old)
exempt   kept  dave   7    idle-gpu: keep-alive file, until
                           2026-03-02 21:00 UTC; otherwise act: idle for 60m
warn     llm   carol  3-6  max-runtime: running for 23h < 24h; due in 60m, 05:31

1 more container that nothing hits; to see it: ds01-policy preview --all

Problems
  untrusted_infrastructure: jax (222222222222) claims to be infrastructure; it
      is not honoured

4 due: 2 to enforce, 2 held back (mode 1, notice 1); 1 warned; 1 unknown (gpu
stale 1); 1 exempt; 1 not matched by any rule
"""
    )


def test_all_lists_every_container_and_every_verdict() -> None:
    """With `all_` nothing is only counted: each verdict has its line, the container named once."""
    rest = page(all_=True).split("\n\n")[4]
    assert (
        rest
        == """\
FINDS    NAME     OWNER  GPU  WHY
-        grafana  root   -    no rule is about it (running)
unknown  jax      bob    2    idle-gpu: gpu: stale (newest sample is 20m old)
clear                         max-runtime: running for 4h < 24h; due in 20h,
                              Tue 00:31
exempt   kept     dave   7    idle-gpu: keep-alive file, until
                              2026-03-02 21:00 UTC; otherwise act: idle for 60m
clear                         max-runtime: running for 4h < 24h; due in 20h,
                              Tue 00:31
clear    llm      carol  3-6  idle-gpu: in use: gpu 87% ≥ 5%
warn                          max-runtime: running for 23h < 24h; due in 60m,
                              05:31
clear    train    alice  1    max-runtime: running for 4h < 24h; due in 20h,
                              Tue 00:31"""
    )
    assert "--all" not in page(all_=True)


def test_evaluate_says_what_became_of_each_decision() -> None:
    """After acting the tag is the outcome, the worst of a decision's actions, with each action's own word beside it."""
    outcomes = (
        Outcome("d1", Action.WARN, Status.DONE, "tty", delivered=False),
        Outcome("d4", Action.STOP, Status.DONE),
        Outcome("d4", Action.REMOVE, Status.FAILED, "409: removal is in progress"),
    )
    printed = page(replace(PREVIEW, command="evaluate", outcomes=outcomes))
    assert "  DONE   warn done (tty; nobody was provably reached)\n" in printed
    assert "  FAILED stop done, remove failed (409: removal is in progress)\n" in printed
    assert "\n4 due: 2 enforced, 2 held back (mode 1, notice 1); actions: done 2, failed 1;" in printed


@pytest.mark.parametrize(
    ("status", "line"),
    [
        pytest.param(Status.DONE, "  DONE   stop done", id="done"),
        pytest.param(Status.NOOP, "  NOOP   stop noop", id="nothing was left to do"),
        pytest.param(Status.STALE, "  STALE  stop stale", id="it changed in between"),
        pytest.param(Status.WITHHELD, "  HELD   stop withheld", id="withheld at the last moment"),
        pytest.param(Status.FAILED, "  FAILED stop failed", id="failed"),
        pytest.param(None, "  UNSURE stop, remove, epilog: nothing is known of what became of it", id="no outcome"),
    ],
)
def test_every_status_has_its_tag(status: Status | None, line: str) -> None:
    """No status is silent, and a decision without an outcome least of all."""
    outcomes = (Outcome("d4", Action.STOP, status),) if status else ()
    tick = Tick("evaluate", Mode.ENFORCE, SNAPSHOT, EVALUATION, Plan((STOP_OLD,)), outcomes)
    assert line in page(tick).splitlines()


def test_one_rule_shows_only_what_it_is_about() -> None:
    """With `rule` other rules' verdicts, decisions and outcomes are gone, from the counts too."""
    outcomes = (Outcome("d4", Action.STOP, Status.DONE), Outcome("d1", Action.WARN, Status.DONE))
    printed = page(replace(PREVIEW, command="evaluate", outcomes=outcomes), rule="idle-gpu")
    assert "max-runtime" not in printed
    assert "\nold  " not in printed
    assert printed.endswith(
        "2 due: 1 enforced, 1 held back (notice 1); actions: done 1; 1 unknown (gpu stale\n"
        "1); 1 exempt; 1 clear; 3 not matched by idle-gpu\n"
    )


def test_a_container_due_by_two_rules_is_one_block() -> None:
    """The plan keeps one act a container; the block still names the other reason."""
    verdict = Verdict(TRAIN, "max-runtime", Kind.ACT, "running for 30h ≥ 24h", None, 24 * HOUR, DAY_LIMIT, AT - HOUR)
    tick = replace(PREVIEW, evaluation=replace(EVALUATION, verdicts=(TRAIN_IDLE, verdict)), plan=Plan((STOP_TRAIN,)))
    assert (
        page(tick).split("\n\n")[1]
        == """\
train  alice (student), GPU 1, running, 111111111111
  why    idle-gpu: idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%,
         network 12 B/s < 10 KiB/s
  why    max-runtime: running for 30h ≥ 24h
  HELD   stop, remove, epilog (notice: no warning has gone out yet)"""
    )


def test_an_empty_host_says_so() -> None:
    """Nothing to show is said in words, and a source that is down is not overlooked."""
    sources = {"docker": SourceState(up=True), "prometheus": SourceState(up=False, detail="connection refused")}
    snapshot = Snapshot(AT, "gpu01", (), sources=sources)
    assert (
        page(Tick("preview", Mode.OBSERVE, snapshot, Evaluation((), Demand(0, 0, high=False)), Plan()))
        == """\
gpu01, Mon 2026-03-02 04:31 (UTC+01:00), preview, mode observe (records only)
docker up, prometheus DOWN (connection refused); no GPU known

Nothing is due.

0 due; Docker lists no container
"""
    )


@pytest.mark.parametrize(
    ("beneath", "shown"),
    [
        pytest.param(Kind.ACT, True, id="would be acted on"),
        pytest.param(Kind.WARN, True, id="would be warned"),
        pytest.param(Kind.CLEAR, False, id="is in use anyway"),
        pytest.param(Kind.UNKNOWN, False, id="nobody can tell, and it does not matter"),
    ],
)
@pytest.mark.parametrize("by", ["keep_alive", "exempted", "infrastructure"])
def test_an_exemption_is_shown_where_it_makes_a_difference(beneath: Kind, by: str, *, shown: bool) -> None:
    """What somebody's exemption alone holds back is listed without being asked for; the site's own is only counted."""
    verdict = replace(KEPT_IDLE, beneath=beneath, held_by=by)
    shown = shown and by != "infrastructure"
    tick = replace(PREVIEW, evaluation=replace(EVALUATION, verdicts=(verdict,)), plan=Plan())
    assert ("\nexempt  kept" in page(tick)) is shown
    assert ("7 containers that nothing hits" in page(tick)) is not shown


def test_signals_that_lack_the_same_thing_are_named_together() -> None:
    """An exporter that is down is one reason, not one a signal."""
    gaps = tuple(
        replace(piece, truth=Truth.UNKNOWN, reading=replace(piece.reading, missing=missing, detail=detail))
        for piece, missing, detail in zip(
            QUIET, (Missing.STALE, Missing.STALE, Missing.NO_SERIES), ("20m old", "20m old", ""), strict=True
        )
    )
    verdict = replace(JAX_IDLE, why="gpu: stale (20m old); cpu: stale (20m old); network: no_series", evidence=gaps)
    printed = page(replace(PREVIEW, evaluation=replace(EVALUATION, verdicts=(verdict,)), plan=Plan()), 120)
    assert "idle-gpu: gpu, cpu: stale (20m old); network: no_series\n" in printed
    assert "1 unknown (gpu+cpu stale 1, network no_series 1)" in printed


def test_problems_of_acting_are_shown_too() -> None:
    """What went wrong after planning, like a full disk, stands with the other problems."""
    assert "  ledger: disk full\n" in page(replace(PREVIEW, problems=(Problem("ledger", "disk full"),)))


def test_colour_only_when_asked_and_only_around_the_same_text() -> None:
    """Without colour no escape sequence; with it the same words."""
    coloured = page(colour=True)
    assert "\x1b[" in coloured
    assert "\x1b" not in page()
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[33m", "\x1b[1;31m"):
        coloured = coloured.replace(code, "")
    assert coloured == page()


HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202egpj.exe\u2066 名前 {{ 7*7 }} $(reboot) " + "x" * 300


def hostile_tick(text: str) -> Tick:
    """Put the text wherever a user, a library or a file could have put it."""
    who: dict[str, Any] = {"name": text, "owner": text, "group": text, "image": text, "type": text, "owner_via": text}
    due = replace(TRAIN, **who, gpus=GpuClaim(wants=True, refs=TRAIN.gpus.refs, unclear=text, via=text))
    rest = replace(OLD, **who)
    act = replace(TRAIN_IDLE, container=due, why=text)
    verdicts = (
        act,
        replace(JAX_IDLE, container=rest, why=text),
        replace(OLD_LONG, container=rest, kind=Kind.CLEAR, why=text),
    )
    sources = {"docker": SourceState(up=False, detail=text, extra={"via": text})}
    snapshot = Snapshot(AT, text, (due, rest), GPUS, sources=sources, problems=(Problem("source_down", text),))
    decisions = (replace(STOP_TRAIN, verdict=act, detail=text), replace(STOP_OLD, verdict=act))
    outcomes = (Outcome("d4", Action.STOP, Status.FAILED, text),)
    evaluation = Evaluation(verdicts, Demand(8, 7, high=True))
    return Tick("evaluate", Mode.ENFORCE, snapshot, evaluation, Plan(decisions), outcomes)


@pytest.mark.parametrize("all_", [False, True], ids=["hits", "all"])
def test_hostile_text_stays_text(*, all_: bool) -> None:
    """Escape sequences, line breaks and bidi marks come out as visible escapes, within the page."""
    printed = page(hostile_tick(HOSTILE), all_=all_)
    assert "\\x1b[2J\\x1b]0;owned" in printed
    assert "\\u202e" in printed
    assert not [one for one in printed if one != "\n" and unicodedata.category(one) in UNSAFE]
    assert max(map(columns, printed.splitlines())) <= 80


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.integers(min_value=60, max_value=200), st.booleans())
def test_no_line_is_wider_than_the_page(text: str, width: int, all_: bool) -> None:  # noqa: FBT001  hypothesis passes it
    """Whatever is written in whatever field, in whatever width from 60 on."""
    printed = page(hostile_tick(text), width, all_=all_)
    assert max(map(columns, printed.splitlines())) <= width
    assert not [one for one in printed if one != "\n" and unicodedata.category(one) in UNSAFE]


def test_a_narrower_page_is_laid_out_for_sixty_columns() -> None:
    """Below that nothing readable fits; the terminal wraps what is left over."""
    assert page(width=20) == page(width=60)
