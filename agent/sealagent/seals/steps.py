"""Single steps of judging a seal or a seal signature, and what they find. Their order is in :mod:`verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sealagent.errors import FormatError
from sealagent.pki import signatures
from sealagent.pki.certificates import Certificate
from sealagent.pki.der import DerError
from sealagent.pki.digests import DIGEST_BY_OID, WEAK_DIGESTS, digest
from sealagent.pki.keys import is_weak
from sealagent.pki.path import PathStatus, validate_path
from sealagent.pki.timestamp import read_token
from sealagent.pki.trust import TrustStore
from sealagent.seals.model import Seal
from sealagent.verdict import Note, Reason, timestamp

__all__ = [
    "Findings",
    "Role",
    "judge_list",
    "judge_path",
    "judge_timestamp",
    "judge_value",
    "lists_certificate",
    "load_certificate",
    "outside",
]

Role = Literal["maker", "signer"]
"""Whose certificate; the beginning of the reason codes concerned."""


@dataclass(slots=True)
class Findings:
    """What some steps found, in order."""

    reasons: list[Reason] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def reason(self, code: str, detail: str = "") -> None:
        self.reasons.append(Reason(code, detail))

    def note(self, code: str, detail: str = "") -> None:
        self.notes.append(Note(code, detail))

    def add(self, other: Findings) -> None:
        self.reasons += other.reasons
        self.notes += other.notes


def load_certificate(data: bytes, role: Role, found: Findings) -> Certificate | None:
    """Read a certificate (DER); one that is none is a format fault of the structure that holds it."""
    try:
        return Certificate.from_der(data)
    except FormatError as error:
        found.reason("seal_format" if role == "maker" else "sig_format", f"the {role}'s certificate: {error.message}")
        return None


def judge_value(certificate: Certificate, algorithm_oid: str, value: bytes, octets: bytes, role: Role) -> Findings:
    """The signature value of the maker over the seal, or of the signer over TBS_Sign."""
    found = Findings()
    code = "seal_signature" if role == "maker" else "sig_value"
    try:
        algorithm = signatures.algorithm(algorithm_oid)
        check = signatures.verify(certificate.public_key, algorithm, value, octets)
    except FormatError as error:
        found.reason("algorithm_not_supported" if error.code == "algorithm_not_supported" else code, error.message)
        return found
    if not check.ok:
        found.reason(code)
    if algorithm.weak:
        found.note("weak_algorithm", f"the {role}'s signature: {algorithm.name}")
    if is_weak(certificate.public_key):
        found.note("weak_algorithm", f"the {role}'s key is too short")
    for quirk in check.quirks:
        found.note(quirk, f"the {role}'s signature")
    return found


def judge_path(
    certificate: Certificate, at: datetime, trust: TrustStore, role: Role, others: Sequence[Certificate] = ()
) -> Findings:
    """Chain and key usage; a certificate that is pinned needs no chain. Its own validity is the caller's.

    :param others: certificates that came along and may be intermediates.
    """
    found = Findings([], [Note(quirk, f"the {role}'s certificate") for quirk in certificate.quirks])
    result = validate_path(certificate, others, trust, at)
    if result.fault:
        found.reason(f"{role}_cert_{result.fault}", result.detail)
    if result.status is PathStatus.no_anchor:
        found.reason(f"{role}_not_trusted", certificate.issuer)
    elif result.status is PathStatus.pinned:
        found.note("pinned", f"the {role}'s certificate")
    return found


def lists_certificate(seal: Seal, certificate: bytes) -> bool:
    """Say whether the seal's list names this certificate (DER): by its octets, or by its digest (list type 2)."""
    return certificate in seal.certificates or any(
        value == digest(_digest_name(label), certificate) for label, value in seal.certificate_digests
    )


def judge_list(seal: Seal, signer: Certificate) -> Findings:
    """The signer's certificate against the seal's list (GB/T 38540 7.3)."""
    found = Findings()
    if not lists_certificate(seal, signer.der):
        found.reason("signer_not_in_seal", signer.subject)
    for label, _ in seal.certificate_digests:
        if _digest_name(label) in WEAK_DIGESTS:
            found.note("weak_algorithm", f"certificate list: {label}")
    return found


def judge_timestamp(
    token: bytes | None, covered: bytes | None, code: Literal["seal_timestamp", "sig_timestamp"], made: datetime | None
) -> Findings:
    """Refuse a token that is none, covers other octets or is older than the seal; its signature is not verified yet.

    :param covered: the signature value it should cover; None when that cannot be known.
    :param made: createDate of the seal it should not be older than.
    """
    found = Findings()
    if token is None:
        return found
    try:
        claims = read_token(token)
    except DerError as error:
        found.reason(code, str(error))
        return found
    name = DIGEST_BY_OID.get(claims.digest_oid)
    if covered is not None and name is not None and digest(name, covered) != claims.imprint:
        found.reason(code, "the token covers other octets")
    elif made is not None and made > claims.time:
        found.reason(code, f"the seal was made after the time-stamp of {timestamp(claims.time)}")
    else:
        found.reason("timestamp_not_checked", code)
    return found


def outside(certificate: Certificate, at: datetime) -> str:
    """Return the detail of a reason that a time is outside the validity of a certificate."""
    period = f"{timestamp(certificate.not_before)} to {timestamp(certificate.not_after)}"
    return f"{timestamp(at)} is outside {period}"


def _digest_name(label: str) -> str:
    """Read the free text of CertDigestObj.type: a name or a dotted OID; SM3 unless it names another."""
    name = DIGEST_BY_OID.get(label.strip()) or label.strip().lower().replace("-", "")
    return name if name in set(DIGEST_BY_OID.values()) else "sm3"
