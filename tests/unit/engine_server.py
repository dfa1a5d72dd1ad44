"""Serves a fake Docker engine on a Unix socket, for what talks to Docker through its library."""

from __future__ import annotations

import json
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Protocol, TypeVar

_BODILESS = (204, 304)


class FakeEngine(Protocol):
    """What answers: status 0 hangs up, content None is no body."""

    released: threading.Event  # set in the end: whoever it lets wait goes on

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Answer one request."""


T = TypeVar("T", bound=FakeEngine)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64
    engine: FakeEngine

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers hang up: that is what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, content = self.server.engine.answer(self.command, self.path, body)
        if not status:
            self.close_connection = True
            return
        payload = b"" if content is None or status in _BODILESS else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status not in _BODILESS:
            self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815  the base class calls them so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class calls it so
        """Say nothing."""


@contextmanager
def served(make: Callable[[Path], T]) -> Iterator[T]:
    """Serve the engine that is made for this socket, until the test is over."""
    folder = Path(tempfile.mkdtemp(prefix="engine-"))  # short: a socket's path has 108 bytes
    fake = make(folder / "s")
    server = _Server(str(folder / "s"), _Handler)
    server.engine = fake
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        fake.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
        shutil.rmtree(folder)
