"""Random and damaged octets: every parser of sealagent.pki ends with a value or with its one named error."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from sealagent.errors import FormatError
from sealagent.pki import oids
from sealagent.pki.certificates import Certificate, load_certificates
from sealagent.pki.keys import load_public_key
from sealagent.pki.path import PathStatus, validate_path
from sealagent.pki.signatures import SignatureAlgorithm, algorithm, parse_algorithm, rsa_pss, verify, verify_digest
from sealagent.pki.sm2 import SM2PublicKey
from sealagent.pki.trust import TrustStore
from sealdrivers import sm2
from sealdrivers.sm2 import N, P

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CA_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
SM2_KEY = SM2PublicKey.from_point(
    bytes.fromhex(
        "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
        "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
    )
)


def name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "CN"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common),
        ]
    )


def certificate(common: str, ca: bool) -> bytes:
    key = CA_KEY if ca else RSA_KEY
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key())
    signed = (
        x509.CertificateBuilder()
        .subject_name(name(common))
        .issuer_name(name("CA"))
        .public_key(key.public_key())
        .serial_number(1000 + ca)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca, None), True)
        .add_extension(x509.KeyUsage(*[not ca, *[False] * 4, ca, ca, False, False]), True)
        .add_extension(authority, False)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name("a@b.cn"), x509.DirectoryName(name("x"))]), False)
        .sign(CA_KEY, hashes.SHA256())
    )
    return signed.public_bytes(Encoding.DER)


CA = Certificate.from_der(certificate("CA", True))
LEAF = certificate("甲乙", False)
TRUST = TrustStore((CA,))


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """Change, cut, repeat or insert a few octets."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                data[at:at] = draw(st.binary(max_size=8))
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case 4:
                data[at : at + 2] = draw(st.sampled_from([b"\x30\x80", b"\x30\x84", b"\xff\xff", b"\x24\x80", b"\0\0"]))
    return bytes(data)


def read(data: bytes) -> Certificate | None:
    try:
        return Certificate.from_der(data)
    except FormatError as error:
        if error.code != "certificate_invalid":
            raise
        return None


@given(st.binary(max_size=2000))
def test_random_octets_are_no_certificate(data: bytes) -> None:
    assert read(data) is None
    with pytest.raises(FormatError) as caught:
        load_certificates(data)
    assert caught.value.code == "certificate_invalid"


@settings(max_examples=600, deadline=2000)
@given(damaged(LEAF))
def test_a_damaged_certificate_is_refused_or_leads_nowhere(data: bytes) -> None:
    found = read(data)
    if found is None:
        return
    assert str(found)
    assert found.facts().as_json()["sha256"] == found.sha256
    result = validate_path(found, [CA], TRUST, NOW)
    if result.status is PathStatus.trusted:  # the change did not touch what is signed
        assert found.is_issued_by(CA)
        assert found.fields.tbs == Certificate.from_der(LEAF).fields.tbs


@settings(max_examples=200, deadline=2000)
@given(damaged(CA.der))
def test_a_damaged_intermediate_or_anchor_never_escapes(data: bytes) -> None:
    found = read(data)
    if found is not None:
        leaf = Certificate.from_der(LEAF)
        validate_path(leaf, [found], TRUST, NOW)
        validate_path(leaf, [], TrustStore((found,)), NOW)


@given(st.binary(max_size=300))
def test_random_algorithm_identifiers_and_keys(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        parse_algorithm(data)
    with contextlib.suppress(FormatError):
        load_public_key(data)
    with contextlib.suppress(FormatError):
        SM2PublicKey.from_point(data)


KEYS = [
    load_public_key(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    for key in (CA_KEY, RSA_KEY)
] + [SM2_KEY]
ALGORITHMS = [
    algorithm(oids.SM2_WITH_SM3),
    algorithm(oids.SHA256_RSA),
    algorithm(oids.ECDSA_SHA384),
    rsa_pss("sha512"),
    rsa_pss("sm3", 7),
]
RSA_SIGNATURE = RSA_KEY.sign(b"m", PKCS1v15(), hashes.SHA256())
EC_SIGNATURE = CA_KEY.sign(b"m", ec.ECDSA(hashes.SHA384()))
SM2_SIGNATURE = bytes.fromhex(
    "3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
    "022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
)


@settings(max_examples=300, deadline=1000)
@given(
    st.sampled_from(KEYS),
    st.sampled_from(ALGORITHMS),
    st.one_of(st.binary(max_size=300), *(damaged(each) for each in (RSA_SIGNATURE, EC_SIGNATURE, SM2_SIGNATURE))),
    st.binary(max_size=70),
)
def test_no_signature_makes_verification_raise(
    key: SM2PublicKey | rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    chosen: SignatureAlgorithm,
    signature: bytes,
    digest: bytes,
) -> None:
    assert not verify(key, chosen, signature, b"another message").ok
    assert not verify_digest(key, chosen, signature, digest).ok


@settings(max_examples=150, deadline=1000)
@given(st.binary(min_size=32, max_size=32), st.integers(-2, N + 2), st.integers(-2, N + 2))
def test_libcrypto_and_python_agree(e: bytes, r: int, s: int) -> None:
    expected = 0 < r < N and 0 < s < N and sm2.verify(SM2_KEY.x, SM2_KEY.y, e, r, s)
    assert SM2_KEY.verify(e, r, s) == expected


@settings(max_examples=100, deadline=1000)
@given(st.integers(1, N - 1), st.integers(1, N - 1))
def test_libcrypto_and_python_agree_on_signatures_that_hold(s: int, t: int) -> None:
    """For any s and t there is an e that makes them a signature: both must accept it, and it alone."""
    r = (t - s) % N
    if r == 0:
        return
    e = digest_for(s, r)
    for offset in (0, 1):
        octets = ((e + offset) % N).to_bytes(32, "big")
        assert SM2_KEY.verify(octets, r, s) is sm2.verify(SM2_KEY.x, SM2_KEY.y, octets, r, s) is (offset == 0)


def digest_for(s: int, r: int) -> int:
    """Return e with which (r, s) verifies, by plain affine arithmetic."""
    t = (r + s) % N
    gx = 0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7
    gy = 0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0
    total = plus(times(s, (gx, gy)), times(t, (SM2_KEY.x, SM2_KEY.y)))
    assert total is not None
    return (r - total[0]) % N


Point = tuple[int, int] | None


def plus(first: Point, second: Point) -> Point:
    if first is None or second is None:
        return first or second
    (x1, y1), (x2, y2) = first, second
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, P) if first == second else (y2 - y1) * pow(x2 - x1, -1, P)
    x3 = (slope * slope - x1 - x2) % P
    return x3, (slope * (x1 - x3) - y1) % P


def times(factor: int, point: Point) -> Point:
    total: Point = None
    while factor:
        if factor & 1:
            total = plus(total, point)
        point, factor = plus(point, point), factor >> 1
    return total
