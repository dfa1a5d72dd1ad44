"""PURE: what Docker is asked for: a container that can do nothing, says what it is, and belongs to who asked for it.

Owns its name, its labels and its fetters. Asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ds01_policy.identity import Identity
    from ds01_policy.observe.ports import Json

LABEL = "ds01-policy.selftest"  # its value is the nonce
ABOUT = "ds01-policy.selftest.about"
PREFIX = "ds01-policy-selftest"  # of container names, and the image's repository

_MEMORY_BYTES = 64 * 1024 * 1024  # what sets a container up is counted in it as well
_PIDS = 64  # likewise, threads included
_NO_GPU = "NVIDIA_VISIBLE_DEVICES=void"  # an image may bake another value in, and the engine's default runtime heed it

Route = Literal["request", "runtime"]


@dataclass(frozen=True, slots=True)
class Person:
    """Who asked for the selftest."""

    user: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Order:
    """One throwaway. `nonce` is lower-case hex that nobody could know before."""

    nonce: str
    person: Person
    at: datetime
    lasts_s: int  # then it ends by itself, should nobody be left to remove it
    labels: tuple[tuple[str, str], ...] = ()  # by which this host's identity.yaml knows the person
    gpu: str | None = None  # UUID of a GPU or MIG device

    @property
    def name(self) -> str:
        """The container's name."""
        return f"{PREFIX}-{self.nonce}"

    @property
    def tag(self) -> str:
        """The image's, where one is made."""
        return f"{PREFIX}:{self.nonce}"


def owned(identity: Identity, user: str) -> tuple[tuple[str, str], ...]:
    """Find the label by which identity.yaml's first such matcher knows this user; none: only its process tells."""
    for matcher in identity.owners:
        if matcher.via == "label":
            return ((matcher.label, user),)
        if matcher.via == "label_home" and matcher.homes:
            return ((matcher.label, f"{matcher.homes[0].rstrip('/')}/{user}"),)
    return ()


def body(order: Order, image: str, command: Sequence[str], route: Route = "request") -> Json:
    """Write what `POST /containers/create` is sent.

    `route`: a GPU is asked for as `docker run --gpus` does, or through the nvidia runtime's environment.
    """
    host: Json = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Memory": _MEMORY_BYTES,
        "PidsLimit": _PIDS,
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,  # that it is removed is to be proven
        "LogConfig": {"Type": "none"},
    }
    env = []
    if order.gpu is None:
        env.append(_NO_GPU)
    elif route == "runtime":
        host["Runtime"] = "nvidia"
        # Of the driver's files only what nvidia-smi needs: the fewer are mounted, the less can fail that is not meant.
        env += [f"NVIDIA_VISIBLE_DEVICES={order.gpu}", "NVIDIA_DRIVER_CAPABILITIES=utility"]
    else:
        host["DeviceRequests"] = [
            {"Driver": "", "Count": 0, "DeviceIDs": [order.gpu], "Capabilities": [["gpu", "utility"]], "Options": {}}
        ]
    return {
        "Image": image,
        "Entrypoint": list(command),
        "Cmd": [],
        "User": f"{order.person.uid}:{order.person.gid}",
        "WorkingDir": "/",
        "Env": env,
        "Labels": {**dict(order.labels), LABEL: order.nonce, ABOUT: about(order)},
        "NetworkDisabled": True,
        "Healthcheck": {"Test": ["NONE"]},  # else one that the image brings would be run
        "StopSignal": "SIGTERM",
        "HostConfig": host,
    }


def about(order: Order) -> str:
    """Say to whoever comes across it what it is."""
    return (
        f"A throwaway of `ds01-policy selftest`, started {order.at:%Y-%m-%d %H:%M} UTC by {order.person.user}. "
        f"It sleeps, and ends by itself after {order.lasts_s} s. It may be removed at any time."
    )
