"""One connection on which Docker tells what happens to containers, for as long as it holds.

Owns the socket and what each way to fail means; the request can change nothing. What stands in it is events.py's.
"""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from ds01_policy.observe.events import ACTIONS, Chunks, Event, Events, StreamBroken
from ds01_policy.observe.ports import SourceError

if TYPE_CHECKING:
    from datetime import datetime

_HEAD_LIMIT = 64 * 1024
_BLOCK = 64 * 1024
_OK = 200


class EventStream:
    """Docker's events, for one thread. `open`, then `read` again and again; either raises SourceError when it fails."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Remember where: `unix:///var/run/docker.sock` or `tcp://host:port` (plain HTTP). Connecting is timed."""
        self._url = url
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._chunks: Chunks | None = None  # None: the body comes as it is, until the connection closes
        self._events = Events()
        self._early = b""  # what came along with the head

    @property
    def unreadable(self) -> int:
        """How many lines of this connection could not be read: what they told of must be found by looking."""
        return self._events.unreadable

    def open(self, since: datetime | None) -> None:
        """Ask for what has happened since then (None: from now on), and for all that will.

        Raises:
            SourceError: when the engine does not begin to answer in time, or does not answer with events.

        """
        self.close()
        self._events = Events()
        wanted = {"filters": json.dumps({"type": ["container"], "event": sorted(ACTIONS)})}
        if since is not None:
            wanted["since"] = f"{since.timestamp():.6f}"
        # Without a version in front the engine answers in its newest one, which no engine ever refuses.
        request = f"GET /events?{urlencode(wanted)} HTTP/1.1\r\nHost: docker\r\nAccept: application/json\r\n\r\n"
        deadline = time.monotonic() + self._timeout_s
        try:
            self._connect(deadline)
            self._connected.sendall(request.encode())
            self._begin(deadline)
        except TimeoutError:
            raise self._lost(f"no answer to GET /events within {self._timeout_s:g} s") from None
        except OSError as error:
            raise self._lost(f"GET /events failed: {error.strerror or error}") from error

    def read(self, wait_s: float) -> list[Event]:
        """Wait for events, at most so long; nothing having happened, there are none.

        Raises:
            SourceError: when the connection has ended, or what arrives is no answer.

        """
        data, self._early = self._early, b""
        if self._chunks is not None and self._chunks.ended:
            raise self._lost("the stream of events ended; is the engine restarting?")
        if not data:
            try:
                self._connected.settimeout(wait_s)
                data = self._connected.recv(_BLOCK)
            except TimeoutError:
                return []
            except OSError as error:
                raise self._lost(f"the stream of events broke: {error.strerror or error}") from error
            if not data:
                raise self._lost("the stream of events ended; is the engine restarting?")
        try:
            carried = data if self._chunks is None else self._chunks.feed(data)
        except StreamBroken as error:
            raise self._lost(f"the stream of events broke: {error}") from error
        return self._events.feed(carried)

    def close(self) -> None:
        """Drop the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._chunks = None
        self._early = b""

    @property
    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise self._lost("not connected")
        return self._socket

    def _connect(self, deadline: float) -> None:
        target = urlsplit(self._url)
        left = max(deadline - time.monotonic(), 0.001)
        if target.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(left)
            self._socket.connect(target.netloc + target.path)
        elif target.scheme in ("tcp", "http"):
            address = (target.hostname or "localhost", target.port or 2375)
            self._socket = socket.create_connection(address, timeout=left)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # or a dead peer is never noticed
        else:
            raise self._lost("only unix:///path and tcp://host:port can be followed")

    def _begin(self, deadline: float) -> None:
        """Read the head of the answer."""
        received = b""
        while b"\r\n\r\n" not in received:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connected.settimeout(left)
            more = self._connected.recv(_BLOCK)
            received += more
            if not more or len(received) > _HEAD_LIMIT:
                raise self._lost("the answer to GET /events is no HTTP")
        head, _, self._early = received.partition(b"\r\n\r\n")
        status, _, fields = head.decode("latin-1").partition("\r\n")
        version, _, code = status.partition(" ")
        if not version.startswith("HTTP/1.") or code.split(" ")[0] != str(_OK):
            raise self._lost(f"GET /events answered {status[:80]!r}")
        headers = {key.strip().lower(): value.strip().lower() for key, _, value in _pairs(fields)}
        self._chunks = Chunks() if headers.get("transfer-encoding") == "chunked" else None

    def _lost(self, what: str) -> SourceError:
        self.close()
        return SourceError(f"Docker at {self._url}: {what}")


def _pairs(fields: str) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in fields.split("\r\n")]
