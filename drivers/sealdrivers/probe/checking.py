"""Verification in software of what a device signed. Nothing here asks the library."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key

from sealdrivers import sm2
from sealdrivers.contract import Mechanism
from sealdrivers.errors import DeviceFailure
from sealdrivers.pkcs11.sm2 import Signed, classify, read_signature
from sealdrivers.signatures import der_signature

__all__ = ["FOUND", "challenge", "is_minimal", "looked_at", "verifies"]

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

_WORD = 32

FOUND = {
    Signed.E: "SM2 over e",
    Signed.WITH_Z: "SM2 over SM3(Z || input)",
    Signed.WITHOUT_Z: "SM2 over SM3(input)",
    Signed.ECDSA: "ECDSA",
}
"""What a mechanism was found to sign, in words."""


def challenge(octets: int) -> bytes:
    """Return what a device is given to sign: random octets, which are nobody's document and nobody's digest."""
    return os.urandom(octets)


def verifies(spki: bytes, mechanism: Mechanism, digest: bytes, signature: bytes) -> bool:
    """Verify an RSA signature, or an ECDSA signature in DER, over a digest."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        return False
    algorithm = _HASHES[mechanism.digest_name]
    hashed = utils.Prehashed(algorithm)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(algorithm), mechanism.digest_length)
            chosen = pss if mechanism.value.startswith("rsa-pss") else padding.PKCS1v15()
            key.verify(signature, digest, chosen, hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, ec.ECDSA(hashed))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def looked_at(point: bytes, given: bytes, answer: bytes) -> tuple[Signed | None, str]:
    """Say what an answer is a signature of, and its form (``raw``, ``der``).

    :param point: 04 || X || Y. :raises DeviceFailure: it is no pair of numbers at all.
    """
    r, s, form = read_signature(answer)
    found = classify(point, given, r, s)
    if found is None and len(given) > _WORD:  # ECDSA uses the leftmost bits of a longer input (FIPS 186-5, 6.4.1)
        found = Signed.ECDSA if classify(point, given[:_WORD], r, s) is Signed.ECDSA else None
    return found, form


def is_minimal(answer: bytes) -> bool:
    """Say whether a DER signature is encoded as DER wants it."""
    try:
        r, s, form = read_signature(answer)
        return form != "der" or der_signature(r, s, sm2.N) == answer
    except DeviceFailure:
        return False
