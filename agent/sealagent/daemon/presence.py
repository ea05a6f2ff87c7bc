"""Keys that come and go: when the daemon looks, and what it tells when something changed.

Three things make it look: an event of a USB device (at once, and again while the middleware wakes up), the regular look
every ``presence_seconds``, which is all there is where no such events are, and whoever asks over the socket. Modules
whose slot events work are only asked for those in a regular look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sealagent.devices import Device, describe
from sealagent.errors import SealAgentError
from sealagent.events import Event, Publish
from sealdrivers.errors import DriverError
from sealdrivers.host.service import HostedTokens
from sealdrivers.presence import UsbList, UsbMonitor, UsbMonitorUnavailable, list_keys
from sealdrivers.vendors import VendorTable

__all__ = ["Presence", "Schedule"]

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.1
"""So long nothing must have happened on USB before anybody looks: a bouncing contact comes and goes within it."""

LONGEST_BOUNCE = 1.0
"""Seconds after which somebody looks although it still bounces."""

LOOKS_AFTER = (0.3, 1.0, 2.0, 5.0)
"""Seconds after something was plugged in or pulled at which the modules are asked, until they show a change: middleware
needs about a second to see a key, some need more."""

LOOK_SHARE = 4.0
"""Times as long as a regular look for tokens took, none follows: a slow token shall have time for work between two."""


def _unheard(token_uri: str) -> None:
    """Nobody else wants to know."""


class Schedule:
    """When to look next. Knows neither clock nor devices: every moment is passed in (seconds, any origin)."""

    def __init__(self, every: float, now: float) -> None:
        self._every = every
        self._regular = now
        self._settled: float | None = None
        """When USB is quiet again; None while it is."""
        self._since: float | None = None
        """When something came or went last; None once it was dealt with."""
        self._bounce_ends = 0.0
        self._looks: list[float] = []
        self._awaited = 0

    def stir(self, now: float) -> None:
        """Take note that a USB device came or went."""
        if self._settled is None:
            self._bounce_ends = now + LONGEST_BOUNCE
        self._since = now
        self._settled = min(now + QUIET_SECONDS, self._bounce_ends)

    def next(self) -> float:
        """Return when something is to be done."""
        return min([self._regular, *self._looks[:1], *([] if self._settled is None else [self._settled])])

    def usb_due(self, now: float) -> bool:
        """Say, once, that USB has settled and is to be listed."""
        if self._settled is None or now < self._settled:
            return False
        self._settled = None
        return True

    def settled(self, now: float, came: int, went: int) -> None:
        """Plan the looks for tokens that follow from what a list of USB showed.

        :param came: devices that are new. :param went: devices that are gone.
        """
        since, self._since = now if self._since is None else self._since, None
        self._looks = ([now] if went else []) + [max(since + after, now) for after in LOOKS_AFTER]
        self._awaited = max(came, went)

    def regular_due(self, now: float) -> bool:
        """Say whether the regular look is due."""
        return now >= self._regular

    def follow_up_due(self, now: float) -> bool:
        """Say whether tokens are to be looked for because of what happened on USB."""
        return bool(self._looks and now >= self._looks[0])

    def looked(self, begun: float, ended: float, changes: int) -> None:
        """Take note of a look for tokens and how many it found to have changed."""
        self._awaited -= changes
        self._looks = [look for look in self._looks if look > ended] if self._awaited > 0 else []
        self._regular = ended + max(self._every, LOOK_SHARE * (ended - begun))


class Presence:
    """Watches USB and the modules, publishes ``usb_inserted``, ``usb_removed``, ``token_inserted``, ``token_removed``.

    :meth:`begin`, then :meth:`run`, then :meth:`close`.

    :param table: the known keys; None: USB is not looked at.
    :param every: seconds between two regular looks.
    :param changed: called when tokens came or went.
    :param removed: called for each that went, with its URI, before the event.
    """

    def __init__(
        self,
        tokens: HostedTokens,
        table: VendorTable | None,
        publish: Publish,
        *,
        every: float,
        changed: Callable[[], None],
        removed: Callable[[str], None] = _unheard,
    ) -> None:
        self._tokens = tokens
        self._table = table
        self._publish = publish
        self._every = every
        self._schedule = Schedule(every, 0.0)
        self._changed = changed
        self._removed = removed
        self._monitor: UsbMonitor | None = None
        self._monitor_fault: str | None = None
        self._usb = UsbList()
        self._known: dict[tuple[str, int], Device] = {}
        """The keys that were announced, by port and address."""
        self._tokens_seen = False
        self._woken = asyncio.Event()

    async def begin(self) -> None:
        """Begin to listen, and see what is on USB now: what comes from here on is an event."""
        loop = asyncio.get_running_loop()
        self._schedule = Schedule(self._every, loop.time())
        if self._table is None:
            return
        try:
            monitor = UsbMonitor()
        except UsbMonitorUnavailable as error:
            self._monitor_fault = str(error)
            log.info("%s; looking every %g s instead", error, self._every)
        else:
            self._monitor = monitor
            loop.add_reader(monitor.fileno(), self._stirred, monitor)
        await self._look_at_usb(first=True)

    async def run(self) -> None:
        """Watch until cancelled. What the first look for tokens finds was there already and is no event."""
        loop, schedule = asyncio.get_running_loop(), self._schedule
        while True:
            await self._sleep_until(schedule.next())
            now = loop.time()
            regular = schedule.regular_due(now)
            # While keys are shown that a failed look could not confirm, it is tried again without an event.
            unsure = bool(self._known) and not self._usb.complete
            if schedule.usb_due(now) or (regular and (self._monitor is None or unsure)):
                await self._look_at_usb()
            follow_up = schedule.follow_up_due(loop.time())
            if regular or follow_up:
                await self._look_at_tokens(quick=not follow_up)

    def close(self) -> None:
        """Listen no more."""
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor.fileno())
            self._monitor.close()
            self._monitor = None

    async def devices(self) -> dict[str, Any]:
        """Return the known keys as they are now (``GET /v1/devices``)."""
        found, devices = await self._list()
        return {**self._state(found), "devices": [device.as_json() for device in devices]}

    def state(self) -> dict[str, Any]:
        """Return how USB is watched, for ``GET /v1/status``."""
        return self._state(self._usb)

    def _state(self, usb: UsbList) -> dict[str, Any]:
        if self._table is None:
            return {"usb": "off", "fault": None}
        watch = f"{self._monitor.source} events" if self._monitor is not None else "polling"
        faults = [fault for fault in (self._monitor_fault, usb.fault) if fault]
        return {"usb": watch, "fault": "; ".join(faults) or None}

    # Waiting

    def _stirred(self, monitor: UsbMonitor) -> None:
        try:
            moved = monitor.drain()
        except UsbMonitorUnavailable as error:
            self._monitor_fault = str(error)
            log.warning("%s; looking every %g s instead", error, self._every)
            self.close()
            moved = True
        if moved:
            self._schedule.stir(asyncio.get_running_loop().time())
            self._woken.set()

    async def _sleep_until(self, moment: float) -> None:
        """Sleep until then, or until something happened on USB."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(moment):
                await self._woken.wait()
        self._woken.clear()

    # Looking

    async def _list(self) -> tuple[UsbList, list[Device]]:
        if self._table is None:
            return UsbList(), []
        table, loaded = self._table, self._tokens.health()

        def look() -> tuple[UsbList, list[Device]]:
            found = list_keys(table)
            return found, describe(found.keys, table, loaded)

        return await asyncio.to_thread(look)  # a few milliseconds of system calls

    async def _look_at_usb(self, *, first: bool = False) -> None:
        try:
            found, devices = await self._list()
        except Exception:
            log.exception("looking at USB failed")
            return
        before = self._usb
        if not found.complete:
            if found.fault != before.fault:
                log.warning("%s", found.fault)
            self._usb = replace(found, devices=before.devices)
            return
        self._usb = found
        known = {(device.key.port, device.key.address): device for device in devices}
        gone = [device for place, device in self._known.items() if place not in known]
        new = [device for place, device in known.items() if place not in self._known]
        self._known = known
        if first:
            return
        for device in gone:
            self._publish(Event("usb_removed", device.identity()))
        for device in new:
            self._publish(Event("usb_inserted", device.as_event()))
            if device.missing_middleware is not None:
                log.warning("%s", device.message[0])
        came, went = len(found.devices - before.devices), len(before.devices - found.devices)
        if came or went:
            self._schedule.settled(asyncio.get_running_loop().time(), came, went)

    async def _look_at_tokens(self, *, quick: bool) -> None:
        loop = asyncio.get_running_loop()
        begun, changes = loop.time(), 0
        try:
            inserted, removed = await self._tokens.poll(quick=quick)
            if not self._tokens_seen:
                inserted, self._tokens_seen = [], True
            changes = len(inserted) + len(removed)
            for token in removed:
                self._removed(token.uri)
                self._publish(Event("token_removed", {"token": token.uri, "label": token.label}))
            for token in inserted:
                self._publish(Event("token_inserted", {"token": token.uri, "label": token.label}))
            if changes:
                self._changed()
        except (DriverError, SealAgentError) as error:
            log.warning("looking for tokens: %s", error.message)
        except Exception:
            log.exception("looking for tokens failed")  # the next look may do better
        self._schedule.looked(begun, loop.time(), changes)
