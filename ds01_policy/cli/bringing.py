"""`init DIR --from-limits FILE`: bring the limits along that a site has today.

Owns what is printed: the files written, what became of each key, and what to look at.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.wiring import now
from ds01_policy.config.bring.bring import bring, settle
from ds01_policy.config.problems import PolicyError
from ds01_policy.config.shipped import AlreadyThere
from ds01_policy.observe.host import unix_group_members
from ds01_policy.text import plain

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_policy.config.bring.bring import Brought


def init_from(directory: Path, limits: Path) -> None:
    """Write policy files from an old limits file; nothing is written when a value cannot be taken."""
    at = now()
    try:
        brought = settle(bring(limits, at), directory, at, unix_group_members)
    except PolicyError as error:
        lines = [str(finding) for finding in error.findings]
        count = f"{len(lines)} value{'s' if len(lines) != 1 else ''} cannot be taken"
        fail(Exit.USAGE, [*lines, f"{count}: nothing was written"])
    except AlreadyThere as error:
        fail(Exit.USAGE, str(error).splitlines())
    except OSError as error:
        fail(Exit.FAILED, [f"{error.filename or directory}: {error.strerror}"])
    _print(brought, directory)


def _print(brought: Brought, directory: Path) -> None:
    """Say what became of everything; what somebody should look at is marked and comes again at the end."""
    for told in brought.told:
        sys.stdout.write(plain(f"{'! ' if told.loud else '  '}{told}", limit=1000) + "\n")
    for finding in brought.advice:
        sys.stdout.write(plain(f"! {finding} [{finding.slug}]", limit=1000) + "\n")
    for name in brought.files:
        sys.stdout.write(plain(f"  {directory / name}: written", limit=1000) + "\n")
    loud = sum(told.loud for told in brought.told) + len(brought.advice)
    unused = sum(told.became.startswith("not used") for told in brought.told)
    sys.stdout.write(
        f"{len(brought.told)} things said: {unused} not used, {loud} to look at (marked !). The other files in "
        f"{plain(str(directory))} are the shipped ones.\n"
    )
