"""An epilog that may not reset GPUs: it asks every gate all the same, and hands the GPU over to who may."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from epilog_fakes import HELD, NOON, Docker, Fake, Place
from epilog_world import GIB, MINE, OTHER, A, FakeDriver, FakeEngine, FakeTasks, FakeTime, gpu, held, raw

from ds01_policy.act.epilog import Epilog, GpuFinding, Health, Result
from ds01_policy.act.epilog.ports import Unanswered
from ds01_policy.cli import epilog_parts
from ds01_policy.cli.aftermath import epilog_once
from ds01_policy.config.load import load
from ds01_policy.model import GpuStatus, Status
from ds01_policy.observe.capabilities import may_reset
from ds01_policy.policy import EpilogSettings
from ds01_policy.reset_requests import Request, read

ASKED = "the driver asks for `reset`: reset it, or reboot"
BAD = gpu(recovery_action="reset")


@dataclass
class FakeResets:
    """Who may reset: this process (`here`), or somebody else, who can be asked unless `broken`."""

    may: bool = False
    broken: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def here(self) -> bool:
        return self.may

    def hand_over(self, uuid: str, container: str, why: str) -> None:
        if self.broken:
            raise Unanswered(self.broken)
        self.asked.append((uuid, container, why))


def run(resets: FakeResets, status: GpuStatus = BAD, **parts: Any) -> tuple[GpuFinding, list[str]]:
    """Run an epilog of a container that held the first GPU; what was found, and what was changed on it."""
    driver = FakeDriver(list(parts.pop("looks", [[status]])))
    epilog = Epilog(
        driver,
        parts.pop("engine", FakeEngine({OTHER: raw(OTHER)})),
        parts.pop("tasks", FakeTasks()),
        EpilogSettings(**parts.pop("settings", {})),
        parts.pop("hands", True),
        clock=FakeTime().clock(),
        resets=resets,
    )
    assert not parts
    (found,) = epilog.run(held(A)).findings
    return found, [call for call in driver.calls if call != "look"]


# ── who resets ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_process_that_may_resets_it_itself() -> None:
    """As by hand, or under a timer of one's own: nobody is asked."""
    resets = FakeResets(may=True)
    found, calls = run(resets)
    assert (calls, resets.asked, found.unfit) == (["reset GPU-a"], [], False)
    assert "was reset" in found.words


@pytest.mark.parametrize(
    ("status", "health", "why"),
    [
        pytest.param(BAD, Health.CRITICAL, ASKED, id="a recovery action"),
        pytest.param(
            gpu(memory_used_bytes=3 * GIB), Health.CRITICAL, "3 GiB held with no process", id="memory of nobody"
        ),
        pytest.param(gpu(utilization_ratio=1.0), Health.WARN, "utilisation stays at 100%", id="a latched counter"),
        pytest.param(replace(BAD, persistence_mode=True), Health.CRITICAL, ASKED, id="persistence mode"),
    ],
)
def test_a_process_that_may_not_hands_it_over(status: GpuStatus, health: Health, why: str) -> None:
    """It touches nothing, not even persistence mode; until it was reset the GPU is unfit, whatever ails it."""
    resets = FakeResets()
    found, calls = run(resets, status)
    assert calls == []
    ((uuid, container, asked),) = resets.asked
    assert (uuid, container) == (A, MINE)
    assert asked.startswith(why)
    assert found == GpuFinding(A, health, f"{asked}; handed to ds01-policy-reset.service", unfit=True)


@pytest.mark.parametrize("may", [True, False], ids=["may reset", "may not reset"])
@pytest.mark.parametrize(
    ("parts", "why"),
    [
        pytest.param({"settings": {"reset": "never"}}, "epilog.reset is `never` in settings.yaml", id="never"),
        pytest.param({"hands": False}, "this epilog only looks", id="hands tied"),
        pytest.param({"status": gpu(recovery_action="reset", mig_current=True)}, "MIG mode is on", id="MIG"),
        pytest.param({"status": gpu(A, 7, recovery_action="reset")}, "1 on it by the driver's list", id="a process"),
        pytest.param(
            {"engine": FakeEngine({OTHER: raw(OTHER, "exited", Privileged=True)})}, "may use it", id="a container"
        ),
        pytest.param({"engine": FakeEngine(broken="no socket")}, "is not known: no socket", id="Docker is silent"),
        pytest.param(
            {"tasks": FakeTasks({7: 1}, {7: {"command": "Xorg"}}, open_by={0: (7,)})}, "open in Xorg", id="it is open"
        ),
        pytest.param({"looks": [[BAD], [BAD], [gpu(A, 7)]]}, "1 on it by the driver's list", id="somebody comes"),
        pytest.param({"settings": {"timeout": timedelta(seconds=1)}}, "no time left to look twice", id="no time"),
        pytest.param({"status": gpu(recovery_action="reboot")}, "reboot this host", id="what no reset cures"),
        pytest.param({"status": gpu(ecc_uncorrected=3, recovery_action="")}, "memory errors", id="nor that"),
    ],
)
def test_what_speaks_against_a_reset_speaks_against_asking_for_one(
    may: bool,  # noqa: FBT001  a row of a table
    parts: dict[str, Any],
    why: str,
) -> None:
    """The gates are asked by who finds it bad, so that nothing is asked for that stands no chance."""
    resets = FakeResets(may=may)
    found, calls = run(resets, **parts)
    assert (calls, resets.asked, found.unfit) == ([], [], False)
    assert why in found.words


def test_a_gpu_that_is_well_is_nobody_s_business() -> None:
    """Nothing is asked for where nothing is to be cured."""
    resets = FakeResets()
    assert run(resets, gpu())[0] == GpuFinding(A, Health.OK, "nobody on it")
    assert resets.asked == []


def test_who_cannot_ask_says_so() -> None:
    """A full disk: the GPU stays as bad as it is, and nothing claims that somebody sees to it."""
    found, calls = run(FakeResets(broken="/var/lib/x/resets cannot be written (No space left on device)"))
    assert (calls, found.health, found.unfit) == ([], Health.CRITICAL, False)
    assert found.words == (
        f"{ASKED}; not reset: this process may not, and nobody could be asked to: "
        "/var/lib/x/resets cannot be written (No space left on device)"
    )


@pytest.mark.parametrize("health", [Health.CRITICAL, Health.WARN])
def test_what_was_handed_over_is_unfit(tmp_path: Path, health: Health) -> None:
    """A latched counter is a warning; that it waits for its reset makes it unfit all the same, with the reason."""
    words = "bad; handed to ds01-policy-reset.service"
    result = Result(Status.DONE, "", (GpuFinding(A, health, words, unfit=True),))
    with closing(Place(tmp_path)) as place:
        assert place.once(Fake(result)).run(HELD) == result
        assert {uuid: one.why for uuid, one in place.ledger.unfit().items()} == {A: words}


# ── what this process may ────────────────────────────────────────────────────────────────────────────────────────────

STATUS = "Name:\tds01-policy\nCapInh:\t{0}\nCapPrm:\t{1}\nCapEff:\t{2}\nCapBnd:\t{1}\nCapAmb:\t{0}\n"
ALL, NONE = "000001ffffffffff", "0000000000000000"


@pytest.mark.parametrize(
    ("status", "may"),
    [
        pytest.param(STATUS.format(NONE, ALL, ALL), True, id="root"),
        pytest.param(STATUS.format(NONE, ALL, "0000000000200000"), True, id="that one alone"),
        pytest.param(STATUS.format(NONE, ALL, "000001ffffdfffff"), False, id="all but that one"),
        pytest.param(STATUS.format(NONE, "00000000000800a6", "00000000000800a6"), False, id="a hardened unit's root"),
        pytest.param(STATUS.format(ALL, ALL, NONE), False, id="permitted, and not in effect"),
        pytest.param("Name:\tCapEff:\t1ffffffffff\n", False, id="a name that looks like it"),
        pytest.param("CapEff:\tall of them\n", False, id="no number"),
        pytest.param("CapEff:\n", False, id="nothing"),
        pytest.param("", False, id="an empty file"),
        pytest.param(None, False, id="no /proc"),
    ],
)
def test_who_may_reset_a_gpu(tmp_path: Path, status: str | None, *, may: bool) -> None:
    """CAP_SYS_ADMIN in effect, and nothing that cannot be read."""
    if status is not None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "status").write_text(status)
    assert may_reset(tmp_path) is may


# ── the real parts ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_real_parts_ask_in_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the process may at that moment; the request says when, after whom and by which command."""
    (tmp_path / "settings.yaml").write_text(f"version: 1\nstate_dir: {tmp_path}/state\n")
    policy = load(tmp_path, unix_group=lambda _: None)
    made = epilog_once(policy, _no_files, "watch", Docker(), hands=True).epilog
    assert isinstance(made, Epilog)
    resets = made.resets
    assert resets is not None
    for may in (True, False):
        monkeypatch.setattr(epilog_parts, "may_reset", lambda may=may: may)
        assert resets.here() is may
    monkeypatch.setattr(epilog_parts, "now", lambda: NOON)
    resets.hand_over(A, MINE, ASKED)
    assert read(tmp_path / "state" / "resets", A) == Request(A, MINE, NOON, ASKED, "watch")
    with pytest.raises(Unanswered, match="cannot be written"):
        resets.hand_over("all of them", MINE, ASKED)


def _no_files() -> Any:
    raise NotImplementedError
