"""Runs inside a machine, in the program's place in its unit's sandbox: tries what must be possible, and what must not.

Writes {part: {name: answer}} as JSON to the file named by its argument; an answer is `ok` or what went wrong. Uses the
program's own parts wherever it has some for the purpose.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ds01_policy.act.notify import _run, uid_of
from ds01_policy.act.terminals import Terminals
from ds01_policy.metrics import write
from ds01_policy.observe.processes import Processes
from ds01_policy.observe.xids import KernelLog

LIBC = ctypes.CDLL(None, use_errno=True)
USER = "alice"
STATE = Path("/var/lib/ds01-policy")
CLONE_NEWUSER, PERSONALITY_32, SYS_ADMIN = 0x10000000, 0x0008, 21


def _uid() -> int:
    uid = uid_of(USER)
    assert uid is not None
    return uid


def _stray() -> int:
    """Find the user's process that has a file open whose name ends as a GPU's does."""
    (pid,) = Processes().holders(7)
    return pid


def opens(path: str, flags: int = os.O_RDWR) -> Callable[[], object]:
    """Open a device. Nobody stands behind most of them here: only a refusal counts."""

    def attempt() -> None:
        try:
            os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.ENODEV, errno.EIO):
                raise

    return attempt


def connects(family: int, host: str) -> Callable[[], object]:
    """Connect to a port; that nobody listens is fine, and so is a machine without this kind of network."""

    def attempt() -> None:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            try:
                one.connect((host, 9))
            except OSError as error:
                if error.errno not in (errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.ENETUNREACH):
                    raise

    return attempt


def connects_here() -> None:
    """Connect to a Unix socket, as Docker's is."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("/run/dbus/system_bus_socket")


def listens() -> None:
    """Serve metrics."""
    with socket.create_server(("127.0.0.1", 0)):
        pass


def many_threads() -> None:
    """As many as stop side by side, each with one that writes to terminals, and as many children as wall leaves."""
    enough = threading.Event()
    threads = [threading.Thread(target=enough.wait) for _ in range(48)]
    for thread in threads:
        thread.start()
    enough.set()


def terminal() -> None:
    """Tell the user, who is logged in."""
    told = Terminals().tell(USER, _uid(), "written from inside of the sandbox")
    assert told.reached, f"nobody was reached: {told.missed}"


def everybody() -> None:
    """Tell everybody."""
    assert _run(["wall"], "to everybody from inside of the sandbox", 20) == 0


def sessions() -> None:
    """Ask logind."""
    subprocess.run(["loginctl", "list-sessions", "--no-pager", "-o", "json"], check=True, capture_output=True)


def ends_a_stray() -> None:
    """End a process of somebody else's through a handle, as an epilog does."""
    signal.pidfd_send_signal(Processes().open(_stray()), signal.SIGKILL)


def system(call: str, *arguments: object) -> Callable[[], object]:
    """Call the kernel through libc."""

    def attempt() -> None:
        if getattr(LIBC, call)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    return attempt


def lists(path: str) -> Callable[[], object]:
    """See what stands in a folder; an empty one was put in its place."""

    def attempt() -> None:
        if not list(Path(path).iterdir()):
            raise PermissionError(errno.EACCES, "it is empty")

    return attempt


def writes(path: str, text: str = "x") -> Callable[[], object]:
    """Write a file."""
    return lambda: Path(path).write_text(text)


def sets_user_id() -> None:
    """Make a program that anybody runs as root."""
    program = STATE / "probe"
    program.touch()
    program.chmod(0o4755)


def sets_the_clock() -> None:
    """Set it to what it is."""
    time.clock_settime(time.CLOCK_REALTIME, time.time())


def may(capability: int) -> Callable[[], object]:
    """Hold a capability."""

    def attempt() -> None:
        status = (line.partition(":\t") for line in Path("/proc/self/status").read_text().splitlines())
        held = next(int(value, 16) for key, _, value in status if key == "CapEff")
        if not held >> capability & 1:
            raise PermissionError(errno.EPERM, "not held")

    return attempt


WANTED: dict[str, Callable[[], object]] = {
    "its state": writes(f"{STATE}/probe"),
    "the kernel's log": lambda: KernelLog().since(datetime.now(UTC) - timedelta(days=1)),
    "processes of everybody": lambda: Processes().look(1),
    "the open files of everybody": _stray,
    "their network counters": lambda: Path(f"/proc/{_stray()}/net/dev").read_text(),
    "somebody else's process": ends_a_stray,
    "the cgroups' files": lists("/sys/fs/cgroup"),
    "users": _uid,
    "sockets of this host": connects_here,
    "Prometheus": connects(socket.AF_INET, "127.0.0.1"),
    "Prometheus by IPv6": connects(socket.AF_INET6, "::1"),
    "a port": listens,
    "a GPU": opens("/dev/probe-nvidia"),
    "a GPU of an older driver": opens("/dev/probe-nvidia-frontend"),
    "a GPU's memory": opens("/dev/probe-nvidia-uvm"),
    "a GPU's instances": opens("/dev/probe-nvidia-caps"),
}
WANTED_BY_TICKS: dict[str, Callable[[], object]] = {
    "a user's terminal": terminal,
    "all terminals": everybody,
    "logind": sessions,
    "a console": opens("/dev/probe-console", os.O_WRONLY),
    "metrics in Debian's folder": lambda: write(Path("/var/lib/prometheus/node-exporter/x.prom"), "x 1\n"),
    "metrics in the usual folder": lambda: write(Path("/var/lib/node_exporter/textfile_collector/x.prom"), "x 1\n"),
    "threads": many_threads,
}
UNWANTED: dict[str, Callable[[], object]] = {
    "the configuration": writes("/etc/probe"),
    "programs": writes("/usr/local/bin/probe"),
    "its own program": writes("/opt/ds01-policy/probe"),
    "others' state": writes("/var/lib/probe"),
    "people's homes": lists("/home"),
    "root's home": lists("/root"),
    "everybody's temporary files": lambda: Path("/tmp/of-the-machine").read_text(),  # noqa: S108  made by the test
    "the kernel's settings": writes("/proc/sys/kernel/hostname", "probe"),
    "cgroups": lambda: Path("/sys/fs/cgroup/probe").mkdir(),
    "any device": opens("/dev/probe-other"),
    "a device of its own": lambda: os.mknod(STATE / "disk", 0o060600, os.makedev(254, 0)),
    "mounts": system("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "namespaces": system("unshare", CLONE_NEWUSER),
    "another user": lambda: os.setuid(1000),
    "others' files": lambda: os.chown(STATE, 1000, 1000),
    "set-user-ID programs": sets_user_id,
    "the clock": sets_the_clock,
    "the host's name": lambda: socket.sethostname("probe"),
    "raw packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "the kernel's network": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "another personality": system("personality", PERSONALITY_32),
    "real-time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "a higher priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    "SYS_ADMIN": may(SYS_ADMIN),
}


def answer(attempt: Callable[[], object]) -> str:
    """Try it: `ok`, or what went wrong."""
    try:
        attempt()
    except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
        return f"{type(error).__name__}: {error}"
    return "ok"


if __name__ == "__main__":
    parts = {"wanted": WANTED, "by_ticks": WANTED_BY_TICKS, "unwanted": UNWANTED}
    told = {part: {name: answer(attempt) for name, attempt in tries.items()} for part, tries in parts.items()}
    Path(sys.argv[1]).write_text(json.dumps(told))
