"""One prompt at a time, and only so many that wait for their turn."""

from __future__ import annotations

import asyncio
from types import TracebackType

from sealagent.errors import SealAgentError

__all__ = ["MAX_WAITING", "Turn"]

MAX_WAITING = 8
"""Prompts that wait behind the one that is shown. A person answers one at a time; a program that asks without end is
told so, instead of leaving the holder a heap of dialogs."""


class Turn:
    """An asynchronous context: whoever is in it may show something to the holder; the others wait, in order.

    One whose wait is cancelled is gone from the line and shows nothing.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def __aenter__(self) -> None:
        """:raises SealAgentError: ``too_many_prompts``."""
        if self._waiting >= MAX_WAITING:
            raise SealAgentError("too_many_prompts", f"{self._waiting} prompts already wait for the holder")
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
