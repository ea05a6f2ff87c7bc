"""``sealagent-browser-host``: started by a browser for an extension, it lives as long as the two want it.

Standard input and output belong to the protocol. Standard error goes to the browser's log: named errors only.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from pathlib import Path

from sealagent.browser.bridge import Bridge, BrowserGone
from sealagent.browser.framing import FrameReader, framed
from sealagent.browser.manifests import allowed_origin
from sealagent.errors import SealAgentError
from sealagent.paths import socket_path

__all__ = ["main"]

CHUNK = 64 << 10
"""Octets read at once: what a pipe holds."""


def main() -> None:
    """Serve until the browser closes our input, or is gone."""
    try:
        origin = allowed_origin(sys.argv[1:])
    except SealAgentError as error:
        print(f"sealagent-browser-host: {error.message} ({error.code})", file=sys.stderr)
        sys.exit(2)
    bridge = Bridge(origin, Path(socket_path()), _write)
    status = _serve(bridge)
    bridge.close()
    # Threads may be in the middle of a write that nobody will ever take; the interpreter would wait for what they hold.
    os._exit(status)


def _serve(bridge: Bridge) -> int:
    reader = FrameReader()
    poll = select.poll()
    poll.register(0, select.POLLIN)
    browser = _browser()
    if browser is not None:
        poll.register(browser, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if 0 not in ready:  # the browser died, and something else still holds the other end of our input
            return 0
        octets = os.read(0, CHUNK)
        if not octets:
            return 1 if reader.within else 0
        try:
            for message in reader.feed(octets):
                bridge.take(message)
        except BrowserGone:
            return 0


def _browser() -> int | None:
    """Return a pidfd of the process that started us; None where there is none to be had."""
    with contextlib.suppress(OSError, AttributeError):
        return os.pidfd_open(os.getppid())
    return None


def _write(message: bytes) -> None:
    left = memoryview(framed(message))
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError as error:
        raise BrowserGone from error


if __name__ == "__main__":
    main()
