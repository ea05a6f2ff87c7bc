"""The SQLite file of the record: creation, cheap check on opening, writing a group, reading.

One row per entry: the octets that were hashed, and the tree nodes the entry completes (leaf first), so that the
frontier of any size, and later inclusion proofs, come from O(log n) rows. Rows are never changed; the table refuses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sealagent.errors import FormatError, SealAgentError
from sealagent.records.entry import Entry, parse_entry
from sealagent.records.kept import LIST, SCHEMA, KeptName, KeptRow, kept_already, write_kept
from sealagent.records.tree import HASH_LENGTH, TREE_HASHES, Frontier, Head, leaf_hash, node_hash

__all__ = ["RecordStore", "Row"]

Row = tuple[int, bytes, bytes]
"""Number, octets, nodes."""

APPLICATION_ID = 0x5365416C  # "SeAl": marks the file for file(1) and for us
FORMAT_VERSION = 2
"""1: without kept values; brought to 2 when it is opened."""
BUSY_SECONDS = 5.0
"""How long a foreign process that holds the database (a backup, a shell) may keep us waiting."""

_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # a damaged schema makes messages that are no UTF-8

_DAMAGED_VALUE = (AttributeError, LookupError, TypeError, ValueError)  # a row or node that is gone or of another type

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
CREATE TABLE entry (number INTEGER PRIMARY KEY, octets BLOB NOT NULL, nodes BLOB NOT NULL) STRICT;
CREATE TABLE open_intent (number INTEGER PRIMARY KEY) STRICT;
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, root BLOB NOT NULL,
                   hash TEXT NOT NULL, origin TEXT NOT NULL) STRICT;
CREATE TRIGGER entry_stays BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER entry_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never removed'); END;
{SCHEMA}
"""


class RecordStore:
    """An open record database, held by this process alone.

    :raises SealAgentError: ``record_in_use``, ``record_damaged``, ``record_hash_mismatch``, ``record_failed`` (the
        file cannot be made or opened).
    """

    def __init__(self, path: Path, tree_hash: str | None, max_bytes: int | None) -> None:
        self._path = path
        self._reading = threading.Lock()
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.callback(os.close, self._lock())
                if not path.exists():
                    self._create(tree_hash or TREE_HASHES[0])
                self._recognise()
                path.chmod(0o600)
                self._writer = self._connect(stack, max_bytes)
                self._reader = self._connect(stack, None)
                self._reader.execute("PRAGMA query_only = ON")
            except (OSError, sqlite3.OperationalError) as error:
                raise SealAgentError("record_failed", f"the record {path} cannot be opened: {error}") from error
            except _DAMAGE as error:
                raise self.damaged(str(error)) from error
            self.head, self.frontier = self.load()
            self._migrate()  # after the check: of a damaged file nothing is changed
            if tree_hash and tree_hash != self.head.hash:
                raise SealAgentError(
                    "record_hash_mismatch", f"the record {path} was created with {self.head.hash}, not {tree_hash}"
                )
            self._resources = stack.pop_all()

    def close(self) -> None:
        """Close the database and let others open it."""
        with self._reading:
            self._resources.close()

    def damaged(self, what: str) -> SealAgentError:
        return SealAgentError(
            "record_damaged",
            f"the record {self._path} is damaged: {what}. Nothing was changed. Keep the file and its -wal neighbour as "
            "evidence: move both away or put a backup in their place, then start again.",
            path=str(self._path),
        )

    def write(
        self,
        rows: Iterable[Row],
        opened: Iterable[int],
        closed: Iterable[int],
        tree: Frontier,
        kept: Sequence[KeptRow] = (),
    ) -> Head:
        """Write one group durably, or not at all (:class:`sqlite3.Error`). Only the writer thread calls it."""
        head = Head(tree.size, tree.root(), tree.hash, self.head.origin)
        run = self._writer.execute
        run("BEGIN IMMEDIATE")
        try:
            self._writer.executemany("INSERT INTO entry VALUES (?, ?, ?)", rows)
            for number in opened:
                run("INSERT INTO open_intent VALUES (?)", (number,))
            for number in closed:
                run("DELETE FROM open_intent WHERE number = ?", (number,))
            run("UPDATE head SET size = ?, root = ?", (head.size, head.root))
            if kept:
                write_kept(self._writer, kept)
            run("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self.head = head
        return head

    def load(self) -> tuple[Head, Frontier]:
        """Read the head and the frontier and check the last entry against both, in O(log n).

        :raises SealAgentError: ``record_damaged``.
        """
        try:
            self._roll_back()
            return self._load()
        except (*_DAMAGE, *_DAMAGED_VALUE, FormatError) as error:
            raise self.damaged(str(error)) from error

    def _roll_back(self) -> None:
        # SQLite may have rolled back by itself; where it cannot even do that, load() tries again.
        with contextlib.suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def kept_already(self, names: Iterable[KeptName]) -> set[KeptName]:
        """Return those names that have a kept value. Only the writer thread calls it."""
        return kept_already(self._writer, names)

    def kept(self, owner: str, key: str, first: int, since: int, limit: int) -> list[Any]:
        """Return rows of :data:`~sealagent.records.kept.LIST`. :raises SealAgentError: ``record_damaged``."""
        return self._query(LIST, owner, key, first, since, limit)

    def open_intents(self) -> list[int]:
        """Return the numbers of the intents without an outcome. :raises SealAgentError: ``record_damaged``."""
        return [number for (number,) in self._query("SELECT number FROM open_intent ORDER BY number")]

    def rows(self, after: int, limit: int) -> list[Row]:
        """Return up to ``limit`` rows with numbers over ``after``. :raises SealAgentError: ``record_damaged``."""
        select = "SELECT number, octets, nodes FROM entry WHERE number > ? ORDER BY number LIMIT ?"
        rows = self._query(select, after, limit)
        for number, octets, nodes in rows:
            if not isinstance(octets, bytes) or not isinstance(nodes, bytes):
                raise self.damaged(f"entry {number} is not stored as octets")
        return rows

    def _query(self, statement: str, *values: int | str) -> list[Any]:
        try:
            with self._reading:
                return self._reader.execute(statement, values).fetchall()
        except sqlite3.ProgrammingError as error:
            raise SealAgentError("record_failed", "the record is closed") from error
        except _DAMAGE as error:
            raise self.damaged(str(error)) from error

    def _load(self) -> tuple[Head, Frontier]:
        one = self._writer.execute
        if one("PRAGMA user_version").fetchone()[0] not in range(1, FORMAT_VERSION + 1):
            raise FormatError("record_damaged", "its format is of another version of this program")
        size, root, name, origin = one("SELECT size, root, hash, origin FROM head").fetchone()
        if name not in TREE_HASHES or size != (one("SELECT max(number) FROM entry").fetchone()[0] or 0):
            raise FormatError("record_damaged", "its head does not count its entries")
        subtrees, end = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                end += 1 << level
                subtrees.append(self._nodes(end)[level])
        frontier = Frontier(name, size, subtrees)
        if frontier.root() != root:
            raise FormatError("record_damaged", "its root is not the one of its entries")
        if size:
            self._check_last(size, name)
        return Head(size, root, name, origin), frontier

    def _check_last(self, size: int, name: str) -> None:
        last, nodes = self._entry(size), self._nodes(size)
        if leaf_hash(name, last.octets) != nodes[0] or len(nodes) != (size & -size).bit_length():
            raise FormatError("record_damaged", f"entry {size} is not the one that was hashed")
        for level in range(1, len(nodes)):
            left = self._nodes(size - (1 << (level - 1)))[level - 1]
            if node_hash(name, left, nodes[level - 1]) != nodes[level]:
                raise FormatError("record_damaged", f"the tree does not fit entry {size}")
        before = leaf_hash(name, self._entry(size - 1).octets).hex() if size > 1 else ""
        if last.prev != before:
            raise FormatError("record_damaged", f"entry {size} does not follow entry {size - 1}")

    def _entry(self, number: int) -> Entry:
        entry = parse_entry(self._writer.execute("SELECT octets FROM entry WHERE number = ?", (number,)).fetchone()[0])
        if entry.number != number:
            raise FormatError("record_damaged", f"entry {number} calls itself {entry.number}")
        return entry

    def _nodes(self, number: int) -> list[bytes]:
        nodes: bytes = self._writer.execute("SELECT nodes FROM entry WHERE number = ?", (number,)).fetchone()[0]
        return [nodes[at : at + HASH_LENGTH] for at in range(0, len(nodes), HASH_LENGTH)]

    def _migrate(self) -> None:
        """Give a file of an earlier version what it lacks, in one transaction; entries and tree stay as they are."""
        try:
            if self._writer.execute("PRAGMA user_version").fetchone() != (FORMAT_VERSION,):
                self._writer.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {FORMAT_VERSION}; COMMIT;")
        except sqlite3.Error as error:
            self._roll_back()
            raise SealAgentError(
                "record_failed", f"the record {self._path} cannot be brought up to date: {error}"
            ) from error

    def _lock(self) -> int:
        """Take the lock that keeps a second writer out; it ends with the process, however that ends."""
        lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise SealAgentError("record_in_use", f"another process has the record {self._path} open") from None
        return lock

    def _create(self, tree_hash: str) -> None:
        """Make the database under another name and move it into place whole, so that half of one is never found."""
        if tree_hash not in TREE_HASHES:
            raise SealAgentError("record_hash_mismatch", f"{tree_hash} is no hash of a record; take sm3 or sha256")
        if self._neighbour("-wal").exists():
            raise self.damaged("its main file is gone while its -wal file is there")
        fresh = self._neighbour(".new")
        for leftover in (fresh, self._neighbour(".new-wal"), self._neighbour(".new-shm")):
            leftover.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        origin = f"sealagent/{secrets.token_hex(16)}/{tree_hash}"
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            database.execute("INSERT INTO head VALUES (1, 0, ?, ?, ?)", (Frontier(tree_hash).root(), tree_hash, origin))
        fresh.rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _recognise(self) -> None:
        """Look at the file before SQLite does, which would write into an empty or a foreign one (file format 1.3)."""
        if self._path.is_file():
            with self._path.open("rb") as file:
                header = file.read(100)
            if not header.startswith(b"SQLite format 3\0") or header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
                raise self.damaged("it is no record of this program")

    def _neighbour(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _connect(self, stack: contextlib.ExitStack, max_bytes: int | None) -> sqlite3.Connection:
        database = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        stack.callback(database.close)
        if database.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise self.damaged("its journal mode cannot be set")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA trusted_schema = OFF")
        if max_bytes is not None:
            (page,) = database.execute("PRAGMA page_size").fetchone()
            database.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page)}")
        return database


def stream(store: RecordStore, size: int, page: int = 500) -> Iterator[Row]:
    """Yield the first ``size`` rows in pages, so that no read holds up the checkpoints of the write-ahead log."""
    after = 0
    while after < size and (rows := store.rows(after, min(page, size - after))):
        yield from rows
        after = rows[-1][0]
