"""The command line: parse, wire, call, exit code. No policy.

Owns how the program ends when something unforeseen happens: with an exit code and one line, a traceback on request.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

HELP_COLUMNS = 80  # the width that help.txt is written for; a test holds it against what typer writes


def main() -> None:
    """Run `ds01-policy`."""
    _prepare_streams()
    try:
        try:
            if sys.argv[1:] in (["--help"], ["-h"]) and _help():
                return
            from ds01_policy.cli.app import app
            from ds01_policy.cli.options import hoisted

            app(args=hoisted(sys.argv[1:]), prog_name="ds01-policy")
        finally:
            sys.stdout.flush()  # here, where it can still be said that it failed
    except KeyboardInterrupt:
        sys.exit(_ended(130))
    except BrokenPipeError:  # whoever read it had enough
        sys.exit(_ended(1))
    except Exception as error:  # noqa: BLE001  the last place where it can be caught, and told in words
        _tell(error)
        sys.exit(_ended(1))


def _help() -> bool:
    """Print the help from a file: what writes it takes seven times as long to load. False: the terminal is narrow."""
    if shutil.get_terminal_size().columns < HELP_COLUMNS:
        return False
    sys.stdout.write((Path(__file__).parent / "help.txt").read_text(encoding="utf-8"))
    return True


def _prepare_streams() -> None:
    if sys.stdout is None:  # closed by who started us: its number must not go to the audit log
        sys.stdout = io.TextIOWrapper(io.FileIO(os.devnull, "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale that has no `≥` is no reason to fail


def _tell(error: Exception) -> None:
    if {"-v", "--verbose"}.intersection(sys.argv[1:]):
        import traceback

        traceback.print_exception(error)
        return
    from ds01_policy.cli.journald import say
    from ds01_policy.report.priority import Priority
    from ds01_policy.text import plain

    text = plain(f"{type(error).__name__}: {error}")
    say([(Priority.ERROR, f"ds01-policy: unexpected {text} (--verbose shows where)")], sys.stderr, limit=1000)


def _ended(code: int) -> int:
    """Throw away what stdout could not take: the interpreter would try again at exit, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return code
