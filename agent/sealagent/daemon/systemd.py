"""Talking to the service manager: socket activation and readiness (sd_listen_fds(3), sd_notify(3))."""

from __future__ import annotations

import os
import socket

__all__ = ["inherited_socket", "notify"]

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""


def inherited_socket() -> socket.socket | None:
    """Return the listening Unix socket handed over by the service manager, or None; the variables are consumed."""
    count = os.environ.pop("LISTEN_FDS", "")
    meant_for = os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if count != "1" or meant_for != str(os.getpid()):
        return None
    os.set_inheritable(FIRST_DESCRIPTOR, False)
    return socket.socket(fileno=FIRST_DESCRIPTOR)


def notify(state: str) -> None:
    """Tell the service manager a state such as ``READY=1``; does nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), address)
