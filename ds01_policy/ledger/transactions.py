"""One open SQLite file and its transactions: all of a block on disk, or nothing of it.

Owns the connection and its lock. Must not know what the rows are for.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from ds01_policy.ledger import schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Transactions:
    """One open file. May be used from any thread, and raises LedgerError when the file fails it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Take over a connection that `schema` opened; `path` is for messages."""
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open for writing; makes the file and its directory where they are missing."""
        return cls(schema.connect(path), path)

    @classmethod
    def open_readonly(cls, path: Path) -> Self | None:
        """Open for reading, as a copy in memory: creates, changes and locks nothing. None: there is no ledger yet."""
        connection = schema.copy(path)
        return None if connection is None else cls(connection, path)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """All of the block, on disk when it ends; or nothing of it."""
        with self._lock, schema.explained(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                with self._sensible():
                    yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, schema.explained(self._path), self._sensible():
            yield self._connection

    @contextmanager
    def _sensible(self) -> Iterator[None]:
        """Count a row whose time or word cannot be read as damage too."""
        try:
            yield
        except (ValueError, TypeError) as error:
            raise schema.damaged(self._path, f"unreadable row: {error}") from error
