"""What the doctor finds, given facts: engine, driver, state directory, Prometheus itself, timer, channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from decided import container

from ds01_policy.config.load import load
from ds01_policy.doctor.finding import Finding, Status, roughly, some
from ds01_policy.doctor.judging import devices, engine, prometheus, state, surroundings
from ds01_policy.doctor.judging.clocks import skew
from ds01_policy.model import Gpu, GpuClaim, MigDevice, Mode, Problem
from ds01_policy.observe.gpus import HostGpus
from ds01_policy.policy import GpuSettings, Settings

AT = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def brief(findings: Iterable[Finding]) -> list[str]:
    """Shorten findings that are not in order to `status slug`; each must say what to do."""
    told = list(findings)
    assert all(bool(one.do) is (one.status is not Status.OK) for one in told), told
    assert all(one.what for one in told)
    return [f"{one.status} {one.slug}" for one in told if one.status is not Status.OK]


def words(findings: Iterable[Finding]) -> str:
    return "\n".join(f"{one.slug}: {one.what} / {one.do}" for one in findings)


# ── Docker ───────────────────────────────────────────────────────────────────────────────────────────────────────────

VERSION = {"Version": "28.3.2", "ApiVersion": "1.51"}
INFO: dict[str, Any] = {
    "CgroupDriver": "cgroupfs",
    "CgroupVersion": "2",
    "DefaultRuntime": "runc",
    "Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}},
    "LiveRestoreEnabled": True,
    "SystemTime": "2026-03-02T03:31:01.123456789Z",
}
CDI = {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}, {"Source": "cdi", "ID": "vendor.com/nic=0"}]}


@pytest.mark.parametrize(
    ("version", "info", "gpus", "expected"),
    [
        pytest.param({}, {}, True, [], id="an engine in order"),
        pytest.param(None, {}, True, ["bad docker"], id="nobody answers"),
        pytest.param({}, None, True, ["bad docker"], id="a version and nothing else"),
        pytest.param({"ApiVersion": "1.41"}, {}, True, [], id="the oldest that will do"),
        pytest.param({"ApiVersion": "1.40"}, {}, True, ["bad docker_old"], id="before 20.10"),
        pytest.param({"ApiVersion": "1.9"}, {}, True, ["bad docker_old"], id="versions are numbers, not text"),
        pytest.param({"ApiVersion": "none"}, {}, True, ["bad docker"], id="no version at all"),
        pytest.param({"ApiVersion": None}, {}, True, ["bad docker"], id="not an engine"),
        pytest.param({}, {"Runtimes": {"runc": {}}}, True, ["note docker_gpu"], id="no way to a GPU that is shown"),
        pytest.param({}, {"Runtimes": None}, False, [], id="no GPU, so no way to one is needed"),
        pytest.param({}, {"Runtimes": {}} | CDI, True, [], id="CDI alone is a way"),
        pytest.param({}, {"CgroupDriver": "systemd"}, True, ["note docker_reload"], id="the hook under systemd"),
        pytest.param({}, {"CgroupDriver": "systemd"} | CDI, True, [], id="CDI under systemd"),
        pytest.param({}, {"CgroupDriver": "systemd"}, False, [], id="no GPU to lose"),
        pytest.param({}, {"SystemTime": "2026-03-02T03:31:40Z"}, True, ["bad docker_clock"], id="a clock ahead"),
        pytest.param({}, {"SystemTime": "2026-03-02T04:30:50+01:00"}, True, ["note docker_clock"], id="a clock behind"),
        pytest.param({}, {"SystemTime": "2026-03-02T03:31:00"}, True, [], id="a time without a zone says nothing"),
        pytest.param({}, {"SystemTime": 7}, True, [], id="no time at all says nothing"),
    ],
)
def test_the_engine(
    version: dict[str, Any] | None,
    info: dict[str, Any] | None,
    gpus: bool,  # noqa: FBT001  a table's column
    expected: list[str],
) -> None:
    """What an engine tells of itself, and what that lacks."""
    facts = engine.EngineFacts(
        "unix:///var/run/docker.sock",
        None if version is None else VERSION | version,
        None if info is None else INFO | info,
        error="Docker at unix:///var/run/docker.sock: no such socket",
        asked_at=AT,
    )
    assert brief(engine.engine(facts, gpus=gpus)) == expected


def test_the_engine_in_words() -> None:
    """One line has all that one asks first."""
    facts = engine.EngineFacts("unix:///run/docker.sock", VERSION, INFO | CDI, asked_at=AT)
    first = next(iter(engine.engine(facts, gpus=True)))
    assert first.what == (
        "Docker 28.3.2 (API 1.51) at unix:///run/docker.sock, cgroup v2 by cgroupfs, default runtime runc, "
        "nvidia runtime there, 1 CDI device of NVIDIA, live restore on"
    )


def test_containers() -> None:
    """Those whose GPUs are unclear or that nobody owns are named, the first three; problems are told once a kind."""
    lost = [
        container(name=f"lost{number}", owner="unknown", gpus=GpuClaim(wants=True, unclear="no MIG device MIG-1 here"))
        for number in range(5)
    ]
    problems = [
        *(Problem("container_unreadable", f"{digit * 12}: HTTP 500; left alone") for digit in "abcde"),
        Problem("untrusted_claim", "shady says it is infrastructure"),
        Problem("gpu_down", "said elsewhere"),
    ]
    told = list(engine.containers([*lost, container(owner="unknown")], problems, ""))
    assert brief(told) == ["note gpu_unclear", "note owner_unknown", "bad container_unreadable", "note untrusted_claim"]
    assert told[0].what == "6 containers, 5 of them with GPUs"
    assert "lost2 (no MIG device MIG-1 here); and 2 more" in told[1].what
    assert "lost0, lost1, lost2, and 2 more:" in told[2].what
    assert "cccccccccccc: HTTP 500; left alone; and 2 more" in told[3].what


@pytest.mark.parametrize(("error", "what"), [("", "looked at"), ("too slow", "looked at: too slow")])
def test_no_container_could_be_looked_at(error: str, what: str) -> None:
    """Skipped, not wanting: what is wrong is found elsewhere, unless it is given."""
    (told,) = engine.containers(None, [], error)
    assert (told.status, told.what) == (Status.SKIPPED, f"no container could be {what}")


# ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ahead_s", "expected"),
    [(0, []), (5, []), (-5, []), (6, ["note c"]), (-30, ["note c"]), (31, ["bad c"]), (-3600, ["bad c"])],
)
def test_clocks(ahead_s: float, expected: list[str]) -> None:
    """Seconds are the protocol's, half a minute is somebody's fault."""
    assert brief([skew("c", "Docker", ahead_s, "ages are wrong")]) == expected


def test_a_clock_in_words() -> None:
    """Which way, how far, and what that spoils."""
    assert skew("c", "Prometheus", -40, "samples count as missing").what == (
        "Prometheus's clock is 40s behind this host's: samples count as missing"
    )
    assert "40s ahead of this host's" in skew("c", "Docker", 40, "").what


# ── GPUs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

A, B = Gpu("GPU-aaaa", 0, name="NVIDIA A100"), Gpu("GPU-bbbb", 1, name="NVIDIA A100")
LOST = Gpu("lost:2", 2)
MIG = Gpu("GPU-cccc", 3, mig_enabled=True, mig_devices=(MigDevice("MIG-1", 0, 7, 0), MigDevice("MIG-2", 1, 7, 1)))


@pytest.mark.parametrize(
    ("facts", "expected", "says"),
    [
        ({"gpus": (A, B), "via": "nvml"}, [], "gpu: 2 GPUs through nvml: NVIDIA A100"),
        ({"gpus": (A, MIG), "via": "nvml"}, [], "mig: 2 MIG devices mapped to GPU 3: gi7"),
        ({"gpus": (), "via": "nvidia-smi"}, ["bad gpu"], "nvidia-smi answers, and shows no GPU"),
        ({"error": "neither is installed", "no_stack": True}, ["note gpu"], "neither is installed"),
        ({"error": "NVML: hung"}, ["bad gpu"], "cannot be listed: NVML: hung"),
        ({"gpus": (A, LOST), "notes": ("GPU 2 cannot be read: lost",)}, ["bad gpu_trouble"], "GPU 2 cannot be read"),
        (
            {"gpus": (A,), "via": "nvidia-smi", "notes": ("NVML: crashed; asked nvidia-smi instead", "GPU 0 is hot")},
            ["note nvml", "bad gpu_trouble"],
            "the driver's library does not answer: NVML: crashed /",
        ),
        ({"gpus": (replace(A, mig_enabled=True),)}, ["note mig_empty"], "nothing is partitioned on GPU 0"),
        (
            {"gpus": (MIG,), "unmeasured": {"GPU-cccc/gi7": "not before Hopper"}},
            ["note gpu_unmeasured"],
            "no local sample of GPU-cccc/gi7: not before Hopper",
        ),
    ],
    ids=[
        "two GPUs", "MIG", "none shown", "no driver", "a driver that hangs", "one lost", "the command instead",
        "MIG without instances", "an instance nobody can sample",
    ],
)  # fmt: skip
def test_the_driver(facts: dict[str, Any], expected: list[str], says: str) -> None:
    """What was listed, by whom, and what could not be."""
    told = list(devices.devices(devices.DeviceFacts(**facts)))
    assert brief(told) == expected
    assert says in words(told)


def test_a_gpu_that_is_lost_joins_with_no_metric() -> None:
    """Its stand-in has no UUID that an exporter could know."""
    assert devices.DeviceFacts((A, LOST)).readable == (A,)


def test_the_real_note_of_the_library_is_understood(tmp_path: Any) -> None:
    """It is told as what it is, whatever observe/gpus.py makes of it."""
    from gpu_fixtures import A as UUID
    from gpu_fixtures import Fake, document

    smi = tmp_path / "nvidia-smi"
    (tmp_path / "xml").write_text(document(Fake(UUID, "00000000:01:00.0")))
    smi.write_text(f'#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: NVIDIA A40 (UUID: {UUID})" && exit\ncat {tmp_path}/xml\n')
    smi.chmod(0o755)
    found = HostGpus(GpuSettings(nvidia_smi=str(smi))).inventory()
    if found.via == "nvml":
        pytest.skip("this machine has a driver")
    told = list(devices.devices(devices.DeviceFacts(found.gpus, found.via, found.notes)))
    assert brief(told) == ["note nvml"]


# ── Prometheus itself ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15d", timedelta(days=15)),
        ("1y", timedelta(days=365)),
        ("1w2d", timedelta(days=9)),
        ("90m", 90 * MINUTE),
        ("15d or 10GiB", timedelta(days=15)),
        ("10GiB", None),
        ("", None),
        ("0s", None),
        ("for ever", None),
        ("9" * 30 + "y", timedelta(seconds=1e9)),
    ],
)
def test_how_long_a_server_keeps_samples(text: str, expected: timedelta | None) -> None:
    """As its runtimeinfo page says it; what is not understood is not guessed."""
    assert prometheus.retention(text) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"retention": "15d", "ahead_s": 0.4}, [], id="in order"),
        pytest.param({}, [], id="one that tells nothing of itself"),
        pytest.param({"error": "refuses the connection"}, ["bad prometheus"], id="down"),
        pytest.param({"retention": "1h"}, ["bad retention_short"], id="keeps less than a rule asks"),
        pytest.param({"retention": "2h"}, [], id="keeps as much as a rule asks"),
        pytest.param({"ahead_s": -31.0}, ["bad prometheus_clock"], id="a clock behind"),
        pytest.param(
            {"notes": ("password_file /x can be read by everybody: chmod 600",), "error": "refuses the credentials"},
            ["bad secret_readable", "bad prometheus"],
            id="a secret that everybody can read, though nothing answers",
        ),
    ],
)
def test_the_server(facts: dict[str, Any], expected: list[str]) -> None:
    """Whether it answers, keeps enough, has the time, and its secrets are secret."""
    assert brief(prometheus.server(prometheus.ServerFacts("http://p:9090", **facts), 2 * HOUR)) == expected


def test_a_server_in_words() -> None:
    """Unknown is said to be unknown."""
    told = words(prometheus.server(prometheus.ServerFacts("http://p:9090"), HOUR))
    assert "of unknown version at http://p:9090 answers; how long it keeps samples is unknown" in told
    assert brief(prometheus.off()) == ["note prometheus"]
    short = list(prometheus.server(prometheus.ServerFacts("u", retention="30m"), 90 * MINUTE))[-1]
    assert short.do.startswith("--storage.tsdb.retention.time=2h")


# ── the state directory ──────────────────────────────────────────────────────────────────────────────────────────────

EVERY = 5 * MINUTE
EXPECTED = state.Expected(EVERY, 48 * HOUR, HOUR)


def looks(*, span: timedelta = 2 * HOUR, every: timedelta = EVERY, ago: timedelta = MINUTE) -> tuple[float, ...]:
    count = int(span / every)
    return tuple((AT - ago - every * (count - number)).timestamp() for number in range(count + 1))


def facts(**changes: Any) -> state.StateFacts:
    warm = looks()
    plain = state.StateFacts(
        "/var/lib/ds01-policy", free_bytes=10**10, free_files=10**6, ledger=True, version=3, newest_version=3,
        last_tick_at=AT - MINUTE, looks=warm, samples=3 * len(warm),
    )  # fmt: skip
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [], id="warm"),
        pytest.param({"ledger": False}, ["note ledger"], id="no tick has run yet"),
        pytest.param({"error": "ledger.db is damaged"}, ["bad ledger"], id="a damaged ledger"),
        pytest.param(
            {"error": "permission denied", "root": False},
            ["note user", "skipped ledger"],
            id="not to be read by a user",
        ),
        pytest.param({"unwritable": ("/var",)}, ["bad state_dir"], id="not to be written"),
        pytest.param(
            {"unwritable": ("/var",), "root": False}, ["note user", "note state_dir"], id="not to be written as a user"
        ),
        pytest.param({"free_bytes": 99_999_999}, ["bad disk_full"], id="hardly a byte left"),
        pytest.param({"free_bytes": 100_000_000}, [], id="just enough left"),
        pytest.param({"free_files": 3}, ["bad disk_full"], id="hardly a file left"),
        pytest.param({"free_files": None, "free_bytes": None}, [], id="a file system that counts nothing"),
        pytest.param({"metrics_file": "/m/x.prom"}, [], id="a metrics file"),
        pytest.param({"metrics_file": "/m/x.prom", "metrics_why": "no folder"}, ["bad metrics_file"], id="no folder"),
        pytest.param({"last_tick_at": None}, ["note tick"], id="a first tick that ended badly"),
        pytest.param({"last_tick_at": AT - 12 * MINUTE}, [], id="one tick missed"),
        pytest.param({"last_tick_at": AT - 13 * MINUTE}, ["bad tick"], id="no tick any more"),
        pytest.param({"last_tick_at": AT + MINUTE}, [], id="a tick that ran meanwhile"),
        pytest.param({"last_tick_at": AT + HOUR}, ["bad tick"], id="a clock that was set back"),
        pytest.param({"looks": looks(span=50 * MINUTE)}, ["note local_samples"], id="cold"),
        pytest.param({"looks": ()}, ["note local_samples"], id="none at all"),
        pytest.param({"looks": looks(ago=20 * MINUTE)}, ["note local_samples"], id="none any more"),
        pytest.param(
            {"looks": (*looks(ago=30 * MINUTE), *looks(span=20 * MINUTE))}, ["note local_samples"], id="with a hole"
        ),
        pytest.param(
            {"looks": looks(every=15 * MINUTE)}, ["bad ticks_rare", "note local_samples"], id="ticks that are too rare"
        ),
        pytest.param({"looks": looks(every=7 * MINUTE)}, [], id="ticks that are a little late"),
        pytest.param({"version": 2}, [], id="a ledger that the next tick brings up to date"),
    ],
)
def test_the_state_directory(changes: dict[str, Any], expected: list[str]) -> None:
    """Whether the next tick can write, when the last one ran, and what samples would answer without Prometheus."""
    assert brief(state.state(facts(**changes), EXPECTED, AT)) == expected


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (replace(EXPECTED, window=timedelta(0)), []),
        (replace(EXPECTED, window=48 * HOUR), ["bad retain_short"]),
        (replace(EXPECTED, window=3 * HOUR), ["note local_samples"]),
    ],
    ids=["no rule asks a signal", "kept for too short", "a window longer than what is covered"],
)
def test_what_settings_expect_of_samples(expected: state.Expected, found: list[str]) -> None:
    """The longest window decides."""
    assert brief(state.state(facts(), expected, AT)) == found


def test_samples_in_words() -> None:
    """How far back, and from when on it will be known; the minute is one that is kept."""
    told = words(state.state(facts(looks=looks(span=40 * MINUTE)), EXPECTED, AT))
    assert "cover the last 41m without a gap; without Prometheus the longest window is known from 03:50 UTC on" in told
    told = words(state.state(facts(), EXPECTED, AT))
    assert "75 local samples cover the last 2h1m without a gap: idle rules are answered without Prometheus" in told
    assert "audit log of 0 B" in told


def test_a_look_that_lies_ahead_begins_nothing() -> None:
    """It was taken before the clock was set back."""
    ahead = (AT + 2 * MINUTE).timestamp()
    assert state.run_since((ahead,), EVERY, AT) == float("inf")
    assert state.run_since((*looks(span=10 * MINUTE), ahead), EVERY, AT) == (AT - 11 * MINUTE).timestamp()


def test_a_rare_tick_is_told_with_its_own_interval() -> None:
    """What to write into settings.yaml, if that is how often it is meant to run."""
    told = words(state.state(facts(looks=looks(every=15 * MINUTE)), EXPECTED, AT))
    assert "ticks come every 15m, local_samples.interval says 5m" in told
    assert "set local_samples.interval to 15m" in told


# ── configuration, timer, channels ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("doubts", "own", "expected"),
    [
        ((), True, []),
        ((), False, ["note configuration"]),
        (("limits.yaml:3:1: expired", "b", "c"), True, ["note check"]),
    ],
    ids=["in order", "none of this host's own", "what check doubts"],
)
def test_the_configuration(doubts: tuple[str, ...], own: bool, expected: list[str]) -> None:  # noqa: FBT001  a column
    """Which files hold, and what `check` says of them."""
    policy = replace(load(None, unix_group=lambda _: frozenset()), settings=Settings(mode=Mode.WARN), rules=())
    policy = replace(policy, digest="sha256:0123456789abcdef", directory="/etc/ds01-policy")
    told = list(surroundings.configuration(policy, doubts, own=own))
    assert brief(told) == expected
    assert "/etc/ds01-policy, sha256:0123456789ab, 0 rules, mode warn" in words(told)
    assert ("expired, and 2 more" in words(told)) is bool(doubts)


TIMER = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active", "LastTriggerUSec": "n/a"}
SERVICE = {"LoadState": "loaded", "Result": "success", "ExecMainStatus": "0"}


@pytest.mark.parametrize(
    ("timer", "service", "expected"),
    [
        pytest.param({}, {}, [], id="enabled and active"),
        pytest.param({"UnitFileState": "enabled-runtime"}, {}, [], id="enabled until the next boot"),
        pytest.param({"LoadState": "not-found"}, {}, ["note timer"], id="not installed"),
        pytest.param({"UnitFileState": "disabled"}, {}, ["bad timer"], id="gone after the next boot"),
        pytest.param({"ActiveState": "inactive"}, {}, ["bad timer"], id="enabled and never started"),
        pytest.param({"LoadState": "masked"}, {}, ["note timer"], id="masked"),
        pytest.param({}, {"Result": "exit-code", "ExecMainStatus": "3"}, ["bad last_run"], id="a run that failed"),
        pytest.param({}, {"LoadState": "not-found", "Result": "x"}, [], id="a service of another name"),
    ],
)
def test_the_timer(timer: dict[str, str], service: dict[str, str], expected: list[str]) -> None:
    """Whether anything runs `evaluate`, as far as systemd knows."""
    units = {surroundings.TIMER: TIMER | timer, surroundings.SERVICE: SERVICE | service}
    assert brief(surroundings.timer(surroundings.TimerFacts(units), EVERY)) == expected


def test_no_systemd_is_no_fault() -> None:
    """Cron will do; it is said how often."""
    told = list(surroundings.timer(surroundings.TimerFacts({}, "systemctl is not installed"), EVERY))
    assert brief(told) == ["note timer"]
    assert "every 5m, e.g. by cron" in told[0].do


@pytest.mark.parametrize(
    ("known", "configured", "expected"),
    [
        pytest.param({"sessions": 2}, ["tty"], [], id="logind"),
        pytest.param({"utmp": True, "logind_error": "no bus"}, ["tty"], [], id="utmp alone"),
        pytest.param({"logind_error": "no bus"}, ["tty"], ["bad notify_tty"], id="neither"),
        pytest.param({}, ["wall"], ["bad notify_wall"], id="wall is missing"),
        pytest.param({"wall": True}, ["wall"], [], id="wall"),
        pytest.param({}, ["mailto://u:geheim@x"], ["bad notify_apprise"], id="apprise is missing"),
        pytest.param({"apprise": True}, ["mailto://u:geheim@x", "slack://geheim"], [], id="apprise"),
        pytest.param({}, [], ["note notify"], id="nobody is told"),
    ],
)
def test_channels(known: dict[str, Any], configured: list[str], expected: list[str]) -> None:
    """Only what is configured is judged, and no secret of a URL is shown."""
    told = list(surroundings.channels(surroundings.ChannelFacts(**known), configured))
    assert brief(told) == expected
    assert "geheim" not in words(told)


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_are_cut_and_made_safe() -> None:
    """The first three, the number of the others, and nothing that a terminal would obey."""
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d"]) == "a, b, c, and 1 more"
    assert "\x1b" not in some(["\x1b[31mred"])
    assert roughly(timedelta(minutes=20, seconds=1)) == "20m"
    assert roughly(timedelta(seconds=-3)) == "0s"


def test_facts_of_other_programs_are_made_safe() -> None:
    """What an engine or systemd says may be anything."""
    hostile = "\x1b[2J\n"
    facts_ = engine.EngineFacts(
        hostile, {"Version": hostile, "ApiVersion": "1.51"}, MappingProxyType({**INFO, "DefaultRuntime": hostile})
    )
    units = {surroundings.TIMER: dict.fromkeys(TIMER, hostile) | {"LoadState": "loaded"}}
    told = [*engine.engine(facts_, gpus=False), *surroundings.timer(surroundings.TimerFacts(units), EVERY)]
    assert not {"\x1b", "\n"}.intersection("".join(one.what + one.do for one in told))
