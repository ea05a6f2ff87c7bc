"""Whether a certificate was revoked: the question as the judge asks it, and the answer.

Who answers (OCSP, CRL, kept answers) is injected as a :class:`RevocationSource`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sealagent.pki.certificates import Certificate

__all__ = ["CertificateState", "CertificateStatus", "RevocationSource"]


class CertificateState(StrEnum):
    """What is known of a certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    """Nobody could be asked, or no answer counts; ``detail`` says why."""


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """An answer."""

    state: CertificateState
    revoked_at: datetime | None = None
    """When it was revoked, if it was: also where the question was about an earlier moment."""
    reason: str = ""
    """CRLReason in words of RFC 5280, e.g. ``key_compromise``."""
    source: str = ""
    """Who said so, e.g. ``ocsp http://…`` or ``crl /path``."""
    produced_at: datetime | None = None
    """thisUpdate."""
    next_update: datetime | None = None
    """nextUpdate: until when it counts. Half an hour after thisUpdate where the issuer names none."""
    evidence: bytes = field(default=b"", repr=False)
    """The OCSP response or CRL as received, DER."""
    detail: str = ""
    stale: bool = False
    """An older answer, used because policy allows it while nobody can be asked."""
    asked: bool = True
    """False: nobody is known who could be asked about certificates of this issuer."""


class RevocationSource(Protocol):
    """Answers for certificates; never raises for what the network or an answer may be like."""

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        """Return the status of ``chain[0]``.

        :param chain: the certificate, its issuers up to the anchor; two or more, already validated.
        :param at: the moment that matters (signing, making); a later revocation is ``REVOKED`` with its time.
        :param now: against which answers are fresh.
        """
        ...
