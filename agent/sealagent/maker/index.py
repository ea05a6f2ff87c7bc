"""The present state of every seal and application, as the entries of the register's ledger make it.

The ledger is what counts. This file repeats it in a form that answers at once; it remembers the last entry it took in
and that entry's leaf hash, so that it is caught up after a crash between the two, and made anew when it is not of this
ledger. Looking up and changing one seal costs the same however many there are.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from sealagent.errors import SealAgentError
from sealagent.maker.states import Asker, Change, check_change
from sealagent.records.entry import Entry, EntryKind
from sealagent.seals.status import SealState, StateChange
from sealagent.verdict import timestamp

__all__ = ["ApplicationRow", "Index", "Position", "SealRow"]

FORMAT_VERSION = 1
APPLICATION_ID = 0x5365416D  # "SeAm": the index of a maker's register
BUSY_SECONDS = 5.0
"""How long another process that holds the database may keep us waiting."""
MAX_LISTED = 1000
"""Seals or applications that one call lists at most."""

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), origin TEXT NOT NULL, applied INTEGER NOT NULL,
                       leaf TEXT NOT NULL) STRICT;
CREATE TABLE seal (sm3 TEXT PRIMARY KEY, agent_id TEXT NOT NULL, es_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
                   owner TEXT NOT NULL, credit_code TEXT NOT NULL, version INTEGER NOT NULL, valid_until TEXT NOT NULL,
                   application INTEGER NOT NULL, made INTEGER NOT NULL, filing TEXT NOT NULL, supersedes TEXT NOT NULL,
                   superseded_by TEXT NOT NULL, state TEXT NOT NULL, since TEXT NOT NULL, entry INTEGER NOT NULL,
                   changes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX seal_made ON seal (made);
CREATE INDEX seal_agent_id ON seal (agent_id);
CREATE INDEX seal_name ON seal (name);
CREATE INDEX seal_owner ON seal (credit_code, name);
CREATE TABLE change (sm3 TEXT NOT NULL, nth INTEGER NOT NULL, state TEXT NOT NULL, since TEXT NOT NULL,
                     reason TEXT NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (sm3, nth)) STRICT, WITHOUT ROWID;
CREATE TABLE application (number INTEGER PRIMARY KEY, state TEXT NOT NULL, applicant TEXT NOT NULL,
                          credit_code TEXT NOT NULL, name TEXT NOT NULL, seal TEXT NOT NULL, entry INTEGER NOT NULL
                          ) STRICT;
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
_TABLES = ("position", "seal", "change", "application", "counter")


@dataclass(frozen=True, slots=True)
class Position:
    """How far an index has followed its ledger."""

    origin: str
    """Of the ledger; empty where nothing was taken in yet."""
    applied: int
    """Number of the last entry taken in."""
    leaf: str
    """Its leaf hash, hexadecimal."""


@dataclass(frozen=True, slots=True)
class SealRow:
    """One seal as it is now."""

    sm3: str
    """Of the whole ``.esl``, hexadecimal: the name of the seal in the register and to whoever asks for its state."""
    agent_id: str
    """What an agent calls it."""
    es_id: str
    name: str
    owner: str
    credit_code: str
    version: int
    valid_until: str
    application: int
    made: int
    """Number of the ledger's entry that says how it was made."""
    filing: str
    """Filing number; empty before it was filed."""
    supersedes: str
    """SM3 of the seal whose place it took; empty for a first one."""
    superseded_by: str
    state: SealState
    since: datetime
    entry: int
    """Number of the entry that made it so."""
    changes: int

    def as_json(self) -> dict[str, Any]:
        """Return it for the command line."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "state": str(self.state),
            "since": timestamp(self.since),
        }


@dataclass(frozen=True, slots=True)
class ApplicationRow:
    """One application as it is now."""

    number: int
    """Number of the entry that recorded it."""
    state: str
    """``open``, ``made`` or ``rejected``."""
    applicant: str
    credit_code: str
    name: str
    """Of the seal that is asked for."""
    seal: str
    """SM3 of the seal that was made; empty before."""
    entry: int

    def as_json(self) -> dict[str, Any]:
        """Return it for the command line."""
        return {name: getattr(self, name) for name in self.__slots__}


class Index:
    """An open index. One process at a time changes it (whoever holds the ledger); any number read it.

    :param path: the database; None: in memory, to be compared with another.
    :param create: make it where it is missing.
    :raises SealAgentError: ``register_index_failed``.
    """

    def __init__(self, path: Path | None, *, create: bool = False) -> None:
        self._path = path
        with _named("opened"):
            self._database = self._open(create)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # Reading

    def position(self) -> Position:
        """Return how far it has followed the ledger."""
        row = self._row("SELECT origin, applied, leaf FROM position")
        return Position(*row) if row else Position("", 0, "")

    def seal(self, sm3: str) -> SealRow | None:
        """Return a seal by the SM3 of its octets."""
        row = self._row("SELECT * FROM seal WHERE sm3 = ?", sm3)
        return _seal(row) if row else None

    def find(self, name: str) -> list[SealRow]:
        """Return what a person may mean: SM3 or agent's id (or eight or more digits that begin it), esID, or name."""
        found = self._rows("SELECT * FROM seal WHERE es_id = ? UNION SELECT * FROM seal WHERE name = ?", name, name)
        if len(name) >= 8 and all(letter in "0123456789abcdef" for letter in name):
            statement = (
                "SELECT * FROM seal WHERE sm3 >= ?1 AND sm3 < ?1 || 'g'"
                " UNION SELECT * FROM seal WHERE agent_id >= ?1 AND agent_id < ?1 || 'g'"
            )
            found += [row for row in self._rows(statement, name) if row not in found]
        return [_seal(row) for row in found]

    def seals(self, *, state: str | None = None, after: int = 0, limit: int = 100) -> list[SealRow]:
        """Return seals in the order in which they were made, those whose entry has a number over ``after``."""
        where = "made > ?" if state is None else "made > ? AND state = ?"
        values = (after,) if state is None else (after, state)
        statement = f"SELECT * FROM seal WHERE {where} ORDER BY made LIMIT ?"  # noqa: S608 - both are constants
        return [_seal(row) for row in self._rows(statement, *values, min(limit, MAX_LISTED))]

    def with_name(self, credit_code: str, name: str) -> list[SealRow]:
        """Return the seals of an owner that have this name."""
        return [
            _seal(row) for row in self._rows("SELECT * FROM seal WHERE credit_code = ? AND name = ?", credit_code, name)
        ]

    def history(self, sm3: str) -> list[tuple[StateChange, int]]:
        """Return the states of a seal, oldest first, with the number of the entry each comes from."""
        statement = "SELECT state, since, reason, entry FROM change WHERE sm3 = ? ORDER BY nth"
        return [(_change(row[0], row[1], row[2]), row[3]) for row in self._rows(statement, sm3)]

    def histories(self) -> dict[str, tuple[StateChange, ...]]:
        """Return the states of all seals, oldest first."""
        found: dict[str, list[StateChange]] = {}
        for row in self._rows("SELECT sm3, state, since, reason FROM change ORDER BY sm3, nth"):
            found.setdefault(row[0], []).append(_change(row[1], row[2], row[3]))
        return {sm3: tuple(changes) for sm3, changes in found.items()}

    def application(self, number: int) -> ApplicationRow | None:
        """Return an application."""
        row = self._row("SELECT * FROM application WHERE number = ?", number)
        return ApplicationRow(*row) if row else None

    def applications(self, *, state: str | None = None, after: int = 0, limit: int = 100) -> list[ApplicationRow]:
        """Return applications in their order, those with a number over ``after``."""
        where = "number > ?" if state is None else "number > ? AND state = ?"
        values = (after,) if state is None else (after, state)
        statement = f"SELECT * FROM application WHERE {where} ORDER BY number LIMIT ?"  # noqa: S608 - constants
        return [ApplicationRow(*row) for row in self._rows(statement, *values, min(limit, MAX_LISTED))]

    def has_es_id(self, es_id: str) -> bool:
        """Say whether a seal has this esID, whatever its state."""
        return self._row("SELECT 1 FROM seal WHERE es_id = ?", es_id) is not None

    def counter(self, name: str) -> int:
        """Return the last number given out; 0: none yet."""
        row = self._row("SELECT value FROM counter WHERE name = ?", name)
        return int(row[0]) if row else 0

    def difference(self, other: Index) -> str | None:
        """Return the name of the first table in which two indexes differ."""
        for table in _TABLES:
            statement = f"SELECT * FROM {table} ORDER BY 1, 2"  # noqa: S608 - a constant
            if self._rows(statement) != other._rows(statement):
                return table
        return None

    # Following the ledger

    def follow(self, origin: str, entries: Iterable[tuple[Entry, str]]) -> None:
        """Take entries in, all or none.

        :param origin: of the ledger. :param entries: in order, each with its leaf hash.
        :raises SealAgentError: ``register_damaged``: an entry does not follow from those before it;
            ``register_index_failed``.
        """
        with self._changing():
            self._follow(origin, entries)

    def rehearse(self, entry: Entry) -> None:
        """Try whether an entry could be taken in next, and leave everything as it is.

        :raises SealAgentError: ``register_damaged``.
        """
        with contextlib.suppress(_Rehearsed), self._changing():
            self._take_in(entry)
            raise _Rehearsed

    def rebuild(self, origin: str, entries: Iterable[tuple[Entry, str]]) -> None:
        """Forget everything and take the whole ledger in. Readers see the old state until it is done."""
        with self._changing():
            for table in _TABLES:
                self._run(f"DELETE FROM {table}")  # noqa: S608 - a constant
            self._follow(origin, entries)

    def _follow(self, origin: str, entries: Iterable[tuple[Entry, str]]) -> None:
        position = self.position()
        if position.origin not in ("", origin):
            raise SealAgentError("register_damaged", "the index is of another ledger")
        for entry, leaf in entries:
            if entry.number != position.applied + 1 or entry.prev != position.leaf:
                raise _damaged(entry, "it does not follow the entry before")
            if entry.kind is EntryKind.ADMIN:
                self._take_in(entry)
            position = Position(origin, entry.number, leaf)
        self._run("INSERT OR REPLACE INTO position VALUES (1, ?, ?, ?)", origin, position.applied, position.leaf)

    def _take_in(self, entry: Entry) -> None:
        body = cast("dict[str, Any]", entry.body)
        event = body.get("event")
        try:
            if event == Change.MADE:
                self._made(entry, body)
            elif event in set(Change):
                self._changed(entry, body)
            elif event == "applied":
                asked = body["application"]
                self._run(
                    "INSERT INTO application VALUES (?, 'open', ?, ?, ?, '', ?)",
                    *(entry.number, asked["applicant"], asked["credit_code"], asked["name"], entry.number),
                )
            elif event == "rejected":
                self._run(
                    "UPDATE application SET state = 'rejected', entry = ? WHERE number = ?",
                    *(entry.number, body["application"]),
                )
            elif event in ("opened", "status_list", "trust_list"):
                pass
            else:
                raise _damaged(entry, f"it tells of {str(event)[:40]!r}, which this version does not know")
            for name, value in body.get("counters", {}).items():
                self._run("INSERT OR REPLACE INTO counter VALUES (?, ?)", name, value)
        except (KeyError, TypeError, ValueError, AttributeError, sqlite3.IntegrityError) as error:
            raise _damaged(entry, f"it cannot be taken in: {type(error).__name__} {error}") from error

    def _made(self, entry: Entry, body: dict[str, Any]) -> None:
        seal = body["seal"]
        old = body.get("supersedes", "")
        if old:
            self._move(entry, old, Change.SUPERSEDED, body)
            self._run("UPDATE seal SET superseded_by = ? WHERE sm3 = ?", seal["sm3"], old)
        values = [seal[name] for name in ("sm3", "agent_id", "es_id", "name", "owner", "credit_code", "version")]
        self._run(
            "INSERT INTO seal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, '', ?, ?, ?, 1)",
            *(*values, seal["valid_until"], body["application"], entry.number, old),
            *(SealState.MADE, body["since"], entry.number),
        )
        self._run(
            "INSERT INTO change VALUES (?, 1, ?, ?, '', ?)", seal["sm3"], SealState.MADE, body["since"], entry.number
        )
        self._run(
            "UPDATE application SET state = 'made', seal = ?, entry = ? WHERE number = ?",
            *(seal["sm3"], entry.number, body["application"]),
        )

    def _changed(self, entry: Entry, body: dict[str, Any]) -> None:
        change, sm3 = Change(body["event"]), body["seal"]["sm3"]
        self._move(entry, sm3, change, body)
        if change is Change.FILED:
            self._run("UPDATE seal SET filing = ? WHERE sm3 = ?", body["filing"], sm3)

    def _move(self, entry: Entry, sm3: str, change: Change, body: dict[str, Any]) -> None:
        row = self.seal(sm3)
        if row is None:
            raise _damaged(entry, "it is about a seal that was never made")
        reason, since = str(body.get("reason", "")), str(body["since"])
        try:
            target = check_change(row.state, change, reason, Asker(body["asked_by"]))
        except SealAgentError as error:
            raise _damaged(entry, error.message) from error
        if datetime.fromisoformat(since) < row.since:
            raise _damaged(entry, "it takes effect before the change before it")
        nth = row.changes + 1
        self._run("INSERT INTO change VALUES (?, ?, ?, ?, ?, ?)", sm3, nth, target, since, reason, entry.number)
        self._run(
            "UPDATE seal SET state = ?, since = ?, entry = ?, changes = ? WHERE sm3 = ?",
            *(target, since, entry.number, nth, sm3),
        )

    # SQLite

    def _open(self, create: bool) -> sqlite3.Connection:
        if self._path is None:
            database = sqlite3.connect(":memory:", isolation_level=None)
        else:
            if create and not self._path.exists():
                os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            uri = f"{self._path.absolute().as_uri()}?mode=rw"
            database = sqlite3.connect(
                uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            database.execute("PRAGMA trusted_schema = OFF")
            if create or self._path is None:
                database.execute("PRAGMA journal_mode = WAL")
                # What a crash takes from it the ledger gives back, so it need not reach the disk at once.
                database.execute("PRAGMA synchronous = NORMAL")
                if database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
                    database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            else:
                database.execute("PRAGMA query_only = ON")
            found = (
                database.execute("PRAGMA application_id").fetchone()
                + database.execute("PRAGMA user_version").fetchone()
            )
            if found != (APPLICATION_ID, FORMAT_VERSION):
                raise sqlite3.DatabaseError("it is no index of this version")
        except BaseException:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with _named("written"):
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._run("ROLLBACK")
                raise

    def _run(self, statement: str, *values: object) -> None:
        self._database.execute(statement, values)

    def _row(self, statement: str, *values: object) -> Any:
        with _named("read"):
            return self._database.execute(statement, values).fetchone()

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with _named("read"):
            return self._database.execute(statement, values).fetchall()


class _Rehearsed(Exception):
    """Ends a rehearsal, so that nothing of it stays."""


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise SealAgentError("register_index_failed", f"the register's index cannot be {what}: {error}") from error


def _seal(row: tuple[Any, ...]) -> SealRow:
    values = dict(zip(SealRow.__slots__, row, strict=True))
    values |= {"state": SealState(values["state"]), "since": datetime.fromisoformat(values["since"])}
    return SealRow(**values)


def _change(state: str, since: str, reason: str) -> StateChange:
    return StateChange(SealState(state), datetime.fromisoformat(since), reason)


def _damaged(entry: Entry, why: str) -> SealAgentError:
    return SealAgentError("register_damaged", f"entry {entry.number} of the register: {why}", entry=entry.number)
