"""Records of SKF: device facts in both layouts, public keys, signatures."""

from __future__ import annotations

import contextlib
import ctypes
import struct
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from sealagent.pki.sm2 import SM2PublicKey
from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import DeviceFailure
from sealdrivers.skf import abi, records
from sealdrivers.sm2 import GX, GY, N


def devinfo(word: Any, *, packed: bool) -> bytes:
    """Return a DEVINFO as a compiler would lay it out."""

    class Record(ctypes.Structure):
        if packed:
            _pack_ = 1
            _layout_ = "ms"  # CPython 3.14 wants it said
        _fields_ = [
            ("version", ctypes.c_uint8 * 2),
            ("manufacturer", ctypes.c_char * 64),
            ("issuer", ctypes.c_char * 64),
            ("label", ctypes.c_char * 32),
            ("serial", ctypes.c_char * 32),
            ("hardware", ctypes.c_uint8 * 2),
            ("firmware", ctypes.c_uint8 * 2),
            *((name, word) for name in ("sym", "asym", "hash", "auth", "total", "free", "max_ecc", "max_buffer")),
            ("reserved", ctypes.c_uint8 * 64),
        ]

    record = Record(manufacturer=b"Maker", issuer=b"CA", label="财务".encode("gbk"), serial=b"0001   ", max_buffer=2048)
    record.hardware[:] = (1, 2)
    record.firmware[:] = (3, 4)
    return bytes(record)


@pytest.mark.parametrize(("packed", "size"), [(True, 294), (False, 296)])
def test_both_layouts_of_devinfo(packed: bool, size: int) -> None:
    facts = records.device_facts(devinfo(ctypes.c_uint32, packed=packed))
    assert (facts.manufacturer, facts.issuer, facts.label, facts.serial) == ("Maker", "CA", "财务", "0001")
    assert (facts.hardware, facts.firmware, facts.max_buffer, facts.layout) == ("1.2", "3.4", 2048, size)


@pytest.mark.parametrize(("packed", "size"), [(True, 326), (False, 328)])
def test_layouts_with_words_of_64_bits_are_refused(packed: bool, size: int) -> None:
    with pytest.raises(DeviceFailure, match=f"{size} octets instead of 294 or 296"):
        records.device_facts(devinfo(ctypes.c_uint64, packed=packed))


@pytest.mark.parametrize("octets", [b"", b"x" * 293, b"x" * 295, b"x" * 512])
def test_octets_of_another_length_are_no_devinfo(octets: bytes) -> None:
    with pytest.raises(DeviceFailure):
        records.device_facts(octets)


def ecc_blob(x: int, y: int, bits: int = 256) -> bytes:
    return struct.pack("=I", bits) + x.to_bytes(64, "big") + y.to_bytes(64, "big")


def test_sm2_public_key() -> None:
    key = records.public_key(ecc_blob(GX, GY))
    assert (key.type, key.bits) == (KeyType.SM2, 256)
    assert SM2PublicKey.from_spki(key.spki) == SM2PublicKey(GX, GY)


def test_rsa_public_key() -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    modulus, exponent = numbers.n.to_bytes(256, "big"), numbers.e.to_bytes(4, "big")
    key = records.public_key(struct.pack("=II", 0x10000, 2048) + modulus + exponent)
    assert (key.type, key.bits) == (KeyType.RSA_2048, 2048)
    with pytest.raises(DeviceFailure, match="1024"):
        records.public_key(struct.pack("=II", 0x10000, 1024) + modulus + exponent)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"x" * 131,
        struct.pack("=Q", 256) + ecc_blob(GX, GY)[4:],
        ecc_blob(GX, GY, 192),
        ecc_blob(0, 0),
        ecc_blob(GX << 256, GY),
        ecc_blob(GX, GY | 1 << 256),
        bytes(268),
    ],
    ids=[
        "nothing",
        "short",
        "ULONG of 64 bits",
        "other length",
        "no point",
        "left-aligned",
        "too long",
        "RSA of nothing",
    ],
)
def test_octets_that_are_no_public_key(blob: bytes) -> None:
    with pytest.raises(DeviceFailure):
        records.public_key(blob)


@given(r=st.integers(1, N - 1), s=st.integers(1, N - 1))
def test_signatures_become_minimal_der(r: int, s: int) -> None:
    der = records.sm2_signature(r.to_bytes(64, "big") + s.to_bytes(64, "big"))
    assert decode_dss_signature(der) == (r, s)
    assert encode_dss_signature(r, s) == der


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (N, 1), (1, N), (1 << 256, 1), (1, 1 << 511)])
def test_numbers_that_are_no_signature(r: int, s: int) -> None:
    with pytest.raises(DeviceFailure):
        records.sm2_signature(r.to_bytes(64, "big") + s.to_bytes(64, "big"))


@given(blob=st.binary(min_size=300, max_size=300), size=st.integers(0, 300))
def test_any_octets_are_a_record_or_a_device_failure(blob: bytes, size: int) -> None:
    for read in (records.device_facts, records.public_key):
        try:
            read(blob[:size])
        except DeviceFailure:
            continue
    with contextlib.suppress(DeviceFailure):
        records.sm2_signature(blob[: abi.ECC_SIGNATURE_BLOB])


def test_digest_info_is_what_rsa_signs() -> None:
    for mechanism in (Mechanism.RSA_PKCS1_SHA256, Mechanism.RSA_PKCS1_SHA384, Mechanism.RSA_PKCS1_SHA512):
        encoded = records.digest_info(mechanism, bytes(mechanism.digest_length))
        assert encoded[0] == 0x30
        assert len(encoded) == encoded[1] + 2
        assert len(encoded) <= 256 - 11
