"""The text format: whatever a label holds, every scraper can read it, and it still joins."""

from __future__ import annotations

import math
from typing import Any

import pytest
from exposition_reader import read
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.metrics import Family, text
from ds01_policy.metrics.exposition import LABEL_LIMIT, Samples
from ds01_policy.text import plain

NAME = "ds01_policy_test"


def value_of(label: str) -> str:
    """Write a label, and read back what a scraper makes of it."""
    (labels,) = read(text({NAME: Family("A test.", {(("owner", label),): 1.0})}))[NAME]
    return dict(labels).get("owner", "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("alice", "alice", id="an ordinary name joins as it is"),
        pytest.param("jürgen-müller_2.x", "jürgen-müller_2.x", id="so does one with letters of its own"),
        pytest.param("", "", id="nobody"),
        pytest.param('a"} 1\nds01_policy_mode{x="', 'a"} 1\\nds01_policy_mode{x="', id="quotes and newlines"),
        pytest.param("back\\slash\\", "back\\slash\\", id="backslashes"),
        pytest.param("\x1b[2J\u202e", "\\x1b[2J\\u202e", id="what would move a terminal's cursor, or turn text around"),
        pytest.param("\ud800", "\\ud800", id="half a character"),
        pytest.param("x" * 5000, "x" * (LABEL_LIMIT - 1) + "…", id="an endless one is cut"),
    ],
)
def test_a_hostile_label_stays_one_label(value: str, expected: str) -> None:
    """It is made plain as everywhere else, then quoted."""
    assert value_of(value) == expected == plain(value, LABEL_LIMIT)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.0, "1.0"),
        (0.0, "0.0"),
        (1772452860.25, "1772452860.25"),
        (1e300, "1e+300"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_written_as_prometheus_reads_them(value: float, written: str) -> None:
    """Python's own words for what is not finite are not Prometheus'."""
    told = text({NAME: Family("A test.", {(): value})})
    assert told.splitlines()[-1] == f"{NAME} {written}"
    read(told)


def test_a_meaning_is_one_line() -> None:
    """Backslashes and newlines are escaped there too."""
    told = text({NAME: Family('a \\ "b"\nc', {(): 1.0})})
    assert told.splitlines()[0] == f'# HELP {NAME} a \\\\ "b"\\nc'
    read(told)


def test_what_looks_the_same_once_it_is_plain_is_told_once() -> None:
    """One series twice, and Prometheus refuses the whole page."""
    samples: Samples = {(("owner", "\x1b"),): 1.0, (("owner", "\\x1b"),): 2.0}
    assert read(text({NAME: Family("A test.", samples)})) == {NAME: {(("owner", "\\x1b"),): 1.0}}


names = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)
hostile = st.text(st.characters(codec=None), max_size=200) | st.sampled_from(["", "\\", '"', "\n", "\\n", "a\\", "…"])


@settings(deadline=None)
@given(
    st.dictionaries(
        names.filter(lambda name: not name.endswith("_total")),
        st.tuples(
            hostile.filter(str),
            st.dictionaries(st.tuples(hostile, hostile), st.floats(), max_size=4),
        ),
        max_size=4,
    )
)
def test_it_can_always_be_read(written: dict[str, Any]) -> None:
    """Any texts, any numbers: a strict reader takes it, and sees no more series than there were."""
    families = {
        name: Family(
            meaning.replace("\r", " ").encode("utf-8", "replace").decode(),
            {(("owner", one), ("name", two)): value for (one, two), value in samples.items()},
        )
        for name, (meaning, samples) in written.items()
    }
    found = read(text(families))
    assert list(found) == list(families)
    for name, family in families.items():
        assert len(found[name]) <= len(family.samples)
        assert bool(found[name]) == bool(family.samples)
