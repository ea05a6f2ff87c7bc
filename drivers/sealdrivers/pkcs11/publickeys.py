"""Public keys and certificates as a token stores them. The one adapter of this package to asn1crypto.

Nothing is verified here: the driver only wants to know which key a thing belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asn1crypto import core, keys, x509

from sealdrivers.contract import KeyType

__all__ = [
    "CURVE_PARAMETERS",
    "RSA_BITS",
    "CertificateFacts",
    "PublicKey",
    "ec_public_key",
    "read_certificate",
    "read_spki",
    "rsa_public_key",
]

RSA_BITS: dict[int, KeyType] = {2048: KeyType.RSA_2048, 3072: KeyType.RSA_3072, 4096: KeyType.RSA_4096}

CURVE_PARAMETERS: dict[KeyType, bytes] = {
    # DER OBJECT IDENTIFIERs, the values of CKA_EC_PARAMS (RFC 5480 §2.1.1.1; GM/T 0006 for SM2)
    KeyType.EC_P256: bytes.fromhex("06082a8648ce3d030107"),
    KeyType.EC_P384: bytes.fromhex("06052b81040022"),
    KeyType.SM2: bytes.fromhex("06082a811ccf5501822d"),
}
_CURVES = {parameters: kind for kind, parameters in CURVE_PARAMETERS.items()}
_COORDINATE = {KeyType.EC_P256: 32, KeyType.EC_P384: 48, KeyType.SM2: 32}
"""Octets of a coordinate."""

_RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
_EC_PUBLIC_KEY = "1.2.840.10045.2.1"

# What asn1crypto raises over octets that are not what they should be.
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key, as far as this contract knows its kind."""

    type: KeyType
    bits: int
    spki: bytes
    """DER SubjectPublicKeyInfo."""
    material: bytes
    """Content of the BIT STRING. Equal for two encodings of one key, where the algorithm identifiers may differ."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What is stored beside a certificate, and whose it is. All DER."""

    public_key: PublicKey
    subject: bytes
    issuer: bytes
    serial: bytes
    is_ca: bool


def rsa_public_key(modulus: bytes, exponent: bytes) -> PublicKey | None:
    """Build a key from CKA_MODULUS and CKA_PUBLIC_EXPONENT (big-endian); None where they cannot be."""
    n, e = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    if n < 3 or e < 3:
        return None
    info = keys.PublicKeyInfo.wrap(keys.RSAPublicKey({"modulus": n, "public_exponent": e}), "rsa")
    return read_spki(info.dump())


def ec_public_key(parameters: bytes, point: bytes) -> PublicKey | None:
    """Build a key from CKA_EC_PARAMS and CKA_EC_POINT; None for another curve or a point that has not its length.

    The point is an OCTET STRING by the standard (2.30 and later); some tokens give a BIT STRING or the bare point.
    """
    kind = _CURVES.get(parameters)
    if kind is None:
        return None
    length = 2 * _COORDINATE[kind] + 1
    header = {b"\x04" + bytes([length]): 2, b"\x03" + bytes([length + 1]) + b"\x00": 3}
    for start, skipped in header.items():
        if point.startswith(start) and len(point) == length + skipped:
            point = point[skipped:]
            break
    if len(point) != length or point[0] != 4:
        return None
    algorithm = _tlv(0x30, core.ObjectIdentifier(_EC_PUBLIC_KEY).dump() + parameters)
    return read_spki(_tlv(0x30, algorithm + _tlv(0x03, b"\x00" + point)))


def read_spki(der: bytes) -> PublicKey | None:
    """Read a SubjectPublicKeyInfo; None where it is malformed."""
    try:
        return _public_key(keys.PublicKeyInfo.load(der, strict=True), der)
    except _MALFORMED:
        return None


def read_certificate(der: bytes) -> CertificateFacts | None:
    """Read a certificate; None where it is none."""
    if not _is_one_der_sequence(der):
        return None
    try:
        certificate = x509.Certificate.load(der, strict=True)
        tbs = certificate["tbs_certificate"]
        info = tbs["subject_public_key_info"]
        constraints = certificate.basic_constraints_value
        return CertificateFacts(
            public_key=_public_key(info, info.dump()),
            subject=tbs["subject"].dump(),
            issuer=tbs["issuer"].dump(),
            serial=tbs["serial_number"].dump(),
            is_ca=constraints is not None and bool(constraints["ca"].native),
        )
    except _MALFORMED:
        return None


def _public_key(info: Any, spki: bytes) -> PublicKey:
    algorithm = info["algorithm"]
    oid = core.ObjectIdentifier.load(algorithm["algorithm"].dump()).dotted
    # BIT STRING: tag, length, number of unused bits, content. Read raw: asn1crypto does not know the SM2 curve.
    material = _content(info["public_key"].dump())[1:]
    kind, bits = KeyType.OTHER, 0
    if oid == _RSA_ENCRYPTION:
        bits = int(keys.RSAPublicKey.load(material, strict=True)["modulus"].native).bit_length()
        kind = RSA_BITS.get(bits, KeyType.OTHER)
    elif oid == _EC_PUBLIC_KEY:
        kind = _CURVES.get(algorithm["parameters"].dump(), KeyType.OTHER)
        bits = 8 * _COORDINATE.get(kind, 0)
    return PublicKey(kind, bits, spki, material)


def _is_one_der_sequence(octets: bytes) -> bool:
    """Say whether the octets are one SEQUENCE with a definite, minimal length (X.690 §10.1) and nothing after it."""
    if len(octets) < 2 or octets[0] != 0x30:
        return False
    if octets[1] < 0x80:
        return len(octets) == 2 + octets[1]
    count = octets[1] & 0x7F
    length = int.from_bytes(octets[2 : 2 + count], "big")
    return 0 < count <= 4 and length >= max(0x80, 1 << 8 * (count - 1)) and len(octets) == 2 + count + length


def _content(tlv: bytes) -> bytes:
    return tlv[2:] if tlv[1] < 0x80 else tlv[2 + (tlv[1] & 0x7F) :]


def _tlv(tag: int, content: bytes) -> bytes:
    """Encode with a length of one octet: everything built here is shorter than 256 octets."""
    length = bytes([len(content)]) if len(content) < 0x80 else bytes([0x81, len(content)])
    return bytes([tag]) + length + content
