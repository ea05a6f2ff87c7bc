"""What the holder agreed to, kept: paired applications, grants, and how often rules of the policy were used today.

One SQLite file (``callers.sqlite``), held by this process alone. Every row carries a digest over its values: a damaged
file is said to be damaged, and is never taken for one in which nobody was forbidden anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Literal, TypeVar

from sealagent.callers.model import DailyHours, Effect, Grant
from sealagent.errors import SealAgentError
from sealagent.files import sync_directory
from sealagent.uses import Operation

__all__ = [
    "Application",
    "CallersStore",
    "Statement",
    "drop_application",
    "drop_grant",
    "put_application",
    "put_grant",
]

APPLICATION_ID = 0x53654143  # "SeAC": marks the file for file(1) and for us
FORMAT_VERSION = 1
BUSY_SECONDS = 2.0
"""How long a foreign process that holds the database (a backup, a shell) may keep us waiting."""
MAX_ROWS = 1_000_000
"""Rows of one table that are read; the program never writes as many."""

T = TypeVar("T")

Statement = tuple[str, Sequence[Any]]
"""SQL and its values."""

_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # a damaged schema makes messages that are no UTF-8
_DAMAGED_VALUE = (AttributeError, LookupError, TypeError, ValueError)  # a value that is gone or of another type

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
CREATE TABLE application (id TEXT PRIMARY KEY, name TEXT NOT NULL, uid INTEGER NOT NULL, executable TEXT NOT NULL,
    sha256 TEXT NOT NULL, origin TEXT, token_sha256 BLOB NOT NULL UNIQUE, created TEXT NOT NULL, expires TEXT,
    last_used TEXT, revoked INTEGER NOT NULL CHECK (revoked IN (0, 1)), record INTEGER, digest BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE permission (id TEXT PRIMARY KEY, grantee TEXT NOT NULL,
    effect TEXT NOT NULL CHECK (effect IN ('allow', 'deny')), operation TEXT NOT NULL, seal TEXT, key TEXT,
    formats TEXT NOT NULL, remaining INTEGER CHECK (remaining >= 0), hours_start TEXT, hours_end TEXT, not_before TEXT,
    expires TEXT, created TEXT, record INTEGER, digest BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rule_use (name TEXT NOT NULL, day TEXT NOT NULL, used INTEGER NOT NULL CHECK (used > 0),
    digest BLOB NOT NULL, PRIMARY KEY (name, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE total (one INTEGER PRIMARY KEY CHECK (one = 1), applications INTEGER NOT NULL, permissions INTEGER NOT NULL
) STRICT;
INSERT INTO total VALUES (1, 0, 0);
"""  # noqa: S608 - numbers of our own
_COUNTED = (
    "UPDATE total SET applications = (SELECT count(*) FROM application), "
    "permissions = (SELECT count(*) FROM permission)"
)


@dataclass(frozen=True, slots=True)
class Application:
    """A paired application: who may present its token."""

    id: str
    name: str
    uid: int
    executable: str
    """Path of its program file."""
    sha256: str
    """Digest of that file, hexadecimal."""
    origin: str | None
    """Web origin or browser extension; None for a program of its own."""
    token_sha256: bytes = field(repr=False)
    """SHA-256 of the token; the token itself is nowhere."""
    created: datetime
    expires: datetime | None
    """None: never."""
    last_used: datetime | None = None
    revoked: bool = False
    record: int | None = None
    """Number of the entry of the record that says that it was to be paired."""

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        """Say whether its token counts."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "active"


class CallersStore:
    """The open file. Its methods block on the disk; they may be called from several threads.

    :raises SealAgentError: ``callers_damaged``; ``callers_failed`` (the file cannot be made or opened, or another
        process has it open).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not os.path.lexists(path):
                    self._create()
                self._recognise()
                path.chmod(0o600)
                self._database = self._connect(stack)
            except (OSError, sqlite3.OperationalError) as error:
                raise self._failed(f"cannot be opened: {error}") from error
            except _DAMAGE as error:
                raise self.damaged(str(error)) from error
            self._check()
            self._resources = stack.pop_all()

    def close(self) -> None:
        """Close the file and let others open it."""
        with self._lock:
            self._resources.close()

    def damaged(self, what: str) -> SealAgentError:
        """Return the error that says so."""
        return SealAgentError(
            "callers_damaged",
            f"the file of pairings and grants {self._path} is damaged: {what}. Nothing was changed",
            path=str(self._path),
        )

    def applications(self) -> list[Application]:
        """Return all applications, revoked ones too, oldest first. :raises SealAgentError: ``callers_damaged``."""
        return self._rows("application", "created, id", _application)

    def grants(self) -> list[Grant]:
        """Return all grants, oldest first. :raises SealAgentError: ``callers_damaged``."""
        return self._rows("permission", "created, id", _grant)

    def write(self, statements: Iterable[Statement], *, recount: bool = True) -> None:
        """Carry statements out durably, all or none.

        :param recount: False where no row comes or goes.
        :raises SealAgentError: ``callers_failed``; nothing was changed, as far as anybody can know.
        """
        with self._lock, self._transaction() as run:
            for sql, values in statements:
                run(sql, values)
            if recount:
                run(_COUNTED)

    def count_rule(self, name: str, day: date, limit: int, count: int) -> bool:
        """Add to the uses of a rule on a day, durably, unless they would be more than ``limit`` then.

        :returns: whether they were added. :raises SealAgentError: ``callers_failed``, ``callers_damaged``.
        """
        with self._lock:
            used = self._used(name, day) + count
            if used > limit:
                return False
            with self._transaction() as run:
                # Counts of other days are of no use, but a clock that is set back and forth must not start one anew.
                run("DELETE FROM rule_use WHERE day < ?", (date.fromordinal(max(1, day.toordinal() - 31)).isoformat(),))
                values = (name, day.isoformat(), used)
                run("INSERT OR REPLACE INTO rule_use VALUES (?, ?, ?, ?)", (*values, _digest(values)))
            return True

    def rule_uses(self, name: str, day: date) -> int:
        """Return how often a rule was used on a day.

        :raises SealAgentError: ``callers_failed``, ``callers_damaged``.
        """
        with self._lock:
            return self._used(name, day)

    def _used(self, name: str, day: date) -> int:
        try:
            found = self._database.execute(
                "SELECT name, day, used, digest FROM rule_use WHERE name = ? AND day = ?", (name, day.isoformat())
            ).fetchone()
        except sqlite3.ProgrammingError as error:
            raise self._failed("is closed") from error
        except sqlite3.OperationalError as error:
            raise self._failed(f"cannot be read: {error}") from error
        except _DAMAGE as error:
            raise self.damaged(str(error)) from error
        if found is None:
            return 0
        if _digest(found[:-1]) != found[-1]:
            raise self.damaged("a count of a rule is not what was written")
        return int(found[2])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            yield database.execute
            database.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            with contextlib.suppress(sqlite3.Error):
                if database.in_transaction:
                    database.execute("ROLLBACK")
            raise self._failed(f"cannot be written: {error}") from error

    def _rows(self, table: str, order: str, read: Callable[[tuple[Any, ...]], T]) -> list[T]:
        """Return what the rows say, each after a look at its digest."""
        try:
            with self._lock:
                rows = self._database.execute(
                    f"SELECT * FROM {table} ORDER BY {order} LIMIT {MAX_ROWS}"  # noqa: S608 - words of our own
                ).fetchall()
            if any(_digest(row[:-1]) != row[-1] for row in rows):
                raise ValueError(f"a row of {table} is not what was written")
            return [read(row[:-1]) for row in rows]
        except sqlite3.ProgrammingError as error:
            raise self._failed("is closed") from error
        except (*_DAMAGE, *_DAMAGED_VALUE) as error:
            raise self.damaged(str(error)) from error

    def _check(self) -> None:
        """Look at every page and row, so that damage is met at the start and not in the middle of a decision."""
        run = self._database.execute
        try:
            if run("PRAGMA user_version").fetchone() != (FORMAT_VERSION,):
                raise self.damaged("its format is of another version of this program")
            if (said := run("PRAGMA integrity_check(1)").fetchall()) != [("ok",)]:
                raise self.damaged(str(said[0][0]))
            counted = run("SELECT (SELECT count(*) FROM application), (SELECT count(*) FROM permission)").fetchone()
            if run("SELECT applications, permissions FROM total").fetchall() != [counted]:
                raise self.damaged("rows are missing")
            for row in run("SELECT * FROM rule_use").fetchall():
                if _digest(row[:-1]) != row[-1]:
                    raise self.damaged("a count of a rule is not what was written")
        except (*_DAMAGE, *_DAMAGED_VALUE) as error:
            raise self.damaged(str(error)) from error
        self.applications()
        self.grants()

    def _failed(self, what: str) -> SealAgentError:
        return SealAgentError("callers_failed", f"the file of pairings and grants {self._path} {what}")

    def _create(self) -> None:
        """Make the database under another name and move it into place whole, so that half of one is never found."""
        if self._neighbour("-wal").exists():
            raise self.damaged("its main file is gone while its -wal file is there")
        fresh = self._neighbour(".new")
        for leftover in (fresh, self._neighbour(".new-wal"), self._neighbour(".new-shm")):
            leftover.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        fresh.rename(self._path)
        sync_directory(self._path.parent)

    def _recognise(self) -> None:
        """Look at the file before SQLite does, which would write into an empty or a foreign one (file format 1.3)."""
        if self._path.is_symlink() or not self._path.is_file():
            raise self.damaged("it is no regular file")
        with self._path.open("rb") as file:
            header = file.read(100)
        if not header.startswith(b"SQLite format 3\0") or header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
            raise self.damaged("it is no file of this program's pairings and grants")

    def _neighbour(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _connect(self, stack: contextlib.ExitStack) -> sqlite3.Connection:
        database = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        stack.callback(database.close)
        # What was read once is kept in memory: nobody else may change the file meanwhile.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        if database.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise self.damaged("its journal mode cannot be set")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA trusted_schema = OFF")
        # Takes the lock now, not at the first change.
        database.execute("BEGIN IMMEDIATE")
        database.execute("COMMIT")
        return database


# Rows


def put_application(application: Application) -> Statement:
    """Return what writes an application, in the place of an earlier state of it."""
    values = (
        application.id,
        application.name,
        application.uid,
        application.executable,
        application.sha256,
        application.origin,
        application.token_sha256,
        _moment(application.created),
        _moment(application.expires),
        _moment(application.last_used),
        int(application.revoked),
        application.record,
    )
    return _put("application", values)


def put_grant(grant: Grant) -> Statement:
    """Return what writes a grant, in the place of an earlier state of it."""
    hours = grant.hours
    values = (
        grant.id,
        grant.grantee,
        grant.effect.value,
        grant.operation.value,
        grant.seal,
        grant.key,
        json.dumps(grant.formats),
        grant.remaining,
        hours.start.isoformat() if hours else None,
        hours.end.isoformat() if hours else None,
        _moment(grant.not_before),
        _moment(grant.expires),
        _moment(grant.created),
        grant.record,
    )
    return _put("permission", values)


def drop_grant(grant_id: str) -> Statement:
    """Return what removes a grant."""
    return "DELETE FROM permission WHERE id = ?", (grant_id,)


def drop_application(application_id: str) -> Statement:
    """Return what removes an application."""
    return "DELETE FROM application WHERE id = ?", (application_id,)


def _put(table: str, values: tuple[Any, ...]) -> Statement:
    marks = ", ".join("?" * (len(values) + 1))
    return f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*values, _digest(values))  # noqa: S608 - our own words


def _digest(values: Sequence[Any]) -> bytes:
    plain = [value.hex() if isinstance(value, bytes) else value for value in values]
    return hashlib.sha256(json.dumps(plain).encode()).digest()


def _application(row: tuple[Any, ...]) -> Application:
    id_, name, uid, executable, sha256, origin, token, created, expires, last_used, revoked, record = row
    return Application(
        id_,
        name,
        uid,
        executable,
        sha256,
        origin,
        token,
        datetime.fromisoformat(created),
        _read(expires),
        _read(last_used),
        bool(revoked),
        record,
    )


def _grant(row: tuple[Any, ...]) -> Grant:
    id_, grantee, effect, operation, seal, key, formats, remaining, start, end, not_before, expires, created, record = (
        row
    )
    return Grant(
        id_,
        grantee,
        Effect.DENY if effect == "deny" else Effect.ALLOW,
        Operation(operation),
        seal,
        key,
        tuple(json.loads(formats)),
        None,
        remaining,
        DailyHours(time.fromisoformat(start), time.fromisoformat(end)) if start is not None else None,
        _read(not_before),
        _read(expires),
        _read(created),
        record,
    )


def _moment(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None


def _read(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
