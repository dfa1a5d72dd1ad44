"""check, init, schema: the commands about policy files.

Owns what each prints and its exit code.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.findings import Form, written
from ds01_policy.cli.wiring import directory_of, now, page
from ds01_policy.config.load import findings
from ds01_policy.config.problems import PolicyError
from ds01_policy.observe.host import unix_group_members

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_policy.cli.options import Options
    from ds01_policy.config.loaded import Loaded
    from ds01_policy.config.problems import Finding


def check(options: Options, *, live: bool, form: Form) -> None:
    """Say everything that is wrong with the policy, and what is doubtful."""
    further = _live if live else None
    try:
        found = findings(directory_of(options), now(), unix_group=unix_group_members, live=further)
    except PolicyError as error:
        found = error.findings
    sys.stdout.write(written(found, form, page()))
    worst = {one.severity for one in found}
    raise SystemExit(int(Exit.USAGE if "error" in worst else Exit.FAILED if "warning" in worst else Exit.DONE))


def _live(loaded: Loaded) -> list[Finding]:
    from ds01_policy.cli.live_check import live_findings  # loads what talks to Docker and Prometheus

    return live_findings(loaded)


def init(directory: Path) -> None:
    """Copy the shipped files out."""
    from ds01_policy.config.shipped import AlreadyThere, copy_out

    try:
        written = copy_out(directory)
    except AlreadyThere as error:
        fail(Exit.USAGE, str(error).splitlines())
    except OSError as error:
        fail(Exit.FAILED, [f"{directory}: {error.strerror}"])
    for path in written:
        sys.stdout.write(f"{path}\n")


def schema(name: str) -> None:
    """Print one JSON Schema."""
    from ds01_policy.config.schema import SCHEMAS, schema_text

    if name not in SCHEMAS:
        fail(Exit.USAGE, [f"no file is called {name!r}; there are: {', '.join(SCHEMAS)}"])
    sys.stdout.write(schema_text(name))
