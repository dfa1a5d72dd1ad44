"""A Unix socket that answers GET /events like an engine, or like one at its worst: one script a connection."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Script = Callable[[socket.socket], None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(action: str, container: str, at: datetime | None = None) -> dict[str, Any]:
    """Write one event in the newest shape."""
    raw: dict[str, Any] = {"Type": "container", "Action": action, "Actor": {"ID": container, "Attributes": {}}}
    if at is not None:
        raw["timeNano"] = int(at.timestamp() * 1e6) * 1000
    return raw


def line(*objects: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def telling(*objects: dict[str, Any], then: Callable[[], object] | None = None) -> Script:
    """Tell these events, a chunk each, and then nothing until the client goes (or `then` returns)."""

    def script(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"".join(chunk(line(each)) for each in objects))
        if then is None:
            connection.recv(1)
        else:
            then()

    return script


def sending(data: bytes, *more: bytes) -> Script:
    """Send these bytes, in so many packets, and hang up."""

    def script(connection: socket.socket) -> None:
        for piece in (data, *more):
            connection.sendall(piece)

    return script


def holding(data: bytes) -> Script:
    """Send these bytes and stay connected."""

    def script(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.recv(1)

    return script


def silent(connection: socket.socket) -> None:
    """Take the request and never answer."""
    connection.recv(1)


class EventsEngine:
    """Plays one script for each connection, the last one again and again; remembers what was asked."""

    def __init__(self, listener: socket.socket, path: Path) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.asked: list[dict[str, list[str]]] = []  # the query of each request
        self.targets: list[str] = []
        self.scripts: list[Script] = [telling()]
        self._listener = listener
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            threading.Thread(target=self._talk, args=(connection, script), daemon=True).start()

    def _talk(self, connection: socket.socket, script: Script) -> None:
        with suppress(OSError), connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            target = request.split(b" ")[1].decode()
            self.targets.append(target)
            self.asked.append(parse_qs(urlsplit(target).query))
            script(connection)


@contextmanager
def events_engine() -> Iterator[EventsEngine]:
    """Listen in a folder of its own: a Unix socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="ds01-"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "docker.sock"))
        listener.listen()
        yield EventsEngine(listener, folder / "docker.sock")
        listener.shutdown(socket.SHUT_RDWR)
    shutil.rmtree(folder)
