"""The JSON document: the contract's keys at every level, honest numbers, nothing that could reach a terminal."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from report_host import (
    AT,
    EVALUATION,
    FORGED,
    HOUR,
    JAX_IDLE,
    LLM_IDLE,
    PLAN,
    QUIET,
    SNAPSHOT,
    STOP_OLD,
    TRAIN,
    TRAIN_IDLE,
)

from ds01_policy.logic import Truth
from ds01_policy.model import (
    Action,
    Evaluation,
    Evidence,
    GpuClaim,
    GpuRef,
    LimitValue,
    Missing,
    Mode,
    Outcome,
    Problem,
    SourceState,
    Status,
)
from ds01_policy.report.document import document, dumps, instant, seconds, verdict_json

OUTCOMES = (Outcome("d4", Action.STOP, Status.DONE), Outcome("d1", Action.WARN, Status.DONE, "tty", delivered=False))
CONTRACT = json.loads("""
{
  "schema": 1,
  "command": "preview",
  "at": "2026-03-02T03:31:00Z",
  "host": "gpu01",
  "mode": "observe",
  "policy": "sha256:…",
  "sources": {"docker": {"up": true}, "prometheus": {"up": true, "queries": 8}, "gpu": {"up": true, "via": "nvml"}},
  "demand": {"gpus": 8, "held": 6, "high": false},
  "containers": [{
    "id": "64 hex", "name": "train", "state": "running", "type": "docker",
    "owner": "alice", "owner_via": "label ds01.user", "group": "student",
    "started_at": "…", "gpus": [{"uuid": "GPU-…", "gpu_instance": null}],
    "rules": [{
      "rule": "idle-gpu",
      "verdict": "act",
      "why": "idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%, network 12 B/s < 10 KiB/s",
      "held_by": null,
      "for_s": 3600, "due_at": "…",
      "evidence": [{"signal": "gpu_utilization", "window_s": 3600, "value": 0.003, "low": 0.003, "high": 0.011,
                    "unit": "ratio", "below": 0.05, "coverage": 0.992, "source": "prometheus", "truth": true,
                    "missing": null}]
    }]
  }],
  "plan": [{"id": "…", "container": "64 hex", "name": "train", "rule": "idle-gpu",
            "actions": ["stop", "remove", "epilog"], "disposition": "enforce", "held_by": null}],
  "outcomes": [{"decision": "…", "action": "stop", "status": "done", "detail": ""}],
  "problems": [{"code": "source_down", "detail": "…"}]
}
""")


def made(**options: Any) -> dict[str, Any]:
    """Make the document of the whole host."""
    return document("preview", "sha256:abc", Mode.ENFORCE, SNAPSHOT, EVALUATION, PLAN, OUTCOMES, **options)


def lacks(wanted: Any, got: Any, where: str = "$") -> list[str]:
    """List what of `wanted` is absent from `got` or of another JSON type; every entry of a list must have it."""
    if isinstance(wanted, dict):
        missing = [f"{where}.{key} is missing" for key in wanted.keys() - got.keys()]
        return missing + [
            one for key in wanted.keys() & got.keys() for one in lacks(wanted[key], got[key], f"{where}.{key}")
        ]
    if isinstance(wanted, list):
        return [one for index, each in enumerate(got) for one in lacks(wanted[0], each, f"{where}[{index}]")]
    if wanted is None or got is None or type(wanted) is type(got):
        return []
    return [f"{where} is {got!r}, not like {wanted!r}"]


def test_has_every_key_of_the_contract_with_its_type() -> None:
    """The contract's example is a subset of what is printed, at every level and in every entry."""
    got = json.loads(dumps(made()))
    assert lacks(CONTRACT, got) == []
    assert all(got[key] for key in ("containers", "plan", "outcomes", "problems"))
    assert got["containers"][-1]["rules"][0]["evidence"]


def test_says_what_was_found_for_one_container() -> None:
    """One verdict in full, extra keys included: a change here is a change for every program that reads it."""
    train = next(each for each in made()["containers"] if each["name"] == "train")
    assert train["rules"][0] == {
        "rule": "idle-gpu",
        "verdict": "act",
        "why": "idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%, network 12 B/s < 10 KiB/s",
        "held_by": None,
        "for_s": 3600,
        "limit": {"key": "idle_timeout", "value_s": 3600, "layer": "defaults"},
        "due_at": "2026-03-02T03:31:00Z",
        "beneath": None,
        "evidence": [
            {
                "signal": "gpu_utilization", "window_s": 3600, "value": 0.003, "low": 0.003, "high": 0.011,
                "unit": "ratio", "below": 0.05, "coverage": 0.992, "source": "prometheus", "truth": True,
                "instead_of": None, "missing": None, "detail": "",
            },
            {
                "signal": "cpu_usage", "window_s": 3600, "value": 0.001, "low": 0.001, "high": 0.001,
                "unit": "cores", "below": 0.01, "coverage": 0.992, "source": "prometheus", "truth": True,
                "instead_of": None, "missing": None, "detail": "",
            },
            {
                "signal": "network_io", "window_s": 3600, "value": 12.0, "low": 12.0, "high": 12.5,
                "unit": "bytes_per_s", "below": 10240.0, "coverage": 0.992, "source": "prometheus", "truth": True,
                "instead_of": None, "missing": None, "detail": "",
            },
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "names", "rules", "plan", "outcomes"),
    [
        pytest.param(
            {},
            ["draft", "jax", "kept", "llm", "old", "train"],
            {"idle-gpu", "max-runtime", "never-started"},
            ["d1", "d2", "d3", "d4"],
            ["d4", "d1"],
            id="leaves out what no rule is about",
        ),
        pytest.param(
            {"all_": True},
            ["draft", "grafana", "jax", "kept", "llm", "old", "train"],
            {"idle-gpu", "max-runtime", "never-started"},
            ["d1", "d2", "d3", "d4"],
            ["d4", "d1"],
            id="all: also what no rule is about",
        ),
        pytest.param(
            {"rule": "idle-gpu"},
            ["jax", "kept", "llm", "train"],
            {"idle-gpu"},
            ["d1", "d2"],
            ["d1"],
            id="one rule: what it is about and what is due by it",
        ),
        pytest.param(
            {"rule": "idle-gpu", "all_": True},
            ["jax", "kept", "llm", "train"],
            {"idle-gpu"},
            ["d1", "d2"],
            ["d1"],
            id="one rule, all: still that rule alone",
        ),
        pytest.param({"rule": "no-such"}, [], set(), [], [], id="a rule nobody has: nothing"),
    ],
)
def test_lists_what_was_asked_for(
    options: dict[str, Any], names: list[str], rules: set[str], plan: list[str], outcomes: list[str]
) -> None:
    """Containers by name, rules, plan and outcomes follow `all_` and `rule` together."""
    got = made(**options)
    assert [each["name"] for each in got["containers"]] == names
    assert {rule["rule"] for each in got["containers"] for rule in each["rules"]} == rules
    assert [each["id"] for each in got["plan"]] == plan
    assert [each["decision"] for each in got["outcomes"]] == outcomes


def test_containers_of_one_name_are_ordered_by_id() -> None:
    """Two hosts' worth of the same name still come in one order, whatever Docker's."""
    twins = (replace(TRAIN, id="b" * 64), replace(TRAIN, id="a" * 64))
    snapshot = replace(SNAPSHOT, containers=twins)
    got = document("preview", "", Mode.ENFORCE, snapshot, Evaluation((), EVALUATION.demand), PLAN, all_=True)
    assert [each["id"][0] for each in got["containers"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("truth", "missing", "said"),
    [
        pytest.param(Truth.TRUE, Missing.STALE, (True, None), id="gaps that do not matter are not named"),
        pytest.param(Truth.FALSE, Missing.LOW_COVERAGE, (False, None), id="nor where the answer is no"),
        pytest.param(Truth.UNKNOWN, Missing.STALE, (None, "stale"), id="unknown says what is missing"),
        pytest.param(Truth.UNKNOWN, None, (None, "low_coverage"), id="and never nothing: then the cover"),
    ],
)
def test_missing_is_said_only_where_it_decides(
    truth: Truth, missing: Missing | None, said: tuple[bool | None, str | None]
) -> None:
    """`truth` is true, false or null, and `missing` is null unless it is null, and never with it."""
    evidence = replace(QUIET[0], truth=truth, reading=replace(QUIET[0].reading, missing=missing))
    got = verdict_json(replace(TRAIN_IDLE, evidence=(evidence,)))["evidence"][0]
    assert (got["truth"], got["missing"]) == said


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param(0.123456789, 0.123457, id="six significant digits"),
        pytest.param(1234567.89, 1234570.0, id="before the point too"),
        pytest.param(math.inf, None, id="unbounded is null"),
        pytest.param(math.nan, None, id="not a number is null"),
        pytest.param(-0.0, 0.0, id="no negative zero"),
        pytest.param(None, None, id="nothing measured is null"),
    ],
)
def test_numbers_are_what_json_can_say(value: float | None, written: float | None) -> None:
    """A measured value is rounded; what JSON has no word for becomes null."""
    reading = replace(QUIET[0].reading, value=value)
    got = verdict_json(replace(TRAIN_IDLE, evidence=(replace(QUIET[0], reading=reading),)))
    assert repr(got["evidence"][0]["value"]) == repr(written)


@pytest.mark.parametrize("comparator", ["below", "above", "at_most", "at_least", "is"])
def test_a_threshold_is_keyed_by_its_comparator(comparator: str) -> None:
    """`above: 0.05` reads as the rule does."""
    evidence: Evidence = replace(QUIET[0], comparator=comparator)
    got = verdict_json(replace(TRAIN_IDLE, evidence=(evidence,)))["evidence"][0]
    assert got[comparator] == 0.05
    assert len(got) == len(CONTRACT["containers"][0]["rules"][0]["evidence"][0]) + 2  # detail, instead_of


@pytest.mark.parametrize(
    ("at", "written"),
    [
        pytest.param(AT, "2026-03-02T03:31:00Z", id="whole seconds"),
        pytest.param(AT + timedelta(microseconds=999_999), "2026-03-02T03:31:00Z", id="part seconds are cut"),
        pytest.param(
            datetime(2026, 3, 2, 4, 31, tzinfo=timezone(timedelta(hours=1))), "2026-03-02T03:31:00Z", id="always UTC"
        ),
        pytest.param(datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00Z", id="four digits in any year"),
        pytest.param(None, None, id="never is null"),
    ],
)
def test_times_read_the_same_everywhere(at: datetime | None, written: str | None) -> None:
    """One form of time, whatever zone or fraction the value had."""
    assert instant(at) == written


@pytest.mark.parametrize(
    ("duration", "written"),
    [
        pytest.param(HOUR, "3600", id="whole"),
        pytest.param(timedelta(milliseconds=1500), "1.5", id="parts"),
        pytest.param(None, "None", id="never"),
    ],
)
def test_durations_are_seconds(duration: timedelta | None, written: str) -> None:
    """Whole seconds are integers."""
    assert repr(seconds(duration)) == written


def test_sources_say_how_they_answered() -> None:
    """Extra facts stand beside `up`, which none of them can overwrite; `detail` only where there is one."""
    sources = {
        "docker": SourceState(up=True),
        "prometheus": SourceState(up=False, detail="refused", extra={"queries": 2, "up": "yes"}),
    }
    got = document("preview", "", Mode.WARN, replace(SNAPSHOT, sources=sources), EVALUATION, PLAN)
    assert got["sources"] == {"docker": {"up": True}, "prometheus": {"up": False, "queries": 2, "detail": "refused"}}


def test_problems_come_once_and_in_order() -> None:
    """The same problem met by two stages is one problem."""
    second, third = Problem("a", "x"), Problem("a", "y")
    evaluation = replace(EVALUATION, problems=(FORGED, second))
    plan = replace(PLAN, problems=(third, second))
    got = document("evaluate", "", Mode.WARN, SNAPSHOT, evaluation, plan, problems=(Problem("ledger", "full"), FORGED))
    assert [(each["code"], each["detail"]) for each in got["problems"]] == [
        (FORGED.code, FORGED.detail),
        ("a", "x"),
        ("a", "y"),
        ("ledger", "full"),
    ]


def test_limits_and_gpus_that_are_none_are_null() -> None:
    """`never` is null with the layer that said so; a GPU instance is a number, a whole GPU null."""
    off = replace(LLM_IDLE, limit=LimitValue("idle_timeout", None, "users: carol"), for_=None)
    assert verdict_json(off)["for_s"] is None
    assert verdict_json(off)["limit"] == {"key": "idle_timeout", "value_s": None, "layer": "users: carol"}
    mig = replace(TRAIN, gpus=GpuClaim(wants=True, refs=(GpuRef("GPU-1", 7), GpuRef("GPU-2"))))
    got = document("preview", "", Mode.WARN, replace(SNAPSHOT, containers=(mig,)), EVALUATION, PLAN)
    assert got["containers"][0]["gpus"] == [
        {"uuid": "GPU-1", "gpu_instance": 7},
        {"uuid": "GPU-2", "gpu_instance": None},
    ]


@given(st.text())
@example("\x1b[2J\x7f\x9b\u202e\ud800")
def test_hostile_text_leaves_as_printable_ascii(text: str) -> None:
    """Whatever a user wrote, the bytes on stdout are printable ASCII and newlines, and read back the same."""
    hostile = replace(TRAIN, name=text, owner=text, image=text, group=text, type=text, owner_via=text)
    verdict = replace(JAX_IDLE, container=hostile, why=text)
    evaluation = replace(EVALUATION, verdicts=(verdict,))
    snapshot = replace(SNAPSHOT, containers=(hostile,), host=text, problems=(Problem("x", text),))
    printed = dumps(document("preview", "", Mode.WARN, snapshot, evaluation, replace(PLAN, decisions=(STOP_OLD,))))
    assert all(" " <= character <= "~" or character == "\n" for character in printed)
    assert json.loads(printed)["containers"][0]["name"] == text


def test_is_written_for_reading_and_ends_with_a_newline() -> None:
    """Indented by two; a float that JSON cannot say is refused, never printed as NaN."""
    assert dumps({"a": {"b": 1}}) == '{\n  "a": {\n    "b": 1\n  }\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"a": math.inf})
