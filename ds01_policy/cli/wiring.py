"""Make a policy, sources, memory and an actuator out of options and settings.

Owns which real part stands behind each seam. Decides nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.cli.exits import Exit, fail
from ds01_policy.config.kept import FOLDER
from ds01_policy.config.load import find_directory, load_whole
from ds01_policy.config.problems import PolicyError
from ds01_policy.model import History
from ds01_policy.observe.host import LocalHost, unix_group_members
from ds01_policy.observe.ports import Sources
from ds01_policy.report.layout import Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from ds01_policy.cli.options import Options
    from ds01_policy.config.advice import Loaded
    from ds01_policy.config.groups import UnixGroup
    from ds01_policy.observe.ports import Json
    from ds01_policy.observe.recording import Replay
    from ds01_policy.policy import Policy


def directory_of(options: Options) -> Path | None:
    """Find the configuration directory; None: what ships. A recording's own counts unless another is named.

    Raises PolicyError.
    """
    if options.replay is not None and options.config is None and (options.replay / FOLDER).is_dir():
        return options.replay / FOLDER
    return find_directory(None if options.config is None else str(options.config), os.environ)


def policy_of(options: Options) -> Policy:
    """Load the policy, or end with every error in it."""
    return whole_policy_of(options, unix_group_members).policy


def whole_policy_of(options: Options, unix_group: UnixGroup) -> Loaded:
    """Load the policy with the files it was read from, or end with every error in it."""
    try:
        return load_whole(directory_of(options), unix_group=unix_group)
    except PolicyError as error:
        lines = [str(finding) for finding in error.findings]
        count = f"{len(lines)} error{'s' if len(lines) != 1 else ''}"
        fail(Exit.USAGE, [*lines, f"{count} in the configuration: nothing was done"])


@dataclass(frozen=True, slots=True)
class World:
    """The outside as one command sees it: this host, or a recording of one."""

    sources: Sources
    clock: Callable[[], datetime]
    history: Callable[[], History]
    replay: Replay | None = None


def now() -> datetime:
    """Tell the time. The only clock of the program's decisions."""
    return datetime.now(UTC)


def world_of(options: Options, policy: Policy) -> World:
    """Open the recording that `--replay` names, or this host."""
    if options.replay is not None:
        from ds01_policy.observe.recording import RecordingError, replay

        try:
            recorded = replay(options.replay)
        except RecordingError as error:
            fail(Exit.USAGE, [str(error)])
        return World(recorded.sources, lambda: recorded.at, lambda: recorded.history, recorded)
    from ds01_policy.memory import remembered
    from ds01_policy.span import reach_of

    state_dir, reach = Path(policy.settings.state_dir), reach_of(policy)
    return World(live_sources(policy), now, lambda: remembered(state_dir, reach))


def live_sources(policy: Policy) -> Sources:
    """Open Docker, Prometheus, the driver and the host."""
    from ds01_policy.observe.docker import EngineDocker
    from ds01_policy.observe.gpu_tasks import HostTasks
    from ds01_policy.observe.gpus import HostGpus
    from ds01_policy.observe.local import HostCounters
    from ds01_policy.observe.processes import Processes
    from ds01_policy.observe.prometheus import LivePrometheus
    from ds01_policy.observe.statuses import HostStatuses

    settings = policy.settings
    docker = EngineDocker(settings.docker.url, settings.docker.timeout.total_seconds())

    def stats(container: str) -> Json | None:
        # A connection of its own: several are asked about at once, and an EngineDocker serves one thread.
        with EngineDocker(settings.docker.url, settings.docker.timeout.total_seconds()) as engine:
            return engine.stats(container)

    prometheus = LivePrometheus(settings.prometheus) if settings.prometheus is not None else None
    # A host of its own: its thread may hang in a directory service, and users' names are kept there.
    tasks = HostTasks(HostStatuses(settings.gpu), Processes(host=LocalHost()), settings.gpu.timeout)
    return Sources(docker, prometheus, HostGpus(settings.gpu), LocalHost(), HostCounters(stats), tasks)


def page() -> Page:
    """Find out how wide the terminal is and whether it may be coloured."""
    terminal = sys.stdout.isatty()
    colour = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return Page(shutil.get_terminal_size().columns if terminal else 80, colour)


class Progress:
    """One line on stderr, on a terminal only, while something lasts."""

    def __init__(self) -> None:
        """Say nothing yet."""
        self._on = sys.stderr.isatty()
        self._shown = 0

    def say(self, text: str) -> None:
        """Replace the line."""
        if self._on:
            sys.stderr.write("\r" + text.ljust(self._shown))
            sys.stderr.flush()
            self._shown = len(text)

    def done(self) -> None:
        """Take the line away."""
        if self._on and self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
