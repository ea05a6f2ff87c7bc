"""The SM2 curve with public numbers only (GB/T 32918.2, GB/T 32918.5, GM/T 0009): Z, and signatures checked in Python.

The drivers need it to find out what a device's mechanism really signs; the agent, where no library verifies SM2. There
is no private-key operation here, so the time may depend on the numbers. One check takes some milliseconds.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DEFAULT_ID", "GX", "GY", "A", "B", "N", "P", "is_on_curve", "verify", "verify_ecdsa", "z_input"]

DEFAULT_ID: Final = b"1234567812345678"
"""The signer's ID where no other is agreed (GM/T 0009 clause 10)."""

# GB/T 32918.5: the recommended curve y² = x³ + ax + b over GF(p); G has order n, the cofactor is 1.
P: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
A: Final = P - 3
B: Final = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
N: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
GX: Final = 0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7
GY: Final = 0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0


_SIZE: Final = 32  # octets of a coordinate
_CURVE_OCTETS: Final = b"".join(value.to_bytes(_SIZE, "big") for value in (A, B, GX, GY))


def is_on_curve(x: int, y: int) -> bool:
    """Say whether the coordinates are a point of the curve."""
    return 0 <= x < P and 0 <= y < P and (y * y - (x * x * x + A * x + B)) % P == 0


def z_input(x: int, y: int, user_id: bytes = DEFAULT_ID) -> bytes:
    """Return the octets whose SM3 digest is Z, which binds the signer's ID and key (GB/T 32918.2, 5.5).

    :param user_id: at most 8,191 octets. :raises ValueError: it is longer.
    """
    if len(user_id) > 0xFFFF // 8:
        raise ValueError("the length of an SM2 user ID in bits is written in two octets")
    length = (8 * len(user_id)).to_bytes(2, "big")
    return length + user_id + _CURVE_OCTETS + x.to_bytes(_SIZE, "big") + y.to_bytes(_SIZE, "big")


def verify(x: int, y: int, e: bytes, r: int, s: int) -> bool:
    """Verify an SM2 signature (GB/T 32918.2, 7.1) with the key (x, y), a point of the curve.

    :param e: SM3(Z || M), 32 octets.
    """
    if not (0 < r < N and 0 < s < N):
        return False
    t = (r + s) % N
    if t == 0:
        return False
    point = _sum_of_products(s, t, x, y)
    return point is not None and (int.from_bytes(e, "big") + point) % N == r


def verify_ecdsa(x: int, y: int, digest: bytes, r: int, s: int) -> bool:
    """Verify an ECDSA signature over 32 octets on this curve (FIPS 186-5, 6.4.2), which is no SM2 signature."""
    if not (0 < r < N and 0 < s < N):
        return False
    w = pow(s, -1, N)
    point = _sum_of_products(int.from_bytes(digest, "big") * w % N, r * w % N, x, y)
    return point is not None and point % N == r


_Jacobian = tuple[int, int, int]  # x = X/Z², y = Y/Z³; Z = 0 is infinity
_INFINITY: Final[_Jacobian] = (1, 1, 0)


def _sum_of_products(s: int, t: int, px: int, py: int) -> int | None:
    """Return the x coordinate of sG + tP, or None for infinity. Both products share the doublings (Shamir)."""
    base, own = (GX, GY, 1), (px, py, 1)
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
