"""What the tests of the soft SM2 module share: the table of vendors, and signatures taken apart by hand."""

from __future__ import annotations

from dataclasses import dataclass

from sealagent.pki.sm2 import N, SM2PublicKey
from softgm import spki

__all__ = ["DER", "RAW", "SIGNING", "VENDORS", "Vendor", "der", "is_ecdsa", "numbers", "public_key"]

RAW, DER = "raw", "der"


@dataclass(frozen=True)
class Vendor:
    """A line of the table of vendors in tests/softgm/README.md. Mechanisms have the form of their signatures."""

    key_type: int
    generation: int
    e: dict[int, str]
    """Mechanisms that sign e."""
    sm3: dict[int, str]
    """Those that sign SM3(M)."""
    sm3_with_z: dict[int, str]


VENDORS = {
    "neutral": Vendor(0xFFFFF001, 0xFFFFF001, {0xFFFFF002: RAW}, {0xFFFFF003: RAW}, {}),
    "tass": Vendor(0x80000004, 0x80008001, {0x80008000: DER}, {0x80008100: DER, 0x80008101: DER}, {}),
    "sansec": Vendor(
        0x80000004,
        0x80008001,
        {0x80008104: DER, 0x80008105: RAW},
        {0x80008100: RAW, 0x80008101: DER},
        {0x80008102: RAW, 0x80008103: DER},
    ),
    "luna": Vendor(0x80000016, 0x80000B20, {0x80000B21: RAW}, {0x80000B22: RAW}, {}),
    "koal": Vendor(0x80000004, 0x80008001, {0x80008104: RAW}, {0x80008100: RAW, 0x80008101: DER}, {}),
    "ibm-ep11": Vendor(0x80050002, 0x8005000A, {0x8005000B: RAW}, {0x8005000C: RAW, 0x8005000F: DER}, {}),
    "longmai": Vendor(0x84000020, 0x83000000, {0x83000000: RAW}, {0x83000001: RAW}, {}),
    "weston": Vendor(0x80000001, 0x80000003, {0x80000004: RAW}, {}, {}),
    "card2009": Vendor(0x80000004, 0x80008001, {0x80008000: RAW}, {0x80008100: RAW}, {}),
    "mk1": Vendor(0x00010001, 0x00010009, {0x00010002: RAW}, {0x00010004: RAW}, {}),
}

SIGNING = [
    (name, number, kind, form)
    for name, vendor in VENDORS.items()
    for kind, table in (("e", vendor.e), ("sm3", vendor.sm3), ("sm3_with_z", vendor.sm3_with_z))
    for number, form in table.items()
]
"""Every mechanism that signs: profile, number, what it signs, form."""


def public_key(pem: bytes) -> SM2PublicKey:
    """Return the public half of a private key in PEM."""
    key = SM2PublicKey.from_spki(spki(pem))
    assert key is not None
    return key


def numbers(signature: bytes, form: str) -> tuple[int, int]:
    """Return r and s of a signature, which must have its form, DER with the shortest integers."""
    if form == RAW:
        assert len(signature) == 64
        return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    first = signature[3]
    pair = signature[4 : 4 + first], signature[6 + first :]
    assert signature == bytes((0x30, len(signature) - 2, 2, first)) + pair[0] + bytes((2, len(pair[1]))) + pair[1]
    for octets in pair:
        assert octets[0] or (len(octets) > 1 and octets[1] & 0x80)
    return int.from_bytes(pair[0], "big"), int.from_bytes(pair[1], "big")


def der(r: int, s: int) -> bytes:
    """Return a signature in DER."""
    parts = b""
    for value in (r, s):
        octets = value.to_bytes(value.bit_length() // 8 + 1, "big")
        parts += bytes((2, len(octets))) + octets
    return bytes((0x30, len(parts))) + parts


def is_ecdsa(key: SM2PublicKey, e: bytes, r: int, s: int) -> bool:
    """Say whether a signature is right as ECDSA, with the means of SM2.

    ECDSA asks x(u1·G + u2·Q) = r. SM2 asks e' + x(s'·G + (r' + s')·Q) = r': the same point for s' = u1, r' = u2 - u1.
    """
    u1, u2 = (value * pow(s, -1, N) % N for value in (int.from_bytes(e, "big"), r))
    other_r = (u2 - u1) % N
    return key.verify(((other_r - r) % N).to_bytes(32, "big"), other_r, u1)
