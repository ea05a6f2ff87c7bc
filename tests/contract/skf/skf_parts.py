"""What the tests of the SKF driver share."""

from __future__ import annotations

from sealdrivers.contract import Mechanism
from sealdrivers.skf.token import SkfToken
from softgm import SoftSkfToken

E = bytes(range(32))
SM2 = Mechanism.SM2_SM3


def pin(device: SoftSkfToken) -> bytearray:
    """Return the right user PIN, in a buffer of its own."""
    return bytearray(device.user_pin.encode())


def sign(token: SkfToken, mechanism: Mechanism = SM2) -> bytes:
    """Sign with the token's only key."""
    (info,) = token.contents().keys
    return token.key(info.uri).sign(mechanism, E)
