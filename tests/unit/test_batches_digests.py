"""Batches of digests: many at once, and stopped, paused, cancelled, interrupted in the middle."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from batch_parts import (
    CALLER,
    Open,
    Stage,
    code_of,
    digest_of,
    digests,
    play,
    state_of,
)
from sealagent.errors import SealAgentError
from sealagent.signing.batches import service
from sealagent.signing.batches.machine import BatchState, ItemState
from sealagent.uses import Operation
from sealdrivers.contract import Mechanism
from sealdrivers.errors import PinIncorrect, TokenNotFound


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture(autouse=True)
def any_mechanism(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the stage is none of a driver's."""
    monkeypatch.setattr(service, "checked_mechanism", lambda info, name: Mechanism.ECDSA_SHA256)


def test_digests_go_many_at_once_after_the_first(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(digests(200))
        assert stage.asked[0].occasion.operation is Operation.RAW
        alone: list[int] = []

        async def watch(number: int) -> None:
            if not stage.unlocked:
                await asyncio.sleep(0.02)
                alone.append(opened.device.now)

        opened.device.before = watch
        await opened.batches.run(CALLER, batch.id)
        await opened.batches.run(CALLER, batch.id)  # no second runner
        done = await opened.batches.settled(CALLER, batch.id, 30)
        assert done.progress.state is BatchState.DONE
        assert alone == [1]  # behind a prompt for the PIN no other waits
        assert 8 < opened.device.most <= 32
        assert [number for _, number in opened.device.made] != []
        assert max(Counter(opened.device.made).values()) == 1
        results = await opened.batches.signatures(done, 0, 500)
        assert list(results) == list(range(1, 201))
        assert all(receipt.digest == digest_of(number).hex() for number, (_, receipt) in results.items())
        assert list(await opened.batches.signatures(done, 190, 5)) == [191, 192, 193, 194, 195]
        assert await code_of(opened.batches.run(CALLER, batch.id)) == "batch_ended"

    play(stage, scene)


def test_a_slow_device_is_not_blocked_for_others_by_a_long_queue(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch, device = await opened.approved(digests(8)), asyncio.Lock()

        async def slow(number: int) -> None:
            async with device:
                await asyncio.sleep(0.25)

        opened.device.before = slow
        await opened.batches.run(CALLER, batch.id)
        await opened.batches.settled(CALLER, batch.id, 30)
        assert state_of(batch) is BatchState.DONE
        assert opened.device.most == 2  # at four signatures a second, not 32 of them before somebody else's

    play(stage, scene)


def test_a_pin_that_fails_stops_the_digests_behind_it(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(digests(100))
        opened.device.faults[1] = [PinIncorrect("wrong", tries_left=2)]
        await opened.batches.run(CALLER, batch.id)
        await opened.batches.settled(CALLER, batch.id, 30)
        assert (batch.progress.state, batch.progress.reason) == (BatchState.STOPPED, "pin_incorrect")
        assert opened.device.made == []
        assert opened.device.most == 1
        assert await code_of(opened.batches.run(CALLER, batch.id)) == "batch_stopped"
        await opened.batches.resume(CALLER, batch.id)
        await opened.batches.run(CALLER, batch.id)
        await opened.batches.settled(CALLER, batch.id, 30)
        assert state_of(batch) is BatchState.DONE
        assert len(stage.asked) == 1

    play(stage, scene)


def test_a_lock_in_the_middle_lets_one_item_ask_for_the_pin(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(digests(100))
        prompts: list[int] = []

        async def watch(number: int) -> None:
            await asyncio.sleep(0.001)
            if number == 50:
                stage.unlocked, stage.session_number = False, 1
            elif not stage.unlocked and number > 50 + 32:
                prompts.append(opened.device.now)

        opened.device.before = watch
        await opened.batches.run(CALLER, batch.id)
        await opened.batches.settled(CALLER, batch.id, 30)
        assert state_of(batch) is BatchState.DONE
        assert set(prompts) <= {1}

    play(stage, scene)


@pytest.mark.parametrize("number", [1, 50, 100])
def test_an_item_that_would_have_to_ask_goes_back_and_is_taken_alone(stage: Stage, number: int) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(digests(100))
        opened.device.faults[number] = [SealAgentError("prompt_not_now", "not now")]
        beside: list[int] = []

        async def watch(item: int) -> None:
            await asyncio.sleep(0.001)
            if item == number:
                beside.append(opened.device.now)

        opened.device.before = watch
        await opened.batches.run(CALLER, batch.id)
        await opened.batches.settled(CALLER, batch.id, 30)
        assert state_of(batch) is BatchState.DONE
        assert len(beside) == 2
        assert beside[1] == 1
        assert len(opened.device.made) == 100

    play(stage, scene)


def test_unplugged_in_the_middle_of_digests(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(digests(100))
        opened.device.faults.update({number: [TokenNotFound("unplugged")] for number in range(40, 101)})
        await opened.batches.run(CALLER, batch.id)
        await opened.batches.settled(CALLER, batch.id, 30)
        assert (batch.progress.state, batch.progress.reason) == (BatchState.PAUSED, "token_not_found")
        assert batch.progress.count(ItemState.SIGNED) >= 39
        assert batch.progress.count(ItemState.FAILED) == 0
        for _ in range(70):  # plugged in again, with a bad contact
            await opened.batches.run(CALLER, batch.id)
            await opened.batches.settled(CALLER, batch.id, 30)
            if state_of(batch) is BatchState.DONE:
                break
        assert state_of(batch) is BatchState.DONE
        assert max(Counter(opened.device.made).values()) == 1
        assert len(opened.device.made) == 100

    play(stage, scene)


def test_cancelled_while_it_runs(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(digests(500))
        reached = asyncio.Event()

        async def slow(number: int) -> None:
            await asyncio.sleep(0.001)
            if number == 100:
                reached.set()

        opened.device.before = slow
        await opened.batches.run(CALLER, batch.id)
        await reached.wait()
        await opened.batches.cancel(CALLER, batch.id)
        await opened.batches.settled(CALLER, batch.id, 30)
        await asyncio.sleep(0.1)
        found = await opened.batches.find(CALLER, batch.id)
        numbers = found.numbers()
        assert found.progress.state is BatchState.CANCELLED
        assert numbers["signed"] == len(opened.device.made) < 200
        assert numbers["signed"] + numbers["skipped"] == 500
        assert await code_of(opened.batches.cancel(CALLER, batch.id)) == "batch_ended"
        assert ("admin", "cancel_batch") in opened.entries()

    play(stage, scene)

    async def later(opened: Open) -> None:
        [batch] = await opened.batches.list(CALLER)
        assert state_of(batch) is BatchState.CANCELLED
        assert batch.numbers()["running"] == 0
        signed = sum(1 for entry in opened.ledger.entries(limit=1000) if entry.kind.value == "signed")
        assert batch.progress.count(ItemState.SIGNED) == signed

    play(stage, later)


def test_cancelling_takes_back_the_prompt_that_waits(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(digests(5))
        prompt = asyncio.Event()
        withdrawn: list[int] = []

        async def never(number: int) -> None:
            prompt.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                withdrawn.append(number)
                raise

        opened.device.before = never
        await opened.batches.run(CALLER, batch.id)
        await prompt.wait()
        await opened.batches.cancel(CALLER, batch.id)
        await opened.batches.settled(CALLER, batch.id, 5)
        assert withdrawn == [1]
        assert (await opened.batches.find(CALLER, batch.id)).numbers()["skipped"] == 5

    play(stage, scene)


def test_the_end_of_the_agent_in_the_middle(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(digests(300))
        reached = asyncio.Event()

        async def slow(number: int) -> None:
            await asyncio.sleep(0.001)
            if number == 50:
                reached.set()

        opened.device.before = slow
        await opened.batches.run(CALLER, batch.id)
        await reached.wait()

    play(stage, scene)

    async def later(opened: Open) -> None:
        [batch] = await opened.batches.list(CALLER)
        assert (batch.progress.state, batch.progress.reason) == (BatchState.PAUSED, "interrupted")
        before = batch.progress.count(ItemState.SIGNED)
        assert before >= 20
        await opened.batches.run(CALLER, batch.id)
        await opened.batches.settled(CALLER, batch.id, 30)
        assert state_of(batch) is BatchState.DONE
        assert len(opened.device.made) == 300 - before
        assert len(await opened.batches.signatures(batch, 0, 1000)) == 300
        assert len(stage.asked) == 1

    play(stage, later)
