"""Asks Docker and systemd what a reload would do to the GPU containers that run.

Owns these questions, each with a timeout, and that an empty answer is that of the Docker whose containers systemd runs.
Judges nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.gpu_claim import claim
from ds01_policy.install.reload import ReloadFacts, Scope
from ds01_policy.observe.docker import EngineDocker
from ds01_policy.observe.ports import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ds01_policy.install.systemd import Systemd
    from ds01_policy.observe.ports import Json
    from ds01_policy.policy import DockerSettings


def reload_facts(settings: DockerSettings, systemd: Systemd) -> ReloadFacts:
    """Find the running GPU containers, and what systemd knows of their devices. What fails is in the facts."""
    try:
        with EngineDocker(settings.url, settings.timeout.total_seconds()) as docker:
            info = docker.about("/info")
            driver, runtime = str(info.get("CgroupDriver") or ""), str(info.get("DefaultRuntime") or "runc")
            scopes = systemd.active("docker-*.scope")  # first: what starts in between is in Docker's list
            listed = docker.containers()
            running = list(_with_gpus(docker, listed, runtime))
        if strange := sorted(scopes - {f"docker-{entry.get('Id')}.scope" for entry in listed}):
            short = strange[0].removeprefix("docker-")[:12]
            here = f"the Docker at {settings.url} has not: is docker.url in settings.yaml the right one?"
            return ReloadFacts(driver, error=f"systemd runs container {short}, which {here}")
        return ReloadFacts(driver, [_scope(systemd, raw) for raw in running])
    except SourceError as error:
        return ReloadFacts(error=str(error))


def _with_gpus(docker: EngineDocker, listed: Iterable[Json], runtime: str) -> Iterator[Json]:
    for entry in listed:
        # Of a state that is not known a container may run: looked at too.
        if entry.get("State") in ("created", "exited", "dead", "removing"):
            continue
        raw = docker.inspect(entry["Id"])
        if raw is not None and claim(raw, None, default_runtime=runtime).wants:
            yield raw


def _scope(systemd: Systemd, raw: Json) -> Scope:
    name = str(raw.get("Name") or raw["Id"]).lstrip("/")
    told = systemd.devices(f"docker-{raw['Id']}.scope")
    return Scope(name) if told is None else Scope(name, True, told[0], told[1])  # noqa: FBT003  known, by systemd
