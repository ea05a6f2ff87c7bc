"""Which program a caller runs, to the last octet, and which program started it.

The digest is that of the file which runs, read through ``/proc/PID/exe``, wherever its path leads meanwhile. Reading a
browser's 200 MB takes a moment, so a digest is kept as long as the file is the same (its inode and times are).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias

from sealagent.callers.peer import Caller, require_running
from sealagent.callers.processes import program_of
from sealagent.errors import SealAgentError

__all__ = ["MAX_PROGRAM", "Programs", "parent_of"]

log = logging.getLogger(__name__)

MAX_PROGRAM = 1 << 30
"""Octets of a program file that are read; the largest single-file programs have some 300 MB."""
DIGEST_SECONDS = 20.0
"""A request waits so long for the digest of a program: a GiB from a slow disk, not a file system that hangs."""
MAX_KEPT = 256
"""Digests kept; a desktop has some tens of programs that seal."""
MAX_PENDING = 8
"""Files being read or waiting to be: their descriptors are open meanwhile."""
THREADS = 2
"""Threads of its own: a file system that hangs must not hold up what else works in threads."""
_PIECE = 1 << 18

FileState: TypeAlias = tuple[int, int, int, int, int]
"""Device, inode, octets, times of the last change of the content and of the inode in nanoseconds."""


class Programs:
    """Digests of running programs."""

    def __init__(self, *, limit: int = MAX_PROGRAM, seconds: float = DIGEST_SECONDS) -> None:
        self._limit = limit
        self._seconds = seconds
        self._kept: OrderedDict[FileState, str] = OrderedDict()
        self._reading: dict[FileState, asyncio.Future[str | None]] = {}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="program-digest")

    def close(self) -> None:
        """Read nothing any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def described(self, caller: Caller) -> Caller:
        """Return the caller with ``sha256`` and ``parent`` as far as they can be known, both of this moment.

        :raises SealAgentError: ``caller_changed``, ``caller_gone``: it is not the process that connected any more.
        """
        if caller.pid <= 0 or caller.started is None:
            return caller
        sha256 = await self._digest(caller)
        return replace(caller, sha256=sha256, parent=parent_of(caller))

    async def _digest(self, caller: Caller) -> str | None:
        try:
            descriptor = os.open(f"/proc/{caller.pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            require_running(caller)
            return None
        try:
            # Whoever has the pid now had it when the file was opened: had it been another, the start would differ.
            require_running(caller)
            state = _state(descriptor)
            if caller.program is not None and state[:2] != caller.program:
                raise SealAgentError(
                    "caller_changed", f"process {caller.pid} runs another program than when it connected"
                )
            if (kept := self._kept.get(state)) is not None:
                self._kept.move_to_end(state)
                return kept
            reading = self._reading.get(state)
            if reading is None:
                if state[2] > self._limit or len(self._reading) >= MAX_PENDING:
                    log.warning("the program of process %d is not read: too large, or too many at once", caller.pid)
                    return None
                reading = self._start(descriptor, state)
                descriptor = -1  # the thread closes it
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(reading)  # others wait for it, too
        except TimeoutError:
            log.warning("the program of process %d could not be read within %s s", caller.pid, self._seconds)
            return None

    def _start(self, descriptor: int, state: FileState) -> asyncio.Future[str | None]:
        deadline = time.monotonic() + self._seconds
        reading = asyncio.get_running_loop().run_in_executor(self._pool, _read, descriptor, state, deadline)
        self._reading[state] = reading

        def done(finished: asyncio.Future[str | None]) -> None:
            del self._reading[state]
            if not finished.cancelled() and finished.exception() is None and (digest := finished.result()) is not None:
                self._kept[state] = digest
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)

        reading.add_done_callback(done)
        return reading


def _state(descriptor: int) -> FileState:
    found = os.fstat(descriptor)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(descriptor: int, state: FileState, deadline: float) -> str | None:
    """Return the digest of an open file, which is closed; None if it changes meanwhile or cannot be read in time."""
    digest, octets, piece = hashlib.sha256(), 0, memoryview(bytearray(_PIECE))
    try:
        while (got := os.readv(descriptor, [piece])) > 0:
            octets += got
            digest.update(piece[:got])
            if octets > state[2] or time.monotonic() > deadline:
                return None
        return digest.hexdigest() if _state(descriptor) == state else None
    except OSError as error:
        log.warning("a program file could not be read: %s", error.strerror)
        return None
    finally:
        os.close(descriptor)


def parent_of(caller: Caller) -> str | None:
    """Return the program file of the process that started a caller, as it is at this moment.

    :raises SealAgentError: ``caller_changed``, ``caller_gone``, ``caller_unknown``.
    """
    parent = require_running(caller).parent
    program = program_of(parent) if parent > 0 else None
    # While it still is the parent, nobody else had its pid.
    return program.path if program is not None and require_running(caller).parent == parent else None
