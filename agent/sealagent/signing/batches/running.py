"""Signing the items of a batch: documents as they are brought, digests many at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from typing import Any, BinaryIO, Protocol

from sealagent.callers.peer import Caller
from sealagent.clock import Clock
from sealagent.errors import FormatError, SealAgentError
from sealagent.records.ledger import Ledger
from sealagent.signing.authorize import Approval
from sealagent.signing.batches.machine import ItemState
from sealagent.signing.batches.model import ItemApproval, Result
from sealagent.signing.batches.shelf import Live, Shelf
from sealagent.signing.inventory import Inventory
from sealagent.signing.line import DocumentJob
from sealagent.signing.performing import Once
from sealagent.signing.prompts import asking_nobody
from sealagent.signing.receipts import Receipt
from sealagent.signing.recording import what_went_wrong
from sealagent.signing.unlock import Unlocker
from sealdrivers.errors import DriverError

__all__ = ["Runner", "Signs"]

log = logging.getLogger(__name__)

IN_FLIGHT = 32
"""Digests of a batch that are under way at once: enough to share each commit of the record and to keep the worker busy;
more of them bring nothing, and each holds an intent open that a crash would leave to be closed."""
LEAST_IN_FLIGHT = 2
"""So many even where the device is slow: one at the device, one on its way."""
QUEUE_SECONDS = 0.5
"""How long somebody else's signature may have to wait behind those of a batch."""
MAX_DETAIL = 300
"""Characters of why an item failed that are kept."""

STOPPING = frozenset(
    {
        *("pin_incorrect", "pin_locked", "pin_last_try", "pin_rejected", "pin_cancelled", "pin_length"),
        *("pin_source_refused", "prompt_unavailable", "prompt_failed", "prompt_timeout"),
        *("consent_refused", "consent_unavailable", "asked_too_often"),
    }
)
"""Errors that stop a batch until it is resumed: one wrong PIN must not become two, nor a refusal another question."""
_OF_ITEM = ("ofd_", "placement_")
"""What the codes of errors that lie in a document begin with."""


class Signs(Protocol):
    """What is needed of the signing line."""

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
    ) -> Receipt: ...

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
    ) -> int: ...


class Runner:
    """Carries items to the signing line, and takes note of what became of them."""

    def __init__(
        self, shelf: Shelf, line: Signs, ledger: Ledger, inventory: Inventory, unlocker: Unlocker, clock: Clock
    ) -> None:
        self._shelf = shelf
        self._line = line
        self._ledger = ledger
        self._inventory = inventory
        self._unlocker = unlocker
        self._clock = clock

    async def seal(
        self, live: Live, caller: Caller, number: int, job: DocumentJob, source: BinaryIO, out: BinaryIO
    ) -> Receipt:
        """Seal a document that is the one of the manifest; see :meth:`Batches.seal`."""
        batch = live.batch
        once, approval, item = self._terms(live, number)
        if batch.progress.item(number) is ItemState.SIGNED:
            if await asyncio.to_thread(self._ledger.kept, once.owner, once.key, once.item) is None:
                raise SealAgentError("idempotency_result_gone", f"the signature of item {number} is no longer kept")
            return await self._line.seal_document(caller, job, source, out, approval=approval, item=item, once=once)
        self._begin(live, number)

        async def sealed() -> Receipt:
            return await self._line.seal_document(caller, job, source, out, approval=approval, item=item, once=once)

        try:
            receipt = await self._one_asks(live, sealed)
        except BaseException as error:
            await self._fell(live, number, error)
            raise
        self._signed(live, number, receipt.record)
        return receipt

    @staticmethod
    async def _one_asks(live: Live, sealed: Callable[[], Awaitable[Receipt]]) -> Receipt:
        """Seal a document beside others of its batch, of which one at a time may ask for the PIN."""
        if live.door.locked():
            try:
                with asking_nobody():
                    return await sealed()
            except SealAgentError as error:
                if error.code != "prompt_not_now":
                    raise
        async with live.door:
            live.batch.progress.require_open()  # it may have been stopped by the PIN of the one before
            return await sealed()

    async def sign_all(self, live: Live, caller: Caller) -> None:
        """Sign every digest that waits, until the batch is done or stands still. Never raises but when cancelled."""
        flight = _Flight()
        live.standing = live.must_ask = False
        try:
            await self._sign_all(live, caller, flight)
        except (SealAgentError, DriverError) as error:
            live.batch.progress.pause(error.code)
        except asyncio.CancelledError:
            live.batch.progress.pause("interrupted")
            flight.cancel()
            raise
        except Exception:
            log.exception("batch %s failed", live.batch.id)
            live.batch.progress.pause("internal_error")
        finally:
            await flight.landed()
            await self._shelf.settle(live)

    async def _sign_all(self, live: Live, caller: Caller, flight: _Flight) -> None:
        progress = live.batch.progress
        key = await self._inventory.key(live.batch.order.key)
        token, needs_pin = key.token.uri, key.token.login_required
        many = not await self._inventory.always_authenticates(key)
        session: int | None = None
        while not live.standing:
            number = progress.next_pending()
            if number is None:
                if not flight.tasks:
                    return
                await flight.moved()  # one of them may come back, to ask
                continue
            progress.require_open()
            unlocked = session == self._unlocker.session(token) and (not needs_pin or self._unlocker.is_unlocked(token))
            alone = not (many and unlocked) or live.must_ask
            if flight.full or (alone and flight.tasks):
                await flight.moved()
                continue
            self._begin(live, number)
            task = flight.start(self._one(live, caller, number, alone=alone))
            if alone:  # it may ask for the PIN: nothing waits behind its prompt to ask once more
                live.asking = task
                await flight.landed()
                live.asking, live.must_ask, session = None, False, self._unlocker.session(token)
                flight.begin()

    async def _one(self, live: Live, caller: Caller, number: int, *, alone: bool) -> None:
        """Sign one digest that was begun; only one that is alone may ask for the PIN."""
        order, item = live.batch.order, live.batch.item(number)
        once, approval, _ = self._terms(live, number)
        try:
            with nullcontext() if alone else asking_nobody():
                record = await self._line.sign_item(
                    caller, order.key, order.mechanism, item.digest, item.name, approval=approval, once=once
                )
        except asyncio.CancelledError as error:
            await self._fell(live, number, error)
            raise
        except Exception as error:
            await self._fell(live, number, error)
        else:
            self._signed(live, number, record)

    def _terms(self, live: Live, number: int) -> tuple[Once, ItemApproval, bytes]:
        batch = live.batch
        new = number not in live.tried and batch.progress.item(number) is not ItemState.SIGNED
        live.tried.add(number)
        once = Once(batch.owner, batch.kept_key, batch.digest, number, new)
        return once, ItemApproval(batch, number, self._clock), batch.item(number).digest

    def _begin(self, live: Live, number: int) -> None:
        live.batch.progress.begin(number)
        self._shelf.changed(live, number)

    def _signed(self, live: Live, number: int, record: int) -> None:
        live.batch.results[number] = Result(record=record)
        live.batch.progress.signed(number)
        self._shelf.changed(live, number)

    async def _fell(self, live: Live, number: int, error: BaseException) -> None:
        """Take note that an item was not signed, and of what that means for the others."""
        progress, reason = live.batch.progress, what_went_wrong(error)
        code = reason["reason"]
        if _lies_in_item(error):
            live.batch.results[number] = Result(code, str(reason["detail"])[:MAX_DETAIL])
            progress.failed(number)
            self._shelf.changed(live, number)
            return
        if code == "prompt_not_now":
            live.must_ask = True
            progress.returned(number)
            self._shelf.changed(live, number)
            return
        if code in STOPPING:
            progress.stop(code)
        elif code != "batch_item_unknown":  # which says only that the batch stands still, or ended, already
            progress.pause("interrupted" if isinstance(error, asyncio.CancelledError) else code)
        live.standing = True
        progress.returned(number)
        self._shelf.changed(live, number)
        if not isinstance(error, asyncio.CancelledError):
            await self._shelf.settle(live)


class _Flight:
    """What is under way at once: as much as the device gets through within :data:`QUEUE_SECONDS`."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self.begin()

    def begin(self) -> None:
        """Measure the device from now on."""
        self._since, self._done = time.monotonic(), 0

    @property
    def full(self) -> bool:
        """Whether the next has to wait."""
        if len(self.tasks) < LEAST_IN_FLIGHT:
            return False
        through = QUEUE_SECONDS * self._done / max(time.monotonic() - self._since, 1e-6)
        return len(self.tasks) >= min(IN_FLIGHT, max(LEAST_IN_FLIGHT, through))

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def moved(self) -> None:
        """Return when one of them has ended."""
        self._moved.clear()
        await self._moved.wait()

    async def landed(self) -> None:
        """Return when all of them have ended."""
        while self.tasks:
            await asyncio.wait(self.tasks)
            await asyncio.sleep(0)  # for what is called when they are done

    def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._done += 1
        self._moved.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what became of an item could not be written: %s", error)


def _lies_in_item(error: BaseException) -> bool:
    if not isinstance(error, SealAgentError) or error.code in STOPPING:
        return False
    return isinstance(error, FormatError) or error.code.startswith(_OF_ITEM)
