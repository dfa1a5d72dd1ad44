"""What explain says about one container: golden pages, the three questions, limits with their layer, hostile text."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_host import (
    AT,
    CLOCK,
    DRAFT,
    EVALUATION,
    GAPPY,
    HISTORY,
    HOUR,
    IDLE_LIMIT,
    JAX,
    KEEPS,
    KEPT,
    LLM,
    MINUTE,
    OLD,
    PLAN,
    POLICY,
    QUIET,
    SNAPSHOT,
    STOP_TRAIN,
    TRAIN,
    TRAIN_IDLE,
)

from ds01_policy.logic import Truth
from ds01_policy.model import (
    Container,
    Decision,
    Disposition,
    Evaluation,
    GpuClaim,
    HeldBy,
    History,
    KeepAlive,
    Kind,
    LimitValue,
    Missing,
    Mode,
    Mount,
    Plan,
    Problem,
    State,
    Verdict,
)
from ds01_policy.report.about import About
from ds01_policy.report.answers import answers
from ds01_policy.report.document import dumps
from ds01_policy.report.explain import explain_document, explain_text
from ds01_policy.report.layout import Page, columns
from ds01_policy.rules import AnyOf, Clause

UNSAFE = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}


def about(container: Container, **changes: Any) -> About:
    """Gather what the host's tick knows about one container."""
    known = About(POLICY, Mode.ENFORCE, SNAPSHOT, EVALUATION, PLAN, HISTORY, container)
    return replace(known, **changes)


def alone(verdict: Verdict, *decisions: Decision, **changes: Any) -> About:
    """Gather it where one verdict and its decisions are all there is."""
    evaluation = Evaluation((verdict,), EVALUATION.demand)
    return about(verdict.container, evaluation=evaluation, plan=Plan(decisions), **changes)


def test_a_held_container_in_full() -> None:
    """Who and what it is, every rule with every clause, what holds it back, and the three questions."""
    kept = replace(TRAIN, mounts=KEEPS, running_since=AT - 5 * HOUR)
    assert (
        explain_text(about(kept, plan=Plan((STOP_TRAIN,))), Page(80), CLOCK)
        == """\
train (111111111111) on gpu01, Mon 2026-03-02 04:31 (UTC+01:00)

Why is it not stopped?
  idle-gpu finds it due, but its notice is not over (no warning has gone out
  yet); max-runtime finds nothing to do (running for 4h < 24h).
When will it be stopped?
  idle-gpu: once its notice is over (no warning has gone out yet)
  max-runtime: at the earliest in 20h, Tue 00:31
What must its owner do?
  idle-gpu: let it work: gpu ≥ 5% or cpu ≥ 1% or network ≥ 10 KiB/s over the
  last 5m is enough, or touch /workspace/.keep-alive in it, which keeps it for
  up to 1d.
  Its removal spares /workspace; everything else written inside it is lost: save
  your work elsewhere.
  An exemption is an admin's to give.

  owner    alice by label ds01.user; group student
  type     docker, image pytorch:2.3
  state    running; created 5h ago, Sun 23:31, started 4h ago, 00:31, counted
           from 5h ago, Sun 23:31, through restarts
  GPU      1 (GPU-1a1f0000) by --gpus
  limits   idle_timeout 60m (defaults), max_runtime 1d (defaults)
  mode     enforce

idle-gpu - act: Holds a GPU and uses nothing.
  why      idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%, network 12 B/s < 10 KiB/s
  over     60m (idle_timeout, defaults)
        CLAUSE              OVER  MEASURED                   SEEN  BY
  true  gpu < 5%            60m   0.3% [0.3%, 1.1%]          99%   prometheus
  true  cpu < 1%            60m   0.1%                       99%   prometheus
  true  network < 10 KiB/s  60m   12 B/s [12 B/s, 12.5 B/s]  99%   prometheus
  warned   6m ago, 04:25, in mode enforce; nobody was provably reached
  HELD     stop, remove, epilog (notice: no warning has gone out yet)

max-runtime - clear: Runs too long.
  why      running for 4h < 24h; due in 20h, Tue 00:31
  over     1d (max_runtime, defaults)

Not about it: never-started (wants state created)
"""
    )


def test_missing_data_in_full() -> None:
    """An unknown clause says what is missing below it; problems of this container and of sources follow."""
    down = Problem("source_down", "gpu metrics are stale")
    other = Problem("owner_unproven", "train (111111111111) is exempt")
    text = explain_text(
        about(JAX, snapshot=replace(SNAPSHOT, problems=(*SNAPSHOT.problems, down, other))), Page(80), CLOCK
    )
    parts = text.split("\n\n")
    assert (
        "\n\n".join((parts[1], parts[3], parts[-1]))
        == """\
Why is it not stopped?
  idle-gpu cannot tell (gpu: stale (newest sample is 20m old)), and what is not
  known never acts; max-runtime finds nothing to do (running for 4h < 24h).
When will it be stopped?
  idle-gpu: not while data is missing
  max-runtime: at the earliest in 20h, Tue 00:31
What must its owner do?
  Nothing now.
  Save your work before Tue 00:31: max-runtime goes by the clock, however busy
  it is.

idle-gpu - unknown: Holds a GPU and uses nothing.
  why      gpu: stale (newest sample is 20m old)
  over     60m (idle_timeout, defaults)
         CLAUSE              OVER  MEASURED                   SEEN  BY
  stale  gpu < 5%            60m   0% [0%, 41%]               60%   prometheus
  true   cpu < 1%            60m   0.1%                       99%   prometheus
  true   network < 10 KiB/s  60m   12 B/s [12 B/s, 12.5 B/s]  99%   prometheus
  stale: newest sample is 20m old

untrusted_infrastructure: jax (222222222222) claims to be infrastructure; it is
    not honoured
source_down: gpu metrics are stale
"""
    )


@pytest.mark.parametrize(
    ("missing", "detail", "row", "note"),
    [
        pytest.param(Missing.NO_SERIES, "", "no_series  gpu", "no_series: nobody has measured it", id="without words"),
        pytest.param(Missing.NO_SERIES, "none", "no_series  gpu", "no_series: none", id="with the source's own words"),
        pytest.param(
            None, "", "low_coverage  gpu", "low_coverage: what is not covered may lie on either side", id="only wide"
        ),
    ],
)
def test_a_gap_is_named_once_below_the_clauses(missing: Missing | None, detail: str, row: str, note: str) -> None:
    """The clause says in one word what it lacks; the words stand once below, however many clauses lack it."""
    pieces = tuple(
        replace(piece, truth=Truth.UNKNOWN, reading=replace(piece.reading, value=None, missing=missing, detail=detail))
        for piece in QUIET
    )
    text = explain_text(alone(replace(TRAIN_IDLE, kind=Kind.UNKNOWN, evidence=pieces)), Page(80), CLOCK)
    assert row in text
    assert text.count(f"  {note}") == 1
    assert text.count("nothing  ") == 3


def test_a_span_that_high_demand_shortened_says_so() -> None:
    """The limit that was set and the time that is asked are both shown."""
    text = explain_text(alone(replace(TRAIN_IDLE, for_=HOUR / 2)), Page(80), CLOCK)
    assert "over     30m (idle_timeout, defaults), shortened from 60m while demand is high\n" in text


def held(by: HeldBy, detail: str = "", **changes: Any) -> Decision:
    """Hold train's stop back by one guard."""
    return replace(STOP_TRAIN, disposition=Disposition.SUPPRESS, held_by=by, detail=detail, **changes)


@pytest.mark.parametrize(
    ("known", "why", "when"),
    [
        pytest.param(
            alone(TRAIN_IDLE, replace(STOP_TRAIN, disposition=Disposition.ENFORCE, held_by=None)),
            "idle-gpu: idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%, network 12 B/s < 10 KiB/s.",
            "now: the next evaluate does it",
            id="enforced",
        ),
        pytest.param(
            alone(TRAIN_IDLE, held(HeldBy.NOTICE, "warned, 4m of 10m notice left", act_at=AT + 4 * MINUTE)),
            "finds it due, but its notice is not over (warned, 4m of 10m notice left)",
            "at the earliest in 4m, 04:35",
            id="notice, with its end",
        ),
        pytest.param(
            alone(TRAIN_IDLE, held(HeldBy.BUDGET, "5 a run are enough")),
            "but this run's budget is spent (5 a run are enough)",
            "not in this run; every run asks again",
            id="budget",
        ),
        pytest.param(
            alone(TRAIN_IDLE, held(HeldBy.BREAKER)),
            "but too many turned idle at once",
            "not in this run; every run asks again",
            id="breaker, without a detail",
        ),
        pytest.param(
            alone(TRAIN_IDLE, held(HeldBy.LEDGER, "disk full")),
            "memory cannot be written, so it does nothing that ends work (disk full)",
            "not in this run; every run asks again",
            id="ledger",
        ),
        pytest.param(
            alone(TRAIN_IDLE, held(HeldBy.MODE, mode=Mode.OBSERVE), mode=Mode.OBSERVE),
            "but the mode does not act",
            "never while the mode is observe",
            id="mode",
        ),
        pytest.param(
            alone(TRAIN_IDLE),
            "finds it due, another rule goes first",
            "after what another rule does about it",
            id="due, but another rule's act is in the plan",
        ),
        pytest.param(
            alone(replace(TRAIN_IDLE, kind=Kind.WARN, due_at=AT + 12 * MINUTE)),
            "finds it nearly due",
            "at the earliest in 12m, 04:43",
            id="in its warning span",
        ),
        pytest.param(
            alone(replace(TRAIN_IDLE, kind=Kind.WARN, due_at=AT + 2 * MINUTE), PLAN.decisions[0]),
            "finds it nearly due",
            "at the earliest in 10m, 04:41",
            id="the notice ends later than the window",
        ),
        pytest.param(
            alone(replace(TRAIN_IDLE, kind=Kind.WARN, due_at=AT + 12 * MINUTE), mode=Mode.WARN),
            "finds it nearly due",
            "at the earliest in 12m, 04:43",
            id="a date that the mode makes hypothetical",
        ),
        pytest.param(
            alone(replace(TRAIN_IDLE, kind=Kind.CLEAR, why="in use: gpu 87% ≥ 5%", due_at=None)),
            "finds nothing to do (in use: gpu 87% ≥ 5%)",
            "only once its condition has held for 60m",
            id="in use",
        ),
        pytest.param(
            alone(replace(TRAIN_IDLE, kind=Kind.EXEMPT, held_by="exempted", why="demo week")),
            "is held off by exempted (demo week)",
            "not while exempted holds",
            id="exempt",
        ),
        pytest.param(
            alone(replace(TRAIN_IDLE, kind=Kind.YOUNG, why="up 10m", due_at=AT + 20 * MINUTE)),
            "does not ask yet (up 10m)",
            "at the earliest in 20m, 04:51",
            id="young",
        ),
        pytest.param(
            alone(
                replace(TRAIN_IDLE, kind=Kind.OFF, why="idle_timeout is never (users: alice)", for_=None, due_at=None)
            ),
            "is off for it (idle_timeout is never (users: alice))",
            "never",
            id="off",
        ),
    ],
)
def test_every_kind_and_every_guard_has_an_answer(known: About, why: str, when: str) -> None:
    """Why is it not stopped, and when will it be: in words for each verdict and each guard."""
    said = answers(known, CLOCK)
    assert why in said.why
    assert said.when[0] == f"idle-gpu: {when}"
    assert said.when[1:] == (
        (f"And that only once the mode is enforce: it is {known.mode}.",) if known.mode != "enforce" else ()
    )


def test_a_rule_s_own_mode_is_told_apart() -> None:
    """A rule that only observes says so beside its date; the others do act."""
    rules = tuple(replace(rule, mode=Mode.OBSERVE if rule.id == "max-runtime" else None) for rule in POLICY.rules)
    assert answers(about(LLM, policy=replace(POLICY, rules=rules)), CLOCK).when == (
        "idle-gpu: only once its condition has held for 60m",
        "max-runtime: at the earliest in 60m, 05:31, if the rule's mode were enforce (it is observe)",
    )


@pytest.mark.parametrize(
    ("known", "advice"),
    [
        pytest.param(about(LLM), "max-runtime: save what matters: its time is up, whatever it does.", id="runtime"),
        pytest.param(about(DRAFT), "never-started: start it, or remove it.", id="created"),
        pytest.param(about(DRAFT), "Nothing in it survives its removal: copy out what matters.", id="no mounts"),
        pytest.param(about(KEPT), "Nothing now.", id="kept alive"),
        pytest.param(
            about(JAX),
            "Save your work before Tue 00:31: max-runtime goes by the clock, however busy it is.",
            id="a clock that runs",
        ),
        pytest.param(
            alone(replace(TRAIN_IDLE, container=replace(TRAIN, keep_alive=KeepAlive(AT, AT - timedelta(hours=24))))),
            "idle-gpu: let it work: gpu ≥ 5% or cpu ≥ 1% or network ≥ 10 KiB/s over the last 5m is enough; its "
            "keep-alive file has had its 1d and counts again only once it has worked.",
            id="keep-alive used up",
        ),
        pytest.param(
            alone(
                TRAIN_IDLE,
                policy=replace(POLICY, rules=(replace(POLICY.rules[0], when=AnyOf((Clause("x", "below", 1.0),))),)),
            ),
            "idle-gpu: use it, or touch /workspace/.keep-alive in it, which keeps it for up to 1d.",
            id="a condition that no single clause refutes",
        ),
    ],
)
def test_says_what_its_owner_must_do(known: About, advice: str) -> None:
    """The advice follows from the rule that is due; nothing due means nothing to do."""
    assert advice in answers(known, CLOCK).do


@pytest.mark.parametrize(
    ("known", "questions"),
    [
        pytest.param(about(JAX), ("Why is it not stopped?", "When will it be stopped?"), id="running"),
        pytest.param(about(OLD), ("Why is it stopped?", "When will it be stopped?"), id="being stopped"),
        pytest.param(about(DRAFT), ("Why is it not removed?", "When will it be removed?"), id="not running"),
    ],
)
def test_the_questions_fit_the_state(known: About, questions: tuple[str, str]) -> None:
    """Nobody asks when a container that does not run will be stopped."""
    assert answers(known, CLOCK).asked[:2] == questions


def test_a_container_that_no_rule_is_about() -> None:
    """It is told so, with what each rule wants instead."""
    gone = replace(
        TRAIN, id="9" * 64, state=State.EXITED, started_at=AT - HOUR, finished_at=AT - MINUTE, gpus=GpuClaim()
    )
    text = explain_text(about(gone), Page(80), CLOCK)
    assert "exited; created 5h ago, Sun 23:31, started 60m ago, 03:31, ended 1m ago, 04:30" in " ".join(text.split())
    assert "  GPU      none\n" in text
    assert "idle-gpu (wants state running)" in text
    assert "  No rule is about it.\n" in text
    assert "  Never by a rule: none of them removes it.\n" in text


def test_limits_show_the_layer_that_set_each() -> None:
    """A user's override of one key stands beside the defaults of the others; `never` is a word."""
    assert about(JAX).limits == (
        LimitValue("idle_timeout", HOUR, "defaults"),
        LimitValue("max_runtime", None, "users: bob"),
    )
    assert "limits   idle_timeout 60m (defaults), max_runtime never (users: bob)" in explain_text(
        about(JAX), Page(80), CLOCK
    )


def test_a_limit_that_only_others_have_is_left_out() -> None:
    """A key that no layer of this container sets is no limit of it, and no crash."""
    limits = replace(POLICY.limits, users={"bob": {"grace": MINUTE}})
    assert [limit.key for limit in about(TRAIN, policy=replace(POLICY, limits=limits)).limits] == [
        "idle_timeout",
        "max_runtime",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"started_at": AT - 9 * HOUR}, id="another life"),
        pytest.param({"warned_at": None}, id="no warning"),
    ],
)
def test_a_warning_of_another_life_is_not_this_one_s(changes: dict[str, Any]) -> None:
    """Only what was sent about this very life is told."""
    key = (TRAIN.id, "idle-gpu")
    history = History(spells={key: replace(HISTORY.spells[key], **changes)})
    assert "warned   " not in explain_text(about(TRAIN, history=history), Page(80), CLOCK)


def test_document_carries_all_of_it() -> None:
    """The JSON has what the text has: container, limits, rules with evidence and plan, answers, problems."""
    got = json.loads(dumps(explain_document(about(replace(TRAIN, mounts=KEEPS)), CLOCK)))
    assert list(got) == [
        "schema", "command", "at", "host", "mode", "policy", "sources", "container", "limits", "rules", "unmatched",
        "answers", "problems",
    ]  # fmt: skip
    assert (got["schema"], got["command"], got["policy"]) == (1, "explain", "sha256:abc")
    assert got["container"]["name"] == "train"
    assert got["container"]["mounts"][0] == {"destination": "/workspace", "source": "/data/alice", "kind": "bind"}
    assert got["limits"][0] == {"key": "idle_timeout", "value_s": 3600, "layer": "defaults"}
    assert [rule["rule"] for rule in got["rules"]] == ["idle-gpu", "max-runtime"]
    rule = got["rules"][0]
    assert len(rule["evidence"]) == 3
    assert (rule["warned_at"], rule["delivered"]) == ("2026-03-02T03:25:00Z", False)
    assert [(each["actions"], each["held_by"]) for each in rule["plan"]] == [
        (["warn"], None),
        (["stop", "remove", "epilog"], "notice"),
    ]
    assert got["unmatched"] == [{"rule": "never-started", "wants": "state created"}]
    assert set(got["answers"]) == {"asked", "why", "when", "do"}


HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202egpj.exe\u2066 名前 {{ 7*7 }} $(reboot) " + "x" * 300


def hostile(text: str) -> About:
    """Put the text wherever a user, a library or a file could have put it."""
    who: dict[str, Any] = dict.fromkeys(("name", "owner", "group", "image", "type", "owner_via", "type_via"), text)
    claim = GpuClaim(wants=True, refs=TRAIN.gpus.refs, unclear=text, via=text)
    container = replace(TRAIN, **who, gpus=claim, owner_proven=False, mounts=(Mount(text, text, "bind"),))
    evidence = tuple(
        replace(each, reading=replace(each.reading, detail=text, missing=Missing.STALE)) for each in (*GAPPY, *QUIET)
    )
    limit = replace(IDLE_LIMIT, layer=f"users: {text}")
    verdict = replace(TRAIN_IDLE, container=container, why=text, evidence=evidence, limit=limit)
    decision = replace(STOP_TRAIN, verdict=verdict, detail=text)
    snapshot = replace(SNAPSHOT, containers=(container,), host=text, problems=(Problem("x", text),))
    return alone(verdict, decision, snapshot=snapshot)


def test_hostile_text_stays_text() -> None:
    """Escape sequences, line breaks and bidi marks come out as visible escapes, within the page."""
    printed = explain_text(hostile(HOSTILE), Page(80), CLOCK)
    assert "\\x1b[2J\\x1b]0;owned" in printed
    assert not [one for one in printed if one != "\n" and unicodedata.category(one) in UNSAFE]
    assert max(map(columns, printed.splitlines())) <= 80


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.integers(min_value=60, max_value=200))
def test_no_line_is_wider_than_the_page(text: str, width: int) -> None:
    """Whatever is written in whatever field, in whatever width from 60 on; the JSON stays printable ASCII."""
    known = hostile(text)
    printed = explain_text(known, Page(width), CLOCK)
    assert max(map(columns, printed.splitlines())) <= width
    assert not [one for one in printed if one != "\n" and unicodedata.category(one) in UNSAFE]
    assert all(" " <= one <= "~" or one == "\n" for one in dumps(explain_document(known, CLOCK)))


def test_colour_only_when_asked() -> None:
    """Without colour no escape sequence; with it the verdicts stand out."""
    assert "\x1b" not in explain_text(about(TRAIN), Page(80), CLOCK)
    assert "\x1b[1;31midle-gpu - act\x1b[0m" in explain_text(about(TRAIN), Page(80, colour=True), CLOCK)
