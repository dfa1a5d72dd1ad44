"""The throwaway on a real engine: its image imported, its container made and started, and both taken away again.

Owns that nothing is left behind and nothing else taken away: what is removed carries the id that Docker gave us.
Never pulls. Stopping and removing in the course of the test is not its business: the tick does that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests import RequestException

from ds01_policy.selftest import elf
from ds01_policy.selftest.order import LABEL, PREFIX, body
from ds01_policy.selftest.step import Failed, Refused
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds01_policy.selftest.order import Order, Route

# KeyError, TypeError: docker-py raises them for an answer of another shape.
_TROUBLE = (DockerException, RequestException, OSError, KeyError, TypeError, ValueError)
_NO_DRIVER = "could not select device driver"  # how an engine says that `--gpus` means nothing to it
_POLL_S = 0.1
_OK = 200


@dataclass
class Throwaway:
    """One throwaway. `image`: an image of this host to be used instead of one of ours; it is never removed."""

    url: str
    timeout_s: float  # of each request
    order: Order
    image: str | None = None
    id: str = field(default="", init=False)  # 64 hex, once there is one
    _image_id: str = field(default="", init=False)
    _imported: bool = field(default=False, init=False)
    _asked: bool = field(default=False, init=False)  # for a container, whether or not an answer came
    _lost: bool = field(default=False, init=False)  # no answer came: there may be one in a moment

    def make(self) -> str:
        """Import the image, or find the one that was named; say so. Raises Refused or Failed."""
        with self._client("make the image") as client:
            if self.image is not None:
                return self._find(client, self.image)
            machine = str(client.version(api_version=False)["Arch"])
            if machine not in elf.MACHINES:
                raise Refused(f"there is no program of ours for {plain(machine, 40)}: name an image with --image")
            packed = elf.archive(elf.program(machine, self.order.lasts_s))
            self._imported = True  # also if the answer is lost
            self._import(client, packed)
            self._image_id = str(client.inspect_image(self.order.tag)["Id"])
            return f"{self.order.tag} imported: one program that sleeps"

    def _find(self, client: Any, image: str) -> str:
        try:
            found = client.inspect_image(image)
        except ImageNotFound:
            raise Refused(f"--image {plain(image, 200)}: this host has no such image, and none is pulled") from None
        if found["Config"].get("Volumes"):
            raise Refused(f"--image {plain(image, 200)} declares volumes, which would be left behind: name another")
        self._image_id = str(found["Id"])
        return f"{plain(image, 200)}, of this host"

    def _import(self, client: Any, packed: bytes) -> None:
        # Not through the SDK's own method: that has no timeout.
        answer = client.post(
            f"{client.base_url}/v{client.api_version}/images/create",
            params={
                "fromSrc": "-",
                "repo": PREFIX,
                "tag": self.order.nonce,
                "message": "ds01-policy selftest",
                "changes": [f"LABEL {LABEL}={self.order.nonce}"],
            },
            data=packed,
            headers={"Content-Type": "application/x-tar"},
            timeout=self.timeout_s,
        )
        lines = [json.loads(line) for line in answer.text.splitlines() if line.strip()]
        said = next((str(one[key]) for one in lines for key in ("error", "message") if key in one), "")
        if answer.status_code != _OK or said:
            raise Failed(plain(f"Docker answered {answer.status_code}: {said or 'no reason given'}", 300))

    def start(self) -> str:
        """Create the container and start it; say how it got its GPU. Raises Failed."""
        with self._client("start the container") as client:
            try:
                self._run(client, "request")
            except APIError as error:
                known = client.info().get("Runtimes") or {}
                if self.order.gpu is None or _NO_DRIVER not in str(error) or "nvidia" not in known:
                    raise
                self._remove(client)
                self._run(client, "runtime")
                return "through the nvidia runtime, as Docker knows no driver for --gpus"
            return "through --gpus" if self.order.gpu else ""

    def _run(self, client: Any, route: Route) -> None:
        command: Sequence[str] = (elf.PATH,) if self.image is None else ("sleep", str(self.order.lasts_s))
        wanted = body(self.order, self._image_id, command, route)
        self.id, self._asked, self._lost = "", True, True
        try:
            self.id = str(client.create_container_from_config(wanted, self.order.name)["Id"])
            self._lost = False
        except APIError as error:
            self._lost, self._asked = False, error.is_server_error()  # what is refused outright was not made
            raise
        client.start(self.id)

    # ── taking it away ───────────────────────────────────────────────────────────────────────────────────────────────

    def clear(self) -> str:
        """Remove what was made, container first; say what. Raises Failed, with what is left and what to do."""
        trouble, done = [], []
        if self._asked:
            try:
                with self._client("remove the container") as client:
                    done.append("container removed" if self._remove(client) else "no container left")
            except Failed as failed:
                trouble.append(f"{failed}; do: docker rm -f {self.order.name}")
        if self._imported:
            try:
                with self._client("remove the image") as client:
                    self._untag(client)
                    done.append("image removed")
            except Failed as failed:
                trouble.append(f"{failed}; do: docker rmi {self.order.tag}")
        if trouble:
            raise Failed("; ".join(trouble))
        return ", ".join(done)

    def _remove(self, client: Any) -> bool:
        """Remove the container; False: there is none."""
        deadline = time.monotonic() + self.timeout_s
        while not (found := self._there(client)) and self._lost and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if not found:
            return False
        trouble = ""
        try:
            client.remove_container(found, v=True, force=True)
        except _TROUBLE as error:
            trouble = f": {_words(error)}"  # another removal may be under way, or this one's answer was lost
        deadline = time.monotonic() + self.timeout_s
        while self._there(client):
            if time.monotonic() > deadline:
                raise Failed(f"the container is still there{trouble}")
            time.sleep(_POLL_S)
        return True

    def _there(self, client: Any) -> str:
        """Find our container in the list, which nobody's choice of a name can lead astray; empty: it is not there.

        Where the answer to our request was lost it is known by what nobody else has: name, nonce and image together.
        """
        return next((str(entry["Id"]) for entry in client.containers(all=True) if self._is_ours(entry)), "")

    def _is_ours(self, entry: dict[str, Any]) -> bool:
        if self.id:
            return bool(entry["Id"] == self.id)
        named = f"/{self.order.name}" in entry["Names"] and entry["ImageID"] == self._image_id
        return bool(named and entry["Labels"].get(LABEL) == self.order.nonce)

    def _untag(self, client: Any) -> None:
        """Remove the image, if the tag still means ours. Not by force: somebody may have made something of it."""
        try:
            found = client.inspect_image(self.order.tag)
            labels = found["Config"].get("Labels") or {}
            if labels.get(LABEL) != self.order.nonce or found["Id"] != (self._image_id or found["Id"]):
                raise Failed(f"{self.order.tag} is another image by now, and left alone")
            client.remove_image(self.order.tag, force=False, noprune=True)
        except NotFound:
            return

    @contextmanager
    def _client(self, purpose: str) -> Iterator[Any]:
        """Open a connection; every failure is told in words."""
        timeout: Any = self.timeout_s  # the SDK's stubs know whole seconds only
        try:
            # Never from_env: that follows root's docker context to whatever daemon it names.
            with docker.APIClient(base_url=self.url, timeout=timeout, version="auto") as client:
                yield client
        except _TROUBLE as error:
            raise Failed(f"could not {purpose}: {_words(error)}") from error


def _words(error: Exception) -> str:
    """Say what went wrong; hostile text in Docker's own words is escaped."""
    if isinstance(error, APIError):
        return plain(f"Docker answered {error.status_code}: {error.explanation or 'no reason given'}", 400)
    if isinstance(error, RequestException):
        return plain(f"Docker did not answer: {error}", 300)
    return plain(f"{type(error).__name__}: {error}", 300)
