"""Running the status service from start to end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable

from sealagent.clock import system_clock
from sealagent.maker.device import opened_device
from sealagent.maker.publishing import RegisterView
from sealagent.maker.server import StatusServer
from sealagent.maker.settings import Settings

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(settings: Settings, ready: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP.

    :param ready: called once with host and port when it listens. :raises SealAgentError: what prevents the start.
    """
    os.umask(0o077)
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Its errors are requests that are no HTTP, a trace for each; faults of ours are logged in sealagent.maker.server.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    asyncio.run(_main(settings, ready))


async def _main(settings: Settings, ready: Callable[[str, int], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # SIGHUP: its terminal was closed
        loop.add_signal_handler(number, stop.set)
    settings.require_unit()
    view = RegisterView(settings.places, system_clock)
    try:
        async with opened_device(settings, system_clock) as device:
            key = await device.key(settings.role("status"))
            await device.unlock(key, "status")
            server = StatusServer(settings, view, device, key, system_clock)
            host, port = await server.start()
            try:
                log.info("answering for %s at %s:%d", settings.unit, host, port)
                ready(f"[{host}]" if ":" in host else host, port)
                await stop.wait()
            finally:
                await server.stop()
    finally:
        view.close()
