"""One prompt at a time, eight that wait, and those that gave up are gone."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from sealagent.consent.turn import MAX_WAITING, Turn
from sealagent.errors import SealAgentError


class Line:
    """Prompts in line, which note when they are shown."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.shown: list[int] = []
        self.answered = asyncio.Event()

    async def prompt(self, number: int) -> None:
        async with self.turn:
            self.shown.append(number)
            await self.answered.wait()

    async def begin(self, number: int) -> asyncio.Task[None]:
        task = asyncio.create_task(self.prompt(number))
        await asyncio.sleep(0)
        return task


def test_one_is_shown_and_the_others_follow_in_order() -> None:
    async def run() -> list[int]:
        line = Line()
        tasks = [await line.begin(number) for number in range(3)]
        assert line.shown == [0]
        line.answered.set()
        await asyncio.gather(*tasks)
        return line.shown

    assert asyncio.run(run()) == [0, 1, 2]


def test_so_many_may_wait_and_no_more() -> None:
    async def run() -> list[int]:
        line = Line()
        tasks = [await line.begin(number) for number in range(MAX_WAITING + 1)]
        with pytest.raises(SealAgentError) as caught:
            await line.prompt(99)
        assert caught.value.code == "too_many_prompts"
        tasks.pop(3).cancel()  # one that gives up makes room, and is never shown
        await asyncio.sleep(0)
        tasks.append(await line.begin(100))
        line.answered.set()
        await asyncio.gather(*tasks)
        return line.shown

    assert asyncio.run(run()) == [0, 1, 2, 4, 5, 6, 7, 8, 100]


def test_one_that_is_cancelled_while_shown_hands_on() -> None:
    async def run() -> list[int]:
        line = Line()
        first, second = await line.begin(1), await line.begin(2)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        line.answered.set()
        await second
        return line.shown

    assert asyncio.run(run()) == [1, 2]
