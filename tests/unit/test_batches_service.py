"""Batches: one yes for exactly these items, stopped by the first PIN, resumed after a crash, never an item twice."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batch_parts import (
    APPLICATION,
    CALLER,
    OTHER,
    Open,
    Stage,
    code_of,
    digest_of,
    documents,
    play,
    seal,
    state_of,
)
from sealagent.callers.model import Effect, Paired
from sealagent.consent.prompter import Consent, SealPicture
from sealagent.errors import FormatError, SealAgentError
from sealagent.signing.batches.machine import BatchState, ItemState
from sealagent.uses import Operation
from sealdrivers.errors import PinIncorrect, TokenNotFound


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_the_holder_sees_the_list_once_and_exactly_that_is_sealed(stage: Stage) -> None:
    async def scene(opened: Open) -> None:
        batch = await opened.approved(documents(3))
        [asked] = stage.asked
        assert asked.question == "batch"
        assert asked.occasion.operation is Operation.DOCUMENT
        assert asked.occasion.seal == "公章"
        assert asked.occasion.picture == SealPicture("png", b"a picture")
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
