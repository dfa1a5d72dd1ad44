"""Fixtures of the live tests: a real Docker engine, real Prometheus servers, the program itself.

Daemons live as long as the session, containers as long as a test. What the machine lacks skips a test with its reason.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "unit"):  # the rig, and how documents are read
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

from rig import parts  # noqa: E402 -- found through the line above
from rig.age_proxy import AgeProxy  # noqa: E402
from rig.cli import Cli  # noqa: E402
from rig.daemon import NotReadyError  # noqa: E402
from rig.engine import Engine, EngineError  # noqa: E402
from rig.history import History  # noqa: E402
from rig.host import Host, host_of  # noqa: E402
from rig.machine import Machine, booted, build  # noqa: E402
from rig.machine_parts import PartsError  # noqa: E402
from rig.prometheus import Prometheus, backfill, export_processes, serve  # noqa: E402
from rig.proxy import Proxy, tcp  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder, and run it last: fast failures come first."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)
    items.sort(key=lambda item: item.get_closest_marker("live") is not None)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Give tests out one by one, but those of machines all to one worker: a machine takes a minute to build."""

    class _Machines(LoadScopeScheduling):  # type: ignore[misc]  # xdist says nothing of its types
        def _split_scope(self, nodeid: str) -> str:
            return "machine" if "test_machine_" in nodeid else nodeid

    return _Machines(config, log)


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """One dockerd for the whole session. Tests take `engine`, which also cleans up after each."""
    try:
        engine = Engine.start()
    except (NotReadyError, EngineError) as error:
        parts.missing(f"no Docker engine can run here: {error}")
    yield engine
    engine.stop()
    left = [*engine.mounts(), *engine.processes()]
    assert not left, f"the engine left behind: {left}"


@pytest.fixture
def engine(docker_engine: Engine) -> Iterator[Engine]:
    """Give the test a Docker engine without containers; what the test starts is gone after it."""
    yield docker_engine
    docker_engine.clean()


@pytest.fixture
def proxy(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgeProxy]:
    """Put a proxy in front of the engine that ages containers and breaks at a chosen call."""
    proxy = AgeProxy(engine.socket, _short(tmp_path_factory) / "docker.sock")
    yield proxy
    proxy.close()


@pytest.fixture
def prometheus_with(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a Prometheus over a history: `prometheus_with(history, retention="30d")` gives its base URL."""
    servers: list[Prometheus] = []
    numbers = itertools.count()

    def start(history: History | str, *, retention: str = "30d") -> str:
        folder = tmp_path / f"prometheus-{next(numbers)}"
        folder.mkdir()
        backfill(history if isinstance(history, str) else history.openmetrics(), folder)
        servers.append(serve(folder, retention=retention))
        return servers[-1].url

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def faulty() -> Iterator[Callable[[str], Proxy]]:
    """Put a proxy in front of an HTTP server: `faulty(url).fault("GET", "/query", kind="status:503")`, then use it."""
    proxies: list[Proxy] = []

    def start(url: str) -> Proxy:
        proxies.append(tcp(url))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


@pytest.fixture(scope="session")
def process_exporter(docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrape real CPU seconds of real containers every 2 s into a Prometheus, in cAdvisor's shape."""
    del docker_engine  # without it there is nothing to measure: skip for its reason
    folder = tmp_path_factory.mktemp("exporter")
    config, exporter = export_processes(folder)
    try:
        server = serve(folder, config)
        yield server
        server.stop()
    finally:
        exporter.stop()


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Give the program a config directory of its own: `cli.configure(docker=proxy.url, …)`, then `cli("preview")`."""
    base = tmp_path / "host"
    base.mkdir()
    return Cli(base)


@pytest.fixture
def host(cli: Cli, proxy: AgeProxy, prometheus_with: Callable[..., str]) -> Host:
    """Configure a whole host: `host(History(now)…, mode="enforce")` gives its command line; see rig/host.py."""
    return host_of(cli, proxy, prometheus_with)


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], AbstractContextManager[Machine]]]:
    """Build what machines are booted from, on an engine of their own: no container of theirs is ever the policy's."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # shared by all workers
    try:
        engine = Engine.start()
    except (NotReadyError, EngineError) as error:
        parts.missing(f"no Docker engine can run here: {error}")
    try:
        try:
            image = build(engine, folder)
        except (PartsError, EngineError) as error:
            parts.missing(f"no machine can be built here: {error}")
        yield partial(booted, engine, image, folder / "wheels")
    finally:
        engine.stop()
        (folder / "machine.tar").unlink(missing_ok=True)


@pytest.fixture
def machine(machines: Callable[[], AbstractContextManager[Machine]]) -> Iterator[Machine]:
    """Boot a machine with a real systemd for this test; the program is in its venv, and nothing is installed yet."""
    try:
        with machines() as booted_one:
            yield booted_one
    except NotReadyError as error:
        parts.missing(f"no machine can be booted here: {error}")


@pytest.fixture
def now() -> float:
    """Unix seconds at the start of the test: where histories end."""
    return time.time()


def _short(factory: pytest.TempPathFactory) -> Path:
    # A unix socket's path may have 107 characters.
    return factory.mktemp("s")
