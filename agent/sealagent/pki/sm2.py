"""SM2 public keys and signature verification (GB/T 32918.2, GB/T 32918.5, GM/T 0009).

Only the public half: private-key operations happen in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealagent.errors import FormatError
from sealagent.pki import libcrypto
from sealagent.pki.digests import digest
from sealdrivers import sm2
from sealdrivers.signatures import der_signature
from sealdrivers.sm2 import DEFAULT_ID, N

__all__ = ["DEFAULT_ID", "SM2PublicKey"]

_SIZE: Final = 32  # octets of a coordinate, of r, of s and of e
_SPKI_PREFIX: Final = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")


@dataclass(frozen=True, slots=True)
class SM2PublicKey:
    """A point of the SM2 curve.

    :raises FormatError: ``public_key_invalid`` if the coordinates are no point of the curve.
    """

    x: int
    y: int

    def __post_init__(self) -> None:
        if not sm2.is_on_curve(self.x, self.y):
            raise FormatError("public_key_invalid", "the point is not on the SM2 curve")

    @classmethod
    def from_point(cls, point: bytes) -> SM2PublicKey:
        """Read an uncompressed point.

        :param point: 04 ‖ X ‖ Y, 65 octets.
        :raises FormatError: ``public_key_invalid``.
        """
        if len(point) != 1 + 2 * _SIZE or point[0] != 4:
            raise FormatError("public_key_invalid", "an SM2 point is 04, X and Y in 65 octets")
        return cls(int.from_bytes(point[1 : 1 + _SIZE], "big"), int.from_bytes(point[1 + _SIZE :], "big"))

    @classmethod
    def from_spki(cls, spki: bytes) -> SM2PublicKey | None:
        """Read a SubjectPublicKeyInfo: ecPublicKey with the SM2 curve by name; None for any other kind of key.

        DER leaves one way only to write it. A curve that is spelled out is not accepted.

        :raises FormatError: ``public_key_invalid``.
        """
        if not spki.startswith(_SPKI_PREFIX):
            return None
        return cls.from_point(spki[len(_SPKI_PREFIX) :])

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo, 91 octets."""
        return _SPKI_PREFIX + self.point

    @property
    def point(self) -> bytes:
        """04 ‖ X ‖ Y, 65 octets."""
        return b"\x04" + self.x.to_bytes(_SIZE, "big") + self.y.to_bytes(_SIZE, "big")

    def z(self, user_id: bytes = DEFAULT_ID) -> bytes:
        """Return Z, which binds the signer's ID and key (GB/T 32918.2, 5.5).

        :param user_id: at most 8,191 octets.
        """
        return digest("sm3", sm2.z_input(self.x, self.y, user_id))

    def e(self, message: bytes, user_id: bytes = DEFAULT_ID) -> bytes:
        """Return e, the SM3 digest of Z ‖ message: what a token signs. 32 octets."""
        return digest("sm3", self.z(user_id) + message)

    def verify(self, e: bytes, r: int, s: int) -> bool:
        """Verify a signature (GB/T 32918.2, 7.1), in libcrypto where there is one, else in Python.

        :param e: the digest as :meth:`e` returns it, 32 octets.
        """
        if len(e) != _SIZE or not (0 < r < N and 0 < s < N) or (r + s) % N == 0:
            return False
        if (library := libcrypto.load()) is not None:
            return library.verify(self.spki, e, der_signature(r, s, N))
        return sm2.verify(self.x, self.y, e, r, s)
