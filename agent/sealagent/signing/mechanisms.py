"""Which algorithm identifier goes with which mechanism of the device, once for the whole agent."""

from __future__ import annotations

from sealagent.errors import SealAgentError
from sealagent.pki import oids
from sealagent.pki.signatures import SignatureAlgorithm, algorithm
from sealdrivers.contract import KeyInfo, KeyType, Mechanism

__all__ = ["algorithm_of", "certified_choice", "checked_mechanism"]

_OIDS: dict[Mechanism, str] = {
    Mechanism.RSA_PKCS1_SHA256: oids.SHA256_RSA,
    Mechanism.RSA_PKCS1_SHA384: oids.SHA384_RSA,
    Mechanism.RSA_PKCS1_SHA512: oids.SHA512_RSA,
    Mechanism.ECDSA_SHA256: oids.ECDSA_SHA256,
    Mechanism.ECDSA_SHA384: oids.ECDSA_SHA384,
    Mechanism.ECDSA_SHA512: oids.ECDSA_SHA512,
    Mechanism.SM2_SM3: oids.SM2_WITH_SM3,
}

# A seal names its algorithm by a bare OID without parameters (GB/T 38540 signAlgID), which cannot express PSS.
_FOR_SEALS: dict[KeyType, Mechanism] = {
    KeyType.RSA_2048: Mechanism.RSA_PKCS1_SHA256,
    KeyType.RSA_3072: Mechanism.RSA_PKCS1_SHA256,
    KeyType.RSA_4096: Mechanism.RSA_PKCS1_SHA256,
    KeyType.EC_P256: Mechanism.ECDSA_SHA256,
    KeyType.EC_P384: Mechanism.ECDSA_SHA384,
    KeyType.SM2: Mechanism.SM2_SM3,
}


def algorithm_of(mechanism: Mechanism) -> SignatureAlgorithm:
    """Return the signature algorithm a mechanism produces."""
    if oid := _OIDS.get(mechanism):
        return algorithm(oid)
    return SignatureAlgorithm(oids.RSA_PSS, mechanism.value, "rsa-pss", mechanism.digest_name, False)


def certified_choice(key: KeyInfo) -> Mechanism:
    """Return the mechanism for seals and certificate requests with this key.

    :raises SealAgentError: ``mechanism_not_supported``.
    """
    mechanism = _FOR_SEALS.get(key.type)
    if mechanism is None or mechanism not in key.mechanisms:
        reason = f": {key.fault}" if key.fault else ""
        raise SealAgentError(
            "mechanism_not_supported", f"a {key.type.value} key on this token cannot sign seals{reason}"
        )
    return mechanism


def checked_mechanism(key: KeyInfo, name: str | None) -> Mechanism:
    """Return the mechanism a caller named, or the key's best one.

    :raises SealAgentError: ``mechanism_not_supported``, naming what the key offers.
    """
    offered = [mechanism.value for mechanism in key.mechanisms]
    if name is None and key.mechanisms:
        return key.mechanisms[0]
    if name not in offered:
        message = f"the key cannot do {name}" if name else "the key has no mechanism that the agent can use"
        message = f"{message}: {key.fault}" if key.fault else message
        raise SealAgentError("mechanism_not_supported", message, offered=offered)
    return Mechanism(name)
