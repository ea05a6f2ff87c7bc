"""A watch over message buses, with tokens that only count how often they are locked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from host_parts import eventually
from sealagent.daemon.screenlock import ScreenLock
from sealagent.events import Event
from sealdrivers.errors import WorkerTimeout

LOGIND, MANAGER = "org.freedesktop.login1", "/org/freedesktop/login1"
GNOME = "org.gnome.ScreenSaver"


@dataclass
class Tokens:
    """Counts how often everything is locked."""

    locked: int = 0
    fails: int = 0
    slow: float = 0.0
    events: list[Event] = field(default_factory=list)

    async def lock_all(self) -> None:
        await asyncio.sleep(self.slow)
        if self.fails:
            self.fails -= 1
            raise WorkerTimeout("the module did not answer")
        self.locked += 1


def environment(system: str = "unix:path=/nowhere/bus", session: str = "unix:path=/nowhere/bus") -> dict[str, str]:
    return {"DBUS_SYSTEM_BUS_ADDRESS": system, "DBUS_SESSION_BUS_ADDRESS": session}


@contextlib.asynccontextmanager
async def watching(tokens: Tokens, environ: dict[str, str], *, heard: str = "") -> AsyncIterator[ScreenLock]:
    """Watch buses.

    :param heard: the bus that must be heard before anything is sent.
    """
    screen_lock = ScreenLock(tokens, tokens.events.append, environ, retry=0.05)
    task = asyncio.create_task(screen_lock.run())
    try:
        for kind in heard.split():
            await eventually(lambda kind=kind: screen_lock.state()[kind] == "listening", f"the {kind} bus")
        yield screen_lock
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait((task,))
