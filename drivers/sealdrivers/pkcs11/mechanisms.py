"""How a digest is handed to the device, and what the device's answer becomes.

The driver never lets the device hash: the digest comes from the caller. RSA PKCS#1 v1.5 goes through CKM_RSA_PKCS with
the DigestInfo built here (RFC 8017 §9.2), PSS through CKM_RSA_PKCS_PSS, ECDSA through CKM_ECDSA.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field

from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import DeviceFailure
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import MechanismFacts
from sealdrivers.pkcs11.sm2 import CKM_ECDSA, Sm2Support
from sealdrivers.signatures import DIGEST_INFO, der_signature

__all__ = ["GENERATION", "Abilities", "Recipe", "recipes"]

CKM_RSA_PKCS = 0x1
CKM_RSA_PKCS_PSS = 0xD

GENERATION = {
    # CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_EC_KEY_PAIR_GEN
    KeyType.RSA_2048: 0x0,
    KeyType.RSA_3072: 0x0,
    KeyType.RSA_4096: 0x0,
    KeyType.EC_P256: 0x1040,
    KeyType.EC_P384: 0x1040,
}
"""The mechanism that generates a key."""

_PSS = {
    # CKM_SHA*, CKG_MGF1_SHA*; the salt is as long as the digest
    "sha256": (0x250, 2),
    "sha384": (0x260, 3),
    "sha512": (0x270, 4),
}

_ORDERS = {
    256: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    384: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
"""Orders of P-256 and P-384."""

_RSA_KINDS = (KeyType.RSA_2048, KeyType.RSA_3072, KeyType.RSA_4096)
_RSA_BEST_FIRST = (
    Mechanism.RSA_PKCS1_SHA256,
    Mechanism.RSA_PKCS1_SHA384,
    Mechanism.RSA_PKCS1_SHA512,
    Mechanism.RSA_PSS_SHA256,
    Mechanism.RSA_PSS_SHA384,
    Mechanism.RSA_PSS_SHA512,
)
_EC_BEST_FIRST = {
    KeyType.EC_P256: (Mechanism.ECDSA_SHA256, Mechanism.ECDSA_SHA384, Mechanism.ECDSA_SHA512),
    KeyType.EC_P384: (Mechanism.ECDSA_SHA384, Mechanism.ECDSA_SHA512, Mechanism.ECDSA_SHA256),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One mechanism of this contract on one kind of key."""

    native: abi.CK_MECHANISM
    digest_length: int
    prefix: bytes
    """Put in front of the digest."""
    length: int
    """Octets of the digest that are handed over: ECDSA uses the leftmost bits of a longer one (FIPS 186-5 §6.4.1)."""
    answer: int
    """Octets the device must answer with."""
    order: int
    """Order of the curve (FIPS 186-5, SP 800-186 §3.2.1); 0 for RSA."""
    parameters: abi.CK_RSA_PKCS_PSS_PARAMS | None = field(default=None, repr=False)
    """What ``native`` points to, kept alive."""

    def input(self, digest: bytes) -> bytes:
        """Return what the device signs."""
        return self.prefix + digest[: self.length]

    def result(self, answer: bytes) -> bytes:
        """Return the signature of the contract. :raises DeviceFailure: the device's answer cannot be one."""
        if len(answer) != self.answer:
            raise DeviceFailure(f"the device answered with {len(answer)} octets instead of {self.answer}")
        if not self.order:
            return answer
        half = len(answer) // 2
        return der_signature(int.from_bytes(answer[:half], "big"), int.from_bytes(answer[half:], "big"), self.order)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What one token can do."""

    offered: dict[int, MechanismFacts]
    """Its mechanism list."""
    sm2: Sm2Support

    def of(self, kind: KeyType, bits: int) -> tuple[Mechanism, ...]:
        """Return the mechanisms of a key, best first. What is not known of SM2 yet counts as possible."""
        if kind is KeyType.SM2:
            return (Mechanism.SM2_SM3,) if self.sm2.usable else ()
        return tuple(recipes(kind, bits, self.offered))


def recipes(kind: KeyType, bits: int, offered: Mapping[int, MechanismFacts]) -> dict[Mechanism, Recipe]:
    """Return what a key can do on a token with PKCS#11's own mechanisms, best first; SM2 is not among them.

    :param bits: of the key.
    :param offered: the token's mechanism list.
    """

    def can(number: int) -> bool:
        facts = offered.get(number)
        # Quirk: some tokens give no key sizes at all (0, 0).
        return (
            facts is not None
            and bool(facts.flags & abi.CKF_SIGN)
            and (facts.max_bits == 0 or facts.min_bits <= bits <= facts.max_bits)
        )

    if kind in _RSA_KINDS:
        made = [(mechanism, _rsa(mechanism, bits)) for mechanism in _RSA_BEST_FIRST]
    else:
        made = [(mechanism, _ecdsa(mechanism, bits)) for mechanism in _EC_BEST_FIRST.get(kind, ())]
    return {mechanism: recipe for mechanism, recipe in made if can(recipe.native.mechanism)}


def _rsa(mechanism: Mechanism, bits: int) -> Recipe:
    name, length = mechanism.digest_name, mechanism.digest_length
    if mechanism.value.startswith("rsa-pss"):
        parameters = abi.CK_RSA_PKCS_PSS_PARAMS(*_PSS[name], length)
        native = abi.CK_MECHANISM(
            CKM_RSA_PKCS_PSS, ctypes.cast(ctypes.pointer(parameters), ctypes.c_void_p), ctypes.sizeof(parameters)
        )
        return Recipe(native, length, b"", length, bits // 8, order=0, parameters=parameters)
    return Recipe(abi.CK_MECHANISM(CKM_RSA_PKCS), length, DIGEST_INFO[name], length, bits // 8, order=0)


def _ecdsa(mechanism: Mechanism, bits: int) -> Recipe:
    length = mechanism.digest_length
    return Recipe(abi.CK_MECHANISM(CKM_ECDSA), length, b"", min(length, bits // 8), bits // 4, _ORDERS[bits])
