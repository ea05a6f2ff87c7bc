"""The registry of signature algorithms and verification by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pki_parts import EXAMPLE_SCALAR, der_integers, integers, openssl, sm2_key_file, sm2_sign, spki_of

from sample_seals import tlv
from sealagent.errors import FormatError
from sealagent.pki import oids
from sealagent.pki.digests import digest
from sealagent.pki.keys import PublicKey, dump_public_key, is_weak, load_public_key
from sealagent.pki.signatures import (
    SignatureAlgorithm,
    SignatureCheck,
    algorithm,
    default_algorithm,
    encode_algorithm,
    parse_algorithm,
    rsa_pss,
    signing_digest,
    verify,
    verify_digest,
)
from sealagent.verdict import NOTES

MESSAGE = b"a message"
SM2 = algorithm(oids.SM2_WITH_SM3)
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sm3": hashes.SM3(),
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEYS = {curve.name: ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}


@pytest.fixture(scope="module")
def sm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sm2_key_file(tmp_path_factory.mktemp("sm2"), EXAMPLE_SCALAR)


def ours(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> PublicKey:
    return load_public_key(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def pkcs1(_: hashes.HashAlgorithm) -> AsymmetricPadding:
    return PKCS1v15()


def pss(chosen: hashes.HashAlgorithm) -> AsymmetricPadding:
    return PSS(MGF1(chosen), chosen.digest_size)


# The registry


@pytest.mark.parametrize(
    ("oid", "kind", "name", "weak"),
    [
        ("1.2.156.10197.1.501", "sm2", "sm3", False),
        ("1.2.156.10197.1.301.1", "sm2", "sm3", False),
        ("1.2.156.10197.1.504", "rsa-pkcs1", "sm3", False),
        ("1.2.156.10197.1.505", "rsa-pkcs1", "sha1", True),
        ("1.2.156.10197.1.506", "rsa-pkcs1", "sha256", False),
        ("1.2.840.113549.1.1.5", "rsa-pkcs1", "sha1", True),
        ("1.2.840.113549.1.1.11", "rsa-pkcs1", "sha256", False),
        ("1.2.840.113549.1.1.12", "rsa-pkcs1", "sha384", False),
        ("1.2.840.113549.1.1.13", "rsa-pkcs1", "sha512", False),
        ("1.2.840.10045.4.1", "ecdsa", "sha1", True),
        ("1.2.840.10045.4.3.2", "ecdsa", "sha256", False),
        ("1.2.840.10045.4.3.3", "ecdsa", "sha384", False),
        ("1.2.840.10045.4.3.4", "ecdsa", "sha512", False),
    ],
)
def test_every_identifier_of_the_standards(oid: str, kind: str, name: str, weak: bool) -> None:
    found = algorithm(oid)
    assert (found.oid, found.kind, found.digest, found.weak) == (oid, kind, name, weak)
    assert parse_algorithm(encode_algorithm(found)) == found


@pytest.mark.parametrize(
    "oid", ["", "1.2.3", oids.RSA_PSS, oids.SM2_CURVE, oids.SM2_WITH_SHA1, oids.SM2_WITH_SHA256, oids.RSA_KEY, "x"]
)
def test_other_identifiers_are_not_supported(oid: str) -> None:
    with pytest.raises(FormatError) as caught:
        algorithm(oid)
    assert caught.value.code == "algorithm_not_supported"


def test_the_default_matches_the_key(sm2: Path) -> None:
    assert default_algorithm(load_public_key(spki_of(sm2))).oid == oids.SM2_WITH_SM3
    assert default_algorithm(ours(RSA_KEY)).oid == oids.SHA256_RSA
    assert [default_algorithm(ours(key)).digest for key in EC_KEYS.values()] == ["sha256", "sha384", "sha512"]


@pytest.mark.parametrize("parameters", [b"", b"\x05\x00"], ids=["absent", "null"])
@pytest.mark.parametrize("oid", ["06082a811ccf55018375", "06092a811ccf5501822d01"])
def test_sm2_identifiers_are_read_with_parameters_absent_or_null(oid: str, parameters: bytes) -> None:
    assert parse_algorithm(tlv(0x30, bytes.fromhex(oid), parameters)).kind == "sm2"


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30\x00",
        b"\x05\x00",
        tlv(0x30, bytes.fromhex("06082a811ccf55018375"), tlv(0x04, b"id")),
        tlv(0x30, bytes.fromhex("06082a811ccf55018375")) + b"\0",
        tlv(0x30, bytes.fromhex("06092a864886f70d01010a")),
        tlv(0x30, bytes.fromhex("06092a864886f70d01010a"), b"\x30\x80\0\0"),
        tlv(0x30, tlv(0x06, b"\xff" * 100_000)),
        b"\x30\x84\xff\xff\xff\xff",
    ],
)
def test_other_identifiers_and_parameters_are_not_supported(der: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        parse_algorithm(der)
    assert caught.value.code == "algorithm_not_supported"


def test_pss_parameters_are_read_by_their_defaults() -> None:
    empty = parse_algorithm(tlv(0x30, bytes.fromhex("06092a864886f70d01010a"), tlv(0x30)))
    assert (empty.digest, empty.salt_length, empty.weak) == ("sha1", 20, True)  # RFC 4055 3.1


def test_pss_with_another_digest_in_mgf1_is_not_supported() -> None:
    right = encode_algorithm(rsa_pss("sha256"))
    sha256, sha512 = (bytes.fromhex(f"608648016503040{each}") for each in ("201", "203"))
    at = right.rindex(sha256)
    with pytest.raises(FormatError):
        parse_algorithm(right[:at] + sha512 + right[at + len(sha512) :])


@pytest.mark.parametrize("salt", [b"\xff", b"\x10\x00", b"\x7f" + bytes(15), b""])
def test_salts_that_fit_no_key_are_not_supported(salt: bytes) -> None:
    """A large one would overflow the number OpenSSL takes."""
    with pytest.raises(FormatError):
        parse_algorithm(tlv(0x30, bytes.fromhex("06092a864886f70d01010a"), tlv(0x30, tlv(0xA2, tlv(0x02, salt)))))


# RSA and ECDSA, made by cryptography


@pytest.mark.parametrize("name", list(HASHES))
@pytest.mark.parametrize(("make", "padding"), [("pkcs1", pkcs1), ("pss", pss)])
def test_rsa(name: str, make: str, padding: Callable[[hashes.HashAlgorithm], AsymmetricPadding]) -> None:
    chosen = HASHES[name]
    found = rsa_pss(name) if make == "pss" else SignatureAlgorithm("-", "-", "rsa-pkcs1", name, False)
    other = SignatureAlgorithm("-", "-", "rsa-pkcs1", name, False) if make == "pss" else rsa_pss(name)
    value = RSA_KEY.sign(MESSAGE, padding(chosen), chosen)
    key = ours(RSA_KEY)
    assert verify(key, found, value, MESSAGE) == SignatureCheck(True)
    assert verify_digest(key, found, value, digest(name, MESSAGE)).ok
    assert not verify(key, other, value, MESSAGE).ok
    assert not verify(key, found, value, MESSAGE + b".").ok
    for bad in (value[:-1], value + b"\0", bytes(256), b"", bytes([value[0] ^ 1]) + value[1:], b"\xff" * 256):
        assert verify(key, found, bad, MESSAGE) == SignatureCheck(False)


def test_pss_demands_its_salt_length() -> None:
    value = RSA_KEY.sign(MESSAGE, PSS(MGF1(hashes.SHA256()), 20), hashes.SHA256())
    assert verify(ours(RSA_KEY), rsa_pss("sha256", 20), value, MESSAGE).ok
    assert not verify(ours(RSA_KEY), rsa_pss("sha256"), value, MESSAGE).ok
    assert not verify(ours(RSA_KEY), rsa_pss("sha256", 10_000), value, MESSAGE).ok


@pytest.mark.parametrize("curve", list(EC_KEYS))
@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512", "sha1"])
def test_ecdsa(curve: str, name: str) -> None:
    found = SignatureAlgorithm("-", "-", "ecdsa", name, False)
    value = EC_KEYS[curve].sign(MESSAGE, ec.ECDSA(HASHES[name]))
    key = ours(EC_KEYS[curve])
    assert verify(key, found, value, MESSAGE) == SignatureCheck(True)
    assert not verify(key, found, value, b"").ok
    for bad in (value[:-1], value + b"\0", b"", b"\x30\x00", der_integers(0, 0), bytes(64)):
        assert verify(key, found, bad, MESSAGE) == SignatureCheck(False)


def test_a_key_of_another_kind_is_a_wrong_signature(sm2: Path) -> None:
    keys = [load_public_key(spki_of(sm2)), ours(RSA_KEY), ours(EC_KEYS["secp256r1"])]
    algorithms = [SM2, algorithm(oids.SHA256_RSA), rsa_pss("sha256"), algorithm(oids.ECDSA_SHA256)]
    value = sm2_sign(sm2, MESSAGE)
    right = [(key, each) for key in keys for each in algorithms if verify(key, each, value, MESSAGE).ok]
    assert right == [(keys[0], SM2)]


def test_a_digest_of_another_length_is_a_wrong_signature(sm2: Path) -> None:
    value = RSA_KEY.sign(MESSAGE, PKCS1v15(), hashes.SHA256())
    for bad in (b"", bytes(20), bytes(64)):
        assert not verify_digest(ours(RSA_KEY), algorithm(oids.SHA256_RSA), value, bad).ok
        assert not verify_digest(load_public_key(spki_of(sm2)), SM2, sm2_sign(sm2, MESSAGE), bad).ok


def test_keys_that_are_too_short(sm2: Path) -> None:
    assert is_weak(ours(rsa.generate_private_key(65537, 1024)))
    assert is_weak(ours(ec.generate_private_key(ec.SECP192R1())))
    assert not any(map(is_weak, [load_public_key(spki_of(sm2)), ours(RSA_KEY), *map(ours, EC_KEYS.values())]))


# SM2, made by openssl


def test_sm2_forms_and_their_quirks(sm2: Path) -> None:
    key = load_public_key(spki_of(sm2))
    value = sm2_sign(sm2, MESSAGE)
    r, s = integers(value)
    wide = [tlv(0x02, b"\0\0", each.to_bytes(32, "big")) for each in (r, s)]
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    long_form = b"\x30\x81" + value[1:]
    for form, quirks in [
        (value, ()),
        (raw, ("quirk_raw_signature",)),
        (tlv(0x30, *wide), ("quirk_long_integer",)),
        (long_form, ("quirk_ber",)),
        (b"\x30\x82\x00" + value[1:], ("quirk_ber",)),
    ]:
        assert verify(key, SM2, form, MESSAGE) == SignatureCheck(True, quirks)
        assert not verify(key, SM2, form, MESSAGE + b"\0").ok
        assert set(quirks) <= set(NOTES)


def test_sm2_signing_digest_is_e_with_the_default_id(sm2: Path, tmp_path: Path) -> None:
    key = load_public_key(spki_of(sm2))
    e = signing_digest(key, SM2, MESSAGE)
    source = tmp_path / "e"
    source.write_bytes(e)
    by_token = openssl("pkeyutl", "-sign", "-inkey", sm2, "-in", source)  # openssl signs e as it is, as a token does
    assert verify(key, SM2, by_token, MESSAGE).ok
    assert verify_digest(key, SM2, by_token, e).ok
    assert signing_digest(ours(RSA_KEY), algorithm(oids.SHA256_RSA), MESSAGE) == digest("sha256", MESSAGE)


def test_sm2_with_another_id_is_wrong(sm2: Path) -> None:
    assert not verify(load_public_key(spki_of(sm2)), SM2, sm2_sign(sm2, MESSAGE, "distid:other"), MESSAGE).ok


def test_plain_ecdsa_on_the_sm2_curve_is_no_sm2_signature(sm2: Path, tmp_path: Path) -> None:
    """SoftHSM signs so with a key on the SM2 curve; computed here with the numbers of the published example."""
    n = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
    k = 0x59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21
    key = load_public_key(spki_of(sm2))
    e = int.from_bytes(signing_digest(key, SM2, b"message digest"), "big")
    r = (0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3 - e) % n  # x of kG
    s = pow(k, -1, n) * (e + r * EXAMPLE_SCALAR) % n
    assert not verify(key, SM2, der_integers(r, s), b"message digest").ok


def test_damaged_sm2_signatures_are_wrong_and_nothing_else(sm2: Path) -> None:
    key = load_public_key(spki_of(sm2))
    value = sm2_sign(sm2, MESSAGE)
    r, s = integers(value)
    one, two = tlv(0x02, r.to_bytes(33, "big")), tlv(0x02, s.to_bytes(33, "big"))
    damaged = [
        b"",
        b"\x30",
        b"\x30\x81",
        b"\x30\x80" + one + two + b"\0\0",
        tlv(0x31, one, two),
        tlv(0x30, one),
        tlv(0x30, one, two, two),
        tlv(0x30, one, two, b"\0"),
        value + b"\0",
        b"\0" + value,
        value[:-1],
        tlv(0x30, tlv(0x02), tlv(0x02)),
        tlv(0x30, tlv(0x02, b"\xff"), two),
        tlv(0x30, one, tlv(0x04, s.to_bytes(33, "big"))),
        tlv(0x30, tlv(0x02, bytes(300), r.to_bytes(32, "big")), two),
        der_integers(s, r),
        bytes(64),
        b"\xff" * 64,
        s.to_bytes(32, "big") + r.to_bytes(32, "big"),
        bytes(100_000),
        *(value[:index] + bytes([value[index] ^ 0x10]) + value[index + 1 :] for index in range(len(value))),
    ]
    assert not any(verify(key, SM2, each, MESSAGE).ok for each in damaged)


# Keys


def test_keys_are_read_and_written_octet_for_octet(sm2: Path) -> None:
    publics: list[rsa.RSAPublicKey | ec.EllipticCurvePublicKey] = [
        RSA_KEY.public_key(),
        *(key.public_key() for key in EC_KEYS.values()),
    ]
    others = [key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in publics]
    for spki in (spki_of(sm2), *others):
        assert dump_public_key(load_public_key(spki)) == spki
        assert load_public_key(spki) is load_public_key(bytes(bytearray(spki)))


def test_other_keys_are_refused(sm2: Path) -> None:
    spki = spki_of(sm2)
    ed = ed25519.Ed25519PrivateKey.generate().public_key()
    for bad in (
        b"",
        b"\x30\x00",
        spki[:-1],
        spki + b"\0",
        spki[:-1] + bytes([spki[-1] ^ 1]),
        bytes(10_000),
        ed.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        openssl("ec", "-in", sm2, "-pubout", "-outform", "DER", "-param_enc", "explicit"),
        rsa_spki((1 << 8200) + 1),
    ):
        with pytest.raises(FormatError) as caught:
            load_public_key(bad)
        assert caught.value.code == "public_key_invalid"


def rsa_spki(modulus: int) -> bytes:
    numbers = rsa.RSAPublicNumbers(65537, modulus)
    body = tlv(
        0x30,
        tlv(0x02, numbers.n.to_bytes(numbers.n.bit_length() // 8 + 1, "big")),
        tlv(0x02, numbers.e.to_bytes(3, "big")),
    )
    return tlv(0x30, bytes.fromhex("300d06092a864886f70d0101010500"), tlv(0x03, b"\0", body))
