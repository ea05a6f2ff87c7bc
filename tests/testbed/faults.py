"""What the services of the test bed do wrong when told to."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["CONTENT_FAULTS", "Fault"]


class Fault(StrEnum):
    """One fault, by the name that addresses and commands use."""

    # Of the connection:
    SLOW = "slow"
    """The right answer, after ``seconds`` (30)."""
    HANG = "hang"
    """Headers and one octet, then nothing for ``seconds`` (600)."""
    GARBAGE = "garbage"
    """Octets that are no answer, with the right content type."""
    EMPTY = "empty"
    """An answer of no octets."""
    MEGABYTES = "megabytes"
    """64 MiB of octets, without a length announced."""
    ERROR = "error"
    """Status 500 and an HTML page."""
    # Of the answer:
    WRONG_SIGNER = "wrong-signer"
    """Signed by a certificate of the same authority that may not sign such answers."""
    STALE = "stale"
    """Produced ten days ago, and out of date for nine."""
    OTHER = "other"
    """About another certificate, another issuer, other octets."""
    NONCE = "nonce"
    """With another nonce than the one asked with."""
    DAMAGED = "damaged"
    """The last octet of the signature value is changed."""
    REFUSED = "refused"
    """The protocol's own refusal: tryLater (OCSP), rejection (time-stamps)."""


CONTENT_FAULTS = frozenset((Fault.WRONG_SIGNER, Fault.STALE, Fault.OTHER, Fault.NONCE, Fault.DAMAGED, Fault.REFUSED))
"""Those that the builders of answers carry out."""
