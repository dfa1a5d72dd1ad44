"""check, init, schema: the commands about policy files.

Owns what each prints and its exit code.
"""

from __future__ import annotations

import json as json_module
import sys
from typing import TYPE_CHECKING

from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.wiring import directory_of, now, policy_of
from ds01_policy.config.load import findings
from ds01_policy.config.problems import PolicyError
from ds01_policy.observe.host import unix_group_members
from ds01_policy.text import plain

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_policy.cli.options import Options


def check(options: Options, *, live: bool, json: bool) -> None:
    """Say everything that is wrong with the policy, and what is doubtful."""
    try:
        found = list(findings(directory_of(options), now(), unix_group=unix_group_members))
    except PolicyError as error:
        found = list(error.findings)
    errors = any(one.severity == "error" for one in found)
    if live and not errors:
        from ds01_policy.cli.live_check import live_findings

        found += live_findings(policy_of(options))
    if json:
        rows = [
            {
                "slug": one.slug,
                "file": one.file,
                "line": one.line,
                "column": one.col,
                "severity": one.severity,
                "message": one.message,
                "suggestion": one.suggestion,
            }
            for one in found
        ]
        sys.stdout.write(json_module.dumps({"schema": 1, "command": "check", "findings": rows}, indent=2) + "\n")
    else:
        for one in found:
            sys.stdout.write(plain(f"{one} [{one.slug}]", limit=2000) + "\n")
        sys.stdout.write(f"{len(found)} finding{'s' if len(found) != 1 else ''}\n")
    raise SystemExit(int(Exit.USAGE if errors else Exit.FAILED if found else Exit.DONE))


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
    from ds01_policy.config.schema import SCHEMAS, schema_of

    if name not in SCHEMAS:
        fail(Exit.USAGE, [f"no file is called {name!r}; there are: {', '.join(SCHEMAS)}"])
    sys.stdout.write(json_module.dumps(schema_of(name), indent=2) + "\n")
