"""The proxy between the engine under test and dockerd: hours of container age in seconds.

Owns what is specific to Docker; the forwarding and its faults are proxy.py's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rig.ages import Disguise, Json, When, docker_time, instant
from rig.faults import Request
from rig.proxy import Proxy
from rig.unix_http import UnixConnection, call

LIST = re.compile(r"/containers/json(\?|$)")
INSPECT = re.compile(r"/containers/[^/?]+/json(\?|$)")


class AgeProxy(Proxy):
    """In front of dockerd's socket `upstream`, listening on `socket`."""

    def __init__(self, upstream: Path, socket: Path) -> None:
        self.upstream = upstream
        self.socket = socket
        self._disguises: dict[str, Disguise] = {}
        super().__init__(lambda: UnixConnection(upstream), str(socket))

    def close(self) -> None:
        """Stop listening and delete the socket."""
        super().close()
        self.socket.unlink(missing_ok=True)

    def age(
        self, container: str, started: When | None = None, created: When | None = None, finished: When | None = None
    ) -> None:
        """Show other times for the container's present life: "3h" (ago), a timedelta or an instant.

        Without `created`, a container shown to have started earlier was created when it started.
        After a real restart (stop, start) the real StartedAt and FinishedAt show again.
        """
        now = datetime.now(tz=UTC)
        real = self._inspect(container)
        disguise = self._disguises.setdefault(real["Id"], Disguise())
        if created is not None:
            disguise.created = docker_time(instant(created, now))
        if started is not None:
            disguise.started = (real["State"]["StartedAt"], docker_time(instant(started, now)))
            disguise.created = disguise.created or disguise.started[1]
        if finished is not None:
            disguise.finished = (real["State"]["FinishedAt"], docker_time(instant(finished, now)))

    def edit(self, container: str, change: Callable[[Json], None]) -> None:
        """Change the container's inspect answers in place: for hosts that this engine's version can't be."""
        self._disguises.setdefault(self._inspect(container)["Id"], Disguise()).edits.append(change)

    def rewrites(self, request: Request) -> bool:
        """Whether it is a list or an inspect."""
        return request.method == "GET" and bool(LIST.match(request.path) or INSPECT.match(request.path))

    def rewrite(self, request: Request, body: bytes) -> bytes | None:
        """Age a list or inspect answer."""
        if not self.rewrites(request):
            return None
        if LIST.match(request.path):
            items: list[Json] = json.loads(body)
            return json.dumps([self._known(item).item(item) for item in items]).encode()
        answer: Json = json.loads(body)
        return json.dumps(self._known(answer).inspect(answer)).encode()

    def vanish(self, request: Request) -> None:
        """Remove the container for real."""
        found = re.match(r"/containers/([^/?]+)", request.path)
        if found is None:
            super().vanish(request)
            return
        deadline = time.monotonic() + 120
        target = f"/containers/{found[1]}?force=1"
        while call(self.upstream, "DELETE", target)[0] != 404 and time.monotonic() < deadline:
            time.sleep(0.02)

    def _inspect(self, container: str) -> Json:
        status, answer = call(self.upstream, "GET", f"/containers/{container}/json")
        if status != 200:
            raise LookupError(f"{container}: {status} {answer}")
        found: Json = answer
        return found

    def _known(self, answer: Json) -> Disguise:
        return self._disguises.get(answer["Id"]) or Disguise()
