"""One program that runs in the background for as long as a fixture lives.

Owns start, readiness, stop and the log. Leaves no process behind, not even when the test run is killed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Below what the kernel gives out by itself: nobody's connection takes one between its choice and its use.
# A thousand for each worker of a run, each port once.
_FIRST = 20000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = itertools.islice(itertools.cycle(range(_FIRST, _FIRST + 1000)), os.getpid() % 1000, None)


class NotReadyError(Exception):
    """The program ended, or did not answer in time. The text carries its last words."""


class Daemon:
    """A started program. `stop` asks politely, waits, then kills."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        # Its own session: Ctrl-C reaches pytest alone, which then tears down in order.
        # --pdeathsig: if pytest itself is killed, the kernel ends the program.
        setpriv = shutil.which("setpriv")
        wrapped = [setpriv, "--pdeathsig", "TERM", *argv] if setpriv else list(argv)
        self.name = Path(argv[0]).name
        self.log = log
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                wrapped,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], timeout_s: float = 120.0) -> None:
        """Poll `ready` until it is true. Raises NotReadyError."""
        deadline = time.monotonic() + timeout_s
        while True:
            if ready():
                return
            if self.process.poll() is not None:
                raise NotReadyError(f"{self.name} ended with {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise NotReadyError(f"{self.name} was not ready after {timeout_s:g} s: {self.last_words()}")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 120.0, *, kill: bool = False) -> None:
        """End it, reap it. `kill` at once when what it leaves behind is thrown away anyway."""
        if kill:
            self.process.kill()
        elif self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(timeout_s)

    def last_words(self) -> str:
        """Read the last line of the log, which is where a program says why it gave up."""
        return "".join(self.log.read_text(errors="replace").splitlines()[-1:])[-300:]


def free_port() -> int:
    """Pick a loopback TCP port that was free a moment ago, and that no other worker picks."""
    for port in itertools.islice(_PORTS, 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NotReadyError(f"none of a thousand ports from {_FIRST} on is free")
