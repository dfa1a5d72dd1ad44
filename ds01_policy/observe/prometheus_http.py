"""One kept connection to Prometheus: prometheus-api-client over a session that trusts nothing it is sent.

Owns HTTP: credentials, TLS, reading a body in bounded time and size, the words of a broken connection.
What an answer must look like is envelope.py's; a hard deadline and a second try are prometheus.py's.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests
import urllib3.exceptions
from prometheus_api_client import PrometheusConnect
from urllib3.util import Retry

from ds01_policy.observe.envelope import SourceDown, Unready, read_envelope, read_status
from ds01_policy.observe.ports import Json, QueryResult, SourceError
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

BODY_LIMIT = 256 * 2**20  # bytes, unpacked
LONGEST_GET = 6000  # characters of an escaped query; proxies commonly take 8 KiB of request line
MOST_AHEAD_S = 30.0
_CHUNK = 2**16


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a server is shown, and what it must show."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    basic: tuple[bytes, bytes] | None = field(default=None, repr=False)  # user name and password, in UTF-8
    ca_file: str | None = None  # None: the system's certificates


class Connection:
    """A session, and the library on it. Not to be used from two threads at once."""

    def __init__(self, url: str, credentials: Credentials, clock: Callable[[], datetime]) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            SourceDown: when the URL or a header can't be sent.

        """
        self.ahead_s: float | None = None  # how far the server's clock was ahead of ours when it last answered
        self._api = f"{url}/api/v1"
        self._url = f"{self._api}/query"
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy and no ~/.netrc that happens to lie in root's environment
        self._session.verify = credentials.ca_file or True
        self._session.headers.update({"User-Agent": "ds01-policy", **credentials.headers})
        if credentials.basic is not None:
            self._session.auth = requests.auth.HTTPBasicAuth(*credentials.basic)
        self._session.hooks["response"].append(self._check)
        self._clock = clock
        self._deadline = 0.0
        self._checked = QueryResult("vector", ())
        try:
            self._session.prepare_request(requests.Request("GET", self._url))
            for value in credentials.headers.values():
                value.encode("latin-1")
        except (requests.RequestException, UnicodeError):  # their text may hold the header's value, a secret
            raise SourceDown("cannot be asked: see `url` and `headers` of `prometheus` in settings.yaml") from None
        # The library mounts an adapter of its own; without this Retry it would try four times, for nine seconds.
        self._connect = PrometheusConnect(url, session=self._session, retry=Retry(total=0, read=False, redirect=False))

    def ask(self, promql: str, params: Mapping[str, str], deadline: float) -> QueryResult:
        """Ask once. `deadline` is on the monotonic clock; a single read never lasts beyond it, a drip may.

        Raises:
            Unready: nothing was answered, but may be at once.
            SourceError: see read_envelope; and for what broke on the way.

        """

        def errand(left: float) -> None:
            if len(quote(promql)) <= LONGEST_GET:
                self._connect.custom_query(promql, params=dict(params), timeout=(left, left))
            else:  # the library's own POST keeps the query in the URL
                self._session.post(self._url, data={"query": promql, **params}, timeout=(left, left))

        self._run(errand, deadline)
        return self._checked

    def status(self, what: str, deadline: float) -> Json:
        """Ask once what the server tells of itself. Deadline and errors are as for `ask`."""
        told: Json = {}

        def check(response: requests.Response, **_: Any) -> requests.Response:
            told.update(read_status(*self._taken(response)))
            return _Believed(told)

        self._run(
            lambda left: self._session.get(
                f"{self._api}/status/{what}", hooks={"response": [check]}, timeout=(left, left)
            ),
            deadline,
        )
        return told

    def _run(self, errand: Callable[[float], object], deadline: float) -> None:
        self._deadline = deadline
        try:
            errand(max(deadline - time.monotonic(), 0.001))
        except SourceError:
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise _broken(error) from None

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def _check(self, response: requests.Response, **_: Any) -> requests.Response:
        """Look at an answer before the library does."""
        self._checked = read_envelope(*self._taken(response))
        return _Believed({"resultType": self._checked.result_type, "result": self._checked.result})

    def _taken(self, response: requests.Response) -> tuple[int, dict[str, str], bytes]:
        """Take status, headers and body: the only place where answers are read."""
        with response:  # else a connection that is given up would stay open
            self._compare_clocks(response.headers.get("date", ""))
            body = self._read(response)
        return response.status_code, {name.lower(): value for name, value in response.headers.items()}, body

    def _read(self, response: requests.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > BODY_LIMIT:
                raise SourceError(f"answers more than {BODY_LIMIT // 2**20} MiB: ask for fewer series or less time")
            if time.monotonic() > self._deadline:
                raise TimeoutError
        return bytes(body)

    def _compare_clocks(self, date: str) -> None:
        try:
            server = parsedate_to_datetime(date)
        except (ValueError, TypeError):
            return
        self.ahead_s = (server.replace(tzinfo=server.tzinfo or UTC) - self._clock()).total_seconds()
        # A clock behind ours makes data look late, which counts as missing. One ahead makes old data look fresh.
        if self.ahead_s > MOST_AHEAD_S:
            raise SourceDown(f"has a clock {self.ahead_s:.0f}s ahead of this host's, so old samples would look new")


class _Believed(requests.Response):
    """What the library is handed in place of an answer that was read and checked."""

    def __init__(self, data: Json) -> None:
        super().__init__()
        self.status_code = 200
        self._data = data

    def json(self, **_: Any) -> Any:
        """Hand out what was parsed already."""
        return {"status": "success", "data": self._data}


def _broken(error: Exception) -> SourceError:
    """Say in words why nothing came; the libraries' own repeat the whole query."""
    chain = list(_causes(error))
    if any(isinstance(one, requests.exceptions.SSLError | ssl.SSLError) for one in chain):
        return SourceDown(f"has no TLS certificate that can be trusted ({_last_words(chain)}): see `ca_file`")
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return Unready("refuses the connection: is it running, and is `prometheus.url` in settings.yaml right?")
    if any(isinstance(one, urllib3.exceptions.NameResolutionError) for one in chain):
        return Unready("has a name that no address is known for: see `prometheus.url` in settings.yaml")
    if isinstance(chain[-1], TimeoutError):
        return SourceDown("gave no whole answer in time")
    if any(isinstance(one, requests.exceptions.ContentDecodingError) for one in chain):
        return SourceError("answers something that cannot be unpacked")
    return Unready(f"broke the connection off ({_last_words(chain)})")


def _causes(error: BaseException | None) -> Any:
    """Walk down to what really happened, through the libraries' ways of wrapping."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        wrapped = [one for one in (getattr(error, "reason", None), *error.args) if isinstance(one, BaseException)]
        error = wrapped[0] if wrapped else error.__cause__ or error.__context__


def _last_words(chain: list[BaseException]) -> str:
    last = chain[-1]
    return plain(getattr(last, "strerror", None) or str(last) or type(last).__name__, 200)
