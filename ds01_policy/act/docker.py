"""The only module that changes what is people's on Docker: stops or removes a container as it was when decided about.

Owns the order of the calls and what each answer means. Decides nothing, never forces, never removes a volume.
Every call looks first, has a timeout, and is judged by what Docker shows afterwards, not by how the call ended.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import docker
from docker.errors import APIError, DockerException, NotFound
from requests import RequestException

from ds01_policy.act.expected import (
    Expected,
    Found,
    Unreadable,
    differs,
    found,
    other_state,
    same_life,
    when,
)
from ds01_policy.model import State, Status
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

Result = tuple[Status, str]  # what became of it, and in words why

_POLL_S = 0.1
_NOT_MODIFIED = 304
_CONFLICT = 409
_GONE: Result = (Status.NOOP, "already gone")
# KeyError and TypeError: docker-py raises them for an error answer whose JSON has no `message`.
_TROUBLE = (DockerException, RequestException, OSError, KeyError, TypeError, Unreadable)


@dataclass(frozen=True, slots=True)
class Engine:
    """The Docker engine at `url`. Each call opens its own connection, so that threads can share an Engine.

    `timeout_s` bounds each request; a stop may take its grace and `margin_s` longer.
    """

    url: str
    timeout_s: float
    margin_s: float = 10.0

    def stop(self, container_id: str, grace: timedelta, expect: Expected) -> Result:
        """Stop one container: SIGTERM, `grace`, SIGKILL; its restart policy is set to `no` first so that it stays down.

        DONE: it ran and runs no more. NOOP: it had ended or gone by itself. STALE: not what was decided about, nothing
        was done. FAILED: it still runs, or nobody knows; its restart policy was put back.
        """
        try:
            with self._container(container_id) as container:
                return _stop(container, max(0, math.ceil(grace.total_seconds())), expect)
        except _TROUBLE as error:
            return Status.FAILED, _words(error)

    def remove(self, container_id: str, expect: Expected) -> Result:
        """Remove one ended container; its volumes stay.

        DONE: it is gone, and we did it. NOOP: it was gone. STALE: it runs again, or is not what was decided about.
        FAILED: it is still there, or nobody knows.
        """
        try:
            with self._container(container_id) as container:
                return _remove(container, expect)
        except _TROUBLE as error:
            return Status.FAILED, _words(error)

    @contextmanager
    def _container(self, container_id: str) -> Iterator[_Container]:
        timeout: Any = self.timeout_s  # the SDK's stubs know whole seconds only
        # Never from_env: that follows root's docker context to whatever daemon it names.
        with docker.APIClient(base_url=self.url, timeout=timeout, version="auto") as client:
            yield _Container(client, container_id, self.timeout_s, self.margin_s)


@dataclass(frozen=True, slots=True)
class _Container:
    """One container over one connection."""

    client: Any  # docker.APIClient
    id: str
    timeout_s: float
    margin_s: float

    def look(self) -> Found | None:
        """Inspect it; None: it is gone."""
        try:
            now = found(self.client.inspect_container(self.id))
        except NotFound:
            return None
        # Docker also looks ids up as names: a user can name a new container like the id of one that is gone.
        return now if now.id == self.id else None

    def look_until(self, deadline: float, *, alive: bool) -> Found | None:
        """Inspect it until it is gone, is `alive` or not, as asked, or `deadline` (monotonic) has passed."""
        while (now := self.look()) is not None and now.alive is not alive and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return now

    def set_restart_policy(self, policy: dict[str, Any]) -> None:
        """Change nothing else about it."""
        self.client.update_container(self.id, restart_policy=policy)

    def stop(self, grace_s: int) -> bool:
        """Ask Docker to stop it and wait; False: there was nothing to stop."""
        answered: list[int] = []
        self.client.hooks["response"] = [lambda response, **_: answered.append(response.status_code)]
        self.client.timeout = self.timeout_s + self.margin_s  # the SDK adds the grace
        try:
            self.client.stop(self.id, timeout=grace_s)
        finally:
            self.client.timeout = self.timeout_s
            self.client.hooks["response"] = []
        return _NOT_MODIFIED not in answered

    def remove(self) -> None:
        """Ask Docker to remove it."""
        self.client.remove_container(self.id, v=False, force=False)


# ── stop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _stop(container: _Container, grace_s: int, expect: Expected) -> Result:
    now = container.look()
    if early := _nothing_to_stop(now, expect):
        return early
    if now is None or not now.comes_back:
        return _end(container, grace_s, expect)
    try:
        container.set_restart_policy({"Name": "no"})
    except NotFound:
        return _GONE
    except APIError as error:
        why = f"its restart policy cannot be set to no: {_words(error)}"
        return Status.FAILED, f"not stopped, as it would come back: {why}"
    except _TROUBLE as error:
        why = f"whether its restart policy was set to no is unknown: {_words(error)}"
        result = Status.FAILED, f"not stopped, as it might come back: {why}"
    else:
        # That call took time: look once more, directly before the stop.
        result = _nothing_to_stop(container.look(), expect) or _end(container, grace_s, expect)
    return _with_policy(container, now.restart_policy, result)


def _nothing_to_stop(now: Found | None, expect: Expected) -> Result | None:
    """Why there is nothing to stop, or nothing that may be stopped; None: stop it."""
    if now is None:
        return _GONE
    if words := differs(now, expect):
        return Status.STALE, words
    if not now.alive:
        return Status.NOOP, f"already {now.state}"
    if now.state not in expect.states:
        return Status.STALE, other_state(now, expect)
    return None


def _end(container: _Container, grace_s: int, expect: Expected) -> Result:
    """Stop it, and judge by what Docker shows then."""
    deadline = time.monotonic() + grace_s + container.margin_s
    trouble, ran = "", True
    try:
        ran = container.stop(grace_s)
    except NotFound:
        return _GONE
    except APIError as error:
        trouble, deadline = _words(error), 0.0
    except _TROUBLE as error:
        trouble = _words(error)  # the daemon goes on with a stop whose caller has hung up: wait for it
    else:
        deadline = 0.0
    try:
        now = container.look_until(deadline, alive=False)
    except _TROUBLE as error:
        words = f"{trouble}; then: {_words(error)}" if trouble else _words(error)
        return Status.FAILED, f"whether it stopped is unknown: {words}"
    if now is not None and now.alive:
        return Status.FAILED, _still_alive(now, expect, trouble)
    if now is not None and not ran:
        return Status.NOOP, f"already {now.state}"
    return Status.DONE, _how_it_ended(now, expect, trouble)


def _still_alive(now: Found, expect: Expected, trouble: str) -> str:
    if not same_life(now, expect):
        return f"came back: it is {now.state} again, started {when(now.started_at)}"
    if now.state is State.RESTARTING:
        return "came back: Docker is restarting it"
    return f"still {now.state} after the stop" + (f": {trouble}" if trouble else "")


def _how_it_ended(now: Found | None, expect: Expected, trouble: str) -> str:
    notes = []
    if now is None:
        notes.append("removed itself after the stop")
    elif now.exit_code is not None:
        notes.append(f"exit code {now.exit_code}")
    if now is not None and not same_life(now, expect):
        notes.append("it had been started again in the last moment")
    if trouble:
        notes.append(f"although {trouble}")
    return ", ".join(notes)


def _with_policy(container: _Container, policy: dict[str, Any], result: Result) -> Result:
    """Say what became of the restart policy that was set to `no`; put it back where we stopped nothing."""
    status, detail = result
    name = plain(str(policy.get("Name")), 40)
    if status is Status.DONE:
        return status, f"{detail}; its restart policy was {name}, is no now"
    try:
        container.set_restart_policy(policy)
    except NotFound:
        return result
    except _TROUBLE as error:
        return status, f"{detail}; its restart policy {name} could not be put back: {_words(error)}"
    return status, f"{detail}; its restart policy {name} was put back"


# ── remove ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _remove(container: _Container, expect: Expected) -> Result:
    deadline = time.monotonic() + container.timeout_s
    gone = (Status.DONE, "removed itself after the stop") if expect.stopped else _GONE
    now = container.look()
    if early := _nothing_to_remove(now, expect, gone):
        return early
    if now is not None and now.state is State.REMOVING:
        return _wait_until_gone(container, deadline, gone, "somebody else's removal of it has not ended")
    try:
        container.remove()
    except NotFound:
        return gone
    except APIError as error:
        # A conflict: it runs again, or is being removed already.
        deadline = deadline if error.status_code == _CONFLICT else 0.0
        return _wait_until_gone(container, deadline, (Status.DONE, ""), _words(error))
    except _TROUBLE as error:
        return _wait_until_gone(container, deadline + container.timeout_s, (Status.DONE, ""), _words(error))
    return Status.DONE, ""


def _nothing_to_remove(now: Found | None, expect: Expected, gone: Result) -> Result | None:
    """Why there is nothing to remove, or nothing that may be removed; None: remove it, or wait while it is removed."""
    if now is None:
        return gone
    if words := differs(now, expect):
        return Status.STALE, words
    if now.alive and now.state in expect.states:
        return Status.STALE, f"it is {now.state}: only what has ended is removed"
    if now.state is not State.REMOVING and now.state not in expect.states:
        return Status.STALE, other_state(now, expect)
    return None


def _wait_until_gone(container: _Container, deadline: float, gone: Result, trouble: str) -> Result:
    try:
        now = container.look_until(deadline, alive=True)
    except _TROUBLE as error:
        return Status.FAILED, f"whether it was removed is unknown: {trouble}; then: {_words(error)}"
    if now is None:
        return gone
    if now.alive:
        return Status.STALE, f"it is {now.state} again, so it was not removed"
    return Status.FAILED, f"still there ({now.state}): {trouble}"


def _words(error: Exception) -> str:
    """Say what went wrong; hostile text in Docker's own words is escaped."""
    if isinstance(error, APIError):
        return plain(f"Docker answered {error.status_code}: {error.explanation or 'no reason given'}", 300)
    if isinstance(error, RequestException):
        return plain(f"Docker did not answer: {error}", 300)
    return plain(f"{type(error).__name__}: {error}", 300)
