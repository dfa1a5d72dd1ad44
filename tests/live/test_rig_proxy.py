"""The rig's proxy in front of the engine: ages, faults, and everything else passed through."""

from __future__ import annotations

import http.client
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rig.age_proxy import AgeProxy
from rig.engine import OBEDIENT, Engine
from rig.unix_http import UnixConnection, call
from rig.waiting import until


def hours_since(text: str) -> float:
    return (datetime.now(tz=UTC) - datetime.fromisoformat(text)).total_seconds() / 3600


def ask(proxy: AgeProxy, method: str, target: str, timeout: float = 60.0) -> tuple[int, Any]:
    return call(proxy.socket, method, target, timeout=timeout)


def test_ages_show_in_list_and_inspect(engine: Engine, proxy: AgeProxy) -> None:
    """An aged container is old in the list and in its inspect, by name and by id, and another one stays young."""
    old, young = engine.run(name="old"), engine.run()
    proxy.age(old, started="3h", created="1d12h")
    listed = {item["Id"]: item for item in ask(proxy, "GET", "/v1.41/containers/json?all=1")[1]}
    assert (time.time() - listed[old]["Created"]) / 3600 == pytest.approx(36, abs=0.01)
    assert (time.time() - listed[young]["Created"]) / 3600 < 0.1
    for name in (old, "old"):
        inspected = ask(proxy, "GET", f"/v1.41/containers/{name}/json")[1]
        assert hours_since(inspected["State"]["StartedAt"]) == pytest.approx(3, abs=0.01)
        assert hours_since(inspected["Created"]) == pytest.approx(36, abs=0.01)
        assert inspected["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert hours_since(ask(proxy, "GET", f"/containers/{young}/json")[1]["State"]["StartedAt"]) < 0.1


def test_age_ends_with_the_life_it_was_given_to(engine: Engine, proxy: AgeProxy) -> None:
    """Stopped for real, an aged container shows when it really ended; restarted, it is young."""
    container = engine.run(command=OBEDIENT)
    proxy.age(container, started="3h")
    engine.cli("stop", container)
    state = ask(proxy, "GET", f"/containers/{container}/json")[1]["State"]
    assert hours_since(state["StartedAt"]) == pytest.approx(3, abs=0.01)
    assert hours_since(state["FinishedAt"]) < 0.1
    proxy.age(container, finished="45m")
    engine.cli("start", container)
    state = ask(proxy, "GET", f"/containers/{container}/json")[1]["State"]
    assert hours_since(state["StartedAt"]) < 0.1
    assert hours_since(state["FinishedAt"]) == pytest.approx(0.75, abs=0.01)


def test_inspects_can_be_edited(engine: Engine, proxy: AgeProxy) -> None:
    """A test can show the program a host that this engine can't be."""
    container = engine.run()
    proxy.edit(container, lambda answer: answer["HostConfig"].update(Privileged=True))
    assert ask(proxy, "GET", f"/containers/{container}/json")[1]["HostConfig"]["Privileged"] is True


def test_one_connection_serves_every_method(engine: Engine, proxy: AgeProxy) -> None:
    """GET, HEAD, POST, a 304, a 404 and a DELETE go over one kept connection, and all are logged."""
    container = engine.run(command=OBEDIENT)
    client = UnixConnection(proxy.socket, timeout=60)
    steps = [
        ("HEAD", "/_ping", 200),
        ("GET", "/v1.41/containers/json?all=1", 200),
        ("HEAD", f"/containers/{container}/archive?path=/workspace", 200),
        ("HEAD", f"/containers/{container}/archive?path=/nowhere", 404),
        ("POST", f"/containers/{container}/stop?t=5", 204),
        ("POST", f"/containers/{container}/stop?t=5", 304),
        ("GET", "/containers/nobody/json", 404),
        ("DELETE", f"/containers/{container}", 204),
    ]
    client.connect()
    kept = client.sock
    for method, target, status in steps:
        client.request(method, target)
        answer = client.getresponse()
        answer.read()
        assert (method, target, answer.status) == (method, target, status)
        assert client.sock is kept
    client.close()
    assert [(one.method, one.target) for one in proxy.requests] == [step[:2] for step in steps]
    assert proxy.requests[1].path == "/containers/json?all=1"


def test_bodies_pass_both_ways(engine: Engine, proxy: AgeProxy) -> None:
    """A chunked upload arrives whole, and a chunked download (an archive) comes back the same."""
    container = engine.run()
    archive = subprocess.run(["tar", "-c", "-C", "/etc", "hostname"], check=True, capture_output=True).stdout
    client = UnixConnection(proxy.socket, timeout=60)
    halves = iter([archive[:700], archive[700:]])
    target = f"/containers/{container}/archive?path=/workspace"
    client.request("PUT", target, halves, {"Content-Type": "application/x-tar"}, encode_chunked=True)
    assert client.getresponse().read() == b""
    client.request("GET", f"{target}/hostname")
    assert Path("/etc/hostname").read_bytes() in client.getresponse().read()
    client.close()
    assert proxy.requests[0].body == archive


def test_streams_pass_as_they_come(engine: Engine, proxy: AgeProxy) -> None:
    """Docker's events reach the client one by one, while the stream stays open."""
    client = UnixConnection(proxy.socket, timeout=60)
    client.request("GET", f"/events?since={time.time():.3f}")  # whenever Docker takes note of us
    events = client.getresponse()
    container = engine.run()
    assert container.encode() in events.readline()
    client.close()


def test_the_docker_sdk_works_through_it(engine: Engine, proxy: AgeProxy) -> None:
    """The library that the program uses finds nothing odd about the proxy."""
    docker = pytest.importorskip("docker")
    container = engine.run(command=OBEDIENT)
    client = docker.APIClient(base_url=proxy.url, timeout=60)
    assert [item["Id"] for item in client.containers(all=True)] == [container]
    client.stop(container, timeout=5)
    client.remove_container(container)
    client.close()
    assert engine.state(container) == "gone"


def test_faults_strike_at_the_chosen_call(engine: Engine, proxy: AgeProxy) -> None:
    """The second inspect fails, the first and the third do not; a list is not an inspect."""
    container = engine.run()
    planned = proxy.fault("GET", r"^/containers/[^/]+/json$", nth=2, kind="status:500")
    targets = [f"/containers/{container}/json", "/containers/json", *[f"/containers/{container}/json"] * 2]
    assert [ask(proxy, "GET", target)[0] for target in targets] == [200, 200, 500, 200]
    assert planned.hits == 3
    assert planned.fired.is_set()
    assert len(proxy.asked("GET", r"^/containers/[^/]+/json$")) == 3


def test_faults_can_go_on(engine: Engine, proxy: AgeProxy) -> None:
    """A fault without an end strikes at every call until it is cleared."""
    del engine
    proxy.fault("GET", "/containers/json", kind="body:[]", times=None)
    proxy.fault("GET", "/info", kind="status:503", times=2)
    assert [ask(proxy, "GET", "/containers/json") for _ in range(3)] == [(200, [])] * 3
    assert [ask(proxy, "GET", "/info")[0] for _ in range(3)] == [503, 503, 200]
    proxy.fault("GET", "/info", kind="status:503", times=None)
    proxy.clear_faults()
    assert ask(proxy, "GET", "/info")[0] == 200


@pytest.mark.parametrize(
    ("kind", "error", "state"),
    [
        pytest.param("hang", TimeoutError, "running", id="hang: nothing happens, nothing is answered"),
        pytest.param("read_timeout", TimeoutError, "exited", id="read_timeout: it happens, nothing is answered"),
        pytest.param("reset", ConnectionError, "running", id="reset: nothing happens, the connection closes"),
        pytest.param("lost", ConnectionError, "exited", id="lost: it happens, the connection closes"),
    ],
)
def test_answers_get_lost(engine: Engine, proxy: AgeProxy, kind: str, error: type[Exception], state: str) -> None:
    """Each way of losing an answer shows as its own error, whether or not the stop was carried out."""
    container = engine.run(command=OBEDIENT)
    planned = proxy.fault("POST", "/stop", kind=kind)
    with pytest.raises(error):
        ask(proxy, "POST", f"/containers/{container}/stop?t=5", timeout=1.0 if error is TimeoutError else 30.0)
    assert planned.fired.wait(60), "the client has given up, the proxy need not have heard of it yet"
    until(lambda: engine.state(container) == state, f"not {state}")


def test_vanish_removes_for_real(engine: Engine, proxy: AgeProxy) -> None:
    """A container that vanishes at its stop answers that with a 404, and is gone."""
    container = engine.run()
    proxy.fault("POST", f"{container}/stop", kind="vanish")
    assert ask(proxy, "POST", f"/containers/{container}/stop?t=0")[0] == 404
    assert engine.state(container) == "gone"


def test_delay_waits_and_truncate_cuts(engine: Engine, proxy: AgeProxy) -> None:
    """A delayed answer comes late and whole, a truncated one breaks off."""
    del engine
    proxy.fault("GET", "/info", kind="delay:0.3")
    began = time.monotonic()
    assert ask(proxy, "GET", "/info")[0] == 200
    assert time.monotonic() - began > 0.3
    proxy.fault("GET", "/info", kind="truncate")
    with pytest.raises(http.client.IncompleteRead):
        ask(proxy, "GET", "/info")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_client_killed_at_a_call(engine: Engine, proxy: AgeProxy, when: Any) -> None:
    """A kill -9 of the client strikes exactly at the call: before it the stop never happens, after it it has."""
    container = engine.run(command=OBEDIENT)
    script = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from rig.unix_http import call\n"
    script += "call(Path(sys.argv[2]), 'POST', sys.argv[3])"
    target = f"/containers/{container}/stop?t=5"
    argv = [sys.executable, "-c", script, str(Path(__file__).parent), str(proxy.socket), target]
    clients: queue.Queue[subprocess.Popen[bytes]] = queue.Queue()  # it may call before it is known here
    kind = "reset" if when == "before" else "pass"
    planned = proxy.fault("POST", "/stop", kind=kind, action=lambda: clients.get(timeout=60).kill(), when=when)
    client = subprocess.Popen(argv)
    clients.put(client)
    assert client.wait(60) == -signal.SIGKILL
    assert planned.fired.wait(60)
    assert engine.state(container) == ("running" if when == "before" else "exited")
    assert ask(proxy, "GET", "/_ping")[0] == 200


def test_many_clients_at_once(engine: Engine, proxy: AgeProxy) -> None:
    """A hanging call holds up nobody else, and closing the proxy lets go of it."""
    container = engine.run()
    proxy.fault("GET", "/version", kind="hang")
    failed: list[Exception] = []

    def hang() -> None:
        try:
            ask(proxy, "GET", "/version", timeout=30)
        except (OSError, http.client.HTTPException) as error:
            failed.append(error)

    hung = threading.Thread(target=hang)
    hung.start()
    statuses: list[int] = []
    asking = [
        threading.Thread(target=lambda: statuses.append(ask(proxy, "GET", f"/containers/{container}/json")[0]))
        for _ in range(20)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(60)
    assert statuses == [200] * 20
    assert hung.is_alive()
    proxy.close()
    hung.join(60)
    assert not hung.is_alive()
    assert len(failed) == 1


def test_unknown_faults_are_refused(proxy: AgeProxy) -> None:
    """A misspelt fault fails at once instead of never striking."""
    with pytest.raises(ValueError, match="no such fault"):
        proxy.fault("GET", "/", kind="explode")


def test_unix_sockets_have_room(proxy: AgeProxy) -> None:
    """The proxy's socket has a path short enough for every client."""
    assert len(str(proxy.socket)) < 100
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(proxy.socket))
