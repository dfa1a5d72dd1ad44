"""Strict YAML: what may stand in a policy file, what it means, and where what is refused stands."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.config.yaml_strict import LOADERS, MAX_BYTES, MAX_DEPTH, parse

both_parsers = pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)


@both_parsers
@pytest.mark.parametrize(
    ("written", "value"),
    [
        pytest.param("on", "on", id="on is a word"),
        pytest.param("yes", "yes", id="yes is a word"),
        pytest.param("No", "No", id="No is a word"),
        pytest.param("y", "y", id="y is a word"),
        pytest.param("true", True, id="true is true"),
        pytest.param("False", False, id="False is false"),
        pytest.param("tRUE", "tRUE", id="oddly written true is a word"),
        pytest.param("22:30", "22:30", id="a time of day is text, not a number to base sixty"),
        pytest.param("2026-12-01", "2026-12-01", id="a date is text"),
        pytest.param("2026-12-01T10:00:00Z", "2026-12-01T10:00:00Z", id="a timestamp is text"),
        pytest.param("010", 10, id="010 is ten"),
        pytest.param("-007", -7, id="-007 is minus seven"),
        pytest.param("0o10", 8, id="octal is what says so"),
        pytest.param("0x1F", 31, id="hexadecimal is what says so"),
        pytest.param("0b11", "0b11", id="binary is text"),
        pytest.param("1_000", "1_000", id="underscores make text"),
        pytest.param("+3", 3, id="a sign is part of a number"),
        pytest.param("1.5", 1.5, id="a fraction"),
        pytest.param(".5", 0.5, id="a fraction without a leading zero"),
        pytest.param("1e3", 1000.0, id="an exponent"),
        pytest.param("5%", "5%", id="a percentage is text"),
        pytest.param("60m", "60m", id="a duration is text"),
        pytest.param("'60'", "60", id="quotes make text"),
        pytest.param('"null"', "null", id="a quoted null is a word"),
        pytest.param("nulls", "nulls", id="a word that begins like null"),
        pytest.param("", None, id="nothing is nothing"),
        pytest.param("\n  # only a comment", None, id="only comments are nothing"),
        pytest.param("|\n  two\n  lines\n", "two\nlines\n", id="a block keeps its lines"),
        pytest.param("[a, [1, {b: c}]]", ["a", [1, {"b": "c"}]], id="collections nest"),
    ],
)
def test_a_value_means_what_it_looks_like(loader: type, written: str, value: Any) -> None:
    """Each scalar reads by the core schema of YAML 1.2."""
    document = parse(f"key: {written}\n".encode(), "f.yaml", loader)
    assert document.findings == []
    assert document.value == {"key": value}
    assert type(document.value["key"]) is type(value)


@both_parsers
def test_keys_are_the_text_they_were_written_as(loader: type) -> None:
    """A key that looks like a number or a boolean stays text, so no two spellings meet by chance."""
    document = parse(b"on: 1\n1000: 2\ntrue: 3\n2026-12-01: 4\n", "f.yaml", loader)
    assert document.value == {"on": 1, "1000": 2, "true": 3, "2026-12-01": 4}


@both_parsers
@pytest.mark.parametrize(
    ("text", "places"),
    [
        pytest.param("a: 1\nb:\n  a: 1\n  a: 2\n", ["4:3 duplicate_key"], id="a key twice"),
        pytest.param("a: {x: 1, 'x': 2, x: 3}\n", ["1:11 duplicate_key", "1:19 duplicate_key"], id="a key three times"),
        pytest.param("1: x\n'1': y\n", ["2:1 duplicate_key"], id="a key twice in two spellings"),
        pytest.param("a: &x 1\n", ["1:4 anchor"], id="an anchor"),
        pytest.param("a: &x 1\nb: *x\n", ["1:4 anchor", "2:4 anchor"], id="an alias"),
        pytest.param("a:\n  <<: {b: 1}\n", ["2:3 merge_key"], id="a merge key"),
        pytest.param("a: !!str 1\n", ["1:4 tag"], id="a tag"),
        pytest.param("a: ! 1\n", ["1:4 tag"], id="the bare tag"),
        pytest.param("a: !!python/object:os.system x\n", ["1:4 tag"], id="a tag that would make an object"),
        pytest.param("a: 1\n---\nb: 2\n", ["2:1 several_documents"], id="a second document"),
        pytest.param("%YAML 1.1\n---\na: 1\n", ["1:1 directive"], id="a directive"),
        pytest.param("a:\n\tb: 1\n", ["2:1 tab"], id="a tab as indentation"),
        pytest.param("a: 1\t# why\n", ["1:5 tab"], id="a tab before a comment"),
        pytest.param("? [a]\n: 1\n", ["1:3 key"], id="a list as a key"),
        pytest.param("'': 1\n", ["1:1 key"], id="an empty key"),
        pytest.param("a: ~\n", ["1:4 null"], id="null as a tilde"),
        pytest.param("a: [1, null]\n", ["1:8 null"], id="null as a word"),
        pytest.param("a: .inf\n", ["1:4 number"], id="infinity"),
        pytest.param("a: .NaN\n", ["1:4 number"], id="not a number"),
        pytest.param("a: 1e999\n", ["1:4 number"], id="a number beyond all numbers"),
        pytest.param("a: " + "9" * 5000 + "\n", ["1:4 number"], id="a number of thousands of digits"),
        pytest.param("a: [1, 2\n", ["2:1 yaml"], id="a list that is not closed"),
        pytest.param("a: 'x\n", ["2:1 yaml"], id="a quote that is not closed"),
        pytest.param("a: b: c\n", ["1:5 yaml"], id="a value that looks like a key"),
        pytest.param("a: 1\n  b: 2\n", ["2:4 yaml"], id="indentation from nowhere"),
        pytest.param("[" * (MAX_DEPTH + 1), [f"1:{MAX_DEPTH + 1} too_deep"], id="nested too deep"),
        pytest.param("[" * 200_000, [f"1:{MAX_DEPTH + 1} too_deep"], id="nested deep enough to exhaust a stack"),
        pytest.param("- " * (MAX_DEPTH + 1), [f"1:{2 * MAX_DEPTH + 1} too_deep"], id="nested too deep by dashes"),
        pytest.param("a: \u200bb\n", ["1:4 hidden_character"], id="a zero-width space"),
        pytest.param("a: b\u202ec\n", ["1:5 hidden_character"], id="a mark that turns the direction of text"),
        pytest.param("# ok\na: b\x1b[2J\n", ["2:5 hidden_character"], id="an escape sequence"),
        pytest.param('a: "\\e[2J"\n', ["1:4 hidden_character"], id="an escape sequence spelt out"),
        pytest.param("a: 1\rb: 2\r", ["1:5 hidden_character"], id="line ends that editors do not count"),
        pytest.param("", ["1:1 empty_file"], id="an empty file"),
        pytest.param(" \n\n", ["1:1 empty_file"], id="a file of blank lines"),
        pytest.param("# " + "x" * MAX_BYTES, ["1:1 too_large"], id="a file beyond all measure"),
    ],
)
def test_what_could_be_read_two_ways_is_refused_where_it_stands(loader: type, text: str, places: list[str]) -> None:
    """Each thing that is refused has its place, by either parser."""
    document = parse(text.encode(), "f.yaml", loader)
    if loader is yaml.SafeLoader and places == [places[0].split()[0] + " yaml"]:  # Python's parser sees them elsewhere
        assert [one.slug for one in document.findings] == ["yaml"]
    else:
        assert [f"{one.line}:{one.col} {one.slug}" for one in document.findings] == places


def test_text_that_is_not_utf_8_is_refused_at_its_byte() -> None:
    """A Latin-1 file is an error at the first letter that gives it away."""
    [finding] = parse("a: 1\nb: Müller\n".encode("latin-1"), "f.yaml").findings
    assert (finding.slug, finding.line, finding.col) == ("encoding", 2, 5)


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    """What some editors write changes nothing."""
    document = parse(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - x\r\n", "f.yaml")
    assert (document.findings, document.value) == ([], {"a": 1, "b": ["x"]})
    assert document.at(("b", 0)) == (3, 5)


def test_several_mistakes_are_found_in_one_go_and_the_first_of_a_double_key_counts() -> None:
    """A mistake that leaves the rest readable does not hide the next one."""
    document = parse(b"a: 1\na: {a: 2, a: 3}\nb: ~\nc: !!int 4\n", "f.yaml")
    assert [(one.line, one.slug) for one in document.findings] == [
        (2, "duplicate_key"), (2, "duplicate_key"), (3, "null"), (4, "tag"),
    ]  # fmt: skip
    assert document.value == {"a": 1, "b": None, "c": 4}


def test_every_key_and_value_has_its_place() -> None:
    """Places count lines and columns from one, also past letters of several bytes."""
    document = parse("# é\ntop:\n  - {ключ: value, empty: }\n".encode(), "f.yaml")
    assert document.at_key(("top",)) == (2, 1)
    assert document.at(("top", 0)) == (3, 5)
    assert document.at_key(("top", 0, "ключ")) == (3, 6)
    assert document.at(("top", 0, "ключ")) == (3, 12)
    assert document.at(("top", 0, "empty")) == (3, 19), "an empty value stands at its key"
    assert document.at(("top", 0, "missing")) == (3, 5), "a missing one at what it is missing from"


def test_null_says_how_to_switch_something_off() -> None:
    """The message names the word that does what null was meant to do."""
    [finding] = parse(b"idle_timeout: null\n", "f.yaml").findings
    assert "write `never` to switch it off" in finding.message


@both_parsers
@given(text=st.text(alphabet=st.sampled_from(list("abz01.:- \n\t#[]{}&*!|>'\"%@,~?<\\\r\u200b\u00e9")), max_size=60))
def test_no_text_breaks_the_parser(loader: type, text: str) -> None:
    """Whatever stands in a file, the answer is a document, and findings lie within it."""
    document = parse(text.encode(), "f.yaml", loader)
    assert document.readable or document.findings
    assert all(1 <= one.line <= text.count("\n") + text.count("\r") + 2 for one in document.findings)


@given(data=st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    """Not even what is no text."""
    document = parse(data, "f.yaml")
    assert document.readable or document.findings
