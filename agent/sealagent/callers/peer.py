"""Who is asking: what the kernel says of the process at the other end of a Unix socket.

The credentials are those at the time of ``connect`` (SO_PEERCRED, unix(7)); executable and start time come from
``/proc`` (proc(5)). A process of the same user can still act through another's program: this names a caller, it is no
barrier against malware of the same user.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

from sealagent.callers.model import Paired
from sealagent.errors import SealAgentError

__all__ = ["Caller", "peer_of", "require_uid"]

_UCRED = struct.Struct("iII")  # struct ucred: pid_t, uid_t, gid_t
MAX_STAT = 4096
"""Octets of ``/proc/PID/stat`` that are read; it is one line of some 300."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The process that opened a connection."""

    uid: int
    gid: int
    pid: int
    executable: str | None
    """Path of the program file that runs, octets that are no UTF-8 written as ``\\xhh``; None where it cannot be known
    (the process has ended, the file was removed or replaced, or it may not be looked at)."""
    started: int | None
    """Start of the process in clock ticks since boot, which tells it from a later one with the same pid."""
    sha256: str | None = None
    """Digest of the program file that runs, hexadecimal; None where it was not, or could not be, read."""
    parent: str | None = None
    """Path of the program that started it, likewise."""
    origin: str | None = None
    """Web origin or browser extension that it acts for, as the browser says; None for a program of its own."""
    application: Paired | None = None
    """The paired application that it proved to be."""

    @property
    def name(self) -> str | None:
        """Name of the paired application."""
        return self.application.name if self.application else None

    @property
    def process(self) -> str:
        """The process, told from a later one with the same pid; names an unpaired caller in a grant."""
        return f"process:{self.pid}:{self.started}"

    def as_json(self) -> dict[str, Any]:
        """Return what the record keeps."""
        known = {
            "sha256": self.sha256,
            "parent": self.parent,
            "origin": self.origin,
            "application": {"id": self.application.id, "name": self.application.name} if self.application else None,
        }
        return {
            "uid": self.uid,
            "gid": self.gid,
            "pid": self.pid,
            "executable": self.executable,
            "started": self.started,
            **{name: value for name, value in known.items() if value is not None},
        }


def peer_of(sock: socket.socket) -> Caller:
    """Ask the kernel who connected.

    :param sock: a connected Unix stream socket.
    :raises SealAgentError: ``caller_unknown``: the kernel names no peer.
    """
    try:
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError as error:
        raise SealAgentError("caller_unknown", f"the peer of the connection is not known: {error}") from error
    if pid <= 0:  # no peer (uid is then -1), or one in another pid namespace
        if uid == 0xFFFFFFFF:
            raise SealAgentError("caller_unknown", "the socket has no peer")
        return Caller(uid, gid, pid, None, None)
    started = _started(pid)
    executable = _executable(pid)
    if started is None or started != _started(pid):  # it ended in between: the path may be another process's
        return Caller(uid, gid, pid, None, None)
    return Caller(uid, gid, pid, executable, started)


def require_uid(caller: Caller, uid: int) -> None:
    """Let only one user pass. :raises SealAgentError: ``caller_not_allowed``."""
    if caller.uid != uid:
        raise SealAgentError("caller_not_allowed", f"user {caller.uid} may not use the agent of user {uid}")


def _started(pid: int) -> int | None:
    """Return field 22 of ``/proc/PID/stat``; the name in field 2 may hold spaces and brackets of its own."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read(MAX_STAT).rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _executable(pid: int) -> str | None:
    link = f"/proc/{pid}/exe".encode()
    try:
        path = os.readlink(link)
        running, named = os.stat(link), os.stat(path)
    except OSError:
        return None
    # A removed file ("… (deleted)"), a replaced one and one of another mount namespace do not name what runs.
    if not path.startswith(b"/") or (running.st_dev, running.st_ino) != (named.st_dev, named.st_ino):
        return None
    return path.decode("utf-8", "backslashreplace")
