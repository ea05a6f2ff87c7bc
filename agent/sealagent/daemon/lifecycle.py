"""Running the daemon from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable

from sealagent.daemon.builder import Daemon, build
from sealagent.daemon.settings import Settings
from sealagent.daemon.systemd import notify
from sealagent.errors import SealAgentError
from sealagent.events import Event
from sealdrivers.errors import DriverError

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(settings: Settings, ready: Callable[[], None]) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    :param ready: called once when it listens. :raises SealAgentError: what prevents the start.
    """
    os.umask(0o077)
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
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
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = await build(settings)
    presence = None
    try:
        await daemon.start()
        presence = asyncio.create_task(_watch(daemon, settings.presence_seconds))
        notify("READY=1")
        log.info("listening at %s", settings.socket)
        ready()
        await stop.wait()
        notify("STOPPING=1")
    finally:
        if presence is not None:
            presence.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await presence
        await daemon.stop()


async def _watch(daemon: Daemon, every: float) -> None:
    """Look for inserted and removed tokens, and lock tokens whose time is over.

    What the first look finds was there already and is no event.
    """
    first = True
    while True:
        try:
            inserted, removed = await daemon.tokens.poll()
            if first:
                inserted, first = [], False
            for token in removed:
                daemon.unlocker.forget(token.uri)
                daemon.services.events.publish(Event("token_removed", {"token": token.uri, "label": token.label}))
            for token in inserted:
                daemon.services.events.publish(Event("token_inserted", {"token": token.uri, "label": token.label}))
            if inserted or removed:
                daemon.services.inventory.invalidate()
            await daemon.unlocker.lock_expired()
        except (DriverError, SealAgentError) as error:
            log.warning("looking for tokens: %s", error.message)
        await asyncio.sleep(every)
