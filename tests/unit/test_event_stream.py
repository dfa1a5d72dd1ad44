"""The connection on which events come: what is asked, how it is read while nothing happens, and every way it ends."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from events_engine import (
    HEAD,
    EventsEngine,
    Script,
    chunk,
    event,
    events_engine,
    holding,
    line,
    sending,
    silent,
    telling,
)

from ds01_policy.observe.event_stream import EventStream
from ds01_policy.observe.events import Event
from ds01_policy.observe.ports import SourceError

A, B = "a1" * 32, "b2" * 32
AT = datetime(2026, 3, 2, 3, 31, 0, 250_000, tzinfo=UTC)


@pytest.fixture
def engine() -> Iterator[EventsEngine]:
    with events_engine() as opened:
        yield opened


@pytest.fixture
def stream(engine: EventsEngine) -> Iterator[EventStream]:
    opened = EventStream(engine.url, 5.0)
    yield opened
    opened.close()


def read(stream: EventStream, count: int) -> list[Event]:
    """Read until there are so many."""
    found: list[Event] = []
    while len(found) < count:
        found += stream.read(5.0)
    return found


def test_it_asks_for_the_ends_of_containers_since_a_time(engine: EventsEngine, stream: EventStream) -> None:
    """Nothing but containers and nothing but starts and ends, to the microsecond; first from now on."""
    stream.open(None)
    stream.open(AT)
    (first, second) = engine.asked
    assert set(first) == {"filters"}
    assert json.loads(second["filters"][0]) == {"type": ["container"], "event": ["destroy", "die", "start"]}
    assert second["since"] == ["1772422260.250000"]
    assert [target.partition("?")[0] for target in engine.targets] == ["/events", "/events"]


def test_events_come_as_they_happen(engine: EventsEngine, stream: EventStream) -> None:
    """Those that came along with the head of the answer, those later, and in between nothing, for as long as asked."""
    go, gone = threading.Event(), threading.Event()

    def script(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(line(event("start", A, AT))))
        go.wait(10)
        half = line(event("die", A, AT), event("destroy", A))
        connection.sendall(chunk(half[:40]))
        gone.wait(10)
        connection.sendall(chunk(half[40:]))
        connection.recv(1)

    engine.scripts = [script]
    stream.open(None)
    assert read(stream, 1) == [Event("start", A, AT)]
    assert stream.read(0.01) == []
    go.set()
    assert stream.read(5.0) == []  # half an event
    gone.set()
    assert read(stream, 2) == [Event("die", A, AT), Event("destroy", A, None)]
    assert stream.unreadable == 0


def test_without_chunks_the_body_is_what_comes(engine: EventsEngine, stream: EventStream) -> None:
    """An engine behind a plain proxy answers until it hangs up."""
    engine.scripts = [sending(b"HTTP/1.0 200 OK\r\n\r\n", line(event("die", A, AT)))]
    stream.open(None)
    assert read(stream, 1) == [Event("die", A, AT)]
    with pytest.raises(SourceError, match="ended"):
        stream.read(5.0)


def test_what_cannot_be_read_is_counted_for_this_connection(engine: EventsEngine, stream: EventStream) -> None:
    """Whoever reads knows that something was told that nobody understood; a new connection begins anew."""
    engine.scripts = [sending(HEAD, chunk(b"garbage\n" + line(event("die", A, AT)))), telling(event("die", B))]
    stream.open(None)
    assert read(stream, 1) == [Event("die", A, AT)]
    assert stream.unreadable == 1
    stream.open(None)
    assert read(stream, 1) == [Event("die", B, None)]
    assert stream.unreadable == 0


ENDINGS = [
    pytest.param(sending(HEAD), "ended", id="hung up at once"),
    pytest.param(sending(HEAD, chunk(line(event("die", A))[:30])), "ended", id="hung up inside an event"),
    pytest.param(sending(HEAD, b"5"), "ended", id="hung up inside a length"),
    pytest.param(sending(HEAD, b"0\r\n\r\n"), "ended", id="ended in order"),
    pytest.param(holding(HEAD + b"0\r\n\r\n"), "ended", id="ended, and not hung up"),
    pytest.param(sending(HEAD, b"what?\r\n"), "broke", id="no chunks"),
]


@pytest.mark.parametrize(("script", "words"), ENDINGS)
def test_every_end_of_the_stream_is_told(engine: EventsEngine, stream: EventStream, script: Script, words: str) -> None:
    """Half an event is none; after the end nothing is read, and it may be opened anew."""
    engine.scripts = [script, telling(event("die", B))]
    stream.open(None)

    def listen() -> None:
        while True:
            assert stream.read(5.0) == []

    with pytest.raises(SourceError, match=words):
        listen()
    with pytest.raises(SourceError, match="not connected"):
        stream.read(5.0)
    stream.open(None)
    assert read(stream, 1) == [Event("die", B, None)]


def drip(connection: socket.socket) -> None:
    """Send a head that never ends: each read succeeds."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n")


REFUSALS = [
    pytest.param(silent, "no answer", id="silent"),
    pytest.param(sending(b""), "no HTTP", id="hung up"),
    pytest.param(drip, "no HTTP", id="a head without end"),
    pytest.param(sending(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "SSH-2.0", id="another service"),
    pytest.param(sending(b"HTTP/1.1 400 Bad Request\r\n\r\n{}"), "400 Bad Request", id="refused"),
    pytest.param(sending(b"HTTP/1.1 503 \x1b[31m\r\n\r\n"), r"\\x1b", id="hostile words"),
    pytest.param(sending(b"HTTP/1.1 2000 OK\r\n\r\n"), "2000", id="a status that only begins like one"),
]


@pytest.mark.parametrize(("script", "words"), REFUSALS)
def test_what_is_no_stream_is_refused_in_words(engine: EventsEngine, script: Script, words: str) -> None:
    """Within the time given, and with the connection closed."""
    engine.scripts = [script]
    stream = EventStream(engine.url, 0.5 if script is silent else 20.0)
    with pytest.raises(SourceError, match=words):
        stream.open(None)
    with pytest.raises(SourceError, match="not connected"):
        stream.read(0.1)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("unix:///nowhere/docker.sock", "No such file", id="no socket"),
        pytest.param("tcp://127.0.0.1:1", "refused", id="no server"),
        pytest.param("ssh://host", "unix:///path", id="another way to connect"),
    ],
)
def test_where_nothing_listens_there_are_words_for_it(url: str, words: str) -> None:
    """The URL stands in front of them."""
    with pytest.raises(SourceError, match=words) as caught:
        EventStream(url, 1.0).open(None)
    assert url in str(caught.value)


def test_it_follows_an_engine_over_tcp() -> None:
    """A tcp:// URL is plain HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                telling(event("die", A, AT))(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        stream = EventStream(f"tcp://127.0.0.1:{port}", 5.0)
        stream.open(None)
        assert read(stream, 1) == [Event("die", A, AT)]
        stream.close()
        thread.join(5)


def test_many_connections_leave_no_descriptor_behind(engine: EventsEngine, descriptors: Callable[[], int]) -> None:
    """An engine that refuses for a night costs nothing."""
    engine.scripts = [sending(b"HTTP/1.1 503 no\r\n\r\n")]
    stream = EventStream(engine.url, 20.0)
    before = descriptors()
    for _ in range(50):
        with pytest.raises(SourceError):
            stream.open(None)
    until = time.monotonic() + 20
    while descriptors() > before + 2 and time.monotonic() < until:  # the server's own side of the last ones
        time.sleep(0.01)
    assert descriptors() <= before + 2


@pytest.fixture
def descriptors() -> Callable[[], int]:
    from pathlib import Path

    return lambda: sum(1 for _ in Path("/proc/self/fd").iterdir())
