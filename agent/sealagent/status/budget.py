"""A bound on the time that the questions about one document may take.

A hostile document may carry hundreds of signatures, each with certificates and a seal to ask about, and a service may
be slow without being dead. What is not answered within the budget is unknown, with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sealagent.pki.certificates import Certificate
from sealagent.pki.revocation import CertificateState, CertificateStatus, RevocationSource
from sealagent.seals.model import Seal
from sealagent.seals.status import SealStatus, SealStatusSource
from sealagent.seals.steps import Policy

__all__ = ["QUESTION_SECONDS", "within"]

QUESTION_SECONDS = 20.0
"""Seconds all questions about one document may take together: a person waits for the answer."""

_SPENT = "the time for questions about this document was used up"


def within(policy: Policy, seconds: float = QUESTION_SECONDS, clock: Callable[[], float] = time.monotonic) -> Policy:
    """Return a policy whose sources are asked only for so long from now.

    The question under way when the time ends is answered or times out by itself.
    """
    end = clock() + seconds
    return replace(
        policy,
        revocation=policy.revocation and _Certificates(policy.revocation, end, clock),
        seals=policy.seals and _Seals(policy.seals, end, clock),
    )


@dataclass(frozen=True, slots=True)
class _Certificates:
    source: RevocationSource
    end: float
    clock: Callable[[], float]

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        if self.clock() > self.end:
            return CertificateStatus(CertificateState.UNKNOWN, detail=_SPENT)
        return self.source.status(chain, at, now)


@dataclass(frozen=True, slots=True)
class _Seals:
    source: SealStatusSource
    end: float
    clock: Callable[[], float]

    def status(self, seal: Seal, maker: Certificate, now: datetime) -> SealStatus:
        if self.clock() > self.end:
            return SealStatus(detail=_SPENT)
        return self.source.status(seal, maker, now)
