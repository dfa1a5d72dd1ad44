"""The command line run in this process: on the recorded host of the demo, or as if that host were this one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ds01_policy.cli import acting, deciding, looking_back, recording, wiring
from ds01_policy.cli.app import app
from ds01_policy.observe.recording import replay

REPOSITORY = Path(__file__).parents[2]
DEMO = REPOSITORY / "tests" / "replay" / "demo"
DEMO_CONFIG = REPOSITORY / "tests" / "replay" / "demo-config"


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document on stdout; more or less than one is an error."""
        return json.loads(self.stdout)


def run(*args: str | Path, env: Mapping[str, str] | None = None) -> Ran:
    """Run a command as a program would: stdout and stderr are no terminal. An unforeseen exception comes through."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], env=env, catch_exceptions=False)
    return Ran(result.exit_code, result.stdout, result.stderr)


def on_demo(*args: str | Path, config: Path = DEMO_CONFIG) -> Ran:
    """Run a command on the demo's recording."""
    return run("--config", config, "--replay", DEMO, *args)


def start(*args: str | Path, **more: Any) -> subprocess.Popen[str]:
    """Start the program itself; what it prints comes through pipes unless `more` says otherwise."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **more.pop("env", {})}
    environment.pop("PYTHONUNBUFFERED", None)  # as people run it
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    command = [sys.executable, "-m", "ds01_policy", *map(str, args)]
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def ended(ours: subprocess.Popen[str]) -> Ran:
    """Wait for its end; one that does not end is killed, and an error."""
    try:
        stdout, stderr = ours.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        ours.kill()
        ours.communicate()
        raise
    return Ran(ours.returncode, stdout or "", stderr or "")


def configured(folder: Path, files: Mapping[str, str] | None = None, **settings: Any) -> Path:
    """Write the demo's configuration with other settings and files; nothing in it points at this machine.

    The engine's socket is at `folder/docker.sock`, where none is; state goes to `folder/state`.
    """
    config = folder / "config"
    config.mkdir(parents=True)
    for path in DEMO_CONFIG.iterdir():
        (config / path.name).write_bytes(path.read_bytes())
    values = {
        "version": 1,
        "docker": {"url": f"unix://{folder}/docker.sock", "timeout": "5s"},
        "prometheus": "never",
        "gpu": {"nvml": "never", "nvidia_smi": "no-such-nvidia-smi"},
        "state_dir": str(folder / "state"),
        "notify": {"channels": []},
        **settings,
    }
    (config / "settings.yaml").write_text(json.dumps(values))
    for name, text in (files or {}).items():
        (config / name).parent.mkdir(exist_ok=True)
        (config / name).write_text(text)
    return config


def pretend_demo_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the recorded host answer in the place of this one, at its own time. Docker can be seen and not acted upon."""
    at = replay(DEMO).at
    for module in (wiring, recording):
        monkeypatch.setattr(module, "live_sources", lambda _: replay(DEMO).sources)
    for module in (wiring, acting, deciding, looking_back, recording):
        monkeypatch.setattr(module, "now", lambda: at)


@contextmanager
def silent_engine(folder: Path) -> Iterator[socket.socket]:
    """Listen where an engine would, take connections and never answer."""
    path = folder / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(60)
        yield server


def files_below(folder: Path) -> dict[str, bytes]:
    """Read everything there is, to see that nothing changed."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}
