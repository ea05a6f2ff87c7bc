"""Public keys and certificates as tokens store them, against cryptography."""

from __future__ import annotations

import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from sealdrivers.contract import KeyType
from sealdrivers.pkcs11.publickeys import (
    CURVE_PARAMETERS,
    ec_public_key,
    read_certificate,
    read_spki,
    rsa_public_key,
)
from softhsm2_fixtures import certificate, new_key, session_key

SM2_POINT = bytes.fromhex(  # public key of GM/T 0003.5 annex A
    "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)


def spki_of(public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def point_of(public_key: ec.EllipticCurvePublicKey) -> bytes:
    return public_key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_rsa(padding: bytes) -> None:
    public = session_key("rsa-2048").public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    numbers = public.public_numbers()
    key = rsa_public_key(padding + numbers.n.to_bytes(256, "big"), padding + b"\1\0\1")
    assert key is not None
    assert (key.type, key.bits, key.spki) == (KeyType.RSA_2048, 2048, spki_of(public))


def test_rsa_of_another_size_is_of_no_type() -> None:
    public = rsa.generate_private_key(65537, 1024).public_key()
    key = rsa_public_key(public.public_numbers().n.to_bytes(128, "big"), b"\1\0\1")
    assert key is not None
    assert (key.type, key.bits) == (KeyType.OTHER, 1024)


@pytest.mark.parametrize(
    ("modulus", "exponent"), [(b"", b""), (b"\0", b"\3"), (b"\xff" * 256, b"\1"), (b"", b"\1\0\1")]
)
def test_rsa_that_is_none(modulus: bytes, exponent: bytes) -> None:
    assert rsa_public_key(modulus, exponent) is None


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_ec_point_in_every_form(curve: ec.EllipticCurve) -> None:
    kind = KeyType(f"ec-p{curve.key_size}")
    for _ in range(20):  # a bare point may begin with what looks like a header only by chance of its X
        public = ec.generate_private_key(curve).public_key()
        point = point_of(public)
        octet_string = bytes([4, len(point)]) + point
        bit_string = bytes([3, len(point) + 1, 0]) + point
        for form in (point, octet_string, bit_string):
            key = ec_public_key(CURVE_PARAMETERS[kind], form)
            assert key is not None
            assert (key.type, key.bits, key.spki) == (kind, curve.key_size, spki_of(public))


def test_sm2_point() -> None:
    key = ec_public_key(CURVE_PARAMETERS[KeyType.SM2], SM2_POINT)
    assert key is not None
    assert (key.type, key.bits) == (KeyType.SM2, 256)
    again = read_spki(key.spki)
    assert again == key
    assert key.material == SM2_POINT


@pytest.mark.parametrize(
    ("parameters", "point"),
    [
        (b"", SM2_POINT),
        (bytes.fromhex("06052b81040023"), b"\4" * 133),  # P-521
        (bytes.fromhex("06052b8104000a"), SM2_POINT),  # secp256k1
        (CURVE_PARAMETERS[KeyType.EC_P256], b""),
        (CURVE_PARAMETERS[KeyType.EC_P256], SM2_POINT[:-1]),
        (CURVE_PARAMETERS[KeyType.EC_P256], SM2_POINT + b"\0"),
        (CURVE_PARAMETERS[KeyType.EC_P256], b"\2" + SM2_POINT[1:33]),  # compressed
        (CURVE_PARAMETERS[KeyType.EC_P256], b"\4\x42" + SM2_POINT),
    ],
)
def test_ec_that_is_none(parameters: bytes, point: bytes) -> None:
    assert ec_public_key(parameters, point) is None


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256", "ec-p384"])
def test_certificate(kind: str) -> None:
    pair = session_key(kind)  # type: ignore[arg-type]
    der = certificate(pair, "印章")
    facts = read_certificate(der)
    parsed = x509.load_der_x509_certificate(der)
    assert facts is not None
    assert facts.public_key.type is KeyType(kind)
    assert facts.public_key.spki == spki_of(pair.public_key())
    assert facts.subject == parsed.subject.public_bytes()
    assert facts.issuer == parsed.issuer.public_bytes()
    assert int.from_bytes(facts.serial[2:], "big") == parsed.serial_number
    assert not facts.is_ca


@pytest.mark.parametrize("ca", [True, False])
def test_authority(ca: bool) -> None:
    key = new_key("ec-p256")
    leaf = x509.load_der_x509_certificate(certificate(key))
    built = (
        x509.CertificateBuilder(leaf.issuer, leaf.subject, leaf.public_key(), 1)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    facts = read_certificate(built.public_bytes(serialization.Encoding.DER))
    assert facts is not None
    assert facts.is_ca is ca


def test_certificate_of_an_algorithm_the_contract_does_not_know() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    leaf = x509.load_der_x509_certificate(certificate(session_key("ec-p256")))
    built = (
        x509.CertificateBuilder(leaf.issuer, leaf.subject, key.public_key(), 1)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .sign(key, None)
    )
    facts = read_certificate(built.public_bytes(serialization.Encoding.DER))
    assert facts is not None
    assert (facts.public_key.type, facts.public_key.bits) == (KeyType.OTHER, 0)


@given(st.binary(max_size=300))
def test_any_octets_are_no_certificate(octets: bytes) -> None:
    assert read_certificate(octets) is None
    assert read_spki(octets) is None


DER = certificate(session_key("ec-p256"))


@given(st.integers(0, len(DER) - 1), st.integers(1, 255))
def test_damaged_certificate_raises_nothing(position: int, change: int) -> None:
    damaged = bytearray(DER)
    damaged[position] ^= change
    read_certificate(bytes(damaged))


@pytest.mark.parametrize(
    "octets",
    [
        DER[:-1],
        DER + b"\0",
        b"\x30\x80" + DER[4:] + b"\0\0",
        b"\x30\x84\0\0" + DER[2:],
        b"\x31" + DER[1:],
        os.urandom(9),
    ],
    ids=["truncated", "tail", "indefinite", "long length", "SET", "random"],
)
def test_outer_structure_is_der(octets: bytes) -> None:
    assert read_certificate(octets) is None
