"""The register of a production-management unit: append-only, one entry an event, on the same ledger as the agent's.

An entry says what happened to which seal, who did it, at whose wish, when and why. What a device does (a seal is made,
a list is signed) has an intent before it. The present state of every seal is in an index beside the ledger; opening
the register gives interrupted intents their outcome, catches the index up, and finishes what a crash left of files.

One process at a time has the register open, for as long as one command takes.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sealagent.clock import Clock
from sealagent.errors import SealAgentError
from sealagent.maker.archive import Archive
from sealagent.maker.index import ApplicationRow, Index, SealRow
from sealagent.maker.states import Asker, Change, allowed, check_change
from sealagent.records.entry import encode_body, make_entry
from sealagent.records.ledger import Entry, EntryKind, Ledger
from sealagent.records.view import RecordView
from sealagent.signing.recording import Recorder, what_went_wrong
from sealagent.verdict import timestamp

__all__ = ["LOCK_SECONDS", "MAX_CHANGES", "Places", "Register", "Said", "Who", "opened_register"]

LOCK_SECONDS = 60.0
"""How long a command waits for another one that has the register open."""
_LOOK_SECONDS = 0.05
MAX_CHANGES = 58
"""Changes of one seal after which it is not suspended any more, only ended: answers about it may hold 64 states."""
MAX_TEXT = 500
"""Characters of what an operator writes to a change."""
INTERRUPTED = "the maker ended before the outcome was recorded; nothing was released"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a register is kept."""

    state_dir: Path

    @property
    def record(self) -> Path:
        return self.state_dir / "register.sqlite"

    @property
    def index(self) -> Path:
        return self.state_dir / "index.sqlite"

    @property
    def archive(self) -> Path:
        return self.state_dir / "archive"

    @property
    def published(self) -> Path:
        """What was signed for others to fetch: the status list."""
        return self.state_dir / "published"


@dataclass(frozen=True, slots=True)
class Who:
    """The person who works the maker."""

    operator: str
    """As they are named."""
    uid: int

    @classmethod
    def here(cls, operator: str) -> Who:
        """Return an operator with the uid of this process.

        :raises SealAgentError: ``operator_missing``: nobody is named, or the name is no name.
        """
        name = operator.strip()
        if not name or len(name) > 100 or not name.isprintable():
            raise SealAgentError("operator_missing", "the register names who does what: give the operator's name")
        return cls(name, os.getuid())

    def as_json(self) -> dict[str, Any]:
        return {"operator": self.operator, "uid": self.uid}


@dataclass(frozen=True, slots=True)
class Said:
    """What stands behind a change."""

    who: Who
    asked_by: Asker = Asker.UNIT
    reason: str = ""
    """A code of the change's rule."""
    text: str = ""
    """In words: a letter's number, a name."""

    def as_json(self) -> dict[str, Any]:
        if len(self.text) > MAX_TEXT or not self.text.isprintable():
            raise SealAgentError("register_text_invalid", f"a text has up to {MAX_TEXT} printable characters")
        return {
            "who": self.who.as_json(),
            "asked_by": str(self.asked_by),
            "reason": self.reason,
            "text": self.text,
        }


class Register:
    """An open register; :func:`opened_register` opens it."""

    def __init__(self, places: Places, ledger: Ledger, index: Index, clock: Clock) -> None:
        self.places = places
        self.index = index
        self.archive = Archive(places.archive)
        self._ledger = ledger
        self._clock = clock
        self._view = RecordView(places.record)

    # What there is

    def seal(self, name: str) -> SealRow:
        """Return the one seal a name means. :raises SealAgentError: ``seal_not_registered``, ``seal_ambiguous``."""
        return only_seal(self.index, name)

    def application(self, number: int) -> tuple[ApplicationRow, dict[str, Any]]:
        """Return an application as it is now, and as it was recorded.

        :raises SealAgentError: ``application_unknown``.
        """
        row = self.index.application(number)
        if row is None:
            raise SealAgentError("application_unknown", f"the register has no application {number}")
        return row, dict(self._entry(number).body["application"])  # type: ignore[arg-type]

    def made(self, row: SealRow) -> dict[str, Any]:
        """Return what the entry ``made`` says of a seal: its filing record."""
        return dict(self._entry(row.made).body["seal"])  # type: ignore[arg-type]

    def now(self) -> datetime:
        """Return the present moment in whole seconds."""
        return self._clock().astimezone(UTC).replace(microsecond=0)

    # What happens

    async def change(self, name: str, change: Change, said: Said, **facts: Any) -> SealRow:
        """Change the state of a seal; it takes effect now.

        :param facts: further public facts for the entry.
        :raises SealAgentError: ``register_transition_refused``, ``register_reason_invalid``,
            ``register_asker_invalid``, ``seal_not_registered``, ``seal_ambiguous``, ``record_failed``.
        """
        row = self.seal(name)
        body = self.change_body(row, change, said, **facts)
        try:
            self.check(row, change, said)
        except SealAgentError as error:
            await self.refused(body, error)
            raise
        await self.record(body)
        found = self.index.seal(row.sm3)
        assert found is not None
        return found

    def check(self, row: SealRow, change: Change, said: Said) -> None:
        """Let only a change pass that is allowed now; raises as :meth:`change`."""
        check_change(row.state, change, said.reason, said.asked_by, seal=f"seal {row.es_id}")
        if row.changes >= MAX_CHANGES and change is Change.SUSPENDED:
            ends = [str(each) for each in allowed(row.state) if each is not Change.SUSPENDED]
            message = f"seal {row.es_id} was changed {row.changes} times; it may only be {', '.join(ends)}"
            raise SealAgentError("register_transition_refused", message, state=str(row.state), allowed=ends)

    def change_body(self, row: SealRow, change: Change, said: Said, **facts: Any) -> dict[str, Any]:
        """Return the body of the entry for a change."""
        return {
            "event": str(change),
            "seal": {"sm3": row.sm3, "es_id": row.es_id, "name": row.name},
            "since": self.since(row),
            **said.as_json(),
            **facts,
        }

    def since(self, row: SealRow | None = None) -> str:
        """Return now, or the seal's last change if a clock that was set back lies before it."""
        return str(timestamp(max(self.now(), row.since) if row else self.now()))

    async def record(self, body: Mapping[str, Any], intent: Entry | None = None) -> Entry:
        """Put an event on record, and take it into the index.

        :param intent: what it brings to its end.
        :raises SealAgentError: ``record_failed``; ``register_damaged``: it does not follow from what is on record. Then
            nothing is recorded: an entry that the index cannot take in would stand in the way for ever.
        """
        whole = {"intent": intent.number, **body} if intent is not None else body
        octets, _ = encode_body(EntryKind.ADMIN, whole)
        size = self._ledger.head().size
        self.index.rehearse(make_entry(size + 1, self._clock(), EntryKind.ADMIN, "", octets))
        entry = await self._ledger.append(EntryKind.ADMIN, whole)
        self._follow()
        return entry

    @asynccontextmanager
    async def intended(self, body: Mapping[str, Any]) -> AsyncIterator[Entry]:
        """Put on record what a device is about to be asked for; the block puts its outcome there (:meth:`record`).

        A block that raises is on record as failed.
        """
        entry = await self._ledger.append(EntryKind.INTENT, body)
        self._follow()
        try:
            yield entry
        except BaseException as error:
            wrong = {"intent": entry.number, **what_went_wrong(error)}
            await asyncio.shield(self._ledger.append(EntryKind.FAILED, wrong))
            self._follow()
            raise

    async def refused(self, body: Mapping[str, Any], error: SealAgentError) -> None:
        """Put on record that something was asked for and turned down. :raises SealAgentError: ``record_failed``."""
        await self._ledger.append(EntryKind.REFUSED, {**body, **what_went_wrong(error)})
        self._follow()

    # The ledger itself

    @property
    def ledger(self) -> Ledger:
        """For export and checks; entries are made by the methods above only."""
        return self._ledger

    def index_matches(self) -> str | None:
        """Replay the whole ledger and compare; return the name of the first table that differs. Blocking and O(n)."""
        fresh = Index(None)
        try:
            fresh.follow(self._view.origin, ((entry, self._view.leaf(entry)) for entry in self._view.entries(0)))
            return self.index.difference(fresh)
        finally:
            fresh.close()

    def close(self) -> None:
        """Let others open it."""
        self.release()
        self._ledger.close()

    def release(self) -> None:
        """Close all but the ledger."""
        self._view.close()
        self.index.close()

    def catch_up(self) -> None:
        """Bring the index to the end of the ledger; make it anew if it is not of this one."""
        position = self.index.position()
        if not self._is_followed(position.origin, position.applied, position.leaf):
            self.index.rebuild(self._view.origin, ((entry, self._view.leaf(entry)) for entry in self._view.entries(0)))
        else:
            self._follow()

    def _is_followed(self, origin: str, applied: int, leaf: str) -> bool:
        if applied == 0:
            return origin in ("", self._view.origin)
        if origin != self._view.origin or applied > self._view.size():
            return False
        return self._view.leaf(self._view.entry(applied)) == leaf

    def _follow(self) -> None:
        applied = self.index.position().applied
        self.index.follow(self._view.origin, ((entry, self._view.leaf(entry)) for entry in self._view.entries(applied)))

    def _entry(self, number: int) -> Entry:
        return self._view.entry(number)


def only_seal(index: Index, name: str) -> SealRow:
    """Return the one seal a name means. :raises SealAgentError: ``seal_not_registered``, ``seal_ambiguous``."""
    found = index.find(name)
    if len(found) > 1:
        # One name, several seals: of those that took each other's place the present one is meant.
        present = [row for row in found if not row.superseded_by]
        found = present if len(present) == 1 else found
    if not found:
        raise SealAgentError("seal_not_registered", f"the register has no seal {name[:100]!r}")
    if len(found) > 1:
        raise SealAgentError("seal_ambiguous", f"{len(found)} seals are named {name[:100]!r}; use esID or SM3")
    return found[0]


@asynccontextmanager
async def opened_register(
    places: Places,
    clock: Clock,
    *,
    create: bool = False,
    tree_hash: str | None = None,
    max_bytes: int | None = None,
    wait: float = LOCK_SECONDS,
) -> AsyncIterator[Register]:
    """Open the register for one command.

    :param create: make it where there is none.
    :param wait: seconds to wait for another process that has it open.
    :raises SealAgentError: ``register_missing``, ``register_in_use``, ``register_damaged``, ``register_index_failed``,
        and those of :meth:`sealagent.records.ledger.Ledger.open`.
    """
    if not create and not places.record.is_file():
        raise SealAgentError("register_missing", f"there is no register in {places.state_dir}")

    def open_ledger() -> Ledger:
        return Ledger.open(places.record, clock, tree_hash=tree_hash, max_bytes=max_bytes)

    ledger = await _in_turn(open_ledger, wait)
    try:
        await Recorder(ledger).settle("interrupted", INTERRUPTED)
        register = _caught_up(places, ledger, clock)
        try:
            register.archive.tidy(lambda name: register.index.seal(name) is not None)
            yield register
        finally:
            register.close()
    finally:
        ledger.close()


async def _in_turn(open_ledger: Callable[[], Ledger], wait: float) -> Ledger:
    deadline = time.monotonic() + wait
    while True:
        try:
            return open_ledger()
        except SealAgentError as error:
            if error.code != "record_in_use":
                raise
            if time.monotonic() >= deadline:
                raise SealAgentError(
                    "register_in_use", f"another command has had the register open for {wait:.0f} s"
                ) from error
        await asyncio.sleep(_LOOK_SECONDS)


def _caught_up(places: Places, ledger: Ledger, clock: Clock) -> Register:
    """Open the index and bring it up to date; one that cannot be read is made anew: the ledger has everything."""
    for last in (False, True):
        try:
            register = Register(places, ledger, Index(places.index, create=True), clock)
            try:
                register.catch_up()
            except BaseException:
                register.release()
                raise
            return register
        except SealAgentError as error:
            broken = isinstance(error.__cause__, sqlite3.DatabaseError)
            if last or not broken or isinstance(error.__cause__, sqlite3.OperationalError):
                raise
        for suffix in ("", "-wal", "-shm"):
            places.index.with_name(places.index.name + suffix).unlink(missing_ok=True)
    raise AssertionError
