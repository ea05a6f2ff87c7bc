"""Reading a record that another process may be writing at the same time (SQLite in WAL mode lets both go on)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sealagent.errors import SealAgentError
from sealagent.records.entry import Entry, parse_entry
from sealagent.records.tree import leaf_hash

__all__ = ["RecordView"]

BUSY_SECONDS = 5.0
"""How long a process that holds the database may keep a reader waiting."""
PAGE = 500
"""Entries read at once, so that no read holds up the checkpoints of the write-ahead log."""


class RecordView:
    """A record, for reading only. Nothing is checked here beyond the form of what is read.

    :param path: the record of a :class:`~sealagent.records.ledger.Ledger`.
    :raises SealAgentError: ``record_not_found``: there is none; ``record_damaged``; ``record_failed``: not now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise SealAgentError("record_not_found", f"there is no record {path}")
        # Opened for writing, and told not to: a reader of its own could not open a log that the last writer left.
        self._database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            with self._named():
                self._database.execute("PRAGMA query_only = ON")
                self._database.execute("PRAGMA trusted_schema = OFF")
            self.hash, self.origin = (str(value) for value in self._one("SELECT hash, origin FROM head"))
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Let go of the record."""
        self._database.close()

    def size(self) -> int:
        """Return how many entries are durable now. :raises SealAgentError: ``record_damaged``."""
        (size,) = self._one("SELECT size FROM head")
        return int(size)

    def entry(self, number: int) -> Entry:
        """Return one entry. :raises SealAgentError: ``record_not_found``, ``record_damaged``."""
        found = next(self.entries(number - 1, number), None)
        if found is None or found.number != number:
            raise SealAgentError("record_not_found", f"the record has no entry {number}")
        return found

    def entries(self, after: int, until: int | None = None) -> Iterator[Entry]:
        """Yield the entries with numbers over ``after`` (and up to ``until``), in order, page by page.

        :raises SealAgentError: ``record_damaged``.
        """
        last = self.size() if until is None else until
        while after < last:
            statement = "SELECT octets FROM entry WHERE number > ? AND number <= ? ORDER BY number LIMIT ?"
            with self._named():
                rows = self._database.execute(statement, (after, last, PAGE)).fetchall()
                page = [parse_entry(octets) for (octets,) in rows]
            if not page:
                return
            yield from page
            after = page[-1].number

    def leaf(self, entry: Entry) -> str:
        """Return the leaf hash of an entry, hexadecimal: what the next one names as ``prev``."""
        return leaf_hash(self.hash, entry.octets).hex()

    def _one(self, statement: str) -> tuple[Any, ...]:
        with self._named():
            found: tuple[Any, ...] | None = self._database.execute(statement).fetchone()
            if found is None:
                raise sqlite3.DatabaseError("it has no head")
            return found

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise SealAgentError("record_failed", f"the record {self._path} cannot be read now: {error}") from error
        except (sqlite3.Error, SealAgentError, TypeError) as error:
            raise SealAgentError("record_damaged", f"the record {self._path} cannot be read: {error}") from error
