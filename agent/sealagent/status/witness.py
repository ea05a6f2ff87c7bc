"""Hears what a judge is answered: for the record, and to notice when the answers are no longer the same.

Judging a seal is milliseconds of mathematics that need not be done for every signature. The questions must be asked
for every signature. So the verdict is used again while all its questions are answered as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sealagent.pki.certificates import Certificate
from sealagent.pki.revocation import CertificateStatus, RevocationSource
from sealagent.seals.model import Seal
from sealagent.seals.status import SealStatus, SealStatusSource
from sealagent.seals.steps import Policy
from sealagent.status.evidence import sha256_of
from sealagent.verdict import timestamp

__all__ = ["Answers", "Witness"]

MAX_SUMMARY = 8  # certificates that the record names; the maker's and the signer's chains have two or three each


@dataclass(frozen=True, slots=True)
class _OfCertificate:
    chain: tuple[Certificate, ...]
    at: datetime | None
    """The moment asked about; None: the present."""
    status: CertificateStatus
    sha256: str
    """Of the evidence."""


@dataclass(frozen=True, slots=True)
class _OfSeal:
    seal: Seal
    maker: Certificate
    status: SealStatus
    sha256: str
    """Of the evidence."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What was answered while something was judged, in the order of the questions."""

    of_seals: tuple[_OfSeal, ...] = field(default=(), repr=False)
    of_certificates: tuple[_OfCertificate, ...] = field(default=(), repr=False)

    @property
    def asked(self) -> bool:
        """Whether anybody was asked, or would be if the judge judged again."""
        return any(each.status.asked for each in self.of_seals) or any(
            each.status.asked for each in self.of_certificates
        )

    def hold(self, policy: Policy) -> bool:
        """Ask all questions again, and say whether each is answered as it was. Call it in a thread.

        :param policy: with the sources to ask, and the present time.
        """
        for seal in self.of_seals:
            if policy.seals is None or policy.seals.status(seal.seal, seal.maker, policy.asked_at) != seal.status:
                return False
        for each in self.of_certificates:
            at = each.at or policy.now
            if policy.revocation is None or policy.revocation.status(each.chain, at, policy.asked_at) != each.status:
                return False
        return True

    def evidence(self) -> dict[str, bytes]:
        """Return the octets of the answers by their SHA-256, lower-case hexadecimal."""
        found = {each.sha256: each.status.evidence for each in self.of_seals}
        found |= {each.sha256: each.status.evidence for each in self.of_certificates}
        return {sha256: octets for sha256, octets in found.items() if octets}

    def facts(self, state: str) -> dict[str, Any]:
        """Return ``status`` of a record.

        :param state: of the seal, as the verdict has it.
        """
        seal = [_facts(each.status, each.sha256) for each in self.of_seals if each.status.asked]
        certificates = [
            {"serial": each.chain[0].serial, "state": str(each.status.state), **_facts(each.status, each.sha256)}
            for each in self.of_certificates
            if each.status.asked
        ][:MAX_SUMMARY]
        return {"seal": {"state": state, **(seal[-1] if seal else {})}, "certificates": certificates}


def _facts(status: SealStatus | CertificateStatus, sha256: str) -> dict[str, Any]:
    if not status.evidence:
        return {"detail": status.detail} if status.detail else {}
    found: dict[str, Any] = {
        "source": status.source,
        "produced_at": timestamp(status.produced_at),
        "sha256": sha256,
    }
    return found | ({"stale": True} if status.stale else {})


class Witness:
    """Stands between one judge and the sources of its policy."""

    def __init__(self, policy: Policy) -> None:
        self._seals: list[_OfSeal] = []
        self._certificates: list[_OfCertificate] = []
        self.policy = replace(
            policy,
            seals=_Seals(policy.seals, self._seals) if policy.seals is not None else None,
            revocation=_Certificates(policy.revocation, policy.now, self._certificates)
            if policy.revocation is not None
            else None,
        )
        """For the judge."""

    def answers(self) -> Answers:
        """Return what was heard until now."""
        return Answers(tuple(self._seals), tuple(self._certificates))


@dataclass(frozen=True, slots=True)
class _Seals:
    source: SealStatusSource
    heard: list[_OfSeal]

    def status(self, seal: Seal, maker: Certificate, now: datetime) -> SealStatus:
        status = self.source.status(seal, maker, now)
        self.heard.append(_OfSeal(seal, maker, status, sha256_of(status.evidence)))
        return status


@dataclass(frozen=True, slots=True)
class _Certificates:
    source: RevocationSource
    now: datetime
    heard: list[_OfCertificate]

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        status = self.source.status(chain, at, now)
        moment = None if at == self.now else at
        self.heard.append(_OfCertificate(tuple(chain), moment, status, sha256_of(status.evidence)))
        return status
