"""Signed messages of our own making: SignedData (GB/T 35275 with SM2, RFC 5652 otherwise) around a content.

Trust lists and answers of the seal status service are such messages. Nothing is said here of whom to trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sealagent.pki.certificates import Certificate
from sealagent.pki.signatures import SignatureAlgorithm

__all__ = ["Draft", "Signed", "open_signed", "prepare_signed"]


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed message whose signature value and digests are right."""

    raw: bytes = field(repr=False)
    content: bytes = field(repr=False)
    signer: Certificate
    certificates: tuple[Certificate, ...] = field(repr=False)
    """All that came along, the signer's included."""
    signing_time: datetime | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A signed message that lacks its signature value."""

    to_sign: bytes = field(repr=False)
    """DER of the attributes as a SET: what is hashed and signed (:func:`~.signatures.signing_digest`)."""
    certificate: Certificate
    algorithm: SignatureAlgorithm

    def finish(self, signature: bytes) -> bytes:
        """Return the message, DER ContentInfo."""
        raise NotImplementedError


def prepare_signed(
    content: bytes,
    certificate: Certificate,
    algorithm: SignatureAlgorithm,
    time: datetime,
    others: Sequence[Certificate] = (),
) -> Draft:
    """Begin a signed message with signed attributes (contentType, messageDigest, signingTime, signingCertificateV2).

    :param others: certificates to bring along beside the signer's.
    """
    raise NotImplementedError


def open_signed(data: bytes, *, limit: int) -> Signed:
    """Read a signed message and verify its signature value with the signer's certificate in it.

    :param limit: octets it may have.
    :raises FormatError: ``signed_message_invalid``: malformed, changed, or signed by none of its certificates.
    :raises LimitExceeded: ``signed_message_invalid``.
    """
    raise NotImplementedError
