"""What the package carries for a host, where it is found, and what `make install` refuses."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from cli_host import REPOSITORY, files_below

from ds01_policy.config import files
from ds01_policy.install.agree import shipped_host
from ds01_policy.install.layout import SERVICE, TIMER, WATCH


def test_the_wheel_carries_all_that_is_looked_up_beside_the_package() -> None:
    """Under the names that an installed package looks for."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    carried = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    beside = [*files.shipped(), files.shipped_deploy()]
    assert carried == {path.name: f"ds01_policy/defaults/{path.name}" for path in beside}
    assert all(path.is_dir() and path.parent == REPOSITORY for path in beside)


def test_an_installed_package_looks_inside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never beside itself, where a stranger's `deploy` may lie."""
    (tmp_path / "ds01_policy" / "defaults").mkdir(parents=True)
    monkeypatch.setattr(files, "_PACKAGE", tmp_path / "ds01_policy")
    assert files.shipped_deploy() == tmp_path / "ds01_policy" / "defaults" / "deploy"


def test_what_ships_for_a_host() -> None:
    """Units that name the program where `make install` puts it, and a log rotation of the shipped state."""
    shipped = shipped_host()
    assert {SERVICE, TIMER, WATCH} <= set(shipped.units)
    services = [text for name, text in shipped.units.items() if name.endswith(".service")]
    assert all("\nExecStart=/opt/ds01-policy/bin/ds01-policy " in text for text in services)
    assert all(text.count("/opt/ds01-policy") == 1 for text in services)
    assert "/var/lib/ds01-policy/audit.jsonl {" in shipped.logrotate


@pytest.mark.skipif(os.geteuid() != 0, reason="make install asks for root first")
@pytest.mark.parametrize("goal", ["install", "uninstall"])
def test_make_touches_no_folder_that_is_no_environment(goal: str, tmp_path: Path) -> None:
    """A slip in PREFIX must not cost anybody's files."""
    (tmp_path / "precious").write_text("x")
    before = files_below(tmp_path)
    ran = subprocess.run(
        ["make", goal, f"PREFIX={tmp_path}"], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode != 0
    assert str(tmp_path) in ran.stderr
    assert files_below(tmp_path) == before
