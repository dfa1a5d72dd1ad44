"""record and --replay: what was decided is decided again, under the policy of then, and what drifts is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_host import DEMO_CONFIG, REPOSITORY, configured, files_below, pretend_demo_is_here, run

from ds01_policy.anonymise.asked import Asked
from ds01_policy.cli import recording as recording_command
from ds01_policy.config.files import VARIABLE
from ds01_policy.observe.recorded import Recording, files_of

SIGNALS = (REPOSITORY / "config" / "signals.yaml").read_text(encoding="utf-8")


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Record the demo's host; afterwards it is gone."""
    with monkeypatch.context() as patch:
        pretend_demo_is_here(patch)
        live = run("--config", DEMO_CONFIG, "preview", "--json")
        ran = run("--config", DEMO_CONFIG, "record", tmp_path / "recording")
        assert (ran.code, ran.stderr) == (0, "")
        assert ran.stdout == f"19 containers recorded in {tmp_path}/recording\n"
    expected = (tmp_path / "recording" / "expected.json").read_text()
    assert expected == live.stdout, "beside the answers stands what was found, to the byte"
    return tmp_path / "recording"


def problems(document: dict[str, list[dict[str, str]]]) -> dict[str, list[str]]:
    """Give the problems' details by code."""
    found: dict[str, list[str]] = {}
    for one in document["problems"]:
        found.setdefault(one["code"], []).append(one["detail"])
    return found


def test_a_replay_says_the_same_to_the_byte(recorded: Path) -> None:
    """Under the policy that the recording carries, whatever this machine's own is."""
    expected = (recorded / "expected.json").read_text()
    assert run("--replay", recorded, "preview", "--json").stdout == expected
    elsewhere = {VARIABLE: str(REPOSITORY / "config")}
    assert run("--replay", recorded, "preview", "--json", env=elsewhere).stdout == expected
    for command in ("evaluate --json", "explain train --json"):
        ran = run("--replay", recorded, *command.split())
        assert (ran.code, ran.stderr) == (0, "")
        assert ran.json["policy"] == json.loads(expected)["policy"]
    assert run("--replay", recorded, "evaluate", "--json").json["plan"] == json.loads(expected)["plan"]


def test_another_policy_may_be_named(recorded: Path, tmp_path: Path) -> None:
    """To see what a changed limit would have decided about the same hour."""
    strict = configured(tmp_path, {"limits.yaml": "defaults: {idle_timeout: 60m, max_runtime: 1h, "
                                                  "container_hold_after_stop: 30m}\n"})  # fmt: skip
    ran = run("--config", strict, "--replay", recorded, "preview", "--rule", "max-runtime", "--json")
    before = run("--replay", recorded, "preview", "--rule", "max-runtime", "--json")
    due = [
        sum(rule["verdict"] == "act" for one in each.json["containers"] for rule in one["rules"])
        for each in (before, ran)
    ]
    assert due[0] < due[1]


def test_check_reads_the_policy_of_a_recording(recorded: Path) -> None:
    """The one it was made under: what is broken there is found there."""
    (recorded / "policy" / "limits.yaml").write_text("defaults: {idle_timeout: 48}\n")
    ran = run("--replay", recorded, "check")
    assert ran.code == 2
    assert f"{recorded}/policy/limits.yaml:1:26:" in ran.stdout


def test_a_changed_query_is_drift_and_not_a_silent_miss(recorded: Path) -> None:
    """The signal, what it asks now and what was asked then; nobody is found idle for want of the answer."""
    template = 'DCGM_FI_DEV_GPU_UTIL{UUID=~"{{ uuids }}", GPU_I_ID=""'
    changed = SIGNALS.replace(template, f'{template}, job="dcgm"')
    (recorded / "policy" / "signals.yaml").write_text(changed)
    ran = run("--replay", recorded, "preview", "--json")
    assert ran.code == 0
    (drift,) = problems(ran.json)["recording_drift"]
    assert drift.startswith("signal gpu_utilization: this recording has no answer to the query DCGM_FI_DEV_GPU_UTIL{")
    assert "then it asked '…" in drift
    assert """GPU_I_ID=""}[7500s]' where it asks '…""" in drift
    assert """GPU_I_ID="", job="dcgm"}[7500s]' now""" in drift
    assert "source_down" not in problems(ran.json)
    assert "not in this recording: " in ran.stderr
    idle = [rule for one in ran.json["containers"] for rule in one["rules"] if rule["rule"] == "idle-gpu"]
    assert {rule["verdict"] for rule in idle}.isdisjoint({"act", "warn"})
    text = run("--replay", recorded, "preview").stdout
    assert "recording_drift" in text
    assert "recording_drift" in run("--replay", recorded, "explain", "train").stdout
    assert problems(run("--replay", recorded, "evaluate", "--json").json)["recording_drift"] == [drift]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param(
            "gpu_engine",
            'GPU_I_ID=""}[{{ range }}]\n        devices: whole\n        min',
            'GPU_I_ID="", job="x"}[{{ range }}]\n        devices: whole\n        min',
            id="a witness",
        ),
        pytest.param("gpu_utilization frozen", "after: 15m", "after: 16m", id="whether an exporter is frozen"),
    ],
)
def test_what_is_asked_beside_drifts_too(name: str, old: str, new: str, recorded: Path) -> None:
    """As drift, not as a query that failed; what the signals themselves say stands."""
    before = run("--replay", recorded, "preview", "--json").json
    assert old in SIGNALS
    (recorded / "policy" / "signals.yaml").write_text(SIGNALS.replace(old, new))
    after = run("--replay", recorded, "preview", "--json").json
    (drift,) = problems(after)["recording_drift"]
    assert drift.startswith(f"witness {name}: this recording has no answer to the query ")
    assert {"query_failed", "source_down"}.isdisjoint(problems(after))
    assert [one["rules"][0]["verdict"] for one in before["containers"] if one["rules"]] == [
        one["rules"][0]["verdict"] for one in after["containers"] if one["rules"]
    ]


@pytest.mark.parametrize(
    ("gone", "question"),
    [
        pytest.param("docker/stat.json", "a stat of /workspace/.keep-alive in ", id="a keep-alive file"),
        pytest.param("host.json", "whose process ", id="a process"),
        pytest.param("gpu.json", "which GPUs there are", id="the GPUs"),
    ],
)
def test_every_question_without_an_answer_is_drift(gone: str, question: str, recorded: Path) -> None:
    """Named once, with what was asked, on stderr and among the problems."""
    path = recorded / gone
    value = json.loads(path.read_text())
    path.unlink()
    if gone == "host.json":
        path.write_text(json.dumps({**value, "uid_of_process": {}}))
    ran = run("--replay", recorded, "preview", "--json")
    drift = problems(ran.json)["recording_drift"]
    assert [one for one in drift if question in one]
    assert len(drift) == len(set(drift)) == len(ran.stderr.splitlines())


def test_a_recording_without_a_policy_is_replayed_as_before(recorded: Path, tmp_path: Path) -> None:
    """One of an earlier version: --config, or what holds on this machine."""
    for name in ("policy.json", "expected.json"):
        (recorded / name).unlink()
    (recorded / "policy").rename(tmp_path / "elsewhere")
    ran = run("--config", DEMO_CONFIG, "--replay", recorded, "preview", "--json")
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.json["plan"]


def test_a_recording_that_does_not_replay_alike_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1: whoever finds a question that is not recorded must hear of it on the host, not a month later."""
    pretend_demo_is_here(monkeypatch)

    def forgetful(recording: Recording) -> dict[str, str]:
        return {name: text for name, text in files_of(recording).items() if name != "docker/stat.json"}

    monkeypatch.setattr(recording_command, "recorded_files", forgetful)
    ran = run("--config", DEMO_CONFIG, "record", tmp_path / "recording")
    assert (ran.code, ran.stdout) == (1, "")
    assert "a replay of it does not say what was found here" in ran.stderr


# ── without names ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_anonymise_says_so_and_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replay of what is written says what is expected of it; the plan is the same in its bones."""
    with monkeypatch.context() as patch:
        pretend_demo_is_here(patch)
        live = run("--config", DEMO_CONFIG, "preview", "--json").json
        ran = run("--config", DEMO_CONFIG, "record", tmp_path / "recording", "--anonymise")
        assert (ran.code, ran.stderr) == (0, "")
        assert ran.stdout == f"19 containers recorded in {tmp_path}/recording, names replaced\n"
    again = run("--replay", tmp_path / "recording", "preview", "--json")
    assert (again.code, again.stderr) == (0, "")
    assert again.stdout == (tmp_path / "recording" / "expected.json").read_text()
    assert bones(again.json["plan"]) == bones(live["plan"])
    assert again.json["demand"] == live["demand"]
    assert again.json["host"] == "host-1"


def bones(plan: list[dict[str, object]]) -> list[list[object]]:
    """Give what a plan says without names and ids, in its order."""
    return [[one[key] for key in ("rule", "actions", "mode", "disposition", "held_by", "act_at")] for one in plan]


def test_what_would_be_decided_otherwise_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy whose sense hangs on a name in a way that nobody foresaw: exit 1, and nothing is left."""
    pretend_demo_is_here(monkeypatch)

    monkeypatch.setattr(Asked, "trusted_images", lambda *_: [])
    ran = run("--config", DEMO_CONFIG, "record", tmp_path / "recording", "--anonymise")
    assert (ran.code, ran.stdout) == (1, "")
    assert "something else would be decided here; nothing was recorded" in ran.stderr
    assert [data for data in files_below(tmp_path / "recording").values() if data] == []
