"""Text that users wrote, made safe to show."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.text import lines, plain

HOSTILE = st.text(
    alphabet=st.one_of(
        st.characters(codec=None),  # surrogates too
        st.sampled_from("\x1b[31m\x9b\x07\x00\x7f\n\r\t\u202e\u2066\u200b\ufeff\u2028\ud800\ue000\U000e0041\u3164…\\"),
    ),
    max_size=80,
)
NEVER_SHOWN = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("train_2.final-v1", "train_2.final-v1", id="an ordinary name is unchanged"),
        pytest.param("Größe → 5 µs, 日本語, é", "Größe → 5 µs, 日本語, é", id="letters of any script are unchanged"),
        pytest.param("\x1b[2Jboo", "\\x1b[2Jboo", id="a terminal escape is visible"),
        pytest.param("\x1b]52;c;cm0=\x07", "\\x1b]52;c;cm0=\\x07", id="an OSC that sets the clipboard is visible"),
        pytest.param("a\x9b31mb", "a\\x9b31mb", id="the one-byte CSI is visible"),
        pytest.param("a\nb\r\tc", "a\\nb\\r\\tc", id="line ends and tabs are visible"),
        pytest.param("\x7f\x00", "\\x7f\\x00", id="DEL and NUL are visible"),
        pytest.param("gnp\u202efdp.exe", "gnp\\u202efdp.exe", id="a bidi override is visible"),
        pytest.param("\u2066a\u2069", "\\u2066a\\u2069", id="bidi isolates are visible"),
        pytest.param("prof\u200b", "prof\\u200b", id="a zero-width space is visible"),
        pytest.param("prof\u3164", "prof\\u3164", id="a Hangul filler, a letter drawn as nothing, is visible"),
        pytest.param("a\ufe0f", "a\\ufe0f", id="a variation selector is visible"),
        pytest.param("a\u2028b\u2029", "a\\u2028b\\u2029", id="Unicode's own line ends are visible"),
        pytest.param("\ud800", "\\ud800", id="half a surrogate pair is visible and can be encoded"),
        pytest.param("\U000e0041", "\\U000e0041", id="a tag character is visible"),
        pytest.param("", "", id="nothing stays nothing"),
    ],
)
def test_plain_shows_what_would_act(text: str, shown: str) -> None:
    """Whatever a terminal would act on, or not draw, becomes a visible escape; the rest stays."""
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        pytest.param("abcdef", 6, "abcdef", id="what fits is whole"),
        pytest.param("abcdefg", 6, "abcde…", id="what does not fit ends in an ellipsis"),
        pytest.param("abc\x1bdef", 6, "abc…", id="an escape is never cut in half"),
        pytest.param("\x1b", 3, "…", id="an escape that does not fit goes"),
        pytest.param("ab", 1, "…", id="the smallest limit"),
        pytest.param("a" * 10_000_000, 5, "aaaa…", id="ten megabytes"),
    ],
)
def test_plain_truncates(text: str, limit: int, shown: str) -> None:
    """Long text is cut, and says so."""
    assert plain(text, limit) == shown


@given(HOSTILE, st.integers(min_value=1, max_value=100))
def test_plain_is_safe_whatever_the_text(text: str, limit: int) -> None:
    """No text leaves a control, format, surrogate, private or unassigned character, or grows over the limit."""
    shown = plain(text, limit)
    assert not {unicodedata.category(character) for character in shown} & NEVER_SHOWN
    assert len(shown) <= limit
    shown.encode()  # raises where a terminal could not be written to


@given(HOSTILE, st.integers(min_value=1, max_value=100))
def test_plain_twice_is_plain_once(text: str, limit: int) -> None:
    """Escaping text that is escaped already changes nothing."""
    assert plain(plain(text, limit), limit) == plain(text, limit)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("one\ntwo\n", "one\ntwo", id="newlines stay, the last one goes"),
        pytest.param("one\r\ntwo", "one\ntwo", id="Windows line ends become newlines"),
        pytest.param("one\rtwo", "one\\rtwo", id="a lone carriage return, which would overwrite the line, is visible"),
        pytest.param("one\n\n\x1b[1mtwo", "one\n\n\\x1b[1mtwo", id="each line is escaped, empty lines stay"),
    ],
)
def test_lines_keeps_newlines_only(text: str, shown: str) -> None:
    """A message keeps its lines and nothing else that a terminal acts on."""
    assert lines(text) == shown


def test_lines_is_bounded() -> None:
    """Neither many lines nor long ones get through."""
    assert lines("a\nb\nc\nd", count=3) == "a\nb\n…"
    assert lines("a\nb\nc", count=3) == "a\nb\nc"
    assert lines("abcdef\nx", limit=4) == "abc…\nx"


@given(HOSTILE)
def test_lines_is_safe_whatever_the_text(text: str) -> None:
    """Of all control characters only the newline is left."""
    shown = lines(text, limit=40, count=5)
    assert not {unicodedata.category(character) for character in shown.replace("\n", "")} & NEVER_SHOWN
    assert shown.count("\n") < 5
