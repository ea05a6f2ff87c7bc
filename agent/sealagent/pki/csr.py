"""Certification requests, PKCS#10 (RFC 2986): built here, signed by the device."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from sealagent.errors import FormatError
from sealagent.pki import asn1
from sealagent.pki.keys import load_public_key
from sealagent.pki.signatures import SignatureAlgorithm, encode_algorithm

__all__ = ["assemble_request", "pem", "prepare_request"]

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
