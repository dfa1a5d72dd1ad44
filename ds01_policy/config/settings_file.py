"""settings.yaml: how this host runs. The shape people write; defaults come from policy.py.

Owns the bounds of every setting. Opens none of the paths named there.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from ds01_policy import policy
from ds01_policy.config.scalars import (
    AbsolutePath,
    Count,
    Duration,
    Items,
    Maybe,
    Number,
    OneOrMore,
    OrNever,
    Percent,
    Positive,
    PositivePercent,
    Section,
    Text,
    Timeout,
    absent,
    between,
    fields_as,
    pattern,
    refuse,
    shown,
)
from ds01_policy.config.urls import docker_url, host_and_port, http_url, listen_address
from ds01_policy.model import Mode
from ds01_policy.units import format_duration

_DEFAULT = policy.Settings()
_PROMETHEUS = policy.PrometheusSettings()
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)

ModeName = Literal["observe", "warn", "enforce"]


class DockerFile(Section):
    """How to reach the Docker engine."""

    url: Annotated[Text, AfterValidator(docker_url)] = _DEFAULT.docker.url
    timeout: Timeout = _DEFAULT.docker.timeout


class BasicAuthFile(Section):
    """The password is read from a file, never written here."""

    username: Text
    password_file: Text


HeaderName = Annotated[Text, pattern(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "bad_header", "is not a header name")]


class PrometheusFile(Section):
    """How to reach Prometheus."""

    url: Annotated[Text, AfterValidator(http_url)] = _PROMETHEUS.url
    timeout: Timeout = _PROMETHEUS.timeout
    scrape_interval: Annotated[Duration, between(_SECOND, _DAY)] = _PROMETHEUS.scrape_interval
    basic_auth: Maybe[BasicAuthFile] = None
    bearer_token_file: Maybe[Text] = None
    ca_file: Maybe[Text] = None
    headers: Annotated[dict[HeaderName, Text], BeforeValidator(lambda value: {} if value is None else value)] = Field(
        default_factory=dict
    )

    @field_validator("bearer_token_file")
    @classmethod
    def _one_secret(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("basic_auth") is not None:
            raise refuse("conflict", "either basic_auth or bearer_token_file, not both")
        return value

    @field_validator("headers")
    @classmethod
    def _no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name.lower() in ("authorization", "proxy-authorization"):
                raise refuse("secret", f"{name} is a secret: use basic_auth or bearer_token_file", name)
        return value


class GpuFile(Section):
    """How to ask the driver."""

    nvml: Literal["auto", "never"] = _DEFAULT.gpu.nvml
    nvidia_smi: Text = _DEFAULT.gpu.nvidia_smi
    timeout: Timeout = _DEFAULT.gpu.timeout


class BudgetFile(Section):
    """Upper bounds on one run's destructive decisions."""

    per_run: Count = _DEFAULT.budget.per_run
    share: Percent = _DEFAULT.budget.share


class BreakerFile(Section):
    """When a whole host turns idle at once."""

    at_least: Annotated[int, Field(ge=1, le=1_000_000)] = _DEFAULT.breaker.at_least
    hold: Positive = _DEFAULT.breaker.hold


class HighDemandFile(Section):
    """When idle timeouts shrink, and to what share of themselves."""

    above: Percent = _DEFAULT.high_demand.above
    idle_timeout: PositivePercent = _DEFAULT.high_demand.idle_timeout


class KeepAliveFile(Section):
    """The file by which a user asks for more time."""

    path: AbsolutePath = _DEFAULT.keep_alive.path
    max: Positive = _DEFAULT.keep_alive.max


class LocalSamplesFile(Section):
    """The engine's own samples."""

    interval: Annotated[Duration, between(_SECOND, _DAY)] = _DEFAULT.local_samples.interval
    retain: Positive = _DEFAULT.local_samples.retain

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.retain < self.interval:
            raise refuse("out_of_range", "retain must be at least interval", "retain")
        return self


def _channel(value: str) -> str:
    if value not in ("tty", "wall") and "://" not in value:
        raise refuse("bad_channel", f"{shown(value)} is not a channel: write tty, wall or an apprise URL")
    return value


def _multiple(value: float) -> float:
    if not 1 <= value <= 100:  # noqa: PLR2004  a notice a hundred times as long never ends
        raise refuse("out_of_range", f"{value:g} is not between 1 and 100")
    return value


class NotifyFile(Section):
    """Where warnings go."""

    channels: Items[Annotated[Text, AfterValidator(_channel)]] = Field(
        default_factory=lambda: list(_DEFAULT.notify.channels)
    )
    timeout: Timeout = _DEFAULT.notify.timeout
    unreached_notice: Annotated[Number, AfterValidator(_multiple)] = _DEFAULT.notify.unreached_notice


class EpilogFile(Section):
    """The check of a GPU after its container is gone."""

    kill: bool = _DEFAULT.epilog.kill
    reset: Literal["never", "when_safe"] = _DEFAULT.epilog.reset
    timeout: Timeout = _DEFAULT.epilog.timeout


def _path_or_never(value: str) -> str:
    if value != "never" and not value.startswith("/"):
        raise refuse("bad_path", f"{shown(value)} is not an absolute path; write `never` for none")
    return value


def _address_or_never(value: str) -> str:
    return value if value == "never" else listen_address(value)


class SettingsFile(Section):
    """settings.yaml."""

    version: Literal[1] = 1
    mode: ModeName = "observe"
    docker: DockerFile = absent()
    awake: Annotated[Duration, between(2 * _SECOND, _DAY)] = _DEFAULT.awake
    prometheus: OrNever[PrometheusFile] = absent()
    gpu: GpuFile = absent()
    rules: OneOrMore[Text] = Field(default_factory=lambda: ["rules"])
    state_dir: AbsolutePath = str(_DEFAULT.state_dir)
    metrics_file: Annotated[Text, AfterValidator(_path_or_never)] = "never"
    metrics_listen: Annotated[Text, AfterValidator(_address_or_never)] = "never"
    budget: BudgetFile = absent()
    breaker: BreakerFile = absent()
    high_demand: HighDemandFile = absent()
    keep_alive: KeepAliveFile = absent()
    local_samples: LocalSamplesFile = absent()
    notify: NotifyFile = absent()
    epilog: EpilogFile = absent()

    @field_validator("prometheus")
    @classmethod
    def _two_samples_while_awake(cls, value: PrometheusFile | None, info: ValidationInfo) -> PrometheusFile | None:
        awake = info.data.get("awake")
        if value is not None and awake is not None and 2 * value.scrape_interval > awake:
            interval, limit = format_duration(value.scrape_interval), format_duration(awake)
            message = f"scrape_interval {interval} is more than half of awake ({limit}): too few samples to see it wake"
            raise refuse("out_of_range", message, "scrape_interval")
        return value


def settings(file: SettingsFile, directory: PurePath) -> policy.Settings:
    """Convert; relative paths of secrets are taken from the configuration directory."""
    prometheus = None
    if file.prometheus is not None:
        source = file.prometheus
        prometheus = policy.PrometheusSettings(
            url=source.url,
            timeout=source.timeout,
            scrape_interval=source.scrape_interval,
            username=source.basic_auth.username if source.basic_auth else None,
            password_file=directory / source.basic_auth.password_file if source.basic_auth else None,
            bearer_token_file=directory / source.bearer_token_file if source.bearer_token_file else None,
            ca_file=directory / source.ca_file if source.ca_file else None,
            headers=source.headers,
        )
    return policy.Settings(
        mode=Mode(file.mode),
        docker=fields_as(policy.DockerSettings, file.docker),
        prometheus=prometheus,
        gpu=fields_as(policy.GpuSettings, file.gpu),
        state_dir=PurePath(file.state_dir),
        metrics_file=None if file.metrics_file == "never" else PurePath(file.metrics_file),
        metrics_listen=None if file.metrics_listen == "never" else host_and_port(file.metrics_listen),
        awake=file.awake,
        budget=fields_as(policy.Budget, file.budget),
        breaker=fields_as(policy.Breaker, file.breaker),
        high_demand=fields_as(policy.HighDemand, file.high_demand),
        keep_alive=fields_as(policy.KeepAliveSettings, file.keep_alive),
        local_samples=fields_as(policy.LocalSamples, file.local_samples),
        notify=fields_as(policy.NotifySettings, file.notify, channels=tuple(file.notify.channels)),
        epilog=fields_as(policy.EpilogSettings, file.epilog),
    )
