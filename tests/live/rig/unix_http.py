"""HTTP over a unix socket with the standard library alone, so that the rig shares no client with what it tests."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any


class UnixConnection(http.client.HTTPConnection):
    """An http.client connection to a unix socket."""

    def __init__(self, path: Path, timeout: float | None = None) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def call(path: Path, method: str, target: str, body: Any = None, timeout: float = 180.0) -> tuple[int, Any]:
    """One request: status and decoded JSON (None where there is no body, text where it is not JSON)."""
    connection = UnixConnection(path, timeout)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        raw = answer.read()
    finally:
        connection.close()
    if not raw:
        return answer.status, None
    try:
        return answer.status, json.loads(raw)
    except ValueError:
        return answer.status, raw.decode(errors="replace")
