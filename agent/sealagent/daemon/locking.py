"""Locking tokens in time: each when its time is over, and all when the machine has slept, since whoever wakes it need
not be who entered the PIN.

Linux counts time asleep in CLOCK_BOOTTIME and not in CLOCK_MONOTONIC, so the two drift apart by as much as the machine
slept, and by nothing else. Where there is no CLOCK_BOOTTIME nothing is noticed; the idle time, which is wall-clock
time, still counts the sleep. This works without D-Bus, over which logind tells before the sleep
(:mod:`sealagent.daemon.screenlock`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from sealagent.errors import SealAgentError
from sealagent.events import Event, Publish
from sealdrivers.errors import DriverError

__all__ = ["LOOK_SECONDS", "SLEEP_SECONDS", "SleepDetector", "boottime", "lock_in_time"]

log = logging.getLogger(__name__)

SLEEP_SECONDS = 1.0
"""Seconds of sleep from which on tokens are locked; a look itself is never taken for sleep, however slow it is."""

LOOK_SECONDS = 1.0
"""Seconds awake between two looks: how long a token may stay unlocked after the machine woke."""

Seconds = Callable[[], float]


def boottime() -> float:
    """Return seconds since boot, sleep included; where the system does not count that, without it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class SleepDetector:
    """Compares two clocks of which one stands still while the machine sleeps.

    :param boot: seconds that count sleep. :param awake: seconds that do not.
    """

    def __init__(self, boot: Seconds = boottime, awake: Seconds = time.monotonic) -> None:
        self._boot = boot
        self._awake = awake
        self._asleep = self._look()[1]

    def slept(self) -> float:
        """Return the seconds slept since the last call that found any, or since the start; 0 below the threshold."""
        least, most = self._look()
        seconds = least - self._asleep
        if seconds < SLEEP_SECONDS:
            self._asleep = min(self._asleep, most)
            return 0.0
        self._asleep = most
        return seconds

    def _look(self) -> tuple[float, float]:
        """Return bounds of the seconds slept since boot: this process may have to wait between two readings."""
        before = self._awake()
        boot = self._boot()
        return boot - self._awake(), boot - before


class Locks(Protocol):
    """What is watched over; :class:`sealagent.signing.unlock.Unlocker` is one."""

    async def something_unlocked(self) -> None:
        """Return when a token is unlocked."""

    async def lock_expired(self) -> None:
        """Lock what was not used, or was unlocked, for too long."""

    async def lock_all(self) -> None:
        """Lock every token."""


async def lock_in_time(tokens: Locks, publish: Publish, detector: SleepDetector, every: float = LOOK_SECONDS) -> None:
    """Look for ever, while anything is unlocked. A task of its own: the look for tokens can be held up by a module.

    :param every: seconds between two looks.
    """
    owing = False
    while True:
        if not owing:
            await tokens.something_unlocked()
        try:
            seconds = detector.slept()
            if seconds:
                log.info("the machine slept for %.0f s; every token is locked", seconds)
                publish(Event("machine_slept", {"seconds": round(seconds)}))
                owing = True
            if owing:
                await tokens.lock_all()
                owing = False
            else:
                await tokens.lock_expired()
        except (DriverError, SealAgentError) as error:
            log.warning("locking tokens: %s", error.message)
        except Exception:
            log.exception("locking tokens failed")  # the next look may do better
        await asyncio.sleep(every)
