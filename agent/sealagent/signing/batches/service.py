"""Batches at work: agreed to once, signed item by item, stopped by the first PIN that fails, and gone on with.

Nothing is signed twice: each item's signature is kept with its entry of the record, in one step, under the name of the
batch and the number of the item, where the signing line finds it again whatever was lost meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, BinaryIO, NoReturn

from sealagent.callers.peer import Caller
from sealagent.clock import Clock
from sealagent.consent.prompter import Consent, ConsentRequest, Occasion
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.events import Event, Publish
from sealagent.records.ledger import Ledger
from sealagent.signing.authorize import Authorizer
from sealagent.signing.batches.machine import Progress
from sealagent.signing.batches.model import (
    APPROVAL_HOURS,
    MAX_ITEMS,
    Batch,
    BatchKind,
    Order,
    new_id,
    not_found,
    page,
)
from sealagent.signing.batches.running import Runner, Signs
from sealagent.signing.batches.shelf import Live, Shelf
from sealagent.signing.batches.store import BatchStore
from sealagent.signing.inventory import AvailableKey, AvailableSeal, Inventory
from sealagent.signing.line import DocumentJob, picture_of
from sealagent.signing.mechanisms import checked_mechanism
from sealagent.signing.owners import owner_of
from sealagent.signing.receipts import Receipt, receipt_of
from sealagent.signing.recording import Recorder, what_went_wrong
from sealagent.signing.unlock import Unlocker
from sealagent.uses import Operation, Use
from sealdrivers.errors import DriverError

__all__ = ["Batches"]

MAX_OPEN = 64
"""Batches that did not end, of all callers; each holds its manifest in memory (10,000 items take some 4 MiB)."""
MAX_OPEN_OF_ONE = 16
"""Those of one caller, so that it does not take the places of all others."""
MAX_LISTED = 100
"""Batches in one list."""


class Batches:
    """All batches of the agent.

    :param most: items that policy lets a batch have at the moment.
    """

    def __init__(
        self,
        *,
        store: BatchStore,
        ledger: Ledger,
        recorder: Recorder,
        inventory: Inventory,
        authorizer: Authorizer,
        unlocker: Unlocker,
        line: Signs,
        clock: Clock,
        publish: Publish,
        most: Callable[[], int] = lambda: MAX_ITEMS,
    ) -> None:
        self._ledger = ledger
        self._recorder = recorder
        self._inventory = inventory
        self._authorizer = authorizer
        self._unlocker = unlocker
        self._clock = clock
        self._publish = publish
        self._most = most
        self._shelf = Shelf(store, ledger, clock, publish)
        self._runner = Runner(self._shelf, line, ledger, inventory, unlocker, clock)

    async def start(self) -> None:
        """Take up what the agent's last end left.

        :raises SealAgentError: ``batch_store_failed``, ``record_damaged``.
        """
        await self._shelf.start()

    async def close(self) -> None:
        """Stop what runs, and write what is not written yet; requests have ended by then."""
        await self._shelf.close()

    # What there is

    async def find(self, caller: Caller, batch_id: str) -> Batch:
        """Return a batch that a caller may see: its own; a program that is not paired and asks for no web site or
        extension sees all of its user.

        :raises SealAgentError: ``batch_not_found``, ``batch_store_failed``.
        """
        return (await self._found(caller, batch_id)).batch

    async def own(self, caller: Caller, batch_id: str) -> Batch:
        """Return a batch of the caller's own. :raises SealAgentError: as for :meth:`find`; ``batch_not_yours``."""
        return (await self._own(caller, batch_id)).batch

    async def list(self, caller: Caller) -> list[Batch]:
        """Return the batches that a caller may see, newest first, :data:`MAX_LISTED` at most."""
        owner = None if _sees_all(caller) else owner_of(caller)
        return [batch for batch in await self._shelf.listed(owner, MAX_LISTED) if _sees(caller, batch)]

    async def signatures(self, batch: Batch, after: int, limit: int) -> dict[int, tuple[bytes, Receipt]]:
        """Return the signatures of a batch of digests, and their receipts, by item number; those that are still kept.

        :raises SealAgentError: ``record_damaged``.
        """
        numbers = page(batch, after, limit)

        def read() -> dict[int, tuple[bytes, Receipt]]:
            head, found = self._ledger.head(), {}
            for kept in self._ledger.kept_items(batch.owner, batch.kept_key, numbers[0], len(numbers)):
                if kept.item in numbers:
                    intent, outcome = self._ledger.read(kept.intent), self._ledger.read(kept.outcome)
                    found[kept.item] = kept.value, receipt_of(intent, outcome, head)
            return found

        return await asyncio.to_thread(read) if numbers and batch.order.kind is BatchKind.DIGESTS else {}

    # The holder

    async def create(
        self,
        caller: Caller,
        order: Order,
        *,
        hours: int = APPROVAL_HOURS,
        idempotency_key: str | None = None,
        request: bytes = b"",
    ) -> Batch:
        """Ask the holder, once, whether exactly these items may be signed; return the approved batch.

        :param order: its seal or key may be named in any way. :param request: digest of the request; the same
            Idempotency-Key with the same request returns the same batch, after a restart, too.
        :raises SealAgentError: ``consent_refused``, ``consent_unavailable``, ``use_denied``, ``too_many_batches``,
            ``idempotency_conflict``, ``batch_store_failed``, ``record_failed``, and those of seals and keys.
        :raises LimitExceeded: ``batch_too_large``.
        """
        if idempotency_key is not None:
            made = await self._shelf.made_by(owner_of(caller), idempotency_key)
            if made is not None and made.request != request:
                raise SealAgentError("idempotency_conflict", "this Idempotency-Key belongs to another batch")
            if made is not None:
                return made
        if caller.application is None and caller.executable is None:
            raise SealAgentError("caller_unknown", "the program that asks is not known, so it could not go on later")
        most = min(self._most(), MAX_ITEMS)
        if not 1 <= len(order.items) <= most:
            raise LimitExceeded("batch_too_large", f"a batch may have 1 to {most} items", limit=most)
        await self._require_room(caller)
        order, key, seal = await self._resolve(order)
        now = self._clock().replace(microsecond=0)
        batch = Batch(
            id=new_id(),
            owner=owner_of(caller),
            executable=caller.executable if caller.application is None else None,
            name=caller.name,
            order=order,
            digest=order.digest(),
            created=now,
            expires=now + timedelta(hours=max(1, min(hours, APPROVAL_HOURS))),
            progress=Progress.of(len(order.items)),
            idempotency_key=idempotency_key,
            request=request,
        )
        await self._approve(caller, batch, key, seal)
        return batch

    async def cancel(self, caller: Caller, batch_id: str) -> Batch:
        """Let nothing more of a batch be signed; what is at the device at this moment still ends as what it becomes.

        :raises SealAgentError: as for :meth:`find`; ``batch_ended``; ``record_failed``: it is cancelled all the same.
        """
        live = await self._found(caller, batch_id)
        batch = live.batch
        if batch.progress.ended:
            raise SealAgentError("batch_ended", f"the batch is {batch.progress.state.value}")
        batch.dirty |= batch.pending()
        batch.progress.cancel()
        if live.asking is not None:
            live.asking.cancel()  # its prompt need not be answered any more
        await self._shelf.settle(live)
        facts = {"operation": "cancel_batch", "batch": {"id": batch.id, **batch.numbers()}}
        await self._recorder.done(caller, None, facts)
        return batch

    async def resume(self, caller: Caller, batch_id: str) -> Batch:
        """Let a batch that a PIN stopped go on. Nothing is asked again but the PIN.

        :raises SealAgentError: as for :meth:`own`; ``batch_waiting``, ``batch_ended``.
        """
        live = await self._own(caller, batch_id)
        live.batch.progress.resume()
        await self._shelf.settle(live)
        return live.batch

    # Items

    async def seal(
        self,
        caller: Caller,
        batch_id: str,
        number: int,
        job: DocumentJob,
        sha256: bytes,
        source: BinaryIO,
        out: BinaryIO,
    ) -> Receipt:
        """Seal one document of a batch; one that was sealed before gets the same signature again.

        :param sha256: of the document as it came in. :param out: receives the sealed document.
        :raises SealAgentError: ``batch_item_mismatch``: it is another document than the one that was agreed to;
            ``batch_item_not_found``, ``batch_item_busy``, ``batch_item_settled``, ``batch_stopped``, ``batch_ended``,
            ``idempotency_result_gone``; those of :meth:`own` and of the signing line.
        """
        live = await self._own(caller, batch_id)
        if live.batch.order.kind is not BatchKind.DOCUMENTS:
            raise FormatError("request_invalid", "the batch is one of digests")
        if live.batch.item(number).digest != sha256:
            raise SealAgentError("batch_item_mismatch", f"the document is not item {number} of the batch")
        return await self._runner.seal(live, caller, number, job, source, out)

    async def run(self, caller: Caller, batch_id: str) -> Batch:
        """Begin to sign all digests of a batch that wait; a batch that runs goes on.

        :raises SealAgentError: as for :meth:`own`; ``batch_waiting``, ``batch_stopped``, ``batch_ended``.
        """
        live = await self._own(caller, batch_id)
        if live.batch.order.kind is not BatchKind.DIGESTS:
            raise FormatError("request_invalid", "the batch is one of documents: send them one by one")
        if live.runner is None or live.runner.done():
            live.batch.progress.require_open()
            live.runner = asyncio.create_task(self._runner.sign_all(live, caller))
        return live.batch

    async def settled(self, caller: Caller, batch_id: str, seconds: float) -> Batch:
        """Return a batch when nothing of it runs any more, or after some time."""
        live = await self._found(caller, batch_id)
        if live.runner is not None:
            await asyncio.wait([live.runner], timeout=seconds)
        return live.batch

    # Parts

    async def _found(self, caller: Caller, batch_id: str) -> Live:
        live = await self._shelf.get(batch_id)
        if not _sees(caller, live.batch):
            raise not_found(batch_id)
        return live

    async def _own(self, caller: Caller, batch_id: str) -> Live:
        live = await self._found(caller, batch_id)
        if not live.batch.belongs_to(caller):
            raise SealAgentError("batch_not_yours", "only the application that asked for the batch goes on with it")
        return live

    async def _require_room(self, caller: Caller) -> None:
        going = await self._shelf.going()
        own = sum(batch.owner == owner_of(caller) for batch in going)
        if len(going) >= MAX_OPEN or own >= MAX_OPEN_OF_ONE:
            message = f"{own} of your batches, and {len(going)} in all, have not ended"
            raise SealAgentError("too_many_batches", message)

    async def _resolve(self, order: Order) -> tuple[Order, AvailableKey, AvailableSeal | None]:
        """Find seal and key, and name them by their ids."""
        if order.kind is BatchKind.DOCUMENTS:
            assert order.seal is not None
            seal = await self._inventory.seal(order.seal)
            if seal.key is None:
                raise SealAgentError("seal_key_absent", "no plugged-in token holds the seal's key", seal=seal.seal.id)
            return Order(order.kind, seal.seal.id, seal.key.info.id, None, order.job, order.items), seal.key, seal
        key = await self._inventory.key(order.key)
        mechanism = checked_mechanism(key.info, order.mechanism)
        for number, item in enumerate(order.items, 1):
            if len(item.digest) != mechanism.digest_length:
                message = f"{mechanism.value} signs {mechanism.digest_length} octets, not {len(item.digest)}"
                raise FormatError("digest_invalid", f"item {number}: {message}")
        return Order(order.kind, None, key.info.id, mechanism.value, None, order.items), key, None

    async def _approve(self, caller: Caller, batch: Batch, key: AvailableKey, seal: AvailableSeal | None) -> None:
        """Have policy and holder decide; the answer is on record and on disk when this returns."""
        facts: dict[str, Any] = {
            "operation": "batch",
            "seal": batch.order.seal,
            "key": key.info.uri,
            "batch": {"id": batch.id, "items": len(batch.order.items), "sha256": batch.digest.hex()},
        }
        try:
            permit = self._authorizer.permit(caller, _use(batch.order, key, seal))
        except SealAgentError as error:
            await self._refuse(caller, facts, error)
        live = await self._shelf.add(batch)
        try:
            if permit.ask:
                await self._ask(caller, batch, key, seal)
                permit.agreed = "confirm"
            entry = await self._recorder.done(caller, None, facts | {"authorization": permit.facts()})
        except BaseException as error:
            batch.dirty |= batch.pending()
            batch.progress.refuse(what_went_wrong(error)["reason"])
            await self._shelf.settle(live)
            if isinstance(error, SealAgentError | DriverError):
                await self._refuse(caller, facts, error)
            raise
        batch.record = entry.number
        batch.progress.agree()
        await self._shelf.settle(live)

    async def _ask(self, caller: Caller, batch: Batch, key: AvailableKey, seal: AvailableSeal | None) -> None:
        """Show the holder the list. :raises SealAgentError: ``consent_refused``, or why nobody could be asked."""
        occasion = Occasion(
            caller,
            seal=seal.seal.name if seal else None,
            operation=Operation.DOCUMENT if seal else Operation.RAW,
            kind="OFD" if seal else None,
            key=None if seal else key.info.label,
            picture=picture_of(seal.seal) if seal else None,
            items=tuple(f"{item.name} [{item.digest.hex()[:16]}]" for item in batch.order.items),
        )
        request = ConsentRequest("batch", occasion, key.token.label, key.token.serial)
        if await self._unlocker.confirm(request) is Consent.NO:
            raise SealAgentError("consent_refused", "the holder did not agree to the batch")

    async def _refuse(self, caller: Caller, facts: dict[str, Any], error: SealAgentError | DriverError) -> NoReturn:
        entry = await self._recorder.refused(caller, facts, error)
        self._publish(Event("refused", {"record": entry.number, "reason": error.code}))
        raise error


def _sees_all(caller: Caller) -> bool:
    """Say whether a caller sees all batches of its user: the user's own programs do; sites and extensions do not."""
    return caller.application is None and caller.origin is None


def _sees(caller: Caller, batch: Batch) -> bool:
    if _sees_all(caller):
        return batch.owner.partition(" ")[0] == str(caller.uid)
    return batch.owner == owner_of(caller)


def _use(order: Order, key: AvailableKey, seal: AvailableSeal | None) -> Use:
    return Use(
        Operation.DOCUMENT if seal else Operation.RAW,
        key.info.uri,
        key.token.uri,
        order.seal,
        (seal.seal.es_id, seal.seal.name) if seal else (),
        "ofd" if seal else None,
        len(order.items),
    )
