"""Software key pairs and certificates to put on cards."""

from __future__ import annotations

import datetime
from functools import cache
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from .applet import PrivateKey

__all__ = ["KEY_KINDS", "KeyKind", "PrivateKey", "certificate", "new_key", "session_key", "spki"]

KeyKind = Literal["rsa-2048", "ec-p256", "ec-p384"]

KEY_KINDS: tuple[KeyKind, ...] = ("rsa-2048", "ec-p256", "ec-p384")


def new_key(kind: KeyKind) -> PrivateKey:
    """Make a key pair."""
    if kind == "rsa-2048":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1() if kind == "ec-p256" else ec.SECP384R1())


@cache
def session_key(kind: KeyKind) -> PrivateKey:
    """Return the session's key of a kind; the same key may be put on many cards."""
    return new_key(kind)


def spki(key: PrivateKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a key."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def certificate(key: PrivateKey, common_name: str = "PIV test", days: int = 3650) -> bytes:
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
