"""The engine client against a small HTTP server that can misbehave in every way an engine or a proxy does."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from stopwatch import stopwatch

from ds01_policy.observe.docker import EngineDocker
from ds01_policy.observe.ports import SourceError

ID = "a1" * 32
OTHER = "b2" * 32
VERSION = {"ApiVersion": "1.50", "MinAPIVersion": "1.24"}

Answer = Callable[[socket.socket], bool]  # writes what it likes; True keeps the connection


def reply(
    body: object,
    status: str = "200 OK",
    *,
    kind: str = "application/json",
    length: int | None = None,
    keep: bool = True,
    headers: str = "",
) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    def write(connection: socket.socket) -> bool:
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(raw) if length is None else length}\r\n"
        )
        connection.sendall(head.encode() + headers.encode() + b"\r\n" + raw)
        return keep

    return write


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> Answer:
    def write(connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in chunks:
            connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        connection.sendall(end)
        return end == b"0\r\n\r\n"

    return write


def head(status: str, headers: str = "") -> Answer:
    def write(connection: socket.socket) -> bool:
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 7\r\n{headers}\r\n".encode())  # HEAD has no body
        return True

    return write


def raw_bytes(text: bytes) -> Answer:
    def write(connection: socket.socket) -> bool:
        connection.sendall(text)
        return False

    return write


def hang(connection: socket.socket) -> bool:
    connection.recv(1)  # until the client gives up
    return False


def drip(connection: socket.socket) -> bool:
    """Send one byte at a time for ever: each read succeeds, the answer never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(200):
        connection.sendall(b" ")
        time.sleep(0.02)
    return False


def close(_: socket.socket) -> bool:
    return False


class FakeEngine:
    """Answers by `METHOD target` (API version cut off), each in turn, the last one again and again."""

    def __init__(self, listener: socket.socket, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.connections = 0
        self.answers: dict[str, list[Answer]] = {"GET /version": [reply(VERSION)]}
        self._listener = listener
        threading.Thread(target=self._serve, daemon=True).start()

    def on(self, request: str, *answers: Answer) -> None:
        self.answers[request] = list(answers)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                while request := lines.readline().decode():
                    while lines.readline().strip():
                        pass
                    method, target, _ = request.split(" ")
                    self.asked.append(f"{method} {target}")
                    known = f"{method} {'/' + target.split('/', 2)[2] if target.startswith('/v1.') else target}"
                    answers = self.answers.get(known, [reply({"message": "page not found"}, "404 Not Found")])
                    if not (answers.pop(0) if len(answers) > 1 else answers[0])(connection):
                        return
        except OSError:
            pass  # the client went away, as it should


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    folder = tempfile.mkdtemp(prefix="ds01-")  # a Unix socket's path must be short
    path = Path(folder) / "docker.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        yield FakeEngine(listener, f"unix://{path}")
        listener.shutdown(socket.SHUT_RDWR)
    shutil.rmtree(folder)


@pytest.fixture
def docker(engine: FakeEngine) -> Iterator[EngineDocker]:
    with EngineDocker(engine.url, 5.0) as source:
        yield source


INSPECT = f"GET /containers/{ID}/json"
LIST = "GET /containers/json?all=1"


def test_it_lists_and_inspects_over_one_connection(engine: FakeEngine, docker: EngineDocker) -> None:
    """A whole preview costs one version request, one list and one inspect each, all on one connection."""
    engine.on(LIST, reply([{"Id": ID}, {"Id": OTHER}]))
    engine.on(INSPECT, reply({"Id": ID, "Name": "/train"}))
    engine.on(f"GET /containers/{OTHER}/json", chunked(b'{"Id": ', json.dumps(OTHER).encode(), b"}"))
    assert [entry["Id"] for entry in docker.containers()] == [ID, OTHER]
    assert docker.inspect(ID) == {"Id": ID, "Name": "/train"}
    assert docker.inspect(OTHER) == {"Id": OTHER}
    assert len(engine.asked) == 4
    assert engine.connections == 1


@pytest.mark.parametrize(
    ("engine_says", "asked"),
    [
        pytest.param(
            {"ApiVersion": "1.52", "MinAPIVersion": "1.44"}, "v1.47", id="a newer engine is asked for what is known"
        ),
        pytest.param({"ApiVersion": "1.41", "MinAPIVersion": "1.12"}, "v1.41", id="an older engine for its newest"),
        pytest.param(
            {"ApiVersion": "1.60", "MinAPIVersion": "1.50"}, "v1.50", id="one that refuses old APIs for its oldest"
        ),
        pytest.param({"ApiVersion": "1.41"}, "v1.41", id="one that names no minimum for its newest"),
    ],
)
def test_the_api_version_is_one_that_both_sides_know(
    engine: FakeEngine, docker: EngineDocker, engine_says: dict[str, str], asked: str
) -> None:
    """The version is asked once and put before every path."""
    engine.on("GET /version", reply(engine_says))
    engine.on(LIST, reply([]))
    assert docker.containers() == []
    assert docker.containers() == []
    assert engine.asked == ["GET /version", *[f"GET /{asked}/containers/json?all=1"] * 2]


@pytest.mark.parametrize(
    ("engine_says", "words"),
    [
        pytest.param({"ApiVersion": "1.39"}, "API is 1.39, but 1.40 is needed", id="too old to show --gpus"),
        pytest.param({}, "is this a Docker engine", id="no version at all"),
        pytest.param({"ApiVersion": "../.."}, "is this a Docker engine", id="a version that is a path"),
        pytest.param(["1.41"], "is this a Docker engine", id="no object"),
    ],
)
def test_an_engine_that_cannot_be_understood_is_refused(
    engine: FakeEngine, docker: EngineDocker, engine_says: object, words: str
) -> None:
    """Guessing an API would read fields that mean something else."""
    engine.on("GET /version", reply(engine_says))
    with pytest.raises(SourceError, match=words):
        docker.containers()


def test_a_container_that_is_gone_is_none(engine: FakeEngine, docker: EngineDocker) -> None:
    """The engine's own 404 means gone, and the connection stays usable."""
    engine.on(INSPECT, reply({"message": f"No such container: {ID}"}, "404 Not Found"))
    assert docker.inspect(ID) is None
    assert docker.inspect(ID) is None
    assert engine.connections == 1


INSPECT_FAILURES = [
    pytest.param(
        reply({"message": "page not found"}, "404 Not Found"), "HTTP 404: 'page not found'", id="router's 404"
    ),
    pytest.param(
        reply(b"<html>gone</html>", "404 Not Found", kind="text/html"), "not JSON .'text/html'", id="proxy's 404"
    ),
    pytest.param(reply({"message": "removal is already in progress"}, "409 Conflict"), "removal is already", id="409"),
    pytest.param(
        reply({"message": "boom \x1b[2J"}, "500 Internal Server Error"), r"'boom \\x1b\[2J'", id="500, escaped"
    ),
    pytest.param(reply(b"", "502 Bad Gateway"), "HTTP 502", id="502 without a body"),
    pytest.param(reply(b"<html>log in</html>", kind="text/html"), "not JSON", id="200 with a login page"),
    pytest.param(reply(b'{"Id": "', length=5000, keep=False), "cut short", id="body shorter than announced"),
    pytest.param(reply(b"", length=5000, keep=False), "cut short", id="announced body that never comes"),
    pytest.param(reply(b'{"Id": "'), "not JSON", id="half an object, announced as such"),
    pytest.param(chunked(b'{"Id": "', end=b""), "cut short", id="chunks that stop"),
    pytest.param(chunked(b"{}", end=b"zz\r\n"), "failed|cut short", id="a chunk that is no chunk"),
    pytest.param(reply(b"\xff\xfe{}"), "not JSON", id="bytes that are no text"),
    pytest.param(reply(b"[" * 100_000), "not JSON", id="brackets without end"),
    pytest.param(reply({"Id": OTHER}), "not about that container", id="another container"),
    pytest.param(reply([]), "not about that container", id="a list"),
    pytest.param(reply(None), "not about that container", id="null"),
    pytest.param(raw_bytes(b"SSH-2.0-OpenSSH_9.2\r\n"), "failed", id="no HTTP at all"),
    pytest.param(raw_bytes(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500), "failed", id="headers without end"),
    pytest.param(close, "failed", id="closed without a word, twice"),
    pytest.param(reply(b"", length=100 * 2**20), "more than 64 MiB", id="too large, announced"),
    pytest.param(chunked(*[b" " * 2**20] * 66), "more than 64 MiB", id="too large, in chunks"),
]


@pytest.mark.parametrize(("answer", "words"), INSPECT_FAILURES)
def test_an_answer_that_cannot_be_believed_is_an_error_of_that_call_alone(
    engine: FakeEngine, docker: EngineDocker, answer: Answer, words: str
) -> None:
    """Each failure says in words what came, is neither 'gone' nor a fact, and the next container is still read."""
    engine.on(INSPECT, answer)
    engine.on(f"GET /containers/{OTHER}/json", reply({"Id": OTHER}))
    with pytest.raises(SourceError, match=words) as caught:
        docker.inspect(ID)
    assert engine.url in str(caught.value)
    assert docker.inspect(OTHER) == {"Id": OTHER}


@pytest.mark.parametrize("slow", [pytest.param(hang, id="no byte comes"), pytest.param(drip, id="bytes come for ever")])
def test_a_hanging_engine_costs_the_timeout_and_no_more(engine: FakeEngine, slow: Answer) -> None:
    """The limit holds for the whole call, however often single bytes arrive; and the next call works again."""
    engine.on(INSPECT, slow, reply({"Id": ID}))
    with EngineDocker(engine.url, 0.3) as docker:
        began = time.monotonic()
        with stopwatch() as seconds:
            with pytest.raises(SourceError, match=r"no whole answer to GET .* within 0.3 s"):
                docker.inspect(ID)
            assert time.monotonic() - began > 0.25
            assert seconds() < 3.5
        assert docker.inspect(ID) == {"Id": ID}


@pytest.mark.parametrize(
    ("version", "asked"), [("1.50", True), ("1.41", True), ("1.40", False)], ids=["new", "Docker 20.10", "older"]
)
def test_one_sample_of_a_container_is_asked_where_that_is_quick(
    engine: FakeEngine, docker: EngineDocker, version: str, *, asked: bool
) -> None:
    """Before, every answer would take two seconds; a container that is gone has none."""
    target = f"/containers/{ID}/stats?stream=false&one-shot=true"
    engine.on("GET /version", reply({"ApiVersion": version, "MinAPIVersion": "1.24"}))
    engine.on(f"GET {target}", reply({"read": "now"}), reply({"message": f"No such container: {ID}"}, "404 Not Found"))
    if not asked:
        with pytest.raises(SourceError, match=r"before Docker 20\.10"):
            docker.stats(ID)
        return
    assert docker.stats(ID) == {"read": "now"}
    assert docker.stats(ID) is None


def test_an_engine_whose_queue_is_full_is_an_error_in_words() -> None:
    """A stopped daemon accepts nobody: connecting fails at once instead of hanging."""
    with tempfile.TemporaryDirectory(prefix="ds01-") as folder:
        path = f"{folder}/docker.sock"
        waiting = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(0)
            for _ in range(2):
                client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                client.setblocking(False)  # noqa: FBT003  the standard library's signature
                client.connect_ex(path)
                waiting.append(client)
            with pytest.raises(SourceError, match=r"no whole answer to GET /version within 0.3 s"):
                EngineDocker(f"unix://{path}", 0.3).containers()
        for client in waiting:
            client.close()


def test_a_connection_closed_while_idle_is_opened_anew(engine: FakeEngine, docker: EngineDocker) -> None:
    """An engine or proxy may close a kept connection at any time: the request is made once more, unseen."""
    engine.on(INSPECT, reply({"Id": ID}, keep=False))  # closes after each answer without announcing it
    for _ in range(3):
        assert docker.inspect(ID) == {"Id": ID}
    assert engine.connections == 3


def test_an_announced_close_costs_no_second_request(engine: FakeEngine, docker: EngineDocker) -> None:
    """`Connection: close` is honoured without asking twice."""
    engine.on(INSPECT, reply({"Id": ID}, headers="Connection: close\r\n", keep=False))
    for _ in range(3):
        assert docker.inspect(ID) == {"Id": ID}
    assert len(engine.asked) == 4


def test_a_connection_that_breaks_on_every_try_is_tried_twice_only(engine: FakeEngine, docker: EngineDocker) -> None:
    """The reconnect is no retry loop."""
    engine.on(LIST, reply([]))
    docker.containers()
    engine.on(INSPECT, close)
    with pytest.raises(SourceError, match="failed"):
        docker.inspect(ID)
    assert engine.asked[2:] == [f"GET /v1.47/containers/{ID}/json"] * 2


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="an object"),
        pytest.param([None], id="a list of nulls"),
        pytest.param([{}], id="an entry without an id"),
        pytest.param([{"Id": ID[:12]}], id="a short id"),
        pytest.param([{"Id": ID}, {"Id": f"../{ID}"}], id="an id that is a path"),
    ],
)
def test_a_list_that_is_not_one_of_containers_is_an_error(
    engine: FakeEngine, docker: EngineDocker, entries: object
) -> None:
    """A list that cannot be believed is never an empty host."""
    engine.on(LIST, reply(entries))
    with pytest.raises(SourceError, match="list of containers"):
        docker.containers()


@pytest.mark.parametrize("text", ["", "train", ID[:12], ID.upper(), f"{ID}/../x", f"{ID}\n", f"{ID[:-1]}g"])
def test_only_a_full_id_reaches_the_engine(engine: FakeEngine, docker: EngineDocker, text: str) -> None:
    """Names and prefixes may mean another container by now, and paths anything."""
    with pytest.raises(SourceError, match="not a full container id"):
        docker.inspect(text)
    with pytest.raises(SourceError, match="not a full container id"):
        docker.stat(text, "/x")
    assert engine.asked == []


def encoded(stat: object) -> str:
    text = stat if isinstance(stat, str) else json.dumps(stat)
    return f"X-Docker-Container-Path-Stat: {base64.b64encode(text.encode()).decode()}\r\n"


KEEP = f"HEAD /containers/{ID}/archive?path=%2Fworkspace%2F.keep-alive"
STAT = {"name": ".keep-alive", "size": 0, "mode": 420, "mtime": "2026-03-02T04:31:00.123456789+01:00", "linkTarget": ""}


def test_stat_reads_the_file_through_the_header(engine: FakeEngine, docker: EngineDocker) -> None:
    """The time comes in whatever zone the daemon lives in and leaves in UTC."""
    engine.on(KEEP, head("200 OK", encoded({**STAT, "linkTarget": "/mnt/x"})))
    found = docker.stat(ID, "/workspace/.keep-alive")
    assert found is not None
    assert found.modified_at == datetime(2026, 3, 2, 3, 31, 0, 123456, tzinfo=UTC)
    assert (found.name, found.link_target) == (".keep-alive", "/mnt/x")
    engine.on(INSPECT, reply({"Id": ID}))
    assert docker.inspect(ID) == {"Id": ID}
    assert engine.connections == 1


def test_stat_of_no_file_is_none(engine: FakeEngine, docker: EngineDocker) -> None:
    """No such file and no such container are the same answer."""
    engine.on(KEEP, head("404 Not Found"))
    assert docker.stat(ID, "/workspace/.keep-alive") is None


def test_stat_quotes_the_path(engine: FakeEngine, docker: EngineDocker) -> None:
    """A path is data: it adds no parameter and no second request."""
    engine.on(f"HEAD /containers/{ID}/archive?path=%2Fa%26b%3D%23%0D%0AX%3A%20%C3%BC", head("404 Not Found"))
    assert docker.stat(ID, "/a&b=#\r\nX: ü") is None
    assert len(engine.asked) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(head("200 OK"), "without a readable", id="no header"),
        pytest.param(head("200 OK", "X-Docker-Container-Path-Stat: !!\r\n"), "without a readable", id="no base64"),
        pytest.param(head("200 OK", encoded("{")), "without a readable", id="no JSON"),
        pytest.param(head("200 OK", encoded([])), "without a readable", id="no object"),
        pytest.param(head("200 OK", encoded({"name": "x"})), "without a readable", id="no time"),
        pytest.param(head("200 OK", encoded({**STAT, "mtime": 5})), "without a readable", id="a time that is a number"),
        pytest.param(
            head("200 OK", encoded({**STAT, "mtime": "soon"})), "without a readable", id="a time that is a word"
        ),
    ],
)
def test_a_stat_that_cannot_be_read_is_no_missing_file(
    engine: FakeEngine, docker: EngineDocker, answer: Answer, words: str
) -> None:
    """Only 404 means that nobody asked for more time."""
    engine.on(KEEP, answer)
    with pytest.raises(SourceError, match=words):
        docker.stat(ID, "/workspace/.keep-alive")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            "lstat /var/lib/docker/overlay2/x/merged/workspace/.keep-alive: not a directory", id="a file as folder"
        ),
        pytest.param(
            "evalSymlinksInScope: too many links in /var/lib/docker/overlay2/x/merged/w", id="a link to itself"
        ),
        pytest.param("openat /workspace: too many levels of symbolic links", id="a link to itself, newer engines"),
        pytest.param(
            "lstat /var/lib/docker/overlay2/x/merged/aaaa: file name too long", id="a link to an endless name"
        ),
    ],
)
def test_a_path_that_a_user_made_impossible_is_no_file(engine: FakeEngine, docker: EngineDocker, words: str) -> None:
    """Docker answers 500 for these; were they unreadable, one `ln -s` would hold every rule back for ever."""
    engine.on(KEEP, head("500 Internal Server Error"))
    engine.on(KEEP.replace("HEAD", "GET"), reply({"message": words}, "500 Internal Server Error"))
    assert docker.stat(ID, "/workspace/.keep-alive") is None


def mounting(source: str, **more: str) -> dict[str, object]:
    return {"Id": ID, "Mounts": [{"Type": "bind", "Source": source, "Destination": "/x", **more}]}


OLD_ENGINE = reply({"ApiVersion": "1.41", "MinAPIVersion": "1.12"})


@pytest.mark.parametrize("before", [pytest.param(True, id="inspected before"), pytest.param(False, id="not inspected")])
def test_an_old_engine_is_not_asked_for_files_where_that_leaks_mounts(
    engine: FakeEngine, docker: EngineDocker, *, before: bool
) -> None:
    """Before 24.0 each stat doubles the mounts of a container that mounts /, until the host can mount nothing more."""
    engine.on("GET /version", OLD_ENGINE)
    engine.on(INSPECT, reply(mounting("/")))
    engine.on(KEEP, head("404 Not Found"))
    if before:
        docker.inspect(ID)
    with pytest.raises(SourceError, match="Docker before 24 leaks mounts"):
        docker.stat(ID, "/workspace/.keep-alive")
    assert not any(request.startswith("HEAD") for request in engine.asked)


def test_an_old_engine_is_asked_for_files_where_that_is_harmless(engine: FakeEngine, docker: EngineDocker) -> None:
    """A stat costs one more inspect at most, and none where the tick made it already."""
    engine.on("GET /version", OLD_ENGINE)
    engine.on(INSPECT, reply(mounting("/home/alice")))
    engine.on(KEEP, head("404 Not Found"))
    assert docker.stat(ID, "/workspace/.keep-alive") is None
    assert docker.stat(ID, "/workspace/.keep-alive") is None
    assert len(engine.asked) == 4
    engine.on(f"GET /containers/{OTHER}/json", reply({"message": "No such container: x"}, "404 Not Found"))
    assert docker.stat(OTHER, "/workspace/.keep-alive") is None


def test_a_newer_engine_is_asked_for_files_at_once(engine: FakeEngine, docker: EngineDocker) -> None:
    """From 24.0 on a stat happens in a mount namespace of its own."""
    engine.on(INSPECT, reply(mounting("/")))
    engine.on(KEEP, head("404 Not Found"))
    docker.inspect(ID)
    assert docker.stat(ID, "/workspace/.keep-alive") is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(
            reply({"message": "mount: no space left"}, "500 x"), "HTTP 500: 'mount: no space left'", id="words"
        ),
        pytest.param(reply({}, "500 x"), "no reason given", id="an object without words"),
        pytest.param(reply(b"<html>", "502 x"), "no reason given", id="a page"),
        pytest.param(
            reply({"message": "lstat x: permission denied"}, "500 x"), "permission denied", id="root is squashed"
        ),
    ],
)
def test_a_stat_that_fails_says_why(engine: FakeEngine, docker: EngineDocker, answer: Answer, words: str) -> None:
    """A HEAD has no words, so the reason is asked for."""
    engine.on(KEEP, head("500 Internal Server Error"))
    engine.on(KEEP.replace("HEAD", "GET"), answer)
    with pytest.raises(SourceError, match=words):
        docker.stat(ID, "/workspace/.keep-alive")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("unix:///nonexistent/docker.sock", "no such socket", id="no socket"),
        pytest.param(f"unix:///{'x' * 200}", "path too long", id="a path that is too long"),
        pytest.param("tcp://127.0.0.1:1", "connection refused", id="nobody listens"),
        pytest.param("tcp://127.0.0.1:port", "failed", id="no port"),
        pytest.param("ssh://gpu01", "only unix:///path and tcp://host:port", id="ssh"),
        pytest.param("npipe:////./pipe/docker_engine", "only unix:///path", id="a Windows pipe"),
        pytest.param("https://gpu01:2376", "only unix:///path", id="TLS"),
        pytest.param("/var/run/docker.sock", "only unix:///path", id="no scheme"),
    ],
)
def test_an_engine_that_cannot_be_reached_is_an_error_in_words(url: str, words: str) -> None:
    """The text names the address and what to look at."""
    with pytest.raises(SourceError, match=words) as caught:
        EngineDocker(url, 1.0).containers()
    assert url in str(caught.value)


def test_a_socket_that_is_not_ours_to_open_says_who_may(
    engine: FakeEngine, docker: EngineDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not being in the docker group is the commonest reason of all; root, who runs tests, is never refused."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ds01_policy.observe.docker._TimedSocket.connect", refuse)
    with pytest.raises(SourceError, match="permission denied; run as root or join the docker group"):
        docker.containers()
    assert engine.asked == []


def test_tcp_works_like_the_socket() -> None:
    """`tcp://` speaks plain HTTP and names the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        engine = FakeEngine(listener, f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        engine.on(LIST, reply([{"Id": ID}]))
        with EngineDocker(engine.url, 5.0) as docker:
            assert docker.containers() == [{"Id": ID}]
            assert docker.containers() == [{"Id": ID}]
        assert engine.connections == 1
        listener.shutdown(socket.SHUT_RDWR)
