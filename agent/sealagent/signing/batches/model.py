"""What a batch is: who asked for it, what it signs with, and its manifest, which never changes."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sealagent.callers.peer import Caller
from sealagent.clock import Clock
from sealagent.errors import SealAgentError
from sealagent.signing.batches.machine import BatchState, ItemState, Progress
from sealagent.signing.owners import owner_of

__all__ = [
    "APPROVAL_HOURS",
    "MAX_ITEMS",
    "Batch",
    "BatchKind",
    "Item",
    "ItemApproval",
    "Order",
    "Result",
    "new_id",
    "not_found",
    "page",
]

MAX_ITEMS = 10_000
"""Items of one batch: what a holder can look over in a list, and what one approval may let loose."""
APPROVAL_HOURS = 24
"""Hours after which an approval ends: a working day and the night after it. Nothing else ends it before its time."""


class BatchKind(StrEnum):
    """What the items are."""

    DOCUMENTS = "documents"
    """Documents that the caller brings one by one, each with the SHA-256 of the manifest."""
    DIGESTS = "digests"
    """Digests that the agent signs with a bare key."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the manifest."""

    name: str
    """As the caller gives it; shown and recorded, never opened."""
    digest: bytes
    """SHA-256 of the document as it is brought, or the digest that is signed."""
    job: str | None = None
    """JSON of where its seal goes, where that differs from the batch's."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller asks for."""

    kind: BatchKind
    seal: str | None
    """Id of the seal (documents)."""
    key: str
    """Id of the key."""
    mechanism: str | None
    """Mechanism (digests)."""
    job: str | None
    """JSON of where the seal goes in each document."""
    items: tuple[Item, ...]

    def digest(self) -> bytes:
        """Return what stands for the whole of it (SHA-256 of its JSON)."""
        listed = [[item.name, item.digest.hex(), item.job] for item in self.items]
        whole = [self.kind.value, self.seal, self.key, self.mechanism, self.job, listed]
        return hashlib.sha256(json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()).digest()


@dataclass(slots=True)
class Result:
    """What is known of an item beside its state."""

    code: str | None = None
    """Why it failed."""
    detail: str | None = None
    record: int | None = None
    """Number of its ``signed`` entry."""


@dataclass(slots=True)
class Batch:
    """A batch; ``progress`` and ``results`` change, all else does not."""

    id: str
    owner: str
    """Who may go on with it and see its results (:func:`sealagent.signing.owners.owner_of`)."""
    executable: str | None
    """Program that asked for it, where it is not a paired application: only it goes on."""
    name: str | None
    """Name of the paired application."""
    order: Order
    digest: bytes
    """:meth:`Order.digest`."""
    created: datetime
    expires: datetime
    progress: Progress
    idempotency_key: str | None = None
    request: bytes = b""
    """Digest of the request that made it."""
    record: int | None = None
    """Number of the entry that says that the holder agreed."""
    results: dict[int, Result] = field(default_factory=dict)
    """By item number; of items that were not settled there is none."""
    dirty: set[int] = field(default_factory=set)
    """Items whose state was not written yet."""

    @property
    def kept_key(self) -> str:
        """The key under which the signatures of its items are kept."""
        return f"batch:{self.id}"

    def item(self, number: int) -> Item:
        """Return a line of the manifest. :raises SealAgentError: ``batch_item_not_found``."""
        self.progress.item(number)
        return self.order.items[number - 1]

    def belongs_to(self, caller: Caller) -> bool:
        """Say whether it is this caller's own: the same application, or the same program of the same user."""
        if self.owner != owner_of(caller):
            return False
        return caller.application is not None or (self.executable is not None and self.executable == caller.executable)

    def pending(self) -> set[int]:
        """Return the numbers of the items that wait."""
        numbers = range(1, self.progress.total + 1)
        return {number for number in numbers if self.progress.item(number) is ItemState.PENDING}

    def numbers(self) -> dict[str, int]:
        """Return how many items there are, in all and in each state."""
        counted = {state.value: self.progress.count(state) for state in ItemState}
        return {"total": self.progress.total, **counted}


@dataclass(frozen=True, slots=True)
class ItemApproval:
    """The agreement to a batch as the authorization of one of its items."""

    batch: Batch
    number: int
    now: Clock

    @property
    def id(self) -> str:
        return self.batch.id

    def covers(self, caller: Caller, item: bytes) -> bool:
        """Say whether this may be signed now: this very item, by who asked, while it is its turn."""
        batch = self.batch
        if not batch.belongs_to(caller) or batch.item(self.number).digest != item:
            return False
        # What is under way when another item pauses the batch may end; a PIN, the holder and time end it all.
        going = batch.progress.state in (BatchState.RUNNING, BatchState.PAUSED)
        return going and batch.progress.item(self.number) is ItemState.RUNNING and self.now() < batch.expires


def new_id() -> str:
    """Return the id of a new batch: 16 hexadecimal digits that nobody guesses in its lifetime."""
    return os.urandom(8).hex()


def page(batch: Batch, after: int, limit: int) -> range:
    """Return numbers of items over ``after``, up to ``limit``."""
    return range(max(after, 0) + 1, min(batch.progress.total, max(after, 0) + limit) + 1)


def not_found(batch_id: str) -> SealAgentError:
    return SealAgentError("batch_not_found", f"there is no batch {batch_id[:64]!r}")
