"""Batches in the test's own process: a real store, a real record, and a device that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import pytest

from sealagent.callers.model import Decision, Effect, Paired
from sealagent.callers.peer import Caller
from sealagent.consent.prompter import Consent, ConsentRequest
from sealagent.errors import SealAgentError
from sealagent.events import Event
from sealagent.records.ledger import Kept, Ledger
from sealagent.signing.authorize import Approval, Permit, require_covered
from sealagent.signing.batches.machine import BatchState
from sealagent.signing.batches.model import Batch, BatchKind, Item, Order
from sealagent.signing.batches.service import Batches
from sealagent.signing.batches.store import BatchStore
from sealagent.signing.line import DocumentJob
from sealagent.signing.performing import Once
from sealagent.signing.receipts import Receipt, receipt_of
from sealagent.signing.recording import Recorder
from sealagent.uses import Use

CALLER = Caller(os.getuid(), os.getgid(), os.getpid(), "/usr/bin/test", 1)
OTHER = Caller(os.getuid(), os.getgid(), os.getpid(), "/usr/bin/other", 1)
APPLICATION = Caller(
    os.getuid(), os.getgid(), os.getpid(), "/usr/bin/app", 1, application=Paired("a1b2", "Bookkeeping")
)
KEY = SimpleNamespace(
    info=SimpleNamespace(id="key-1", uri="pkcs11:key", label="Key", mechanisms=(), always_authenticate=False),
    token=SimpleNamespace(uri="pkcs11:token", label="Token", serial="1", login_required=True),
)
PICTURE = SimpleNamespace(type="PNG", data=b"a picture")
SEAL = SimpleNamespace(seal=SimpleNamespace(id="seal-1", es_id="ES1", name="公章", picture=PICTURE), key=KEY)


def digest_of(number: int) -> bytes:
    return hashlib.sha256(b"item %d" % number).digest()


def documents(count: int) -> Order:
    """Return an order of this many documents."""
    items = tuple(Item(f"{number}.ofd", digest_of(number)) for number in range(1, count + 1))
    return Order(BatchKind.DOCUMENTS, "公章", "", None, "{}", items)


@dataclass
class Device:
    """What is left of a signing line: it records and keeps as the real one does, and fails where it is told to."""

    ledger: Ledger
    recorder: Recorder
    world: Stage
    made: list[tuple[str, int]] = field(default_factory=list)
    """Signatures made, by batch and item."""
    faults: dict[int, list[BaseException]] = field(default_factory=dict)
    """By item: what goes wrong, one after the other."""
    before: Callable[[int], Any] | None = None
    """Awaited before an item is signed."""
    most: int = 0
    """Items that were under way at once."""
    now: int = 0

    async def seal_document(
        self,
        caller: Caller,
        job: DocumentJob,
        source: BinaryIO,
        out: BinaryIO,
        *,
        approval: Approval | None = None,
        item: bytes | None = None,
        once: Once | None = None,
    ) -> Receipt:
        assert approval is not None
        assert item is not None
        assert once is not None
        value, receipt = await self._sign(caller, item, approval, once)
        out.write(b"sealed " + value)
        return receipt

    async def sign_item(
        self,
        caller: Caller,
        key_id: str,
        mechanism_name: str | None,
        digest: bytes,
        name: str | None,
        *,
        approval: Approval,
        once: Once,
    ) -> int:
        _, receipt = await self._sign(caller, digest, approval, once)
        return receipt.record

    async def _sign(self, caller: Caller, item: bytes, approval: Approval, once: Once) -> tuple[bytes, Receipt]:
        kept = await asyncio.to_thread(self.ledger.kept, once.owner, once.key, once.item)
        if kept is not None:
            assert kept.request == once.request
            entries = self.ledger.read(kept.intent), self.ledger.read(kept.outcome)
            return kept.value, receipt_of(*entries, self.ledger.head())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            require_covered(approval, caller, item)
            if self.before is not None:
                await self.before(once.item)
            if self.faults.get(once.item):
                raise self.faults[once.item].pop(0)
            self.world.unlocked = True
            facts = {"operation": "digest", "key": "k", "mechanism": "m", "document": {"digest": item.hex()}}
            intent = await self.recorder.intent(caller, facts)
            try:
                require_covered(approval, caller, item)  # beside the driver call
            except SealAgentError as error:
                await self.recorder.failed(intent, error)
                raise
            self.made.append((once.key, once.item))
            value = hashlib.sha256(item + b"signature %d" % len(self.made)).digest()
            keep = Kept(once.owner, once.key, once.item, once.request, "digest", value)
            outcome = await self.recorder.signed(intent, {"signature_sha256": value.hex()}, keep)
            return value, receipt_of(intent, outcome, self.ledger.head())
        finally:
            self.now -= 1


@dataclass
class Stage:
    """Everything around the batches."""

    directory: Path
    ahead: timedelta = timedelta()
    agrees: Consent | BaseException = Consent.ONCE
    effect: Effect = Effect.ASK
    unlocked: bool = False
    session_number: int = 0
    asked: list[ConsentRequest] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    most: int = 10_000
    hesitates: asyncio.Event | None = None
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    # What is needed of the inventory, the unlocker and the authorizer

    async def seal(self, name: str) -> Any:
        return SEAL

    async def key(self, name: str) -> Any:
        return KEY

    async def always_authenticates(self, key: Any) -> bool:
        return False

    def is_unlocked(self, token_uri: str) -> bool:
        return self.unlocked

    def session(self, token_uri: str) -> int:
        return self.session_number

    async def confirm(self, request: ConsentRequest) -> Consent:
        self.asked.append(request)
        self.was_asked.set()
        if self.hesitates is not None:
            await self.hesitates.wait()
        if isinstance(self.agrees, BaseException):
            raise self.agrees
        return self.agrees

    def permit(self, caller: Caller, use: Use) -> Permit:
        if self.effect is Effect.DENY:
            raise SealAgentError("use_denied", "no")
        return Permit(caller, use, Decision(self.effect, "default", use.operation.value, "as it is"))


@dataclass
class Open:
    """Batches that are at work."""

    batches: Batches
    device: Device
    ledger: Ledger
    stage: Stage

    async def approved(self, order: Order, caller: Caller = CALLER, **more: Any) -> Batch:
        return await self.batches.create(caller, order, **more)

    def entries(self) -> list[tuple[str, str | None]]:
        """Return kind and operation or reason of each entry."""
        found = []
        for entry in self.ledger.entries(limit=1000):
            word = entry.body.get("reason") or entry.body.get("operation")
            found.append((entry.kind.value, None if word is None else str(word)))
        return found


@contextlib.asynccontextmanager
async def opened_batches(stage: Stage) -> AsyncIterator[Open]:
    """Start an agent's batches in the stage's directory; leaving the block ends them in good order."""
    with Ledger.open(stage.directory / "record.sqlite", stage) as ledger:
        recorder = Recorder(ledger)
        await recorder.settle("interrupted", "the agent ended")
        device = Device(ledger, recorder, stage)
        batches = Batches(
            store=BatchStore(stage.directory / "batches.sqlite"),
            ledger=ledger,
            recorder=recorder,
            inventory=cast(Any, stage),
            authorizer=cast(Any, stage),
            unlocker=cast(Any, stage),
            line=device,
            clock=stage,
            publish=stage.events.append,
            most=lambda: stage.most,
        )
        await batches.start()
        try:
            yield Open(batches, device, ledger, stage)
        finally:
            await batches.close()


JOB = DocumentJob("seal-1", (), "a.ofd")


def state_of(batch: Batch) -> BatchState:
    """Return the state as it is now, whatever a type checker remembers of it."""
    return batch.progress.state


def digests(count: int) -> Order:
    """Return an order of bare digests."""
    items = tuple(Item(f"{number}", digest_of(number)) for number in range(1, count + 1))
    return Order(BatchKind.DIGESTS, None, "key-1", None, None, items)


async def seal(opened: Open, batch: Batch, number: int, caller: Caller = CALLER, octets: int | None = None) -> bytes:
    """Bring the document of an item; return what is released. :param octets: number of another, which is brought."""
    out = io.BytesIO()
    sha256 = digest_of(number if octets is None else octets)
    await opened.batches.seal(caller, batch.id, number, JOB, sha256, io.BytesIO(), out)
    return out.getvalue()


async def code_of(work: Coroutine[Any, Any, Any]) -> str:
    """Return the code of the error that work ends with."""
    with pytest.raises(Exception) as caught:
        await work
    return str(getattr(caught.value, "code", caught.value))


def play(stage: Stage, scene: Callable[[Open], Coroutine[Any, Any, None]]) -> None:
    """Open the batches of a stage, run a scene, and end them in good order."""

    async def run() -> None:
        async with opened_batches(stage) as opened:
            await scene(opened)

    asyncio.run(run())
