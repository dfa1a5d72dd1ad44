"""Xids from the kernel's log: a file of its shape, a log that ends, breaks or is not ours to read."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ds01_policy.model import Xid
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.xids import KernelLog

NOW = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)
UPTIME = 10_000.0
FELL_OFF = "NVRM: Xid (PCI:0000:07:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def record(text: str, *, s: float = UPTIME - 5, priority: int = 3) -> bytes:
    return f"{priority},1234,{int(s * 1e6)},-;{text}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:07:00.0\n".encode()


@pytest.fixture
def read(tmp_path: Path) -> KernelLog:
    """Give the log what the test puts into `records`, one record for each read, as the kernel does."""
    (tmp_path / "kmsg").touch()
    return KernelLog(tmp_path / "kmsg", lambda: NOW, lambda: UPTIME)


def told(log: KernelLog, monkeypatch: pytest.MonkeyPatch, *records: bytes | OSError, since_s: float = 60) -> list[int]:
    waiting = list(records)

    def one(_: int, __: int) -> bytes:
        if not waiting:
            raise BlockingIOError
        answer = waiting.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", one)
        return [xid.code for xid in log.since(datetime.fromtimestamp(NOW.timestamp() - since_s, UTC))]


def test_an_xid_with_its_gpu_and_its_time(read: KernelLog, tmp_path: Path) -> None:
    """The bus as NVML writes it, the time on the wall's clock."""
    (tmp_path / "kmsg").write_bytes(record(FELL_OFF))
    (found,) = read.since(datetime.fromtimestamp(NOW.timestamp() - 60, UTC))
    assert found == Xid(79, "00000000:07:00", datetime.fromtimestamp(NOW.timestamp() - 5, UTC))


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (FELL_OFF, [79]),
        ("NVRM: Xid (PCI:0000:0f:00): 31, pid=7, name=python, Ch 00000008, intr 00000000.", [31]),
        ("NVRM: Xid (PCI:0001:47:00 GPU-I:05): 95, pid=7", [95]),
        ("NVRM: Xid (PCI:0000:07:00): 119, pid=7, name=x, Timeout after 6s of waiting for RPC response", [119]),
        ("NVRM: GPU at PCI:0000:07:00: GPU-aaaa", []),
        ("nvidia: NVRM: Xid (PCI:0000:07:00): 79,", []),
        ("x NVRM: Xid (PCI:0000:07:00): 79, y", []),
        ("NVRM: Xid (PCI:0000:07:00): none", []),
    ],
)
def test_which_lines_are_xids(read: KernelLog, monkeypatch: pytest.MonkeyPatch, text: str, codes: list[int]) -> None:
    """Only what the driver itself begins a line with."""
    assert told(read, monkeypatch, record(text)) == codes


def test_only_what_is_newer(read: KernelLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time of the record, not of its reading."""
    old, new = record(FELL_OFF, s=UPTIME - 61), record(FELL_OFF, s=UPTIME - 59)
    assert told(read, monkeypatch, old, new, b"half a record") == [79]
    assert told(read, monkeypatch, old) == []


@pytest.mark.parametrize("priority", [8, 11, 14, 30])
def test_what_others_write_into_the_log_is_no_xid(
    read: KernelLog, monkeypatch: pytest.MonkeyPatch, priority: int
) -> None:
    """The kernel marks what does not come from itself."""
    assert told(read, monkeypatch, record(FELL_OFF, priority=priority)) == []


def test_records_that_were_overwritten_are_passed_over(read: KernelLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says so once, and goes on."""
    assert told(read, monkeypatch, BrokenPipeError(), record(FELL_OFF)) == [79]


def test_a_log_that_breaks_is_an_error(read: KernelLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words."""
    with pytest.raises(SourceError, match="cannot be read: Input/output error"):
        told(read, monkeypatch, OSError(5, "Input/output error"))


def test_a_log_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """As in a container, or without root."""
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        KernelLog(tmp_path / "none").since(NOW)


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="the kernel's log may not be read here")
def test_this_machines_own_log_is_read_to_its_end() -> None:
    """Without waiting for what has not happened yet."""
    assert isinstance(KernelLog().since(NOW), tuple)
