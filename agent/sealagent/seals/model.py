"""Seals and seal signatures as values, independent of the version of the structure they came in.

The three versions: 1 = GM/T 0031-2014, 4 = GB/T 38540-2020, 5 = GM/T 0031-2025. Names follow the standards' fields.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from sealagent.verdict import Note

__all__ = ["Extension", "Picture", "Seal", "SealSignature"]


@dataclass(frozen=True, slots=True)
class Picture:
    """SES_ESPictureInfo."""

    type: str
    """As written, e.g. ``PNG``; compare without case."""
    data: bytes = field(repr=False)
    width: int
    """Millimetres."""
    height: int
    """Millimetres."""


@dataclass(frozen=True, slots=True)
class Extension:
    """ExtData."""

    oid: str
    critical: bool
    value: bytes
    """Content of the OCTET STRING."""


@dataclass(frozen=True, slots=True)
class Seal:
    """SESeal."""

    raw: bytes = field(repr=False)
    """The whole structure as received."""
    info: bytes = field(repr=False)
    """SES_SealInfo, tag and length included, as received."""
    maker_fields: bytes = field(repr=False)
    """The maker's certificate and algorithm, both with tag and length, as received: signed in version 1."""
    version: int
    """1, 4 or 5."""
    es_id: str
    vendor: str
    """header.Vid."""
    type: int
    """Free for business use."""
    name: str
    cert_list_type: int
    """1: certificates, 2: digests of certificates."""
    certificates: tuple[bytes, ...] = field(repr=False)
    """The signers' certificates, DER; empty for list type 2."""
    certificate_digests: tuple[tuple[str, bytes], ...] = field(repr=False)
    """The signers' certificates as (free text naming the digest, digest); empty for list type 1."""
    created: datetime
    valid_from: datetime
    valid_until: datetime
    picture: Picture
    extensions: tuple[Extension, ...]
    maker_certificate: bytes = field(repr=False)
    """DER."""
    algorithm: str
    """Dotted OID."""
    signature: bytes = field(repr=False)
    """Content of the BIT STRING without its unused-bits octet."""
    timestamp: bytes | None = field(default=None, repr=False)
    """Time-stamp token over the signature (version 5), DER."""
    quirks: tuple[Note, ...] = ()
    """Deviations from the standard that were survived."""

    @property
    def id(self) -> str:
        """The name of this seal object here: the first 32 hexadecimal digits of SHA-256 over the received octets.

        esID will not do: two seals may carry the same.
        """
        return hashlib.sha256(self.raw).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class SealSignature:
    """SES_Signature."""

    raw: bytes = field(repr=False)
    """The whole structure as received."""
    tbs: bytes = field(repr=False)
    """TBS_Sign, tag and length included, as received: the signed octets of every version."""
    version: int
    """1, 4 or 5: the version of the structure."""
    seal: Seal
    time: datetime | None
    """timeInfo in UTC; None when it cannot be read."""
    time_raw: bytes = field(repr=False)
    """Content octets of timeInfo."""
    data_hash: bytes
    property_info: str
    extensions: tuple[Extension, ...]
    certificate: bytes = field(repr=False)
    """The signer's certificate, DER."""
    algorithm: str
    """Dotted OID."""
    signature: bytes = field(repr=False)
    """Content of the BIT STRING without its unused-bits octet."""
    timestamp: bytes | None = field(default=None, repr=False)
    """Time-stamp token, DER: over the signature, or (version 1) the token inside timeInfo."""
    quirks: tuple[Note, ...] = ()
    """Deviations from the standard that were survived, those of the embedded seal included."""
