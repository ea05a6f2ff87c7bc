"""What ``/proc`` says of a process (proc(5)): when it started, who started it, which program file it runs.

Everything here is read of a process that may end, start another program or lie about its name at any moment. So a
start time is read before and after, or the process is held by a pidfd meanwhile; that is up to the callers of this.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

__all__ = ["NANOSECONDS", "ProcessLook", "Program", "look_at", "moment", "program_of", "ticks"]

MAX_STAT = 4096
"""Octets of ``/proc/PID/stat`` that are read; it is one line of some 300."""
NANOSECONDS = 1_000_000_000
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_FIELDS = 20
"""Fields of ``/proc/PID/stat`` after the name, up to and with field 22."""


@dataclass(frozen=True, slots=True)
class ProcessLook:
    """One process at one moment."""

    started: int
    """Clock ticks since boot."""
    parent: int
    """Process id of its parent; 0 where that is in another pid namespace."""
    ended: bool
    """Whether it has ended and only waits for its parent to notice."""


@dataclass(frozen=True, slots=True)
class Program:
    """The program file that a process runs."""

    path: str | None
    """Octets that are no UTF-8 written as ``\\xhh``; None where no path leads to that file any more."""
    file: tuple[int, int]
    """Device and inode."""


def moment() -> int:
    """Return the present moment on the clock of start times: nanoseconds since boot, sleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def ticks(nanoseconds: int) -> int:
    """Return a moment in the unit of start times."""
    return nanoseconds * _TICKS_PER_SECOND // NANOSECONDS


def look_at(pid: int) -> ProcessLook | None:
    """Read ``/proc/PID/stat``; None: there is no such process.

    The name in field 2 is of the process's own choosing and may hold anything, brackets, spaces and line ends, too;
    nothing after the last bracket is.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(descriptor, MAX_STAT)
        finally:
            os.close(descriptor)
        return _parse(line)
    except (OSError, ValueError):
        return None


def _parse(line: bytes) -> ProcessLook:
    """:raises ValueError: it is no such line."""
    fields = line.rpartition(b")")[2].split()
    if len(fields) < _FIELDS:
        raise ValueError("the line is cut off")
    # A leader that has ended is shown as a zombie, too, while other threads of the process run (field 20).
    ended = fields[0] in (b"Z", b"X", b"x") and int(fields[17]) <= 1
    return ProcessLook(int(fields[19]), int(fields[1]), ended)


def program_of(pid: int) -> Program | None:
    """Return what a process runs; None where it may not be looked at, has ended, or is the kernel's."""
    link = f"/proc/{pid}/exe".encode()
    try:
        path = os.readlink(link)
        running = os.stat(link)
    except OSError:
        return None
    file = (running.st_dev, running.st_ino)
    try:
        named = os.stat(path)
    except (OSError, ValueError):
        return Program(None, file)
    # A removed file ("… (deleted)"), a replaced one and one of another mount namespace do not name what runs.
    if not path.startswith(b"/") or file != (named.st_dev, named.st_ino):
        return Program(None, file)
    return Program(path.decode("utf-8", "backslashreplace"), file)
