"""Judge seals and seal signatures: GM/T 0031-2014 6.1.2 and 6.2.3, GB/T 38540-2020 6.3 and 7.3, GM/T 0031-2025.

Every failing step is reported. Steps that failed come first, in the order of the standard of the structure's version;
then what is missing to say "valid" (a trust anchor, the document). So the first reason is the one that decides.

A signature is judged at its signing time, a seal alone at ``Policy.now``. The 2025 order is the default: the maker's
certificate must have been good when the seal was made. ``Policy.strict`` is the order of 2014 and 2020: it must be
good at the moment of judgement, and createDate is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum

from sealagent.errors import FormatError
from sealagent.pki import der, signatures
from sealagent.pki.certificates import Certificate
from sealagent.pki.digests import WEAK_DIGESTS
from sealagent.pki.signatures import SignatureCheck
from sealagent.pki.trust import TrustEntry
from sealagent.seals.model import Seal, SealSignature
from sealagent.seals.parse import parse_seal, parse_signature
from sealagent.seals.picture import picture_note
from sealagent.seals.steps import (
    Findings,
    Policy,
    judge_list,
    judge_path,
    judge_state,
    judge_timestamp,
    judge_value,
    lists_certificate,
    load_certificate,
    outside,
)
from sealagent.verdict import REASONS, Note, Reason, SealFacts, SignatureReport, in_order, timestamp

__all__ = [
    "Findings",
    "Policy",
    "Rule",
    "intact",
    "judge_seal",
    "judge_signature",
    "judge_signer",
    "lists_certificate",
    "note_unproven",
    "rule_of",
    "seal_signature_ok",
    "signed_octets",
    "vouching_list",
]


class Rule(StrEnum):
    """Which octets of a seal the maker signs."""

    V1 = "v1"
    """GM/T 0031-2014: a new SEQUENCE of SES_SealInfo, certificate and algorithm."""
    V4 = "v4"
    """GB/T 38540-2020 and GM/T 0031-2025: SES_SealInfo alone."""


def rule_of(version: int) -> Rule:
    """Return the rule of a structure's version (1, 4 or 5)."""
    return Rule.V1 if version == 1 else Rule.V4


def signed_octets(seal: Seal, rule: Rule) -> bytes:
    """Return what the maker signs: slices of the received octets, under V1 behind a SEQUENCE header of their own."""
    if rule is Rule.V4:
        return seal.info
    return der.sequence(seal.info + seal.maker_fields)


def seal_signature_ok(seal: Seal, rule: Rule) -> SignatureCheck:
    """Verify the maker's signature over the octets of the rule.

    :raises FormatError: ``certificate_invalid``, ``public_key_invalid``, ``algorithm_not_supported``.
    """
    maker = Certificate.from_der(seal.maker_certificate)
    return signatures.verify(
        maker.public_key, signatures.algorithm(seal.algorithm), seal.signature, signed_octets(seal, rule)
    )


def judge_seal(data: bytes, policy: Policy, *, id: str = "") -> SignatureReport:
    """Judge a seal alone, at ``policy.now``.

    :param data: DER.
    :param id: what the report calls it.
    """
    try:
        seal = parse_seal(data)
    except FormatError as error:
        return _malformed(id, "seal_format", error)
    found = Findings(notes=list(seal.quirks))
    maker = load_certificate(seal.maker_certificate, "maker", found)
    of_seal = _judge_seal(seal, maker, policy, policy.now)
    found.add(of_seal)
    if policy.now < seal.valid_from:
        found.reason("seal_not_yet_valid", f"valid from {timestamp(seal.valid_from)}")
    elif policy.now > seal.valid_until:
        found.reason("seal_expired", f"valid until {timestamp(seal.valid_until)}")
    found.add(_judge_seal_token(seal, policy))
    of_state, status = _judge_state(seal, maker, of_seal, policy.now, policy, signed=False)
    found.add(of_state)
    trust = vouching_list(of_seal.entry, policy)
    return _report(id, seal.version, found, seal=seal, maker=maker, trust=trust, status=status)


def judge_signature(
    data: bytes,
    policy: Policy,
    data_hash: Callable[[str], bytes] | None,
    *,
    id: str = "",
    stored_seal: bytes | None = None,
    expected_property: str | None = None,
    extra_reasons: Iterable[Reason] = (),
    extra_notes: Iterable[Note] = (),
    closed: bool | None = None,
) -> SignatureReport:
    """Judge a seal signature at its signing time.

    :param data: DER.
    :param data_hash: gives the digest of the protected octets by digest name; None: the document is not at hand.
    :param stored_seal: the separate seal file of the package; must equal the embedded seal octet for octet.
    :param expected_property: what propertyInfo, or the Entry of its JSON, should say; else a note.
    :param extra_reasons: the package's own failing steps; they come before all others.
    """
    found = Findings(list(extra_reasons), list(extra_notes))
    try:
        signature = parse_signature(data)
    except FormatError as error:
        return _malformed(id, "sig_format", error, found, closed)
    seal = signature.seal
    found.notes += signature.quirks
    if stored_seal is not None and stored_seal != seal.raw:
        found.reason("seal_mismatch")
    if expected_property is not None and not _names(signature.property_info, expected_property):
        found.note("property_info", signature.property_info[:200])

    at = signature.time or policy.now
    signer = load_certificate(signature.certificate, "signer", found)
    maker = load_certificate(seal.maker_certificate, "maker", found)
    if signature.certificate == seal.maker_certificate:
        found.note("same_maker_and_signer")
    of_seal = _judge_seal(seal, maker, policy, at)
    of_seal.add(_judge_seal_token(seal, policy))
    of_signer = _judge_signer(signature, signer, policy, at)
    of_time = _judge_seal_at(signature, policy)
    of_state, status = _judge_state(seal, maker, of_seal, at, policy, signed=True)
    of_time.add(of_state)
    of_data = _judge_data(signature, data_hash)
    of_token, proven = _judge_signature_token(signature, policy)
    of_data.add(of_token)
    # 2014 checks the seal after the document, 2020 and 2025 before the signature value.
    old, new = (of_signer, of_data, of_seal, of_time), (of_seal, of_signer, of_time, of_data)
    for part in old if signature.version == 1 else new:
        found.add(part)
    if signer is not None:
        note_unproven(signer, found, policy.now, proven)
    return _report(
        id,
        signature.version,
        found,
        signed_at=signature.time,
        closed=closed,
        seal=seal,
        maker=maker,
        signer=signer,
        trust=vouching_list(of_signer.entry, policy),
        status=status,
    )


def judge_signer(
    certificate: Certificate, at: datetime, policy: Policy, others: Sequence[Certificate] = ()
) -> Findings:
    """Judge a signer's certificate at a signing time: chain, usage, validity (GM/T 0031-2014 6.2.3 steps 3 and 4).

    :param others: certificates that came along and may be intermediates.
    """
    found = judge_path(certificate, at, policy, "signer", others)
    if not certificate.valid_at(at):
        found.reason("signed_outside_cert_validity", outside(certificate, at))
    elif policy.now > certificate.not_after:
        found.note("signer_cert_expired_since", f"valid until {timestamp(certificate.not_after)}")
    return found


def intact(reasons: Iterable[Reason]) -> bool | None:
    """Return ``intact`` of the report (design: every digest, value and match is right) from its reasons.

    None when nothing is wrong but something could not be checked.
    """
    found = list(reasons)
    if any(REASONS[reason.code].breaks_intact for reason in found):
        return False
    unchecked = {"document_not_checked", "algorithm_not_supported", "signer_certificate_missing"}
    return None if any(reason.code in unchecked for reason in found) else True


def vouching_list(entry: TrustEntry | None, policy: Policy) -> dict[str, str] | None:
    """Return ``trust`` of the report: the list, region, unit and class that vouch, if something does."""
    return None if entry is None else entry.as_json(policy.trust.name)


def note_unproven(signer: Certificate, found: Findings, now: datetime, proven: datetime | None) -> None:
    """Note a signing time that nobody but the signer vouches for, where it matters: the certificate has ended since.

    :param proven: the time that a trusted time-stamp proves.
    """
    ended = any(note.code == "signer_cert_revoked_since" for note in found.notes)
    if (proven is None and (ended or now > signer.not_after)) or (proven is not None and proven > signer.not_after):
        found.note("signing_time_not_proven")


# --- steps ---


def _judge_seal(seal: Seal, maker: Certificate | None, policy: Policy, at: datetime) -> Findings:
    """GM/T 0031-2014 6.1.2 steps 2 and 3, with the additions of 2025; the seal's own validity is the caller's."""
    found = Findings()
    if note := picture_note(seal.picture):
        found.notes.append(note)
    if seal.created > seal.valid_from:
        found.note("create_after_start", f"created {timestamp(seal.created)}, valid from {timestamp(seal.valid_from)}")
    if maker is None:
        return found
    octets = signed_octets(seal, rule_of(seal.version))
    found.add(judge_value(maker, seal.algorithm, seal.signature, octets, "maker"))
    if not policy.strict and not seal.valid_from <= seal.created <= seal.valid_until:
        found.reason("make_time", f"created {timestamp(seal.created)}")
    judged_at = at if policy.strict else seal.created
    of_path = judge_path(maker, judged_at, policy, "maker")
    found.add(of_path)
    found.entry = of_path.entry
    if judged_at > maker.not_after:
        found.reason("maker_cert_expired", outside(maker, judged_at))
    elif judged_at < maker.not_before:
        found.reason("maker_cert_not_yet_valid", outside(maker, judged_at))
    elif policy.now > maker.not_after:
        found.note("maker_cert_expired_since", f"valid until {timestamp(maker.not_after)}")
    return found


def _judge_signer(signature: SealSignature, signer: Certificate | None, policy: Policy, at: datetime) -> Findings:
    """The signature value, the seal's list, the signer's certificate, the signing time against it."""
    found = Findings()
    if signer is None:
        return found
    found.add(judge_value(signer, signature.algorithm, signature.signature, signature.tbs, "signer"))
    found.add(judge_list(signature.seal, signer))
    if signature.time is None:
        of_certificate = judge_path(signer, at, policy, "signer")
        of_certificate.reason("signing_time_unknown")
    else:
        of_certificate = judge_signer(signer, at, policy)
    found.add(of_certificate)
    found.entry = of_certificate.entry
    return found


def _judge_seal_at(signature: SealSignature, policy: Policy) -> Findings:
    """The signing time against the validity of the seal."""
    found, seal, at = Findings(), signature.seal, signature.time
    if at is None:
        return found
    if not seal.valid_from <= at <= seal.valid_until:
        period = f"{timestamp(seal.valid_from)} to {timestamp(seal.valid_until)}"
        found.reason("seal_not_valid_at_signing", f"signed {timestamp(at)}, valid {period}")
    elif policy.now > seal.valid_until:
        found.note("seal_expired_since", f"valid until {timestamp(seal.valid_until)}")
    return found


def _judge_data(signature: SealSignature, data_hash: Callable[[str], bytes] | None) -> Findings:
    """dataHash: plain SM3; in version 1, which knows RSA, also the digest of the signature algorithm."""
    found = Findings()
    if data_hash is None:
        found.reason("document_not_checked")
        return found
    names = ["sm3"]
    if signature.version == 1:
        with suppress(FormatError):  # reported with the signature value
            names.insert(0, signatures.algorithm(signature.algorithm).digest)
    matching = next((name for name in dict.fromkeys(names) if data_hash(name) == signature.data_hash), None)
    if matching is None:
        found.reason("data_hash")
    elif matching in WEAK_DIGESTS:
        found.note("weak_algorithm", f"dataHash: {matching}")
    return found


def _judge_state(
    seal: Seal, maker: Certificate | None, of_seal: Findings, at: datetime, policy: Policy, *, signed: bool
) -> tuple[Findings, str]:
    """Ask for the seal's state. Of a seal that is no maker's, or nobody's whom we trust, nobody is asked."""
    if maker is None or of_seal.entry is None or any(reason.code == "seal_signature" for reason in of_seal.reasons):
        return Findings(), "not_checked"
    return judge_state(seal, maker, at, policy, signed=signed)


def _judge_seal_token(seal: Seal, policy: Policy) -> Findings:
    return judge_timestamp(seal.timestamp, seal.signature, "seal_timestamp", policy, made=seal.created)[0]


def _judge_signature_token(signature: SealSignature, policy: Policy) -> tuple[Findings, datetime | None]:
    # The token in timeInfo of version 1 is part of what is signed.
    covered = None if signature.version == 1 else signature.signature
    signed = None if signature.version == 1 else signature.time
    return judge_timestamp(signature.timestamp, covered, "sig_timestamp", policy, signed=signed)


# --- small things ---


def _names(property_info: str, expected: str) -> bool:
    """Compare with propertyInfo: a path, or JSON whose Entry is the path (seen with a trailing newline)."""
    text = property_info.strip()
    if text == expected:
        return True
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("Entry") == expected


def _malformed(
    id: str, code: str, error: FormatError, found: Findings | None = None, closed: bool | None = None
) -> SignatureReport:
    found = found or Findings()
    found.reason(code, error.message)
    return _report(id, None, found, closed=closed)


def _report(
    id: str,
    version: int | None,
    found: Findings,
    *,
    signed_at: datetime | None = None,
    closed: bool | None = None,
    seal: Seal | None = None,
    maker: Certificate | None = None,
    signer: Certificate | None = None,
    trust: dict[str, str] | None = None,
    status: str = "not_checked",
) -> SignatureReport:
    reasons = in_order(found.reasons)
    return SignatureReport(
        id=id,
        kind="seal",
        version=version,
        intact=intact(reasons),
        reasons=reasons,
        notes=tuple(dict.fromkeys(found.notes)),
        signed_at=signed_at,
        closed=closed,
        seal=_facts(seal) if seal else None,
        signer=signer.facts() if signer else None,
        maker=maker.facts() if maker else None,
        trust=trust,
        status=status,
    )


def _facts(seal: Seal) -> SealFacts:
    return SealFacts(
        id=seal.es_id,
        name=seal.name,
        version=seal.version,
        vendor=seal.vendor,
        type=seal.type,
        valid_from=seal.valid_from,
        valid_until=seal.valid_until,
        created=seal.created,
    )
