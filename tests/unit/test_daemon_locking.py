"""Tokens are locked in time: when theirs is over, and after a sleep, which two clocks tell from waiting."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from sealagent.daemon.locking import SLEEP_SECONDS, SleepDetector, boottime, lock_in_time
from sealagent.events import Event
from sealdrivers.errors import WorkerTimeout


@dataclass
class Machine:
    """Two clocks; reading one may take a while, as on a busy machine."""

    awake: float = 1000.0
    asleep: float = 50.0
    slow: float = 0.0

    def read_awake(self) -> float:
        self.awake += self.slow
        return self.awake

    def read_boot(self) -> float:
        self.awake += self.slow
        return self.awake + self.asleep

    def detector(self) -> SleepDetector:
        return SleepDetector(self.read_boot, self.read_awake)


def test_sleep_is_noticed_once() -> None:
    machine = Machine()
    detector = machine.detector()
    assert detector.slept() == 0
    machine.awake += 3600
    assert detector.slept() == 0
    machine.asleep += 7200
    assert detector.slept() == pytest.approx(7200)
    assert detector.slept() == 0
    machine.asleep += SLEEP_SECONDS
    assert detector.slept() == pytest.approx(SLEEP_SECONDS)


def test_short_sleeps_add_up() -> None:
    machine = Machine()
    detector = machine.detector()
    found = 0.0
    for _ in range(5):
        machine.asleep += SLEEP_SECONDS * 0.6
        found += detector.slept()
    assert found == pytest.approx(SLEEP_SECONDS * 2.4)


@pytest.mark.parametrize("slow", [0.5, 100.0])
def test_a_process_that_waits_between_two_readings_has_not_slept(slow: float) -> None:
    machine = Machine()
    detector = machine.detector()
    for pause in (slow, 0.0, slow, 0.0, 0.0):
        machine.slow = pause
        assert detector.slept() == 0
    machine.slow = 0.0
    machine.asleep += 10
    assert detector.slept() == pytest.approx(10)


def test_the_clocks_of_this_machine_show_no_sleep() -> None:
    assert boottime() >= time.monotonic() - 0.001
    detector = SleepDetector()
    time.sleep(0.05)
    assert detector.slept() == 0


@dataclass
class Tokens:
    fails: int = 0
    locked: int = 0
    looks: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)
    unlocked: asyncio.Event = field(default_factory=asyncio.Event)

    async def something_unlocked(self) -> None:
        await self.unlocked.wait()

    async def lock_expired(self) -> None:
        self.looks += 1

    async def lock_all(self) -> None:
        if self.fails:
            self.fails -= 1
            raise WorkerTimeout("the module did not answer")
        self.locked += 1
        self.done.set()


def test_every_token_is_locked_and_an_event_tells_why() -> None:
    async def scene() -> None:
        machine, tokens, events = Machine(), Tokens(fails=2), list[Event]()
        watching = asyncio.create_task(lock_in_time(tokens, events.append, machine.detector(), 0.001))
        await asyncio.sleep(0.05)
        assert tokens.looks == 0  # nothing is unlocked: nobody wakes up for it
        tokens.unlocked.set()
        await asyncio.sleep(0.05)
        assert tokens.looks > 0
        assert (tokens.locked, events) == (0, [])
        machine.asleep += 30
        await asyncio.wait_for(tokens.done.wait(), 10)
        await asyncio.sleep(0.05)
        assert tokens.locked == 1  # after two attempts that failed
        assert events == [Event("machine_slept", {"seconds": 30})]
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(scene())
