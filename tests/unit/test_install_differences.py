"""What stands against what should: what is written, what is kept, what is somebody else's, and what goes."""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath

import pytest

from ds01_policy.install.differences import Do, Kind, Look, Stands, Step, removals, steps
from ds01_policy.install.layout import LINK, MARK, File, Wanted
from ds01_policy.install.site import differences

UNIT = PurePosixPath("/etc/systemd/system/ds01-policy.service")
OLD = PurePosixPath("/etc/systemd/system/ds01-policy.service.d/50-settings.conf")
STATE = PurePosixPath("/var/lib/ds01-policy")
SCRIPT = PurePosixPath("/opt/ds01-policy/bin/ds01-policy")
NEW = MARK + b"\n[Unit]\n"
OURS, THEIRS = MARK + b"\nolder\n", b"[Unit]\nDescription=by hand\n"
GOOD = {
    UNIT: Stands(Kind.FILE, NEW, 0o644),
    STATE: Stands(Kind.FOLDER, mode=0o700),
    LINK: Stands(Kind.LINK, target=str(SCRIPT)),
}


def looking(stands: dict[PurePosixPath, Stands]) -> Look:
    return lambda path: stands.get(PurePosixPath(path), Stands(Kind.ABSENT))


def planned(stands: dict[PurePosixPath, Stands], script: PurePath = SCRIPT) -> dict[PurePath, Step]:
    found = steps(Wanted((File(UNIT, NEW),), (OLD,), (STATE,), script), looking(stands))
    assert len({step.path for step in found}) == len(found)
    return {step.path: step for step in found}


def test_a_host_that_agrees_is_left_alone() -> None:
    """A second run keeps everything."""
    assert {step.do for step in planned(GOOD).values()} == {Do.KEEP}


def test_a_host_where_nothing_is() -> None:
    """Everything is made, what is used before its users."""
    found = planned({})
    assert [step.do for step in found.values()] == [Do.MAKE, Do.WRITE, Do.LINK]
    assert (found[UNIT].content, found[UNIT].mode, found[STATE].mode) == (NEW, 0o644, 0o700)


@pytest.mark.parametrize(
    ("stands", "do", "why"),
    [
        (Stands(Kind.FILE, OURS, 0o644), Do.WRITE, "has changed"),
        (Stands(Kind.FILE, NEW, 0o666), Do.WRITE, "had mode 0666"),
        (Stands(Kind.FILE, NEW, 0o4644), Do.WRITE, "had mode 4644"),
        (Stands(Kind.FILE, NEW, 0o644, uid=1000), Do.WRITE, "belonged to user 1000"),
        (Stands(Kind.FILE, THEIRS, 0o644), Do.REFUSE, "a file of somebody else's is there"),
        (Stands(Kind.FILE, b"", 0o644), Do.REFUSE, "somebody else's"),
        (Stands(Kind.FILE, b"\n" + OURS, 0o644), Do.REFUSE, "somebody else's"),
        (Stands(Kind.LINK, target="/dev/null"), Do.REFUSE, "systemctl unmask ds01-policy.service"),
        (Stands(Kind.LINK, target="/srv/mine.service"), Do.REFUSE, "a link of somebody else's"),
        (Stands(Kind.FOLDER), Do.REFUSE, "a folder of somebody else's"),
        (Stands(Kind.OTHER), Do.REFUSE, "something that is no file"),
    ],
)
def test_only_what_carries_our_mark_is_replaced(stands: Stands, do: Do, why: str) -> None:
    """An admin's own unit of that name is never overwritten."""
    step = planned({**GOOD, UNIT: stands})[UNIT]
    assert step.do is do
    assert why in step.why


@pytest.mark.parametrize(
    ("stands", "do", "why"),
    [
        (Stands(Kind.LINK, target="/usr/lib/ds01/ds01-policy"), Do.LINK, "led to /usr/lib/ds01/ds01-policy"),
        (Stands(Kind.LINK, target="/usr/bin/true"), Do.KEEP, "not this program"),
        (Stands(Kind.FILE, b"#!/bin/sh"), Do.KEEP, "a file of somebody else's"),
        (Stands(Kind.FOLDER), Do.KEEP, "a folder of somebody else's"),
    ],
)
def test_a_command_of_somebody_else_is_kept(stands: Stands, do: Do, why: str) -> None:
    """The link is a comfort: what stands there is told, and no reason to stop."""
    step = planned({**GOOD, LINK: stands})[LINK]
    assert step.do is do
    assert why in step.why


def test_a_script_that_is_there_needs_no_link() -> None:
    """As when pip installs into /usr/local."""
    assert LINK not in planned(GOOD, LINK)


@pytest.mark.parametrize(
    ("stands", "do"),
    [
        (Stands(Kind.FOLDER, mode=0o755), Do.CLOSE),
        (Stands(Kind.FOLDER, mode=0o700, uid=1000), Do.CLOSE),
        (Stands(Kind.LINK, target="/srv/state"), Do.KEEP),
        (Stands(Kind.FILE), Do.REFUSE),
    ],
)
def test_the_state_is_private(stands: Stands, do: Do) -> None:
    """The ledger names people."""
    assert planned({**GOOD, STATE: stands})[STATE].do is do


@pytest.mark.parametrize(
    ("stands", "do"),
    [
        (Stands(Kind.FILE, OURS), Do.REMOVE),
        (Stands(Kind.FILE, THEIRS), Do.KEEP),
        (Stands(Kind.LINK, target="/x"), Do.KEEP),
    ],
)
def test_a_drop_in_that_is_no_longer_needed(stands: Stands, do: Do) -> None:
    """Ours goes, an admin's own of the same name stays and is told."""
    assert planned({**GOOD, OLD: stands})[OLD].do is do


def test_taking_away() -> None:
    """What carries our mark and the link to this program; nothing else, and nothing that is not there."""
    other = PurePosixPath("/etc/systemd/system/ds01-policy-mine.timer")
    stands = {**GOOD, other: Stands(Kind.FILE, THEIRS)}
    found = {step.path: step.do for step in removals([OLD, UNIT, other], looking(stands), SCRIPT)}
    assert found == {UNIT: Do.REMOVE, other: Do.KEEP, LINK: Do.REMOVE}


@pytest.mark.parametrize(
    "stands", [Stands(Kind.LINK, target="/srv/other/bin/ds01-policy"), Stands(Kind.FILE, b"x")], ids=["link", "file"]
)
def test_a_link_to_another_program_stays(stands: Stands) -> None:
    """It may be another installation's."""
    assert [step.do for step in removals([], looking({LINK: stands}), SCRIPT)] == [Do.KEEP]


# ── a site's policy against what ships ───────────────────────────────────────────────────────────────────────────────

SHIPS = {
    "settings.yaml": b"s", "limits.yaml": b"l", "groups/student.members": b"g", "templates/warning.j2": b"t",
    "rules/idle-gpu.yaml": b"i", "rules/new.yaml": b"n", "rules/tests/new.yaml": b"nt", "schema/rules.json": b"{}",
}  # fmt: skip


def without(*beginnings: str) -> dict[str, bytes]:
    return {name: data for name, data in SHIPS.items() if not name.startswith(beginnings)}


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (SHIPS, {}),
        ({**SHIPS, "rules/mine.yaml": b"m", "notes.txt": b""}, {}),
        ({**SHIPS, "schema/rules.json": b"old"}, {}),
        ({**SHIPS, "settings.yaml": b"mine"}, {"settings.yaml": "yours is kept"}),
        (
            without("rules/new", "rules/tests/new"),
            {"rules/new.yaml": "it was not added, and does not hold"},
        ),
        (without("templates/warning.j2"), {"templates/warning.j2": "not there: the shipped one holds"}),
        (without("groups/"), {}),
        (
            without("rules/"),
            {"rules/": "the shipped rules hold, new ones"},
        ),
        (
            without("settings", "groups", "templates", "rules/new", "rules/tests", "schema"),
            {"settings.yaml": "", "templates/warning.j2": "", "rules/new.yaml": ""},
        ),
    ],
    ids=[
        "the same", "more of its own", "an old schema", "edited", "a rule that is new", "a text left out",
        "groups of its own limits", "no rules of its own", "only two files",
    ],
)  # fmt: skip
def test_what_an_upgrading_admin_is_told(own: dict[str, bytes], told: dict[str, str]) -> None:
    """What differs or is new, each by name; nothing about what is the same or is the site's alone."""
    found = {one.name: one.what for one in differences(SHIPS, own)}
    assert found.keys() == told.keys()
    assert all(words in found[name] for name, words in told.items())
