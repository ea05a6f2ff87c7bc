"""Signed messages of our own making: SignedData (GB/T 35275 with SM2, RFC 5652 otherwise) around a content.

Trust lists and answers of the seal status service are such messages. Nothing is said here of whom to trust.

A message has one way to be written, as far as the standards allow: DER, signed attributes, the certificate along with
it, nothing that no signature covers. Everything else is refused, so that nobody can make two files of one statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki import oids
from sealagent.pki.certificates import Certificate
from sealagent.pki.cms import SignedData, identifies, issuer_and_serial, parse_signed_data, signature_algorithm
from sealagent.pki.der import DerError
from sealagent.pki.digests import digest
from sealagent.pki.keys import is_weak
from sealagent.pki.signatures import SignatureAlgorithm, encode_algorithm, verify

__all__ = ["Draft", "Signed", "open_signed", "prepare_signed"]

_KINDS: Final = {oids.GM_SIGNED_DATA: oids.GM_DATA, oids.CMS_SIGNED_DATA: oids.CMS_DATA}
"""SignedData of the two standards, and what its content is called there. They are not mixed."""

_LAST_UTC_TIME: Final = 2049  # RFC 5652 11.3: years after it are a GeneralizedTime


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed message whose signature value and digests are right."""

    raw: bytes = field(repr=False)
    content: bytes = field(repr=False)
    signer: Certificate
    certificates: tuple[Certificate, ...] = field(repr=False)
    """All that came along, the signer's included."""
    signing_time: datetime | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A signed message that lacks its signature value."""

    to_sign: bytes = field(repr=False)
    """DER of the attributes as a SET: what is hashed and signed (:func:`~.signatures.signing_digest`)."""
    certificate: Certificate
    algorithm: SignatureAlgorithm
    content: bytes = field(repr=False)
    others: tuple[Certificate, ...] = field(default=(), repr=False)

    def finish(self, signature: bytes) -> bytes:
        """Return the message, DER ContentInfo.

        :param signature: as the key's standard says: DER for SM2 and ECDSA, as long as the modulus for RSA.
        :raises SealAgentError: ``device_signature_wrong``: it does not verify with the certificate's key.
        """
        check = verify(self.certificate.public_key, self.algorithm, signature, self.to_sign)
        if not check.ok or check.quirks:
            raise SealAgentError(
                "device_signature_wrong", "the device's signature does not verify with the certificate's public key"
            )
        return _write(self, signature)


def prepare_signed(
    content: bytes,
    certificate: Certificate,
    algorithm: SignatureAlgorithm,
    time: datetime,
    others: Sequence[Certificate] = (),
) -> Draft:
    """Begin a signed message with signed attributes (contentType, messageDigest, signingTime, signingCertificateV2).

    :param time: of signing, timezone-aware; whole seconds are kept.
    :param others: certificates to bring along beside the signer's.
    :raises SealAgentError: ``algorithm_not_supported``: nothing is signed with a weak digest.
    """
    if algorithm.weak:
        raise SealAgentError("algorithm_not_supported", f"nothing is signed with {algorithm.name}")
    to_sign = _attributes(content, certificate, algorithm, time)
    extra = tuple(each for each in dict.fromkeys(others) if each != certificate)
    return Draft(to_sign, certificate, algorithm, content, extra)


def open_signed(data: bytes, *, limit: int) -> Signed:
    """Read a signed message and verify its signature value with the signer's certificate in it.

    :param limit: octets it may have.
    :raises FormatError: ``signed_message_invalid``: malformed, changed, or signed by none of its certificates.
    :raises LimitExceeded: ``signed_message_invalid``.
    """
    if len(data) > limit:
        raise LimitExceeded("signed_message_invalid", f"a signed message of {len(data)} octets; {limit} are allowed")
    try:
        signed = parse_signed_data(data)
        content = _content(signed)
        certificates = tuple(Certificate.from_der(each) for each in signed.certificates)
        signer = _signer(signed, certificates)
    except (FormatError, DerError) as error:
        raise FormatError("signed_message_invalid", f"the signed message: {error}") from error
    return Signed(bytes(data), content, signer, certificates, signed.signing_time)


# --- reading ---


def _content(signed: SignedData) -> bytes:
    """Return the content after everything but the signature value was checked.

    :raises DerError: something is not as a message has it.
    """
    deviations = [note for note in signed.notes if note.code != "quirk_cms_oid"]
    if deviations:
        raise DerError(f"not DER: {deviations[0].detail}")
    if _KINDS[signed.kind] != signed.content_type:
        raise DerError(f"{signed.kind} with {signed.content_type}")
    if signed.versions != (1, 1) or signed.digest_algorithms != (signed.digest_algorithm,) or signed.extras:
        raise DerError("elements that a signed message does not have")
    if signed.content is None or signed.attributes is None:
        raise DerError("a signature without content or without attributes")
    if signed.attribute_type != signed.content_type:
        raise DerError("the contentType attribute names another type")
    if signed.message_digest != digest(signature_algorithm(signed).digest, signed.content):
        raise DerError("the content was changed")
    return signed.content


def _signer(signed: SignedData, certificates: Sequence[Certificate]) -> Certificate:
    """Return the certificate whose key signed.

    :raises DerError: none of them did, or in a way that is not accepted.
    """
    found = [each for each in certificates if issuer_and_serial(each.der) == signed.signer]
    if len(found) != 1:
        raise DerError(f"{len(found)} certificates have the signer's issuer and serial number")
    (signer,) = found
    if identifies(signed, signer) is False:
        raise DerError("signed with another certificate")
    algorithm = signature_algorithm(signed)
    if algorithm.weak or is_weak(signer.public_key):
        raise DerError("the signature is weak by present standards")
    assert signed.attributes is not None
    check = verify(signer.public_key, algorithm, signed.signature, signed.attributes)
    if not check.ok or check.quirks:
        raise DerError("the signature value is wrong")
    return signer


# --- writing: asn1crypto is loaded only by those who sign ---


def _kind(algorithm: SignatureAlgorithm) -> str:
    return oids.GM_SIGNED_DATA if algorithm.kind == "sm2" else oids.CMS_SIGNED_DATA


def _attributes(content: bytes, certificate: Certificate, algorithm: SignatureAlgorithm, time: datetime) -> bytes:
    """Return DER of the signed attributes as a SET (RFC 5652 5.3, RFC 5035 3)."""
    from asn1crypto import cms, tsp

    moment = time.astimezone(UTC).replace(microsecond=0)
    kind = "utc_time" if moment.year <= _LAST_UTC_TIME else "generalized_time"
    named = tsp.ESSCertIDv2({"cert_hash": bytes.fromhex(certificate.sha256)})  # SHA-256 is the default: left out
    values: tuple[tuple[str, object], ...] = (
        ("content_type", _KINDS[_kind(algorithm)]),
        ("message_digest", digest(algorithm.digest, content)),
        ("signing_time", cms.Time(name=kind, value=moment)),
        ("signing_certificate_v2", tsp.SigningCertificateV2.load(tsp.SigningCertificateV2({"certs": [named]}).dump())),
    )
    # What was built is written anew at each level above it; what was loaded keeps its octets: a fifth of the time.
    listed = [
        cms.CMSAttribute.load(cms.CMSAttribute({"type": name, "values": [value]}).dump()) for name, value in values
    ]
    return bytes(cms.CMSAttributes(listed).dump())


def _write(draft: Draft, signature: bytes) -> bytes:
    """Return DER of the ContentInfo (RFC 5652 ch. 5; GM/T 0010 names .301.1 as SM2's signature algorithm)."""
    from asn1crypto import algos, cms, core, x509

    kind = _kind(draft.algorithm)
    digest_algorithm = algos.DigestAlgorithm({"algorithm": draft.algorithm.digest})
    if draft.algorithm.kind == "sm2":
        algorithm = algos.SignedDigestAlgorithm({"algorithm": oids.SM2_SIGN})
    else:
        algorithm = algos.SignedDigestAlgorithm.load(encode_algorithm(draft.algorithm))
    certificate = x509.Certificate.load(draft.certificate.der)
    info = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                "issuer_and_serial_number",
                cms.IssuerAndSerialNumber({"issuer": certificate.issuer, "serial_number": certificate.serial_number}),
            ),
            "digest_algorithm": digest_algorithm,
            "signed_attrs": cms.CMSAttributes.load(draft.to_sign),
            "signature_algorithm": algorithm,
            "signature": signature,
        }
    )
    signed = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [digest_algorithm],
            "encap_content_info": {
                "content_type": _KINDS[kind],
                "content": core.OctetString(draft.content, explicit=0),
            },
            "certificates": [x509.Certificate.load(each.der) for each in (draft.certificate, *draft.others)],
            "signer_infos": [info],
        },
        explicit=0,  # asn1crypto tags by itself only what it knows by its identifier
    )
    whole = cms.ContentInfo({"content_type": kind, "content": signed})
    return bytes(whole.dump())
