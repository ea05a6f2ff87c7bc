"""Talking to the service manager: socket activation and readiness (sd_listen_fds(3), sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket

from sealagent.errors import SealAgentError

__all__ = ["inherited_socket", "notify"]

log = logging.getLogger(__name__)

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""


def inherited_socket() -> socket.socket | None:
    """Return the listening Unix socket handed over by the service manager, or None; the variables are consumed.

    :raises SealAgentError: ``socket_unusable``: what was handed over is something else.
    """
    count = os.environ.pop("LISTEN_FDS", "")
    meant_for = os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not count or meant_for != str(os.getpid()):
        return None
    try:
        if count != "1":
            raise OSError(f"{count} sockets")
        os.set_inheritable(FIRST_DESCRIPTOR, False)
        handed = socket.socket(fileno=FIRST_DESCRIPTOR)
    except OSError as error:
        raise _unusable(str(error)) from error
    stream = handed.family == socket.AF_UNIX and handed.type == socket.SOCK_STREAM
    if not stream or not handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        handed.close()
        raise _unusable("it is no listening Unix stream socket")
    return handed


def notify(state: str) -> None:
    """Tell the service manager a state such as ``READY=1``; does nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), address)
    except OSError as error:
        log.warning("the service manager was not told %s: %s", state, error)


def _unusable(why: str) -> SealAgentError:
    return SealAgentError("socket_unusable", f"the service manager must hand over one Unix socket: {why}")
