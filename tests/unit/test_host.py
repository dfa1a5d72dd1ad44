"""What only the host knows, against the host the tests run on and a made-up /proc."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import subprocess
from pathlib import Path

import pytest

from ds01_policy.observe.host import LocalHost, unix_group_members


def test_its_name_is_the_host_name() -> None:
    """Reports are told apart by it."""
    assert LocalHost().name() == socket.gethostname()


def test_the_uid_of_a_process_is_the_effective_one(tmp_path: Path) -> None:
    """Real, effective, saved and file-system UID stand in one line: the second acts."""
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711" / "status").write_text("Name:\tpython\nUid:\t1001\t1002\t1003\t1004\nGid:\t7\t7\t7\t7\n")
    assert LocalHost(tmp_path).uid_of_process(4711) == 1002


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(None, id="no such process"),
        pytest.param("", id="an empty file"),
        pytest.param("Name:\tpython\n", id="no Uid line"),
        pytest.param("Uid:\t1001\n", id="a short Uid line"),
        pytest.param("Uid:\ta\tb\tc\td\n", id="no numbers"),
    ],
)
def test_a_process_that_cannot_be_read_has_no_uid(tmp_path: Path, status: str | None) -> None:
    """It may end at any moment between Docker's answer and this question."""
    if status is not None:
        (tmp_path / "7").mkdir()
        (tmp_path / "7" / "status").write_text(status)
    assert LocalHost(tmp_path).uid_of_process(7) is None


def test_this_process_and_its_user_are_found() -> None:
    """The real /proc and the real user database."""
    host = LocalHost()
    assert host.uid_of_process(os.getpid()) == os.geteuid()
    assert host.user_of_uid(os.geteuid()) == pwd.getpwuid(os.geteuid()).pw_name


def test_a_process_that_ended_has_no_uid() -> None:
    """Nor has what is no process id."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert LocalHost().uid_of_process(ended.pid) is None
    assert LocalHost().uid_of_process(0) is None
    assert LocalHost().uid_of_process(-1) is None


@pytest.mark.parametrize("uid", [2**31 - 7, 2**40, 2**80, -5])
def test_a_uid_that_nobody_has_has_no_name(uid: int) -> None:
    """A container's name may carry any number."""
    assert LocalHost().user_of_uid(uid) is None


def test_the_user_database_is_asked_once_for_each_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred containers of one person are one question to a directory service."""
    asked = []

    def getpwuid(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        if uid == 404:
            raise KeyError(uid)
        return pwd.struct_passwd(("alice", "x", uid, uid, "", "/home/alice", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    host = LocalHost()
    assert [host.user_of_uid(uid) for uid in (1001, 1001, 404, 404)] == ["alice", "alice", None, None]
    assert asked == [1001, 404]


def test_members_are_those_named_and_those_whose_primary_group_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """`/etc/group` lists only the former."""
    users = [("alice", 100), ("bob", 200), ("carol", 200)]
    monkeypatch.setattr(grp, "getgrnam", lambda _: grp.struct_group(("research", "x", 200, ["alice"])))
    monkeypatch.setattr(
        pwd, "getpwall", lambda: [pwd.struct_passwd((user, "x", 1, gid, "", "/", "/bin/sh")) for user, gid in users]
    )
    assert unix_group_members("research") == frozenset({"alice", "bob", "carol"})


@pytest.mark.parametrize("name", ["no-such-group-here", "", "a\0b"])
def test_a_group_that_does_not_exist_is_none(name: str) -> None:
    """None is not an empty group: limits would silently miss everybody."""
    assert unix_group_members(name) is None
