"""explain --at: what was known about a container that may be gone, at any time, from ledger and audit log alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_host import configured, run

from ds01_policy.audit import read
from ds01_policy.cli import looking_back
from ds01_policy.hindsight import Hindsight, Nothing, hindsight
from ds01_policy.ledger import Ledger
from ds01_policy.ledger.schema import VERSION
from ds01_policy.logic import Truth
from ds01_policy.memory import AUDIT, LEDGER, Memory
from ds01_policy.model import (
    Action,
    Container,
    Decision,
    Demand,
    Disposition,
    Evaluation,
    Evidence,
    GpuClaim,
    GpuRef,
    HeldBy,
    Kind,
    LimitValue,
    Mode,
    Outcome,
    Plan,
    Reading,
    Snapshot,
    State,
    Status,
    Verdict,
)
from ds01_policy.observe.snapshot import Observed
from ds01_policy.report.hindsight import hindsight_document, hindsight_text
from ds01_policy.report.layout import Clock, Page, columns
from ds01_policy.units import Unit

T = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
A, B = "a" * 64, "b" * 64
GPU = GpuClaim(wants=True, refs=(GpuRef("GPU-1"),))
TRAIN = Container(
    A, "train", "pytorch:2.3", State.RUNNING, T - HOUR, T - HOUR, gpus=GPU, owner="alice", group="student",
    owner_via="label ds01.user",
)  # fmt: skip
WEB = replace(TRAIN, id=B, name="web", owner="bob")
QUIET = Evidence(
    Reading("gpu_utilization", HOUR, Unit.RATIO, 0.003, 0.003, 0.011, 0.99, "prometheus"),
    "below", 0.05, Truth.TRUE, "gpu",
)  # fmt: skip


def verdict(kind: Kind, why: str, of: Container = TRAIN, rule: str = "idle-gpu", held_by: str | None = None) -> Verdict:
    limit = LimitValue("idle_timeout", HOUR, "groups: student")
    return Verdict(of, rule, kind, why, held_by, for_=HOUR, limit=limit, evidence=(QUIET,))


IDLE = verdict(Kind.ACT, "idle for 60m: gpu 0.3% < 5%")
STOP = Decision("d-stop", IDLE, (Action.STOP, Action.REMOVE), Mode.ENFORCE, Disposition.ENFORCE)
WARN = replace(STOP, id="d-warn", actions=(Action.WARN,), verdict=verdict(Kind.WARN, "idle for 48m of 60m"))


class Host:
    """A host that ticks: what each tick finds is written to ledger and audit log as `evaluate` does it."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def tick(
        self,
        at: datetime,
        *verdicts: Verdict,
        plan: Sequence[Decision] = (),
        does: Sequence[tuple[Decision, Outcome]] = (),
        also: Sequence[Container] = (),
    ) -> None:
        """Let a tick find this, plan that, and do some of it a few seconds later."""
        memory = Memory(self.state, "gpu01", lambda _: True)
        memory.recall(at, Mode.ENFORCE, "sha256:0123456789abcdef")
        containers = tuple({one.container.id: one.container for one in verdicts}.values())
        snapshot = Snapshot(at, "gpu01", (*containers, *also))
        evaluation = Evaluation(verdicts, Demand(8, 1, high=False))
        memory.settle(Observed(snapshot, evaluation.demand), evaluation, Plan(tuple(plan)))
        for number, (decision, outcome) in enumerate(does, 1):
            memory.intend(decision, outcome.action, at + number * timedelta(seconds=2))
            memory.conclude(decision, outcome, at + number * timedelta(seconds=2, milliseconds=500))
        memory.close()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Make a host on which `train` was busy, was warned, was held, was stopped, and came back under the same name."""
    host = Host(tmp_path / "state")
    busy = verdict(Kind.CLEAR, "in use: gpu 64%")
    runtime = verdict(Kind.CLEAR, "running for 1h < 24h", rule="max-runtime")
    host.tick(T, busy, runtime)
    host.tick(T + 5 * MINUTE, replace(busy, why="in use: gpu 51%"), runtime)
    told = Outcome("d-warn", Action.WARN, Status.DONE, "tty: pts/0", delivered=True)
    nearly = verdict(Kind.WARN, "idle for 48m of 60m")
    host.tick(T + 10 * MINUTE, nearly, runtime, plan=[WARN], does=[(WARN, told)])
    held = replace(
        STOP,
        id="d-held",
        disposition=Disposition.SUPPRESS,
        held_by=HeldBy.NOTICE,
        detail="warned, 5m of 10m notice left",
    )
    host.tick(T + 15 * MINUTE, IDLE, runtime, plan=[held])
    other = replace(WARN, id="d-web", verdict=verdict(Kind.WARN, "idle for 50m of 60m", of=WEB))
    host.tick(
        T + 20 * MINUTE,
        IDLE,
        runtime,
        other.verdict,
        plan=[STOP, other],
        does=[
            (STOP, Outcome("d-stop", Action.STOP, Status.DONE, "exit code 143")),
            (STOP, Outcome("d-stop", Action.REMOVE, Status.DONE)),
            (other, Outcome("d-web", Action.WARN, Status.DONE, "tty: pts/1", delivered=False)),
        ],
    )
    host.tick(T + 25 * MINUTE, also=[WEB])
    again = replace(TRAIN, id="c" * 64, started_at=T + 26 * MINUTE, created_at=T + 26 * MINUTE)
    host.tick(T + 30 * MINUTE, verdict(Kind.YOUNG, "start-up grace 30m", of=again))
    return host


def past(host: Host, at: datetime, who: str = "train") -> Hindsight:
    found = hindsight(host.state, who, at)
    assert isinstance(found, Hindsight)
    return found


def page(host: Host, at: datetime, who: str = "train") -> str:
    return hindsight_text(past(host, at, who), Page(80), Clock(at, UTC))


def test_a_stopped_container_in_full(host: Host) -> None:
    """Why, who was told, what was done, who else; who it was; what each rule found; on what evidence."""
    assert (
        page(host, T + 22 * MINUTE)
        == """\
train (aaaaaaaaaaaa) as it was known on Mon 2026-03-02 03:22 (UTC+00:00)

Why was it stopped?
  idle-gpu, at 03:20: idle for 60m: gpu 0.3% < 5%. The limit is idle_timeout,
  set by groups: student.
Who was told, and when?
  03:10, by idle-gpu: done (tty: pts/0)
What was done to it?
  03:20, by idle-gpu: stop done (exit code 143)
  03:20, by idle-gpu: remove done
And to others, in the same run?
  web (bob), by idle-gpu: warn done

  owner    alice by label ds01.user; group student
  type     docker, image pytorch:2.3
  life     started 02:00, seen 03:00 to 03:20, ended 03:20
  GPU      GPU-1
  tick     of 03:20, mode enforce, policy sha256:0123456789ab

idle-gpu - act, found 03:15 to 03:20
  why      idle for 60m: gpu 0.3% < 5%

max-runtime - clear, found 03:00 to 03:20
  why      running for 1h < 24h

Decided 03:20 by idle-gpu, policy sha256:0123456789ab:
  why      idle for 60m: gpu 0.3% < 5%
  true  gpu_utilization < 5% over 60m: 0.3% [0.3%, 1.1%], 99% seen, by
        prometheus

Other lives of it: cccccccccccc: 03:26 to the newest tick
"""
    )


def test_before_it_was_stopped(host: Host) -> None:
    """Then it was due and held back; what came later is told as later."""
    text = page(host, T + 16 * MINUTE)
    assert "Why was it not stopped?\n" in text
    assert "found it due (idle for 60m: gpu 0.3% < 5%), but it was held back by notice" in " ".join(text.split())
    assert "What was done to it?\n  Nothing.\n" in text
    assert "Later\n  03:20, by idle-gpu: stop done (exit code 143)\n  03:20, by idle-gpu: remove done\n" in text


@pytest.mark.parametrize(
    ("minutes", "kind", "why"),
    [
        pytest.param(0, "clear", "in use: gpu 51%", id="at the very tick"),
        pytest.param(7, "clear", "in use: gpu 51%", id="between two ticks the last one holds"),
        pytest.param(12, "warn", "idle for 48m of 60m", id="nearly due"),
        pytest.param(17, "act", "idle for 60m: gpu 0.3% < 5%", id="due"),
    ],
)
def test_what_a_rule_found_at_that_time(minutes: int, kind: str, why: str, host: Host) -> None:
    """Of each rule the last tick at or before then; of a stretch of the same, its newest words."""
    found = {one.rule: one for one in past(host, T + minutes * MINUTE).found}
    assert (found["idle-gpu"].kind, found["idle-gpu"].why) == (kind, why)
    assert found["max-runtime"].kind == "clear"


@pytest.mark.parametrize(
    ("minutes", "container"),
    [
        pytest.param(15, "a", id="the first one while it lived"),
        pytest.param(23, "a", id="the first one, gone for three minutes"),
        pytest.param(26, "c", id="the second one from its start on"),
        pytest.param(600, "c", id="the second one long after"),
    ],
)
def test_of_several_lives_the_one_of_that_time(minutes: int, container: str, host: Host) -> None:
    """The same name, another container: nothing of the one is told of the other."""
    found = past(host, T + minutes * MINUTE)
    assert found.span.container == container * 64
    assert {line["container"] for line in (*found.lines, *found.later)} <= {container * 64}
    assert len(found.spans) == 2
    assert past(host, T + minutes * MINUTE, container * 64).span.container == container * 64
    assert past(host, T + minutes * MINUTE, container * 12).span.container == container * 64


def test_a_restart_begins_another_life(tmp_path: Path) -> None:
    """One container, two lives: what was decided about the first is not told of the second."""
    host = Host(tmp_path / "state")
    stop = replace(STOP, actions=(Action.STOP,))
    host.tick(T, IDLE, plan=[stop], does=[(stop, Outcome("d-stop", Action.STOP, Status.DONE))])
    host.tick(T + 10 * MINUTE, verdict(Kind.YOUNG, "start-up grace", of=replace(TRAIN, started_at=T + 8 * MINUTE)))
    first, second = past(host, T + 5 * MINUTE), past(host, T + 11 * MINUTE)
    assert (first.span.started_at, second.span.started_at) == (TRAIN.started_at, T + 8 * MINUTE)
    assert (len(first.lines), len(second.lines)) == (2, 0)
    assert "Why was it not stopped?\n  idle-gpu did not ask yet (start-up grace).\n" in page(host, T + 11 * MINUTE)


def test_one_that_ended_by_itself(tmp_path: Path) -> None:
    """Nobody blames this program for it."""
    host = Host(tmp_path / "state")
    host.tick(T, verdict(Kind.CLEAR, "in use"))
    host.tick(T + 5 * MINUTE, also=[WEB])
    assert "It was over by 03:00, and this program has not ended it.\n" in page(host, T + 10 * MINUTE)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (verdict(Kind.UNKNOWN, "gpu: stale"), "could not tell, and what is not known never acts (gpu: stale)."),
        (verdict(Kind.EXEMPT, "until 2030", held_by="exempted"), "was held off by exempted (until 2030)."),
        (verdict(Kind.OFF, "idle_timeout is never"), "was off for it (idle_timeout is never)."),
    ],
    ids=["unknown", "exempt", "off"],
)
def test_why_nothing_was_done(found: Verdict, words: str, tmp_path: Path) -> None:
    """What leaves no line in the audit log is in the ledger."""
    host = Host(tmp_path / "state")
    host.tick(T, found)
    assert f"idle-gpu {words}" in " ".join(page(host, T).split())


def test_a_warning_that_was_only_simulated(tmp_path: Path) -> None:
    """In mode observe nobody was told, and that is said."""
    host = Host(tmp_path / "state")
    held = replace(
        WARN, mode=Mode.OBSERVE, disposition=Disposition.SUPPRESS, held_by=HeldBy.MODE, detail="mode observe"
    )
    host.tick(T, WARN.verdict, plan=[held])
    text = page(host, T)
    assert "Who was told, and when?\n  03:00, by idle-gpu: nobody; the warning was held back by mode (mode" in text


def test_an_action_that_a_killed_run_left_open(tmp_path: Path) -> None:
    """Begun, and nothing known; then what the next run saw."""
    host = Host(tmp_path / "state")
    host.tick(T, IDLE)
    memory = Memory(host.state, "gpu01", lambda _: None)
    memory.recall(T + MINUTE, Mode.ENFORCE, "sha256:1")
    memory.intend(STOP, Action.STOP, T + MINUTE)
    memory.close()
    assert "stop was begun; nothing is known of what became of it" in page(host, T + 2 * MINUTE)
    host.tick(T + 5 * MINUTE, also=[WEB])
    assert "stop: the run was killed meanwhile" in " ".join(page(host, T + 6 * MINUTE).split())


def test_a_container_that_was_never_started(tmp_path: Path) -> None:
    """It has no life in the inventory, and is found all the same."""
    host = Host(tmp_path / "state")
    created = replace(TRAIN, state=State.CREATED, started_at=None)
    found = verdict(Kind.ACT, "created for 30m", of=created, rule="created-never-started")
    remove = replace(STOP, verdict=found, actions=(Action.REMOVE,))
    host.tick(T, found, plan=[remove], does=[(remove, Outcome("d-stop", Action.REMOVE, Status.DONE))])
    text = page(host, T + MINUTE)
    assert "Why was it removed?\n  created-never-started, at 03:00: created for 30m." in text
    assert "life     never started\n" in text


def test_the_audit_log_alone_is_enough(host: Host) -> None:
    """A ledger that was lost: what was decided, done and told is still known, what was only found is not."""
    (host.state / LEDGER).unlink()
    text = page(host, T + 22 * MINUTE)
    assert "idle-gpu, at 03:20: idle for 60m: gpu 0.3% < 5%. The limit is idle_timeout," in text
    assert "  03:10, by idle-gpu: done (tty: pts/0)\n" in text
    assert "  web (bob), by idle-gpu: warn done\n" in text
    assert "policy   sha256:0123456789ab\n" in text


def test_the_ledger_alone_is_enough_to_know_what_was_found(host: Host) -> None:
    """An audit log that was thrown away: the rules' findings are still known."""
    (host.state / AUDIT).unlink()
    assert [one.kind for one in past(host, T + 16 * MINUTE).found] == ["act", "clear"]
    assert "no warning is in the log" in page(host, T + 16 * MINUTE)


def test_hostile_names_stay_inside_their_line(tmp_path: Path) -> None:
    """Escape sequences are shown as text, and nothing is wider than the page."""
    host = Host(tmp_path / "state")
    evil = replace(TRAIN, name="\x1b[2Jx\nforged: line\u202e", owner="\x1b]0;x\x07", image="i" * 300)
    host.tick(T, verdict(Kind.CLEAR, "in use", of=evil))
    text = page(host, T, A)
    assert all(character.isprintable() for line in text.split("\n") for character in line)
    assert [line for line in text.split("\n") if columns(line) > 80] == []
    assert "\nforged" not in text


def test_lines_that_were_cut_or_are_odd_do_not_hide_the_others(host: Host) -> None:
    """Evidence that was shortened, or written by another version, is shown as far as it goes."""
    lines = [json.loads(line) for line in (host.state / AUDIT).read_text().splitlines()]
    for line in lines:
        if "evidence" in line:
            line["evidence"] = ["… 9 more", {"signal": "odd"}, *line["evidence"]]
            line["limit"] = "odd"
    (host.state / AUDIT).write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = page(host, T + 22 * MINUTE)
    assert "  None  odd\n" in text
    assert "true  gpu_utilization < 5%" in text


# ── not found ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_known_before_the_first_tick(host: Host) -> None:
    """Then it says from when on anything is."""
    found = hindsight(host.state, "train", T - 2 * HOUR)
    assert isinstance(found, Nothing)
    assert found.since == T
    assert [span.container[0] for span in found.spans] == ["a", "c"]
    assert hindsight(host.state, "nobody", T + HOUR) == Nothing(T)


def test_nothing_is_known_on_a_new_host(tmp_path: Path) -> None:
    """No files: no error, and none is made."""
    assert hindsight(tmp_path / "state", "train", T) == Nothing(None)
    assert not (tmp_path / "state").exists()


# ── the ledger's verdicts ────────────────────────────────────────────────────────────────────────────────────────────


def test_ticks_that_find_the_same_are_one_row(tmp_path: Path) -> None:
    """A host where nothing changes does not grow its ledger; one that was not seen in between begins anew."""
    host = Host(tmp_path / "state")
    for number in range(6):
        host.tick(T + number * MINUTE, verdict(Kind.CLEAR, f"in use: gpu {number}%"))
    host.tick(T + 6 * MINUTE, also=[WEB])
    host.tick(T + 7 * MINUTE, verdict(Kind.CLEAR, "in use: gpu 7%"))
    with Ledger.open(host.state / LEDGER) as ledger:
        rows = ledger.past_verdicts("train")
    assert [(row.since, row.seen, row.why) for row in rows] == [
        (T, T + 5 * MINUTE, "in use: gpu 5%"),
        (T + 7 * MINUTE, T + 7 * MINUTE, "in use: gpu 7%"),
    ]


def test_old_verdicts_are_dropped_with_the_rest(tmp_path: Path) -> None:
    """After ninety days."""
    host = Host(tmp_path / "state")
    host.tick(T, verdict(Kind.CLEAR, "in use"))
    host.tick(T + timedelta(days=91), verdict(Kind.CLEAR, "in use", of=WEB))
    with Ledger.open(host.state / LEDGER) as ledger:
        assert ledger.past_verdicts("train") == []
        assert len(ledger.past_verdicts("web")) == 1
    assert VERSION >= 3


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def config(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configure the host; it is one hour later now."""
    del host
    monkeypatch.setattr(looking_back, "now", lambda: T + HOUR)
    return configured(tmp_path)


@pytest.mark.parametrize(
    "time",
    ["2026-03-02T03:22", "2026-03-02T03:22:00Z", "2026-03-02 04:22+01:00", "38m ago", "2026-03-02T03:22:00.5+00:00"],
)
def test_times_as_people_type_them(time: str, config: Path) -> None:
    """Without a zone it is UTC."""
    ran = run("--config", config, "explain", "train", "--at", time, "--json")
    assert (ran.code, ran.stderr) == (0, "")
    document = ran.json
    assert (document["command"], document["at"], document["asked"]) == ("explain", "2026-03-02T03:22:00Z", "train")
    assert document["answers"]["asked"][0] == "Why was it stopped?"
    assert document["container"]["owner"] == "alice"
    assert document["tick"] == {
        "at": "2026-03-02T03:20:00Z", "mode": "enforce", "policy": "sha256:0123456789abcdef",
        "next_at": "2026-03-02T03:25:00Z",
    }  # fmt: skip
    assert [rule["verdict"] for rule in document["rules"]] == ["act", "clear"]
    assert [line["action"] for line in document["entries"] if line["kind"] == "outcome"] == ["warn", "stop", "remove"]
    assert len(document["lives"]) == 2


def test_a_date_means_its_end(config: Path) -> None:
    """What was decided by the end of that day."""
    ran = run("--config", config, "explain", "train", "--at", "2026-03-02", "--json")
    assert ran.json["container"]["id"] == "c" * 64


def test_the_page_and_the_document_say_the_same(config: Path, host: Host) -> None:
    """What the page answers stands in the document."""
    ran = run("--config", config, "explain", "train", "--at", "2026-03-02T03:22")
    assert (ran.code, ran.stderr) == (0, "")
    found = past(host, T + 22 * MINUTE)
    answers = hindsight_document(found, Clock(found.at))["answers"]
    said = " ".join(ran.stdout.split())
    for key in ("why", "told", "done", "others"):
        assert all(" ".join(sentence.split()) in said for sentence in answers[key])


def test_what_is_not_known_says_from_when_on_anything_is(config: Path) -> None:
    """Exit 1; nothing on stdout."""
    ran = run("--config", config, "explain", "train", "--at", "2026-03-01", "--json")
    assert (ran.code, ran.stdout) == (1, "")
    first, second, third = ran.stderr.splitlines()
    assert first.startswith("nothing is known of 'train' on ")
    assert second.startswith("it is known from Mon 2026-03-02 ")
    assert third.startswith("the log knows anything from Mon 2026-03-02 ")
    assert run("--config", config, "explain", "nobody", "--at", "now").code == 1


@pytest.mark.parametrize("time", ["yesterday", "48 ago", "2026-13-01", "9999999999d ago", ""])
def test_a_time_that_is_none(time: str, config: Path) -> None:
    """Exit 2, with how to write it."""
    ran = run("--config", config, "explain", "train", "--at", time)
    assert (ran.code, ran.stdout) == (2, "")
    assert "is no time: write it like 2026-03-02T04:31 (UTC), 2026-03-02T04:31+01:00 or `2h ago`" in ran.stderr


def test_a_recording_holds_one_instant(config: Path, tmp_path: Path) -> None:
    """It has no past to ask about."""
    ran = run("--config", config, "--replay", tmp_path, "explain", "train", "--at", "now")
    assert ran.code == 2
    assert "a recording holds one instant" in ran.stderr


def test_a_damaged_ledger_is_said(config: Path, host: Host) -> None:
    """Exit 1, in words."""
    (host.state / LEDGER).write_bytes(b"no database at all, and long enough to be read as one" * 40)
    ran = run("--config", config, "explain", "train", "--at", "now")
    assert (ran.code, ran.stdout) == (1, "")
    assert "is damaged" in ran.stderr


def test_looking_back_changes_nothing(config: Path, host: Host) -> None:
    """Ledger and log are as they were, to the byte."""
    before = {path: path.read_bytes() for path in sorted(host.state.iterdir())}
    assert run("--config", config, "explain", "train", "--at", "now").code == 0
    assert {path: path.read_bytes() for path in sorted(host.state.iterdir())} == before
    assert sum(1 for _ in read(host.state / AUDIT)) > 0
