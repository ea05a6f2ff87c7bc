"""``sealagent-browser-host``: started by a browser for an extension, it lives as long as the two want it.

Standard input and output belong to the protocol. Standard error goes to the browser's log: named errors only.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time

from sealagent.browser.bridge import Bridge, BrowserGone
from sealagent.browser.framing import FrameReader, framed
from sealagent.browser.manifests import allowed_origin
from sealagent.errors import SealAgentError
from sealagent.paths import socket_path

__all__ = ["main"]

CHUNK = 64 << 10
"""Octets read at once: what a pipe holds."""
END_SECONDS = 0.5
"""What the browser said last may be read for this long after it hung up."""


def main() -> None:
    """Serve until the browser closes our input, or is gone."""
    try:
        origin = allowed_origin(sys.argv[1:])
    except SealAgentError as error:
        print(f"sealagent-browser-host: {error.message} ({error.code})", file=sys.stderr)
        sys.exit(2)
    bridge = Bridge(origin, socket_path(), _write)
    threading.Thread(target=_watch, daemon=True).start()
    status = _serve(bridge)
    bridge.close()
    # Threads may be in the middle of a write that nobody will ever take; the interpreter would wait for what they hold.
    os._exit(status)


def _serve(bridge: Bridge) -> int:
    reader = FrameReader()
    while octets := os.read(0, CHUNK):
        try:
            for message in reader.feed(octets):
                bridge.take(message)
        except BrowserGone:
            return 0
    return 1 if reader.within else 0


def _watch() -> None:
    """End the process when nobody is at the other end any more, should whoever reads our input not notice.

    It may be held up by an answer that nobody takes; and something else than the browser may hold the other end.
    """
    poll = select.poll()
    for descriptor in (0, 1):
        poll.register(descriptor, 0)  # hang-up and error are always told
    with contextlib.suppress(OSError, AttributeError):
        poll.register(os.pidfd_open(os.getppid()), select.POLLIN)  # readable once the browser has ended
    poll.poll()
    time.sleep(END_SECONDS)
    os._exit(0)


def _write(message: bytes) -> None:
    left = memoryview(framed(message))
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError as error:
        raise BrowserGone from error


if __name__ == "__main__":
    main()
