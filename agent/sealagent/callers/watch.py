"""Notices the end of a caller, so that a prompt on its behalf does not stay open."""

from __future__ import annotations

import asyncio
import os

from sealagent.callers.peer import Caller
from sealagent.callers.processes import look_at

__all__ = ["ended"]

LOOK_SECONDS = 0.5
"""Between two looks where the kernel gives no pidfd."""


async def ended(caller: Caller) -> None:
    """Return when the caller's process has ended; never, where the kernel does not say which process it is.

    May be cancelled at any time; leaves nothing behind.
    """
    if caller.pid <= 0:
        await asyncio.get_running_loop().create_future()
    try:
        pidfd = os.pidfd_open(caller.pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):  # an old kernel, a system call filter, no descriptor left, another system
        await _look_until_ended(caller)
        return
    try:
        # Only now does the number stand for this one process, and it may be a later one.
        if not _runs(caller):
            return
        await _readable(pidfd)
    finally:
        os.close(pidfd)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    seen: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not seen.done():
            seen.set_result(None)

    loop.add_reader(descriptor, note)
    try:
        await seen
    finally:
        loop.remove_reader(descriptor)


async def _look_until_ended(caller: Caller) -> None:
    while _runs(caller):  # noqa: ASYNC110 (nothing tells of it: that is why we look)
        await asyncio.sleep(LOOK_SECONDS)


def _runs(caller: Caller) -> bool:
    seen = look_at(caller.pid)
    return seen is not None and not seen.ended and seen.started == caller.started
