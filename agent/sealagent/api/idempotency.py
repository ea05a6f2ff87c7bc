"""Safe retries: the same ``Idempotency-Key`` with the same request gives the same answer, and signs only once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO

from sealagent.errors import FormatError, SealAgentError

__all__ = ["Answer", "IdempotencyCache", "fingerprint"]

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


@dataclass(slots=True)
class _Kept:
    request: bytes
    running: asyncio.Future[Answer] | None
    answer: Answer | None = None


class IdempotencyCache:
    """Remembers answers by caller and key, in memory and bounded."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, str], _Kept] = OrderedDict()
        self._octets = 0

    async def run(self, uid: int, key: str | None, request: bytes, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Do the work once for this caller, key and request.

        A failed attempt is not remembered: it may be tried again with the same key.

        :raises SealAgentError: ``idempotency_conflict``, ``idempotency_result_gone``.
        :raises FormatError: ``request_invalid`` for a malformed key.
        """
        if key is None:
            return await work()
        if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
            raise FormatError("request_invalid", f"Idempotency-Key must be 1 to {MAX_KEY} printable ASCII characters")
        kept = self._kept.get((uid, key))
        if kept is not None:
            return await self._again(kept, request)
        kept = _Kept(request, asyncio.get_running_loop().create_future())
        self._kept[(uid, key)] = kept
        assert kept.running is not None
        try:
            answer = await work()
        except BaseException as error:
            self._kept.pop((uid, key), None)
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

    @staticmethod
    async def _again(kept: _Kept, request: bytes) -> Answer:
        if kept.request != request:
            raise SealAgentError("idempotency_conflict", "this Idempotency-Key belongs to another request")
        if kept.running is not None:
            answer = await asyncio.shield(kept.running)
            if answer.file is None:
                return answer
        if kept.answer is None:
            raise SealAgentError("idempotency_result_gone", "the answer to this Idempotency-Key is no longer kept")
        return kept.answer

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
