"""Time-stamp tokens (RFC 3161, GB/T 20520); with SM2 the token's own digest is SM3."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from asn1crypto import algos, cms, core, tsp, x509

# Teaches asn1crypto the Chinese identifiers.
import sealagent.pki.asn1  # noqa: F401
from testbed.authorities import Hierarchy
from testbed.faults import Fault
from testbed.openssl import Credential

__all__ = ["POLICY", "answer", "token"]

POLICY = "1.3.6.1.4.1.99999.1"
"""Of the test bed; nobody's."""

_DIGEST_OCTETS = {"sha256": 32, "sha384": 48, "sha512": 64, "sm3": 32}
"""Digests that are stamped. SHA-1 and MD5 are refused, as RFC 3161 2.1 wants of an authority that knows better."""


class _Refusal(core.Sequence):  # type: ignore[misc]
    """TimeStampResp without a token, which asn1crypto's cannot be."""

    _fields = [("status", tsp.PKIStatusInfo)]  # noqa: RUF012 - asn1crypto's way


def answer(family: Hierarchy, request: bytes, now: datetime, fault: Fault | None = None) -> bytes:
    """Return the TimeStampResp to a TimeStampReq: also to one that is malformed.

    :param request: DER.
    """
    if fault is Fault.REFUSED:
        return _refusal("system_failure")
    try:
        asked = tsp.TimeStampReq.load(request, strict=True)
        digest = asked["message_imprint"]["hash_algorithm"]["algorithm"].native
        imprint = asked["message_imprint"]["hashed_message"].native
        policy, nonce, wants_certificate = (asked[name].native for name in ("req_policy", "nonce", "cert_req"))
        extensions = asked["extensions"].native
    except (ValueError, TypeError):
        return _refusal("bad_data_format")
    if digest not in _DIGEST_OCTETS:
        return _refusal("bad_alg")
    if len(imprint) != _DIGEST_OCTETS[digest]:
        return _refusal("bad_data_format")
    if policy not in (None, POLICY):
        return _refusal("unaccepted_policy")
    if extensions:
        return _refusal("unaccepted_extensions")
    if fault is Fault.OTHER:
        imprint = bytes(octet ^ 0xFF for octet in imprint)
    if fault is Fault.NONCE:
        nonce = (nonce or 0) + 1
    if fault is Fault.STALE:
        now -= timedelta(days=10)
    signer = family.root.known("impostor", "signer") if fault is Fault.WRONG_SIGNER else family.tsa
    carried = [signer.der, family.root.der] if wants_certificate else []
    made = token(signer, digest, imprint, now, nonce=nonce, carried=carried, damaged=fault is Fault.DAMAGED)
    granted = {"status": {"status": "granted"}, "time_stamp_token": cms.ContentInfo.load(made)}
    return bytes(tsp.TimeStampResp(granted).dump())


def token(
    signer: Credential,
    digest: str,
    imprint: bytes,
    time: datetime,
    *,
    nonce: int | None = None,
    carried: list[bytes] | None = None,
    damaged: bool = False,
) -> bytes:
    """Return a TimeStampToken, DER.

    :param digest: of the message imprint: ``sm3``, ``sha256``, …
    :param carried: certificates (DER) that come along; None: the signer's.
    """
    kind = signer.key_type
    fields: dict[str, Any] = {
        "version": "v1",
        "policy": POLICY,
        "message_imprint": {"hash_algorithm": {"algorithm": digest}, "hashed_message": imprint},
        "serial_number": secrets.randbits(63),
        "gen_time": time,
        "accuracy": {"seconds": 1},
    }
    if nonce is not None:
        fields["nonce"] = nonce
    content = tsp.TSTInfo(fields).dump()
    certificate = x509.Certificate.load(signer.der)
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": ["tst_info"]},
            {"type": "signing_time", "values": [cms.Time({"utc_time": time})]},
            {"type": "message_digest", "values": [hashlib.new(kind.digest, content).digest()]},
            {"type": "signing_certificate_v2", "values": [_signing_certificate(kind.digest, signer.der)]},
        ]
    )
    value = bytearray(signer.sign(attributes.dump()))  # under the tag of a SET, as RFC 5652 5.4 has it
    value[-1] ^= damaged
    algorithm = "rsassa_pkcs1v15" if kind.signature.endswith("_rsa") else kind.signature
    signed = cms.SignedData(
        {
            "version": "v3",
            "digest_algorithms": [{"algorithm": kind.digest}],
            "encap_content_info": {
                "content_type": "tst_info",
                "content": core.ParsableOctetString(content),
            },
            "certificates": [x509.Certificate.load(each) for each in ([signer.der] if carried is None else carried)],
            "signer_infos": [
                {
                    "version": "v1",
                    "sid": cms.SignerIdentifier(
                        "issuer_and_serial_number",
                        {"issuer": certificate.issuer, "serial_number": certificate.serial_number},
                    ),
                    "digest_algorithm": {"algorithm": kind.digest},
                    "signed_attrs": attributes,
                    "signature_algorithm": {"algorithm": algorithm},
                    "signature": bytes(value),
                }
            ],
        }
    )
    if carried == []:
        del signed["certificates"]
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": signed}).dump())


def _signing_certificate(digest: str, certificate: bytes) -> tsp.SigningCertificateV2:
    """RFC 5035: which certificate the signer means."""
    entry = {
        "hash_algorithm": algos.DigestAlgorithm({"algorithm": digest}),
        "cert_hash": hashlib.new(digest, certificate).digest(),
    }
    return tsp.SigningCertificateV2({"certs": [entry]})


def _refusal(failure: str) -> bytes:
    status = {"status": "rejection", "fail_info": tsp.PKIFailureInfo({failure})}
    return bytes(_Refusal({"status": status}).dump())
