"""SM2 public keys and signature verification (GB/T 32918.2, GB/T 32918.5, GM/T 0009).

Only the public half: private-key operations happen in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealagent.errors import FormatError
from sealagent.pki import libcrypto
from sealagent.pki.digests import digest

__all__ = ["DEFAULT_ID", "N", "SM2PublicKey", "verify_in_python"]

DEFAULT_ID: Final = b"1234567812345678"
"""The signer's ID where no other is agreed (GM/T 0009 clause 10)."""

# GB/T 32918.5: the recommended curve y² = x³ + ax + b over GF(p); G has order n, the cofactor is 1.
P: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
A: Final = P - 3
B: Final = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
N: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
GX: Final = 0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7
GY: Final = 0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0

_SIZE: Final = 32  # octets of a coordinate, of r, of s and of e
_SPKI_PREFIX: Final = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")
_CURVE_OCTETS: Final = b"".join(value.to_bytes(_SIZE, "big") for value in (A, B, GX, GY))


@dataclass(frozen=True, slots=True)
class SM2PublicKey:
    """A point of the SM2 curve.

    :raises FormatError: ``public_key_invalid`` if the coordinates are no point of the curve.
    """

    x: int
    y: int

    def __post_init__(self) -> None:
        x, y = self.x, self.y
        if not (0 <= x < P and 0 <= y < P and (y * y - (x * x * x + A * x + B)) % P == 0):
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
        if len(user_id) > 0xFFFF // 8:
            raise ValueError("the length of an SM2 user ID in bits is written in two octets")
        length = (8 * len(user_id)).to_bytes(2, "big")
        return digest("sm3", length + user_id + _CURVE_OCTETS + self.point[1:])

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
            return library.verify(self.spki, e, _der(r, s))
        return verify_in_python(self, e, r, s)


def verify_in_python(key: SM2PublicKey, e: bytes, r: int, s: int) -> bool:
    """Verify without any library. For 0 < r, s < n; public data only, so the time may depend on it."""
    t = (r + s) % N
    if t == 0:
        return False
    point = _sum_of_products(s, t, key)
    if point is None:
        return False
    return (int.from_bytes(e, "big") + point) % N == r


_Jacobian = tuple[int, int, int]  # x = X/Z², y = Y/Z³; Z = 0 is infinity
_INFINITY: Final[_Jacobian] = (1, 1, 0)


def _sum_of_products(s: int, t: int, key: SM2PublicKey) -> int | None:
    """Return the x coordinate of sG + tP, or None for infinity. Both products share the doublings (Shamir)."""
    base, own = (GX, GY, 1), (key.x, key.y, 1)
    table = (None, base, own, _add(base, own))
    total = _INFINITY
    for bit in range(max(s.bit_length(), t.bit_length()) - 1, -1, -1):
        total = _double(total)
        if addend := table[(s >> bit & 1) | (t >> bit & 1) << 1]:
            total = _add(total, addend)
    x, _, z = total
    return x * pow(z, -2, P) % P if z else None


def _double(point: _Jacobian) -> _Jacobian:
    x, y, z = point
    if not z:
        return _INFINITY
    yy = y * y % P
    zz = z * z % P
    beta = x * yy % P
    alpha = 3 * (x - zz) * (x + zz) % P  # a = -3
    x3 = (alpha * alpha - 8 * beta) % P
    return x3, (alpha * (4 * beta - x3) - 8 * yy * yy) % P, 2 * y * z % P


def _add(first: _Jacobian, second: _Jacobian) -> _Jacobian:
    x1, y1, z1 = first
    x2, y2, z2 = second
    if not z1:
        return second
    if not z2:
        return first
    z1z1, z2z2 = z1 * z1 % P, z2 * z2 % P
    u1, u2 = x1 * z2z2 % P, x2 * z1z1 % P
    s1, s2 = y1 * z2 * z2z2 % P, y2 * z1 * z1z1 % P
    h, slope = (u2 - u1) % P, (s2 - s1) % P
    if not h:
        return _INFINITY if slope else _double(first)
    hh = h * h % P
    hhh, v = h * hh % P, u1 * hh % P
    x3 = (slope * slope - hhh - 2 * v) % P
    return x3, (slope * (v - x3) - s1 * hhh) % P, z1 * z2 * h % P


def _der(r: int, s: int) -> bytes:
    """Return SEQ{INTEGER r, INTEGER s}; both are positive and below 2^256, so every length fits one octet."""
    body = b""
    for value in (r, s):
        octets = value.to_bytes(value.bit_length() // 8 + 1, "big")
        body += bytes([0x02, len(octets)]) + octets
    return bytes([0x30, len(body)]) + body
