"""What the modules of the contract suite share."""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from sealagent.pki.sm2 import SM2PublicKey
from sealdrivers.contract import KeyType, Mechanism

RSA = (KeyType.RSA_2048, KeyType.RSA_3072, KeyType.RSA_4096)
EC = (KeyType.EC_P256, KeyType.EC_P384)
RSA_MECHANISMS = [m for m in Mechanism if m.value.startswith("rsa")]
EC_MECHANISMS = [m for m in Mechanism if m.value.startswith("ecdsa")]
SIGNATURES = [
    *((kind, mechanism) for kind in RSA for mechanism in RSA_MECHANISMS),
    *((kind, mechanism) for kind in EC for mechanism in EC_MECHANISMS),
    (KeyType.SM2, Mechanism.SM2_SM3),
]

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
MIB = 1 << 20


def digest_for(mechanism: Mechanism, message: bytes = b"message") -> bytes:
    """Return what the mechanism signs; for SM2 any 32 octets may stand for e."""
    name = "sha256" if mechanism is Mechanism.SM2_SM3 else mechanism.digest_name
    return hashlib.new(name, message).digest()


def verify(spki: bytes, mechanism: Mechanism, signature: bytes, digest: bytes) -> None:
    """Raise InvalidSignature unless the signature is one of the contract's form.

    :param spki: the public key, DER SubjectPublicKeyInfo.
    """
    if mechanism is Mechanism.SM2_SM3:
        sm2 = SM2PublicKey.from_spki(spki)
        assert sm2 is not None
        if not sm2.verify(digest, *utils.decode_dss_signature(signature)):
            raise InvalidSignature
        return
    public_key: Any = serialization.load_der_public_key(spki)
    algorithm = HASHES[mechanism.digest_name]
    prehashed = utils.Prehashed(algorithm)
    if mechanism in EC_MECHANISMS:
        public_key.verify(signature, digest, ec.ECDSA(prehashed))
    elif mechanism.value.startswith("rsa-pss"):
        pss = padding.PSS(padding.MGF1(algorithm), mechanism.digest_length)
        public_key.verify(signature, digest, pss, prehashed)
    else:
        public_key.verify(signature, digest, padding.PKCS1v15(), prehashed)
