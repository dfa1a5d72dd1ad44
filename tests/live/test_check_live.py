"""`check --live` on a real engine and a real Prometheus: what exists, what is fresh, and both ends of every join."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rig.age_proxy import AgeProxy
from rig.cli import Cli
from rig.engine import Engine
from rig.history import SYSTEMD, History
from rig.host import configure
from rig.nvidia_smi import SmiGpu

GPUS = ("GPU-aaaa", "GPU-bbbb")


@pytest.fixture
def train(engine: Engine, proxy: AgeProxy) -> str:
    """Run a container that has been up for long."""
    container = engine.run(gpus='"device=GPU-aaaa"', name="train")
    proxy.age(container, started="5h")
    return container


def everything(now: float, container: str) -> History:
    """Measure all that is on this host; and another host, as every Prometheus of a site does."""
    history = History(now, span="30m").gpu("GPU-aaaa", 0).gpu("GPU-bbbb", 0)
    history.cpu(container, 0.0, path=SYSTEMD).network(container, 0.0, path=SYSTEMD)
    history.gpu("GPU-0123", 0, instance="gpu02:9400")
    return history.cpu("e" * 64, 0.0, instance="gpu02:8080")


def found(cli: Cli, url: str, proxy: AgeProxy, **files: Any) -> dict[str, str]:
    """Tell what was found, by slug."""
    configure(cli, proxy, url, rules=None, gpus=list(map(SmiGpu, GPUS)), files=files)
    ran = cli("check", "--live", "--json")
    return {one["slug"]: f"{one['file'].rpartition('/')[2]}: {one['message']}" for one in ran.json["findings"]}


def test_a_host_on_which_everything_is_there(
    cli: Cli, proxy: AgeProxy, train: str, now: float, prometheus_with: Callable[..., str]
) -> None:
    """Nothing is found: neither here, nor of the other host."""
    assert found(cli, prometheus_with(everything(now, train)), proxy) == {}
    assert cli("check", "--live").rc == 0


def test_what_has_no_partner_on_either_side(
    cli: Cli, proxy: AgeProxy, train: str, now: float, prometheus_with: Callable[..., str]
) -> None:
    """A GPU without a series, one that stopped, and a container and a GPU that nobody here knows."""
    history = History(now, span="30m").gpu("GPU-aaaa", "0x50 _x10").gpu("GPU-0123", 0).cpu(train, 0.0)
    history.network(train, 0.0).cpu("e" * 64, 0.0)
    told = found(cli, prometheus_with(history), proxy)
    assert told.pop("no_partner") == "signals.yaml: signal gpu_utilization: Prometheus has no series of GPU-bbbb"
    assert told.pop("stale_series").endswith("the newest samples of GPU-aaaa are too old")
    assert "of which this host shows nothing, from gpu01:8080" in told.pop("stranger_series")  # the later of the two
    assert told == {}


def test_a_label_that_an_exporter_renamed(
    cli: Cli, proxy: AgeProxy, train: str, now: float, prometheus_with: Callable[..., str]
) -> None:
    """The series are there, and none can be joined to a container."""
    history = everything(now, train)
    text = history.openmetrics().replace(f'id="/system.slice/docker-{train}.scope"', f'cgroup="{train}"')
    told = found(cli, prometheus_with(text), proxy)
    assert set(told) == {"no_series"}


def test_a_prometheus_that_keeps_too_little(
    cli: Cli, proxy: AgeProxy, train: str, now: float, prometheus_with: Callable[..., str]
) -> None:
    """It says so itself; faculty's idle timeout is two hours."""
    told = found(cli, prometheus_with(everything(now, train), retention="1h"), proxy)
    assert told == {
        "window_beyond_retention": "settings.yaml: rules ask over up to 2h, and Prometheus keeps samples for 60m"
    }


def test_a_prometheus_that_is_down(cli: Cli, proxy: AgeProxy, train: str) -> None:
    """Said once, at the setting; what needs no Prometheus is looked at all the same."""
    del train
    told = found(cli, "http://127.0.0.1:9", proxy)
    assert set(told) == {"source_down"}
    assert told["source_down"].startswith("settings.yaml: ")
