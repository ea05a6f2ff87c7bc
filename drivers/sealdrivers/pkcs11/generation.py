"""Generating a key pair that can only sign, and checking that the token kept to it."""

from __future__ import annotations

from typing import Any

from pkcs11 import Attribute

from sealdrivers.contract import KeyType
from sealdrivers.errors import DeviceFailure
from sealdrivers.pkcs11.binding import MechanismFacts, Session
from sealdrivers.pkcs11.mechanisms import GENERATION
from sealdrivers.pkcs11.publickeys import CURVE_PARAMETERS
from sealdrivers.pkcs11.sm2 import Sm2Support

__all__ = ["generate_pair", "generation_mechanism"]


def generation_mechanism(type: KeyType, offered: dict[int, MechanismFacts], sm2: Sm2Support) -> int | None:
    """Return the mechanism that generates a pair of this type, or None where the token has none.

    An SM2 pair is made only by a mechanism that the vendor table names for it: CKM_EC_KEY_PAIR_GEN makes pairs on the
    SM2 curve on modules that then sign with ECDSA (SoftHSM 2.6.1).
    """
    if type is KeyType.SM2:
        return sm2.profile.key_pair_gen if sm2.profile else None
    generation = GENERATION.get(type)
    return generation if generation in offered else None


def generate_pair(
    session: Session, type: KeyType, mechanism: int, label: str, object_id: bytes, sm2: Sm2Support
) -> None:
    """Generate a pair.

    :param session: read/write, logged in. :param mechanism: as :func:`generation_mechanism` returned it.
    :raises DeviceFailure: the token made a private key that can be extracted; it was deleted.
    """
    common: dict[Attribute, Any] = {Attribute.TOKEN: True, Attribute.LABEL: label, Attribute.ID: object_id}
    public = common | {
        Attribute.PRIVATE: False,
        Attribute.VERIFY: True,
        Attribute.ENCRYPT: False,
        Attribute.WRAP: False,
    }
    private = common | {
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN: True,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
        Attribute.DERIVE: False,
    }
    if type is KeyType.SM2:
        assert sm2.profile is not None
        if sm2.profile.key_type is not None:
            public[Attribute.KEY_TYPE] = private[Attribute.KEY_TYPE] = sm2.profile.key_type
        pair = session.generate_pair(mechanism, public | {Attribute.EC_PARAMS: CURVE_PARAMETERS[type]}, private)
    elif type in CURVE_PARAMETERS:
        pair = session.generate_ec(CURVE_PARAMETERS[type], public, private)
    else:
        pair = session.generate_rsa(int(type.value.removeprefix("rsa-")), public, private)
    known = pair[1].read(Attribute.SENSITIVE, Attribute.EXTRACTABLE)
    if not known.flag(Attribute.SENSITIVE, default=False) or known.flag(Attribute.EXTRACTABLE, default=True):
        for half in pair:
            half.destroy()
        raise DeviceFailure("the token generated a key that can be extracted; it was deleted")
