"""Certification requests, PKCS#10 (RFC 2986): built here, signed by the device; those of others read and verified."""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki import asn1, der
from sealagent.pki.der import DerError
from sealagent.pki.keys import PublicKey, is_weak, load_public_key
from sealagent.pki.signatures import SignatureAlgorithm, encode_algorithm, parse_algorithm, verify

__all__ = ["MAX_REQUEST", "CertificateRequest", "assemble_request", "pem", "prepare_request", "read_request"]

MAX_REQUEST = 64 * 1024  # octets; a request has about 1 KiB
MAX_ATTRIBUTES = 64  # attributes of a request; two or three are usual

# The attributes a subject may have, with the upper bounds in characters of RFC 5280 appendix A.1.
_ATTRIBUTES: Final = {
    "CN": ("common_name", 64),
    "O": ("organization_name", 64),
    "OU": ("organizational_unit_name", 64),
    "C": ("country_name", 2),
    "ST": ("state_or_province_name", 128),
    "L": ("locality_name", 128),
}


def prepare_request(spki: bytes, subject: Mapping[str, str]) -> bytes:
    """Return the part of a request that is signed.

    :param spki: DER SubjectPublicKeyInfo of the device's key.
    :param subject: keys CN, O, OU, C, ST and L; CN is needed.
    :return: DER CertificationRequestInfo.
    :raises FormatError: ``request_invalid`` for the subject, ``public_key_invalid`` for the key.
    """
    load_public_key(spki)
    if "CN" not in subject:
        raise FormatError("request_invalid", "the subject needs a CN")
    return asn1.certificate_request_info(spki, dict(_attribute(key, value) for key, value in subject.items()))


def _attribute(key: str, value: str) -> tuple[str, str]:
    if key not in _ATTRIBUTES:
        raise FormatError("request_invalid", f"the subject may have {', '.join(_ATTRIBUTES)}, not {key!r}")
    name, longest = _ATTRIBUTES[key]
    if not 0 < len(value) <= longest or not value.isprintable():
        raise FormatError("request_invalid", f"{key} must have 1 to {longest} printable characters")
    if key == "C" and not (len(value) == 2 and value.isascii() and value.isalpha() and value.isupper()):
        raise FormatError("request_invalid", "C is a country code of two capital letters")
    return name, value


def assemble_request(tbs: bytes, algorithm: SignatureAlgorithm, signature: bytes) -> bytes:
    """Return the signed request.

    :param tbs: what :func:`prepare_request` returned; its octets stay as they are.
    :param signature: RSA: as long as the modulus; SM2 and ECDSA: DER.
    :return: DER CertificationRequest.
    """
    return asn1.certificate_request(tbs, encode_algorithm(algorithm), signature)


def pem(label: str, der: bytes) -> str:
    """Return PEM text (RFC 7468).

    :param label: for instance ``CERTIFICATE REQUEST``.
    """
    body = b64encode(der).decode()
    lines = [body[index : index + 64] for index in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A request whose signature is right: whoever made it has the private key."""

    der: bytes = field(repr=False)
    subject: str
    """RFC 4514: the most specific part first."""
    spki: bytes = field(repr=False)
    """DER SubjectPublicKeyInfo as received."""
    public_key: PublicKey = field(repr=False)
    algorithm: SignatureAlgorithm


def read_request(data: bytes) -> CertificateRequest:
    """Read a request, PEM or DER, and verify that its own key signed it (SM2: with the default ID).

    :raises FormatError: ``certificate_request_invalid``: malformed, changed, signed by another key, or with a key or
        algorithm that is weak by present standards.
    :raises LimitExceeded: ``certificate_request_invalid``.
    """
    if len(data) > 2 * MAX_REQUEST:
        raise LimitExceeded("certificate_request_invalid", f"{len(data)} octets; a request has up to {MAX_REQUEST}")
    octets = _from_pem(data) if data.lstrip().startswith(b"-----BEGIN") else data
    try:
        info, algorithm_der, signature = _parts(octets)
        subject, spki = _info(info)
        key, algorithm = load_public_key(spki), parse_algorithm(algorithm_der)
    except (DerError, FormatError) as error:
        raise FormatError("certificate_request_invalid", f"not a certificate request: {error}") from error
    if is_weak(key) or algorithm.weak:
        raise FormatError("certificate_request_invalid", "its key or its algorithm is weak by present standards")
    if not verify(key, algorithm, signature, info).ok:
        raise FormatError("certificate_request_invalid", "it is not signed by its own key: nothing proves who has it")
    return CertificateRequest(octets, subject.text, spki, key, algorithm)


def _parts(octets: bytes) -> tuple[bytes, bytes, bytes]:
    """Return CertificationRequestInfo and algorithm, tag and length included, and the signature."""
    if len(octets) > MAX_REQUEST:
        raise DerError(f"{len(octets)} octets")
    whole = der.walk(octets, "the request").expect(der.SEQUENCE, "the request")
    info, algorithm, signature = whole.children("the request", 3, 3)
    return info.expect(der.SEQUENCE, "the request").raw, algorithm.raw, signature.bits("signature", MAX_REQUEST)


def _info(octets: bytes) -> tuple[asn1.NameFields, bytes]:
    """Return subject and SubjectPublicKeyInfo. The attributes ask for extensions; what a CA makes of them counts."""
    fields = der.read(octets, "the request").children("the request", 4, 3)
    if fields[0].integer("version") != 0:
        raise DerError("a version other than 1")
    if len(fields) == 4:  # some writers leave the empty set out
        fields[3].expect(der.CONTEXT_0, "attributes").children("attributes", MAX_ATTRIBUTES)
    return asn1.read_name(fields[1].raw), fields[2].expect(der.SEQUENCE, "the public key").raw


_BEGINS: Final = (b"-----BEGIN CERTIFICATE REQUEST-----", b"-----BEGIN NEW CERTIFICATE REQUEST-----")


def _from_pem(data: bytes) -> bytes:
    """Return the one request of PEM text (RFC 7468; older tools write NEW before its name)."""
    found = [begin for begin in _BEGINS if begin in data]
    blocks = data.split(found[0]) if found else []
    if len(found) != 1 or len(blocks) != 2:
        raise FormatError("certificate_request_invalid", "the text does not hold exactly one certificate request")
    body, end, _ = blocks[1].partition(found[0].replace(b"BEGIN", b"END"))
    try:
        if not end:
            raise ValueError("it has no end")
        return a2b_base64(b"".join(body.split()), strict_mode=True)
    except ValueError as error:
        raise FormatError("certificate_request_invalid", f"the PEM block cannot be read: {error}") from error
