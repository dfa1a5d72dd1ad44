"""The metrics' text file, for node_exporter's textfile collector and for `watch`.

Owns how it is replaced, and what is read back from it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ds01_policy.metrics.families import LAST_SUCCESS

if TYPE_CHECKING:
    from pathlib import Path

NAME = "metrics.prom"  # in the state directory: written by every tick
EVERYBODYS, OURS = 0o644, 0o600


def last_success(path: Path) -> float | None:
    """Read back when a tick succeeded last (Unix seconds), as the tick before wrote; None: it does not say."""
    try:
        told = path.read_text(encoding="utf-8", errors="replace")
        found = re.search(rf"^{LAST_SUCCESS} (\S+)$", told, re.MULTILINE)
        return (float(found[1]) or None) if found else None
    except (OSError, ValueError):
        return None


def write(path: Path, content: str, mode: int = EVERYBODYS) -> None:
    """Replace the file in one step: a scrape sees the old one or the new one, whole.

    Raises:
        OSError: when it cannot be written.

    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(content, encoding="utf-8")
        aside.chmod(mode)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
