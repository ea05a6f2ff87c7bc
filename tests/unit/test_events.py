"""The events hub: everybody hears everything, nobody is waited for."""

from __future__ import annotations

import asyncio

from sealagent import events
from sealagent.events import Event, EventHub


def test_every_listener_hears_and_a_slow_one_is_told_what_it_missed() -> None:
    async def scene() -> None:
        hub = EventHub()
        heard: list[str] = []

        async def quick() -> None:
            async for event in hub.listen():
                heard.append(event.name)

        task = asyncio.create_task(quick())
        slow = hub.listen()
        waiting = asyncio.create_task(anext(slow))
        await asyncio.sleep(0)
        hub.publish(Event("first"))
        assert (await waiting).name == "first"
        for number in range(events.QUEUE_LENGTH + 10):
            hub.publish(Event(f"e{number}"))
            await asyncio.sleep(0)
        hub.close()
        names = [event.name async for event in slow]
        await task
        assert heard == ["first", *(f"e{number}" for number in range(events.QUEUE_LENGTH + 10))]
        assert "lost" in names
        assert len(names) <= events.QUEUE_LENGTH

    asyncio.run(scene())


def test_listeners_are_bounded_and_leave_nothing_behind() -> None:
    async def scene() -> None:
        hub = EventHub()
        listeners = [hub.listen() for _ in range(events.MAX_LISTENERS)]
        waiting = [asyncio.create_task(anext(listener)) for listener in listeners]
        await asyncio.sleep(0)
        assert hub.full
        hub.close()
        await asyncio.gather(*waiting, return_exceptions=True)
        for listener in listeners:
            await listener.aclose()
        assert not hub.full

    asyncio.run(scene())
