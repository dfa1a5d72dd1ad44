"""Who may change the program that root runs every five minutes: every folder and link on the way to it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from ds01_policy.install import program
from ds01_policy.install.program import NoProgram, open_to_others, running

ROOT = {"/": (stat.S_IFDIR | 0o755, 0, 0), "/opt": (stat.S_IFDIR | 0o755, 0, 0), "/opt/p": (stat.S_IFDIR | 0o755, 0, 0)}
File = tuple[int, int, int]
P = Path("/opt/p")


def asked(path: Path, files: dict[str, File], links: dict[str, str] | None = None) -> list[str]:
    """Ask about a path of a file system that is made up: mode, user and group by path."""

    def lstat(where: Path) -> os.stat_result:
        if str(where) not in files:
            raise FileNotFoundError(2, "No such file or directory")
        mode, uid, gid = files[str(where)]
        return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))

    return open_to_others([path], lstat, lambda where: (links or {})[str(where)])


def folder(mode: int = 0o755, uid: int = 0, gid: int = 0) -> File:
    return stat.S_IFDIR | mode, uid, gid


LINK: File = (stat.S_IFLNK | 0o777, 0, 0)


@pytest.mark.parametrize(
    ("files", "path", "found"),
    [
        (ROOT, P, []),
        ({**ROOT, "/opt": folder(0o1777)}, P, []),
        ({**ROOT, "/opt/p": folder(0o1777)}, P, ["/opt/p can be written by others (mode 1777)"]),
        ({**ROOT, "/opt": folder(0o777)}, P, ["/opt can be written by others (mode 0777)"]),
        ({**ROOT, "/opt": folder(0o775, gid=50)}, P, ["/opt can be written by others (mode 0775)"]),
        ({**ROOT, "/opt": folder(0o775, gid=0)}, P, []),
        ({**ROOT, "/opt": folder(uid=1000)}, P, ["/opt belongs to user 1000"]),
        ({**ROOT, "/opt/p": folder(uid=1000)}, P, ["/opt/p belongs to user 1000"]),
        ({**ROOT, "/": folder(uid=65534)}, P, ["/ belongs to user 65534"]),
        (ROOT, P / "gone", ["/opt/p/gone cannot be looked at (No such file or directory)"]),
    ],
    ids=[
        "root's alone", "a sticky folder on the way", "a sticky folder that holds the program", "everybody's folder",
        "a group's folder", "root's group", "somebody's folder", "somebody's program", "a foreign root",
        "gone",
    ],
)  # fmt: skip
def test_who_may_change_it(files: dict[str, File], path: Path, found: list[str]) -> None:
    """Each thing by name, with how."""
    assert asked(path, files) == found


@pytest.mark.parametrize(
    ("target", "home", "found"),
    [
        ("/home/a/p", folder(uid=1000), ["/home/a belongs to user 1000"]),
        ("../home/a/p", folder(uid=1000), ["/home/a belongs to user 1000"]),
        ("/home/a/p", folder(), []),
    ],
    ids=["absolute", "relative", "root's"],
)
def test_where_a_link_leads_counts(target: str, home: File, found: list[str]) -> None:
    """A link of root's into a home is as open as that home."""
    files = {**ROOT, "/opt/p": LINK, "/home": folder(), "/home/a": home, "/home/a/p": folder()}
    assert asked(P, files, {"/opt/p": target}) == found


def test_a_link_of_somebody_else() -> None:
    """Its owner may lead it elsewhere."""
    files = {**ROOT, "/opt/p": (stat.S_IFLNK | 0o777, 1000, 0), "/opt/q": folder()}
    assert asked(P, files, {"/opt/p": "q"}) == ["/opt/p belongs to user 1000"]


def test_links_in_a_circle_end() -> None:
    """As the kernel gives up."""
    assert asked(P, {**ROOT, "/opt/p": LINK}, {"/opt/p": "p"}) == []


def test_hostile_names_are_shown_plainly() -> None:
    """On a terminal they do nothing."""
    assert asked(Path("/opt/\x1b[2J"), {**ROOT, "/opt/\x1b[2J": folder(uid=7)}) == ["/opt/\\x1b[2J belongs to user 7"]


def test_the_real_file_system(tmp_path: Path) -> None:
    """A folder that everybody may write is found, below one that is sticky."""
    inner = tmp_path / "open"
    inner.mkdir()
    inner.chmod(0o777)
    (inner / "program").write_text("")
    found = open_to_others([inner / "program"])
    assert any(line.startswith(f"{inner} ") for line in found)


# ── where it is ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_running_program() -> None:
    """Its own environment's script; the code is the environment, the package and the Python under it."""
    found = running()
    assert found.script == Path(sys.prefix) / "bin" / "ds01-policy"
    assert {Path(sys.prefix), Path(program.__file__).parents[1], Path(os.path.realpath(sys.executable))} <= {
        *found.code
    }
    assert Path(os.__file__).parent in found.code


@pytest.mark.parametrize("scripts", ["no-such-folder", "bin"], ids=["not there", "relative"])
def test_a_program_that_was_not_installed(scripts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a clone there is no script that a unit could run: what to do is said."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ds01-policy").write_text("")
    where = scripts if scripts == "bin" else str(tmp_path / scripts)
    monkeypatch.setattr("sysconfig.get_path", lambda _: where)
    with pytest.raises(NoProgram, match="sudo make install"):
        running()
