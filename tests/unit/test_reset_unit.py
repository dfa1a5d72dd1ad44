"""The unit that resets GPUs, as text: it waits where requests are written, and has what a reset needs and no more."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import pytest

from ds01_policy.act.epilog import RESET_UNIT
from ds01_policy.cli.aftermath import MARGIN
from ds01_policy.cli.app import app
from ds01_policy.cli.resetting import LONGER
from ds01_policy.policy import EpilogSettings, Settings
from ds01_policy.reset_requests import FOLDER, is_gpu

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"


def options(name: str) -> dict[str, list[str]]:
    """Read a unit: each option with its values in order, whatever section it stands in."""
    found = defaultdict(list)
    for line in (UNITS / name).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found[key].append(value)
    return dict(found)


PATH, SERVICE = options(RESET_UNIT.replace(".service", ".path")), options(RESET_UNIT)


@pytest.mark.parametrize(
    "name", ["GPU-aaaaaaaa-0000-4000-8000-000000000001", "GPU-0", ".new", ".hidden", "junk", "MIG-1", "GPU", "gpu-0"]
)
def test_it_is_woken_by_requests_and_by_nothing_else(name: str) -> None:
    """A request that wakes nobody waits for ever; what is none and wakes it would do so again and again."""
    (glob,) = PATH["PathExistsGlob"]
    folder = PurePosixPath(glob).parent
    assert folder == PurePosixPath(Settings().state_dir) / FOLDER
    assert folder.parent == PurePosixPath("/var/lib") / SERVICE["StateDirectory"][0]
    assert fnmatchcase(name, PurePosixPath(glob).name) == is_gpu(name)


def test_being_woken_for_nothing_ends() -> None:
    """What cannot be taken away would wake it for ever."""
    assert SERVICE["StartLimitIntervalSec"] == ["1h"]
    assert 0 < int(SERVICE["StartLimitBurst"][0]) <= 30


def test_it_runs_a_command_that_there_is() -> None:
    """Hidden from people, who have no use for it."""
    (command,) = SERVICE["ExecStart"]
    program, name = command.split()
    assert program == "/opt/ds01-policy/bin/ds01-policy"
    (its,) = (command for command in app.registered_commands if command.name == name)
    assert its.hidden
    assert SERVICE["Type"] == ["oneshot"]


def test_it_has_what_a_reset_needs() -> None:
    """Found by looking at what a driver asks for; none of the other units has the first two."""
    capabilities = {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}
    assert set(SERVICE["CapabilityBoundingSet"][0].split()) == capabilities
    assert SERVICE["ProtectKernelTunables"] == ["no"]
    assert not any(
        "/sys/bus" in value or value == "/sys" for line in SERVICE["ReadOnlyPaths"] for value in line.split()
    )
    assert "/proc/sys" in SERVICE["ReadOnlyPaths"][0].split()
    assert "MemoryDenyWriteExecute" not in SERVICE
    assert SERVICE.get("ProtectProc") == ["default"]
    assert "@mount" in SERVICE["SystemCallFilter"][1].split()


def test_one_reset_fits_into_the_time_it_is_given_to_end() -> None:
    """Told to end, it sees one through: its turn, the looks and the reset."""
    assert SERVICE["TimeoutStopSec"] == ["2min"]
    timeout = EpilogSettings().timeout
    assert (timeout + MARGIN) + (timeout + LONGER) < timedelta(minutes=2)
    assert SERVICE["KillMode"] == ["mixed"]
