"""Prompts that end with what they are for: with the agent, and with the process that asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from sealagent.callers.peer import Caller
from sealagent.consent.prompter import RequestingProgram
from sealagent.errors import SealAgentError

__all__ = ["Gone", "Prompts", "asking_nobody"]

log = logging.getLogger(__name__)

Gone = Callable[[Caller], Awaitable[None]]
"""Returns when a caller's process has ended."""


async def _never(caller: Caller) -> None:
    await asyncio.Event().wait()


_may_ask: ContextVar[bool] = ContextVar("may_ask", default=True)


@contextmanager
def asking_nobody() -> Iterator[None]:
    """Let nothing that this task does within the block ask the holder: it ends with ``prompt_not_now`` instead.

    For work of which much is under way at once. Behind a prompt no second one may stand, or a PIN that was wrong would
    be asked for again before anybody has taken note of it.
    """
    before = _may_ask.set(False)
    try:
        yield
    finally:
        _may_ask.reset(before)


class Prompts:
    """The prompts that are open.

    :param gone: tells of the end of a caller; by default nobody does.
    """

    def __init__(self, gone: Gone = _never) -> None:
        self._gone = gone
        self._open: set[asyncio.Timeout] = set()
        self._closed = False

    def close(self) -> None:
        """End every prompt, and let none begin."""
        self._closed = True
        for limit in self._open:
            _expire(limit)

    @asynccontextmanager
    async def open(self, caller: RequestingProgram | None) -> AsyncIterator[None]:
        """Run a block that waits for the holder.

        :raises SealAgentError: ``agent_stopping``: the agent ends; ``caller_gone``: nobody waits for the answer;
            ``prompt_not_now``: whoever does this promised to ask nobody (:func:`asking_nobody`).
        """
        if not _may_ask.get():
            raise SealAgentError("prompt_not_now", "the holder would have to be asked, which one at a time may do")
        if self._closed:
            raise _stopping()
        watching: asyncio.Task[None] | None = None
        left = False
        limit = asyncio.timeout(None)

        async def watch(caller: Caller) -> None:
            nonlocal left
            try:
                await self._gone(caller)
            except Exception:
                log.exception("process %d cannot be watched", caller.pid)
                return
            left = True
            _expire(limit)

        try:
            async with limit:
                self._open.add(limit)
                if isinstance(caller, Caller):
                    watching = asyncio.create_task(watch(caller))
                try:
                    yield
                finally:
                    self._open.discard(limit)
                    if watching is not None:
                        watching.cancel()
        except TimeoutError:
            if not limit.expired():
                raise
            if left and not self._closed:
                raise SealAgentError("caller_gone", "the program that asked has ended") from None
            raise _stopping() from None


def _expire(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(0)


def _stopping() -> SealAgentError:
    return SealAgentError("agent_stopping", "the agent is being stopped")
