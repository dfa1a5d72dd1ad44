"""Ask a real Prometheus: PrometheusSource over HTTP, on time whatever the server does.

Owns the deadline, the one quick second try, and the secrets' files. HTTP is prometheus_http.py's, loaded with the
first query: a tick that asks nothing does not pay for it.
"""

from __future__ import annotations

import stat
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from ds01_policy.observe.aside import Aside, Late
from ds01_policy.observe.envelope import SourceDown, Unready, about
from ds01_policy.observe.ports import SourceError
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import PurePath

    from ds01_policy.observe.ports import Json, QueryResult
    from ds01_policy.observe.prometheus_http import Connection, Credentials
    from ds01_policy.policy import PrometheusSettings

SECRET_LIMIT = 64 * 2**10  # bytes
PAUSE_S = 0.2  # before the second try

T = TypeVar("T")


class LivePrometheus:
    """A Prometheus, or what speaks its query API (Thanos, Mimir, VictoriaMetrics)."""

    def __init__(
        self, settings: PrometheusSettings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Take note of where it is; files are read and connections made when something is asked."""
        self.queries = 0
        self.notes: tuple[str, ...] = ()  # about the secrets' files, for an admin
        self._settings = settings
        self._clock = clock
        self._timeout_s = settings.timeout.total_seconds()
        self._connection: Connection | None = None
        self._name = f"Prometheus at {_without_credentials(settings.url)}"

    @property
    def clock_skew_s(self) -> float | None:
        """How far the server's clock was ahead of ours (negative: behind) at the last answer, where it told."""
        return self._connection.ahead_s if self._connection else None

    def query(self, promql: str, at: datetime) -> QueryResult:
        """Ask at one instant, within the configured timeout, a second try included.

        Raises:
            SourceDown: nobody could answer; asking more would only cost time.
            BadQuery: this query was refused.
            SourceError: the answer cannot be believed whole.

        """
        self.queries += 1
        params = {
            # Milliseconds, never rounded up: a sample that is newer than `at` must not come.
            "time": f"{at.replace(microsecond=at.microsecond // 1000 * 1000).timestamp():.3f}",
            "timeout": f"{max(1, round(self._timeout_s * 1000))}ms",
            # Thanos alone knows these: rather no answer than a part of it; one row a series, not one a replica.
            "partial_response": "false",
            "dedup": "true",
        }
        return self._asked(lambda connection, deadline: about(connection.ask(promql, params, deadline), at.timestamp()))

    def status(self, what: str) -> Json:
        """Ask what the server tells of itself (`buildinfo`, `runtimeinfo`), within the configured timeout.

        Raises:
            SourceError: as `query`; also where the server has no such page, as some that only speak the query API.

        """
        return self._asked(lambda connection, deadline: connection.status(what, deadline))

    def _asked(self, ask: Callable[[Connection, float], T]) -> T:
        deadline = time.monotonic() + self._timeout_s
        try:
            errand = partial(ask, self._connected(), deadline)
            return Aside(partial(_twice, errand, deadline), "prometheus-query").by(deadline)
        except Late:
            self._connection = None  # the errand may still be reading from it
            raise SourceDown(f"{self._name} gave no whole answer within {self._timeout_s:g}s") from None
        except SourceError as error:
            raise type(error)(f"{self._name} {error}") from None

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None:
            from ds01_policy.observe.prometheus_http import Connection

            credentials, self.notes = _credentials(self._settings)
            self._connection = Connection(self._settings.url.rstrip("/"), credentials, self._clock)
        return self._connection


def _twice(ask: Callable[[], T], deadline: float) -> T:
    """Ask, and once more where the server may be ready in a moment."""
    try:
        return ask()
    except Unready:
        if time.monotonic() + PAUSE_S >= deadline:
            raise
    time.sleep(PAUSE_S)
    return ask()


def _credentials(settings: PrometheusSettings) -> tuple[Credentials, tuple[str, ...]]:
    """Read the secrets' files. Raises SourceDown, naming the file and never what is in it."""
    from ds01_policy.observe.prometheus_http import Credentials

    notes: list[str] = []
    headers = dict(settings.headers)
    basic = None
    if settings.username is not None and settings.password_file is not None:
        password = _secret(settings.password_file, "password_file", notes)
        basic = settings.username.encode(), password.encode()
    if settings.bearer_token_file is not None:
        token = _secret(settings.bearer_token_file, "bearer_token_file", notes)
        if not token.isascii() or not token.isprintable() or " " in token:
            raise SourceDown(f"cannot be asked: bearer_token_file {settings.bearer_token_file} holds no single token")
        headers["Authorization"] = f"Bearer {token}"
    if settings.ca_file is not None and not Path(settings.ca_file).is_file():
        raise SourceDown(f"cannot be asked: there is no ca_file {settings.ca_file}")
    ca_file = str(settings.ca_file) if settings.ca_file is not None else None
    return Credentials(headers, basic, ca_file), tuple(notes)


def _secret(path: PurePath, what: str, notes: list[str]) -> str:
    """Read one line from a plain file."""
    trouble = f"cannot be asked: {what} {path}"
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise SourceDown(f"{trouble} is not a plain file")
        with Path(path).open("rb") as file:
            secret = file.read(SECRET_LIMIT + 1).decode().strip("\r\n")
    except OSError as error:
        raise SourceDown(f"{trouble} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SourceDown(f"{trouble} is not text") from None
    if not secret or len(secret) > SECRET_LIMIT:
        raise SourceDown(f"{trouble} is empty, or far too long")
    if status.st_mode & stat.S_IROTH:
        notes.append(f"{what} {path} can be read by everybody: chmod 600")
    return secret


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return plain(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), 200)
