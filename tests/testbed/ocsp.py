"""OCSP answers (RFC 6960) from an authority's database, signed by the responder it named; SM2 ones with SM3."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from asn1crypto import core, ocsp, x509

# Teaches asn1crypto the Chinese identifiers.
import sealagent.pki.asn1  # noqa: F401
from testbed.authorities import Authority
from testbed.faults import Fault

__all__ = ["VALIDITY", "answer"]

VALIDITY = timedelta(hours=12)
"""From thisUpdate to nextUpdate."""

_REASONS = {
    "unspecified": "unspecified",
    "keyCompromise": "key_compromise",
    "CACompromise": "ca_compromise",
    "affiliationChanged": "affiliation_changed",
    "superseded": "superseded",
    "cessationOfOperation": "cessation_of_operation",
    "certificateHold": "certificate_hold",
}
"""CRLReason as openssl spells it, and as asn1crypto does."""


def answer(authority: Authority, request: bytes, now: datetime, fault: Fault | None = None) -> bytes:
    """Return the OCSPResponse to a request: also to one that is malformed or not for this authority.

    :param request: DER OCSPRequest.
    """
    if fault is Fault.REFUSED:
        return _refusal("try_later")
    try:
        asked = ocsp.OCSPRequest.load(request, strict=True)
        identifiers = [each["req_cert"].untag() for each in asked["tbs_request"]["request_list"]]
        numbers = [each["serial_number"].native for each in identifiers]
        nonce = asked.nonce_value
        ours = all(_names(each, authority) for each in identifiers)
    except (ValueError, TypeError):
        return _refusal("malformed_request")
    if not ours or not identifiers:
        return _refusal("unauthorized")
    this_update = now - timedelta(days=10) if fault is Fault.STALE else now
    next_update = this_update + (timedelta(days=1) if fault is Fault.STALE else VALIDITY)
    if fault is Fault.OTHER:
        for each in identifiers:
            each["serial_number"] = each["serial_number"].native ^ 1
    signer = (
        authority.known("impostor", "signer")
        if fault is Fault.WRONG_SIGNER
        else authority.known("OCSP responder", "ocsp")
    )
    certificate = x509.Certificate.load(signer.der)
    fields: dict[str, Any] = {
        "responder_id": ocsp.ResponderId(name="by_name", value=certificate.subject),
        "produced_at": this_update,
        "responses": [
            {
                "cert_id": each,
                "cert_status": _status(authority, number),
                "this_update": this_update,
                "next_update": next_update,
            }
            for each, number in zip(identifiers, numbers, strict=True)
        ],
    }
    if nonce is not None:
        echoed = bytes(reversed(nonce.native)) + b"\0" if fault is Fault.NONCE else nonce.native
        fields["response_extensions"] = [{"extn_id": "nonce", "extn_value": core.OctetString(echoed)}]
    data = ocsp.ResponseData(fields)
    value = bytearray(signer.sign(data.dump()))
    value[-1] ^= fault is Fault.DAMAGED
    basic = ocsp.BasicOCSPResponse(
        {
            "tbs_response_data": data,
            "signature_algorithm": {"algorithm": signer.key_type.signature},
            "signature": bytes(value),
            "certs": [certificate],
        }
    )
    wrapped = {"response_type": "basic_ocsp_response", "response": basic}
    return bytes(ocsp.OCSPResponse({"response_status": "successful", "response_bytes": wrapped}).dump())


def _refusal(status: str) -> bytes:
    return bytes(ocsp.OCSPResponse({"response_status": status}).dump())


def _names(identifier: Any, authority: Authority) -> bool:
    """Say whether a CertID names this authority as the issuer (RFC 6960 4.1.1)."""
    issuer = x509.Certificate.load(authority.der)
    try:
        digest = hashlib.new(identifier["hash_algorithm"]["algorithm"].native)
    except ValueError:
        return False
    by_key = digest.copy()
    digest.update(issuer.subject.dump())
    by_key.update(bytes(issuer.public_key["public_key"]))
    named = (identifier["issuer_name_hash"].native, identifier["issuer_key_hash"].native)
    return named == (digest.digest(), by_key.digest())


def _status(authority: Authority, serial: int) -> ocsp.CertStatus:
    entry = authority.entry(serial)
    if entry is None:
        return ocsp.CertStatus(name="unknown", value=ocsp.StatusUnknown())
    if entry.revoked_at is None:
        return ocsp.CertStatus(name="good", value=ocsp.StatusGood())
    facts = {"revocation_time": entry.revoked_at, "revocation_reason": _REASONS[entry.reason]}
    return ocsp.CertStatus(name="revoked", value=ocsp.RevokedInfo(facts))
