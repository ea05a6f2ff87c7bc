"""Software key pairs and certificates to put on tokens. Made once a session: an RSA-4096 key takes a second or more."""

from __future__ import annotations

import datetime
from functools import cache
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

__all__ = ["KEY_KINDS", "KeyKind", "PrivateKey", "certificate", "curve_parameters", "new_key", "session_key", "spki"]

KeyKind = Literal["rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

KEY_KINDS: tuple[KeyKind, ...] = ("rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384")

_CURVES: dict[str, tuple[type[ec.EllipticCurve], str]] = {
    # DER of the curve's OBJECT IDENTIFIER, the value of CKA_EC_PARAMS
    "ec-p256": (ec.SECP256R1, "06082a8648ce3d030107"),
    "ec-p384": (ec.SECP384R1, "06052b81040022"),
}


def new_key(kind: KeyKind) -> PrivateKey:
    """Make a key pair."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind][0]())
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))


@cache
def session_key(kind: KeyKind) -> PrivateKey:
    """Return the session's key of a kind; the same key may be put on many tokens."""
    return new_key(kind)


def curve_parameters(kind: KeyKind) -> str:
    """Return CKA_EC_PARAMS in hexadecimal digits."""
    return _CURVES[kind][1]


def spki(key: PrivateKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a key."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def certificate(key: PrivateKey, common_name: str = "SoftHSM test", days: int = 3650) -> bytes:
    """Return a self-signed certificate in DER, valid from yesterday on."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
