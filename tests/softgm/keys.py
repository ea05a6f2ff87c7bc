"""Key pairs and certificates to put on test tokens, made by the openssl command line."""

from __future__ import annotations

import subprocess
from functools import cache
from typing import Literal

__all__ = ["KEY_KINDS", "KeyKind", "certificate", "new_key", "openssl", "session_key", "spki"]

KeyKind = Literal["sm2", "rsa-1024", "rsa-2048"]
KEY_KINDS: tuple[KeyKind, ...] = ("sm2", "rsa-1024", "rsa-2048")
"""What a container can hold: the records of GM/T 0016 end at 2048 bits."""

_GENPKEY: dict[KeyKind, tuple[str, ...]] = {
    "sm2": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"),
    "rsa-1024": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
    "rsa-2048": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
}
_SM2_CURVE = bytes.fromhex("06082a811ccf5501822d")  # DER of the curve's object identifier


def openssl(*arguments: str, given: bytes = b"") -> bytes:
    """Run the openssl command and return its output. :raises subprocess.CalledProcessError: it failed."""
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True, timeout=60).stdout


def new_key(kind: KeyKind) -> bytes:
    """Make a key pair. :return: PEM, PKCS#8 without a password."""
    return openssl("genpkey", *_GENPKEY[kind])


@cache
def session_key(kind: KeyKind) -> bytes:
    """Return the process's key of a kind, as PEM; the same key may be put on many tokens."""
    return new_key(kind)


def spki(pem: bytes) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a private key in PEM."""
    return openssl("pkey", "-pubout", "-outform", "DER", given=pem)


def certificate(pem: bytes, common_name: str = "Soft SKF test", days: int = 3650) -> bytes:
    """Return a self-signed certificate in DER: SM2 with SM3 (default user ID) or RSA with SHA-256."""
    sm2 = ("-sm3", "-sigopt", "distid:1234567812345678") if _SM2_CURVE in spki(pem) else ("-sha256",)
    subject = f"/CN={common_name}"
    return openssl(
        *("req", "-x509", "-new", "-key", "/dev/stdin", "-subj", subject, "-utf8", "-days", str(days), *sm2),
        *("-addext", "keyUsage=critical,digitalSignature,nonRepudiation", "-outform", "DER"),
        given=pem,
    )
