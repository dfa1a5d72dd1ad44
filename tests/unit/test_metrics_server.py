"""The server of `watch`: one page for whoever asks properly, bounds for everybody else."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ds01_policy.metrics import server as module
from ds01_policy.metrics.server import MOST, MetricsServer, answer

PAGE = 'ds01_policy_test{owner="jürgen"} 1.0\n'
GET = b"GET /metrics HTTP/1.1\r\nHost: gpu01:9465\r\n\r\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(true: Callable[[], object], words: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, words
        time.sleep(0.01)


class Running:
    """A server that runs, and what it said."""

    def __init__(self, page: Callable[[], str] = lambda: PAGE, port: int | None = None) -> None:
        self.port = port or free_port()
        self.logged: list[str] = []
        self.server = MetricsServer(("127.0.0.1", self.port), page, self.logged.append)
        self.server.start()

    def listens(self) -> None:
        until(lambda: any("metrics at" in line for line in self.logged), "it does not listen")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, request: bytes = GET) -> bytes:
        """Send these bytes, and read until it hangs up."""
        received = b""
        with self.connect() as client:
            client.sendall(request)
            with contextlib.suppress(ConnectionError):  # what it did not read is lost with the connection
                while block := client.recv(65536):
                    received += block
        return received


@pytest.fixture
def running() -> Iterator[Running]:
    one = Running()
    one.listens()
    yield one
    assert one.server.stop(20)


def clients() -> int:
    return sum(thread.name == "metrics client" for thread in threading.enumerate())


# ── what it answers ──────────────────────────────────────────────────────────────────────────────────────────────────

ANSWERS: list[tuple[str, bytes, str, bytes]] = [
    ("the page", GET, "200 OK", PAGE.encode()),
    ("the page, as an old client asks", b"GET /metrics HTTP/1.0\r\n\r\n", "200 OK", PAGE.encode()),
    ("the page, with parameters", GET.replace(b"/metrics", b"/metrics?name[]=x"), "200 OK", PAGE.encode()),
    ("the head of the page alone", GET.replace(b"GET", b"HEAD"), "200 OK", b""),
    (
        "a hint at the root",
        GET.replace(b"/metrics", b"/"),
        "200 OK",
        b"ds01-policy watch: the metrics are at /metrics\n",
    ),
    ("the head of the hint", b"HEAD / HTTP/1.1\r\n\r\n", "200 OK", b""),
    ("nothing else", GET.replace(b"/metrics", b"/metrics/"), "404 Not Found", b"only /metrics is here\n"),
    ("no file", GET.replace(b"/metrics", b"/../ledger.db"), "404 Not Found", b"only /metrics is here\n"),
    ("no change", GET.replace(b"GET", b"POST"), "405 Method Not Allowed", b"GET or HEAD\n"),
    ("no method in small letters", GET.replace(b"GET", b"get"), "405 Method Not Allowed", b"GET or HEAD\n"),
    ("another protocol", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400 Bad Request", b"no HTTP request\n"),
    ("HTTP 2 out of nowhere", b"PRI * HTTP/2.0\r\n\r\n", "400 Bad Request", b"no HTTP request\n"),
    ("an empty line", b"\r\n\r\n", "400 Bad Request", b"no HTTP request\n"),
    ("a request without a version", b"GET /metrics\r\n\r\n", "400 Bad Request", b"no HTTP request\n"),
    ("half a request", b"GET /metrics HTTP/1.1\r\nHost: x\r\n", "400 Bad Request", b"no HTTP request\n"),
]


@pytest.mark.parametrize(("request_", "status", "body"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_it_answers(request_: bytes, status: str, body: bytes) -> None:
    """The page and a hint; each answer says how long it is, and that it is the last on this connection."""
    head, _, told = answer(request_, lambda: PAGE).partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    assert (first, told) == (f"HTTP/1.1 {status}", body)
    assert "Connection: close" in fields
    length = next(int(field.partition(": ")[2]) for field in fields if field.startswith("Content-Length"))
    assert length == len(told) or (request_.startswith(b"HEAD") and length > 0)
    exposition = b"version=0.0.4" in head
    assert exposition is (body == PAGE.encode() or request_.startswith(b"HEAD /metrics"))


def test_it_says_nothing_of_what_it_was_asked(running: Running) -> None:
    """A request line is hostile text, and one a scrape would fill the journal."""
    for request in (GET, b"GET /\x1b[2Jevil HTTP/1.1\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"):
        assert running.ask(request).startswith(b"HTTP/1.1 ")
    assert running.logged == [f"metrics at http://127.0.0.1:{running.port}/metrics"]


def test_each_scrape_is_the_page_of_its_moment() -> None:
    """Nothing is kept from the one before."""
    pages = iter(["first\n", "second\n"])
    one = Running(lambda: next(pages))
    one.listens()
    assert [one.ask().rpartition(b"\r\n\r\n")[2] for _ in range(2)] == [b"first\n", b"second\n"]
    assert one.server.stop(20)


# ── clients that are no good ─────────────────────────────────────────────────────────────────────────────────────────


def dripping(client: socket.socket) -> None:
    """Send a byte now and then, for as long as the other side takes it."""
    with contextlib.suppress(OSError):
        for byte in b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 10_000:
            client.sendall(bytes([byte]))
            time.sleep(0.02)


def test_a_slow_client_is_hung_up_on_and_keeps_nobody_waiting(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However busily it drips: its time is its whole time. Others are served meanwhile."""
    monkeypatch.setattr(module, "DEADLINE_S", 3.0)
    with running.connect() as slow:
        threading.Thread(target=dripping, args=(slow,), daemon=True).start()
        until(clients, "it was not taken")
        assert running.ask().endswith(PAGE.encode())
        with contextlib.suppress(ConnectionError):
            assert slow.recv(100) == b""  # hung up on, without an answer
    until(lambda: not clients(), "its thread goes on")


def test_a_client_that_takes_no_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page does not fit into the kernel's buffers, and nobody reads."""
    monkeypatch.setattr(module, "DEADLINE_S", 2.0)
    one = Running(lambda: "x" * 30_000_000)
    one.listens()
    with one.connect() as deaf:
        deaf.sendall(GET)
        until(clients, "it was not taken")
        until(lambda: not clients(), "its thread goes on")
    assert one.server.stop(20)


def test_no_more_clients_at_once_than_there_is_room_for(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next ones wait in the kernel's queue, and are served once the first have been hung up on."""
    monkeypatch.setattr(module, "DEADLINE_S", 2.0)
    idle = [running.connect() for _ in range(3 * MOST)]
    until(lambda: clients() == MOST, "they were not taken")
    most = 0
    answered: list[bytes] = []
    asking = threading.Thread(target=lambda: answered.append(running.ask()), daemon=True)
    asking.start()
    while asking.is_alive():
        most = max(most, clients())
        asking.join(0.01)
    assert most <= MOST
    assert answered[0].endswith(PAGE.encode())
    for client in idle:
        client.close()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /met", id="half a request"),
        pytest.param(b"x" * 200_000, id="an endless line"),
        pytest.param(b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, id="endless fields"),
    ],
)
def test_clients_that_break_off_or_never_end_take_no_room(running: Running, sent: bytes) -> None:
    """Many more of them than there is room for: afterwards it serves as before."""
    for _ in range(2 * MOST):
        with running.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(sent)
    assert running.ask().endswith(PAGE.encode())
    assert len(running.logged) == 1


def test_a_head_without_an_end_is_refused_long_before_its_time(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody asks for is not kept: it is hung up on once it is longer than any request."""
    monkeypatch.setattr(module, "DEADLINE_S", 600.0)
    with running.connect() as endless, contextlib.suppress(ConnectionError):
        endless.sendall(b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
        assert endless.recv(100).startswith(b"HTTP/1.1 400")
    until(lambda: not clients(), "it still listens")


def test_without_a_thread_to_be_had_a_client_is_hung_up_on(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host has no room for another one: the server goes on, and serves once it has."""
    begin = threading.Thread.start
    refused: list[str] = []

    def start(thread: threading.Thread) -> None:
        if thread.name == "metrics client" and len(refused) < 2 * MOST:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2 * MOST):
        assert running.ask() == b""
    assert running.ask().endswith(PAGE.encode())


# ── its address ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_port_that_is_taken_is_told_of_once_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who started it does not wait for it; once the port is free it serves."""
    tried: list[float] = []
    create = socket.create_server

    def counting(address: Any, **more: Any) -> socket.socket:
        tried.append(time.monotonic())
        return create(address, **more)

    monkeypatch.setattr(module, "AGAIN_S", 0.02)
    with create(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(socket, "create_server", counting)
        one = Running(port=other.getsockname()[1])
        until(lambda: len(tried) > 5, "it does not try again")
        assert len(one.logged) == 1
        why = "Address already in use; trying again every 0.02 s"
        assert one.logged[0] == f"metrics_listen 127.0.0.1:{one.port}: {why}"
    one.listens()
    assert one.ask().endswith(PAGE.encode())
    assert len(one.logged) == 2
    assert one.server.stop(20)


def test_a_host_that_nobody_knows_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve, today."""

    def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    one = Running()
    until(lambda: one.logged, "it says nothing")
    assert "Name or service not known" in one.logged[0]
    assert one.server.stop(20)  # it does not wait out the time until it would try again


def test_it_listens_to_ipv6_too() -> None:
    """An address in brackets, as a URL has it."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    logged: list[str] = []
    one = MetricsServer(("::1", port), lambda: PAGE, logged.append)
    one.start()
    until(lambda: logged, "it says nothing")
    assert logged == [f"metrics at http://[::1]:{port}/metrics"]
    with socket.create_connection(("::1", port), timeout=20) as client:
        client.sendall(GET)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert one.stop(20)


def test_once_stopped_it_is_gone_whoever_is_still_there() -> None:
    """The address is free at once for whoever comes next; a client in the middle of asking holds up nothing."""
    one = Running()
    one.listens()
    with one.connect() as slow:
        slow.sendall(b"GET ")
        until(clients, "it was not taken")
        assert one.server.stop(20)
        with pytest.raises(ConnectionRefusedError):
            one.connect()
        again = Running(port=one.port)
        again.listens()
        assert again.ask().endswith(PAGE.encode())
        assert again.server.stop(20)
    until(lambda: not clients(), "its thread goes on")
