"""A whole machine with a real systemd, as a container of an engine of its own: boots in seconds, once for each test.

Owns how it is built, booted and talked to. What runs on it, the tests say. It shares the network with this machine, and
SHARED with the tests: sockets and programs that stand there are seen on both sides.
"""

from __future__ import annotations

import fcntl
import json
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.daemon import NotReadyError
from rig.engine import Engine
from rig.machine_parts import root_filesystem, wheels

SHARED = "/shared"  # not below /tmp, which the units do not see
PROGRAM = "/opt/ds01-policy/bin/ds01-policy"
WHEELS = "/wheels"
DESK = Path(__file__).with_name("desk.py")
# What a container needs to be a machine. Its cgroups are handed over writable, its devices are limited by no one but
# systemd itself: that is what the units are tested for.
CAPABILITIES = ("SYS_ADMIN", "SYS_PTRACE", "SYSLOG", "DAC_READ_SEARCH", "SYS_NICE")
FLAGS = (
    *("--network=host", "--cgroupns=private", "--tmpfs=/run", "--tmpfs=/tmp", "--env=container=docker"),
    *(f"--cap-add={name}" for name in CAPABILITIES),
    *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
    *("--device=/dev/kmsg", "--device-cgroup-rule=c *:* rwm"),
)
BOOT = """\
for each in /sys/fs/cgroup /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$each" 2>/dev/null; done
exec /lib/systemd/systemd
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command in the machine printed, and how it ended."""

    rc: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the machine's journal."""

    by: str  # the program's name for it, or systemd
    priority: int
    text: str


class Machine:
    """A booted machine. `SHARED` in it is `shared` here."""

    def __init__(self, engine: Engine, container: str, shared: Path) -> None:
        self.engine = engine
        self.id = container
        self.shared = shared

    def __call__(self, *command: str, stdin: str = "", timeout: float = 60.0) -> Ran:
        """Run a command: one word is a line of shell. Raises subprocess.TimeoutExpired."""
        argv = ["sh", "-c", command[0]] if len(command) == 1 else list(command)
        done = self.engine.docker("exec", "--interactive", self.id, *argv, stdin=stdin.encode(), timeout=timeout)
        return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def do(self, *command: str, stdin: str = "", timeout: float = 60.0) -> str:
        """Run a command that must succeed: its stdout, stripped."""
        ran = self(*command, stdin=stdin, timeout=timeout)
        assert ran.rc == 0, f"{shlex.join(command)} ended with {ran.rc}:\n{ran.out}{ran.err}"
        return ran.out.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file and the folders above it."""
        self.do(f"mkdir -p {shlex.quote(path.rpartition('/')[0])} && cat > {shlex.quote(path)}", stdin=text)

    def read(self, path: str) -> str:
        """Read a file; empty: there is none."""
        return self("cat", path).out

    def copy_in(self, source: Path, destination: str) -> None:
        """Copy a file or a folder of this machine into it."""
        self.engine.cli("cp", str(source), f"{self.id}:{destination}")

    def log_in(self, user: str) -> Path:
        """Have a user of it sit at a terminal: the transcript of their screen, once their shell waits for them."""
        screen = self.shared / "screen"
        self.copy_in(DESK, f"{SHARED}/desk.py")
        self.do("systemd-run", "--unit=desk", "python3", f"{SHARED}/desk.py", user, f"{SHARED}/screen")
        self.wait(lambda: '"tty":"pts/' in self("loginctl list-sessions -o json").out, "nobody is logged in")
        # Logind knows of it before the terminal is the user's own; the prompt is the last thing that a login brings.
        self.wait(lambda: screen.read_bytes().endswith(b"$ "), "no shell came up")
        return screen

    def journal(self, unit: str) -> list[Entry]:
        """Read what one unit, and systemd about it, has written so far."""
        self("journalctl", "--sync")
        raw = self.do("journalctl", "--output=json", "--all", f"--unit={unit}")
        return [_entry(json.loads(line)) for line in raw.splitlines()]

    def wait(self, true: Callable[[], object], words: str, timeout_s: float = 40.0) -> None:
        """Poll until it is true; then fail with words and the end of the journal."""
        deadline = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"{words}; the journal:\n{self('journalctl --no-pager -n 60').out}")
            time.sleep(0.3)

    def stop(self) -> None:
        """Switch it off and throw it away."""
        self.engine.rm(self.id)


def _entry(raw: dict[str, Any]) -> Entry:
    return Entry(str(raw.get("SYSLOG_IDENTIFIER")), int(raw.get("PRIORITY", 6)), str(raw.get("MESSAGE")))


def build(engine: Engine, folder: Path) -> str:
    """Build the image of a machine on which the program is installed as `make install` does, and nothing is set up.

    What takes long lies in `folder` for the next one, whichever process that is. Raises PartsError or EngineError.
    """
    archive, house = folder / "machine.tar", folder / "wheels"
    with _alone(folder / "machine.lock"):
        if not archive.exists():
            house.mkdir(exist_ok=True)
            with ThreadPoolExecutor(1) as aside:
                gathering = aside.submit(wheels, house)
                root_filesystem(folder / "machine.part")
                gathering.result()
            (folder / "machine.part").rename(archive)
        engine.cli("import", str(archive), "machine:bare", timeout=300)
    script = f"""
    python3 -m venv /opt/ds01-policy
    export PIP_NO_INDEX=1 PIP_FIND_LINKS={WHEELS} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
    /opt/ds01-policy/bin/pip --quiet install ds01-policy
    """
    volume = f"--volume={house}:{WHEELS}:ro"
    made = engine.cli("create", "--network=none", volume, "machine:bare", "sh", "-ec", script)
    engine.cli("start", "--attach", made, timeout=300)
    engine.cli("commit", made, "machine:latest", timeout=300)
    engine.rm(made)
    return "machine:latest"


@contextmanager
def booted(engine: Engine, image: str, house: Path) -> Iterator[Machine]:
    """Boot one, and throw it away afterwards. Raises NotReadyError."""
    with tempfile.TemporaryDirectory(prefix="ds01-machine-") as shared:
        volumes = (f"--volume={shared}:{SHARED}", f"--volume={house}:{WHEELS}:ro")
        container = engine.cli("run", "--detach", *FLAGS, *volumes, image, "sh", "-c", BOOT)
        machine = Machine(engine, container, Path(shared))
        try:
            _wait_until_up(machine)
            yield machine
        finally:
            machine.stop()


def _wait_until_up(machine: Machine, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while (state := machine("systemctl", "is-system-running").out.strip()) != "running":
        if time.monotonic() > deadline or state == "degraded":
            failed = machine("systemctl --failed --no-pager; journalctl --no-pager -n 20").out
            raise NotReadyError(f"systemd is {state or 'silent'}: {failed}")
        time.sleep(0.1)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
