"""Public keys: SM2 by :mod:`sealagent.pki.sm2`, RSA and elliptic curves by ``cryptography``."""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from sealagent.errors import FormatError
from sealagent.pki.sm2 import SM2PublicKey

__all__ = ["MAX_RSA_BITS", "PublicKey", "dump_public_key", "is_weak", "load_public_key"]

PublicKey = SM2PublicKey | RSAPublicKey | EllipticCurvePublicKey

MAX_RSA_BITS = 8192  # larger keys do not occur; they would only make verification slow
MAX_SPKI_OCTETS = 4096  # an RSA key of 8,192 bits with the largest exponent takes less
_SOUND_RSA_BITS, _SOUND_CURVE_BITS = 2048, 224  # 112 bits of security, the least that is still held sound
_CACHED_KEYS = 256  # parsed keys kept: every signature is checked with its own key before it is released


@lru_cache(maxsize=_CACHED_KEYS)
def load_public_key(spki: bytes) -> PublicKey:
    """Read a public key.

    :param spki: DER SubjectPublicKeyInfo.
    :raises FormatError: ``public_key_invalid``, also for kinds other than SM2, RSA and curves by name.
    """
    if len(spki) > MAX_SPKI_OCTETS:
        raise FormatError("public_key_invalid", f"a public key of {len(spki)} octets; {MAX_SPKI_OCTETS} are allowed")
    if (sm2 := SM2PublicKey.from_spki(spki)) is not None:
        return sm2
    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError("public_key_invalid", "the public key cannot be read") from error
    if isinstance(key, RSAPublicKey):
        if key.key_size > MAX_RSA_BITS:
            raise FormatError("public_key_invalid", f"an RSA key of {key.key_size} bits; {MAX_RSA_BITS} are allowed")
        return key
    if isinstance(key, EllipticCurvePublicKey):
        return key
    raise FormatError("public_key_invalid", "the key is neither SM2 nor RSA nor on a known curve")


def is_weak(key: PublicKey) -> bool:
    """Return whether a key is so short that others might come to sign with it."""
    if isinstance(key, SM2PublicKey):
        return False
    if isinstance(key, RSAPublicKey):
        return key.key_size < _SOUND_RSA_BITS
    return key.curve.key_size < _SOUND_CURVE_BITS


def dump_public_key(key: PublicKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a key."""
    if isinstance(key, SM2PublicKey):
        return key.spki
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
