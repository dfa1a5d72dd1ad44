"""A small HTTP server for one page: Prometheus asks `watch` for its metrics.

Owns its socket, its threads and their bounds: whatever clients do, and whether or not the address can be had, nobody
who started it waits, and nothing that they send is shown. Does not know what the page says.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ds01_policy.metrics.exposition import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = "/metrics"
MOST = 8  # clients at once; the next ones wait in the kernel's queue
DEADLINE_S = 5.0  # for a client to ask, and again to take the answer
AGAIN_S = 30.0  # until an address that could not be had is tried again
_POLL_S = 0.5  # how soon it notices that it is to end
_HEAD_LIMIT = 16 * 1024
_BLOCK = 4096
_PLAIN = "text/plain; charset=utf-8"
_HINT = f"ds01-policy watch: the metrics are at {PATH}\n"


class MetricsServer:
    """Serves `page()` to whoever can reach HOST:PORT, from threads of its own that end with the program."""

    def __init__(self, address: tuple[str, int], page: Callable[[], str], log: Callable[[str], object]) -> None:
        """Take where to listen, and what to tell; `page` must not raise. `log` gets a line when that changes."""
        self._address = address
        self._page = page
        self._log = log
        self._ended = threading.Event()
        self._room = threading.BoundedSemaphore(MOST)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin, and return at once."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Take no further client; False: it has not noticed in time, and ends with the program."""
        self._ended.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        said = ""
        while not self._ended.is_set():
            try:
                with _listener(self._address) as listener:
                    self._log(f"metrics at http://{_shown(self._address)}{PATH}")
                    said = ""
                    self._take(listener)
            except OSError as error:
                words = (error.strerror or str(error)).partition(" (while")[0]  # Python says the address once more
                why = f"metrics_listen {_shown(self._address)}: {words}"
                if why != said:
                    self._log(f"{why}; trying again every {AGAIN_S:g} s")
                said = why
                self._ended.wait(AGAIN_S)

    def _take(self, listener: socket.socket) -> None:
        """Give each client a thread. Raises OSError when the socket fails."""
        while not self._ended.is_set():
            if not self._room.acquire(timeout=_POLL_S):
                continue
            began = False
            try:
                client, _ = listener.accept()
                began = self._begin(client)
            except (TimeoutError, ConnectionError):  # nobody came, or left before it was taken
                continue
            finally:
                if not began:
                    self._room.release()

    def _begin(self, client: socket.socket) -> bool:
        try:
            threading.Thread(target=self._serve, args=(client,), name="metrics client", daemon=True).start()
        except RuntimeError:  # no thread to be had just now
            client.close()
            return False
        return True

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, suppress(OSError):  # a client that is slow, or gone
                head = _head(client, time.monotonic() + DEADLINE_S)
                client.settimeout(DEADLINE_S)
                client.sendall(answer(head, self._page))
        finally:
            self._room.release()


def answer(head: bytes, page: Callable[[], str]) -> bytes:
    """Answer a request's head: GET and HEAD of the page, and a hint at `/`; what is no request is refused."""
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if not head.endswith(b"\r\n\r\n") or len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004  RFC 9112
        return _response("400 Bad Request", "no HTTP request\n")
    method, path = words[0], words[1].partition("?")[0]
    if path not in (PATH, "/"):
        status, body, kind = "404 Not Found", f"only {PATH} is here\n", _PLAIN
    elif method not in ("GET", "HEAD"):
        return _response("405 Method Not Allowed", "GET or HEAD\n", more="Allow: GET, HEAD\r\n")
    elif path == PATH:
        status, body, kind = "200 OK", page(), CONTENT_TYPE
    else:
        status, body, kind = "200 OK", _HINT, _PLAIN
    return _response(status, body, kind, bodiless=method == "HEAD")


def _response(status: str, body: str, kind: str = _PLAIN, *, more: str = "", bodiless: bool = False) -> bytes:
    content = body.encode("utf-8", "backslashreplace")
    fields = f"Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n{more}Connection: close\r\n"
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode("ascii") + (b"" if bodiless else content)


def _head(client: socket.socket, deadline: float) -> bytes:
    """Read up to the empty line that ends a request's head, or what there is of it.

    Raises:
        OSError: when the client breaks off, or has not asked by then (monotonic).

    """
    received = b""
    while b"\r\n\r\n" not in received and len(received) < _HEAD_LIMIT:
        client.settimeout(max(deadline - time.monotonic(), 0.001))
        block = client.recv(_BLOCK)
        if not block:
            break
        received += block
    head, end, _ = received.partition(b"\r\n\r\n")
    return head + end


def _listener(address: tuple[str, int]) -> socket.socket:
    host, port = address
    family, *_, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(found, family=family)
    listener.settimeout(_POLL_S)
    return listener


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
