"""How GPUs are and who is on them: the real NVML binding against a stand-in library, and the command behind it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import gpu_fixtures as fake
import pytest

from ds01_policy.model import GpuProcess, GpuStatus, MigSlot
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.statuses import HostStatuses
from ds01_policy.policy import GpuSettings

TEN = timedelta(seconds=10)
MIB = 2**20
FIRST, SECOND, THIRD = (f"GPU-00000000-1111-4000-8000-00000000000{index}" for index in range(3))

Script = Callable[..., None]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake.stub_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def script(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    """Put the library in the loader's way and tell it what to do."""
    fake.put_in_the_way(library, monkeypatch, tmp_path / "log")

    def scripted(what: str = "", *, health: str = "", processes: str = "") -> None:
        monkeypatch.setenv("NVML_STUB", what)
        monkeypatch.setenv("NVML_STUB_HEALTH", health)
        monkeypatch.setenv("NVML_STUB_PROCESSES", processes)

    scripted()
    return scripted


def look(command: str = "/no/nvidia-smi", timeout: float = 10, within: float = 10) -> dict[str, GpuStatus]:
    statuses = HostStatuses(GpuSettings("auto", command, timedelta(seconds=timeout)))
    return dict(statuses.look(timedelta(seconds=within)).gpus)


# ── health ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("script")
def test_what_a_gpu_does_not_tell_is_none() -> None:
    """Most of it is optional; memory, modes and processes are told by all."""
    assert look()[FIRST] == GpuStatus(
        FIRST,
        "00000000:07:00.0",
        0,
        "NVIDIA Stub 40GB",
        mig_current=False,
        mig_pending=False,
        memory_used_bytes=4 * MIB,
        memory_total_bytes=40960 * MIB,
        processes=(),
        persistence_mode=False,
        nvlink="none",
        fabric=False,
    )


def test_everything_a_gpu_can_tell(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fact from its own call, of the one GPU it is of."""
    monkeypatch.setenv("NVML_STUB_RATE", "97")
    told = "memory=2048 display=1 persistence=1 recovery=1 remap_pending=1 remap_failure=0 ecc=3 ports=12 fabric=3"
    script(health=" ".join(f"{one}@1" for one in told.split()), processes="4711:C:700:1 4712:G:-:1")
    assert look()[SECOND] == GpuStatus(
        SECOND,
        "00000000:0F:00.0",
        1,
        "NVIDIA Stub 40GB",
        mig_current=False,
        mig_pending=False,
        utilization_ratio=0.97,
        memory_used_bytes=2048 * MIB,
        memory_total_bytes=40960 * MIB,
        processes=(GpuProcess(4711, "C", "", 700 * MIB), GpuProcess(4712, "G", "", None)),
        display_active=True,
        persistence_mode=True,
        recovery_action="reset",
        remap_pending=True,
        remap_failure=False,
        ecc_uncorrected=3,
        nvlink="idle",
        fabric=True,
    )
    assert look()[FIRST].display_active is None


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "none"),
        (1, "reset"),
        (2, "reboot"),
        (3, "drain p2p"),
        (4, "drain and reset"),
        (5, "recover imex domain"),
        (6, "bus reset"),
        (7, "system reboot"),
        (23, "action 23"),
    ],
)
def test_recovery_actions_are_told_in_the_commands_words(script: Script, number: int, words: str) -> None:
    """One that is not known here is still something that the driver asks for."""
    script(health=f"recovery={number}@0")
    assert look()[FIRST].recovery_action == words


@pytest.mark.parametrize(
    ("health", "nvlink"), [("", "none"), ("ports=4", "idle"), ("ports=18 links=2", "active"), ("links=18", "active")]
)
def test_nvlink_ports_and_what_hangs_on_them(script: Script, health: str, nvlink: str) -> None:
    """Whether a GPU has peers is known only where the driver tells of its ports."""
    script(health=health)
    assert look()[FIRST].nvlink == nvlink


@pytest.mark.parametrize("code", [13, 17, 999])
def test_ports_that_cannot_be_read_are_not_known(script: Script, code: int) -> None:
    """An old library, or a call that fails, does not say that there is no peer."""
    script(f"nvmlDeviceGetNvLinkState={code}@0,nvmlDeviceGetGpuFabricInfo=13")
    status = look()[FIRST]
    assert (status.nvlink, status.fabric) == ("", None)


def test_a_driver_without_the_newer_memory_call_counts_its_own(script: Script) -> None:
    """What the driver reserves for itself then counts as used."""
    script("nvmlDeviceGetMemoryInfo_v2=13", health="memory=100 reserved=400")
    assert look()[FIRST].memory_used_bytes == 500 * MIB


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("nvmlDeviceGetMinorNumber", "minor"),
        ("nvmlDeviceGetMigMode", "mig_current"),
        ("nvmlDeviceGetRemappedRows", "remap_pending"),
        ("nvmlDeviceGetTotalEccErrors", "ecc_uncorrected"),
        ("nvmlDeviceGetDisplayActive", "display_active"),
        ("nvmlDeviceGetPersistenceMode", "persistence_mode"),
        ("nvmlDeviceGetFieldValues", "recovery_action"),
        ("nvmlDeviceGetComputeRunningProcesses_v3", "processes"),
        ("nvmlDeviceGetGpuFabricInfo", "fabric"),
        ("nvmlDeviceGetUtilizationRates", "utilization_ratio"),
    ],
)
@pytest.mark.parametrize("code", [4, 13, 17], ids=["not permitted", "not in this library", "fails"])
def test_one_call_that_fails_takes_one_fact(
    script: Script, monkeypatch: pytest.MonkeyPatch, call: str, name: str, code: int
) -> None:
    """The others are told as before."""
    monkeypatch.setenv("NVML_STUB_RATE", "5")
    health = "memory=7 display=0 recovery=0 remap_pending=0 ecc=0"
    script("nvmlDeviceGetMinorNumber=0", health=health)
    before = look()[SECOND]
    older = ",nvmlDeviceGetComputeRunningProcesses_v2=13" if "Compute" in call else ""
    script(f"{call}={code}{older}", health=health)
    after = look()[SECOND]
    changed = {field for field in GpuStatus.__slots__ if getattr(before, field) != getattr(after, field)}
    unknown = {name} | {"mig_current": {"mig_pending"}, "remap_pending": {"remap_failure"}}.get(name, set())
    if name == "mig_current" and code == 13:
        unknown = set()  # a library that knows no MIG: there is none
    assert changed == unknown
    assert not getattr(after, name)


@pytest.mark.parametrize(("code", "words"), [(15, "GPU is lost"), (16, "GPU requires restart"), (999, "Unknown Error")])
@pytest.mark.parametrize("call", ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3"])
def test_a_gpu_in_trouble_says_so_and_nothing_else(script: Script, call: str, code: int, words: str) -> None:
    """Its readings are not believed; its neighbours' are."""
    script(f"{call}={code}@1")
    found = look()
    assert found[SECOND] == GpuStatus(SECOND, "00000000:0F:00.0", name="NVIDIA Stub 40GB", trouble=words)
    assert not found[FIRST].trouble


def test_a_gpu_that_cannot_even_be_opened_is_counted(script: Script) -> None:
    """It has no UUID to be told under."""
    script("nvmlDeviceGetHandleByIndex_v2=15@1")
    told = HostStatuses(GpuSettings()).look(TEN)
    assert (set(told.gpus), told.count) == ({FIRST, THIRD}, 3)
    assert told.unreadable == ("GPU 1 cannot be read: GPU is lost (code 15): a GPU fell off the bus; reboot",)


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("processes", "told"),
    [
        pytest.param("", (), id="nobody"),
        pytest.param("7:C:10:0", (GpuProcess(7, "C", "", 10 * MIB),), id="compute"),
        pytest.param("7:G:10:0", (GpuProcess(7, "G", "", 10 * MIB),), id="graphics"),
        pytest.param("7:C:10:0 7:G:12:0", (GpuProcess(7, "C+G", "", 12 * MIB),), id="both"),
        pytest.param("7:M:10:0", (GpuProcess(7, "M+C", "", 10 * MIB),), id="an MPS client"),
        pytest.param("7:M:10:0 7:C:10:0", (GpuProcess(7, "M+C", "", 10 * MIB),), id="an MPS client, listed twice"),
        pytest.param("7:C:-:0", (GpuProcess(7, "C", "", None),), id="memory not told"),
        pytest.param("7:C:1:1", (), id="on another GPU"),
        pytest.param(
            "7:C:1:0 8:C:2:0", (GpuProcess(7, "C", "", MIB), GpuProcess(8, "C", "", 2 * MIB)), id="two processes"
        ),
    ],
)
def test_the_processes_of_a_whole_gpu(script: Script, processes: str, told: tuple[GpuProcess, ...]) -> None:
    """By what kind of context they have, as nvidia-smi names it."""
    script(processes=processes)
    assert look()[FIRST].processes == told


MIG = (GpuProcess(7, "C", "", MIB, 2, 0), GpuProcess(8, "C", "", 2 * MIB, 9, 1))


@pytest.mark.parametrize("code", [0, 4, 3], ids=["the GPU tells of all", "not permitted", "not supported"])
def test_the_processes_of_a_gpu_in_mig_mode(script: Script, code: int) -> None:
    """Each with its instances, once, whether or not the GPU as a whole may be asked."""
    script(f"nvmlDeviceGetComputeRunningProcesses_v3={code}@2", processes="7:C:1:2:2:0 8:C:2:2:9:1")
    status = look()[THIRD]
    assert sorted(status.processes or (), key=lambda process: process.pid) == list(MIG)
    assert status.mig == (MigSlot(0, 2, 0), MigSlot(2, 9, 0), MigSlot(3, 9, 1))
    assert (status.mig_current, status.utilization_ratio) == (True, None)


def test_a_driver_before_510_lists_them_by_the_older_call(script: Script) -> None:
    """The list is the same."""
    script("nvmlDeviceGetComputeRunningProcesses_v3=13", processes="7:C:10:0")
    assert look()[FIRST].processes == (GpuProcess(7, "C", "", 10 * MIB),)


@pytest.mark.parametrize("call", ["Graphics", "MPSCompute"])
@pytest.mark.parametrize("code", [3, 13])
def test_kinds_that_a_driver_does_not_know_have_no_processes(script: Script, call: str, code: int) -> None:
    """The compute processes are still told."""
    name = f"nvmlDeviceGet{call}RunningProcesses"
    script(f"{name}_v3={code},{name}_v2={code}", processes="7:C:10:0")
    assert look()[FIRST].processes == (GpuProcess(7, "C", "", 10 * MIB),)


def test_a_list_that_is_not_whole_is_none(script: Script) -> None:
    """That nobody has a graphics context is not known if that list fails."""
    script("nvmlDeviceGetGraphicsRunningProcesses_v3=17", processes="7:C:10:0")
    assert look()[FIRST].processes is None


# ── the other way, and failures ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "what", ["nvmlInitWithFlags=9", "load=crash", "nvmlInitWithFlags=hang", "nvmlDeviceGetMemoryInfo_v2=hang@1"]
)
def test_the_command_stands_in_for_a_library_that_fails(script: Script, tmp_path: Path, what: str) -> None:
    """In the same time: the library may use half of it."""
    script(what)
    smi = fake.command(tmp_path / "bin")
    told = HostStatuses(GpuSettings("auto", smi, TEN)).look(timedelta(seconds=6))
    assert (told.via, set(told.gpus)) == ("nvidia-smi", {fake.A, fake.B})
    assert [process.pid for process in told.gpus[fake.A].processes or ()] == [101, 102]
    assert told.notes[0].endswith("asked nvidia-smi instead")
    assert fake.calls(tmp_path / "bin") == ["-q -x"]


def test_both_hanging_ends_in_the_time_given(script: Script, tmp_path: Path) -> None:
    """The error tells both."""
    script("nvmlInitWithFlags=hang")
    smi = fake.command(tmp_path / "bin", first="exec sleep 600")
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"NVML did not answer .*; nvidia-smi -q -x did not answer"):
        HostStatuses(GpuSettings("auto", smi, TEN)).look(timedelta(seconds=2))
    assert time.monotonic() - began < 60


def test_never_means_that_the_library_is_not_touched(script: Script, tmp_path: Path) -> None:
    """The command alone tells; persistence mode cannot be switched."""
    script()
    statuses = HostStatuses(GpuSettings("never", fake.command(tmp_path / "bin"), TEN))
    assert statuses.look(TEN).via == "nvidia-smi"
    with pytest.raises(SourceError, match=r"gpu\.nvml is `never`"):
        statuses.persist(fake.A, TEN, on=True)
    assert not (tmp_path / "log").exists()


def test_gpus_the_command_only_counts_are_counted(tmp_path: Path) -> None:
    """Three attached, two told of."""
    smi = fake.command(tmp_path / "bin", query=fake.two_gpus(attached=3))
    told = HostStatuses(GpuSettings("never", smi, TEN)).look(TEN)
    assert (len(told.gpus), told.count) == (2, 3)


# ── the only calls that change anything ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("on", [True, False])
def test_persistence_mode_is_switched_of_one_gpu(script: Script, tmp_path: Path, on: bool) -> None:  # noqa: FBT001
    """By its UUID, whatever its index is today."""
    script()
    HostStatuses(GpuSettings()).persist(SECOND, TEN, on=on)
    switched = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("persistence")]
    assert switched == [f"persistence 1 {'on' if on else 'off'}"]


def test_persistence_mode_that_is_refused_is_said(script: Script) -> None:
    """Without root it is not permitted."""
    script("nvmlDeviceSetPersistenceMode=4")
    with pytest.raises(SourceError, match=r"Insufficient Permissions \(code 4\): not permitted; run it as root"):
        HostStatuses(GpuSettings()).persist(SECOND, TEN, on=False)


def test_a_reset_names_its_gpu(tmp_path: Path) -> None:
    """Exactly one call, with -i."""
    smi = fake.command(tmp_path / "bin", first='case "$1" in --gpu-reset) exit 0 ;; esac')
    HostStatuses(GpuSettings("never", smi, TEN)).reset(fake.A, TEN)
    assert fake.calls(tmp_path / "bin") == [f"--gpu-reset -i {fake.A}"]


@pytest.mark.parametrize("uuid", ["", "0", "GPU-", "GPU-a b", "MIG-1234", "GPU-aaaa\n", "-i GPU-aaaa"])
def test_what_names_no_gpu_resets_nothing(tmp_path: Path, uuid: str) -> None:
    """The command without a GPU's name would reset every one."""
    smi = fake.command(tmp_path / "bin")
    with pytest.raises(SourceError, match="nothing was reset"):
        HostStatuses(GpuSettings("never", smi, TEN)).reset(uuid, TEN)
    assert not (tmp_path / "bin" / "calls").exists()


@pytest.mark.parametrize("code", [1, 3, 4, 6, 8, 10, 14, 15, 255])
def test_a_reset_that_fails_is_no_answer(tmp_path: Path, code: int) -> None:
    """Codes with which a query still answers are failures of a reset."""
    smi = fake.command(tmp_path / "bin", first=f"echo 'GPU 00000000:01:00.0: In use by another client'; exit {code}")
    with pytest.raises(SourceError, match=rf"--gpu-reset failed with exit code {code}.*In use by another client"):
        HostStatuses(GpuSettings("never", smi, TEN)).reset(fake.A, TEN)
