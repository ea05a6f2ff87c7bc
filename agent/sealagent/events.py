"""What happens in the agent, as it happens: one hub, many listeners (``GET /v1/events``)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sealagent.errors import SealAgentError

__all__ = ["Event", "EventHub", "Publish"]

QUEUE_LENGTH = 256
"""Events kept for a slow listener; beyond it the oldest are dropped and the listener is told how many."""

MAX_LISTENERS = 64
"""Listeners at once; one more is refused."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``data`` holds JSON values and never a secret."""

    name: str
    """``usb_inserted``, ``usb_removed``, ``token_inserted``, ``token_removed``, ``token_unlocked``, ``factory_pin``
    (unlocked with a PIN that should be changed), ``token_locked``, ``machine_sleeps`` (is about to), ``machine_slept``
    (it did), ``screen_locked``, ``pin_asked``, ``consent_asked``, ``signed``, ``refused``, ``failed``,
    ``trust_changed``, ``batch``, ``progress`` or ``lost``."""
    data: dict[str, Any] = field(default_factory=dict)


Publish = Callable[[Event], None]
"""What a part of the agent needs in order to say what happens."""


class EventHub:
    """Hands each event to every listener; never waits for one."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Event | None]] = set()
        self._closed = False

    def publish(self, event: Event) -> None:
        """Queue the event for all listeners; call it from the event loop's thread."""
        for queue in self._queues:
            if queue.full():
                # Two places: the oldest event goes, and the notice that some went takes its place.
                queue.get_nowait()
                queue.get_nowait()
                queue.put_nowait(Event("lost"))
            queue.put_nowait(event)

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Queue[Event | None]]:
        """Give a queue of the events from now on; None in it is the last.

        :raises SealAgentError: ``too_many_listeners``.
        """
        if self._closed or len(self._queues) >= MAX_LISTENERS:
            raise SealAgentError("too_many_listeners", f"{MAX_LISTENERS} listeners are served at once")
        queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE_LENGTH)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def close(self) -> None:
        """End every listener, and take no more."""
        self._closed = True
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)
