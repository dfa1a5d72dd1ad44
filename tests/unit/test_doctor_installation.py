"""What the doctor says of an installation: units, rights, and what runs; and how it asks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from install_host import PROGRAM, InstallHost, put_up

from ds01_policy.doctor.asking import installation as asking
from ds01_policy.doctor.finding import Finding, Status
from ds01_policy.doctor.judging.installation import InstallationFacts, installation
from ds01_policy.install import systemd
from ds01_policy.install.agree import shipped_host
from ds01_policy.install.differences import Do, Step
from ds01_policy.install.hands import Hands
from ds01_policy.install.layout import DROP_IN, LOGROTATE, POLICY, RESET_PATH, SERVICE, STATE, TIMER, UNITS, WATCH
from ds01_policy.observe.ports import SourceError
from ds01_policy.policy import EpilogSettings, LocalSamples, Settings

SCRIPT = "/opt/ds01-policy/bin/ds01-policy"
RUNS = {"UnitFileState": "enabled", "ActiveState": "active", "NeedDaemonReload": "no"}
FAILED, DISABLED = {**RUNS, "ActiveState": "failed"}, {**RUNS, "UnitFileState": "disabled"}
CALENDAR = "{ OnCalendar=*-*-* *:00/5:00 ; next_elapse=Mon 2026-03-02 03:35:00 UTC }"
TOLD = {SERVICE: {**RUNS, "ActiveState": "inactive"}, TIMER: {**RUNS, "TimersCalendar": CALENDAR}, WATCH: RUNS}
WELL = InstallationFacts(units=4, runs=SCRIPT, program=SCRIPT, told=TOLD)
TWO_MINUTES = Settings(local_samples=LocalSamples(timedelta(minutes=2)))


def facts(**changed: object) -> InstallationFacts:
    values = {name: getattr(WELL, name) for name in InstallationFacts.__dataclass_fields__}
    return InstallationFacts(**{**values, **changed})


def write(path: PurePosixPath, do: Do = Do.WRITE) -> Step:
    return Step(do, path, "has changed")


def found(told: InstallationFacts, settings: Settings | None = None) -> dict[str, Finding]:
    every = list(installation(told, Settings() if settings is None else settings))
    assert len({one.slug for one in every}) == len(every)
    assert all(bool(one.do) is (one.status is not Status.OK) for one in every)
    return {one.slug: one for one in every}


def test_a_host_in_order() -> None:
    """The units, and the watch that runs."""
    assert {slug: one.status for slug, one in found(WELL).items()} == {"units": Status.OK, "watch": Status.OK}


@pytest.mark.parametrize(
    ("told", "settings", "slug", "status", "words"),
    [
        (InstallationFacts(), None, "units", Status.NOTE, "no unit of this program is installed"),
        (facts(steps=(write(UNITS / SERVICE),)), None, "units", Status.BAD, f"{SERVICE} (has changed)"),
        (facts(steps=(write(UNITS / TIMER, Do.REFUSE),)), None, "units", Status.BAD, TIMER),
        (facts(steps=(write(LOGROTATE),)), None, "logrotate", Status.BAD, "nothing rotates the audit log"),
        (facts(steps=(write(STATE, Do.CLOSE),)), None, "state_open", Status.BAD, "is not private to root"),
        (
            facts(steps=(write(UNITS / f"{TIMER}.d" / DROP_IN),)), TWO_MINUTES, "timer_interval", Status.BAD,
            "does not fire every 2m yet",
        ),
        (
            facts(steps=(write(UNITS / f"{SERVICE}.d" / DROP_IN),)), Settings(metrics_file=PurePosixPath("/srv/x")),
            "unit_settings", Status.BAD, "metrics_file",
        ),
        (
            facts(steps=(write(UNITS / f"{WATCH}.d" / DROP_IN, Do.REMOVE),)), None, "unit_settings", Status.BAD,
            f"{WATCH} does not fit settings.yaml yet",
        ),
        (WELL, TWO_MINUTES, "timer_interval", Status.BAD, "at *-*-* *:00/5:00, local_samples.interval says every 2m"),
        (facts(runs="/srv/old/bin/ds01-policy"), None, "program", Status.NOTE, "/srv/old/bin/ds01-policy"),
        (facts(open=("/opt belongs to user 7",)), None, "program_open", Status.BAD, "/opt belongs to user 7"),
        (facts(policy_open=("/etc/x can be",)), None, "policy_open", Status.BAD, "that others may change"),
        (
            facts(told={**TOLD, SERVICE: {"NeedDaemonReload": "yes"}}), None, "daemon_reload", Status.BAD,
            f"{SERVICE}: the file has changed",
        ),
        (facts(told={**TOLD, WATCH: FAILED}), None, "watch", Status.BAD, "enabled and failed"),
        (facts(told={**TOLD, WATCH: DISABLED}), None, "watch", Status.BAD, "disabled and active"),
        (facts(told={**TOLD, WATCH: {}}), None, "watch", Status.BAD, "not enabled and not running"),
        (facts(told={**TOLD, RESET_PATH: {}}), None, "reset", Status.BAD, "no GPU is reset"),
        (facts(told={**TOLD, RESET_PATH: RUNS}), None, "reset", Status.OK, "enabled and active"),
        (facts(told=None, error="\x1b hangs"), None, "services", Status.NOTE, "\\x1b hangs"),
    ],
    ids=[
        "nothing installed", "an older unit", "somebody else's unit", "no log rotation", "the state is readable",
        "an interval that was changed", "a metrics file elsewhere", "a drop-in too many", "a timer changed by hand",
        "another program", "a program that others may change", "a policy that others may change", "not read by systemd",
        "the watch has failed", "the watch is disabled", "the watch is unknown", "no resets", "resets",
        "systemd does not tell",
    ],
)  # fmt: skip
def test_what_is_wanting(
    told: InstallationFacts, settings: Settings | None, slug: str, status: Status, words: str
) -> None:
    """Each by its slug, in words, with what to do."""
    one = found(told, settings)[slug]
    assert one.status is status
    assert words in one.what


@pytest.mark.parametrize(
    ("told", "settings", "slugs"),
    [
        (InstallationFacts(systemd=False), None, set()),
        (InstallationFacts(), None, {"units"}),
        (facts(runs="/srv/old", steps=(write(UNITS / SERVICE),)), None, {"program", "watch"}),
        (facts(told={**TOLD, RESET_PATH: {}}), Settings(epilog=EpilogSettings(reset="never")), {"units", "watch"}),
        (facts(told=None, error="hangs"), None, {"units", "services"}),
        (facts(told={**TOLD, TIMER: {"NeedDaemonReload": "yes"}}), TWO_MINUTES, {"units", "daemon_reload", "watch"}),
        (facts(steps=(write(PurePosixPath("/usr/local/bin/ds01-policy"), Do.LINK),)), None, {"units", "watch"}),
    ],
    ids=[
        "no systemd", "nothing installed", "another program's units are not compared", "resets are switched off",
        "systemd does not tell", "an interval that systemd has not read yet", "the link is a comfort",
    ],
)  # fmt: skip
def test_what_is_not_said(told: InstallationFacts, settings: Settings | None, slugs: set[str]) -> None:
    """Nothing that something else says already, or that is meant so."""
    assert set(found(told, settings)) == slugs


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallHost:
    """Give a host with an installation, seen by the doctor."""
    made = put_up(tmp_path, monkeypatch)
    monkeypatch.setattr(asking, "Hands", lambda: Hands(made.root))
    monkeypatch.setattr(asking, "booted", lambda: True)
    monkeypatch.setattr(asking, "running", lambda: PROGRAM)
    monkeypatch.setattr(asking, "open_to_others", lambda _: [])
    return made


def slugs_of(settings: Settings | None = None) -> dict[str, Status]:
    told = asking.installation(Settings() if settings is None else settings)
    return {slug: one.status for slug, one in found(told, settings).items()}


def test_an_installation_of_this_version(host: InstallHost) -> None:
    """In order right after it was made."""
    host.install()
    told = slugs_of()
    assert set(told.values()) == {Status.OK}
    assert told.keys() >= {"units", "watch"}


def test_before_and_after(host: InstallHost) -> None:
    """Nothing installed is a note; a unit that was edited is wanting, and installing again mends it."""
    assert slugs_of() == {"units": Status.NOTE}
    host.install()
    with host.unit().open("a") as unit:
        unit.write("Nice=19\n")
    assert slugs_of()["units"] is Status.BAD
    assert slugs_of(TWO_MINUTES)["timer_interval"] is Status.BAD
    host.install()
    assert slugs_of()["units"] is Status.OK


def test_asking_changes_nothing_and_survives(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A systemd that hangs, a unit that cannot be read as one, a file that cannot be read at all."""
    host.install()
    monkeypatch.setattr(systemd, "_ASK", timedelta(seconds=0.3))
    host.put("hang-show")
    before = {path: path.lstat().st_ctime_ns for path in host.root.rglob("*")}
    told = asking.installation(Settings())
    assert "did not answer within" in told.error
    assert {path: path.lstat().st_ctime_ns for path in host.root.rglob("*")} == before
    host.unit().write_bytes(b"\xff[Service]\nExecStart='\n")
    assert asking.installation(Settings()).runs == "nothing that can be read"

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(host.unit()))

    monkeypatch.setattr(Hands, "look", refused)
    with pytest.raises(SourceError, match="Permission denied"):
        asking.installation(Settings())


def test_which_program_the_units_run(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written in the unit, undone as systemd undoes it; another one's files are not compared."""
    host.install()
    monkeypatch.setattr(asking, "running", lambda: PROGRAM)
    unit = host.unit()
    unit.write_text(unit.read_text().replace(SCRIPT, '"/srv/100%% mine/bin/ds01-policy"'))
    told = asking.installation(Settings())
    assert told.runs == "/srv/100% mine/bin/ds01-policy"
    assert set(found(told)) == {"program", *(slug for slug in ("watch", "reset") if slug in found(told))}


def test_a_policy_that_others_may_change(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of it is looked at, also where systemd does not run the host; another policy is not."""
    host.install()
    asked: list[str] = []

    def open_to_others(paths: list[Path]) -> list[str]:
        asked.extend(map(str, paths))
        return ["x can be written"]

    monkeypatch.setattr(asking, "open_to_others", open_to_others)
    monkeypatch.setattr(asking, "booted", lambda: False)
    told = asking.installation(Settings())
    assert {str(host.at(POLICY)), str(host.at(POLICY) / "rules" / "idle-gpu.yaml")} <= set(asked)
    assert set(found(told)) == {"policy_open"}
    assert asking.installation(None).policy_open == ()


def test_the_shipped_units_are_known_to_the_doctor() -> None:
    """What is asked about is what ships."""
    assert {SERVICE, TIMER, WATCH} <= set(shipped_host().units)
