"""The receipt of a signature: what the record says of it, put together for the caller.

Every fact in it stands in the two entries of the record (intent and outcome), so that a receipt can be made again at
any time, and checked against an export.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from sealagent.records.ledger import Entry, Head
from sealagent.records.tree import leaf_hash

__all__ = ["Receipt", "receipt_of"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a caller gets with each signature. Digests are lower-case hexadecimal."""

    record: int
    """Number of the outcome's entry in the record."""
    intent: int
    time: str
    """Of the outcome, RFC 3339 UTC."""
    entry_hash: str
    """Leaf hash of the outcome's entry."""
    checkpoint: dict[str, Any]
    """Origin, size, root and hash name of the record once the outcome was in it: whoever keeps it can show later that
    the entry was there."""
    signature_sha256: str
    key: str
    certificate_sha256: str | None
    mechanism: str
    operation: str
    authorization: dict[str, Any]
    """What allowed it: a rule or default of the policy, or a grant; and how the holder agreed."""
    seal: str | None = None
    seal_sm3: str | None = None
    """Of the whole seal (DER SESeal)."""
    document_sm3: str | None = None
    """Of the document as it came in."""
    digest: str | None = None
    """The digest that the caller computed, where it did."""
    timestamp: str | None = None
    """The time that a time-stamp over the signature proves; None without one."""

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def receipt_of(intent: Entry, outcome: Entry, head: Head) -> Receipt:
    """Return the receipt of a signature that is on record.

    :param head: of the record, with the outcome in it.
    """
    asked, made = cast(dict[str, Any], intent.body), cast(dict[str, Any], outcome.body)
    document = asked.get("document") or {}
    seal = asked.get("seal") or {}
    return Receipt(
        record=outcome.number,
        intent=intent.number,
        time=outcome.time_text,
        entry_hash=leaf_hash(head.hash, outcome.octets).hex(),
        checkpoint={"origin": head.origin, "size": head.size, "root": head.root.hex(), "hash": head.hash},
        signature_sha256=made["signature_sha256"],
        key=asked["key"],
        certificate_sha256=(asked.get("certificate") or {}).get("sha256"),
        mechanism=asked["mechanism"],
        operation=asked["operation"],
        authorization=asked.get("authorization") or {},
        seal=seal.get("id"),
        seal_sm3=seal.get("sm3"),
        document_sm3=document.get("sm3"),
        digest=document.get("digest"),
        timestamp=(made.get("timestamp") or {}).get("time"),
    )
