"""The metrics that `watch` serves: what the last tick wrote, and what it tells of itself.

Owns the page, and that there is one only where settings.yaml says so. Loads no server where it does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.model import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from ds01_policy.aside import Aside
    from ds01_policy.metrics.server import MetricsServer
    from ds01_policy.policy import Settings
    from ds01_policy.watch import Watch

_AT_ONCE_S = 2.0


class Served:
    """What one `watch` tells of itself, and its server."""

    def __init__(self, settings: Settings, watch: Watch, worker: Aside, log: Callable[[str], object]) -> None:
        """Take what is told of; nothing is opened yet."""
        self._settings = settings
        self._watch = watch
        self._worker = worker
        self._log = log
        self._epilogs = dict.fromkeys(Status, 0)  # each has its place: another thread reads it
        self._server: MetricsServer | None = None

    def ran(self, status: Status) -> None:
        """Count an epilog."""
        self._epilogs[status] += 1

    def start(self) -> None:
        """Serve, if somebody is to be served."""
        if self._settings.metrics_listen is not None:
            from ds01_policy.metrics.server import MetricsServer

            self._server = MetricsServer(self._settings.metrics_listen, self.page, self._log)
            self._server.start()

    def stop(self) -> None:
        """Serve nobody any more."""
        if self._server is not None:
            self._server.stop(_AT_ONCE_S)

    def page(self) -> str:
        """Lay out all there is to tell. A tick's part is missing until there has been one. Any thread may ask."""
        from ds01_policy.metrics import NAME, text
        from ds01_policy.metrics.watching import Watching, watch_families

        watching = Watching(self._watch.following, self._watch.last_event, self._worker.waiting, dict(self._epilogs))
        return last_written(Path(self._settings.state_dir) / NAME) + text(watch_families(watching))


def last_written(path: Path) -> str:
    """Read what the last tick wrote; nothing, where there is nothing to be read."""
    try:
        told = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return told if not told or told.endswith("\n") else f"{told}\n"
