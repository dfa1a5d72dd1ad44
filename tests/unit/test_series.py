"""The notation in which tests of rules write what was measured."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ds01_policy.series import Unreadable, samples_of
from ds01_policy.signals import Signal
from ds01_policy.units import Unit

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOW = AT.timestamp()


def signal(unit: Unit = Unit.RATIO, kind: str = "gauge", ceiling: float | None = 1.0) -> Signal:
    return Signal("it", "it", unit, kind, "gpu", (), ceiling)  # type: ignore[arg-type]  # one of the two words


GPU, CPU = signal(), signal(Unit.CORES, "counter", None)
NETWORK, POWER = signal(Unit.BYTES_PER_S, "counter", None), signal(Unit.WATTS, ceiling=700.0)


@pytest.mark.parametrize(
    ("about", "text", "samples"),
    [
        pytest.param(GPU, "0x1 80x1", [(-90, 0), (-60, 0), (-30, 0.8), (0, 0.8)], id="one quiet minute, one busy one"),
        pytest.param(GPU, "5%x0.5", [(0, 0.05)], id="with its unit; half a minute"),
        pytest.param(GPU, "0.3x0.5", [(0, 0.003)], id="part percentages"),
        pytest.param(GPU, "7x60s", [(-30, 0.07), (0, 0.07)], id="seconds"),
        pytest.param(GPU, "7x0.5 _x1 7x0.5", [(-90, 0.07), (0, 0.07)], id="a gap"),
        pytest.param(GPU, "7x0.5 nanx0.5 7x0.5", [(-60, 0.07), (0, 0.07)], id="samples that are no numbers"),
        pytest.param(GPU, "7x1 stalex1", [(-90, 0.07), (-60, 0.07)], id="a series that ended a minute ago"),
        pytest.param(GPU, "_x10", [], id="nothing at all"),
        pytest.param(CPU, "50x1 0x0.5", [(-60, 15), (-30, 30), (0, 30)], id="a counter grows by what is written"),
        pytest.param(CPU, "2 coresx0.5", None, id="a unit with a space is two pieces"),
        pytest.param(CPU, "2coresx0.5", [(0, 60)], id="cores"),
        pytest.param(CPU, "100x0.5 _x0.5 0x0.5", [(-60, 30), (0, 30)], id="a counter stands still where nobody looks"),
        pytest.param(CPU, "100x0.5 nanx0.5 0x0.5", [(-60, 30), (0, 30)], id="and where no number comes"),
        pytest.param(NETWORK, "12x0.5", [(0, 360)], id="bytes a second"),
        pytest.param(NETWORK, "1KiB/sx0.5", [(0, 30720)], id="with its unit"),
        pytest.param(POWER, "70.5x0.5 300Wx0.5", [(-30, 70.5), (0, 300)], id="watts"),
    ],
)
def test_what_a_series_means(about: Signal, text: str, samples: list[tuple[float, float]] | None) -> None:
    """It ends now, with one sample every half minute."""
    if samples is None:
        with pytest.raises(Unreadable):
            samples_of(about, text, AT, 30.0)
        return
    found = samples_of(about, text, AT, 30.0)
    assert [time - NOW for time, _ in found] == [time for time, _ in samples]
    assert [value for _, value in found] == pytest.approx([value for _, value in samples])


def test_as_many_samples_as_are_scraped() -> None:
    """Twice as often is twice as many."""
    assert len(samples_of(GPU, "0x2h", AT, 15.0)) == 480


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "at most 62 days"),
        ("0", "'0': write VALUExMINUTES"),
        ("0x", "'0x': write VALUExMINUTES"),
        ("x5", "'x5': write VALUExMINUTES"),
        ("0x0xff", "'0x0xff'"),
        ("0x-5", "write VALUExMINUTES"),
        ("0xinf", "write VALUExMINUTES"),
        ("0x1e9", "'0x1e9'"),
        ("0x99999999", "at most 62 days"),
        ("0x5y", "'5y' is not a duration"),
        ("busyx5", "'busy' is not a value in ratio"),
        ("5KiB/sx5", "not a value in ratio"),
        ("-5x5", "it goes from 0 to 100%"),
        ("101x5", "it goes from 0 to 100%"),
    ],
)
def test_what_a_series_cannot_mean(text: str, named: str) -> None:
    """Refused, with the piece that is wrong."""
    with pytest.raises(Unreadable) as caught:
        samples_of(GPU, text, AT, 30.0)
    assert named in str(caught.value)
