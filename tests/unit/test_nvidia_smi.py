"""What `nvidia-smi` prints, of every generation, broken in every way, and written to by users."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import gpu_fixtures as fake
import pytest
from gpu_fixtures import LIST, RECORDED, A, B, document, mig_on, mig_slot, two_gpus
from hypothesis import given, settings
from hypothesis import strategies as st
from stopwatch import stopwatch

from ds01_policy.model import Gpu, MigDevice
from ds01_policy.observe import bounded, nvidia_smi
from ds01_policy.observe.nvidia_smi import NotInstalled, inventory, join, parse_list, parse_query
from ds01_policy.observe.nvidia_smi_list import ListedGpu, ListedMig
from ds01_policy.observe.nvidia_smi_query import GpuProcess, GpuStatus, MigSlot
from ds01_policy.observe.ports import Inventory, SourceError
from ds01_policy.observe.unreadable import Unreadable

MIB = 2**20
TEN = timedelta(seconds=10)
PARENT = "GPU-535a0000-0000-4000-8000-000000000007"
NEIGHBOUR = "GPU-535a0000-0000-4000-8000-00000000000f"
MIG_LIST = (
    f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {PARENT})\n"
    "  MIG 1c.3g.20gb  Device  0: (UUID: MIG-00000000-0000-5000-8000-000000000000)\n"
    "  MIG 1c.3g.20gb  Device  1: (UUID: MIG-00000000-0000-5000-8000-000000000001)\n"
    "  MIG 1g.5gb      Device  2: (UUID: MIG-00000000-0000-5000-8000-000000000002)\n"
    f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {NEIGHBOUR})\n"
)


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


# ── nvidia-smi -L ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        pytest.param(LIST, [ListedGpu(0, A, "NVIDIA A40"), ListedGpu(1, B, "NVIDIA A40")], id="two whole GPUs"),
        pytest.param(
            f"GPU 11: Orin (nvgpu) (UUID: {A})\r\n", [ListedGpu(11, A, "Orin (nvgpu)")], id="brackets in the name"
        ),
        pytest.param(
            f"GPU 0: A100 (UUID: {A})\n  MIG 3g.40gb     Device  0: (UUID: MIG-1-2)\n"
            "  MIG 1g.10gb+me  Device  1: (UUID: MIG-1-3)\n",
            [ListedGpu(0, A, "A100", (ListedMig(0, "MIG-1-2", "3g.40gb"), ListedMig(1, "MIG-1-3", "1g.10gb+me")))],
            id="MIG since driver 470",
        ),
        pytest.param(
            f"GPU 0: A100 (UUID: {A})\n  MIG 1c.3g.20gb Device 0: (UUID: MIG-{A}/1/0)\n",
            [ListedGpu(0, A, "A100", (ListedMig(0, f"MIG-{A}/1/0", "1c.3g.20gb"),))],
            id="MIG before driver 470",
        ),
        pytest.param("No devices found.\n", [], id="no GPU"),
        pytest.param("No devices were found\n", [], id="no GPU, in other words"),
    ],
)
def test_a_listing_is_read(text: str, gpus: list[ListedGpu]) -> None:
    """Indexes, names and UUIDs come from the lines, MIG devices from the lines under their GPU."""
    assert list(parse_list(text).gpus) == gpus


@pytest.mark.parametrize(
    ("line", "unreadable"),
    [
        (
            "Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error",
            Unreadable("Unknown Error", "00000000:3B:00.0"),
        ),
        (
            "Unable to determine the device handle for gpu 0000:3b:00.0: GPU is lost.  Reboot the system to recover",
            Unreadable("GPU is lost.  Reboot the system to recover", "00000000:3B:00.0"),
        ),
        (
            "Unable to determine the device handle for GPU1: 0000:3B:00.0: Unknown Error",
            Unreadable("Unknown Error", "00000000:3B:00.0", 1),
        ),
        ("Unable to determine the device handle for GPU1: Unknown Error", Unreadable("Unknown Error", "", 1)),
    ],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_lost_gpu_does_not_hide_the_others(line: str, unreadable: Unreadable, place: str) -> None:
    """The line about it is understood in the words of every driver, wherever it stands."""
    listing = parse_list(f"{line}\n{LIST}" if place == "before" else f"{LIST}{line}\n")
    assert [gpu.uuid for gpu in listing.gpus] == [A, B]
    assert listing.remarks.unreadable == (unreadable,)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "printed no GPU, and not that there is none", id="nothing"),
        pytest.param("\n \n", "printed no GPU", id="blank lines"),
        pytest.param("Segmentation fault\n", "a line that is not understood: Segmentation fault", id="garbage"),
        pytest.param(f"{LIST}GPU 2: NVIDIA A40 (UUI", "not understood: GPU 2", id="half a line"),
        pytest.param(f"{LIST}GPU 2: NVIDIA A40 (UUID: )\n", "not understood: GPU 2", id="no UUID"),
        pytest.param(f"GPU 0: A (UUID: {A})\nGPU 0: A (UUID: {B})\n", "lists a GPU twice", id="an index twice"),
        pytest.param(f"GPU 0: A (UUID: {A})\nGPU 1: A (UUID: {A})\n", "lists a GPU twice", id="a UUID twice"),
        pytest.param("  MIG 1g.5gb Device 0: (UUID: MIG-1)\n", "not understood: MIG", id="a MIG device of no GPU"),
        pytest.param(LIST + "\x1b[2Jx\n", r"not understood: \\x1b\[2Jx", id="control characters, shown as text"),
    ],
)
def test_an_odd_listing_is_refused(text: str, complaint: str) -> None:
    """What is not understood is an error in words, never an empty host."""
    with pytest.raises(SourceError, match=complaint):
        parse_list(text)


# ── nvidia-smi -q -x ─────────────────────────────────────────────────────────────────────────────────────────────────

H100 = GpuStatus(
    uuid="GPU-580a0000-0000-4000-8000-00000000001a",
    pci_bus_id="00000000:1A:00.0",
    minor=0,
    name="NVIDIA H100 80GB HBM3",
    mig_current=False,
    mig_pending=False,
    utilization_ratio=1.0,
    memory_used_bytes=70316 * MIB,
    memory_total_bytes=81559 * MIB,
    processes=(GpuProcess(9001, "C", "VLLM::EngineCore", 69700 * MIB),),
    display_active=False,
    persistence_mode=True,
    recovery_action="none",
    remap_pending=False,
    remap_failure=False,
    ecc_uncorrected=0,
)
GENERATIONS = {
    "driver_340.xml": [
        GpuStatus(
            uuid="GPU-340a0000-0000-4000-8000-000000000005",
            pci_bus_id="00000000:05:00.0",
            minor=0,
            name="Tesla K40c",
            utilization_ratio=0.97,
            memory_used_bytes=82 * MIB,
            memory_total_bytes=11519 * MIB,
            processes=(GpuProcess(2150, "", "./nbody", 66 * MIB),),
            display_active=False,
            persistence_mode=True,
            ecc_uncorrected=2,
        )
    ],
    "driver_418.xml": [
        GpuStatus(
            uuid="GPU-418a0000-0000-4000-8000-00000000003b",
            pci_bus_id="00000000:3B:00.0",
            minor=1,
            name="Tesla V100-PCIE-16GB",
            utilization_ratio=0.0,
            memory_used_bytes=11 * MIB,
            memory_total_bytes=16130 * MIB,
            processes=(
                GpuProcess(811, "G", "/usr/lib/xorg/Xorg", 9 * MIB),
                GpuProcess(30501, "C+G", "/usr/bin/python3", None),
            ),
            display_active=False,
            persistence_mode=False,
            ecc_uncorrected=0,
        )
    ],
    "driver_470.xml": [
        GpuStatus(
            uuid="GPU-470a0000-0000-4000-8000-00000000001e",
            pci_bus_id="00000000:00:1E.0",
            minor=0,
            name="Tesla T4",
            utilization_ratio=0.0,
            memory_used_bytes=0,
            memory_total_bytes=15109 * MIB,
            processes=(),
            display_active=False,
            persistence_mode=True,
            ecc_uncorrected=0,
        ),
        GpuStatus(
            uuid="GPU-470a0000-0000-4000-8000-00000000001f",
            pci_bus_id="00000000:00:1F.0",
            name="GRID T4-8Q",
            utilization_ratio=0.0,
            memory_used_bytes=0,
            memory_total_bytes=15109 * MIB,
            processes=(),
            display_active=True,
        ),
    ],
    "driver_535_mig.xml": [
        GpuStatus(
            uuid=PARENT,
            pci_bus_id="00000000:07:00.0",
            minor=0,
            name="NVIDIA A100-SXM4-40GB",
            mig_current=True,
            mig_pending=True,
            mig=(MigSlot(0, 2, 0), MigSlot(1, 2, 1), MigSlot(2, 7, 0)),
            memory_used_bytes=3744 * MIB,
            memory_total_bytes=40960 * MIB,
            processes=(GpuProcess(4100, "C", "python", 3708 * MIB, 7, 0),),
            display_active=False,
            persistence_mode=True,
            recovery_action="none",
            ecc_uncorrected=0,
        ),
        GpuStatus(
            uuid=NEIGHBOUR,
            pci_bus_id="00000000:0F:00.0",
            minor=1,
            name="NVIDIA A100-SXM4-40GB",
            mig_current=False,
            mig_pending=True,
            utilization_ratio=0.35,
            memory_used_bytes=20480 * MIB,
            memory_total_bytes=40960 * MIB,
            processes=(
                GpuProcess(4200, "C", "python", 20300 * MIB),
                GpuProcess(4201, "M+C", "./mps client", 100 * MIB),
            ),
            display_active=False,
            persistence_mode=True,
            recovery_action="reset",
            remap_pending=True,
            remap_failure=False,
            ecc_uncorrected=5,
        ),
    ],
    "driver_580_lost.xml": [
        H100,
        GpuStatus(
            uuid="GPU-580a0000-0000-4000-8000-00000000003c",
            pci_bus_id="00000000:3C:00.0",
            minor=1,
            name="NVIDIA H100 80GB HBM3",
            mig_current=False,
            mig_pending=False,
            display_active=False,
            persistence_mode=True,
            recovery_action="drain and reset",
            trouble="GPU is lost",
        ),
    ],
    "driver_615.xml": [
        replace(H100, uuid="GPU-615a0000-0000-4000-8000-000000000281", pci_bus_id="00000002:81:00.0"),
    ],
}


@pytest.mark.parametrize("name", GENERATIONS)
def test_every_generation_is_read(name: str) -> None:
    """Drivers from 340 to 615 say the same things in other places and words."""
    query = parse_query(recorded(name))
    assert list(query.gpus) == GENERATIONS[name]
    assert query.attached == len(query.gpus)


def test_every_recorded_generation_has_its_row() -> None:
    """No recording lies about unread."""
    assert {path.name for path in RECORDED.iterdir()} == set(GENERATIONS)


@pytest.mark.parametrize(
    ("shown", "ratio"),
    [
        ("35 %", 0.35),
        ("0 %", 0.0),
        ("100 %", 1.0),
        *((odd, None) for odd in ("N/A", "[N/A]", "Insufficient Permissions", "", "35", "101 %", "-1 %", "٣ %")),
        ("9" * 400 + " %", None),
    ],
)
def test_only_a_percentage_is_a_utilization(shown: str, ratio: float | None) -> None:
    """Whatever else stands there means that the driver does not say, never zero."""
    assert parse_query(two_gpus().replace("50 %", shown)).gpus[0].utilization_ratio == ratio


def test_a_lost_gpu_has_no_process_list() -> None:
    """An empty list from a GPU that does not answer is not knowledge that nobody is there."""
    assert "<processes>\n\t\t</processes>" in recorded("driver_580_lost.xml")
    assert parse_query(recorded("driver_580_lost.xml")).gpus[1].processes is None


@pytest.mark.parametrize(
    "text",
    [
        "Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error\n" + two_gpus(attached=3),
        two_gpus(attached=3).replace(
            "\t</gpu>\n\t<gpu ", "\t</gpu>\nUnable to determine the device handle for GPU1: Unknown Error\n\t<gpu ", 1
        ),
        two_gpus(attached=3).replace(
            "</nvidia_smi_log>", "Unable to determine the device handle for GPU2: x\n</nvidia_smi_log>"
        ),
        two_gpus(attached=3).replace("\t<gpu ", "Unable to determine the device handle for GPU0: x\n\t<gpu ", 1),
        two_gpus(attached=3) + "Unable to determine the device handle for GPU2: x\n",
    ],
    ids=["before the document", "between two GPUs", "behind the last GPU", "before the first GPU", "at the end"],
)
def test_a_lost_gpu_is_found_anywhere_in_the_document(text: str) -> None:
    """The line about it may stand in the middle of the XML; the others are read."""
    query = parse_query(text)
    assert [gpu.uuid for gpu in query.gpus] == [A, B]
    assert len(query.remarks.unreadable) == 1


def test_a_gpu_whose_uuid_is_an_error_is_unreadable() -> None:
    """An error where the UUID should stand makes a GPU that is lost, not one of that name."""
    query = parse_query(two_gpus().replace(B, "GPU is lost"))
    assert [gpu.uuid for gpu in query.gpus] == [A]
    assert query.remarks.unreadable == (Unreadable("GPU is lost", "00000000:02:00.0"),)


ENTITY = '<!DOCTYPE nvidia_smi_log [<!ENTITY e "GPU-x">]>'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "printed no nvidia_smi_log: nothing", id="nothing"),
        pytest.param("Failed to do it\x07", r"printed no nvidia_smi_log: Failed to do it\\x07", id="garbage"),
        pytest.param(two_gpus()[: two_gpus().index(B)], "ended in the middle", id="half, cut inside a GPU"),
        pytest.param(two_gpus()[: two_gpus().index("\t<gpu")], "ended in the middle", id="half, cut before the GPUs"),
        pytest.param(two_gpus()[: two_gpus().index("</nvidia_smi")], "ended in the middle", id="half, cut at the end"),
        pytest.param(two_gpus().replace("</uuid>", ""), "not well-formed", id="a tag left open"),
        pytest.param(two_gpus().replace(A, "&e;"), "not well-formed", id="an entity"),
        pytest.param(
            two_gpus().replace(A, "&e;").replace("<!DOCTYPE nvidia_smi_log SYSTEM", ENTITY), "not well-formed",
            id="an entity and its declaration",
        ),
        pytest.param(two_gpus().replace("<uuid>", "<uuid></uuid><uuid>"), "says uuid twice", id="two UUIDs"),
        pytest.param(two_gpus().replace(B, A), "shows a GPU twice", id="a GPU twice"),
        pytest.param(two_gpus(attached=1), "shows 2 GPUs where it counts 1", id="more GPUs than there are"),
        pytest.param(two_gpus().replace('id="00000000:01', 'id="00000000:05'), "tells of .* under", id="elsewhere"),
        pytest.param(
            document(fake.Fake(A, "00000000:01:00.0", mig=mig_on(mig_slot(0, 1)).replace(">1<", ">x<"))),
            "a MIG device .* without its numbers", id="a MIG device without a number",
        ),
        pytest.param(two_gpus() + "what\n", "a line that is not understood: what", id="a line behind it"),
        pytest.param(
            two_gpus().replace("<processes>", "<procs>").replace("</processes>", "</procs>"),
            "lists processes in a way that is not understood", id="processes elsewhere",
        ),
    ],
)  # fmt: skip
def test_an_odd_document_is_refused(text: str, complaint: str) -> None:
    """What is cut off, not well-formed or contradicts itself is an error in words."""
    with pytest.raises(SourceError, match=complaint):
        parse_query(text)


# ── process names, which users write ─────────────────────────────────────────────────────────────────────────────────

CLOSE = "</process_name><used_memory>1 MiB</used_memory></process_info>"
OPEN = "<process_info><pid>1</pid><type>C</type><process_name>"
FORGED_GPU = (
    f'{CLOSE}</processes></gpu>\n\t<gpu id="00000000:02:00.0"><uuid>{B}</uuid><mig_mode><current_mig>Enabled'
    f"</current_mig></mig_mode><processes>{OPEN}"
)
FORGED_LOSS = FORGED_GPU.replace(B, "GPU is lost").replace(":02:00.0", ":03:00.0")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a<b && c>d",
        "&lt;",
        "a\x00\x1b[31m\u202e",
        "</process_name>",
        "</process_name><pid>1</pid>",
        "<uuid>GPU-evil</uuid>",
        f'<gpu id="00000000:03:00.0"><uuid>{B}</uuid></gpu>',
        "<!--",
        "-->",
        "<![CDATA[",
        "<?xml",
        "</nvidia_smi_log>",
        "Unable to determine the device handle for GPU0: x",
        "\nUnable to determine the device handle for GPU0: x\n",
        CLOSE,
        f"x{CLOSE}</processes>",
        f"x{CLOSE}</processes></gpu>",
        f"x{CLOSE}<!-- ",
        f"x{CLOSE}</processes><processes>{OPEN}",
    ],
)
def test_a_process_name_changes_nothing_about_a_gpu(name: str) -> None:
    """Markup in a name neither forges nor hides anything; at worst that GPU's process list is not believed."""
    query = parse_query(two_gpus(name, name))
    honest = parse_query(two_gpus())
    assert [replace(gpu, processes=None) for gpu in query.gpus] == [replace(gpu, processes=None) for gpu in honest.gpus]
    assert query.remarks == honest.remarks
    for gpu, pids in zip(query.gpus, ([101, 102], [201, 202]), strict=True):
        assert gpu.processes is None or [process.pid for process in gpu.processes] == pids


def test_a_harmless_name_with_markup_in_it_keeps_its_list() -> None:
    """Angle brackets alone cost nobody his place in the list."""
    processes = parse_query(two_gpus("python <stdin> & more")).gpus[0].processes or ()
    assert [(process.pid, process.name) for process in processes] == [
        (101, "python <stdin> & more"),
        (102, "train.py"),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(FORGED_GPU, "python", id="one name makes a GPU up"),
        pytest.param(FORGED_LOSS, "python", id="one name makes a lost GPU up"),
        pytest.param(f"{FORGED_GPU}<!--", "-->", id="two names comment the real one out"),
        pytest.param(f"{FORGED_GPU}<![CDATA[", "]]>", id="two names quote the real one"),
    ],
)
@pytest.mark.parametrize("attached", [2, -1], ids=["counted", "not counted"])
def test_a_gpu_made_up_by_a_name_is_refused(first: str, second: str, attached: int) -> None:
    """A name that imitates the output up to a new GPU makes the whole answer unbelievable, well-formed or not."""
    with pytest.raises(SourceError, match="a process name imitates its output: `ps -eo"):
        parse_query(two_gpus(first, second, attached=attached))


def test_a_gpu_made_up_in_the_place_of_a_lost_one_is_refused() -> None:
    """Where the count leaves room for one more, the listing does not."""
    forged = FORGED_GPU.replace(B, "GPU-evil").replace(":02:00.0", ":03:00.0")
    query = parse_query(two_gpus(forged, attached=3))
    with pytest.raises(SourceError, match="tells of GPU-evil, which nvidia-smi -L does not list"):
        join(parse_list(LIST), query)


def test_entries_made_up_by_a_name_stand_beside_all_real_ones() -> None:
    """A name that imitates whole entries adds them (nothing in the text tells them apart) and hides none."""
    processes = parse_query(two_gpus(f"python{CLOSE}{OPEN}init")).gpus[0].processes or ()
    assert [process.pid for process in processes] == [101, 1, 102]


TAGS = ["process_info", "process_name", "processes", "pid", "used_memory", "gpu", "nvidia_smi_log"]
PIECES = (
    st.sampled_from([f"<{end}{tag}>" for tag in TAGS for end in ("", "/")])
    | st.sampled_from([CLOSE, OPEN, FORGED_GPU, FORGED_LOSS, f"<uuid>{A}</uuid>", "<pid>1</pid>"])
    | st.sampled_from(["<!--", "-->", "<![CDATA[", "]]>", '<gpu id="x">', "\n\t", "&", "<", ">", "x", "\x00"])
)
NAMES = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)


@settings(max_examples=400, deadline=None)
@given(NAMES, NAMES, st.sampled_from([2, -1]))
def test_no_name_whatever_forges_a_gpu_or_hides_a_process(first: str, second: str, attached: int) -> None:
    """The answer is refused, or it says of every GPU exactly what it says without hostile names."""
    honest = parse_query(two_gpus())
    try:
        query = parse_query(two_gpus(first, second, attached=attached))
    except SourceError:
        return
    assert [replace(gpu, processes=None) for gpu in query.gpus] == [replace(gpu, processes=None) for gpu in honest.gpus]
    assert query.remarks == honest.remarks
    for gpu, pids in zip(query.gpus, ({101, 102}, {201, 202}), strict=True):
        assert gpu.processes is None or {process.pid for process in gpu.processes} >= pids


def test_a_long_hostile_name_is_read_in_no_time() -> None:
    """No shape of a name makes the reading take longer than its length."""
    for piece in (
        "</gpu>",
        "</gpu><!---->",
        "<!-- --></gpu>",
        "</process_name>",
        "</process_name>\n<used_memory>",
        CLOSE,
    ):
        begin = time.thread_time()
        parse_query(two_gpus(piece * (2**18 // len(piece))))
        assert time.thread_time() - begin < 2, piece


# ── both together ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mig_device_gets_its_instances_from_the_other_answer() -> None:
    """UUIDs from the listing and instance ids from the query meet by GPU and index, not by order."""
    shuffled = MIG_LIST.splitlines()
    shuffled[1], shuffled[3] = shuffled[3], shuffled[1]
    found = join(parse_list("\n".join(shuffled)), parse_query(recorded("driver_535_mig.xml")))
    parent, neighbour = found.gpus
    devices = parent.mig_devices
    assert {(device.uuid[-1], device.index, device.gpu_instance, device.compute_instance) for device in devices} == {
        ("0", 0, 2, 0),
        ("1", 1, 2, 1),
        ("2", 2, 7, 0),
    }
    assert parent.mig_enabled
    assert [str(ref) for ref in parent.refs] == [f"{PARENT}/gi2", f"{PARENT}/gi7"]
    assert neighbour == Gpu(NEIGHBOUR, 1, "00000000:0F:00.0", 1, "NVIDIA A100-SXM4-40GB")


def test_the_old_name_of_a_mig_device_must_fit_its_instances() -> None:
    """Before driver 470 the UUID spells out GPU and instances; one that says otherwise is refused."""
    query = parse_query(document(fake.Fake(A, "00000000:01:00.0", mig=mig_on(mig_slot(0, 1, 0)))))
    listing = f"GPU 0: A100 (UUID: {A})\n  MIG 3g.20gb Device 0: (UUID: MIG-{A}/1/0)\n"
    assert join(parse_list(listing), query).gpus[0].mig_devices == (MigDevice(f"MIG-{A}/1/0", 0, 1, 0),)
    with pytest.raises(SourceError, match="do not fit each other"):
        join(parse_list(listing.replace("/1/0", "/2/0")), query)


@pytest.mark.parametrize(
    ("mig", "complaint"),
    [
        (mig_on(), "do not fit each other"),
        (mig_on(mig_slot(0, 1)), "do not fit each other"),
        (mig_on(mig_slot(0, 1), mig_slot(2, 2)), "do not fit each other"),
        (mig_on(mig_slot(0, 1), mig_slot(0, 2), mig_slot(1, 3)), "do not fit each other"),
        (mig_on(mig_slot(0, 1), mig_slot(1, 1)), "do not fit each other"),
        (mig_on(mig_slot(0, 1), mig_slot(1, 2)).replace("Enabled", "Disabled"), "whose MIG mode is not on"),
    ],
    ids=["none", "fewer", "other indexes", "an index twice", "an instance twice", "MIG switched off"],
)
def test_mig_answers_that_do_not_fit_are_refused(mig: str, complaint: str) -> None:
    """A MIG device that cannot be resolved without doubt is not guessed at."""
    listing = parse_list(f"GPU 0: A100 (UUID: {A})\n  MIG a Device 0: (UUID: MIG-0)\n  MIG a Device 1: (UUID: MIG-1)\n")
    with pytest.raises(SourceError, match=complaint):
        join(listing, parse_query(document(fake.Fake(A, "00000000:01:00.0", mig=mig))))


def test_mig_switched_on_without_instances_is_a_gpu_in_mig_mode() -> None:
    """It has no MIG device, and says so."""
    query = parse_query(document(fake.Fake(A, "00000000:01:00.0", mig=mig_on())))
    (gpu,) = join(parse_list(f"GPU 0: A100 (UUID: {A})\n"), query).gpus
    assert (gpu.mig_enabled, gpu.mig_devices) == (True, ())


LOST = "Unable to determine the device handle for GPU0000:03:00.0: Unknown Error\n"


@pytest.mark.parametrize(
    ("listing", "query", "gpus", "note"),
    [
        pytest.param(
            LOST + LIST.replace("GPU 1", "GPU 2"), LOST + two_gpus(attached=3),
            [A, "lost:00000000:03:00.0", B], "00000000:03:00.0 cannot be read: Unknown Error",
            id="both say so: it takes the index that is left",
        ),
        pytest.param(
            LIST, two_gpus(attached=3), [A, B, "lost:2"], "a GPU cannot be read: nvidia-smi counts it",
            id="it is only counted",
        ),
        pytest.param(
            LIST, document(fake.Fake(B, "00000000:02:00.0"), attached=2),
            ["lost:0", B], "GPU 0 cannot be read: nvidia-smi -q -x does not tell of it",
            id="it is listed and not told of",
        ),
        pytest.param(
            LIST, LOST + document(fake.Fake(B, "00000000:02:00.0"), attached=2),
            ["lost:00000000:03:00.0", B], "00000000:03:00.0 cannot be read: Unknown Error",
            id="it is listed and lost a moment later",
        ),
    ],
)  # fmt: skip
def test_a_gpu_that_cannot_be_read_stays_in_the_inventory(listing: str, query: str, gpus: list[str], note: str) -> None:
    """It keeps an index, under a name that joins with nothing: `--gpus all` is not judged by the others alone."""
    found = join(parse_list(listing), parse_query(query))
    assert [gpu.uuid for gpu in found.gpus] == gpus
    assert [gpu.index for gpu in found.gpus] == list(range(len(gpus)))
    assert len(found.notes) == 1
    assert found.notes[0].startswith(note)


def test_a_lost_gpu_whose_name_is_known_keeps_it() -> None:
    """The driver may still tell its UUID; the note tells the trouble."""
    gpus = [gpu.uuid for gpu in GENERATIONS["driver_580_lost.xml"]]
    listing = parse_list("".join(f"GPU {index}: H100 (UUID: {uuid})\n" for index, uuid in enumerate(gpus)))
    found = join(listing, parse_query(recorded("driver_580_lost.xml")))
    assert [gpu.uuid for gpu in found.gpus] == gpus
    assert found.notes == ("GPU 1 is in trouble: GPU is lost",)


def test_no_readable_gpu_among_several_is_an_error() -> None:
    """A host whose GPUs are all lost is not a host without GPUs."""
    with pytest.raises(SourceError, match=r"could read none of the GPUs: 00000000:03:00.0 cannot be read"):
        join(parse_list(LOST), parse_query(LOST + document(attached=1)))


# ── the command itself ───────────────────────────────────────────────────────────────────────────────────────────────

WHOLE = Inventory(
    (Gpu(A, 0, "00000000:01:00.0", 1, "NVIDIA A40"), Gpu(B, 1, "00000000:02:00.0", 2, "NVIDIA A40")),
    "nvidia-smi",
    utilization={A: 0.5, B: 0.5},
)


def test_the_two_calls_are_made_and_no_other(tmp_path: Path) -> None:
    """A host of whole GPUs is known after one listing and one query."""
    assert inventory(fake.command(tmp_path), TEN) == WHOLE
    assert fake.calls(tmp_path) == ["-L", "-q -x"]


@pytest.mark.parametrize("said", ["[N/A]", "N/A", "101 %", "-1 %", "GPU is lost", ""])
def test_a_utilisation_that_is_none_is_left_out(tmp_path: Path, said: str) -> None:
    """What cannot be read is never a zero."""
    query = fake.two_gpus().replace("<gpu_util>50 %<", f"<gpu_util>{said}<", 1)
    assert inventory(fake.command(tmp_path, query=query), TEN).utilization == {B: 0.5}


def test_it_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped setting names no directory."""
    fake.command(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert inventory("nvidia-smi", TEN) == WHOLE


def test_with_mig_the_listing_must_stand_still(tmp_path: Path) -> None:
    """Indexes are handed out anew when a GPU is re-partitioned, so a listing that changes meanwhile is no basis."""
    query = recorded("driver_535_mig.xml")
    still = fake.command(tmp_path / "still", MIG_LIST, query)
    assert len(inventory(still, TEN).gpus[0].mig_devices) == 3
    assert fake.calls(tmp_path / "still") == ["-L", "-q -x", "-L"]
    moving = tmp_path / "moving"
    command = fake.command(
        moving, MIG_LIST, query, first=f'[ "$1" = -q ] && sed -i s/000000000002/0000000000ff/ {moving}/list'
    )
    with pytest.raises(SourceError, match="changed while it was read: MIG is being re-partitioned"):
        inventory(command, TEN)


def test_no_gpu_is_an_answer(tmp_path: Path) -> None:
    """A driver without a GPU is an empty inventory, also where the exit code is not zero."""
    none = fake.command(tmp_path / "zero", "No devices found.\n")
    assert inventory(none, TEN) == Inventory((), "nvidia-smi")
    six = fake.command(tmp_path / "six", first="echo No devices were found; exit 6")
    assert inventory(six, TEN) == Inventory((), "nvidia-smi")


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        pytest.param(
            'echo "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."; exit 9',
            "failed with exit code 9: the NVIDIA driver is not loaded;.*: NVIDIA-SMI has failed because",
            id="no driver",
        ),
        pytest.param(
            "echo 'NVIDIA-SMI couldn not find libnvidia-ml.so' >&2; exit 12", "code 12: the library", id="no library"
        ),
        pytest.param("exit 15", "exit code 15: a GPU fell off the bus; reboot", id="off the bus, without an answer"),
        pytest.param(
            "echo 'Unable to determine the device handle for GPU0000:03:00.0: Unknown Error'; exit 255",
            "exit code 255: .*: Unable to determine the device handle for GPU0000:03:00.0",
            id="off the bus, in an older driver's way",
        ),
        pytest.param(
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            "exit code 18: the driver was updated under the running kernel module; reboot",
            id="another version",
        ),
        pytest.param(
            "echo 'Failed to initialize NVML: Unknown Error'; exit 255",
            "exit code 255: after a `systemctl daemon-reload`",
            id="cut off",
        ),
        pytest.param("exit 4", "exit code 4: not permitted; run it as root", id="not root"),
        pytest.param("exit 77", "nvidia-smi -L failed with exit code 77$", id="an unknown code"),
        pytest.param("kill -SEGV $$", "was ended by signal 11", id="a crash"),
        pytest.param("printf '\\033[31m\\377%s' garbage; exit 1", r"code 1: \\x1b\[31m.garbage", id="garbage"),
        pytest.param("echo garbage; exit 0", "a line that is not understood: garbage", id="garbage, and success"),
        pytest.param("exit 0", "printed no GPU, and not that there is none", id="nothing, and success"),
        pytest.param('[ "$1" = -q ] && exit 9', "nvidia-smi -q -x failed with exit code 9", id="only the query fails"),
        pytest.param('[ "$1" = -q ] && { head -c 900 "${0%/*}/query"; exit 0; }', "ended in the middle", id="half"),
    ],
)
def test_a_failing_command_says_what_to_do(tmp_path: Path, first: str, complaint: str) -> None:
    """Each way to fail comes out in words, with what the command itself said."""
    with pytest.raises(SourceError, match=complaint):
        inventory(fake.command(tmp_path, first=first), TEN)


@pytest.mark.parametrize(
    ("code", "where"),
    [(14, ""), (15, ""), (255, ""), (0, ">&2"), (15, ">&2")],
    ids=["14", "15", "255", "0, on standard error", "15, on standard error"],
)
def test_an_answer_about_the_gpus_that_are_left_is_taken(tmp_path: Path, code: int, where: str) -> None:
    """One GPU in trouble changes the exit code and adds a line; the others are told of all the same."""
    line = LOST.strip()
    first = f"trap 'exit {code}' EXIT; echo '{line}' {where}"
    found = inventory(fake.command(tmp_path, query=two_gpus(attached=3), first=first), TEN)
    assert [gpu.uuid for gpu in found.gpus] == [A, B, "lost:00000000:03:00.0"]
    assert found.notes == ("00000000:03:00.0 cannot be read: Unknown Error",)


def test_a_warning_is_passed_on(tmp_path: Path) -> None:
    """A corrupted infoROM is worth a note and no more."""
    first = "trap 'echo WARNING: infoROM is corrupted at gpu 0000:01:00.0; exit 14' EXIT"
    found = inventory(fake.command(tmp_path, first=first), TEN)
    assert found == replace(WHOLE, notes=("WARNING: infoROM is corrupted at gpu 0000:01:00.0",))


@pytest.mark.parametrize("hangs", ["-L", "-q"])
def test_a_command_that_hangs_is_killed(tmp_path: Path, hangs: str) -> None:
    """Either call ends at its deadline, also where SIGTERM is ignored."""
    command = fake.command(tmp_path, first=f'[ "$1" = {hangs} ] && {{ trap "" TERM; sleep 60; }}')
    for timeout_s in (0.5, 10):  # with more time where what does not hang took longer than that
        with stopwatch() as seconds:
            with pytest.raises(SourceError, match=r"nvidia-smi .* did not answer within 1?0s and was killed") as caught:
                inventory(command, timedelta(seconds=timeout_s))
            assert seconds() < timeout_s + 2.5
        if f"nvidia-smi {hangs}" in str(caught.value):
            return
    pytest.fail(str(caught.value))


def test_a_command_that_floods_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen MiB are enough for any host."""
    assert bounded.OUTPUT_LIMIT == 16 * MIB
    monkeypatch.setattr(bounded, "OUTPUT_LIMIT", MIB)
    with pytest.raises(SourceError, match="nvidia-smi -L printed more than 1 MiB"):
        inventory(fake.command(tmp_path, first="exec yes"), TEN)


def test_a_missing_command_is_told_from_a_failing_one() -> None:
    """Not being installed is an error of its own."""
    with pytest.raises(
        NotInstalled, match=re.escape("nvidia-smi -L is not installed: there is no `/no/such/nvidia-smi`")
    ):
        inventory("/no/such/nvidia-smi", TEN)


def test_the_reset_is_out_of_reach() -> None:
    """Nothing in here can be made to run anything but the two questions."""
    source = Path(nvidia_smi.__file__).read_text()
    assert re.findall(r"ask\(command, (\(.*?\))", source) == ['("-L",)', '("-q", "-x")', '("-L",)']
