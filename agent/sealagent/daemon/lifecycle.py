"""Running the daemon from start to end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable

from sealagent.daemon.builder import build
from sealagent.daemon.locking import SleepDetector, lock_in_time
from sealagent.daemon.settings import Settings
from sealagent.daemon.systemd import notify
from sealagent.daemon.trustwatch import watch_trust

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(settings: Settings, ready: Callable[[], None]) -> None:
    """Run the daemon until SIGTERM, SIGINT or SIGHUP.

    :param ready: called once when it listens. :raises SealAgentError: what prevents the start.
    """
    os.umask(0o077)
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Its errors are requests that are no HTTP, a trace for each; faults of ours are logged in sealagent.api.server.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_main(settings, ready))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _main(settings: Settings, ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # SIGHUP: its terminal was closed
        loop.add_signal_handler(number, stop.set)
    daemon = await build(settings)
    watching: list[asyncio.Task[None]] = []
    try:
        await daemon.presence.begin()
        await daemon.start()
        watching.append(asyncio.create_task(daemon.presence.run()))
        publish = daemon.services.events.publish
        watching.append(asyncio.create_task(lock_in_time(daemon.unlocker, publish, SleepDetector())))
        watching.append(asyncio.create_task(daemon.screen_lock.run()))
        if settings.trust.lists:
            services = daemon.services
            watching.append(asyncio.create_task(watch_trust(services.trust_lists, services.inventory.invalidate)))
        notify("READY=1")
        log.info("listening at %s", settings.socket)
        ready()
        await stop.wait()
        notify("STOPPING=1")
    finally:
        for task in watching:
            task.cancel()
        if watching:
            await asyncio.wait(watching)
        await daemon.stop()
