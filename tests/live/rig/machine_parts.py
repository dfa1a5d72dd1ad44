"""What a machine is made of: a Debian root file system, and this project with all it needs as wheels.

Needs the network. Debian comes from where apt takes it on this machine, wheels from where pip does, at the versions of
constraints.txt.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from rig import parts
from rig.cli import REPOSITORY

# wall, login and loginctl are Debian's base; libpam-systemd makes a login a session that logind knows.
PACKAGES = ("systemd", "systemd-sysv", "dbus", "libpam-systemd", "python3", "python3-venv", "logrotate", "make")
LEAN = ("force-unsafe-io", *(f"path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")))
MEMORY = "size=2g"


class PartsError(Exception):
    """A part cannot be made here. The text is of whoever refused."""


def root_filesystem(archive: Path) -> None:
    """Write a tar archive of a small Debian with systemd. Raises PartsError.

    mmdebstrap, not debootstrap: it leaves the search for dependencies to apt, which takes seconds off a minute.
    """
    mmdebstrap = parts.command("mmdebstrap", "mmdebstrap")
    site, codename = mirror()
    argv = [mmdebstrap, "--mode=root", "--variant=essential", "--format=tar", f"--include={','.join(PACKAGES)}"]
    argv += [f"--dpkgopt={option}" for option in LEAN]
    with _memory(archive.parent) as folder:
        _run([*argv, codename, str(archive), site], 600, TMPDIR=str(folder))


def mirror() -> tuple[str, str]:
    """Find where apt takes this Debian's main packages from: (URL, codename). Raises PartsError."""
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    codename = release.get("VERSION_CODENAME", "").strip('"')
    form = "$(SITE) $(CODENAME) $(COMPONENT)"
    for line in _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"], 60).splitlines():
        if line.split()[1:] == [codename, "main"]:
            return line.split()[0], codename
    raise PartsError(f"apt knows no packages of {codename or 'this system, which has no codename'}")


def wheels(folder: Path) -> None:
    """Put this project, all it needs to run and what builds it as wheels into a folder, for the machine's Python.

    Raises PartsError.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(REPOSITORY)], 300)
    (project,) = folder.glob("ds01_policy-*.whl")
    download = [*pip, "download", "--only-binary=:all:", f"--python-version={_python()}", "--dest", str(folder)]
    builders = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["build-system"]["requires"]
    _run([*download, "--constraint", str(REPOSITORY / "constraints.txt"), str(project), *builders], 300)


def _python() -> str:
    """Ask apt which Python the machine will have: `3.11`."""
    found = re.search(r"^  Candidate: (\d+\.\d+)", _run(["apt-cache", "policy", "python3"], 60), re.MULTILINE)
    if found is None:
        raise PartsError("apt knows no python3")
    return found[1]


@contextlib.contextmanager
def _memory(beside: Path) -> Iterator[Path]:
    """Give a folder in memory, where dpkg's many syncs cost nothing; one on disk where nothing may be mounted."""
    with tempfile.TemporaryDirectory(dir=beside) as name:
        mount = ["mount", "-t", "tmpfs", "-o", MEMORY, "tmpfs", name]
        mounted = subprocess.run(mount, capture_output=True, check=False, timeout=30).returncode == 0
        try:
            yield Path(name)
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", name], capture_output=True, check=False, timeout=30)


def _run(argv: list[str], timeout_s: float, **env: str) -> str:
    """Run a program of this machine: its stdout. Raises PartsError."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=timeout_s, check=False, env={**os.environ, **env}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PartsError(f"{argv[0]}: {error}") from None
    if done.returncode:
        raise PartsError(f"{' '.join(argv[:3])} …: {done.stderr.strip()[-500:]}")
    return done.stdout
