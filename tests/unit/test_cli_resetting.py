"""`reset-gpus` as a program: what its unit runs. Which policy it goes by, its lines, its exit codes, how it ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_host import DEMO, Ran, configured, ended, run, start
from epilog_world import MINE, A, B, FakeDriver, FakeEngine, FakeTasks, FakeTime, gpu

from ds01_policy.act.epilog import Epilog
from ds01_policy.cli import resetting
from ds01_policy.cli.aftermath import MARGIN
from ds01_policy.cli.epilog_parts import epilog_of
from ds01_policy.config.load import load
from ds01_policy.ledger import Ledger
from ds01_policy.memory import AUDIT, LEDGER
from ds01_policy.policy import Policy
from ds01_policy.reset_requests import FOLDER, Request, ask, listed

BAD = [gpu(A, recovery_action="reset"), gpu(B, recovery_action="reset")]
NONE_WAITS = "no GPU waits to be reset\n"


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@dataclass
class Host:
    """A configured host whose driver shows what the test says; nothing of this machine is looked at."""

    folder: Path
    patch: pytest.MonkeyPatch
    settings: dict[str, Any] = field(default_factory=lambda: {"mode": "enforce"})
    driver: FakeDriver = field(default_factory=lambda: FakeDriver([BAD]))
    made: list[Epilog] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def resets(self) -> list[str]:
        return [call for call in self.driver.calls if call.startswith("reset")]

    def handed(self, *uuids: str, state: Path | None = None) -> None:
        """Hand GPUs over, the first one first, as an epilog that ran a moment ago."""
        state = state or self.state
        state.mkdir(exist_ok=True)
        now = datetime.now(UTC)
        with closing(Ledger.open(state / LEDGER)) as ledger:
            for number, uuid in enumerate(uuids):
                ask(state / FOLDER, Request(uuid, MINE, now, "bad", "watch"))
                os.utime(state / FOLDER / uuid, (number, number))
                ledger.mark_unfit(uuid, "bad", now)

    def __call__(self, *args: str | Path, env: dict[str, str] | None = None) -> Ran:
        self.patch.setattr(resetting, "epilog_of", self._epilog)
        return run("--config", self.config, *args, "reset-gpus", env={"STATE_DIRECTORY": "", **(env or {})})

    @property
    def config(self) -> Path:
        config = self.folder / "config"
        return config if config.is_dir() else configured(self.folder, **self.settings)

    def unfit(self, state: Path | None = None) -> dict[str, str]:
        with closing(Ledger.open((state or self.state) / LEDGER)) as ledger:
            return {uuid: one.why for uuid, one in ledger.unfit().items()}

    def _epilog(self, policy: Policy, *, hands: bool) -> Epilog:
        real = epilog_of(policy, hands=hands)
        self.made.append(real)
        return replace(real, driver=self.driver, engine=FakeEngine(), tasks=FakeTasks(), clock=FakeTime().clock())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(resetting, "may_reset", lambda: True)
    return Host(tmp_path, monkeypatch)


# ── its lines and exit codes ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_host_on_which_none_waits(host: Host) -> None:
    """Nothing is opened, nothing is made."""
    ran = host()
    assert (ran.code, ran.stdout, ran.stderr) == (0, NONE_WAITS, "")
    assert not host.state.exists()


def test_each_gpu_gets_a_line_the_oldest_first(host: Host) -> None:
    """One is well after it, one is not: that is exit code 1, and the unit shows it."""
    host.handed(B, A)

    class Cured(FakeDriver):
        def reset(self, uuid: str, within: timedelta) -> None:
            super().reset(uuid, within)
            self.looks = [[gpu(B), gpu(A, recovery_action="reboot")]]

    host.driver = Cured([BAD])
    ran = host()
    first, second = ran.stdout.splitlines()
    assert first == f"{B}: ok: the driver asks for `reset`: reset it, or reboot; was reset; now: nobody on it"
    assert second == f"{A}: critical: the driver asks for `reboot`: reboot this host"
    assert (ran.code, host.resets, listed(host.state / FOLDER)) == (1, ["reset GPU-b"], {})
    assert host.unfit() == {A: "the driver asks for `reboot`: reboot this host"}
    audit = [json.loads(line) for line in (host.state / AUDIT).read_text().splitlines()]
    assert [(line["kind"], line["by"], line["gpus"]) for line in audit] == [
        ("intent", "reset-gpus", [B]), ("outcome", "reset-gpus", [B]),
        ("intent", "reset-gpus", [A]), ("outcome", "reset-gpus", [A]),
    ]  # fmt: skip
    assert all(line["policy"].startswith("sha256:") for line in audit)
    again = host()
    assert (again.code, again.stdout) == (0, NONE_WAITS)


def test_one_that_is_still_bad_is_exit_code_1_whatever_comes_after_it(host: Host) -> None:
    """The unit fails once, for all of them."""
    host.handed(A, B)
    host.driver = FakeDriver([[gpu(A, recovery_action="reboot"), gpu(B)]])
    ran = host()
    assert ran.code == 1
    assert [line.split(": ")[1] for line in ran.stdout.splitlines()] == ["critical", "ok"]


def test_all_well_is_exit_code_0(host: Host) -> None:
    """Reset or well by itself."""
    host.handed(A)
    host.driver = FakeDriver([[gpu()]])
    ran = host()
    assert (ran.code, ran.stdout) == (0, f"{A}: ok: nobody on it\n")


def test_a_recording_has_no_gpu(host: Host) -> None:
    """Exit code 2, nothing done."""
    host.handed(A)
    ran = host("--replay", DEMO)
    assert (ran.code, ran.stdout) == (2, "")
    assert "cannot run on a recording" in ran.stderr
    assert list(listed(host.state / FOLDER)) == [A]


def test_who_may_not_look_is_told(host: Host) -> None:
    """Run by somebody else than root; here a folder that is none."""
    host.state.mkdir()
    (host.state / FOLDER).write_text("")
    ran = host()
    assert (ran.code, ran.stdout) == (1, "")
    assert f"{host.state / FOLDER} cannot be read" in ran.stderr
    assert "run as root" in ran.stderr


# ── which policy it goes by ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"mode": "observe"}, "not reset: mode is observe in settings.yaml", id="observe"),
        pytest.param({"mode": "warn"}, "not reset: mode is warn in settings.yaml", id="warn"),
        pytest.param(
            {"mode": "enforce", "epilog": {"reset": "never"}},
            "not reset: epilog.reset is `never` in settings.yaml",
            id="never",
        ),
    ],
)
def test_what_the_policy_does_not_want_is_not_done(host: Host, settings: dict[str, Any], words: str) -> None:
    """Weakened since the GPU was handed over: as ordered, so no failure; not even an epilog is made."""
    host.settings = settings
    host.handed(A)
    ran = host()
    assert (ran.code, ran.stdout) == (0, f"{A}: {words}\n")
    assert (host.made, host.driver.calls, listed(host.state / FOLDER)) == ([], [], {})
    assert host.unfit() == {A: f"bad; {words}"}


def test_a_mode_that_is_weakened_meanwhile_counts_at_once(host: Host) -> None:
    """Between one GPU and the next: somebody has pulled the brake."""
    host.handed(A, B)
    settings = host.config / "settings.yaml"

    class Braked(FakeDriver):
        def reset(self, uuid: str, within: timedelta) -> None:
            super().reset(uuid, within)
            settings.write_text(json.dumps({**json.loads(settings.read_text()), "mode": "observe"}))

    host.driver = Braked([BAD])
    assert f"{B}: not reset: mode is observe" in host().stdout
    assert host.resets == ["reset GPU-a"]


def test_without_the_capability_it_does_not_go_round_in_circles(host: Host) -> None:
    """It does not hand over what was handed to it; the GPU says why it was not reset."""
    host.patch.setattr(resetting, "may_reset", lambda: False)
    host.handed(A)
    ran = host()
    assert (ran.code, ran.stdout) == (
        0, f"{A}: not reset: this process may not reset a GPU either: it lacks CAP_SYS_ADMIN\n"
    )  # fmt: skip
    assert (host.driver.calls, listed(host.state / FOLDER)) == ([], {})


def test_the_epilog_it_runs_resets_itself_and_takes_its_time(host: Host) -> None:
    """It hands nothing over, and is still done before another epilog gives up waiting for its turn."""
    policy = load(host.config, unix_group=lambda _: None)
    made = resetting._epilog(policy)  # noqa: SLF001  its parts are what matters
    assert isinstance(made, Epilog)
    assert (made.resets, made.hands, made.xids) == (None, True, None)
    usual = policy.settings.epilog
    assert replace(made.settings, timeout=usual.timeout) == usual
    assert usual.timeout < made.settings.timeout < usual.timeout + MARGIN


# ── a policy that cannot be read ─────────────────────────────────────────────────────────────────────────────────────


def broken(host: Host) -> None:
    (host.config / "settings.yaml").write_text("mode: enforced\n")


def test_by_hand_a_broken_policy_changes_nothing(host: Host) -> None:
    """Which state directory it means is not known."""
    host.handed(A)
    broken(host)
    ran = host()
    assert (ran.code, ran.stdout) == (2, "")
    assert "settings.yaml:1" in ran.stderr
    assert "nothing was reset" in ran.stderr
    assert list(listed(host.state / FOLDER)) == [A]


def test_under_its_unit_a_broken_policy_leaves_no_request(host: Host) -> None:
    """What lies there would start it again and again until systemd gives up, and with it on all later ones."""
    host.handed(A, B)
    broken(host)
    ran = host(env={"STATE_DIRECTORY": str(host.state)})
    assert (ran.code, host.driver.calls, listed(host.state / FOLDER)) == (2, [], {})
    words = "not reset: the policy cannot be read: ds01-policy check"
    assert ran.stdout == f"{A}: {words}\n{B}: {words}\n"
    assert host.unfit() == {A: f"bad; {words}", B: f"bad; {words}"}


def test_what_lies_where_the_policy_no_longer_looks_is_taken_away(host: Host, tmp_path: Path) -> None:
    """state_dir was moved; the unit is still woken by the old place."""
    old = tmp_path / "old"
    host.handed(A, state=old)
    ran = host(env={"STATE_DIRECTORY": f"{old}:/elsewhere"})
    words = f"not reset: state_dir in settings.yaml is {host.state}"
    assert (ran.code, ran.stdout, listed(old / FOLDER)) == (0, f"{A}: {words}\n", {})
    assert host.unfit(old) == {A: f"bad; {words}"}
    assert host.driver.calls == []


def test_the_same_place_under_another_name_is_no_other_place(host: Host, tmp_path: Path) -> None:
    """/var/lib may be a link."""
    host.handed(A)
    (tmp_path / "link").symlink_to(host.state)

    class Another(FakeDriver):
        def reset(self, uuid: str, within: timedelta) -> None:
            super().reset(uuid, within)
            host.handed(B)  # meanwhile

    host.driver = Another([BAD])
    host(env={"STATE_DIRECTORY": str(tmp_path / "link")})
    assert (host.resets, list(listed(host.state / FOLDER))) == (["reset GPU-a"], [B])


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_sees_one_gpu_through(host: Host, number: signal.Signals) -> None:
    """The other's request stays for the next start."""
    host.handed(A, B)

    class Told(FakeDriver):
        def reset(self, uuid: str, within: timedelta) -> None:
            os.kill(os.getpid(), number)
            super().reset(uuid, within)
            self.looks = [[gpu(A), gpu(B)]]

    host.driver = Told([BAD])
    ran = host()
    assert (ran.code, host.resets, list(listed(host.state / FOLDER))) == (0, ["reset GPU-a"], [B])
    assert host.unfit() == {B: "bad"}


def test_the_program_itself_runs_it(tmp_path: Path) -> None:
    """Under a name that help does not list."""
    config = configured(tmp_path, mode="enforce")
    ran = ended(start("--config", config, "reset-gpus"))
    assert (ran.code, ran.stdout, ran.stderr) == (0, NONE_WAITS, "")
    assert "reset-gpus" not in run("--help").stdout
