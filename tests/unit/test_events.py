"""Docker's stream of events, however its bytes arrive and whatever users wrote into them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.observe.events import LINE_LIMIT, Chunks, Event, Events, StreamBroken, event_of

A, B = "a1" * 32, "b2" * 32
AT = datetime(2026, 3, 2, 3, 31, 0, 123456, tzinfo=UTC)
NS = 1_772_422_260_123_456_789
HOSTILE = 'x"}\n{"Type":"container","Action":"die","Actor":{"ID":"' + B + '"}}\n\x1b[31m\u202e\r\n0\r\n\r\n'


def older(action: str = "die", container: str = A, **attributes: str) -> dict[str, Any]:
    """Write an event as API 1.41 does."""
    return {
        "status": action,
        "id": container,
        "from": "pytorch:2",
        "Type": "container",
        "Action": action,
        "Actor": {"ID": container, "Attributes": {"image": "pytorch:2", "name": "train", **attributes}},
        "scope": "local",
        "time": NS // 10**9,
        "timeNano": NS,
    }


def newer(action: str = "die", container: str = A, **attributes: str) -> dict[str, Any]:
    """Write it as API 1.52 does, which has dropped what stands there twice."""
    return {key: value for key, value in older(action, container, **attributes).items() if key not in _DROPPED}


_DROPPED = ("status", "id", "from")


def sent(*objects: Any, end: str = "\n") -> bytes:
    """Write objects as Go's encoder does: each on a line."""
    return "".join(json.dumps(each, ensure_ascii=False) + end for each in objects).encode()


def chunked(*pieces: bytes) -> bytes:
    return b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)


# ── one event ────────────────────────────────────────────────────────────────────────────────────────────────────────

READ = [
    pytest.param(older(), Event("die", A, AT), id="API 1.41"),
    pytest.param(newer(), Event("die", A, AT), id="API 1.52"),
    pytest.param(newer("destroy"), Event("destroy", A, AT), id="a removal"),
    pytest.param(newer("start"), Event("start", A, AT), id="a start"),
    pytest.param({"status": "die", "id": A, "time": NS // 10**9}, Event("die", A, AT.replace(microsecond=0)), id="old"),
    pytest.param(newer() | {"timeNano": "soon", "time": None}, Event("die", A, None), id="it does not say when"),
    pytest.param(newer() | {"timeNano": 10**30, "time": -1}, Event("die", A, None), id="at the end of time"),
    pytest.param(newer() | {"timeNano": True, "time": 0}, Event("die", A, None), id="at no time"),
    pytest.param(newer(name=HOSTILE), Event("die", A, AT), id="hostile text in a label"),
    pytest.param(newer("exec_die"), None, id="something in a container ended"),
    pytest.param(newer("die: really"), None, id="an action that only begins like one"),
    pytest.param(newer() | {"Type": "network"}, None, id="about a network"),
    pytest.param({"Type": "daemon", "Action": "reload"}, None, id="about the engine"),
]


@pytest.mark.parametrize(("raw", "expected"), READ)
def test_events_are_read_in_every_shape(raw: dict[str, Any], expected: Event | None) -> None:
    """Type, Action, Actor.ID and timeNano count; what is about something else is nothing."""
    assert event_of(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param([], id="no object"),
        pytest.param("die", id="a text"),
        pytest.param({"Type": "container"}, id="no action"),
        pytest.param({"Type": "container", "Action": 7}, id="an action that is no text"),
        pytest.param(newer(container="train"), id="a name for an id"),
        pytest.param(newer(container=A[:12]), id="a short id"),
        pytest.param(newer(container=A + "\n"), id="an id and more"),
        pytest.param(newer() | {"Actor": A}, id="an actor that is no object"),
        pytest.param({"Type": "container", "Action": "die"}, id="about nobody"),
    ],
)
def test_what_cannot_be_an_event_is_an_error(raw: Any) -> None:
    """It may have told of an end: that nobody could read it must be known."""
    with pytest.raises(ValueError, match="an event"):
        event_of(raw)


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────

DEEP = b"[" * 100_000
GARBAGE = [
    pytest.param(b"no JSON at all\n", id="no JSON"),
    pytest.param(b"\xff\xfe\xff\n", id="no UTF-8"),
    pytest.param(b"7\n", id="a number"),
    pytest.param(sent(newer())[:-9] + b"\n", id="half an object"),
    pytest.param(DEEP + b"\n", id="nested without end"),
    pytest.param(b'{"timeNano":' + b"9" * 5000 + b"}\n", id="a number without end"),
    pytest.param(b"x" * (LINE_LIMIT + 1) + b"\n", id="a line that is too long"),
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_counted_and_what_follows_is_read(garbage: bytes) -> None:
    """One line that cannot be read costs itself alone."""
    events = Events()
    assert events.feed(sent(older()) + garbage + sent(newer("destroy"))) == [
        Event("die", A, AT), Event("destroy", A, AT),
    ]  # fmt: skip
    assert events.unreadable == 1


def test_a_line_without_end_is_not_kept() -> None:
    """Nobody can fill the memory with a label; the line after it is read again."""
    events = Events()
    for _ in range(64):
        assert events.feed(b"x" * 1_000_000) == []
        assert sum(map(len, events._line)) <= LINE_LIMIT  # noqa: SLF001  what it keeps is what this is about
    assert events.feed(b"\n" + sent(newer())) == [Event("die", A, AT)]
    assert events.unreadable == 1


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(sent(newer(), older("destroy")), id="a line each"),
        pytest.param(sent(newer(), older("destroy"), end="\r\n"), id="Windows line ends"),
        pytest.param(sent(newer(), older("destroy"), end="") + b"\n", id="nothing in between"),
        pytest.param(sent(newer(), older("destroy"), end="\n\n\n"), id="empty lines"),
        pytest.param(b"\x1e" + sent(newer()) + b"\x1e" + sent(older("destroy")), id="a JSON sequence"),
    ],
)
def test_events_stand_on_lines(data: bytes) -> None:
    """Whatever separates them."""
    events = Events()
    assert events.feed(data) == [Event("die", A, AT), Event("destroy", A, AT)]
    assert events.unreadable == 0


# ── chunks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut into pieces at these places."""
    ends = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


places = st.lists(st.integers(0, 10**6), max_size=40)
told = st.lists(
    st.builds(
        lambda make, action, container, words: make(action, container, label=words),
        st.sampled_from([older, newer]),
        st.sampled_from(["start", "die", "destroy", "exec_die"]),
        st.sampled_from([A, B]),
        st.text(max_size=20) | st.just(HOSTILE),
    ),
    max_size=6,
)


@given(told, places, places)
def test_however_it_is_cut_the_same_events_arrive(
    objects: list[dict[str, Any]], chunk_ends: list[int], packet_ends: list[int]
) -> None:
    """Chunks end anywhere in a line, packets anywhere in a chunk or in its length; no byte is lost or read twice."""
    stream = sent(*objects)
    wire = chunked(*filter(None, cut(stream, chunk_ends))) + b"0\r\n\r\n"
    chunks, events = Chunks(), Events()
    arrived = [event for packet in cut(wire, packet_ends) for event in events.feed(chunks.feed(packet))]
    assert arrived == [event for each in objects if (event := event_of(each)) is not None]
    assert events.unreadable == 0
    assert chunks.ended


@given(st.binary(max_size=300), places)
def test_no_bytes_do_harm(data: bytes, packet_ends: list[int]) -> None:
    """Whatever arrives: events, nothing, or the plain statement that these are no chunks."""
    chunks, events = Chunks(), Events()
    try:
        for packet in cut(data, packet_ends):
            events.feed(chunks.feed(packet))
    except StreamBroken:
        pass
    else:
        whole = Chunks()
        assert whole.feed(data) is not None
        assert whole.ended is chunks.ended
    events.feed(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"hello\r\n", id="no number"),
        pytest.param(b"-5\r\n", id="less than nothing"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(b"1_0\r\n", id="a number as Python writes it"),
        pytest.param(b"\xd9\xa1\r\n", id="a digit of another script"),
        pytest.param(b"5" * 65, id="a length without end"),
        pytest.param(b"2\r\nabc\r\n", id="a chunk that is longer than it says"),
    ],
)
def test_what_is_no_chunk_breaks_the_stream(data: bytes) -> None:
    """Where a chunk ends cannot be guessed: the connection is of no more use."""
    chunks = Chunks()
    with pytest.raises(StreamBroken):
        chunks.feed(data)


def test_chunks_may_say_more_than_their_length() -> None:
    """Extensions behind a semicolon, capital digits, and trailers after the end mean nothing here."""
    chunks = Chunks()
    assert chunks.feed(b"A;name=value\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n") == b"0123456789"
    assert chunks.ended
