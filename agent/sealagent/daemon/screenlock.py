"""Locking tokens with the screen, and before the machine sleeps: whoever sits down next need not be the holder.

On the system bus logind tells of sleep (``PrepareForSleep``), which it delays until we are done, and of sessions that
are to be locked (``Session.Lock``); on the session bus the screen savers of the desktops tell (``ActiveChanged``).
Where there is no bus nothing is heard, and the status says so; after a sleep tokens are locked all the same
(:mod:`sealagent.daemon.locking`). Any program of the same user may own the name of a screen saver that is not running:
all it gains is that the holder enters the PIN once more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from sealagent.errors import SealAgentError
from sealagent.events import Event, Publish
from sealdrivers.errors import DriverError

if TYPE_CHECKING:
    from sealagent.daemon.bus import Bus, Signal

__all__ = ["ScreenLock"]

log = logging.getLogger(__name__)

FIRST_RETRY = 1.0
LONGEST_RETRY = 60.0
"""Seconds between two attempts to reach a bus; doubled from the first to the longest."""

STEADY_SECONDS = 30.0
"""A connection that lasted so long makes the next attempt a first one."""

PAUSE_SECONDS = 0.1
"""Between two locks: a desktop may tell in two ways, and a screen saver could tell for ever."""

RELOCK_SECONDS = 1.0
"""Until locking is tried again where it failed."""

MAX_QUESTIONS = 8
"""Sessions that are asked at once whose they are; one more counts as ours."""

WHOSE_SECONDS = 0.5
"""Seconds that logind may take to say so; then it counts as ours, too."""

LOGIND = "org.freedesktop.login1"
MANAGER = "/org/freedesktop/login1"

SAVERS = {
    "org.freedesktop.ScreenSaver": "/org/freedesktop/ScreenSaver",
    "org.gnome.ScreenSaver": "/org/gnome/ScreenSaver",
    "org.cinnamon.ScreenSaver": "/org/cinnamon/ScreenSaver",
    "org.mate.ScreenSaver": "/",
    "org.xfce.ScreenSaver": "/org/xfce/ScreenSaver",
}
"""Screen savers, and the objects that say whether the screen is locked now. Name and interface are the same."""


_Work = Callable[["Bus"], Coroutine[Any, Any, None]]


class Locks(Protocol):
    """What is locked; :class:`sealagent.signing.unlock.Unlocker` is one."""

    async def lock_all(self) -> None:
        """Lock every token."""


class _Watched:
    """A bus and how it is with it."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.bus: Bus | None = None
        self.listening = False
        self.fault: str | None = None


class ScreenLock:
    """Watches both buses and locks every token when the screen is locked, and when the machine is about to sleep.

    :param environ: names the buses (``DBUS_SYSTEM_BUS_ADDRESS``, ``DBUS_SESSION_BUS_ADDRESS``, ``XDG_RUNTIME_DIR``).
    :param enabled: whether anything is watched at all. :param retry: seconds until a bus is tried again first.
    """

    def __init__(
        self,
        tokens: Locks,
        publish: Publish,
        environ: Mapping[str, str] = os.environ,
        *,
        enabled: bool = True,
        retry: float = FIRST_RETRY,
    ) -> None:
        self._tokens = tokens
        self._publish = publish
        self._enabled = enabled
        self._retry = retry
        self._system = _Watched("system", _system_bus(environ))
        self._session = _Watched("session", _session_bus(environ))
        self._reasons: dict[str, Event] = {}
        """Why tokens are to be locked, each once."""
        self._wanted = asyncio.Event()
        self._inhibitor: int | None = None
        """A descriptor; sleep is delayed while it is open."""
        self._inhibit_again = asyncio.Event()
        self._questions: set[asyncio.Task[None]] = set()

    def state(self) -> dict[str, Any]:
        """Return what is heard, for ``GET /v1/status``."""
        watched = (self._system, self._session)
        faults = [f"{each.name} bus: {each.fault}" for each in watched if each.fault]
        return {
            **{each.name: _state(each) if self._enabled else "off" for each in watched},
            "delays_sleep": self._inhibitor is not None,
            "fault": "; ".join(faults) or None,
        }

    async def run(self) -> None:
        """Watch until cancelled."""
        if not self._enabled:
            return
        if sys.platform != "linux":
            self._system.fault = self._session.fault = "it is watched on Linux only"
            return
        tasks = (
            asyncio.create_task(self._lock()),
            asyncio.create_task(self._watch(self._system, self._hear_logind, self._delay_sleep)),
            asyncio.create_task(self._watch(self._session, self._hear_savers, self._ask_savers)),
        )
        try:
            await asyncio.gather(*tasks)
        finally:
            rest = {*tasks, *self._questions}
            for task in rest:
                task.cancel()
            await asyncio.wait(rest)
            self._let_sleep()

    # Locking

    def _want(self, name: str, **data: Any) -> None:
        self._reasons[name] = Event(name, data)
        self._wanted.set()

    async def _lock(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            reasons, self._reasons = self._reasons, {}
            for reason in reasons.values():
                log.info("%s; every token is locked", reason.name.replace("_", " "))
                self._publish(reason)
            pause = PAUSE_SECONDS
            try:
                await self._tokens.lock_all()
            except (DriverError, SealAgentError) as error:
                log.warning("locking tokens: %s", error.message)
                pause = RELOCK_SECONDS
            except Exception:
                log.exception("locking tokens failed")
                pause = RELOCK_SECONDS
            if "machine_sleeps" in reasons:
                self._let_sleep()
            await asyncio.sleep(pause)
            if pause == RELOCK_SECONDS:
                self._wanted.set()

    # Both buses

    async def _watch(self, watched: _Watched, subscribe: _Work, then: _Work) -> None:
        """Keep a connection to a bus, and listen.

        :param subscribe: says to the bus what is to be heard. :param then: runs beside it.
        """
        from sealagent.daemon.bus import Bus, BusFault, BusFlooded

        loop = asyncio.get_running_loop()
        delay = self._retry
        while True:
            begun = loop.time()
            beside: asyncio.Task[None] | None = None
            try:
                bus = await Bus.connect(watched.address, self._heard, descriptors=watched is self._system)
                watched.bus = bus
                await subscribe(bus)
                watched.listening, watched.fault = True, None
                log.info("listening on the %s bus", watched.name)
                beside = asyncio.create_task(then(bus))
                raise await bus.ended()
            except BusFault as fault:
                if watched.listening or watched.fault != str(fault):
                    log.info("%s bus: %s; it is tried again", watched.name, fault)
                watched.fault = str(fault)
                if isinstance(fault, BusFlooded):  # a lock of the screen may have been lost in it
                    self._want("screen_locked", by="flood")
            except Exception as error:
                log.exception("the %s bus cannot be watched", watched.name)
                watched.fault = type(error).__name__
            finally:
                watched.listening = False
                if watched.bus is not None:
                    watched.bus.close()
                    watched.bus = None
                if beside is not None:
                    beside.cancel()
                    await asyncio.wait((beside,))
                if watched is self._system:
                    self._let_sleep()
            if loop.time() - begun > STEADY_SECONDS:
                delay = self._retry
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY)

    def _heard(self, signal: Signal) -> None:
        if signal.member == "ActiveChanged":
            if signal.body[0]:
                self._want("screen_locked", by=signal.interface)
        elif signal.member == "PrepareForSleep":
            if signal.body[0]:
                self._want("machine_sleeps")
            else:
                self._inhibit_again.set()
        elif self._system.bus is not None and len(self._questions) < MAX_QUESTIONS:
            question = asyncio.create_task(self._ask_whose(self._system.bus, signal.path))
            self._questions.add(question)
            question.add_done_callback(self._questions.discard)
        else:
            self._want("screen_locked", by=LOGIND)

    # The session bus

    async def _hear_savers(self, bus: Bus) -> None:
        for name in SAVERS:
            await bus.listen(name, name, "ActiveChanged", "b")

    async def _ask_savers(self, bus: Bus) -> None:
        """Ask whether the screen is locked already: while there was no connection, nobody could tell."""
        from sealagent.daemon.bus import BusFault

        for name, path in SAVERS.items():
            with suppress(BusFault):  # most of them do not run
                (active,) = await bus.call(name, path, name, "GetActive", reply="b")
                if active:
                    self._want("screen_locked", by=name)

    # The system bus

    async def _hear_logind(self, bus: Bus) -> None:
        await bus.listen(LOGIND, f"{LOGIND}.Manager", "PrepareForSleep", "b")
        await bus.listen(LOGIND, f"{LOGIND}.Session", "Lock", "")

    async def _delay_sleep(self, bus: Bus) -> None:
        """Hold a delay lock of logind's, and take a new one when the machine woke up."""
        from sealagent.daemon.bus import BusFault

        what = ("sleep", "SealAgent", "keys are locked first", "delay")
        while True:
            self._inhibit_again.clear()
            try:
                (held,) = await bus.call(LOGIND, MANAGER, f"{LOGIND}.Manager", "Inhibit", "ssss", what, reply="h")
                self._let_sleep()
                self._inhibitor = held
            except BusFault as fault:
                log.info("sleep is not delayed: %s", fault)
            await self._inhibit_again.wait()

    def _let_sleep(self) -> None:
        if self._inhibitor is not None:
            os.close(self._inhibitor)
            self._inhibitor = None

    async def _ask_whose(self, bus: Bus, session: str) -> None:
        """Lock when a session that is to be locked is ours; without an answer it counts as ours."""
        from sealagent.daemon.bus import BusFault

        asked = (f"{LOGIND}.Session", "User")
        try:
            async with asyncio.timeout(WHOSE_SECONDS):
                (variant,) = await bus.call(
                    LOGIND, session, "org.freedesktop.DBus.Properties", "Get", "ss", asked, reply="v"
                )
            if variant[0] == "(uo)" and variant[1][0] != os.getuid():
                return
        except (BusFault, TimeoutError) as error:
            log.info("whose session is locked: %s", str(error) or "no answer")
        self._want("screen_locked", by=LOGIND)


def _state(watched: _Watched) -> str:
    return "listening" if watched.listening else "unreachable"


def _system_bus(environ: Mapping[str, str]) -> str:
    return environ.get("DBUS_SYSTEM_BUS_ADDRESS") or "unix:path=/run/dbus/system_bus_socket"


def _session_bus(environ: Mapping[str, str]) -> str:
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={runtime}/bus"
