"""Asks the engine about itself, and the driver for its GPUs.

Owns what each failure is called. Judges nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ds01_policy.doctor.judging.devices import DeviceFacts
from ds01_policy.doctor.judging.engine import EngineFacts
from ds01_policy.observe.docker import EngineDocker
from ds01_policy.observe.gpus import NoGpuStack
from ds01_policy.observe.ports import Inventory, SourceError

if TYPE_CHECKING:
    from ds01_policy.observe.ports import GpuSource
    from ds01_policy.policy import DockerSettings


def engine(settings: DockerSettings) -> EngineFacts:
    """Ask for version and set-up. What fails is in the facts."""
    version = info = None
    with EngineDocker(settings.url, settings.timeout.total_seconds()) as docker:
        try:
            version = docker.about("/version")
            began = datetime.now(UTC)
            info = docker.about("/info")
            return EngineFacts(settings.url, version, info, asked_at=began + (datetime.now(UTC) - began) / 2)
        except SourceError as error:
            return EngineFacts(settings.url, version, info, str(error))


class Remembered:
    """What the driver answered once, for whoever asks again. A ports.GpuSource."""

    def __init__(self, answer: Inventory | SourceError) -> None:
        """Take the answer."""
        self._answer = answer

    def inventory(self) -> Inventory:
        """Give it again, or fail as it did."""
        if isinstance(self._answer, SourceError):
            raise self._answer
        return self._answer


def driver(source: GpuSource) -> Remembered:
    """Ask the driver, once."""
    try:
        return Remembered(source.inventory())
    except SourceError as error:
        return Remembered(error)


def devices(source: GpuSource) -> DeviceFacts:
    """Tell what the driver answered."""
    try:
        found = source.inventory()
    except NoGpuStack as error:
        return DeviceFacts(error=str(error), no_stack=True)
    except SourceError as error:
        return DeviceFacts(error=str(error))
    return DeviceFacts(found.gpus, found.via, found.notes, unmeasured=found.unmeasured)
