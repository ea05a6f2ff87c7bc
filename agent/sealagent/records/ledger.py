"""The record: append durably in groups, read, export, verify (design §7).

One writer thread owns the database and the chain. What is queued while a commit runs goes into the next commit
together (group commit), so the cost of reaching the disk is shared by everybody who waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from sealagent.clock import Clock
from sealagent.errors import FormatError, SealAgentError
from sealagent.records.check import CheckReport, check_export, head_line
from sealagent.records.entry import JSON, Entry, EntryKind, encode_body, make_entry, parse_entry
from sealagent.records.kept import MAX_LISTED as MAX_KEPT_LISTED
from sealagent.records.kept import Kept, KeptName, KeptRow, KeptValue, oldest_second, row_of, value_of
from sealagent.records.store import RecordStore, Row, stream
from sealagent.records.tree import Frontier, Head, leaf_hash

__all__ = ["Entry", "EntryKind", "Head", "Kept", "KeptValue", "Ledger"]

MAX_GROUP = 1024
"""Entries after which a commit takes no more of what is queued, so that one transaction stays short."""
MAX_LISTED = 1000
"""Entries that one call of :meth:`Ledger.entries` returns at most."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    kind: EntryKind
    body: bytes
    intent: int | None
    future: asyncio.Future[Entry]
    keep: Kept | None = None
    """What is kept with it."""


_Outcome = tuple["asyncio.Future[Entry]", Entry | SealAgentError]


class Ledger:
    """An open record. Make one with :meth:`open`; it is its own context manager."""

    def __init__(self, store: RecordStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._head = store.head
        self._tree: Frontier | None = store.frontier
        self._open = set(store.open_intents())
        self._last = self._last_leaf()
        self._queue: queue.SimpleQueue[list[_Pending] | None] = queue.SimpleQueue()
        self._gathered: list[_Pending] = []
        self._closed = False
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path, clock: Clock, *, tree_hash: str | None = None, max_bytes: int | None = None) -> Ledger:
        """Open the record, or create it (file 0600).

        :param tree_hash: ``sm3`` (the default of a new record) or ``sha256``; an existing record keeps its own.
        :param max_bytes: octets the database file may grow to, its write-ahead log aside; None: no bound of ours.
        :raises SealAgentError: ``record_in_use``, ``record_damaged``, ``record_hash_mismatch``, ``record_failed``.
        """
        store = RecordStore(path, tree_hash, max_bytes)
        try:
            return cls(store, clock)
        except BaseException:
            store.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def append(self, kind: EntryKind, body: Mapping[str, JSON], *, keep: Kept | None = None) -> Entry:
        """Append one entry and return it once it is durable.

        ``signed`` and ``failed``, and ``admin`` where there was an intent, name the one they close as
        ``body["intent"]``. Cancelling the wait does not take
        the entry back.

        :param keep: a value that is kept in the same transaction, so that :meth:`kept` finds it if and only if the
            entry is there; only with ``signed``.
        :raises SealAgentError: ``record_failed`` (nothing of it was kept; a later attempt may succeed),
            ``record_intent_not_open`` (no such intent, or it has its outcome already), ``idempotency_conflict`` (a
            value is kept under this owner, key and item already; neither this one nor the entry was written).
        :raises FormatError: ``record_body_invalid``, ``record_body_too_large``.
        """
        return await self.submit(kind, body, keep=keep)

    def submit(self, kind: EntryKind, body: Mapping[str, JSON], *, keep: Kept | None = None) -> asyncio.Future[Entry]:
        """Queue one entry and return its future, for work that may go on while the entry becomes durable.

        Errors are those of :meth:`append`; those of the body are raised here, the others by the future.
        """
        octets, intent = encode_body(kind, body)
        if keep is not None and kind is not EntryKind.SIGNED:
            raise FormatError("record_body_invalid", f"nothing is kept with an entry of the kind {kind.value}")
        if keep is not None:
            keep.check()
        future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        with self._gate:
            if self._closed:
                raise SealAgentError("record_failed", "the record is closed")
            self._gathered.append(_Pending(kind, octets, intent, future, keep))
            if len(self._gathered) == 1:
                # What one turn of the loop submits reaches the writer together, not one by one.
                future.get_loop().call_soon(self._flush)
        return future

    def head(self) -> Head:
        """Return size, root and hash of what is durable."""
        return self._head

    def read(self, number: int) -> Entry:
        """Return one entry. :raises SealAgentError: ``record_not_found``, ``record_damaged``."""
        rows = self._store.rows(number - 1, 1) if 0 < number <= self._head.size else []
        if not rows or rows[0][0] != number:
            raise SealAgentError("record_not_found", f"the record has no entry {number}", size=self._head.size)
        return self._parse(rows[0])

    def entries(self, after: int = 0, limit: int = 100) -> list[Entry]:
        """Return up to ``limit`` (at most :data:`MAX_LISTED`) entries with numbers over ``after``, in order.

        :raises SealAgentError: ``record_damaged``.
        """
        return [self._parse(row) for row in self._store.rows(max(after, 0), max(0, min(limit, MAX_LISTED)))]

    def open_intents(self) -> list[Entry]:
        """Return the intents that have no outcome: under way now, or interrupted before a restart."""
        return [self.read(number) for number in self._store.open_intents()]

    def kept(self, owner: str, key: str, item: int = 0) -> KeptValue | None:
        """Return the value that was kept under this name; None where there is none, or it is forgotten by now.

        :raises SealAgentError: ``record_damaged``.
        """
        found = self.kept_items(owner, key, item, 1)
        return found[0] if found and found[0].item == item else None

    def kept_items(self, owner: str, key: str, first: int = 0, limit: int = 100) -> list[KeptValue]:
        """Return up to ``limit`` (at most 1,000) values that were kept under a key, from item ``first`` on, in order.

        :raises SealAgentError: ``record_damaged``.
        """
        limit = max(0, min(limit, MAX_KEPT_LISTED))
        try:
            return [value_of(row) for row in self._store.kept(owner, key, first, oldest_second(self._clock()), limit)]
        except (ValueError, TypeError, AttributeError) as error:
            raise self._store.damaged("a kept value cannot be read") from error

    def export(self, out: BinaryIO) -> Head:
        """Write the export (:mod:`sealagent.records.check`) of what is durable now; return its head."""
        head = self._head
        out.write(head_line(head) + b"\n")
        for _, octets, _ in stream(self._store, head.size):
            out.write(octets + b"\n")
        return head

    def verify(self, checkpoint: Head | None = None) -> CheckReport:
        """Check every entry; blocking and O(n).

        :param checkpoint: an earlier :meth:`head` or a parsed checkpoint that must still hold.
        :raises SealAgentError: ``record_damaged``: the database cannot be read.
        """
        head = self._head
        entries = (octets for _, octets, _ in stream(self._store, head.size))
        return check_export((line for part in ((head_line(head),), entries) for line in part), checkpoint)

    def close(self) -> None:
        """Commit what is queued, stop the writer and let others open the record. A second call does nothing."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
        self._flush()
        self._queue.put(None)
        self._thread.join()
        self._store.close()

    def _flush(self) -> None:
        with self._gate:
            gathered, self._gathered = self._gathered, []
        if gathered:
            self._queue.put(gathered)

    def _parse(self, row: Row) -> Entry:
        try:
            return parse_entry(row[1])
        except SealAgentError as error:
            raise self._store.damaged(f"entry {row[0]}: {error.message}") from error

    def _last_leaf(self) -> str:
        size = self._store.head.size
        return leaf_hash(self._store.head.hash, self._store.rows(size - 1, 1)[0][1]).hex() if size else ""

    # Everything below runs in the writer thread.

    def _run(self) -> None:
        more = True
        while more:
            group: list[_Pending] = []
            while more and (not group or (len(group) < MAX_GROUP and not self._queue.empty())):
                gathered = self._queue.get()
                group += gathered or []
                more = gathered is not None
            if group:
                self._deliver(self._commit(group))

    def _commit(self, group: list[_Pending]) -> list[_Outcome]:
        try:
            return self._write(group)
        except Exception as error:
            # Whatever it is, defects of ours included: the writer must live and everybody who waits must hear of it,
            # or signing would hang. It is never said to be the caller's fault.
            _log.error(
                "an entry of the record could not be written: %s", error, exc_info=not isinstance(error, sqlite3.Error)
            )
            self._tree = None  # what the file now holds is read anew before the next group
            name = getattr(error, "sqlite_errorname", None)
            message = f"the record could not be written: {error}"
            return [(pending.future, _failure(message, error, name)) for pending in group]

    def _write(self, group: list[_Pending]) -> list[_Outcome]:
        if self._tree is None:
            self._head, self._tree = self._store.load()
            self._open = set(self._store.open_intents())
            self._last = self._last_leaf()
        tree, last = self._tree.copy(), self._last
        opened: set[int] = set()
        closed: set[int] = set()
        rows: list[Row] = []
        kept: list[KeptRow] = []
        outcomes: list[_Outcome] = []
        taken = self._store.kept_already(pending.keep.name for pending in group if pending.keep)
        for pending in group:
            keep = pending.keep
            if keep is not None and keep.name in taken:
                outcomes.append((pending.future, _kept_already(keep.name)))
                continue
            if (intent := pending.intent) is not None:
                if intent in closed or (intent not in self._open and intent not in opened):
                    outcomes.append((pending.future, _not_open(intent)))
                    continue
                closed.add(intent)
            number = tree.size + 1
            entry = make_entry(number, self._clock(), pending.kind, last, pending.body)
            leaf = leaf_hash(tree.hash, entry.octets)
            rows.append((number, entry.octets, b"".join(tree.append(leaf))))
            last = leaf.hex()
            if keep is not None:
                assert intent is not None  # it is a ``signed`` entry
                kept.append(row_of(keep, entry, intent))
                taken.add(keep.name)
            if pending.kind is EntryKind.INTENT:
                opened.add(number)
            outcomes.append((pending.future, entry))
        if rows:
            self._head = self._store.write(rows, opened, closed, tree, kept)
            self._tree, self._last = tree, last
            self._open = (self._open | opened) - closed
        return outcomes

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
        for outcome in outcomes:
            loops.setdefault(outcome[0].get_loop(), []).append(outcome)
        for loop, own in loops.items():
            try:
                loop.call_soon_threadsafe(_resolve, own)
            except RuntimeError:  # the loop is closed: nobody waits any more
                _log.debug("%d entries of the record had nobody left to wait for them", len(own))


def _resolve(outcomes: list[_Outcome]) -> None:
    for future, outcome in outcomes:
        if future.done():  # the waiting task was cancelled
            continue
        if isinstance(outcome, Entry):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)


def _failure(message: str, cause: Exception, sqlite_name: str | None) -> SealAgentError:
    error = SealAgentError("record_failed", message, **({"sqlite": sqlite_name} if sqlite_name else {}))
    error.__cause__ = cause
    return error


def _not_open(intent: int) -> SealAgentError:
    return SealAgentError("record_intent_not_open", f"entry {intent} is no intent that waits for its outcome")


def _kept_already(name: KeptName) -> SealAgentError:
    message = f"a signature was made and kept under the idempotency key {name[1]!r}, item {name[2]}, already"
    return SealAgentError("idempotency_conflict", message)
