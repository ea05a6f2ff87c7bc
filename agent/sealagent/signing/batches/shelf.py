"""The batches in memory: read when somebody asks, written soon or at once, and told of on the events stream."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field

from sealagent.clock import Clock
from sealagent.errors import SealAgentError
from sealagent.events import Event, Publish
from sealagent.records.ledger import Ledger
from sealagent.signing.batches.machine import ItemState
from sealagent.signing.batches.model import Batch, Result, not_found
from sealagent.signing.batches.store import BatchStore, changed_rows

__all__ = ["Live", "Shelf"]

log = logging.getLogger(__name__)

WRITE_SECONDS = 0.25
"""How long what became of items may wait to be written together; a crash before is made good from the record."""
MAX_READ = 4
"""Batches that ended and are kept in memory for a while."""
EVENT_SECONDS = 0.1
"""Between two events of one batch at least, so that ten thousand items do not push other events out."""


@dataclass(slots=True)
class Live:
    """A batch in memory."""

    batch: Batch
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    later: asyncio.Task[None] | None = None
    """Writes what changed, soon."""
    door: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the document that may ask for the PIN."""
    runner: asyncio.Task[None] | None = None
    """Signs its digests."""
    asking: asyncio.Task[None] | None = None
    """Signs the one item that may ask for the PIN."""
    standing: bool = False
    """Something that does not lie in an item failed while its digests were signed."""
    must_ask: bool = False
    """The next digest has to ask the holder, so it goes alone."""
    tried: set[int] = field(default_factory=set)
    """Items that were begun since the batch was taken into memory; of all others the record was asked then."""
    told: float = float("-inf")
    """When an event was published last."""


class Shelf:
    """Keeps batches; those that did not end are always in memory."""

    def __init__(self, store: BatchStore, ledger: Ledger, clock: Clock, publish: Publish) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._publish = publish
        self._live: dict[str, Live] = {}
        self._read: OrderedDict[str, Live] = OrderedDict()
        """Batches that ended and were read lately: their items are asked for page by page."""

    async def start(self) -> None:
        """Take up what the agent's last end left: what the record says was signed is signed; the rest waits.

        :raises SealAgentError: ``batch_store_failed``, ``record_damaged``.
        """
        for batch_id in await asyncio.to_thread(self._store.open_ids):
            batch = await asyncio.to_thread(self._store.load, batch_id)
            if batch is None:
                continue
            self._live[batch_id] = live = Live(batch)
            numbers = range(1, batch.progress.total + 1)
            before = [batch.progress.item(number) for number in numbers]
            kept = await asyncio.to_thread(self._kept, batch)
            for number, record in kept.items():
                batch.results[number] = Result(record=record)
            batch.progress.restarted(kept)
            self._expire(batch)
            batch.dirty = {number for number in numbers if batch.progress.item(number) is not before[number - 1]}
            await self._write(live)

    async def close(self) -> None:
        """Stop what runs, write what is not written yet, and close the store."""
        for live in list(self._live.values()):
            tasks = [task for task in (live.runner, live.later) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                await self._write(live)
            except SealAgentError as error:
                log.error("%s", error.message)
        await asyncio.to_thread(self._store.close)

    async def add(self, batch: Batch) -> Live:
        """Keep a new batch. :raises SealAgentError: ``batch_store_failed``."""
        self._live[batch.id] = live = Live(batch)  # at once, so that whoever counts them counts it
        try:
            await asyncio.to_thread(self._store.add, batch)
        except BaseException:
            del self._live[batch.id]
            raise
        self._tell(live, now=True)
        return live

    async def get(self, batch_id: str) -> Live:
        """Return a batch; its time may be over by now. :raises SealAgentError: ``batch_not_found``."""
        live = self._live.get(batch_id) or self._read.get(batch_id)
        if live is None:
            batch = await asyncio.to_thread(self._store.load, batch_id)
            if batch is None:
                raise not_found(batch_id)
            live = self._live.get(batch_id) or Live(batch)
            self._remember(live)
        if self._expire(live.batch):
            await self.settle(live)
        return live

    async def listed(self, owner: str | None, limit: int) -> list[Batch]:
        """Return batches, newest first, of those that ended only counts of their items.

        :param owner: whose; None: everybody's.
        """
        found = []
        for batch_id in await asyncio.to_thread(self._store.ids, owner, limit):
            if batch_id in self._live:
                found.append((await self.get(batch_id)).batch)
            elif (summary := await asyncio.to_thread(self._store.summary, batch_id)) is not None:
                found.append(summary)
        return found

    async def made_by(self, owner: str, key: str) -> Batch | None:
        """Return the batch that was made under an Idempotency-Key."""
        batch_id = await asyncio.to_thread(self._store.made_by, owner, key)
        return None if batch_id is None else (await self.get(batch_id)).batch

    async def going(self) -> list[Batch]:
        """Return the batches that did not end; those whose time is over do so now."""
        for live in list(self._live.values()):
            if self._expire(live.batch):
                await self.settle(live)
        return [live.batch for live in self._live.values() if not live.batch.progress.ended]

    def changed(self, live: Live, number: int) -> None:
        """Write an item soon, and tell of it."""
        live.batch.dirty.add(number)
        self._tell(live, now=live.batch.progress.ended)
        if live.later is None or live.later.done():
            live.later = asyncio.create_task(self._write_soon(live))

    async def settle(self, live: Live) -> None:
        """Write where the batch stands before anybody is told. :raises SealAgentError: ``batch_store_failed``."""
        try:
            await self._write(live)
        finally:
            self._tell(live, now=True)

    async def _write_soon(self, live: Live) -> None:
        await asyncio.sleep(0 if live.batch.progress.ended else WRITE_SECONDS)
        try:
            await self.settle(live)
        except SealAgentError as error:
            log.error("%s; what became of its items is in the record", error.message)

    async def _write(self, live: Live) -> None:
        batch, progress = live.batch, live.batch.progress
        async with live.writing:
            dirty, batch.dirty = batch.dirty, set()
            rows = changed_rows(batch, sorted(dirty))
            try:
                await asyncio.to_thread(self._store.save, batch.id, progress.state, progress.reason, batch.record, rows)
            except BaseException:
                batch.dirty |= dirty
                raise
        if progress.ended and not batch.dirty and not progress.count(ItemState.RUNNING):
            self._live.pop(batch.id, None)
            self._remember(live)

    def _remember(self, live: Live) -> None:
        if live.batch.progress.ended:
            self._read[live.batch.id] = live
            if len(self._read) > MAX_READ:
                self._read.popitem(last=False)

    def _tell(self, live: Live, *, now: bool = False) -> None:
        moment = asyncio.get_running_loop().time()
        if now or moment - live.told >= EVENT_SECONDS:
            live.told = moment
            batch, numbers = live.batch, live.batch.numbers()
            facts = {"done": numbers["signed"], "failed": numbers["failed"], "total": numbers["total"]}
            self._publish(Event("batch", {"id": batch.id, "state": batch.progress.state.value, **facts}))

    def _expire(self, batch: Batch) -> bool:
        """End a batch whose time is over; say whether it did so now."""
        if batch.progress.ended or self._clock() < batch.expires:
            return False
        batch.dirty |= batch.pending()
        batch.progress.expire()
        return True

    def _kept(self, batch: Batch) -> dict[int, int]:
        """Return the numbers of items whose signatures are kept with the record, and of their entries."""
        found: dict[int, int] = {}
        first = 1
        while values := self._ledger.kept_items(batch.owner, batch.kept_key, first, 1000):
            known = {value.item: value.outcome for value in values if value.request == batch.digest}
            found |= {number: outcome for number, outcome in known.items() if number <= batch.progress.total}
            first = values[-1].item + 1
        return found
