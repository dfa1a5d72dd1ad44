"""A real Docker engine of our own: its daemon, one tiny image, and the containers a test asks for.

Owns dockerd's life and a thin way to drive it (Docker's own command line, so that requests have the shape people make).
GPU containers start without a GPU: the prestart hook that the engine looks for on PATH is a script that exits 0.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rig import parts
from rig.daemon import Daemon
from rig.unix_http import call

SLEEP = ("sleep", "100000")  # as PID 1 it ignores SIGTERM: a stop takes the whole grace, then SIGKILL
OBEDIENT = ("sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait")  # ends at once when stopped
IMAGE = "bb:latest"


class EngineError(Exception):
    """Docker refused. The text is its own."""


class Engine:
    """A running dockerd. Use `start`, then `run` and `create`; `stop` leaves nothing behind."""

    def __init__(self, *, live_restore: bool = False) -> None:
        parts.root()
        self._dockerd = parts.command("dockerd", "docker.io")
        self._docker = parts.command("docker", "docker.io")
        self._busybox = parts.static_busybox()
        runc = parts.command("runc", "runc")
        # Short: a unix socket's path may have 107 characters, and containerd appends to it.
        self.base = Path(tempfile.mkdtemp(prefix="ds01-rig-"))
        self.socket = self.base / "docker.sock"
        hooks = self.base / "hooks"
        hooks.mkdir()
        hook = hooks / "nvidia-container-runtime-hook"
        hook.write_text("#!/bin/sh\nexit 0\n")
        hook.chmod(0o755)
        self._path = os.pathsep.join([str(hooks), parts.SEARCH_PATH])
        settings = {"runtimes": {"nvidia": {"path": runc}}, "live-restore": live_restore}
        (self.base / "daemon.json").write_text(json.dumps(settings))
        self._daemon: Daemon | None = None

    @classmethod
    def start(cls, *, live_restore: bool = False) -> Engine:
        """Start one in a folder of its own, with its image. Raises NotReadyError or EngineError where none can run."""
        engine = cls(live_restore=live_restore)
        try:
            engine.up()
            engine.image(IMAGE)
            engine.rm(engine.run(command=("true",)))  # some machines let a daemon run, but no container
        except BaseException:
            engine.stop()
            raise
        return engine

    def up(self) -> None:
        """Start the daemon on this engine's data."""
        argv = [self._dockerd, "--config-file", str(self.base / "daemon.json")]
        argv += ["--data-root", str(self.base / "root"), "--exec-root", str(self.base / "exec")]
        argv += ["-H", f"unix://{self.socket}", "--pidfile", str(self.base / "pid")]
        argv += ["--iptables=false", "--ip-forward=false", "--bridge=none"]
        self._daemon = Daemon(argv, self.base / "dockerd.log", {**os.environ, "PATH": self._path})
        self._daemon.wait_until(self._answers)

    def down(self) -> None:
        """Stop the daemon; without live restore its containers stop too. `up` brings it back."""
        if self._daemon is not None:
            self._daemon.stop(timeout_s=120)
            self._daemon = None

    def stop(self) -> None:
        """End containers and daemon and delete every trace."""
        if self._daemon is not None:
            with contextlib.suppress(OSError, EngineError):
                self.clean()
            self.down()
        deadline = time.monotonic() + 60
        while (left := self.processes()) and time.monotonic() < deadline:  # a killed one is not gone at once
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        for mount in reversed(self.mounts()):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True, timeout=60)
        shutil.rmtree(self.base, ignore_errors=True)

    def processes(self) -> list[int]:
        """List processes on this machine that name this engine's folder: dockerd, containerd, shims."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if os.fsencode(self.base) in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
        return found

    def mounts(self) -> list[str]:
        """List mount points inside this engine's folder, in mount order."""
        fields = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [field[4] for field in fields if field[4].startswith(f"{self.base}/")]

    def cli(self, *args: str, stdin: bytes | None = None, timeout: float = 180.0) -> str:
        """Run `docker ARGS` against this engine: its stdout, stripped. Raises EngineError."""
        done = self.docker(*args, stdin=stdin, timeout=timeout)
        if done.returncode:
            raise EngineError(f"docker {' '.join(args)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode().strip()

    def docker(
        self, *args: str, stdin: bytes | None = None, timeout: float = 180.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `docker ARGS` against this engine, however it ends."""
        env = {"PATH": self._path, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.base)}
        return subprocess.run(
            [self._docker, *args], input=stdin, env=env, capture_output=True, timeout=timeout, check=False
        )

    def api(self, method: str, target: str, body: Any = None) -> Any:
        """One request to the engine's HTTP interface: the decoded answer. Raises EngineError from status 400 on."""
        status, answer = call(self.socket, method, target, body)
        if status >= 400:
            raise EngineError(f"{method} {target}: {status} {answer}")
        return answer

    def image(self, tag: str, *, env: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None) -> str:
        """Make an image with busybox in it, and what a real one may carry: baked-in variables and labels."""
        changes = [f"ENV {key}={json.dumps(value)}" for key, value in (env or {}).items()]
        changes += [f"LABEL {key}={json.dumps(value)}" for key, value in (labels or {}).items()]
        flags = [part for change in changes for part in ("--change", change)]
        self.cli("import", *flags, "-", tag, stdin=_root_filesystem(self._busybox))
        return tag

    def run(self, *args: str, **options: Any) -> str:
        """Start a container: its 64-hex id. `args` are further flags of `docker run`; options as in `create`."""
        return self.cli("run", "--detach", *_flags(args, **options))

    def create(self, *args: str, **options: Any) -> str:
        """Create a container and leave it unstarted: its 64-hex id.

        Options: image, command, labels, gpus (as `docker run --gpus` takes it: "all", 2, "device=0,1"),
        env, runtime, name, network (default none).
        """
        return self.cli("create", *_flags(args, **options))

    def create_raw(self, body: Mapping[str, Any], name: str | None = None) -> str:
        """Create from the raw JSON, for requests that this version of the command line can't make."""
        complete = {"Image": IMAGE, "Cmd": list(SLEEP), "HostConfig": {"NetworkMode": "none"}, **body}
        created: dict[str, str] = self.api("POST", "/containers/create" + (f"?name={name}" if name else ""), complete)
        return created["Id"]

    def exec(self, container: str, *command: str) -> str:
        """Run a command in a container: its stdout."""
        return self.cli("exec", container, *command)

    def inspect(self, container: str) -> dict[str, Any]:
        """Docker's whole answer about one container. Raises EngineError when it is gone."""
        answer: dict[str, Any] = self.api("GET", f"/containers/{container}/json")
        return answer

    def state(self, container: str) -> str:
        """Say `running`, `exited`, …, or `gone`."""
        status, answer = call(self.socket, "GET", f"/containers/{container}/json")
        return "gone" if status == 404 else str(answer["State"]["Status"])

    def ids(self) -> list[str]:
        """Every container, running or not."""
        return [item["Id"] for item in self.api("GET", "/containers/json?all=1")]

    def rm(self, *containers: str) -> None:
        """Remove containers for real, whatever their state, with their anonymous volumes; none is fine too."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._remove, containers))

    def clean(self) -> None:
        """Remove every container."""
        self.rm(*self.ids())

    def _remove(self, container: str) -> None:
        deadline = time.monotonic() + 120
        while True:  # 409: another removal is at it
            status, answer = call(self.socket, "DELETE", f"/containers/{container}?force=1&v=1")
            if status in {204, 404}:
                return
            if time.monotonic() > deadline:
                raise EngineError(f"cannot remove {container}: {status} {answer}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return call(self.socket, "GET", "/_ping", timeout=5)[0] == 200
        except OSError:
            return False


def _flags(
    args: Sequence[str],
    *,
    image: str = IMAGE,
    command: Sequence[str] = SLEEP,
    labels: Mapping[str, str] | None = None,
    gpus: str | int | None = None,
    env: Mapping[str, str] | None = None,
    runtime: str | None = None,
    name: str | None = None,
    network: str = "none",
) -> list[str]:
    flags = [*args, "--network", network]
    for key, value in (labels or {}).items():
        flags += ["--label", f"{key}={value}"]
    for key, value in (env or {}).items():
        flags += ["--env", f"{key}={value}"]
    if gpus is not None:
        # The flag is one line of CSV: a value with a comma of its own needs quotes.
        text = str(gpus)
        flags += ["--gpus", f'"{text}"' if "," in text and '"' not in text else text]
    if runtime is not None:
        flags += ["--runtime", runtime]
    if name is not None:
        flags += ["--name", name]
    return [*flags, image, *command]


def _root_filesystem(busybox: str) -> bytes:
    """Pack busybox with a link for each of its commands, and the folders a container expects."""
    names = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True, timeout=10).stdout.split()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in ("bin", "etc", "home", "tmp", "workspace"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        program = tarfile.TarInfo("bin/busybox")
        content = Path(busybox).read_bytes()
        program.size, program.mode = len(content), 0o755
        tar.addfile(program, io.BytesIO(content))
        for name in names:
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    return packed.getvalue()
