"""Numbers and their units, both ways."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.units import (
    Unit,
    format_duration,
    format_quantity,
    parse_duration,
    parse_quantity,
    parse_ratio,
    promql_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("2h", 7200), ("1d12h", 129600), ("0.5h", 1800), ("90s", 90), ("1w", 604800), ("500ms", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration means what it says: half an hour is not five hours."""
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["48", "0", "1.5", "", "h", "5 min", "-3h", "3h3h", "1y", "infinity", "99999999999d", "٣٠m"]
)
def test_what_is_no_duration(text: str) -> None:
    """A lost unit is an error, not seconds."""
    with pytest.raises(ValueError, match=r"unit|duration|years|twice"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10_000_000))
def test_durations_never_gain_time_when_written(seconds: int) -> None:
    """What is shown is never longer than what holds, and short by less than its last unit."""
    shown = parse_duration(format_duration(timedelta(seconds=seconds)))
    assert timedelta(0) <= timedelta(seconds=seconds) - shown < timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("5%", Unit.RATIO, 0.05),
        ("1%", Unit.CORES, 0.01),
        ("2 cores", Unit.CORES, 2.0),
        ("10KiB/s", Unit.BYTES_PER_S, 10240.0),
        ("40MB/s", Unit.BYTES_PER_S, 40e6),
        ("64MiB", Unit.BYTES, 64 * 2**20),
        ("100W", Unit.WATTS, 100.0),
        ("3", Unit.COUNT, 3.0),
    ],
)
def test_quantities(text: str, unit: Unit, value: float) -> None:
    """A threshold is written in its signal's unit."""
    assert parse_quantity(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "unit"),
    [("5", Unit.RATIO), ("5%", Unit.BYTES), ("10KiB", Unit.BYTES_PER_S), ("10KiB/s", Unit.BYTES), ("x", Unit.COUNT)],
)
def test_units_that_do_not_fit(text: str, unit: Unit) -> None:
    """A unit that is not the signal's is an error: 5 is not 5 %."""
    with pytest.raises(ValueError, match="write it like"):
        parse_quantity(text, unit)
    with pytest.raises(ValueError, match="percentage"):
        parse_ratio("0.8")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.003, Unit.RATIO, "0.3%"),
        (0.8, Unit.RATIO, "80%"),
        (0.00001, Unit.CORES, "0.001%"),
        (12, Unit.BYTES_PER_S, "12 B/s"),
        (10240, Unit.BYTES_PER_S, "10 KiB/s"),
        (40e6, Unit.BYTES_PER_S, "38.1 MiB/s"),
        (None, Unit.RATIO, "?"),
        (math.inf, Unit.CORES, "unbounded"),
    ],
)
def test_what_people_read(value: float | None, unit: Unit, text: str) -> None:
    """Values read like the thresholds they are compared with."""
    assert format_quantity(value, unit) == text


def test_promql_durations_have_no_fractions() -> None:
    """Half-second windows exist in milliseconds only."""
    assert promql_duration(timedelta(hours=1)) == "3600s"
    assert promql_duration(timedelta(seconds=1.5)) == "1500ms"
