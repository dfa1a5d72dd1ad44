"""The command line: parse, wire, call, exit code. No policy."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `ds01-policy`."""
    from ds01_policy.cli.app import app

    app(args=sys.argv[1:], prog_name="ds01-policy")
