"""What the modules of the contract suite share."""

from __future__ import annotations

import hashlib
from typing import Any

from contract_providers import PrivateKey
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from sealdrivers.contract import KeyType, Mechanism

RSA = (KeyType.RSA_2048, KeyType.RSA_3072, KeyType.RSA_4096)
EC = (KeyType.EC_P256, KeyType.EC_P384)
RSA_MECHANISMS = [m for m in Mechanism if m.value.startswith("rsa")]
EC_MECHANISMS = [m for m in Mechanism if m.value.startswith("ecdsa")]
SIGNATURES = [(k, m) for k in RSA for m in RSA_MECHANISMS] + [(k, m) for k in EC for m in EC_MECHANISMS]

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
MIB = 1 << 20


def digest_for(mechanism: Mechanism, message: bytes = b"message") -> bytes:
    return hashlib.new(mechanism.digest_name, message).digest()


def verify(public_key: Any, mechanism: Mechanism, signature: bytes, digest: bytes) -> None:
    """Raise InvalidSignature unless the signature is one of the contract's form."""
    algorithm = HASHES[mechanism.digest_name]
    prehashed = utils.Prehashed(algorithm)
    if mechanism in EC_MECHANISMS:
        public_key.verify(signature, digest, ec.ECDSA(prehashed))
    elif mechanism.value.startswith("rsa-pss"):
        pss = padding.PSS(padding.MGF1(algorithm), mechanism.digest_length)
        public_key.verify(signature, digest, pss, prehashed)
    else:
        public_key.verify(signature, digest, padding.PKCS1v15(), prehashed)


def spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
