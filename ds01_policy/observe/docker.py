"""The Docker engine, asked over one kept-alive connection: list, inspect, and the stat of a file.

Owns the transport and what each HTTP answer means; only GET and HEAD, so nothing here can change a container.
A small client instead of the docker package, whose import alone takes longer than two hundred inspects.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from ds01_policy.observe.inspected import is_container_id, parse_time, shows_dockers_mounts
from ds01_policy.observe.ports import FileStat, Json, SourceError, SourceSlow

if TYPE_CHECKING:
    from typing import Self

    from _typeshed import ReadableBuffer, WriteableBuffer

_API_NEWEST = (1, 47)  # an engine that knows newer shapes is asked for these
_API_OLDEST = (1, 40)  # below it an inspect does not show `--gpus`: GPU containers would go unseen
_API_ONE_SHOT = (1, 41)
_API_STAT_HARMLESS = (1, 43)  # Docker 24.0 looks at a container's files in a mount namespace of its own
_MAX_BODY = 64 * 1024 * 1024
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\Z")
_STAT_HEADER = "X-Docker-Container-Path-Stat"
# HTTP 500 for a path that a user made impossible in the container: there is no such file, and nothing is unreadable.
_NO_SUCH_PATH = ("not a directory", "too many levels of symbolic links", "file name too long")
_LINK_LOOP = "too many links in "
_OK, _NOT_FOUND = 200, 404
_GONE = object()
_CLOSED_WHILE_IDLE = (RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class EngineDocker:
    """A live engine, for one thread at a time. Nothing is asked before the first call.

    Every call ends within `timeout_s`, reading and reconnecting included, and raises SourceError in words for the admin
    for whatever is not a believable answer.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        """Remember where: `unix:///var/run/docker.sock` or `tcp://host:port` (plain HTTP)."""
        self._url = url
        self._timeout_s = timeout_s
        self._kept: _Connection | None = None
        self._prefix = ""  # `/v1.47`, once the engine was asked
        self._engine = (0, 0)  # the newest API that it knows
        self._harmful: dict[str, bool] = {}  # by container id, for an old engine: whether a stat does harm

    def __enter__(self) -> Self:
        """Use in a `with` to have the connection closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Drop the connection; a later call opens a new one, perhaps to an upgraded engine."""
        self._drop()
        self._prefix = ""

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def containers(self) -> list[Json]:
        """`GET /containers/json?all=1`: one object for each container, whatever its state."""
        answer = self._get("/containers/json?all=1")
        if not isinstance(answer, list):
            raise self._error("the list of containers is not a list")
        if not all(isinstance(entry, dict) and is_container_id(entry.get("Id")) for entry in answer):
            raise self._error("the list of containers has an entry without a full id")
        return answer

    def inspect(self, container_id: str) -> Json | None:
        """`GET /containers/ID/json`; None: it is gone."""
        answer = self._get(f"/containers/{self._full(container_id)}/json")
        if answer is _GONE:
            return None
        if not isinstance(answer, dict) or answer.get("Id") != container_id:
            raise self._error(f"the inspect of {container_id[:12]} is not about that container")
        if self._engine < _API_STAT_HARMLESS:
            self._harmful[container_id] = shows_dockers_mounts(answer)
        return answer

    def stat(self, container_id: str, path: str) -> FileStat | None:
        """`HEAD /containers/ID/archive?path=…`; None: no such file, or no such container."""
        what = f"stat of {path!r} in {container_id[:12]}"
        target = self._versioned(f"/containers/{self._full(container_id)}/archive?path={quote(path, safe='')}")
        if self._engine < _API_STAT_HARMLESS:
            if container_id not in self._harmful and self.inspect(container_id) is None:
                return None
            if self._harmful[container_id]:
                raise self._error(
                    f"{what} is not safe: it mounts Docker's folder, and Docker before 24 leaks mounts then"
                )
        status, headers, _ = self._ask("HEAD", target)
        if status == _NOT_FOUND:
            return None
        if status != _OK:
            words = self._words(target)
            if words.endswith(_NO_SUCH_PATH) or _LINK_LOOP in words:
                return None
            raise self._error(f"{what} answered HTTP {status}: {words!r}")
        try:
            found = json.loads(base64.b64decode(headers.get(_STAT_HEADER, ""), validate=True))
            modified_at = parse_time(found["mtime"]) or datetime.min.replace(tzinfo=UTC)
            return FileStat(modified_at, name=str(found["name"]), link_target=str(found.get("linkTarget") or ""))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._error(f"{what} came without a readable {_STAT_HEADER}") from error

    def stats(self, container_id: str) -> Json | None:
        """`GET /containers/ID/stats` with one sample; None: it is gone. The engine takes up to a second to answer."""
        target = self._versioned(f"/containers/{self._full(container_id)}/stats?stream=false&one-shot=true")
        if self._engine < _API_ONE_SHOT:
            raise self._error("before Docker 20.10 it takes two seconds to count for each container: not done")
        answer = self._json(*self._ask("GET", target))
        return None if answer is _GONE or not isinstance(answer, dict) else answer

    def about(self, target: Literal["/version", "/info"]) -> Json:
        """`GET /version` or `GET /info`: the engine itself, also one too old or too new for everything else."""
        answer = self._json(*self._ask("GET", target))
        if not isinstance(answer, dict):
            raise self._error(f"GET {target} answers no object")
        return answer

    def _words(self, target: str) -> str:
        """Ask again with GET why HEAD failed: its answer has no body."""
        _, _, body = self._ask("GET", target)
        try:
            return str(json.loads(body)["message"])[:1000]
        except (ValueError, KeyError, TypeError, RecursionError):
            return "no reason given"

    def _full(self, container_id: str) -> str:
        """Let only a full id into a path: a name or a prefix may mean another container by now."""
        if not is_container_id(container_id):
            raise self._error(f"{container_id!r} is not a full container id")
        return container_id

    def _versioned(self, target: str) -> str:
        """Put the newest API that both sides know in front."""
        if not self._prefix:
            answer = self._json(*self._ask("GET", "/version"))
            newest = _version(answer, "ApiVersion")
            if newest is None:
                raise self._error("GET /version names no ApiVersion; is this a Docker engine?")
            if newest < _API_OLDEST:
                raise self._error(f"the engine's API is {_dotted(newest)}, but {_dotted(_API_OLDEST)} is needed")
            self._engine = newest
            oldest = _version(answer, "MinAPIVersion") or _API_OLDEST
            self._prefix = f"/v{_dotted(max(min(newest, _API_NEWEST), oldest))}"
        return self._prefix + target

    def _get(self, target: str) -> Any:
        return self._json(*self._ask("GET", self._versioned(target)))

    def _json(self, status: int, headers: HTTPMessage, body: bytes) -> Any:
        """Read an answer; _GONE: the engine says that there is no such container."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            kind = headers.get("Content-Type", "no content type")
            raise self._error(f"HTTP {status} with a body that is not JSON ({kind!r}, {len(body)} bytes)") from error
        if status == _OK:
            return answer
        message = str(answer.get("message"))[:300] if isinstance(answer, dict) else "no message"
        # A proxy's or a router's 404 says nothing about a container: only the engine's own words make it gone.
        if status == _NOT_FOUND and "no such container" in message.lower():
            return _GONE
        raise self._error(f"HTTP {status}: {message!r}")

    def _ask(self, method: str, target: str) -> tuple[int, HTTPMessage, bytes]:
        """Make one request and read the answer whole. A connection that was closed while idle is opened anew, once."""
        deadline = time.monotonic() + self._timeout_s
        try:
            if self._kept is not None:
                try:
                    return self._exchange(self._kept, deadline, method, target)
                except _CLOSED_WHILE_IDLE:
                    self._drop()
            self._kept = _Connection(self._url)
            return self._exchange(self._kept, deadline, method, target)
        except (TimeoutError, BlockingIOError):  # the latter: so many wait for the engine that no more may queue
            raise SourceSlow(
                str(self._error(f"no whole answer to {method} {target} within {self._timeout_s:g} s"))
            ) from None
        except FileNotFoundError:
            raise self._error("no such socket; is Docker running, and is docker.url right?") from None
        except PermissionError:
            raise self._error("permission denied; run as root or join the docker group") from None
        except ConnectionRefusedError:
            raise self._error("connection refused; is Docker running, and is docker.url right?") from None
        except IncompleteRead:
            raise self._error(f"the answer to {method} {target} was cut short") from None
        except (HTTPException, OSError, ValueError) as error:
            raise self._error(f"{method} {target} failed: {type(error).__name__}: {error}") from error
        finally:
            if self._kept is not None and not self._kept.reusable:
                self._drop()

    def _exchange(
        self, connection: _Connection, deadline: float, method: str, target: str
    ) -> tuple[int, HTTPMessage, bytes]:
        connection.begin(deadline)
        connection.request(method, target, headers={"Accept": "application/json"})
        with connection.getresponse() as response:
            body = self._whole(response)
            connection.reusable = True  # an announced close is made up for by http.client
            return response.status, response.headers, body

    def _whole(self, response: HTTPResponse) -> bytes:
        if (response.length or 0) <= _MAX_BODY:
            body = response.read(_MAX_BODY + 1)
            if len(body) <= _MAX_BODY:
                if response.length and response.length > 0:
                    raise IncompleteRead(body, response.length)
                return body
        raise self._error(f"an answer of more than {_MAX_BODY >> 20} MiB is refused")

    def _error(self, what: str) -> SourceError:
        return SourceError(f"Docker at {self._url}: {what}")


class _Connection(HTTPConnection):
    """HTTP/1.1 over the socket that the URL names; each request ends by its deadline."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        if self._target.scheme not in ("unix", "tcp", "http"):
            raise SourceError(f"docker.url {url!r}: only unix:///path and tcp://host:port can be asked")
        super().__init__("docker")  # what the Host header says; a Unix socket has no host
        self.reusable = True
        self._deadline = 0.0

    def begin(self, deadline: float) -> None:
        """Give the next request until `deadline`. Reusable again only once its answer was read to the end."""
        self.reusable = False
        self._deadline = deadline
        if isinstance(self.sock, _TimedSocket):
            self.sock.deadline = deadline

    def connect(self) -> None:
        """Open the socket."""
        left = self._deadline - time.monotonic()
        if self._target.scheme == "unix":
            sock = _TimedSocket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(left)
            self.sock = sock  # first, so that close() finds it when connecting fails
            sock.connect(self._target.netloc + self._target.path)
        else:
            address = (self._target.hostname or "localhost", self._target.port or 2375)
            sock = _TimedSocket(fileno=socket.create_connection(address, timeout=left).detach())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = sock
        sock.deadline = self._deadline


class _TimedSocket(socket.socket):
    """A socket whose reads and writes together end by a deadline: a peer that drips bytes gains no time."""

    deadline = 0.0

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        self._arm()
        return super().recv_into(buffer, nbytes, flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        self._arm()
        super().sendall(data, flags)


def _version(answer: object, key: str) -> tuple[int, int] | None:
    text = answer.get(key) if isinstance(answer, dict) else None
    found = _VERSION.match(text) if isinstance(text, str) else None
    return (int(found[1]), int(found[2])) if found else None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
