"""Single steps of judging a seal or a seal signature, and what they find. Their order is in :mod:`verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sealagent.errors import FormatError
from sealagent.pki import signatures
from sealagent.pki.certificates import Certificate
from sealagent.pki.digests import DIGEST_BY_OID, WEAK_DIGESTS, digest
from sealagent.pki.keys import is_weak
from sealagent.pki.path import PathStatus, validate_path
from sealagent.pki.revocation import CertificateState, CertificateStatus, RevocationSource
from sealagent.pki.timestamp import TokenState, judge_token
from sealagent.pki.trust import TrustClass, TrustEntry, TrustRole, TrustStore
from sealagent.seals.model import Seal
from sealagent.seals.status import SealState, SealStatus, SealStatusSource
from sealagent.verdict import Note, Reason, timestamp

__all__ = [
    "Findings",
    "Policy",
    "Role",
    "judge_list",
    "judge_path",
    "judge_state",
    "judge_timestamp",
    "judge_value",
    "lists_certificate",
    "load_certificate",
    "outside",
]

Role = Literal["maker", "signer"]
"""Whose certificate; the beginning of the reason codes concerned."""


CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a signer's clock may be ahead of the time-stamping authority's: an office computer drifts by minutes."""


@dataclass(frozen=True, slots=True)
class Policy:
    """By what a seal or signature is judged. The sources may wait for the network: judge in a thread."""

    trust: TrustStore
    now: datetime
    """Aware. Decides what a seal alone is judged at, and the notes on what has changed since."""
    strict: bool = False
    """The order of 2014 and 2020 instead of 2025."""
    revocation: RevocationSource | None = None
    """Who says whether certificates are revoked; None: nobody is asked, and a note says so."""
    seals: SealStatusSource | None = None
    """Who says in what state a seal is; None: nobody is asked, and a note says so."""
    demand_status: bool = True
    """Whether an answer that could not be had keeps the verdict from being valid; else it is a note."""
    present: datetime | None = None
    """The real time where :attr:`now` is another moment: against which answers are fresh."""

    @property
    def asked_at(self) -> datetime:
        return self.present or self.now


@dataclass(slots=True)
class Findings:
    """What some steps found, in order."""

    reasons: list[Reason] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    entry: TrustEntry | None = None
    """Of :func:`judge_path`: what vouches for the certificate, if something does."""

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
    certificate: Certificate, at: datetime, policy: Policy, role: Role, others: Sequence[Certificate] = ()
) -> Findings:
    """Chain, key usage, recognition and revocation at a moment. The certificate's own validity is the caller's.

    A certificate that is pinned needs no chain.

    :param others: certificates that came along and may be intermediates.
    """
    found = Findings([], [Note(quirk, f"the {role}'s certificate") for quirk in certificate.quirks])
    result = validate_path(certificate, others, policy.trust, at, _TRUST_ROLES[role])
    if result.fault:
        code = f"{role}_trust_withdrawn" if result.fault == "withdrawn" else f"{role}_cert_{result.fault}"
        found.reason(code, result.detail)
    if result.status is PathStatus.no_anchor:
        found.reason(f"{role}_not_trusted", certificate.issuer)
    if result.status not in (PathStatus.pinned, PathStatus.trusted):
        return found
    found.entry = result.entry
    if result.status is PathStatus.pinned:
        found.note("pinned", f"the {role}'s certificate")
    if result.entry is not None and (source := result.entry.source) is not None:
        if source.next_update < policy.asked_at:
            found.reason("trust_list_stale", f"{source.list} was to be updated by {timestamp(source.next_update)}")
        if result.entry.trust_class is TrustClass.INTERNAL:
            found.note("internal_trust", f"the {role}: {source.unit}")
    _judge_revocation(result.chain, at, policy, role, found)
    return found


_TRUST_ROLES = {"maker": TrustRole.MAKER, "signer": TrustRole.CA}


def _judge_revocation(chain: Sequence[Certificate], at: datetime, policy: Policy, role: Role, found: Findings) -> None:
    """Ask for each certificate below the anchor. A pinned one has nobody above it to ask."""
    if len(chain) > 1 and policy.revocation is None:
        found.note("cert_status_not_checked", f"the {role}'s certificate")
        return
    for index in range(len(chain) - 1):
        assert policy.revocation is not None
        status = policy.revocation.status(chain[index:], at, policy.asked_at)
        if status.stale:
            found.note("status_old", f"{chain[index].subject}: {_answered(status)}")
        if status.state is CertificateState.REVOKED:
            _judge_revoked(chain, index, status, at, role, found)
        elif status.state is CertificateState.UNKNOWN:
            detail = f"{chain[index].subject}: {status.detail}"
            if policy.demand_status and status.asked:
                found.reason(f"{role}_cert_status_unknown", detail)
            else:
                found.note("cert_status_not_checked", detail)


def _judge_revoked(
    chain: Sequence[Certificate], index: int, status: CertificateStatus, at: datetime, role: Role, found: Findings
) -> None:
    """Before the moment that matters it ends the certificate; afterwards it is worth knowing (standards 3.2 step 4)."""
    since = timestamp(status.revoked_at) or "an unknown time"
    detail = f"revoked {since}{f' ({status.reason})' if status.reason else ''}"
    if status.revoked_at is not None and status.revoked_at > at:
        found.note(f"{role}_cert_revoked_since", detail if index == 0 else f"{chain[index].subject}: {detail}")
    elif index:
        found.reason(f"{role}_cert_chain", f"{chain[index].subject}: {detail}")
    else:
        found.reason("maker_cert_revoked" if role == "maker" else "cert_revoked_before_signing", detail)


def _answered(status: CertificateStatus | SealStatus) -> str:
    return f"{status.source}, of {timestamp(status.produced_at) or 'an unknown time'}"


_STATE_REASONS = {
    SealState.MADE: "seal_not_filed",
    SealState.FILED: "seal_not_filed",
    SealState.SUSPENDED: "seal_suspended",
    SealState.CANCELLED: "seal_cancelled",
    SealState.SUPERSEDED: "seal_superseded",
    SealState.LOST: "seal_lost",
    SealState.INVALID: "seal_invalidated",
}


def judge_state(seal: Seal, maker: Certificate, at: datetime, policy: Policy, *, signed: bool) -> tuple[Findings, str]:
    """The seal's state at a moment, by the status service of its production-management unit (the Measures, Art. 17).

    :param signed: the moment is a signing time; else it is now.
    :return: with ``status`` of the report.
    """
    found = Findings()
    if policy.seals is None:
        found.note("status_not_checked")
        return found, "not_checked"
    status = policy.seals.status(seal, maker, policy.asked_at)
    if not status.asked:
        found.note("status_not_checked", status.detail)
        return found, "not_checked"
    change = status.at(at)
    detail = status.detail
    if status.next_update is not None and at > status.next_update:
        change, detail = None, f"the answer is good until {timestamp(status.next_update)}"
    elif change is None and status.history:
        found.reason("seal_not_valid_at_signing" if signed else "seal_not_filed", "it was not on file yet")
        return found, status.history[0].state.value
    if change is None:
        if policy.demand_status or status.evidence:  # the unit was asked and says that it does not know the seal
            found.reason("status_unknown", detail)
        else:
            found.note("status_not_checked", detail)
        return found, SealState.UNKNOWN.value
    if status.stale:
        found.note("status_old", _answered(status))
    if change.state is not SealState.VALID:
        why = f"{change.state.value} since {timestamp(change.since)}{f' ({change.reason})' if change.reason else ''}"
        past = signed and change.state is not SealState.INVALID
        found.reason("seal_not_valid_at_signing" if past else _STATE_REASONS[change.state], why)
    elif (last := status.history[-1]) is not change:
        found.note("seal_state_since", f"{last.state.value} since {timestamp(last.since)}")
    return found, change.state.value


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
    token: bytes | None,
    covered: bytes | None,
    code: Literal["seal_timestamp", "sig_timestamp"],
    policy: Policy,
    *,
    made: datetime | None = None,
    signed: datetime | None = None,
) -> tuple[Findings, datetime | None]:
    """A time-stamp token over a signature value (GB/T 20520).

    :param covered: the signature value; None for a token that is older than the signature (version 1 has it in
        timeInfo, which is signed): it proves that the signature is not older, and no more.
    :param made: createDate of the seal, which must not be later than the token (GM/T 0031-2025).
    :param signed: the time the signer states, which should not be later either.
    :return: with a time at which the signature existed, if the token proves one.
    """
    found = Findings()
    if token is None:
        return found, None
    judged = judge_token(token, covered, policy.trust, policy.revocation, policy.asked_at)
    found.notes += judged.notes
    if judged.state is TokenState.BAD:
        found.reason(code, judged.detail)
        return found, None
    if judged.time is None:
        found.reason("timestamp_not_checked", f"{code}: {judged.detail}")
    elif made is not None and made > judged.time:
        found.reason(code, f"the seal was made after the time-stamp of {timestamp(judged.time)}")
    elif signed is not None and signed > judged.time + CLOCK_TOLERANCE:
        found.reason(code, f"signed {timestamp(signed)}, after the time-stamp of {timestamp(judged.time)}")
    elif judged.state is not TokenState.GOOD:
        found.reason("timestamp_not_checked", f"{code}: {judged.detail}")
    elif covered is not None:
        found.note("time_stamped", f"{timestamp(judged.time)}{f', {judged.tsa.subject}' if judged.tsa else ''}")
        return found, judged.time
    return found, None


def outside(certificate: Certificate, at: datetime) -> str:
    """Return the detail of a reason that a time is outside the validity of a certificate."""
    period = f"{timestamp(certificate.not_before)} to {timestamp(certificate.not_after)}"
    return f"{timestamp(at)} is outside {period}"


def _digest_name(label: str) -> str:
    """Read the free text of CertDigestObj.type: a name or a dotted OID; SM3 unless it names another."""
    name = DIGEST_BY_OID.get(label.strip()) or label.strip().lower().replace("-", "")
    return name if name in set(DIGEST_BY_OID.values()) else "sm3"
