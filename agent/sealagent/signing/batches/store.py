"""Batches on disk (SQLite, 0600): manifests, states, and what became of each item.

What was signed is certain from the record alone, with which the signatures are kept; an item that was signed and not
yet marked here when the agent ended is found there (:meth:`Progress.restarted`). So items may be written in groups,
while what the holder said, and what stops or ends a batch, is durable before anybody is told.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sealagent.errors import SealAgentError
from sealagent.signing.batches.machine import BatchState, ItemState, Progress
from sealagent.signing.batches.model import Batch, BatchKind, Item, Order, Result

__all__ = ["BatchStore"]

APPLICATION_ID = 0x53614261  # "SaBa"
FORMAT_VERSION = 1
BUSY_SECONDS = 5.0
MAX_ENDED = 500
"""Batches that ended and are remembered; the oldest are forgotten, their entries of the record stay."""
MAX_ENDED_ITEMS = 200_000
"""Items of such batches."""

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
CREATE TABLE batch (id TEXT PRIMARY KEY, owner TEXT NOT NULL, executable TEXT, name TEXT, kind TEXT NOT NULL, seal TEXT,
    key TEXT NOT NULL, mechanism TEXT, job TEXT, digest BLOB NOT NULL, created INTEGER NOT NULL,
    expires INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT, record INTEGER, idempotency_key TEXT,
    request BLOB NOT NULL, total INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX batch_once ON batch (owner, idempotency_key) WHERE state <> 'refused';
CREATE TABLE item (batch TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, digest BLOB NOT NULL, job TEXT,
    state TEXT NOT NULL, code TEXT, detail TEXT, record INTEGER, PRIMARY KEY (batch, number)) STRICT, WITHOUT ROWID;
"""
_INSERT = """
INSERT INTO batch (id, owner, executable, name, kind, seal, key, mechanism, job, digest, created, expires, state,
    reason, record, idempotency_key, request, total) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SELECT = """
SELECT id, owner, executable, name, kind, seal, key, mechanism, job, digest, created, expires, state, reason, record,
    idempotency_key, request FROM batch WHERE id = ?
"""
_OPEN = "SELECT id FROM batch WHERE state NOT IN ('done', 'cancelled', 'refused', 'expired') ORDER BY created, id"
_ENDED = """
SELECT id, total FROM batch WHERE state IN ('done', 'cancelled', 'refused', 'expired') ORDER BY created DESC, id
"""


class BatchStore:
    """An open store; every call blocks, and may come from any thread.

    :raises SealAgentError: ``batch_store_failed``: it cannot be opened, or is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._database.close()
            raise self._failed(error) from error
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the store."""
        with self._turn:
            self._database.close()

    def add(self, batch: Batch) -> None:
        """Write a new batch, whole. :raises SealAgentError: ``batch_store_failed``."""
        order, progress = batch.order, batch.progress
        row = (
            *(batch.id, batch.owner, batch.executable, batch.name, order.kind.value, order.seal, order.key),
            *(order.mechanism, order.job, batch.digest, _seconds(batch.created), _seconds(batch.expires)),
            *(progress.state.value, progress.reason, batch.record, batch.idempotency_key, batch.request),
        )
        items = (
            (batch.id, number, item.name, item.digest, item.job, progress.item(number).value)
            for number, item in enumerate(order.items, 1)
        )
        with self._writing() as database:
            database.execute(_INSERT, (*row, len(order.items)))
            insert = "INSERT INTO item (batch, number, name, digest, job, state) VALUES (?, ?, ?, ?, ?, ?)"
            database.executemany(insert, items)
            self._forget(database)

    def save(
        self, batch_id: str, state: BatchState, reason: str | None, record: int | None, items: list[tuple[Any, ...]]
    ) -> None:
        """Write where a batch stands, and items that changed (:func:`changed_rows`), durably.

        :raises SealAgentError: ``batch_store_failed``.
        """
        with self._writing() as database:
            change = "UPDATE batch SET state = ?, reason = ?, record = ? WHERE id = ?"
            database.execute(change, (state.value, reason, record, batch_id))
            change = "UPDATE item SET state = ?, code = ?, detail = ?, record = ? WHERE batch = ? AND number = ?"
            database.executemany(change, items)

    def load(self, batch_id: str) -> Batch | None:
        """Read a batch. :raises SealAgentError: ``batch_store_failed``."""
        with self._reading() as database:
            row = database.execute(_SELECT, (batch_id,)).fetchone()
            if row is None:
                return None
            select = "SELECT name, digest, job, state, code, detail, record FROM item WHERE batch = ? ORDER BY number"
            items = database.execute(select, (batch_id,)).fetchall()
            return _batch(row, items, [item[3] for item in items])

    def summary(self, batch_id: str) -> Batch | None:
        """Read a batch without its items: they are counted, but neither named nor in their order.

        :raises SealAgentError: ``batch_store_failed``.
        """
        with self._reading() as database:
            row = database.execute(_SELECT, (batch_id,)).fetchone()
            if row is None:
                return None
            select = "SELECT state, count(*) FROM item WHERE batch = ? GROUP BY state"
            states = [state for state, count in database.execute(select, (batch_id,)) for _ in range(count)]
            return _batch(row, [], states)

    def open_ids(self) -> list[str]:
        """Return the ids of the batches that did not end, oldest first. :raises SealAgentError: as for :meth:`load`."""
        with self._reading() as database:
            return [row[0] for row in database.execute(_OPEN)]

    def ids(self, owner: str | None, limit: int) -> list[str]:
        """Return ids of batches, newest first. :param owner: whose; None: everybody's."""
        with self._reading() as database:
            select = "SELECT id FROM batch WHERE ?1 IS NULL OR owner = ?1 ORDER BY created DESC, id LIMIT ?2"
            return [row[0] for row in database.execute(select, (owner, limit))]

    def made_by(self, owner: str, key: str) -> str | None:
        """Return the id of the batch made under an Idempotency-Key; one that was refused may be asked for again."""
        with self._reading() as database:
            select = "SELECT id FROM batch WHERE owner = ? AND idempotency_key = ? AND state <> 'refused'"
            row = database.execute(select, (owner, key)).fetchone()
            return None if row is None else str(row[0])

    def _prepare(self) -> None:
        run = self._database.execute
        if run("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise sqlite3.OperationalError("its journal mode cannot be set")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA trusted_schema = OFF")
        version, kind = run("PRAGMA user_version").fetchone()[0], run("PRAGMA application_id").fetchone()[0]
        if (version, kind) == (0, 0) and not run("SELECT 1 FROM sqlite_schema").fetchone():
            self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        elif (version, kind) != (FORMAT_VERSION, APPLICATION_ID):
            raise sqlite3.DatabaseError("it is no store of batches of this version")

    @staticmethod
    def _forget(database: sqlite3.Connection) -> None:
        """Forget the oldest batches that ended and are too many, by number or by their items."""
        kept, items = 0, 0
        for batch_id, total in database.execute(_ENDED).fetchall():
            kept, items = kept + 1, items + total
            if kept > MAX_ENDED or items > MAX_ENDED_ITEMS:
                database.execute("DELETE FROM item WHERE batch = ?", (batch_id,))
                database.execute("DELETE FROM batch WHERE id = ?", (batch_id,))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            try:
                yield self._database
            except (sqlite3.Error, ValueError, TypeError) as error:  # a value that is not what it should be
                raise self._failed(error) from error

    def _failed(self, error: Exception) -> SealAgentError:
        return SealAgentError("batch_store_failed", f"the store of batches {self._path}: {error}")


def changed_rows(batch: Batch, numbers: list[int]) -> list[tuple[Any, ...]]:
    """Return what :meth:`BatchStore.save` writes of these items."""
    rows = []
    for number in numbers:
        result = batch.results.get(number) or Result()
        state = batch.progress.item(number).value
        rows.append((state, result.code, result.detail, result.record, batch.id, number))
    return rows


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _batch(row: tuple[Any, ...], items: list[tuple[Any, ...]], states: list[str]) -> Batch:
    (batch_id, owner, executable, name, kind, seal, key, mechanism, job, digest, created, expires) = row[:12]
    state, reason, record, idempotency_key, request = row[12:]
    listed = tuple(Item(item[0], item[1], item[2]) for item in items)
    results = {
        number: Result(*item[4:]) for number, item in enumerate(items, 1) if item[4] is not None or item[6] is not None
    }
    progress = Progress((ItemState(each) for each in states), BatchState(state), reason)
    order = Order(BatchKind(kind), seal, key, mechanism, job, listed)
    moments = (_moment(created), _moment(expires))
    made = Batch(batch_id, owner, executable, name, order, digest, *moments, progress, idempotency_key, request, record)
    made.results = results
    return made
