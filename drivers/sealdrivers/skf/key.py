"""A signing key on a token: :class:`sealdrivers.contract.Key`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealdrivers.contract import KeyInfo, KeyType, Mechanism
from sealdrivers.errors import MechanismNotSupported
from sealdrivers.host.protocol import wipe
from sealdrivers.skf.records import digest_info

if TYPE_CHECKING:
    from sealdrivers.skf.token import SkfToken

__all__ = ["MECHANISMS", "SkfKey"]

MECHANISMS: dict[KeyType, tuple[Mechanism, ...]] = {
    # SKF pads RSA by PKCS#1 v1.5 and in no other way.
    KeyType.SM2: (Mechanism.SM2_SM3,),
    KeyType.RSA_2048: (Mechanism.RSA_PKCS1_SHA256, Mechanism.RSA_PKCS1_SHA384, Mechanism.RSA_PKCS1_SHA512),
}
"""What a key of each type signs, best first."""


class SkfKey:
    """The signing key in a container."""

    def __init__(self, token: SkfToken, container: bytes, info: KeyInfo) -> None:
        self._token = token
        self._container = container
        self._info = info

    @property
    def info(self) -> KeyInfo:
        return self._info

    def sign(
        self,
        mechanism: Mechanism,
        digest: bytes,
        pin: bytearray | None = None,
        *,
        confirmed_last_try: bool = False,
    ) -> bytes:
        """Sign a digest. No SKF key wants the PIN with each signature: ``pin`` is wiped and not used."""
        if pin is not None:
            wipe(pin)
        if mechanism not in self._info.mechanisms:
            raise MechanismNotSupported(f"a {self._info.type.value} key on this token cannot do {mechanism.value}")
        if len(digest) != mechanism.digest_length:
            raise MechanismNotSupported(f"{mechanism.value} signs {mechanism.digest_length} octets, not {len(digest)}")
        sm2 = mechanism is Mechanism.SM2_SM3
        return self._token.sign(self._container, digest if sm2 else digest_info(mechanism, digest), sm2=sm2)
