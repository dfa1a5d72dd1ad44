"""Lines that fit: display width, wrapping that keeps amounts whole, times and GPUs as people say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.model import Gpu, GpuClaim, GpuRef, SourceState
from ds01_policy.report.layout import Clock, Page, columns, fit, gpu_words, pad, source_words, wrap

AT = datetime(2026, 3, 2, 3, 31, tzinfo=UTC)
BERLIN = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        pytest.param("one two three", 7, ["one two", "three"], id="breaks at spaces"),
        pytest.param("one  two", 20, ["one two"], id="several spaces are one"),
        pytest.param("abcdefghij", 4, ["abcd", "efgh", "ij"], id="a long word breaks where it must"),
        pytest.param("a bcdefgh", 4, ["a", "bcde", "fgh"], id="a long word begins its own line"),
        pytest.param("mean cpu 0.1% < 1% net", 16, ["mean", "cpu 0.1% < 1%", "net"], id="a comparison stays whole"),
        pytest.param("net 12 B/s < 10 KiB/s", 18, ["net 12 B/s < 10 Ki", "B/s"], id="unless it fits no line at all"),
        pytest.param("due in 20h, Tue 00:31", 16, ["due in 20h,", "Tue 00:31"], id="a time stays whole"),
        pytest.param("until 2026-03-02 21:00 UTC", 22, ["until", "2026-03-02 21:00 UTC"], id="so does a date"),
        pytest.param("コンテナ名前", 5, ["コン", "テナ", "名前"], id="wide characters take two columns"),
        pytest.param("", 5, [], id="nothing is no line"),
    ],
)
def test_wraps(text: str, width: int, lines: list[str]) -> None:
    """Lines are as long as they may be and break where they should."""
    assert wrap(text, width) == lines


@given(st.text(), st.integers(min_value=2, max_value=100))
def test_wrapping_loses_nothing_and_fits(text: str, width: int) -> None:
    """Every line fits, and all that is not a space is still there in order."""
    lines = wrap(text, width)
    assert all(columns(line) <= width for line in lines)
    blanks = str.maketrans("", "", " \u00a0")
    assert "".join(lines).translate(blanks) == text.translate(blanks)


@given(st.text(), st.integers(min_value=1, max_value=60))
def test_padding_is_exact(text: str, width: int) -> None:
    """A cell takes exactly its columns, whatever stands in it."""
    assert columns(pad(text, width)) == width


@pytest.mark.parametrize(
    ("text", "width", "cut"),
    [
        pytest.param("train", 5, "train", id="what fits stays"),
        pytest.param("training", 5, "trai…", id="what is cut is marked"),
        pytest.param("名前名前", 5, "名前…", id="by columns, not characters"),
        pytest.param("名前", 3, "名…", id="a wide one that half fits goes"),
        pytest.param("e\u0301e\u0301", 2, "e\u0301e\u0301", id="combining marks take no column"),
    ],
)
def test_cuts(text: str, width: int, cut: str) -> None:
    """Cutting counts columns as a terminal does."""
    assert fit(text, width) == cut


@pytest.mark.parametrize(
    ("when", "said"),
    [
        pytest.param(AT, "now, 04:31", id="this instant"),
        pytest.param(AT + timedelta(minutes=9, seconds=30), "in 9m, 04:40", id="soon, without seconds"),
        pytest.param(AT + timedelta(seconds=75), "in 1m15s, 04:32", id="sooner, with seconds"),
        pytest.param(AT - timedelta(minutes=10), "10m ago, 04:21", id="past"),
        pytest.param(AT + timedelta(hours=20), "in 20h, Tue 00:31", id="tomorrow here, today in UTC"),
        pytest.param(AT + timedelta(days=30), "in 30d, 2026-04-01 04:31", id="far off, with its date"),
    ],
)
def test_says_times_both_ways(when: datetime, said: str) -> None:
    """Relative and absolute, in the reader's time zone."""
    assert Clock(AT, BERLIN).both(when) == said


def test_names_the_offset_once() -> None:
    """The header's time says which zone every other time is in; half hours too."""
    assert Clock(AT, BERLIN).stamp() == "Mon 2026-03-02 04:31 (UTC+01:00)"
    assert Clock(AT, timezone(-timedelta(hours=3, minutes=30))).stamp() == "Mon 2026-03-02 00:01 (UTC-03:30)"


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        pytest.param(GpuClaim(), "-", id="none"),
        pytest.param(
            GpuClaim(wants=True, refs=tuple(GpuRef(f"GPU-{n}") for n in (3, 0, 1, 2, 6, 7))), "0-3,6,7", id="runs"
        ),
        pytest.param(
            GpuClaim(wants=True, refs=(GpuRef("GPU-2", 7), GpuRef("GPU-2", 8))), "2:gi7,2:gi8", id="instances"
        ),
        pytest.param(
            GpuClaim(wants=True, refs=(GpuRef("GPU-gone-for-good"),)), "GPU-gone-fo…", id="one that is not there"
        ),
        pytest.param(GpuClaim(wants=True, unclear="index 9"), "?", id="unclear"),
        pytest.param(GpuClaim(wants=True, refs=(GpuRef("GPU-1"),), unclear="index 9"), "1,?", id="partly unclear"),
    ],
)
def test_names_gpus_as_nvidia_smi_counts(claim: GpuClaim, said: str) -> None:
    """Indices, runs of them, GPU instances, and a question mark for what is not known."""
    assert gpu_words(claim, [Gpu(f"GPU-{index}", index) for index in range(8)]) == said


@pytest.mark.parametrize(
    ("state", "said"),
    [
        pytest.param(SourceState(up=True), "docker up", id="up"),
        pytest.param(SourceState(up=True, extra={"queries": 8}), "docker up (8 queries)", id="a count"),
        pytest.param(SourceState(up=True, extra={"via": "nvml"}), "docker up (via nvml)", id="a word"),
        pytest.param(SourceState(up=False, detail="refused\x1b[2J"), "docker DOWN (refused\\x1b[2J)", id="down"),
        pytest.param(
            SourceState(up=False, detail="in settings.yaml", off=True), "docker off (in settings.yaml)", id="off"
        ),
    ],
)
def test_says_how_a_source_is(state: SourceState, said: str) -> None:
    """A source that is down cannot be overlooked, and its words cannot move the cursor."""
    assert source_words("docker", state) == said


def test_text_goes_below_a_lead_that_leaves_no_room() -> None:
    """On a narrow page a wide lead keeps its line, and the text follows indented."""
    assert Page(60).hang("x" * 45 + "  ", "some words") == ["x" * 45, "    some words"]
    assert Page(60).hang("x" * 70, "some words") == ["x" * 59 + "…", "    some words"]


def test_colour_wraps_the_lead_and_leaves_the_layout_alone() -> None:
    """Colours are added after measuring."""
    plain_lines = Page(60).hang("  HELD  ", "word " * 20, "yellow")
    coloured = Page(60, colour=True).hang("  HELD  ", "word " * 20, "yellow")
    assert coloured[0] == plain_lines[0].replace("  HELD  ", "\x1b[33m  HELD  \x1b[0m")
    assert coloured[1:] == plain_lines[1:]
