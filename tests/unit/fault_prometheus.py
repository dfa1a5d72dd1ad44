"""A Prometheus that misbehaves: a threaded server on the loopback whose answers are raw bytes, or no bytes at all."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = Callable[[socket.socket], None]

ROW = {"metric": {"UUID": "GPU-aaaa"}, "value": [1_772_422_260.25, "1"]}


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    in_url: dict[str, list[str]]
    in_body: dict[str, list[str]]


@dataclass(slots=True)
class FaultPrometheus:
    """Gives the n-th request the n-th answer; the last one stands for all that follow."""

    url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0


@contextmanager
def serving(*answers: Answer) -> Iterator[FaultPrometheus]:
    """Serve the answers until the end of the block."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = FaultPrometheus(f"http://127.0.0.1:{listener.getsockname()[1]}")
        threads: list[threading.Thread] = []

        def accept() -> None:
            while not over.is_set():
                with suppress(OSError):
                    connection, _ = listener.accept()
                    server.connections += 1
                    threads.append(threading.Thread(target=_serve, args=(connection, server, answers), daemon=True))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield server
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(2)


def _serve(connection: socket.socket, server: FaultPrometheus, answers: tuple[Answer, ...]) -> None:
    with connection, suppress(OSError):
        stream = connection.makefile("rb")
        while (request := _read(stream)) is not None:
            server.requests.append(request)
            answers[min(len(server.requests), len(answers)) - 1](connection)
            if connection.fileno() == -1:
                return


def _read(stream: Any) -> Request | None:
    line = stream.readline().decode()
    if not line:
        return None
    method, target, _ = line.split(" ", 2)
    headers = {}
    while (header := stream.readline().decode().strip()) != "":
        name, _, value = header.partition(": ")
        headers[name.lower()] = value
    body = stream.read(int(headers.get("content-length", 0))).decode()
    parts = urlsplit(target)
    return Request(method, parts.path, headers, parse_qs(parts.query), parse_qs(body))


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def vector(*rows: dict[str, Any], **envelope: Any) -> dict[str, Any]:
    """Build the JSON of a good instant answer; more keys of the envelope by name."""
    return {"status": "success", "data": {"resultType": "vector", "result": list(rows)}, **envelope}


def respond(body: object = None, status: int = 200, *, date: str | None = None, **headers: str) -> Answer:
    """Answer with JSON (or with text or bytes as they are), whole and well-formed HTTP."""
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    known = {
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        "Date": date or formatdate(usegmt=True),
    }
    known |= {name.replace("_", "-").title(): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status} x\r\n" + "".join(f"{name}: {value}\r\n" for name, value in known.items()) + "\r\n"
    return lambda connection: connection.sendall(head.encode() + content)


def hang(connection: socket.socket) -> None:
    """Say nothing, and keep the connection for longer than any test waits."""
    _until_gone(connection, b"")


def drip_headers(connection: socket.socket) -> None:
    """Send headers for ever, a byte at a time: no single read ever times out."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    _until_gone(connection, b"X")


def drip_body(connection: socket.socket) -> None:
    """Promise a body and send it a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n{")
    _until_gone(connection, b" ")


def reset(connection: socket.socket) -> None:
    """Drop the connection with a RST, as a crashing server does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.close(connection.detach())  # the stream that reads requests would keep it open


def close(connection: socket.socket) -> None:
    """End the connection without an answer, as a restarting proxy does."""
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def cut_off(connection: socket.socket) -> None:
    """Send half of what the length promised."""
    connection.sendall(
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"status":"succ'
    )
    close(connection)


def no_http(connection: socket.socket) -> None:
    """Speak another protocol."""
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    close(connection)


def _until_gone(connection: socket.socket, piece: bytes) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if piece:
            connection.sendall(piece)
            time.sleep(0.02)
        else:
            connection.settimeout(0.1)
            with suppress(TimeoutError):
                if not connection.recv(1):
                    return
