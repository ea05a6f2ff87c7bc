"""Digital signatures (Type="Sign"): GB/T 35275 SignedData, and SM2 signatures with nothing around them.

The order is that of GM/T 0031-2014 6.2.3 without the seal: format, value, certificate, time, original text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sealagent.documents.limits import DEFAULT_LIMITS, Limits
from sealagent.errors import FormatError
from sealagent.pki.certificates import Certificate
from sealagent.pki.cms import SignedData, issuer_and_serial, parse_signed_data
from sealagent.pki.digests import DIGEST_BY_OID, digest
from sealagent.pki.oids import SM2_SIGN, SM2_WITH_SM3
from sealagent.pki.signatures import algorithm, verify
from sealagent.pki.sm2 import SM2PublicKey
from sealagent.seals.steps import judge_timestamp
from sealagent.seals.verify import Findings, Policy, intact, judge_signer, note_unproven, vouching_list
from sealagent.verdict import Note, Reason, SignatureReport, in_order

__all__ = ["Context", "judge_bare", "judge_cms", "judge_malformed", "judge_unsupported"]

_DIGEST = "sm3"


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a signature besides its octets."""

    id: str
    content: bytes | None
    """The signed file, or None when there is none to compare with."""
    kind: str = "signature"
    claimed_time: datetime | None = None
    """A time stated in the signed file, for signatures that carry none."""
    reasons: Sequence[Reason] = ()
    """What was found wrong before."""
    notes: Sequence[Note] = ()
    closed: bool | None = None


def judge_cms(data: bytes, context: Context, policy: Policy) -> SignatureReport:
    """Judge a GB/T 35275 SignedData with SM2 and SM3.

    :param data: DER.
    """
    found = _begin(context)
    try:
        signed = parse_signed_data(data)
    except FormatError as error:
        found.reason("sig_format", error.message)
        return _report(context, found, None, None)
    found.notes += signed.notes
    signed_at = signed.signing_time or context.claimed_time
    if signed.algorithm not in (SM2_SIGN, SM2_WITH_SM3) or DIGEST_BY_OID.get(signed.digest_algorithm) != _DIGEST:
        found.reason("algorithm_not_supported", f"{signed.algorithm} with {signed.digest_algorithm}")
        return _report(context, found, None, signed_at)
    if signed.algorithm != SM2_SIGN:
        found.note("quirk_cms_oid", f"digestEncryptionAlgorithm {signed.algorithm}")
    carried = _loaded(signed.certificates)
    signer = _cms_signer(signed, carried, context.content, policy, found)
    if signer is not None:
        _judge_certificate(signer, signed_at, policy, found, carried)
    _judge_content(signed, context.content, found)
    of_token, proven = judge_timestamp(signed.timestamp, signed.signature, "sig_timestamp", policy, signed=signed_at)
    found.add(of_token)
    if signer is not None:
        note_unproven(signer, found, policy.now, proven)
    return _report(context, found, signer, signed_at, vouching_list(found.entry, policy))


def judge_bare(signature: bytes, context: Context, policy: Policy, limits: Limits = DEFAULT_LIMITS) -> SignatureReport:
    """Judge an SM2 signature over a file that does not say whose it is: the certificates of the trust store are tried.

    :param signature: DER or raw r‖s.
    """
    found = _begin(context)
    if context.content is None:
        found.reason("document_not_checked")
        return _report(context, found, None, context.claimed_time)
    candidates = [each for each in policy.trust.certificates if isinstance(each.public_key, SM2PublicKey)]
    signer = _whose(candidates[: limits.unknown_signer_tries], signature, context.content, found)
    if signer is None:
        found.reason("signer_certificate_missing")
    else:
        found.note("signer_certificate_supplied", signer.subject)
        _judge_certificate(signer, context.claimed_time, policy, found)
        note_unproven(signer, found, policy.now, None)
    return _report(context, found, signer, context.claimed_time, vouching_list(found.entry, policy))


def judge_unsupported(context: Context, name: str) -> SignatureReport:
    """Report on a signature in the format of another algorithm: nothing can be said of its value."""
    found = _begin(context)
    found.reason("algorithm_not_supported", name)
    return _report(context, found, None, context.claimed_time)


def judge_malformed(context: Context, detail: str) -> SignatureReport:
    """Report on octets that are no signature in the format their algorithm demands."""
    found = _begin(context)
    found.reason("sig_format", detail)
    return _report(context, found, None, context.claimed_time)


def _begin(context: Context) -> Findings:
    return Findings(list(context.reasons), list(context.notes))


def _report(
    context: Context,
    found: Findings,
    signer: Certificate | None,
    signed_at: datetime | None,
    trust: dict[str, str] | None = None,
) -> SignatureReport:
    return SignatureReport(
        id=context.id,
        kind=context.kind,
        version=None,
        intact=intact(found.reasons),
        reasons=in_order(dict.fromkeys(found.reasons)),
        notes=tuple(dict.fromkeys(found.notes)),
        signed_at=signed_at,
        closed=context.closed,
        signer=signer.facts() if signer else None,
        trust=trust,
    )


def _cms_signer(
    signed: SignedData, carried: Sequence[Certificate], file: bytes | None, policy: Policy, found: Findings
) -> Certificate | None:
    """Find the signer's certificate, in the CMS or among the trusted ones, and check the signature value with it."""
    candidates = [each for each in carried if issuer_and_serial(each.der) == signed.signer]
    supplied = not candidates
    if supplied:
        candidates = [each for each in policy.trust.certificates if issuer_and_serial(each.der) == signed.signer]
    if not candidates:
        found.reason("signer_certificate_missing")
        return None
    if supplied:
        found.note("signer_certificate_supplied", candidates[0].subject)
    message = signed.attributes if signed.attributes is not None else signed.content
    message = file if message is None else message
    if message is None:
        return candidates[0]  # detached and without the file: reported with the content
    signer = _whose(candidates, signed.signature, message, found)
    if signer is None:
        found.reason("sig_value")
    return signer or candidates[0]


def _judge_content(signed: SignedData, file: bytes | None, found: Findings) -> None:
    """Follow the digests from the signed octets to the file."""
    if signed.message_digest is not None:
        covered = file if signed.content is None else signed.content
        if covered is not None and digest(_DIGEST, covered) != signed.message_digest:
            found.reason("data_hash", "messageDigest")
            return
    if file is None:
        found.reason("document_not_checked")
    elif signed.content is not None and signed.content not in (digest(_DIGEST, file), file):
        found.reason("data_hash")


def _judge_certificate(
    signer: Certificate,
    signed_at: datetime | None,
    policy: Policy,
    found: Findings,
    others: Sequence[Certificate] = (),
) -> None:
    of_signer = judge_signer(signer, signed_at or policy.now, policy, others)
    found.add(of_signer)
    found.entry = of_signer.entry
    if signed_at is None:
        found.reason("signing_time_unknown")


def _whose(candidates: Sequence[Certificate], signature: bytes, message: bytes, found: Findings) -> Certificate | None:
    """Return the first certificate whose key verifies the SM2 signature."""
    sm2 = algorithm(SM2_WITH_SM3)
    for candidate in candidates:
        if not isinstance(candidate.public_key, SM2PublicKey):
            continue
        check = verify(candidate.public_key, sm2, signature, message)
        if check.ok:
            for quirk in check.quirks:
                found.note(quirk, "the signer's signature")
            return candidate
    return None


def _loaded(certificates: Sequence[bytes]) -> list[Certificate]:
    """Certificates carried along that cannot be read are of no use, and of no harm."""
    loaded = []
    for data in certificates:
        try:
            loaded.append(Certificate.from_der(data))
        except FormatError:
            continue
    return loaded
