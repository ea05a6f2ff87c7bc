"""Who is asking over TCP on this machine: the process that holds the other end of a loopback connection.

The kernel hands no credentials over TCP. Its table of connections (``/proc/net/tcp``, proc(5)) names user and inode of
the socket at the other end, and the process that has a descriptor of that inode is who may speak. That is looked for
among the processes of one user only. It is weaker than a Unix socket's word, which is why such callers must also be
paired: a descriptor can be passed on, and one that several different programs hold is nobody's.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from sealagent.callers.peer import Caller
from sealagent.callers.processes import Program, look_at, program_of, ticks
from sealagent.errors import SealAgentError

__all__ = ["tcp_peer_of"]

SCAN_SECONDS = 2.0
"""Looking through the processes of a user takes some 20 ms; one that takes much longer is made to."""
MAX_TABLE = 32 << 20
"""Octets of the table of connections that are read: 200 000 connections of 150 octets."""
_READ = 1 << 16
_LEAST_FIELDS = 10

Address: TypeAlias = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]


@dataclass(frozen=True, slots=True)
class _Holder:
    """A process that has a descriptor of a socket."""

    pid: int
    gid: int
    started: int
    program: Program | None


def tcp_peer_of(sock: socket.socket, uid: int, accepted: int | None = None) -> Caller:
    """Find the process at the other end of a loopback connection. Blocks for up to some seconds: call it in a thread.

    :param sock: an accepted TCP socket.
    :param uid: the user whose processes may connect.
    :param accepted: when it was accepted (:func:`sealagent.callers.processes.moment`).
    :raises SealAgentError: ``caller_not_allowed``: another user's, or not from this machine; ``caller_changed``: who
        holds it started later than the connection; ``caller_unknown``: nobody, or several programs, hold it, or it
        could not be found out in time.
    """
    try:
        own, peer = _address(sock.getsockname()), _address(sock.getpeername())
    except (OSError, ValueError) as error:
        raise SealAgentError("caller_unknown", f"the peer of the connection is not known: {error}") from error
    if not (own[0].is_loopback and peer[0].is_loopback):
        raise SealAgentError("caller_not_allowed", "only programs of this machine may connect")
    deadline = time.monotonic() + SCAN_SECONDS
    owner, inode = _socket_of(peer, own, deadline)
    if owner != uid:
        raise SealAgentError("caller_not_allowed", f"user {owner} may not use the agent of user {uid}")
    holder = _only(list(_holders(uid, inode, deadline)))
    if accepted is not None and holder.started > ticks(accepted):
        raise SealAgentError("caller_changed", f"process {holder.pid} started after the connection was made")
    if _socket_of(peer, own, deadline) != (owner, inode):  # closed in between: the inode may be another's
        raise SealAgentError("caller_unknown", "the connection was closed while its other end was looked for")
    path, file = (None, None) if holder.program is None else (holder.program.path, holder.program.file)
    return Caller(uid, holder.gid, holder.pid, path, holder.started, program=file)


def _address(name: tuple[object, ...]) -> Address:
    """:raises ValueError: it is no internet address."""
    host, port = name[:2]
    if not isinstance(host, str) or not isinstance(port, int):
        raise ValueError("it is no connection over TCP")
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address, port


def _written(address: Address) -> tuple[bytes, bytes]:
    """Return an address as the tables of IPv4 and IPv6 connections have it: words in the order of this machine."""
    host, port = address
    packed = host.packed
    wide = packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed

    def words(octets: bytes) -> str:
        return "".join(
            f"{int.from_bytes(octets[start : start + 4], sys.byteorder):08X}" for start in range(0, len(octets), 4)
        )

    return f"{words(packed)}:{port:04X}".encode(), f"{words(wide)}:{port:04X}".encode()


def _socket_of(local: Address, remote: Address, deadline: float) -> tuple[int, int]:
    """Return user and inode of the socket with exactly these addresses. :raises SealAgentError: ``caller_unknown``."""
    for table, ours, others in zip(("tcp", "tcp6"), _written(local), _written(remote), strict=True):
        with suppress(FileNotFoundError):  # a kernel without IPv6
            for line in _lines(f"/proc/net/{table}", deadline):
                fields = line.split(None, _LEAST_FIELDS)
                if len(fields) >= _LEAST_FIELDS and fields[1] == ours and fields[2] == others and fields[9] != b"0":
                    return int(fields[7]), int(fields[9])
    raise SealAgentError("caller_unknown", "no program of this machine holds the other end of the connection")


def _lines(path: str, deadline: float) -> Iterator[bytes]:
    octets, rest = 0, b""
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_READ):
            octets += len(piece)
            if octets > MAX_TABLE:
                raise SealAgentError("caller_unknown", "there are too many connections to look through")
            _require_time(deadline)
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines


def _holders(uid: int, inode: int, deadline: float) -> Iterator[_Holder]:
    """Yield the processes of a user that have a descriptor of a socket."""
    wanted = f"socket:[{inode}]"
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        _require_time(deadline)
        with suppress(OSError):  # it ended, or may not be looked at
            found = os.stat(f"/proc/{entry}")
            if found.st_uid != uid:
                continue
            seen = look_at(int(entry))
            if seen is None or not _holds(entry, wanted, deadline):
                continue
            program, again = program_of(int(entry)), look_at(int(entry))
            if again is not None and again.started == seen.started and not again.ended:
                yield _Holder(int(entry), found.st_gid, seen.started, program)


def _holds(pid: str, wanted: str, deadline: float) -> bool:
    folder = f"/proc/{pid}/fd"
    for number, descriptor in enumerate(os.listdir(folder)):
        if number % 1024 == 0:
            _require_time(deadline)
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(f"{folder}/{descriptor}") == wanted:
                return True
    return False


def _only(holders: list[_Holder]) -> _Holder:
    """Return who speaks: of several processes of one program the first. :raises SealAgentError: ``caller_unknown``."""
    if not holders:
        raise SealAgentError("caller_unknown", "no process of this user holds the other end of the connection")
    if len({holder.program for holder in holders}) > 1 or (len(holders) > 1 and holders[0].program is None):
        pids = ", ".join(str(holder.pid) for holder in holders[:8])
        raise SealAgentError("caller_unknown", f"several programs hold the other end of the connection: {pids}")
    return min(holders, key=lambda holder: (holder.started, holder.pid))


def _require_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise SealAgentError("caller_unknown", f"the caller could not be found within {SCAN_SECONDS} s")
