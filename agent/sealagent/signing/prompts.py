"""Prompts that end with what they are for: with the agent, and with the process that asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from sealagent.callers.peer import Caller
from sealagent.consent.prompter import RequestingProgram
from sealagent.errors import SealAgentError

__all__ = ["Gone", "Patience", "Prompts", "asking_nobody"]

log = logging.getLogger(__name__)

MAX_REFUSALS = 5
"""Refusals, closed windows and prompts nobody answered, after which a program is not put before the holder any more."""
REFUSAL_SECONDS = 60.0
"""Seconds that a refusal counts."""
MAX_CALLERS = 1024
"""Programs whose refusals are remembered."""

_REFUSED = frozenset({"pin_cancelled", "prompt_timeout", "consent_refused"})

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


class Patience:
    """How often a caller may have the holder asked who refuses.

    A program that asks again and again until somebody agrees must not win. A yes does not restore it: a program could
    ask for something harmless in between.

    :param now: seconds, of any origin.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._refusals: dict[str, list[float]] = {}

    def require(self, caller: RequestingProgram | None) -> None:
        """Have a caller be one that may ask. :raises SealAgentError: ``asked_too_often``."""
        if caller is not None and len(self._recent(_who(caller))) >= MAX_REFUSALS:
            message = f"the holder refused this program {MAX_REFUSALS} times within {REFUSAL_SECONDS:.0f} s"
            raise SealAgentError("asked_too_often", message, wait_seconds=REFUSAL_SECONDS)

    def lose(self, caller: RequestingProgram | None) -> None:
        """Take note of a refusal."""
        if caller is None:
            return
        who = _who(caller)
        recent = [*self._recent(who), self._now()][-MAX_REFUSALS:]
        self._refusals.pop(who, None)
        while len(self._refusals) >= MAX_CALLERS:
            self._refusals.pop(next(iter(self._refusals)))
        self._refusals[who] = recent

    def _recent(self, who: str) -> list[float]:
        since = self._now() - REFUSAL_SECONDS
        return [moment for moment in self._refusals.get(who, ()) if moment > since]


def _who(caller: RequestingProgram) -> str:
    """Name a caller so that it is the same after it was started anew."""
    if isinstance(caller, Caller) and caller.application is not None:
        return caller.application.id
    return f"{caller.origin or ''} {caller.executable or caller.pid}"


class Prompts:
    """The prompts that are open.

    :param gone: tells of the end of a caller; by default nobody does.
    """

    def __init__(self, gone: Gone = _never) -> None:
        self._patience = Patience()
        self._gone = gone
        self._open: set[asyncio.Timeout] = set()
        self._closed = False

    def refused(self, caller: RequestingProgram | None) -> None:
        """Take note that the holder did not agree to what a caller asked for."""
        self._patience.lose(caller)

    def close(self) -> None:
        """End every prompt, and let none begin."""
        self._closed = True
        for limit in self._open:
            _expire(limit)

    @asynccontextmanager
    async def open(self, caller: RequestingProgram | None) -> AsyncIterator[None]:
        """Run a block that waits for the holder.

        :raises SealAgentError: ``agent_stopping``: the agent ends; ``caller_gone``: nobody waits for the answer;
            ``prompt_not_now``: whoever does this promised to ask nobody (:func:`asking_nobody`); ``asked_too_often``:
            the holder refused this caller again and again.
        """
        if not _may_ask.get():
            raise SealAgentError("prompt_not_now", "the holder would have to be asked, which one at a time may do")
        if self._closed:
            raise _stopping()
        self._patience.require(caller)
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
        except SealAgentError as error:
            if error.code in _REFUSED:
                self.refused(caller)
            raise
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
