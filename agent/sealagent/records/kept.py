"""Values kept beside the record, so that a retry gets the same signature and nothing is signed twice.

A ``signed`` entry and the value that was made under an idempotency key become durable in one transaction: after a crash
either both are there or neither, and what is neither on record nor kept was never released. Kept values are a
convenience with an end (:data:`KEPT_DAYS`, :data:`MAX_KEPT`); they are no part of the record, its export or its check.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sealagent.errors import FormatError, LimitExceeded
from sealagent.records.entry import Entry

__all__ = ["KEPT_DAYS", "MAX_KEPT", "MAX_VALUE", "Kept", "KeptName", "KeptValue"]

KEPT_DAYS = 30
"""Days after which a kept value is forgotten: a client that retries later than that has lost its state anyway."""
MAX_KEPT = 200_000
"""Values kept; the oldest are forgotten. Twenty of the largest batches, some 150 MiB of bare signatures."""
MAX_KEPT_OCTETS = 256 << 20
"""Octets of all values; beyond it the oldest are forgotten. A seal signature holds its seal, picture included: some
10,000 of the usual 25 KiB."""
MAX_VALUE = 10 << 20
"""Octets of a value: a seal signature may have 9 MiB (:data:`sealagent.seals.parse.MAX_SIGNATURE`)."""
MAX_OWNER = 256
"""Characters of an owner: a user and the id of an application."""
MAX_KEY = 256
"""Characters of a key: an Idempotency-Key (128), or the name of a batch."""
MAX_ITEM = 2**31 - 1
"""Largest number of an item under one key."""
MAX_KIND = 64
"""Characters of a kind."""
REQUEST_LENGTH = 32
"""Octets of the digest of a request."""
MAX_LISTED = 1000
"""Values that one call lists at most."""
AT_ONCE = 16
"""Oldest values that make room at once."""
LOOKED_AT = 64
"""Oldest values whose age is looked at with each group, beside twice as many as the group brings: they are forgotten
faster than new ones come, and no commit is held up by a great many at once."""

SCHEMA = """
CREATE TABLE kept (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, owner TEXT NOT NULL, key TEXT NOT NULL,
                   item INTEGER NOT NULL, request BLOB NOT NULL, intent INTEGER NOT NULL, outcome INTEGER NOT NULL,
                   kind TEXT NOT NULL, value BLOB NOT NULL) STRICT;
CREATE UNIQUE INDEX kept_name ON kept (owner, key, item);
CREATE TABLE kept_size (one INTEGER PRIMARY KEY CHECK (one = 1), octets INTEGER NOT NULL) STRICT;
INSERT INTO kept_size VALUES (1, 0);
CREATE TRIGGER kept_comes AFTER INSERT ON kept BEGIN UPDATE kept_size SET octets = octets + length(new.value); END;
CREATE TRIGGER kept_goes AFTER DELETE ON kept BEGIN UPDATE kept_size SET octets = octets - length(old.value); END;
"""
"""``time`` is in seconds since 1970; ``id`` rises with time."""

_INSERT = (
    "INSERT INTO kept (time, owner, key, item, request, intent, outcome, kind, value) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
LIST = (
    "SELECT owner, key, item, request, intent, outcome, kind, value FROM kept "
    "WHERE owner = ? AND key = ? AND item >= ? AND time >= ? ORDER BY item LIMIT ?"
)

KeptName = tuple[str, str, int]
"""Owner, key, item."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A value to be kept with the ``signed`` entry that it belongs to."""

    owner: str
    """Who may ask for it again: a user and the id of an application."""
    key: str
    """The idempotency key, or the name of a batch."""
    item: int
    """Which item of the request, from 0."""
    request: bytes
    """Digest of the whole request, 32 octets; a retry is one only with the same."""
    kind: str
    """What ``value`` is; named by whoever reads it again."""
    value: bytes = field(repr=False)
    """The signature, octets."""

    @property
    def name(self) -> KeptName:
        """What it is found by."""
        return self.owner, self.key, self.item

    def check(self) -> None:
        """Have it be one that can be kept.

        :raises FormatError: ``record_body_invalid``. :raises LimitExceeded: ``record_body_too_large``.
        """
        texts = ((self.owner, MAX_OWNER), (self.key, MAX_KEY), (self.kind, MAX_KIND))
        if not all(1 <= len(text) <= most and text.isascii() and text.isprintable() for text, most in texts):
            raise FormatError(
                "record_body_invalid", "owner, key or kind of a kept value is empty, too long or no ASCII"
            )
        if not 0 <= self.item <= MAX_ITEM or len(self.request) != REQUEST_LENGTH:
            raise FormatError("record_body_invalid", "item or request of a kept value is malformed")
        if len(self.value) > MAX_VALUE:
            raise LimitExceeded("record_body_too_large", f"a kept value is over {MAX_VALUE} octets", limit=MAX_VALUE)


@dataclass(frozen=True, slots=True)
class KeptValue:
    """A value that was kept, as it is found again."""

    item: int
    request: bytes
    """Digest of the request that it was made for, 32 octets."""
    kind: str
    value: bytes = field(repr=False)
    intent: int
    outcome: int
    """Number of the ``signed`` entry."""


KeptRow = tuple[Any, ...]


def row_of(kept: Kept, entry: Entry, intent: int) -> KeptRow:
    """Return the row of a value and the entry that it is written with."""
    facts = (kept.request, intent, entry.number, kept.kind, kept.value)
    return (int(entry.time.timestamp()), kept.owner, kept.key, kept.item, *facts)


def write_kept(database: sqlite3.Connection, rows: Sequence[KeptRow]) -> None:
    """Write the values of one group and forget the oldest, within the transaction of the group."""
    database.executemany(_INSERT, rows)
    database.execute("DELETE FROM kept WHERE id <= (SELECT max(id) FROM kept) - ?", (MAX_KEPT,))
    while database.execute("SELECT octets FROM kept_size").fetchone()[0] > MAX_KEPT_OCTETS:
        database.execute("DELETE FROM kept WHERE id IN (SELECT id FROM kept ORDER BY id LIMIT ?)", (AT_ONCE,))
    since = max(row[0] for row in rows) - KEPT_DAYS * 86_400
    (oldest,) = database.execute(
        "SELECT coalesce(min(time), ?) FROM (SELECT time FROM kept ORDER BY id LIMIT 1)", (since,)
    ).fetchone()
    if oldest < since:
        old = "DELETE FROM kept WHERE id IN (SELECT id FROM kept ORDER BY id LIMIT ?) AND time < ?"
        database.execute(old, (LOOKED_AT + 2 * len(rows), since))


def kept_already(database: sqlite3.Connection, names: Iterable[KeptName]) -> set[KeptName]:
    """Return those names that have a value."""
    select = "SELECT 1 FROM kept WHERE owner = ? AND key = ? AND item = ?"
    return {name for name in names if database.execute(select, name).fetchone()}


def oldest_second(now: datetime) -> int:
    """Return the time from which on a value is given again."""
    return int((now.astimezone(UTC) - timedelta(days=KEPT_DAYS)).timestamp())


def value_of(row: Sequence[Any]) -> KeptValue:
    """Read a row of :data:`LIST`. :raises ValueError: it is damaged."""
    item, request, intent, outcome, kind, value = row[2:]
    if len(request) != REQUEST_LENGTH:
        raise ValueError("a kept value is damaged")
    return KeptValue(item, request, kind, value, intent, outcome)
