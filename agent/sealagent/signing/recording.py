"""What goes on record of signatures and administrative acts: refusals, intents, and for each intent one outcome,
whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

from sealagent.callers.peer import Caller
from sealagent.errors import SealAgentError
from sealagent.records.entry import MAX_INTEGER
from sealagent.records.ledger import Entry, EntryKind, Kept, Ledger
from sealdrivers.errors import DriverError

__all__ = ["NOTHING_RELEASED", "Recorder", "recordable", "what_went_wrong"]

MAX_TEXT = 1024
"""Octets (as JSON) of a text on record: names that callers, seals and file systems choose have no such bound."""

MAX_LISTED_TEXT = 256
"""Octets of a text within a list, such as the reasons against a seal."""

MAX_ITEMS = 8
"""Items of a list on record."""

NOTHING_RELEASED = "no signature was released; an administrative act may or may not have been done"
"""What is known of an intent whose outcome was not recorded."""

_WHOLE = frozenset({"property_info"})  # it is what was signed; the API bounds it


class Recorder:
    """Writes the entries of the signing line and of administrative acts.

    There is one for a ledger: it knows which intents somebody works on.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._under_way: set[int] = set()
        self._owing = False

    async def refused(self, caller: Caller, facts: Mapping[str, Any], error: BaseException) -> Entry:
        """Record that a request was turned down. :raises SealAgentError: ``record_failed``."""
        body = {"caller": caller.as_json(), **facts, **what_went_wrong(error)}
        return await self._ledger.append(EntryKind.REFUSED, recordable(body))

    async def intent(self, caller: Caller, facts: Mapping[str, Any]) -> Entry:
        """Record an intent and return once it is durable; then one of :meth:`signed`, :meth:`done` and :meth:`failed`
        must follow.

        Should the wait be cancelled, the intent has its outcome already.

        :raises SealAgentError: ``record_failed``. :raises LimitExceeded: ``record_body_too_large``.
        """
        if self._owing:
            await self.settle("record_failed", f"its outcome could not be recorded when it was due; {NOTHING_RELEASED}")
        writing = self._ledger.submit(EntryKind.INTENT, recordable({"caller": caller.as_json(), **facts}))
        try:
            entry = await asyncio.shield(writing)
        except asyncio.CancelledError as error:
            with contextlib.suppress(SealAgentError):
                await self.failed(await writing, error)
            raise
        self._under_way.add(entry.number)
        return entry

    async def signed(self, intent: Entry, facts: Mapping[str, Any], keep: Kept | None = None) -> Entry:
        """Record that a signature was made; only then may it be released.

        :param keep: the signature, kept in the same step, so that a retry gets it and none is made twice.
        :raises SealAgentError: ``record_failed``.
        """
        return await self._outcome(EntryKind.SIGNED, intent, facts, keep)

    async def done(self, caller: Caller, intent: Entry | None, facts: Mapping[str, Any]) -> Entry:
        """Record that an administrative act was done. :raises SealAgentError: ``record_failed``."""
        body = {"caller": caller.as_json(), **facts}
        if intent is None:
            return await self._ledger.append(EntryKind.ADMIN, recordable(body))
        return await self._outcome(EntryKind.ADMIN, intent, body)

    async def failed(self, intent: Entry, error: BaseException) -> Entry:
        """Record why an intent came to nothing. :raises SealAgentError: ``record_failed``."""
        return await self._outcome(EntryKind.FAILED, intent, what_went_wrong(error))

    async def settle(self, reason: str, detail: str) -> int:
        """Give every intent that nobody works on, and that has no outcome, its ``failed``; return how many there were.

        :raises SealAgentError: ``record_failed``, ``record_damaged``.
        """
        self._owing = False
        left = [entry.number for entry in self._ledger.open_intents() if entry.number not in self._under_way]
        for number in left:
            try:
                await self._ledger.append(EntryKind.FAILED, {"intent": number, "reason": reason, "detail": detail})
            except BaseException as error:
                if isinstance(error, SealAgentError) and error.code == "record_intent_not_open":
                    continue  # its outcome was on the way after all
                self._owing = True
                raise
        return len(left)

    async def _outcome(
        self, kind: EntryKind, intent: Entry, facts: Mapping[str, Any], keep: Kept | None = None
    ) -> Entry:
        try:
            return await self._ledger.append(kind, recordable({"intent": intent.number, **facts}), keep=keep)
        except BaseException:
            self._owing = True
            raise
        finally:
            self._under_way.discard(intent.number)


def what_went_wrong(error: BaseException) -> dict[str, Any]:
    """Return reason and detail of an error for the record; of an unforeseen one only its kind, since it may quote."""
    match error:
        case SealAgentError():
            reasons = {"reasons": error.facts["reasons"]} if "reasons" in error.facts else {}
            return {"reason": error.code, "detail": error.message, **reasons}
        case DriverError():
            return {"reason": error.code, "detail": error.message, **error.facts()}
        case asyncio.CancelledError():
            return {"reason": "cancelled", "detail": "the agent was stopped"}
    return {"reason": "internal_error", "detail": type(error).__name__}


def recordable(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body that fits the record: long texts without their middle, long lists without their end."""
    return {name: value if name in _WHOLE else _fitting(value, MAX_TEXT) for name, value in body.items()}


def _fitting(value: Any, octets: int) -> Any:
    if isinstance(value, str):
        return _shortened(value, octets)
    if isinstance(value, Mapping):
        return {name: _fitting(item, octets) for name, item in value.items()}
    if isinstance(value, list | tuple):
        kept = [_fitting(item, MAX_LISTED_TEXT) for item in value[:MAX_ITEMS]]
        return [*kept, f"… {len(value) - MAX_ITEMS} more"] if len(value) > MAX_ITEMS else kept
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return hex(value)  # a module's return value may have 64 bits
    return value


def _shortened(text: str, octets: int) -> str:
    if len(text) * 6 <= octets or len(json.dumps(text, ensure_ascii=False).encode(errors="replace")) - 2 <= octets:
        return text
    half = octets // 12  # no character takes more than six octets
    return f"{text[:half]}…{text[-half:]}"
