"""The audit log: never a lost line, never a torn one, and safe to look at."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.audit import LINE_BYTES, Audit, AuditError, read
from ds01_policy.audit.lines import line_of
from ds01_policy.logic import Truth
from ds01_policy.model import (
    Action,
    Container,
    Decision,
    Disposition,
    Evidence,
    GpuClaim,
    GpuRef,
    Kind,
    LimitValue,
    Missing,
    Mode,
    Outcome,
    Reading,
    State,
    Status,
    Verdict,
)
from ds01_policy.units import Unit

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def evidence(signal_name: str = "gpu_utilization", high: float = 0.01) -> Evidence:
    reading = Reading(signal_name, HOUR, Unit.RATIO, 0.003, 0.003, high, 0.99, "prometheus", Missing.LOW_COVERAGE)
    return Evidence(reading, "below", 0.05, Truth.TRUE, "gpu")


def decision(*pieces: Evidence, name: str = "train", mark: str = "a", owner: str = "alice") -> Decision:
    gpus = GpuClaim(wants=True, refs=(GpuRef("GPU-1", 7),))
    container = Container(
        mark * 64, name, "img:1", State.RUNNING, NOON, NOON - HOUR, gpus=gpus, owner=owner, group="student"
    )
    limit = LimitValue("idle_timeout", HOUR, "defaults")
    found = Verdict(
        container, "idle-gpu", Kind.ACT, "idle for 60m", for_=HOUR, limit=limit, due_at=NOON, evidence=pieces
    )
    return Decision("d1", found, (Action.STOP, Action.REMOVE), Mode.ENFORCE, Disposition.ENFORCE)


def outcome(detail: str = "") -> Outcome:
    return Outcome("d1", Action.STOP, Status.DONE, detail)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit.jsonl"


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_action_has_a_line_before_and_a_line_after(path: Path) -> None:
    """The intent holds who, what, under which policy and on what evidence; the outcome what became of it."""
    with Audit.open(path, host="gpu01", digest="sha256:1") as audit:
        audit.intent(decision(evidence(), evidence("cpu_usage", high=float("inf"))), Action.STOP, NOON)
        audit.outcome(decision(), outcome("stopped in 3 s"), NOON + timedelta(seconds=3))
    before, after = entries(path)
    assert before["kind"] == "intent"
    assert before["at"] == "2026-03-02T12:00:00+00:00"
    assert (before["host"], before["policy"], before["decision"]) == ("gpu01", "sha256:1", "d1")
    assert (before["container"], before["name"], before["owner"]) == ("a" * 64, "train", "alice")
    assert (before["rule"], before["action"], before["actions"]) == ("idle-gpu", "stop", ["stop", "remove"])
    assert (before["verdict"], before["why"], before["for_s"]) == ("act", "idle for 60m", 3600)
    assert before["limit"] == {"key": "idle_timeout", "value_s": 3600, "layer": "defaults"}
    assert before["gpus"] == ["GPU-1/gi7"]
    assert before["evidence"][0] == {
        "signal": "gpu_utilization", "window_s": 3600, "value": 0.003, "low": 0.003, "high": 0.01, "unit": "ratio",
        "below": 0.05, "coverage": 0.99, "source": "prometheus", "instead_of": None, "truth": True,
        "missing": "low_coverage",
    }  # fmt: skip
    assert before["evidence"][1]["high"] is None  # JSON has no infinity
    assert (after["kind"], after["action"], after["status"]) == ("outcome", "stop", "done")
    assert (after["detail"], after["owner"], after["decision"]) == ("stopped in 3 s", "alice", "d1")


def test_a_new_log_is_private(path: Path) -> None:
    """The file is readable by its owner alone, in a directory of its own."""
    Audit.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_hostile_text_stays_inside_its_line(path: Path) -> None:
    """Escape sequences, newlines, bidi marks and quotes come out as ASCII escapes, and back unchanged."""
    hostile = '\x1b]0;owned\x07\x1b[2J\n{"kind":"outcome"}\r\u202e\u2028\x7f"\\\udc80{{ x }}'
    with Audit.open(path) as audit:
        audit.intent(decision(name=hostile), Action.STOP, NOON)
        audit.outcome(decision(name=hostile), outcome(hostile), NOON)
    raw = path.read_bytes()
    assert raw.count(b"\n") == 2
    assert all(byte == 0x0A or 0x20 <= byte <= 0x7E for byte in raw)
    assert [entry["name"] for entry in entries(path)] == [hostile, hostile]


def test_a_line_that_would_be_too_long_is_shortened_and_says_so(path: Path) -> None:
    """Evidence is cut to what fits, with a marker; the line is whole JSON and keeps what it is found by."""
    many = [evidence(f"signal{number}") for number in range(1000)]
    with Audit.open(path) as audit:
        audit.intent(decision(*many), Action.STOP, NOON)
        audit.outcome(decision(name="n" * 500_000), outcome("\x00" * 500_000), NOON)
        audit.note("odd", NOON, {"k" * 999 + str(number): "v" * 999 for number in range(5000)})
    assert all(len(line) <= LINE_BYTES for line in path.read_bytes().splitlines(keepends=True))
    first, second, third = entries(path)
    assert first["cut"] is True
    assert [piece["signal"] for piece in first["evidence"][:2]] == ["signal0", "signal1"]
    assert first["evidence"][-1] == "… 968 more"
    assert (first["container"], first["why"]) == ("a" * 64, "idle for 60m")
    assert (second["cut"], second["container"], second["status"]) == (True, "a" * 64, "done")
    assert (third["cut"], third["kind"]) == (True, "odd")


def test_a_line_that_fits_is_not_shortened(path: Path) -> None:
    """Long texts and lists stay whole as long as the line fits."""
    pieces = [evidence(f"signal{number}") for number in range(100)]
    with Audit.open(path) as audit:
        audit.intent(decision(*pieces, name="n" * 5000), Action.STOP, NOON)
    (entry,) = entries(path)
    assert len(entry["evidence"]) == 100
    assert len(entry["name"]) == 5000
    assert "cut" not in entry


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.timedeltas() | st.sampled_from(Kind),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(st.text(max_size=9), VALUES, max_size=9))
def test_whatever_is_noted_is_one_line_of_plain_json(fields: dict[str, object]) -> None:
    """Any value becomes one short ASCII line that every JSON parser reads."""
    line = line_of({**fields, "kind": "note", "at": NOON})

    def no_such_number(word: str) -> None:
        raise AssertionError(word)

    assert line.isascii()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) <= LINE_BYTES
    assert json.loads(line, parse_constant=no_such_number)["kind"] == "note"


# ── when it cannot be written ────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """ENOSPC on the write raises, naming the file and what it means."""
    full = tmp_path / "audit.jsonl"
    full.symlink_to("/dev/full")
    with Audit.open(full) as audit, pytest.raises(AuditError, match=r"No space left.*nothing is stopped or removed"):
        audit.intent(decision(), Action.STOP, NOON)


def test_a_line_that_went_out_in_part_is_an_error_and_spoils_no_other(path: Path) -> None:
    """When the disk takes only some bytes, the caller is told; the next line begins on a line of its own."""
    with Audit.open(path) as audit:
        audit.outcome(decision(), outcome("first"), NOON)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
        try:
            with pytest.raises(AuditError, match="only 20 of"):
                audit.outcome(decision(), outcome("second"), NOON)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        audit.outcome(decision(), outcome("third"), NOON)
    found = read(path)
    assert [entry["detail"] for entry in found] == ["first", "third"]
    assert found.broken == 1


def test_half_a_line_of_a_crash_spoils_no_other(path: Path) -> None:
    """A log that ends inside a line is continued on a line of its own."""
    with Audit.open(path) as audit:
        audit.outcome(decision(), outcome("first"), NOON)
    with path.open("ab") as file:
        file.write(b'{"kind":"outc')
    with Audit.open(path) as audit:
        audit.outcome(decision(), outcome("second"), NOON)
    found = read(path)
    assert [entry["detail"] for entry in found] == ["first", "second"]
    assert found.broken == 1


@pytest.mark.parametrize("obstacle", ["a directory", "a file for a directory"])
def test_a_log_that_cannot_be_opened_is_an_error(path: Path, obstacle: str) -> None:
    """Opening fails with the reason, and nothing is created."""
    if obstacle == "a directory":
        path.mkdir(parents=True)
    else:
        path.parent.write_text("")
    with pytest.raises(AuditError, match=r"cannot write .*audit\.jsonl"):
        Audit.open(path)


# ── rotation, threads, processes ─────────────────────────────────────────────────────────────────────────────────────


def test_a_log_that_is_rotated_meanwhile_is_followed(path: Path) -> None:
    """Lines go to the path after it was moved away, moved away and made anew, or copied and emptied."""
    with Audit.open(path) as audit:
        audit.outcome(decision(), outcome("1"), NOON)
        path.rename(path.with_name("audit.jsonl.1"))
        audit.outcome(decision(), outcome("2"), NOON)
        path.rename(path.with_name("audit.jsonl.2"))
        path.touch(0o640)
        audit.outcome(decision(), outcome("3"), NOON)
        os.truncate(path, 0)
        audit.outcome(decision(), outcome("4"), NOON)
    assert [entry["detail"] for entry in entries(path)] == ["4"]
    assert [entry["detail"] for entry in entries(path.with_name("audit.jsonl.1"))] == ["1"]
    assert [entry["detail"] for entry in entries(path.with_name("audit.jsonl.2"))] == ["2"]


def test_lines_of_many_threads_and_logs_do_not_mix(path: Path) -> None:
    """Two open logs on one file, written from eight threads: every line is whole."""
    with Audit.open(path) as one, Audit.open(path) as other:

        def write(number: int) -> None:
            for _ in range(5):
                (one if number % 2 else other).outcome(decision(), outcome(str(number) * 2000), NOON)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    details = sorted(entry["detail"] for entry in entries(path))
    assert details == sorted(str(number) * 2000 for number in range(8) for _ in range(5))


CHILD = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from ds01_policy.audit import Audit
audit = Audit.open(Path(sys.argv[1]))
for number in range(100_000):
    audit.note("step", datetime.now(UTC), {"number": number, "filler": "x" * 3000})
    print(number, flush=True)
"""


def test_a_line_that_was_reported_written_survives_a_kill(path: Path) -> None:
    """After kill -9 every line that `note` returned from is there."""
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(7):
            last = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
    numbers = [entry["number"] for entry in read(path)]
    assert numbers[: last + 1] == list(range(last + 1))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param({}, ["1", "2", "3"], id="everything"),
        pytest.param({"container": "train"}, ["1", "3"], id="by name"),
        pytest.param({"container": "bbbbbb"}, ["2", "3"], id="by the beginning of the id"),
        pytest.param({"container": "trai"}, [], id="not by the beginning of a name"),
        pytest.param({"owner": "bob"}, ["3"], id="by owner"),
        pytest.param({"rule": "idle-gpu"}, ["1", "2", "3"], id="by rule"),
        pytest.param({"rule": "idle"}, [], id="not by part of a rule"),
        pytest.param({"since": NOON + HOUR}, ["2", "3"], id="since a time, that time included"),
        pytest.param({"since": NOON + HOUR, "owner": "alice"}, ["2"], id="by all that is asked"),
        pytest.param({"until": NOON + HOUR}, ["1", "2"], id="until a time, that time included"),
        pytest.param({"since": NOON + HOUR, "until": NOON + HOUR}, ["2"], id="between two times"),
        pytest.param({"action": "stop"}, ["1", "2", "3"], id="by action"),
        pytest.param({"action": "warn"}, [], id="by an action that there was not"),
        pytest.param({"status": "done"}, ["1", "2", "3"], id="by what became of it"),
        pytest.param({"status": "failed"}, [], id="by what became of none"),
    ],
)
def test_lines_are_found_by_what_people_know(path: Path, wanted: dict[str, Any], expected: list[str]) -> None:
    """Each filter narrows; lines come oldest first."""
    with Audit.open(path) as audit:
        audit.outcome(decision(), outcome("1"), NOON)
        audit.outcome(decision(name="other", mark="b"), outcome("2"), NOON + HOUR)
        audit.outcome(decision(mark="b", owner="bob"), outcome("3"), NOON + 2 * HOUR)
    assert [entry["detail"] for entry in read(path, **wanted)] == expected


def test_lines_that_are_not_ours_are_counted_and_skipped(path: Path) -> None:
    """Noise of every kind costs itself only."""
    path.parent.mkdir()
    good = '{"kind":"x","at":"2026-03-02T12:00:00Z"}'
    noise = [
        b"not json",
        b"[1]",
        b"7",
        b'{"kind":"x"}',
        b'{"at":"soon"}',
        b'{"at":"2026-03-02T12:00:00"}',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"at":"' + b"9" * 3 * LINE_BYTES + b'"}',
    ]
    lines = [line for piece in noise for line in (good.encode(), piece)]
    path.write_bytes(b"\n".join(lines) + b"\n\n\n" + good.encode())
    found = read(path)
    assert len(list(found)) == len(noise) + 1
    assert found.broken == len(noise)


def log_of(details: str) -> bytes:
    """Write a log with one line for each character."""
    with tempfile.TemporaryDirectory() as folder:
        with Audit.open(Path(folder) / "audit.jsonl") as audit:
            for detail in details:
                audit.outcome(decision(), outcome(detail), NOON)
        return (Path(folder) / "audit.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"audit.jsonl": "5", "audit.jsonl.1": "34", "audit.jsonl.2.gz": "12"}, "12345", id="by number"),
        pytest.param(
            {f"audit.jsonl.{number}": f"{13 - number:x}" for number in range(1, 13)}, "123456789abc", id="ten"
        ),
        pytest.param(
            {
                "audit.jsonl": "4",
                "audit.jsonl-20260302": "3",
                "audit.jsonl-20260228.gz": "1",
                "audit.jsonl-20260301": "2",
            },
            "1234",
            id="by date",
        ),
        pytest.param({"audit.jsonl.1": "1"}, "1", id="rotated a moment ago, nothing written since"),
        pytest.param(
            {
                "audit.jsonl": "1",
                "audit.jsonl.bak": "x",
                "xaudit.jsonl.1": "x",
                "audit.jsonl.1.swp": "x",
                "ledger.db": "x",
            },
            "1",
            id="what is not of this log",
        ),
    ],
)
def test_rotated_files_are_read_too(files: dict[str, str], expected: str, path: Path) -> None:
    """As logrotate makes them, packed or not: one log, oldest line first."""
    path.parent.mkdir()
    for name, details in files.items():
        data = log_of(details)
        (path.parent / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    found = read(path)
    assert "".join(entry["detail"] for entry in found) == expected
    assert found.broken == 0


def test_a_packed_file_that_is_not_whole_costs_its_rest(path: Path) -> None:
    """What can be unpacked is read, the rest is counted once, and the other files are read."""
    path.parent.mkdir()
    path.write_bytes(log_of("9"))
    packed = gzip.compress(log_of("12345678" * 50), compresslevel=0)
    path.with_name("audit.jsonl.1.gz").write_bytes(packed[: len(packed) // 2])
    path.with_name("audit.jsonl.2.gz").write_bytes(b"no gzip at all")
    found = read(path)
    details = [entry["detail"] for entry in found]
    assert (details[0], details[-1]) == ("1", "9")
    assert 10 < len(details) < 401
    assert found.broken >= 2


def test_a_file_that_two_names_lead_to_is_read_once(path: Path) -> None:
    """As when it is renamed while its folder is read."""
    path.parent.mkdir()
    path.write_bytes(log_of("1"))
    os.link(path, path.with_name("audit.jsonl.1"))
    assert [entry["detail"] for entry in read(path)] == ["1"]


def test_a_log_is_read_line_by_line(path: Path) -> None:
    """The first entry is there before the last one was read: years of it never stand in memory."""
    path.parent.mkdir()
    path.write_bytes(log_of("12"))
    entries = iter(read(path))
    assert next(entries)["detail"] == "1"
    with path.open("ab") as file:
        file.write(log_of("3"))
    assert [entry["detail"] for entry in entries] == ["2", "3"]


def test_no_log_has_no_lines_and_an_unreadable_one_is_an_error(path: Path) -> None:
    """Nothing decided yet is no error; a log that cannot be read is."""
    assert list(read(path)) == []
    path.mkdir(parents=True)
    with pytest.raises(AuditError, match="cannot read"):
        list(read(path))


@settings(max_examples=30)
@given(st.binary(max_size=300))
def test_no_content_makes_reading_fail(content: bytes) -> None:
    """Whatever bytes stand in the file, reading ends."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "audit.jsonl"
        path.write_bytes(content)
        found = read(path)
        assert len(list(found)) + found.broken <= content.count(b"\n") + 1
