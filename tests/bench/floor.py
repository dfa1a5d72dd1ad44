"""Makes recorded requests as bare as they can be made, and prints the seconds that took.

Usage: floor.py REQUESTS.json. One kept connection to each server, http.client, answers read and thrown away.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
from pathlib import Path


def main(path: str) -> None:
    """Make them all, in order. A refused one (not 2xx, 304 or 404) ends the measurement."""
    recorded = json.loads(Path(path).read_text())
    docker = http.client.HTTPConnection("docker")
    prometheus = http.client.HTTPConnection(recorded["prometheus"])
    began = time.perf_counter()
    docker.sock = socket.socket(socket.AF_UNIX)
    docker.sock.connect(recorded["docker"])
    for request in recorded["requests"]:
        connection = docker if request["source"] == "docker" else prometheus
        connection.request(request["method"], request["target"], request["body"].encode() or None, request["headers"])
        answer = connection.getresponse()
        body = answer.read()
        if answer.status not in {200, 204, 304, 404}:
            raise SystemExit(f"{request['method']} {request['target']}: {answer.status} {body[:300]!r}")
    print(time.perf_counter() - began)  # noqa: T201 -- the result


if __name__ == "__main__":
    main(sys.argv[1])
