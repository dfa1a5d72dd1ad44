"""Where each file goes and what settings.yaml changes about the units, with hostile paths."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePath, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.install.agree import shipped_host
from ds01_policy.install.layout import (
    DROP_IN,
    LOGROTATE,
    MARK,
    SERVICE,
    STATE,
    TIMER,
    UNITS,
    WATCH,
    Shipped,
    Wanted,
    is_ours,
    wanted,
)
from ds01_policy.install.unit_text import Unwritable, quoted, schedule, values
from ds01_policy.policy import DockerSettings, EpilogSettings, GpuSettings, LocalSamples, PrometheusSettings, Settings

HOME = ["[Service]", "ProtectHome=read-only"]
SCRIPT = PurePosixPath("/opt/ds01-policy/bin/ds01-policy")
CODE = (PurePosixPath("/opt/ds01-policy"), PurePosixPath("/usr/lib/python3.11"))
SHIPPED = shipped_host()


def laid(settings: Settings | None = None, script: PurePath = SCRIPT, shipped: Shipped = SHIPPED) -> Wanted:
    return wanted(shipped, script, CODE, Settings() if settings is None else settings)


def text_of(found: Wanted, path: PurePath) -> str | None:
    return next((file.content.decode() for file in found.files if file.path == path), None)


def drop_in(settings: Settings, unit: str = SERVICE, script: PurePath = SCRIPT) -> list[str]:
    """List the settings in a unit's drop-in, without its comments."""
    text = text_of(laid(settings, script), UNITS / f"{unit}.d" / DROP_IN) or ""
    return [line for line in text.splitlines() if not line.startswith("#")]


# ── how systemd reads a path ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/opt/ds01-policy/bin/x", "/opt/ds01-policy/bin/x"),
        ("/srv/100%/x", "/srv/100%%/x"),
        ("/srv/my state", '"/srv/my state"'),
        ('/srv/a"b', r'"/srv/a\"b"'),
        ("/srv/a'b", '"/srv/a\'b"'),
        (r"/srv/a\x41", r'"/srv/a\\x41"'),
        ('/srv/%h and "%n"', r'"/srv/%%h and \"%%n\""'),
        ("/srv/größe", "/srv/größe"),
    ],
)
def test_a_path_is_read_back_as_it_is(path: str, written: str) -> None:
    """No specifier, quote, blank or backslash in it means anything to systemd."""
    assert quoted(path) == written


@pytest.mark.parametrize("path", ["/srv/a\nExecStartPre=/bin/evil", "/srv/a\rb", "/srv/a\tb", "/srv/\x7f"])
def test_a_path_that_no_line_can_hold(path: str) -> None:
    """It is refused in words, not written: a newline would begin another setting."""
    with pytest.raises(Unwritable, match="control character"):
        quoted(path)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30))
def test_quoting_is_undone_by_the_reader(name: str) -> None:
    """As systemd.syntax(7) says: quotes go, a backslash takes the next character as it is, `%%` is `%`."""
    written = quoted(f"/{name}")
    inner = written[1:-1] if written.startswith('"') else written
    plain, rest = "", iter(inner)
    for character in rest:
        assert written.startswith('"') or character not in " \t\"'\\"
        plain += next(rest) if character == "\\" else character
    assert plain.replace("%%", "%") == f"/{name}"
    assert "%" not in plain.replace("%%", "")


# ── how often ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("interval_s", "lines"),
    [
        (300, ["OnCalendar=*-*-* *:00/5:00", "RandomizedDelaySec=30000ms"]),
        (60, ["OnCalendar=*-*-* *:00/1:00", "RandomizedDelaySec=6000ms"]),
        (30, ["OnCalendar=*-*-* *:*:00/30", "RandomizedDelaySec=3000ms"]),
        (1, ["OnCalendar=*-*-* *:*:00/1", "RandomizedDelaySec=100ms"]),
        (3600, ["OnCalendar=*-*-* 00/1:00:00", "RandomizedDelaySec=30000ms"]),
        (86400, ["OnCalendar=*-*-* 00:00:00", "RandomizedDelaySec=30000ms"]),
        (420, ["OnActiveSec=1s", "OnUnitActiveSec=420s", "RandomizedDelaySec=30000ms"]),
        (90, ["OnActiveSec=1s", "OnUnitActiveSec=90s", "RandomizedDelaySec=9000ms"]),
        (5 * 3600, ["OnActiveSec=1s", "OnUnitActiveSec=18000s", "RandomizedDelaySec=30000ms"]),
        (7, ["OnActiveSec=1s", "OnUnitActiveSec=7s", "RandomizedDelaySec=700ms"]),
    ],
)
def test_a_timer_fires_as_often_as_asked(interval_s: int, lines: list[str]) -> None:
    """By the calendar where the interval divides the clock, else from start to start; what was set goes."""
    assert schedule(timedelta(seconds=interval_s)) == ["OnCalendar=", *lines]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("interval_s", [2, 30, 60, 300, 900, 1800, 3600, 7200, 43200, 86400])
def test_systemd_shows_the_calendar_as_it_is_written(interval_s: int) -> None:
    """What doctor compares: what systemd shows with what is written."""
    written = schedule(timedelta(seconds=interval_s))[1].removeprefix("OnCalendar=")
    ran = subprocess.run(["systemd-analyze", "calendar", written], capture_output=True, text=True, check=True)
    assert f"Normalized form: {written}\n" in ran.stdout


# ── the files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_settings_do_not_change() -> None:
    """Each unit, the log rotation and the state; no drop-in, and those of earlier settings are to go."""
    found = laid()
    units = {UNITS / name for name in SHIPPED.units}
    assert {SERVICE, TIMER, WATCH} <= set(SHIPPED.units)
    assert {file.path for file in found.files} == units | {LOGROTATE}
    assert set(found.absent) == {UNITS / f"{name}.d" / DROP_IN for name in SHIPPED.units}
    assert found.folders == (STATE,)
    assert found.notes == ()
    assert all(
        file.mode == 0o644 and file.content.startswith(MARK + b"\n") and is_ours(file.content) for file in found.files
    )


def test_the_units_run_the_program_where_it_is() -> None:
    """An environment of another name, also one that needs quotes; the rest of the unit is as it ships."""
    text = text_of(laid(script=PurePosixPath("/srv/100% mine/bin/ds01-policy")), UNITS / SERVICE) or ""
    assert values(text, "ExecStart") == ['"/srv/100%% mine/bin/ds01-policy" evaluate']
    assert "/opt/ds01-policy" not in text
    assert text_of(laid(), UNITS / SERVICE) == f"{MARK.decode()}\n{SHIPPED.units[SERVICE]}"


def test_no_unit_holds_a_version() -> None:
    """An upgrade that changes no unit must not make a reload of systemd due."""
    from ds01_policy import __version__

    assert not [file.path for file in laid().files if __version__ in file.content.decode()]


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        (Settings(metrics_file=PurePosixPath("/var/lib/prometheus/node-exporter/x.prom")), []),
        (Settings(metrics_file=PurePosixPath("/var/lib/ds01-policy/x.prom")), []),
        (Settings(metrics_file=PurePosixPath("/srv/m/x.prom")), ["[Service]", "ReadWritePaths=-/srv/m"]),
        (Settings(metrics_file=PurePosixPath("/srv/a b/%h.prom")), ["[Service]", 'ReadWritePaths="-/srv/a b"']),
        (Settings(metrics_file=PurePosixPath("/srv/%h/x.prom")), ["[Service]", "ReadWritePaths=-/srv/%%h"]),
        (Settings(metrics_file=PurePosixPath("/var/lib/ds01-policy/../m")), ["[Service]", "ReadWritePaths=-/var/lib"]),
        (
            Settings(state_dir=PurePosixPath("/srv/s"), metrics_file=PurePosixPath("/srv/m/x.prom")),
            ["[Service]", "ReadWritePaths=-/srv/s -/srv/m"],
        ),
        (
            Settings(metrics_file=PurePosixPath("/home/m/x.prom")),
            ["[Service]", "ProtectHome=read-only", "ReadWritePaths=-/home/m"],
        ),
        (
            Settings(metrics_file=PurePosixPath("/tmp/x.prom")),  # noqa: S108  a path in a setting
            ["[Service]", "PrivateTmp=no", "ReadWritePaths=-/tmp"],
        ),
        (Settings(prometheus=PrometheusSettings(password_file=PurePosixPath("/root/p"))), HOME),
        (Settings(prometheus=PrometheusSettings(ca_file=PurePosixPath("/home/ca"))), HOME),
        (Settings(docker=DockerSettings("unix:///run/user/1000/docker.sock")), HOME),
        (Settings(docker=DockerSettings("tcp://home:2375")), []),
        (Settings(gpu=GpuSettings(nvidia_smi="/root/bin/nvidia-smi")), HOME),
        (Settings(prometheus=None), []),
    ],
)  # fmt: skip
def test_the_service_may_reach_what_settings_name(settings: Settings, lines: list[str]) -> None:
    """Only what the unit closes by itself is opened, and no more of it than needed."""
    assert drop_in(settings) == lines


def test_a_program_in_a_home_is_shown_to_the_units() -> None:
    """Where pipx puts what root installs; read-only, and to every service."""
    script = PurePosixPath("/root/.local/share/pipx/venvs/ds01-policy/bin/ds01-policy")
    for unit in (SERVICE, WATCH):
        assert drop_in(Settings(), unit, script) == ["[Service]", "ProtectHome=read-only"]
    assert drop_in(Settings(), TIMER, script) == []


def test_only_who_writes_a_file_may() -> None:
    """metrics_file is `evaluate`'s; the state is everybody's."""
    settings = Settings(state_dir=PurePosixPath("/srv/s"), metrics_file=PurePosixPath("/srv/m/x.prom"))
    assert drop_in(settings, WATCH) == ["[Service]", "ReadWritePaths=-/srv/s"]
    assert laid(settings).folders == (STATE, PurePosixPath("/srv/s"))


def test_the_timer_follows_the_interval() -> None:
    """Its drop-in takes the shipped calendar back."""
    settings = Settings(local_samples=LocalSamples(timedelta(minutes=2)))
    assert drop_in(settings, TIMER) == ["[Timer]", *schedule(timedelta(minutes=2))]
    assert drop_in(Settings(), TIMER) == []
    shipped = values(SHIPPED.units[TIMER], "OnCalendar")
    assert shipped == ["*:0/5"], "the shipped timer fires as often as the default of local_samples.interval says"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        pytest.param("/srv/s", "/srv/s", id="a plain path"),
        pytest.param('/srv/my "state"', '/srv/my "state"', id="no quotes: systemd takes the whole line"),
        pytest.param("/srv/100%", "/srv/100%%", id="a percent sign is doubled"),
        pytest.param("/srv/[a]*", r"/srv/\[a]\*", id="what would be a pattern is none"),
    ],
)
def test_a_path_unit_follows_the_state(state: str, said: str) -> None:
    """What it watches there, and nothing else."""
    unit = f"[Path]\nPathExists=/run/x\nPathExistsGlob={STATE}/reset/*\n"
    found = laid(Settings(state_dir=PurePosixPath(state)), shipped=Shipped({"a.path": unit}, ""))
    text = text_of(found, UNITS / "a.path.d" / DROP_IN) or ""
    assert text.splitlines()[2:] == ["[Path]", "PathExistsGlob=", f"PathExistsGlob={said}/reset/*"]
    assert text_of(laid(shipped=Shipped({"a.path": unit}, "")), UNITS / "a.path.d" / DROP_IN) is None


def test_a_path_that_no_unit_can_name_is_told() -> None:
    """That drop-in is left as it is; the other units' are written."""
    found = laid(Settings(metrics_file=PurePosixPath("/srv/a\nb/x.prom")))
    assert UNITS / f"{SERVICE}.d" / DROP_IN not in {*found.absent, *(file.path for file in found.files)}
    assert [note for note in found.notes if r"/srv/a\nb" in note]
    with pytest.raises(Unwritable):
        laid(script=PurePosixPath("/srv/a\nb/ds01-policy"))
    with pytest.raises(Unwritable, match="a quote or a backslash"):
        laid(script=PurePosixPath("/srv/it's/ds01-policy"))


@pytest.mark.parametrize(
    ("state", "first_line"),
    [
        ("/var/lib/ds01-policy", "/var/lib/ds01-policy/audit.jsonl {"),
        ("/srv/my-state", "/srv/my-state/audit.jsonl {"),
        ("/srv/my state", '"/srv/my state/audit.jsonl" {'),
        ("/srv/*", None),
        ('/srv/"', None),
        ("/srv/{a}", None),
    ],
)
def test_the_log_rotation_follows_the_state(state: str, first_line: str | None) -> None:
    """A folder that logrotate would read as a pattern is told, not written."""
    found = laid(Settings(state_dir=PurePosixPath(state)))
    text = text_of(found, LOGROTATE)
    if first_line is None:
        assert (text, LOGROTATE in found.absent) == (None, True)
        assert any("rotate its audit.jsonl yourself" in note for note in found.notes)
    else:
        assert first_line in (text or "").splitlines()


def test_settings_that_cannot_be_read() -> None:
    """Units are laid out; nothing is said about drop-ins and rotation, so those that stand stay."""
    found = wanted(SHIPPED, SCRIPT, CODE, None)
    assert {file.path for file in found.files} == {UNITS / name for name in SHIPPED.units}
    assert found.absent == ()
    assert replace(Settings(), epilog=EpilogSettings()) == Settings()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_reads_what_is_written(tmp_path: Path) -> None:
    """The real reader takes the hostile paths, in a drop-in and in ExecStart."""
    folder = tmp_path
    program = folder / "100% it is" / "ds01-policy"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    state = folder / "it's 5% \\ state"
    found = wanted(SHIPPED, program, CODE, Settings(state_dir=PurePosixPath(state)))
    for file in found.files:
        if file.path.is_relative_to(UNITS):
            target = folder / "units" / file.path.relative_to(UNITS)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(folder / "units" / SERVICE)],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{folder}/units:", "PATH": "/usr/bin:/bin"},
    )
    said = [line for line in ran.stderr.splitlines() if "ds01-policy" in line]
    assert said == [], ran.stderr
