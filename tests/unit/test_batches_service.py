"""Batches: one yes for exactly these items, stopped by the first PIN, resumed after a crash, never an item twice."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batch_parts import APPLICATION, CALLER, OTHER, Open, Stage, digest_of, documents, opened_batches
from sealagent.callers.model import Effect, Paired
from sealagent.consent.prompter import Consent
from sealagent.errors import FormatError, SealAgentError
from sealagent.signing.batches import service, store
from sealagent.signing.batches.machine import BatchState, ItemState
from sealagent.signing.batches.model import Batch, BatchKind, Item, Order
from sealagent.signing.line import DocumentJob
from sealagent.uses import Operation
from sealdrivers.contract import Mechanism
from sealdrivers.errors import PinIncorrect, TokenNotFound

JOB = DocumentJob("seal-1", (), "a.ofd")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def state_of(batch: Batch) -> BatchState:
    """Return the state as it is now, whatever a type checker remembers of it."""
    return batch.progress.state


def digests(count: int) -> Order:
    """Return an order of bare digests."""
    items = tuple(Item(f"{number}", digest_of(number)) for number in range(1, count + 1))
    return Order(BatchKind.DIGESTS, None, "key-1", None, None, items)


@pytest.fixture(autouse=True)
def any_mechanism(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the stage is none of a driver's."""
    monkeypatch.setattr(service, "checked_mechanism", lambda info, name: Mechanism.ECDSA_SHA256)


async def seal(opened: Open, batch: Batch, number: int, caller: Any = CALLER, octets: int | None = None) -> bytes:
    out = io.BytesIO()
    sha256 = digest_of(number if octets is None else octets)
    await opened.batches.seal(caller, batch.id, number, JOB, sha256, io.BytesIO(), out)
    return out.getvalue()


async def code_of(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(Exception) as caught:
        await work
    return str(getattr(caught.value, "code", caught.value))


def play(stage: Stage, scene: Callable[[Open], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with opened_batches(stage) as opened:
            await scene(opened)

    asyncio.run(run())


def test_the_holder_sees_the_list_once_and_exactly_that_is_sealed(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(3))
        [asked] = stage.asked
        assert asked.question == "batch"
        assert asked.occasion.operation is Operation.DOCUMENT
        assert asked.occasion.seal == "公章"
        assert asked.occasion.items == tuple(f"{n}.ofd [{digest_of(n).hex()[:16]}]" for n in (1, 2, 3))
        assert state_of(batch) is BatchState.APPROVED
        assert await code_of(seal(opened, batch, 1, octets=2)) == "batch_item_mismatch"
        assert await code_of(seal(opened, batch, 4)) == "batch_item_not_found"
        assert opened.device.made == []
        for number in (2, 1, 3):
            await seal(opened, batch, number)
        assert state_of(batch) is BatchState.DONE
        assert len(stage.asked) == 1
        assert [number for _, number in opened.device.made] == [2, 1, 3]
        assert batch.record == 1
        assert opened.ledger.read(1).body["batch"] == {"id": batch.id, "items": 3, "sha256": batch.digest.hex()}
        assert opened.ledger.read(1).body["authorization"] == {
            "source": "default",
            "name": "document",
            "agreed": "confirm",
        }
        assert opened.ledger.verify().ok

    play(stage, scene)
    assert stat.S_IMODE((stage.directory / "batches.sqlite").stat().st_mode) == 0o600


def test_where_policy_allows_it_nobody_is_asked(stage: Stage) -> None:
    stage.effect = Effect.ALLOW

    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(1))
        assert (batch.progress.state, stage.asked) == (BatchState.APPROVED, [])

    play(stage, scene)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Consent.NO, "consent_refused"),
        (SealAgentError("prompt_timeout", "nobody answered"), "prompt_timeout"),
        (SealAgentError("consent_unavailable", "nobody is there"), "consent_unavailable"),
        (SealAgentError("caller_gone", "the program has ended"), "caller_gone"),
    ],
)
def test_what_is_no_yes_lets_nothing_be_signed(stage: Stage, answer: Any, code: str) -> None:
    stage.agrees = answer

    async def scene(opened: Open) -> None:
        assert await code_of(opened.approved(documents(2), idempotency_key="k", request=b"r" * 32)) == code
        [batch] = await opened.batches.list(CALLER)
        assert (batch.progress.state, batch.progress.reason) == (BatchState.REFUSED, code)
        assert batch.progress.count(ItemState.SKIPPED) == 2
        assert await code_of(seal(opened, batch, 1)) == "batch_ended"
        assert opened.entries() == [("refused", code)]
        stage.agrees = Consent.ONCE  # the same key may ask again
        again = await opened.approved(documents(2), idempotency_key="k", request=b"r" * 32)
        assert again.progress.state is BatchState.APPROVED
        assert again.id != batch.id

    play(stage, scene)


def test_what_policy_denies_is_not_even_asked(stage: Stage) -> None:
    stage.effect = Effect.DENY

    async def scene(opened: Open) -> None:
        assert await code_of(opened.approved(documents(2))) == "use_denied"
        assert stage.asked == []
        assert opened.entries() == [("refused", "use_denied")]
        assert await opened.batches.list(CALLER) == []

    play(stage, scene)


def test_nothing_is_sealed_while_the_holder_thinks(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        stage.hesitates = asyncio.Event()
        asking = asyncio.create_task(opened.approved(documents(1)))
        await stage.was_asked.wait()
        [batch] = await opened.batches.list(CALLER)
        assert state_of(batch) is BatchState.WAITING
        assert await code_of(seal(opened, batch, 1)) == "batch_waiting"
        assert await code_of(opened.batches.resume(CALLER, batch.id)) == "batch_waiting"
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert state_of(batch) is BatchState.REFUSED

    play(stage, scene)


def test_a_batch_is_its_callers_own(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        mine, app = await opened.approved(documents(1)), await opened.approved(documents(1), APPLICATION)
        another = replace(APPLICATION, application=Paired("ffff", "Other"))
        for caller in (OTHER, replace(CALLER, executable=None)):
            assert await code_of(seal(opened, mine, 1, caller)) == "batch_not_yours"
        for caller in (APPLICATION, another):
            assert await code_of(seal(opened, mine, 1, caller)) == "batch_not_found"
            assert await code_of(opened.batches.cancel(caller, mine.id)) == "batch_not_found"
        # The holder's own tools see those of applications, and may end them, but not go on with them.
        assert {batch.id for batch in await opened.batches.list(CALLER)} == {mine.id, app.id}
        assert await opened.batches.list(another) == []
        assert [batch.id for batch in await opened.batches.list(APPLICATION)] == [app.id]
        assert await code_of(seal(opened, app, 1)) == "batch_not_yours"
        assert await code_of(opened.batches.resume(CALLER, app.id)) == "batch_not_yours"
        stranger = replace(CALLER, uid=CALLER.uid + 1)
        assert await code_of(opened.batches.find(stranger, mine.id)) == "batch_not_found"
        moved = replace(APPLICATION, executable="/opt/app/2")
        await seal(opened, app, 1, moved)  # pairing says who it is, not its path
        await opened.batches.cancel(CALLER, mine.id)
        assert opened.device.made == [(app.kept_key, 1)]
        assert await code_of(opened.approved(documents(1), replace(CALLER, executable=None))) == "caller_unknown"

    play(stage, scene)


def test_one_bad_document_among_ten_thousand(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(10_000))
        opened.device.faults[5_000] = [FormatError("ofd_structure", "OFD.xml is missing")]
        turn = asyncio.Semaphore(64)

        async def one(number: int) -> str | None:
            async with turn:
                try:
                    await seal(opened, batch, number)
                except SealAgentError as error:
                    return error.code
            return None

        outcomes = await asyncio.gather(*(one(number) for number in range(1, 10_001)))
        assert [n for n, code in enumerate(outcomes, 1) if code] == [5_000]
        assert outcomes[4_999] == "ofd_structure"
        assert state_of(batch) is BatchState.DONE
        assert batch.numbers() == {
            "total": 10_000,
            "signed": 9_999,
            "failed": 1,
            "pending": 0,
            "running": 0,
            "skipped": 0,
        }
        assert batch.results[5_000].code == "ofd_structure"
        assert max(Counter(opened.device.made).values()) == 1

    play(stage, scene)
    told = [event for event in stage.events if event.name == "batch"]
    assert told[-1].data["state"] == "done"
    assert (told[-1].data["done"], told[-1].data["failed"], told[-1].data["total"]) == (9_999, 1, 10_000)
    assert len(told) < 1_000  # not one for each item


def test_the_first_pin_that_fails_stops_it_until_it_is_resumed(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(3))
        await seal(opened, batch, 1)
        opened.device.faults[2] = [PinIncorrect("wrong", tries_left=2)]
        assert await code_of(seal(opened, batch, 2)) == "pin_incorrect"
        assert (batch.progress.state, batch.progress.reason) == (BatchState.STOPPED, "pin_incorrect")
        for number in (2, 3):
            assert await code_of(seal(opened, batch, number)) == "batch_stopped"

    play(stage, scene)

    async def later(opened: Open) -> None:  # a restart is no resumption
        [batch] = await opened.batches.list(CALLER)
        assert await code_of(seal(opened, batch, 2)) == "batch_stopped"
        await opened.batches.resume(CALLER, batch.id)
        for number in (2, 3):
            await seal(opened, batch, number)
        assert state_of(batch) is BatchState.DONE
        assert len(stage.asked) == 1

    play(stage, later)


def test_what_lies_beside_the_items_pauses_it_and_it_goes_on(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(2))
        opened.device.faults[1] = [TokenNotFound("unplugged"), SealAgentError("record_failed", "the disk is full")]
        for code in ("token_not_found", "record_failed"):
            assert await code_of(seal(opened, batch, 1)) == code
            assert (batch.progress.state, batch.progress.reason) == (BatchState.PAUSED, code)
            assert batch.progress.item(1) is ItemState.PENDING
        await seal(opened, batch, 1)
        await seal(opened, batch, 2)
        assert state_of(batch) is BatchState.DONE

    play(stage, scene)


def test_a_signed_item_is_given_again_and_never_signed_again(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(2))
        first = await seal(opened, batch, 1)
        assert await seal(opened, batch, 1) == first
        again = await asyncio.gather(*(seal(opened, batch, 2) for _ in range(5)), return_exceptions=True)
        made = [each for each in again if isinstance(each, bytes)]
        assert len(made) == 1
        assert {each.code for each in again if isinstance(each, SealAgentError)} == {"batch_item_busy"}
        assert state_of(batch) is BatchState.DONE
        assert await seal(opened, batch, 2) == made[0]  # also of one that is done
        assert len(opened.device.made) == 2

    play(stage, scene)


@pytest.mark.parametrize("at", ["before it", "intent", "made", "kept"])
def test_a_crash_at_every_step_of_an_item(stage: Stage, at: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The directory is copied while the agent is in the middle of item 2, as a crash leaves it, and taken up again."""
    copy = tmp_path_factory.mktemp("crashed") / "state"

    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(3))
        await seal(opened, batch, 1)

        def crash(*_: Any) -> None:
            if not copy.exists():
                shutil.copytree(stage.directory, copy)

        if at == "before it":

            async def before(number: int) -> None:
                crash()

            opened.device.before = before
        if at in ("intent", "made"):
            recorder = opened.device.recorder
            called = recorder.signed if at == "made" else recorder.intent

            async def stopped(*arguments: Any) -> Any:
                entry = await called(*arguments) if at == "intent" else None
                crash()
                return entry or await called(*arguments)

            setattr(recorder, "signed" if at == "made" else "intent", stopped)
        await seal(opened, batch, 2)
        crash()

    play(stage, scene)
    restarted = Stage(copy)

    async def later(opened: Open) -> None:
        [batch] = await opened.batches.list(CALLER)
        assert state_of(batch) is BatchState.PAUSED
        assert batch.progress.item(1) is ItemState.SIGNED
        assert batch.progress.item(2) is (ItemState.SIGNED if at == "kept" else ItemState.PENDING)
        for number in (1, 2, 3):
            await seal(opened, batch, number)
        assert state_of(batch) is BatchState.DONE
        # What the crash left unrecorded was never released, and is signed now; what was recorded is not.
        assert [number for _, number in opened.device.made] == ([3] if at == "kept" else [2, 3])
        assert restarted.asked == []
        assert opened.ledger.verify().ok
        assert opened.ledger.open_intents() == []
        signed = [entry for entry in opened.entries() if entry[0] == "signed"]
        assert len(signed) == 3

    play(restarted, later)


def test_a_crash_while_the_holder_thinks_is_no_yes(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("crashed") / "state"

    async def scene(opened: Open) -> None:
        stage.hesitates = asyncio.Event()
        asking = asyncio.create_task(opened.approved(documents(1)))
        await stage.was_asked.wait()
        shutil.copytree(stage.directory, copy)
        stage.hesitates.set()
        await asking

    play(stage, scene)

    async def later(opened: Open) -> None:
        [batch] = await opened.batches.list(CALLER)
        assert (batch.progress.state, batch.progress.reason) == (BatchState.REFUSED, "interrupted")
        assert await code_of(seal(opened, batch, 1)) == "batch_ended"

    play(Stage(copy), later)


def test_time_ends_the_approval(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch, other = await opened.approved(documents(2), hours=1), await opened.approved(documents(1))
        await seal(opened, batch, 1)
        stage.ahead = timedelta(minutes=59)
        await seal(opened, batch, 2)
        stage.ahead = timedelta(hours=24)
        assert await code_of(seal(opened, other, 1)) == "batch_ended"
        assert other.progress.state is BatchState.EXPIRED

    play(stage, scene)

    async def meanwhile(opened: Open) -> None:
        batch = await opened.approved(documents(1))

        async def ages(number: int) -> None:
            stage.ahead += timedelta(hours=25)  # the holder needs a day for the PIN

        opened.device.before = ages
        assert await code_of(seal(opened, batch, 1)) == "batch_item_unknown"
        assert opened.device.made == []
        assert (await opened.batches.find(CALLER, batch.id)).progress.state is BatchState.EXPIRED

    play(stage, meanwhile)


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


def test_the_same_key_makes_the_same_batch_over_a_restart(stage: Stage) -> None:
    made: list[str] = []

    async def scene(opened: Open) -> None:
        for _ in range(2):
            batch = await opened.approved(documents(2), idempotency_key="k", request=b"r" * 32)
            made.append(batch.id)
        assert await code_of(opened.approved(documents(1), idempotency_key="k", request=b"x" * 32)) == (
            "idempotency_conflict"
        )
        app = await opened.approved(documents(2), APPLICATION, idempotency_key="k", request=b"r" * 32)
        assert app.id not in made  # another application's key is another key

    play(stage, scene)
    play(stage, scene)
    assert len(set(made)) == 1
    assert len(stage.asked) == 2


def test_bounds(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_OPEN", 3)
    monkeypatch.setattr(service, "MAX_OPEN_OF_ONE", 2)

    async def scene(opened: Open) -> None:
        assert await code_of(opened.approved(documents(10_001))) == "batch_too_large"
        assert await code_of(opened.approved(documents(0))) == "batch_too_large"
        stage.most = 5
        assert await code_of(opened.approved(documents(6))) == "batch_too_large"
        first = await opened.approved(documents(1))
        await opened.approved(documents(1))
        assert await code_of(opened.approved(documents(1))) == "too_many_batches"
        await opened.approved(documents(1), APPLICATION)
        await seal(opened, first, 1)
        last = await opened.approved(documents(1))
        assert await code_of(opened.approved(documents(1))) == "too_many_batches"
        stage.ahead = timedelta(hours=25)  # those whose time is over take no place
        last = await opened.approved(documents(1))
        short = replace(digests(1), items=(Item("1", bytes(20)),))
        await opened.batches.cancel(CALLER, last.id)
        assert await code_of(opened.approved(short)) == "digest_invalid"
        assert await code_of(opened.batches.find(CALLER, "0" * 16)) == "batch_not_found"

    play(stage, scene)


def test_the_oldest_that_ended_are_forgotten(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_ENDED", 3)

    async def scene(opened: Open) -> None:
        going = await opened.approved(documents(1))
        for _ in range(8):
            stage.ahead += timedelta(seconds=1)
            batch = await opened.approved(documents(2))
            await opened.batches.cancel(CALLER, batch.id)
        found = {each.id for each in await opened.batches.list(CALLER)}
        assert going.id in found
        assert len(found) == 5

    play(stage, scene)


@pytest.mark.parametrize("octets", [b"no database at all" * 100, b""])
def test_a_store_that_is_none(stage: Stage, octets: bytes) -> None:
    path = stage.directory / "batches.sqlite"
    path.write_bytes(octets)
    if not octets:  # an empty file is what a crash between its making and its filling leaves
        play(stage, _nothing)
        return
    with pytest.raises(SealAgentError) as caught:
        play(stage, _nothing)
    assert caught.value.code == "batch_store_failed"
    assert path.read_bytes() == octets


async def _nothing(opened: Open) -> None:
    assert await opened.batches.list(CALLER) == []


def test_a_damaged_batch_is_named(stage: Stage) -> None:
    made: list[str] = []

    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(2))
        made.append(batch.id)
        await opened.batches.cancel(CALLER, batch.id)

    play(stage, scene)
    with contextlib.closing(sqlite3.connect(stage.directory / "batches.sqlite", isolation_level=None)) as database:
        database.execute("UPDATE item SET state = 'half' WHERE number = 2")

    async def later(opened: Open) -> None:
        assert await code_of(opened.batches.find(CALLER, made[0])) == "batch_store_failed"
        assert await code_of(opened.batches.list(CALLER)) == "batch_store_failed"
        await opened.approved(documents(1))  # others are unharmed

    play(stage, later)


def test_of_batches_that_ended_only_counts_are_listed(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        for _ in range(6):
            batch = await opened.approved(documents(5))
            opened.device.faults[2] = [FormatError("ofd_structure", "no")]
            for number in (1, 2):
                with contextlib.suppress(FormatError):
                    await seal(opened, batch, number)
            await opened.batches.cancel(CALLER, batch.id)
        for batch in await opened.batches.list(CALLER):
            assert batch.order.items == ()
            assert batch.numbers() == {
                "total": 5,
                "signed": 1,
                "failed": 1,
                "pending": 0,
                "running": 0,
                "skipped": 3,
            }
            whole = await opened.batches.find(CALLER, batch.id)
            assert [item.name for item in whole.order.items] == [f"{n}.ofd" for n in range(1, 6)]
            assert whole.results[2].code == "ofd_structure"

    play(stage, scene)
