"""Everything an admin wrote, loaded and checked: what the pure part decides by.

Owns the settings' types and defaults. Knows no file format (config/ loads these).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from ds01_policy.model import Mode

if TYPE_CHECKING:
    from ds01_policy.exemptions import Exemption
    from ds01_policy.identity import Identity
    from ds01_policy.limits import Limits
    from ds01_policy.rules import Rule
    from ds01_policy.signals import Signal


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """How to reach the Docker engine."""

    url: str = "unix:///var/run/docker.sock"
    timeout: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """How to reach Prometheus. Secrets are paths, never values."""

    url: str = "http://localhost:9090"
    timeout: timedelta = timedelta(seconds=10)
    scrape_interval: timedelta = timedelta(seconds=30)
    username: str | None = None
    password_file: PurePath | None = None
    bearer_token_file: PurePath | None = None
    ca_file: PurePath | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """How to ask the driver."""

    nvml: Literal["auto", "never"] = "auto"
    nvidia_smi: str = "nvidia-smi"
    timeout: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper bounds on one tick's destructive decisions."""

    per_run: int = 5
    share: float = 0.25  # of running GPU containers, never less than one


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a whole host turns idle in one tick, nothing is done until it is shown to be real."""

    at_least: int = 3  # containers that must have turned at once
    hold: timedelta = timedelta(hours=2)  # how long it withholds unless somebody is seen working first


@dataclass(frozen=True, slots=True)
class HighDemand:
    """When more than `above` of the GPUs are held, idle timeouts shrink to `idle_timeout` of themselves."""

    above: float = 0.8
    idle_timeout: float = 0.5


@dataclass(frozen=True, slots=True)
class KeepAliveSettings:
    """The file by which a user asks for more time."""

    path: str = "/workspace/.keep-alive"
    max: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class LocalSamples:
    """The engine's own samples, one a tick."""

    interval: timedelta = timedelta(minutes=5)
    retain: timedelta = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Where warnings go. `unreached_notice` multiplies the notice when nobody was provably reached."""

    channels: tuple[str, ...] = ("tty",)
    timeout: timedelta = timedelta(seconds=5)
    unreached_notice: float = 2.0


@dataclass(frozen=True, slots=True)
class EpilogSettings:
    """The check of a GPU after its container is gone."""

    kill: bool = True
    reset: Literal["never", "when_safe"] = "when_safe"
    timeout: timedelta = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Settings:
    """settings.yaml."""

    mode: Mode = Mode.OBSERVE
    docker: DockerSettings = DockerSettings()
    prometheus: PrometheusSettings | None = PrometheusSettings()
    gpu: GpuSettings = GpuSettings()
    state_dir: PurePath = field(default_factory=lambda: PurePath("/var/lib/ds01-policy"))
    metrics_file: PurePath | None = None
    metrics_listen: tuple[str, int] | None = None  # host and port that `watch` serves metrics at
    awake: timedelta = timedelta(minutes=5)
    budget: Budget = Budget()
    breaker: Breaker = Breaker()
    high_demand: HighDemand = HighDemand()
    keep_alive: KeepAliveSettings = KeepAliveSettings()
    local_samples: LocalSamples = LocalSamples()
    notify: NotifySettings = NotifySettings()
    epilog: EpilogSettings = EpilogSettings()


@dataclass(frozen=True, slots=True)
class Policy:
    """One checked set of policy files."""

    settings: Settings
    signals: Mapping[str, Signal]
    limits: Limits
    identity: Identity
    rules: tuple[Rule, ...]
    exemptions: tuple[Exemption, ...] = ()
    templates: Mapping[str, str] = field(default_factory=dict)  # by file name, `warning.j2`
    digest: str = ""  # sha256:… over every file read
    directory: str = ""  # where it came from, for messages
