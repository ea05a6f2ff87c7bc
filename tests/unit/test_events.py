"""The events hub: everybody hears everything, nobody is waited for."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from sealagent import events
from sealagent.errors import SealAgentError
from sealagent.events import Event, EventHub


async def _names(queue: asyncio.Queue[Event | None]) -> list[str]:
    """Return what a queue holds, to its end."""
    names = []
    while (event := await queue.get()) is not None:
        names.append(event.name)
    return names


def test_every_listener_hears_and_a_slow_one_is_told_what_it_missed() -> None:
    async def scene() -> None:
        hub = EventHub()
        published = [f"e{number}" for number in range(events.QUEUE_LENGTH + 10)]
        with hub.listening() as quick, hub.listening() as slow:
            heard = asyncio.create_task(_names(quick))
            for name in published:
                hub.publish(Event(name))
                await asyncio.sleep(0)
            hub.close()
            assert await heard == published
            missed = await _names(slow)
            assert "lost" in missed
            assert len(missed) <= events.QUEUE_LENGTH

    asyncio.run(scene())


def test_listeners_are_bounded_and_leave_nothing_behind() -> None:
    async def scene() -> None:
        hub = EventHub()
        with contextlib.ExitStack() as stack:
            for _ in range(events.MAX_LISTENERS):
                stack.enter_context(hub.listening())
            with pytest.raises(SealAgentError, match="at once"):
                stack.enter_context(hub.listening())
        with hub.listening():
            pass
        hub.close()
        with pytest.raises(SealAgentError), hub.listening():
            pass

    asyncio.run(scene())
