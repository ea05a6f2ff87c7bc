"""Who is asking: what the kernel says of the process at the other end of a Unix socket.

The credentials are those at the time of ``connect`` (SO_PEERCRED, unix(7)); executable and start time come from
``/proc`` (proc(5)). A pid may be used again, so the process is held by a pidfd of the connection while it is looked at
(SO_PEERPIDFD, Linux 6.5); on older kernels a process that started after the connection was accepted is not who
connected. What was seen is compared again before anything is changed: :func:`recheck`.

A script is known by its interpreter, which is the program that runs: two scripts of one interpreter are one program
here, told apart by their parents and by pairing. A process of the same user can still act through another's program:
this names a caller, it is no barrier against malware of the same user.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

from sealagent.callers.model import Paired
from sealagent.callers.processes import ProcessLook, look_at, program_of, ticks
from sealagent.errors import SealAgentError

__all__ = ["Caller", "peer_of", "recheck", "require_running", "require_uid"]

_UCRED = struct.Struct("iII")  # struct ucred: pid_t, uid_t, gid_t
_SO_PEERPIDFD = 77  # asm-generic/socket.h; Python has no name for it
_NOT_KNOWN = (errno.ENOPROTOOPT, errno.EOPNOTSUPP)
"""What kernels without SO_PEERPIDFD answer."""
_REAPED = (errno.ESRCH, errno.EINVAL, errno.ENODATA)
"""What kernels answer that give no pidfd of a process whose parent has noticed its end; newer ones give one."""


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
    page: str | None = None
    """Origin of the web page that the extension acts for, as the extension itself says."""
    application: Paired | None = None
    """The paired application that it proved to be."""
    program: tuple[int, int] | None = field(default=None, compare=False, repr=False)
    """Device and inode of the program file that runs, also where no path leads to it; for :func:`recheck`."""

    @property
    def name(self) -> str | None:
        """Name of the paired application."""
        return self.application.name if self.application else None

    @property
    def process(self) -> str:
        """The process and the program file that it runs, told from a later process with the same pid and from another
        program in the same process; names an unpaired caller in grants and unlock windows."""
        program = ":{:x}-{:x}".format(*self.program) if self.program else ""
        return f"process:{self.pid}:{self.started}{program}"

    def as_json(self) -> dict[str, Any]:
        """Return what the record keeps."""
        known = {
            "sha256": self.sha256,
            "parent": self.parent,
            "origin": self.origin,
            "page": self.page,
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


def peer_of(sock: socket.socket, accepted: int | None = None) -> Caller:
    """Ask the kernel who connected.

    :param sock: a connected Unix stream socket.
    :param accepted: when it was accepted (:func:`sealagent.callers.processes.moment`), for kernels before Linux 6.5.
    :raises SealAgentError: ``caller_unknown``: the kernel names no peer; ``caller_changed``: another process has the
        pid of the one that connected.
    """
    try:
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError as error:
        raise SealAgentError("caller_unknown", f"the peer of the connection is not known: {error}") from error
    if pid <= 0 and uid == 0xFFFFFFFF:
        raise SealAgentError("caller_unknown", "the socket has no peer")
    gone = Caller(uid, gid, pid, None, None)
    if pid <= 0:  # it is in another pid namespace
        return gone
    try:
        held = _pidfd(sock)
    except ProcessLookupError:
        return gone
    try:
        before, program = look_at(pid), program_of(pid)
        if before is None or before.ended:
            return gone
        if held is None:
            after = look_at(pid)
            if after is None or after.started != before.started:  # it ended in between: the path may be another's
                return gone
            if accepted is not None and before.started > ticks(accepted):
                raise SealAgentError("caller_changed", f"process {pid} started after the connection was made")
        elif _has_ended(held):  # nothing of what was read is certain to be its
            return gone
    finally:
        if held is not None:
            os.close(held)
    if program is None:
        return Caller(uid, gid, pid, None, before.started)
    return Caller(uid, gid, pid, program.path, before.started, program=program.file)


def recheck(caller: Caller) -> Caller:
    """Look at a caller again before something is changed for it.

    :raises SealAgentError: ``caller_gone``: it has ended; ``caller_changed``: it runs another program than when it
        connected, its program file was replaced, or its pid is another process's by now; ``caller_unknown``: the
        kernel does not say which process it is.
    """
    require_running(caller)
    program = program_of(caller.pid)
    path, file = (None, None) if program is None else (program.path, program.file)
    if (path, file) != (caller.executable, caller.program):
        raise SealAgentError(
            "caller_changed",
            f"process {caller.pid} runs another program than when it connected, or its program file was replaced",
        )
    return caller


def require_running(caller: Caller) -> ProcessLook:
    """Return what is seen of the process that connected, which still runs.

    :raises SealAgentError: ``caller_gone``, ``caller_changed`` (another process has its pid), ``caller_unknown``.
    """
    if caller.pid <= 0:
        raise SealAgentError("caller_unknown", "the caller is in another pid namespace, where it cannot be told apart")
    seen = look_at(caller.pid) if caller.started is not None else None
    if seen is None or seen.ended:
        raise SealAgentError("caller_gone", f"process {caller.pid}, which connected, has ended")
    if seen.started != caller.started:
        raise SealAgentError("caller_changed", f"process {caller.pid}, which connected, has ended; another has its pid")
    return seen


def require_uid(caller: Caller, uid: int) -> None:
    """Let only one user pass. :raises SealAgentError: ``caller_not_allowed``."""
    if caller.uid != uid:
        raise SealAgentError("caller_not_allowed", f"user {caller.uid} may not use the agent of user {uid}")


def _pidfd(sock: socket.socket) -> int | None:
    """Return a pidfd of the process that connected; None: the kernel has none to give.

    :raises ProcessLookupError: that process has ended.
    :raises SealAgentError: ``caller_unknown``: it cannot be had at the moment (no descriptor is left).
    """
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno in _NOT_KNOWN:
            return None
        if error.errno in _REAPED:
            raise ProcessLookupError(str(error)) from error
        raise SealAgentError(
            "caller_unknown", f"the peer of the connection cannot be held: {error.strerror}"
        ) from error


def _has_ended(pidfd: int) -> bool:
    """Say whether the process has ended: its pidfd is readable then (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
