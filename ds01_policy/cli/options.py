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
