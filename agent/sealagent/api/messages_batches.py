"""Requests and answers of batches as types; see :mod:`sealagent.api.messages`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Base64Bytes, Field, model_validator

from sealagent.api.messages import MAX_PLACEMENTS, Message, PlacementIn, ReceiptOut
from sealagent.signing.batches.machine import BatchState, ItemState
from sealagent.signing.batches.model import APPROVAL_HOURS, MAX_ITEMS, BatchKind

__all__ = [
    "BatchDetailOut",
    "BatchDocumentIn",
    "BatchDocumentJsonIn",
    "BatchIn",
    "BatchItemIn",
    "BatchItemOut",
    "BatchOut",
    "BatchesOut",
    "JobIn",
]

Name = Annotated[str, Field(min_length=1, max_length=256)]
Placements = Annotated[tuple[PlacementIn, ...], Field(min_length=1, max_length=MAX_PLACEMENTS)]


class JobIn(Message):
    """Where the seal goes in a document of a batch, as it is kept."""

    placements: Placements
    close: bool = False
    document: int = Field(0, ge=0)


class BatchItemIn(Message):
    """One item: a document (``sha256``) or a digest (``digest``)."""

    name: Name = Field(description="shown to the holder and recorded")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of the document as it will be brought, lower-case hexadecimal"
    )
    digest: Base64Bytes | None = Field(None, description="the digest to be signed, base64")
    placements: Placements | None = Field(None, description="default: the batch's")
    close: bool | None = Field(None, description="default: the batch's")
    document: int | None = Field(None, ge=0, description="which document of the package; default: the batch's")


class BatchIn(Message):
    """A list that the holder is to agree to once: documents for a seal, or digests for a key."""

    seal: Name | None = Field(None, description="id, esID or name: the items are documents")
    key: Name | None = Field(None, description="id: the items are digests, which nobody but the caller can look into")
    mechanism: str | None = Field(None, max_length=64, description="of the key; default: its first")
    placements: Placements | None = Field(None, description="where the seal goes in each document")
    close: bool = Field(False, description="cover the list of signatures of each document")
    document: int = Field(0, ge=0, description="which document of each package")
    hours: int = Field(APPROVAL_HOURS, ge=1, le=APPROVAL_HOURS, description="after which the approval ends")
    items: tuple[BatchItemIn, ...] = Field(min_length=1, max_length=MAX_ITEMS)

    @model_validator(mode="after")
    def _one_kind(self) -> BatchIn:
        if (self.seal is None) == (self.key is None):
            raise ValueError("name a seal, for documents, or a key, for digests")
        for number, item in enumerate(self.items, 1):
            if (item.sha256 is None) == (self.seal is not None) or (item.digest is None) == (self.key is not None):
                raise ValueError(f"item {number}: documents have sha256, digests have digest")
            if self.seal is not None and item.placements is None and self.placements is None:
                raise ValueError(f"item {number}: nothing says where the seal goes")
            jobs = (item.placements, item.close, item.document)
            if self.key is not None and any(part is not None for part in jobs):
                raise ValueError(f"item {number}: a digest has no place for a seal")
        return self


class BatchDocumentIn(Message):
    """Part ``request`` of ``POST /v1/batches/{batch}/items/{number}/document``: all else is in the manifest."""


class BatchDocumentJsonIn(BatchDocumentIn):
    """The same, as JSON with the document inside."""

    content: str = Field(description="the document, base64")


class BatchOut(Message):
    """A batch and how far it is."""

    id: str
    kind: BatchKind
    state: BatchState
    reason: str | None = Field(description="code of what paused, stopped or refused it")
    application: str | None = Field(description="name of the paired application that asked for it")
    program: str | None = Field(description="program that asked for it, where it is not paired")
    own: bool = Field(description="the caller may go on with it, and see its results")
    seal: str | None
    key: str
    mechanism: str | None
    created: str
    expires: str = Field(description="when the approval ends")
    sha256: str = Field(description="of the manifest, as the record names it")
    record: int | None = Field(description="number of the entry that says that the holder agreed")
    total: int
    signed: int
    failed: int
    pending: int
    running: int
    skipped: int


class BatchesOut(Message):
    """Batches, newest first."""

    batches: list[BatchOut]


class BatchItemOut(Message):
    """An item and what became of it."""

    number: int
    name: str
    digest: str = Field(description="SHA-256 of the document, or the digest, hexadecimal")
    state: ItemState
    code: str | None = Field(description="why it failed")
    detail: str | None
    record: int | None = Field(description="number of its entry of the record")
    signature: str | None = Field(description="base64, where it was asked for (results=true)")
    receipt: ReceiptOut | None


class BatchDetailOut(BatchOut):
    """A batch with a page of its items."""

    items: list[BatchItemOut]
    next: int | None = Field(description="value of ``after`` for the next page; null: this is the last")
