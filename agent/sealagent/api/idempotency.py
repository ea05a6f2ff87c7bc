"""Safe retries: the same ``Idempotency-Key`` with the same request gives the same answer, and signs only once.

Answers are remembered in memory. What was signed under a key is kept with the record as well, so that a key holds over
a restart: another request under it is a conflict then, too, and the same one reaches the signing line, which finds its
signatures there and makes none (:class:`sealagent.signing.performing.Once`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO

from sealagent.errors import FormatError, SealAgentError

__all__ = ["Answer", "Before", "IdempotencyCache", "fingerprint"]

MAX_KEY = 128
"""Characters of a key."""
MAX_KEPT = 4096
"""Keys remembered; the oldest are forgotten."""
MAX_KEPT_OCTETS = 64 << 20
"""Octets of answers kept; beyond it the oldest answers are dropped while their keys stay known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer; one held in ``body`` can be given again, one in ``file`` only once."""

    body: bytes
    media_type: str
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200
    file: BinaryIO | None = None
    """The body when it is too large to keep in memory, at its beginning; whoever sends it closes it."""

    @property
    def size(self) -> int:
        """Octets it takes in memory, about."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


def fingerprint(*parts: bytes) -> bytes:
    """Return a digest that stands for a request (its length-prefixed parts)."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


@dataclass(frozen=True, slots=True)
class Before:
    """What was signed under a key, and is kept with the record."""

    request: bytes
    """Digest of the request it was signed for."""
    item: int
    """The first item that is kept; they are forgotten in their order, so that after item 0 some are missing."""


Known = Callable[[str, str], Before | None]
"""Says what is kept for an owner under a key. It blocks."""


def _nothing(owner: str, key: str) -> None:
    """Know of nothing."""


@dataclass(slots=True)
class _Kept:
    request: bytes
    running: asyncio.Future[Answer] | None
    answer: Answer | None = None


class IdempotencyCache:
    """Remembers answers by owner and key, in memory and bounded.

    :param known: looks beyond it, at what is kept with the record.
    """

    def __init__(self, known: Known = _nothing) -> None:
        self._known = known
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._octets = 0

    async def run(self, owner: str, key: str | None, request: bytes, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Do the work once for this owner, key and request.

        A failed attempt is not remembered: it may be tried again with the same key. After a restart the work is done
        again; what it signs under the key is found with the record then.

        :param owner: whose the answer is (:func:`sealagent.signing.owners.owner_of`).
        :param request: digest of the whole request, 32 octets.
        :raises SealAgentError: ``idempotency_conflict``, ``idempotency_result_gone``.
        :raises FormatError: ``request_invalid`` for a malformed key.
        """
        if key is None:
            return await work()
        if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
            raise FormatError("request_invalid", f"Idempotency-Key must be 1 to {MAX_KEY} printable ASCII characters")
        kept = self._kept.get((owner, key))
        if kept is not None:
            return await self._again(kept, owner, key, request, work)
        kept = _Kept(request, asyncio.get_running_loop().create_future())
        self._kept[(owner, key)] = kept
        assert kept.running is not None
        try:
            await self._signed_before(owner, key, request)
            answer = await work()
        except BaseException as error:
            self._kept.pop((owner, key), None)
            kept.running.set_exception(
                error if isinstance(error, Exception) else SealAgentError("internal_error", "the request was stopped")
            )
            kept.running.exception()  # nobody may be waiting: mark it as seen
            raise
        kept.running.set_result(answer)
        kept.running = None
        if answer.file is None:
            kept.answer = answer
            self._octets += answer.size
        if len(self._kept) > MAX_KEPT or self._octets > MAX_KEPT_OCTETS:
            self._shrink()
        return answer

    async def _signed_before(self, owner: str, key: str, request: bytes) -> bool:
        """Say whether something was signed for this request, and can be given again."""
        before = await asyncio.to_thread(self._known, owner, key)
        if before is None:
            return False
        if before.request != request:
            raise _conflict()
        if before.item:
            raise _gone()
        return True

    async def _again(
        self, kept: _Kept, owner: str, key: str, request: bytes, work: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        if kept.request != request:
            raise _conflict()
        if kept.running is not None:
            answer = await asyncio.shield(kept.running)
            if answer.file is None:
                return answer
        if kept.answer is not None:
            return kept.answer
        # Too large to be remembered: its signatures may still be there, and the answer is made around them once more.
        if await self._signed_before(owner, key, request):
            return await work()
        raise _gone()

    def _shrink(self) -> None:
        """Forget the oldest that are done; what runs stays known, or its retry would sign again."""
        done = [(name, kept) for name, kept in self._kept.items() if kept.running is None]
        for name, kept in done[: max(0, len(self._kept) - MAX_KEPT)]:
            del self._kept[name]
            self._drop(kept)
        for _, kept in done:
            if self._octets <= MAX_KEPT_OCTETS:
                break
            self._drop(kept)

    def _drop(self, kept: _Kept) -> None:
        if kept.answer is not None:
            self._octets -= kept.answer.size
            kept.answer = None


def _conflict() -> SealAgentError:
    return SealAgentError("idempotency_conflict", "this Idempotency-Key belongs to another request")


def _gone() -> SealAgentError:
    return SealAgentError("idempotency_result_gone", "the answer to this Idempotency-Key is no longer kept")
