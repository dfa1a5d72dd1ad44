"""What the live tests need from the machine, and what happens where it is missing.

A missing part skips the test with its reason; under DS01_POLICY_REQUIRE_LIVE=1 it fails it instead,
so that a build that must run these tests can't pass by skipping them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NoReturn

import pytest

REQUIRE = "DS01_POLICY_REQUIRE_LIVE"
# Debian keeps daemons in sbin, which the PATH of a plain user lacks.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def missing(reason: str) -> NoReturn:
    """Skip the test that asks, or fail it where live tests are required."""
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{reason} ({REQUIRE}=1 makes this a failure)", pytrace=False)
    pytest.skip(reason)


def command(name: str, package: str) -> str:
    """Path of a program, looked up on PATH and in the sbin folders; `package` is Debian's name for what brings it."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        missing(f"{name} is not installed (Debian package {package})")
    return path


def static_busybox() -> str:
    """Path of a busybox that runs in an image without libraries."""
    path = command("busybox", "busybox-static")
    ldd = shutil.which("ldd")
    if ldd and subprocess.run([ldd, path], capture_output=True, check=False, timeout=10).returncode == 0:
        missing("busybox needs libraries that an image of ours lacks (Debian package busybox-static)")
    return path


def root() -> None:
    """Containers are started by a daemon of our own, which only root may run."""
    if os.geteuid() != 0:
        missing("a Docker engine of our own needs root")
