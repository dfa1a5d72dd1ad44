"""Runs ds01-policy as a person or a timer would: a config directory, a command line, an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run printed and how it ended."""

    rc: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        """The one document on stdout. Raises AssertionError, with all that was said, when it is not one."""
        try:
            document: dict[str, Any] = json.loads(self.stdout)
        except ValueError:
            raise AssertionError(f"not JSON (exit code {self.rc}):\n{self.stdout}\n{self.stderr}") from None
        return document


class Cli:
    """One host's configuration, and the program run against it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.config = base / "config"
        self.state = base / "state"
        self.config.mkdir()
        self.state.mkdir()
        self.env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(base), "LANG": "C.UTF-8"}
        self.env |= {"PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}

    def configure(
        self,
        *,
        docker: str,
        prometheus: str = "never",
        nvidia_smi: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
    ) -> Cli:
        """Write settings.yaml for these sources, and further files: text as it is, anything else as YAML.

        `settings` overlays what is written by default, key by key. A file that is not given is the shipped one.
        """
        written: dict[str, Any] = {
            "version": 1,
            "mode": "observe",
            "docker": {"url": docker, "timeout": "10s"},
            "prometheus": prometheus if prometheus == "never" else {"url": prometheus, "timeout": "10s"},
            "gpu": {"nvml": "never", "nvidia_smi": str(nvidia_smi or self.base / "no-nvidia-smi")},
            "state_dir": str(self.state),
        }
        self.write({"settings.yaml": _overlay(written, settings or {}), **(files or {})})
        return self

    def write(self, files: Mapping[str, Any]) -> None:
        """Write files below the config directory: text as it is, anything else as YAML."""
        for name, content in files.items():
            path = self.config / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
            path.write_text(text)

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start it and do not wait: for runs that are killed, or that meet each other."""
        return subprocess.Popen(
            [sys.executable, "-m", "ds01_policy", "--config", str(self.config), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.env, **(env or {})},
            cwd=self.base,
        )

    def __call__(self, *args: str, timeout: float = 60.0, env: Mapping[str, str] | None = None) -> Result:
        """Run it to its end. Raises TimeoutExpired, and kills it, when it takes longer than `timeout` seconds."""
        began = time.monotonic()
        with self.start(*args, env=env) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Result(process.returncode, stdout, stderr, time.monotonic() - began)


def _overlay(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        beneath = merged.get(key)
        both = isinstance(beneath, Mapping) and isinstance(value, Mapping)
        merged[key] = _overlay(beneath, value) if both else value  # type: ignore[arg-type]  # both are mappings
    return merged
