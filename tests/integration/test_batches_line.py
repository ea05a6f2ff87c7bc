"""Batches on the real line: SoftHSM in a worker, a holder who is asked, the guard beside the device."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from agent_world import TestAuthority
from host_parts import eventually, workers
from line_parts import CALLER, Holder, Line, opened_line
from sealagent.callers.model import Decision, Effect
from sealagent.callers.peer import Caller
from sealagent.consent.prompter import Consent
from sealagent.documents.ofd.seal import Invisible
from sealagent.errors import SealAgentError
from sealagent.records.entry import EntryKind
from sealagent.signing.batches.machine import BatchState
from sealagent.signing.batches.model import Batch, BatchKind, Item, Order
from sealagent.signing.batches.service import Batches
from sealagent.signing.batches.store import BatchStore
from sealagent.signing.line import DocumentJob
from sealagent.uses import Use
from sealdrivers.errors import DriverError
from softhsm2_fixtures import SoftToken


@dataclass
class Policy:
    """A policy that tests change while something runs."""

    effect: Effect = Effect.ASK

    def __call__(self, caller: Caller, use: Use, now: datetime) -> Decision:
        return Decision(self.effect, "default", use.operation.value, "the test says so")


@dataclass
class Desk:
    """What a scene has."""

    line: Line
    batches: Batches
    holder: Holder
    policy: Policy

    async def digests(self, count: int) -> Batch:
        items = tuple(Item(f"{n}", hashlib.sha256(b"%d" % n).digest()) for n in range(1, count + 1))
        return await self.batches.create(
            CALLER, Order(BatchKind.DIGESTS, None, await self.line.only_key(), None, None, items)
        )

    async def run(self, batch: Batch) -> BatchState:
        await self.batches.run(CALLER, batch.id)
        return (await self.batches.settled(CALLER, batch.id, 60)).progress.state

    def signed(self) -> list[dict[str, Any]]:
        """Return the intents that came to a signature."""
        entries, after = [], 0
        while page := self.line.ledger.entries(after, 1000):
            entries += page
            after = page[-1].number
        return [
            cast(dict[str, Any], self.line.ledger.read(entry.intent or 0).body)
            for entry in entries
            if entry.kind is EntryKind.SIGNED
        ]


@contextlib.asynccontextmanager
async def desk(directory: Path, token: SoftToken, authority: TestAuthority | None = None) -> AsyncIterator[Desk]:
    holder, policy = Holder(token.user_pin), Policy()
    async with opened_line(directory, token, holder, authority=authority, decide=policy) as line:
        batches = Batches(
            store=BatchStore(directory / "batches.sqlite"),
            ledger=line.ledger,
            recorder=line.recorder,
            inventory=line.inventory,
            authorizer=line.authorizer,
            unlocker=line.unlocker,
            line=line.line,
            clock=line.clock,
            publish=line.events.append,
        )
        await batches.start()
        try:
            yield Desk(line, batches, holder, policy)
        finally:
            await batches.close()


def with_seal(token: SoftToken) -> TestAuthority:
    """Put a signer and its seal on a token; return who vouches for them."""
    authority = TestAuthority()
    certificate = authority.issue(token.add_key("ec-p256", object_id=b"\x01", label="k"))
    token.add_certificate(certificate, object_id=b"\x01", label="k")
    token.add_data(authority.make_seal([certificate]), label="seal")
    return authority


async def in_the_middle(batch: Batch) -> None:
    """Return once a hundred items of a batch were begun."""
    await eventually(lambda: batch.progress.total - len(batch.pending()) >= 100, "a hundred items")


@pytest.fixture
def token(softhsm_token: SoftToken) -> SoftToken:
    softhsm_token.add_key("ec-p256")
    return softhsm_token


def test_one_yes_and_one_pin_for_two_hundred_digests(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        async with desk(tmp_path, token) as place:
            batch = await place.digests(200)
            assert await place.run(batch) is BatchState.DONE
            [consent], [pin] = place.holder.consents, place.holder.asked
            assert consent.question == "batch"
            assert len(consent.occasion.items) == 200
            assert consent.token_serial == pin.token_serial == token.serial
            intents = place.signed()
            assert len(intents) == len({intent["document"]["digest"] for intent in intents}) == 200
            assert {intent["authorization"]["agreed"] for intent in intents} == {"batch"}
            assert {intent["batch"] for intent in intents} == {batch.id}
            assert place.line.ledger.open_intents() == []
            assert place.line.ledger.verify().ok

    asyncio.run(scene())


def test_a_wrong_pin_is_tried_once(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        async with desk(tmp_path, token) as place:
            batch = await place.digests(100)
            place.holder.pin = "0000"
            assert await place.run(batch) is BatchState.STOPPED
            assert (len(place.holder.asked), batch.progress.reason) == (1, "pin_incorrect")
            with pytest.raises(SealAgentError, match="stopped"):
                await place.batches.run(CALLER, batch.id)
            place.holder.pin = token.user_pin
            await place.batches.resume(CALLER, batch.id)
            assert await place.run(batch) is BatchState.DONE
            assert (len(place.holder.asked), len(place.holder.consents)) == (2, 1)
            assert len(place.signed()) == 100

    asyncio.run(scene())


def test_a_lock_in_the_middle_asks_once_more_and_a_wrong_pin_then_is_tried_once(
    tmp_path: Path, token: SoftToken
) -> None:
    async def scene(pin: str, state: BatchState) -> None:
        folder = tmp_path / pin
        folder.mkdir()
        async with desk(folder, token) as place:
            batch = await place.digests(300)
            await place.batches.run(CALLER, batch.id)
            await in_the_middle(batch)
            place.holder.pin = pin
            [uri] = [each.uri for each in await place.line.tokens.tokens()]
            await place.line.unlocker.lock(uri)
            await place.batches.settled(CALLER, batch.id, 60)
            assert batch.progress.state is state
            assert len(place.holder.asked) == 2
            intents = place.signed()
            assert len(intents) == len({intent["document"]["digest"] for intent in intents})
            assert len(intents) == batch.numbers()["signed"]
            assert place.line.ledger.open_intents() == []

    asyncio.run(scene(token.user_pin, BatchState.DONE))
    asyncio.run(scene("0000", BatchState.STOPPED))


def test_policy_that_changes_meanwhile_counts_beside_the_device(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        async with desk(tmp_path, token) as place:
            batch = await place.digests(300)
            await place.batches.run(CALLER, batch.id)
            await in_the_middle(batch)
            place.policy.effect = Effect.DENY
            await place.batches.settled(CALLER, batch.id, 60)
            assert (batch.progress.state, batch.progress.reason) == (BatchState.PAUSED, "use_denied")
            assert 0 < len(place.signed()) < 300
            place.policy.effect = Effect.ASK
            assert await place.run(batch) is BatchState.DONE
            assert len(place.holder.consents) == 1

    asyncio.run(scene())


def test_whoever_says_no_is_not_asked_for_a_pin(tmp_path: Path, token: SoftToken) -> None:
    async def scene() -> None:
        async with desk(tmp_path, token) as place:
            place.holder.agrees = Consent.NO
            with pytest.raises(SealAgentError) as caught:
                await place.digests(3)
            assert caught.value.code == "consent_refused"
            assert place.holder.asked == []
            assert place.line.entries() == [("refused", "consent_refused")]

    asyncio.run(scene())


def test_documents_of_a_batch_are_sealed_with_one_yes_and_one_pin(
    tmp_path: Path, softhsm_token: SoftToken, vectors: Path
) -> None:
    authority = with_seal(softhsm_token)
    octets = (vectors / "helloworld.ofd").read_bytes()
    sha256 = hashlib.sha256(octets).digest()

    async def scene() -> None:
        async with desk(tmp_path, softhsm_token, authority) as place:
            items = (Item("a.ofd", sha256), Item("copy.ofd", sha256), Item("b.ofd", bytes(32)))
            order = Order(BatchKind.DOCUMENTS, "测试单位公章", "", None, "{}", items)
            batch = await place.batches.create(CALLER, order)
            job = DocumentJob(batch.order.seal or "", [Invisible()], "a.ofd")
            sealed = []
            for number in (1, 2, 1):
                out = io.BytesIO()
                await place.batches.seal(CALLER, batch.id, number, job, sha256, io.BytesIO(octets), out)
                sealed.append(out.getvalue())
            assert sealed[0] == sealed[2]
            assert sealed[0] != sealed[1]  # a copy is an item of its own
            with pytest.raises(SealAgentError) as caught:
                await place.batches.seal(CALLER, batch.id, 3, job, sha256, io.BytesIO(octets), io.BytesIO())
            assert caught.value.code == "batch_item_mismatch"
            assert (len(place.holder.consents), len(place.holder.asked)) == (1, 1)
            assert len(place.signed()) == 2
            assert {intent["authorization"]["agreed"] for intent in place.signed()} == {"batch"}

    asyncio.run(scene())


def test_documents_brought_at_once_ask_for_one_pin(tmp_path: Path, softhsm_token: SoftToken, vectors: Path) -> None:
    octets = (vectors / "helloworld.ofd").read_bytes()
    sha256 = hashlib.sha256(octets).digest()
    authority = with_seal(softhsm_token)

    async def scene() -> None:
        async with desk(tmp_path, softhsm_token, authority) as place:
            items = tuple(Item(f"{n}.ofd", sha256) for n in range(1, 9))
            order = Order(BatchKind.DOCUMENTS, "测试单位公章", "", None, "{}", items)
            batch = await place.batches.create(CALLER, order)

            async def bring(number: int) -> str | None:
                job = DocumentJob(batch.order.seal or "", [Invisible()], "a.ofd")
                try:
                    await place.batches.seal(CALLER, batch.id, number, job, sha256, io.BytesIO(octets), io.BytesIO())
                except (SealAgentError, DriverError) as error:
                    return error.code
                return None

            place.holder.pin = "0000"
            outcomes = await asyncio.gather(*(bring(number) for number in range(1, 9)))
            assert sorted(outcomes, key=str) == ["batch_stopped"] * 7 + ["pin_incorrect"]
            assert len(place.holder.asked) == 1
            await place.batches.resume(CALLER, batch.id)
            place.holder.pin = softhsm_token.user_pin
            assert set(await asyncio.gather(*(bring(number) for number in range(1, 9)))) == {None}
            assert (len(place.holder.asked), len(place.holder.consents)) == (2, 1)
            assert batch.progress.state is BatchState.DONE
            assert len(place.signed()) == 8

    asyncio.run(scene())


def test_a_worker_that_dies_in_the_middle(tmp_path: Path, token: SoftToken) -> None:
    """What it had begun is on record as failed and signed anew; the yes still holds, the PIN is asked again."""

    async def scene() -> None:
        async with desk(tmp_path, token) as place:
            batch = await place.digests(300)
            await place.batches.run(CALLER, batch.id)
            await in_the_middle(batch)
            [worker] = workers(place.line.tokens)
            os.kill(worker.pid, signal.SIGKILL)
            await place.batches.settled(CALLER, batch.id, 60)
            for _ in range(5):
                if batch.progress.state is BatchState.DONE:
                    break
                assert batch.progress.state is BatchState.PAUSED, batch.progress.reason
                await place.run(batch)
            assert batch.progress.state is BatchState.DONE
            intents = place.signed()
            assert len(intents) == len({intent["document"]["digest"] for intent in intents}) == 300
            assert len(place.holder.consents) == 1
            assert place.line.ledger.open_intents() == []

    asyncio.run(scene())
