"""The options that stand before a command.

Owns their values; cli/app.py owns their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """The global options."""

    config: Path | None = None
    replay: Path | None = None
    verbose: bool = False


_WITH_VALUE = ("--config", "--replay")
_WITHOUT = ("--verbose", "-v")


def hoisted(arguments: list[str]) -> list[str]:
    """Put the global options before the command, wherever they were written: nobody remembers where they belong."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            rest += [argument, *waiting]
        elif argument in _WITH_VALUE:
            front += [argument, *(value for value in [next(waiting, None)] if value is not None)]
        elif argument.partition("=")[0] in _WITH_VALUE or argument in _WITHOUT:
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest
