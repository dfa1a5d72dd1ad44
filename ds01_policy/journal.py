"""Ledger and audit log, held open by a program that runs for months.

Owns that it writes where they are now: a file that was moved away, as damaged or by rotation, is opened anew.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ds01_policy.audit import Audit
from ds01_policy.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path


class Journal:
    """Both files; call it for them. Any thread may."""

    def __init__(self, ledger: Path, audit: Path, host: str) -> None:
        """Remember where. Nothing is opened before the first call."""
        self._paths = ledger, audit
        self._host = host
        self._digest = ""
        self._ledger: Ledger | None = None
        self._audit: Audit | None = None
        self._file: tuple[int, int] | None = None  # device and inode of the ledger that is open
        self._lock = threading.Lock()

    def under(self, digest: str) -> None:
        """Say which policy the lines are written under from now on."""
        with self._lock:
            if digest != self._digest:
                self._digest = digest
                self._close()

    def __call__(self) -> tuple[Ledger, Audit]:
        """Give both, open for writing. Raises LedgerError or AuditError."""
        ledger, audit = self._paths
        with self._lock:
            if self._ledger is not None and self._file != _identity(ledger):
                self._close()
            if self._audit is None:
                self._audit = Audit.open(audit, host=self._host, digest=self._digest)
            if self._ledger is None:
                self._ledger = Ledger.open(ledger)
                self._file = _identity(ledger)
            return self._ledger, self._audit

    def close(self) -> None:
        """Let go of both."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
        if self._audit is not None:
            self._audit.close()
        self._ledger = self._audit = None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        there = path.stat()
    except OSError:
        return None
    return there.st_dev, there.st_ino
