"""Requests for a reset: written whole or not at all, read strictly, taken away for good."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy import reset_requests
from ds01_policy.observe.nvidia_smi_list import UUID
from ds01_policy.reset_requests import (
    LIMIT_BYTES,
    Refused,
    Request,
    ask,
    is_gpu,
    listed,
    read,
    take_away,
    waiting,
)

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
A, B = "GPU-aaaaaaaa-0000-4000-8000-000000000001", "GPU-bbbbbbbb-0000-4000-8000-000000000002"
REQUEST = Request(A, "a1" * 32, NOON, "the driver asks for `reset`: reset it, or reboot", "watch")
WRITTEN = {"gpu": A, "container": "a1" * 32, "asked_at": NOON.isoformat(), "why": "why", "by": "watch"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "resets"


def put(folder: Path, content: bytes, name: str = A, mode: int = 0o600) -> Path:
    """Lay a file there, past the program."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    (folder / name).chmod(mode)
    return folder / name


def age(path: Path, minutes: float) -> None:
    at = (NOON - timedelta(minutes=minutes)).timestamp()
    os.utime(path, (at, at))


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_asked_is_what_is_read(folder: Path) -> None:
    """A file called after the GPU, private, in a private folder; nothing else is left beside it."""
    ask(folder, REQUEST)
    assert read(folder, A) == REQUEST
    assert [path.name for path in folder.iterdir()] == [A]
    assert stat.S_IMODE((folder / A).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@settings(max_examples=60, deadline=None)
@given(why=st.text(), minutes=st.integers(-(10**6), 10**6), hours=st.integers(-14, 14))
def test_whatever_the_reason_and_the_clock_it_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, why: str, minutes: int, hours: int
) -> None:
    """Reasons quote what drivers and processes say; what is unsafe in them is escaped, and too much is cut."""
    folder = tmp_path_factory.getbasetemp() / "any-reason"
    zone = timezone(timedelta(hours=hours))
    asked = replace(REQUEST, why=why * 50, asked_at=(NOON + timedelta(minutes=minutes)).astimezone(zone))
    ask(folder, asked)
    again = read(folder, A)
    assert again is not None
    assert replace(again, why="") == replace(asked, why="")
    assert len(again.why) <= 1000


def test_a_second_one_takes_its_place_and_waits_as_long(folder: Path) -> None:
    """However often a GPU is found bad anew: that nobody resets it shows after ten minutes all the same."""
    ask(folder, REQUEST)
    age(folder / A, 30)
    later = replace(REQUEST, asked_at=NOON + timedelta(minutes=1), why="again")
    ask(folder, later)
    assert read(folder, A) == later
    assert waiting(folder) == {A: NOON - timedelta(minutes=30)}


def test_nobody_ever_sees_half_of_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name appears once all of it is on the disk; a writer that is killed before leaves nothing that counts."""
    seen: list[tuple[str, dict[str, datetime]]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        seen.append(((folder / ".new").read_text() if (folder / ".new").exists() else "", listed(folder)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    ask(folder, REQUEST)
    of_parent, of_file, of_folder = seen
    assert (of_parent, of_file[1]) == (("", {}), {})
    assert json.loads(of_file[0])["gpu"] == A
    assert list(of_folder[1]) == [A]
    (folder / ".new").write_text('{"gpu": "GPU-')  # it was killed here
    assert list(listed(folder)) == [A]
    ask(folder, replace(REQUEST, gpu=B))
    assert sorted(path.name for path in folder.iterdir()) == [A, B]


def test_a_link_in_its_way_is_not_followed(folder: Path, tmp_path: Path) -> None:
    """Neither where it writes nor where it reads."""
    (tmp_path / "precious").write_text("precious")
    folder.mkdir(parents=True)
    (folder / ".new").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic link"):
        ask(folder, REQUEST)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("gpu", ["", "0", "../../etc/cron.d/x", "GPU-", "GPU-a/b", f"{A}\n", "all", "GPU-é"])
def test_nothing_but_a_gpu_gets_a_file(folder: Path, gpu: str) -> None:
    """A name is also a path."""
    with pytest.raises(OSError, match="is no GPU's UUID"):
        ask(folder, replace(REQUEST, gpu=gpu))
    assert not folder.exists()
    assert not is_gpu(gpu)


def test_a_gpu_is_called_here_as_it_is_elsewhere() -> None:
    """Of another pattern, a GPU could be found and never be handed over."""
    assert reset_requests._GPU.pattern == rf"{UUID}\Z"  # noqa: SLF001


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Whoever asks must know that nobody was asked."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "resets"):
        with pytest.raises(OSError, match="directory"):
            ask(folder, REQUEST)


# ── listing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_oldest_comes_first(folder: Path) -> None:
    """By when each was written; only GPUs wait, whatever else lies there."""
    for name, minutes in ((A, 5), (B, 20), ("junk", 30), ("GPU-c", 20)):
        age(put(folder, b"x", name), minutes)
    assert list(listed(folder)) == ["junk", B, "GPU-c", A]
    assert list(waiting(folder)) == [B, "GPU-c", A]


def test_a_host_that_never_handed_one_over_has_none_waiting(folder: Path) -> None:
    """And no folder; one that cannot be read is not known to hold any."""
    assert listed(folder) == waiting(folder) == {}
    folder.parent.mkdir()
    folder.write_text("no folder")
    assert waiting(folder) == {}
    with pytest.raises(NotADirectoryError):
        listed(folder)


def test_one_is_taken_away_once(folder: Path) -> None:
    """Whoever comes second learns that it is gone."""
    ask(folder, REQUEST)
    assert take_away(folder, A)
    assert not take_away(folder, A)
    assert read(folder, A) is None
    put(folder, b"x", "junk")
    assert take_away(folder, "junk")


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def changed(**fields: Any) -> bytes:
    return json.dumps({**WRITTEN, **fields}).encode()


def test_the_row_that_all_others_differ_from_is_read(folder: Path) -> None:
    """Each of them is refused for one thing alone."""
    put(folder, changed())
    assert read(folder, A) == replace(REQUEST, why="why")
    put(folder, changed(container=""))
    assert read(folder, A) == replace(REQUEST, why="why", container="")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b"{" * 4000, "not JSON", id="half of one"),
        pytest.param(b"[" * 16_000, "not JSON", id="deeper than can be read"),
        pytest.param(b"\xff\xfe", "not JSON", id="no text"),
        pytest.param(changed()[:-1] + f', "gpu": "{A}"}}'.encode(), "twice", id="a field twice"),
        pytest.param(changed() + b" " * LIMIT_BYTES, f"more than {LIMIT_BYTES} bytes", id="too much"),
        pytest.param(b"[]", "no object", id="a list"),
        pytest.param(json.dumps(list(WRITTEN.items())).encode(), "no object", id="a list of its fields"),
        pytest.param(b'"GPU"', "no object", id="a text"),
        pytest.param(changed(force=True), "no object of gpu, container", id="a field that nobody knows"),
        pytest.param(json.dumps({"gpu": A}).encode(), "no object of gpu, container", id="a field too few"),
        pytest.param(changed(why=None), "not all of its fields are texts", id="a field that is no text"),
        pytest.param(changed(gpu=B), f"its GPU is {B}, which is not its name", id="another GPU's"),
        pytest.param(changed(gpu=A.upper()), "which is not its name", id="nearly its GPU's"),
        pytest.param(changed(container="a1a1"), "no container's id", id="part of an id"),
        pytest.param(changed(container="A1" * 32), "no container's id", id="an id in capitals"),
        pytest.param(changed(by=""), "who asked", id="by nobody"),
        pytest.param(changed(by="\x1b[2J"), "who asked", id="by nobody of ours"),
        pytest.param(changed(why="x" * 1001), "or why", id="a novel"),
        pytest.param(changed(asked_at="yesterday"), "yesterday is no time", id="no time"),
        pytest.param(changed(asked_at="2026-03-02T12:00:00"), "no time zone", id="no time zone"),
        pytest.param(changed(asked_at="0001-01-01T00:00:00+14:00"), "no time", id="before the beginning"),
    ],
)
def test_what_is_not_as_this_program_writes_it_is_refused(folder: Path, content: bytes, words: str) -> None:
    """With words for the admin; it is root's own folder, and still."""
    put(folder, content)
    with pytest.raises(Refused, match=words):
        read(folder, A)


def _link(path: Path) -> None:
    (path.parent / "elsewhere").write_bytes(changed())
    path.symlink_to(path.parent / "elsewhere")


def _writable(path: Path) -> None:
    path.write_bytes(changed())
    path.chmod(0o622)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(Path.mkdir, "no plain file", id="a folder"),
        pytest.param(os.mkfifo, "no plain file", id="a pipe that nobody writes to"),
        pytest.param(_link, "cannot be opened", id="a link"),
        pytest.param(_writable, "may write it", id="a file that anybody may write"),
    ],
)
def test_what_is_no_file_of_ours_is_refused(folder: Path, make: Callable[[Path], object], words: str) -> None:
    """Nor does it wait for anything."""
    folder.mkdir(parents=True)
    make(folder / A)
    with pytest.raises(Refused, match=words):
        read(folder, A)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(folder: Path) -> None:
    """Whoever owns it may write it."""
    os.chown(put(folder, changed()), 12345, -1)
    with pytest.raises(Refused, match="others than this user own it"):
        read(folder, A)


KILLED = """
import os, signal, sys
from pathlib import Path
from ds01_policy import reset_requests
from ds01_policy.reset_requests import Request, ask
from datetime import UTC, datetime
steps = [0]
def counted(real):
    def call(*args, **kwargs):
        steps[0] += 1
        if steps[0] == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
for name in ("open", "fsync", "utime"):
    setattr(os, name, counted(getattr(os, name)))
Path.replace = counted(Path.replace)
Path.mkdir = counted(Path.mkdir)
ask(Path(sys.argv[1]), Request("GPU-aaaaaaaa-0000-4000-8000-000000000001", "", datetime.now(UTC), "why", "watch"))
"""


def test_a_writer_that_is_killed_leaves_a_whole_request_or_none(folder: Path) -> None:
    """SIGKILL before each of its steps in turn, until none is left to be killed before."""
    for step in range(1, 30):
        killed = subprocess.run([sys.executable, "-c", KILLED, folder, str(step)], check=False, timeout=60).returncode
        names = list(listed(folder))
        assert names in ([], [A])
        assert not names or read(folder, A) is not None
        if not killed:
            break
        for name in names:
            take_away(folder, name)
    assert step > 6
    assert names == [A]
