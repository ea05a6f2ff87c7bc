"""X.509 certificates: what is read, which quirks are survived, what is refused, and who issued whom."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import algos, keys
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pki_parts import ECDSA_SHA256, NOW, Issued, SM2Authority, issue, odd_certificate, openssl, sm2_certificate

from sample_seals import DISTID, tlv
from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki import asn1, oids
from sealagent.pki.certificates import MAX_BUNDLE_OCTETS, MAX_CERTIFICATE_OCTETS, Certificate, load_certificates
from sealagent.pki.csr import pem
from sealagent.pki.sm2 import SM2PublicKey

KEY = ec.generate_private_key(ec.SECP256R1())
CA_EXTENSIONS = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign"
LEAF_EXTENSIONS = "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature"


@pytest.fixture(scope="module")
def sm2_root(tmp_path_factory: pytest.TempPathFactory) -> SM2Authority:
    return sm2_certificate(tmp_path_factory.mktemp("sm2-root"), "Root", CA_EXTENSIONS)


def name(*pairs: tuple[str, int, bytes]) -> bytes:
    """Return a Name with one attribute in each RDN: OID's DER content (hexadecimal), string tag, octets."""
    return tlv(
        0x30,
        *(tlv(0x31, tlv(0x30, tlv(0x06, bytes.fromhex(oid)), tlv(tag, value))) for oid, tag, value in pairs),
    )


def refused(der: bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        Certificate.from_der(der)
    assert caught.value.code == "certificate_invalid"
    return caught.value


# What is read


def test_the_facts_of_a_certificate_equal_what_openssl_shows(sm2_root: SM2Authority) -> None:
    found = sm2_root.certificate

    def shown(option: str) -> str:
        return openssl("x509", "-in", sm2_root.file, "-noout", option, "-nameopt", "RFC2253").decode().split("=", 1)[1]

    assert found.subject == shown("-subject").strip() == "CN=Root"
    assert found.issuer == "CN=Root"
    assert found.serial == shown("-serial").strip().lower().lstrip("0")
    assert found.not_after.strftime("%b %e %H:%M:%S %Y GMT") == shown("-enddate").strip()
    fingerprint = openssl("x509", "-in", sm2_root.file, "-noout", "-fingerprint", "-sha256").decode()
    assert found.sha256 == fingerprint.split("=")[1].strip().replace(":", "").lower()
    public = openssl("x509", "-in", sm2_root.file, "-noout", "-pubkey")
    assert found.spki == openssl("pkey", "-pubin", "-outform", "DER", stdin=public)
    assert isinstance(found.public_key, SM2PublicKey)
    assert found.quirks == ()
    facts = found.facts()
    assert (facts.subject, facts.serial, facts.not_before) == (found.subject, found.serial, found.not_before)


@pytest.mark.parametrize(
    ("ca", "usage", "may_sign", "may_certify"),
    [
        (None, frozenset[str](), True, False),
        (False, frozenset[str](), True, False),
        (True, frozenset[str](), True, True),
        (True, frozenset({"key_cert_sign"}), False, True),
        (True, frozenset({"digital_signature"}), True, False),
        (False, frozenset({"digital_signature"}), True, False),
        (False, frozenset({"content_commitment"}), True, False),
        (False, frozenset({"key_encipherment"}), False, False),
        (None, frozenset({"key_agreement"}), False, False),
    ],
)
def test_what_a_certificate_may_do(ca: bool | None, usage: frozenset[str], may_sign: bool, may_certify: bool) -> None:
    found = issue("Someone", ca=ca, usage=usage).certificate
    assert (found.is_ca, found.may_sign, found.may_sign_certificates) == (ca is True, may_sign, may_certify)


def test_validity_includes_both_ends() -> None:
    found = issue("Someone").certificate
    second = timedelta(seconds=1)
    assert found.valid_at(found.not_before)
    assert found.valid_at(found.not_after)
    assert not found.valid_at(found.not_before - second)
    assert not found.valid_at(found.not_after + second)


def test_certificates_are_equal_by_their_octets_only() -> None:
    first, second = issue("Same", key=KEY).certificate, issue("Same", key=KEY).certificate
    assert first == Certificate.from_der(bytes(bytearray(first.der)))
    assert first != second
    assert len({first, second, Certificate.from_der(first.der)}) == 2


def test_names_are_shown_by_rfc_4514() -> None:
    subject = name(
        ("550406", 0x13, b"CN"),
        ("55040a", 0x0C, '某某公司, "甲"'.encode()),
        ("55040b", 0x1E, "部门".encode("utf-16-be")),
        ("550403", 0x0C, b" #a+b\x07 "),
        ("2a0304", 0x04, b"\x01\x02"),
    )
    found = Certificate.from_der(odd_certificate(KEY, subject=subject))
    assert found.subject == '1.2.3.4=#04020102,CN=\\ #a\\+b\\07\\ ,OU=部门,O=某某公司\\, \\"甲\\",C=CN'


def test_names_match_whatever_their_string_type_and_case() -> None:
    printable = name(("550403", 0x13, b"Test  CA"))
    utf8 = name(("550403", 0x0C, b"test ca"))
    upper = Certificate.from_der(odd_certificate(KEY, issuer=printable, subject=printable))
    lower = Certificate.from_der(odd_certificate(KEY, issuer=utf8, subject=name(("550403", 0x0C, b"x"))))
    assert lower.names_issuer(upper)
    assert lower.is_issued_by(upper)
    assert not upper.is_issued_by(lower)


def test_names_of_other_shape_do_not_match() -> None:
    joined = name(("550403", 0x13, b"a"), ("55040a", 0x13, b"b"))
    for other in (
        name(("55040a", 0x13, b"b"), ("550403", 0x13, b"a")),
        name(("550403", 0x13, b"a")),
        name(("550403", 0x13, b"a b")),
        name(("550403", 0x13, b"a\x00O\x02b")),
        name(("550403", 0x13, b"a,O=b")),
        name(("550403", 0x13, b"a"), ("55040a", 0x04, b"b")),
        name(),
    ):
        first = Certificate.from_der(odd_certificate(KEY, issuer=joined))
        assert not first.names_issuer(Certificate.from_der(odd_certificate(KEY, subject=other)))


# Quirks


def test_generalized_time_before_2050_is_read_and_noted() -> None:
    for times in (
        (tlv(0x18, b"20200101000000Z"), tlv(0x17, b"300101000000Z")),
        (tlv(0x18, b"20200101000000Z"), tlv(0x18, b"20300101000000Z")),
    ):
        found = Certificate.from_der(odd_certificate(KEY, times=times))
        assert found.quirks == ("quirk_cert_general_time",)
        assert found.not_before == datetime(2020, 1, 1, tzinfo=UTC)
        assert found.not_after == datetime(2030, 1, 1, tzinfo=UTC)
        assert found.is_issued_by(found)


def test_generalized_time_from_2050_is_right() -> None:
    times = (tlv(0x17, b"490101000000Z"), tlv(0x18, b"99991231235959Z"))
    found = Certificate.from_der(odd_certificate(KEY, times=times))
    assert found.quirks == ()
    assert (found.not_before.year, found.not_after.year) == (2049, 9999)


def test_critical_false_written_out_does_not_change_the_signed_octets() -> None:
    usage = tlv(0x30, bytes.fromhex("0603551d0f"), b"\x01\x01\x00", tlv(0x04, bytes.fromhex("03020780")))
    found = Certificate.from_der(odd_certificate(KEY, extensions=(usage,)))
    assert found.is_issued_by(found)
    assert found.may_sign


def test_lengths_written_too_long_are_read_over_the_received_octets() -> None:
    der = odd_certificate(KEY)
    assert der[1] == 0x82
    long_outer = b"\x30\x83\x00" + der[2:]
    found = Certificate.from_der(long_outer)
    assert found.quirks == ("quirk_ber",)
    assert found.is_issued_by(found)
    assert found != Certificate.from_der(der)


def test_text_outside_its_type_is_shown_and_noted() -> None:
    found = Certificate.from_der(odd_certificate(KEY, subject=name(("550403", 0x13, "公司".encode("gbk")))))
    assert found.subject == "CN=公司"
    assert found.quirks == ("quirk_text",)


def test_a_certificate_of_version_one_is_read() -> None:
    found = Certificate.from_der(odd_certificate(KEY, version=b""))
    assert found.may_sign
    assert not found.is_ca
    assert found.is_issued_by(found)


@pytest.mark.parametrize(("serial", "shown"), [(b"\0\xff", "ff"), (b"\x01" * 20, "01" * 19 + "01"), (b"\xff", "-1")])
def test_serials_are_hexadecimal_without_leading_zeros(serial: bytes, shown: str) -> None:
    assert Certificate.from_der(odd_certificate(KEY, serial=serial)).serial == shown.lstrip("0")


@pytest.mark.parametrize("parameters", [b"", b"\x05\x00"])
@pytest.mark.parametrize("inner_null", [False, True])
def test_sm2_certificates_with_parameters_absent_or_null(
    parameters: bytes, inner_null: bool, sm2_root: SM2Authority, tmp_path: Path
) -> None:
    leaf = sm2_certificate(tmp_path, "Leaf", LEAF_EXTENSIONS, sm2_root)
    oid = bytes.fromhex("06082a811ccf55018375")
    tbs, value = leaf.certificate.fields.tbs, leaf.certificate.fields.signature
    identifier = tlv(0x30, oid)
    assert identifier in tbs
    if inner_null:
        tbs = tlv(0x30, leaf_content(tbs).replace(identifier, tlv(0x30, oid, b"\x05\x00"), 1))
        source = tmp_path / "tbs"
        source.write_bytes(tbs)
        value = openssl(
            *("pkeyutl", "-sign", "-rawin", "-digest", "sm3", "-inkey", sm2_root.key),
            *("-pkeyopt", DISTID, "-in", source),
        )
    der = tlv(0x30, tbs, tlv(0x30, oid, parameters), tlv(0x03, b"\0", value))
    assert Certificate.from_der(der).is_issued_by(sm2_root.certificate)


def leaf_content(element: bytes) -> bytes:
    """Return the content of an element with a length of two octets."""
    assert element[1] == 0x82
    return element[4:]


# Who issued whom


def test_sm2_issue_uses_the_default_id(sm2_root: SM2Authority, tmp_path: Path) -> None:
    right = sm2_certificate(tmp_path, "Right", LEAF_EXTENSIONS, sm2_root).certificate
    wrong = sm2_certificate(tmp_path, "Wrong", LEAF_EXTENSIONS, sm2_root, distid="distid:other").certificate
    assert right.is_issued_by(sm2_root.certificate)
    assert not wrong.is_issued_by(sm2_root.certificate)
    assert not sm2_root.certificate.is_issued_by(right)


def test_issue_needs_name_and_key() -> None:
    root = issue("Root", ca=True)
    leaf = issue("Leaf", root)
    assert leaf.certificate.is_issued_by(root.certificate)
    assert not leaf.certificate.is_issued_by(issue("Root", ca=True).certificate)
    assert not leaf.certificate.is_issued_by(issue("Other", ca=True, key=root.key).certificate)


@pytest.mark.parametrize("index", range(4))
def test_a_flipped_bit_anywhere_breaks_the_issue(index: int) -> None:
    root = issue("Root", ca=True)
    der = issue("Leaf", root).certificate.der
    broken = 0
    for position in range(index, len(der), 4):
        changed = der[:position] + bytes([der[position] ^ 1]) + der[position + 1 :]
        try:
            found = Certificate.from_der(changed)
        except FormatError:
            continue
        broken += 1
        assert not found.is_issued_by(root.certificate)
    assert broken > 10


def test_an_algorithm_named_in_two_ways_proves_nothing() -> None:
    sha384 = bytes.fromhex("300a06082a8648ce3d040303")
    found = Certificate.from_der(odd_certificate(KEY, inner=sha384))
    assert found.algorithm is None
    assert not found.is_issued_by(found)


def test_an_unknown_algorithm_does_not_prevent_reading() -> None:
    unknown = tlv(0x30, bytes.fromhex("06032a0304"))
    found = Certificate.from_der(odd_certificate(KEY, inner=unknown, outer=unknown))
    assert found.algorithm is None
    assert not found.is_issued_by(found)
    assert Certificate.from_der(odd_certificate(KEY)).algorithm is not None


# What is refused


def wrapped(depth: int) -> bytes:
    der = b""
    for _ in range(depth):
        der = tlv(0x30, der)
    return der


def extension(oid: str, value: bytes, critical: bytes = b"") -> bytes:
    return tlv(0x30, tlv(0x06, bytes.fromhex(oid)), critical, tlv(0x04, value))


BASIC = extension("551d13", tlv(0x30, b"\x01\x01\xff"))
GOOD = odd_certificate(KEY)
ED25519 = ed25519.Ed25519PrivateKey.generate().public_key()


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        b"\x30\x80" + GOOD[4:] + b"\0\0",
        b"\x30\x84\xff\xff\xff\xff" + GOOD[4:],
        b"\x30\x88" + b"\xff" * 8,
        b"\x30\x84\x00",
        b"\x1f\x81\x81\x81",
        GOOD[:-1],
        GOOD + b"\0",
        GOOD[1:],
        GOOD * 2,
        b"-----BEGIN CERTIFICATE-----",
        tlv(0x30, tlv(0x30), tlv(0x30), tlv(0x03, b"\0")),
        tlv(0x30, tlv(0x30), tlv(0x30), tlv(0x03)),
        odd_certificate(KEY, times=(tlv(0x17, b"200101000000Z"), tlv(0x17, b"209901000000Z"))),
        odd_certificate(KEY, times=(tlv(0x17, b""), tlv(0x17, b"300101000000Z"))),
        odd_certificate(KEY, times=(tlv(0x18, b"00000101000000Z"), tlv(0x17, b"300101000000Z"))),
        odd_certificate(KEY, times=(tlv(0x18, b"20200101000000"), tlv(0x17, b"300101000000Z"))),
        odd_certificate(KEY, times=(tlv(0x04, b"200101000000Z"), tlv(0x17, b"300101000000Z"))),
        odd_certificate(KEY, spki=bytes.fromhex("30003000")),
        odd_certificate(KEY, spki=b"\x30\x00"),
        odd_certificate(KEY, spki=ED25519.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        odd_certificate(KEY, subject=tlv(0x30, tlv(0x30))),
        odd_certificate(KEY, subject=tlv(0x30, tlv(0x31))),
        odd_certificate(KEY, subject=name(("550403", 0x0C, b"a" * 9000))),
        odd_certificate(KEY, subject=tlv(0x30, tlv(0x31, tlv(0x30, tlv(0x06, b"\xff" * 5000), tlv(0x0C))))),
        odd_certificate(KEY, extensions=(BASIC, BASIC)),
        odd_certificate(KEY, extensions=(extension("551d13", b""),)),
        odd_certificate(KEY, extensions=(extension("551d13", b"\x30\x80"),)),
        odd_certificate(KEY, extensions=(extension("551d13", wrapped(40)),)),
        odd_certificate(KEY, extensions=(extension("551d0f", b"\x04\x01\xff"),)),
        odd_certificate(KEY, extensions=(b"\x05\x00",)),
        odd_certificate(KEY, extensions=(wrapped(60),)),
        wrapped(20_000),
        tlv(0x30, *[b"\x05\x00"] * 30_000),
        tlv(0x30, b"\x24\x80"),
        tlv(0x30, tlv(0x24, tlv(0x04, b"x"))),
    ],
)  # fmt: skip
def test_hostile_octets_are_refused_by_name_and_quickly(der: bytes) -> None:
    started = time.perf_counter()
    refused(der)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "extensions",
    [
        (extension("551d0f", b"\x03\x00"),),  # no count of unused bits
        (extension("551d0f", b"\x03\x01\x01"),),  # unused bits of nothing
        (extension("551d0f", b"\x03\x02\x08\x80"),),
        (extension("551d13", tlv(0x30, b"\x01\x01\xff", b"\x02\x01\x00", b"\x02\x01\x00")),),
        (extension("551d13", tlv(0x30, b"\x02\x01\x00", b"\x01\x01\xff")),),
        (tlv(0x30, bytes.fromhex("0603551d13"), b"\x01\x01\xff", tlv(0x04), tlv(0x04)),),
        (tlv(0x30, tlv(0x04), bytes.fromhex("0603551d13")),),
        (extension("551d25", tlv(0x31)),),
        (extension("551d25", tlv(0x30, tlv(0x02, b"\1"))),),
        (extension("551d25", tlv(0x30, bytes.fromhex("06032a0304") * 65)),),
    ],
)
def test_malformed_extensions_that_are_judged(extensions: tuple[bytes, ...]) -> None:
    refused(odd_certificate(KEY, extensions=extensions))


def test_unused_bits_of_key_usage_mean_nothing() -> None:
    found = Certificate.from_der(odd_certificate(KEY, extensions=(extension("551d0f", b"\x03\x02\x07\xff"),)))
    assert found.fields.key_usage == {"digital_signature"}
    everything = Certificate.from_der(odd_certificate(KEY, extensions=(extension("551d0f", b"\x03\x03\x00\xff\xff"),)))
    assert everything.fields.key_usage == {
        "digital_signature", "non_repudiation", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    }  # fmt: skip
    none = Certificate.from_der(odd_certificate(KEY, extensions=(extension("551d0f", b"\x03\x01\x00"),)))
    assert none.fields.key_usage == frozenset()
    assert not none.may_sign


@pytest.mark.parametrize(
    ("written", "purposes", "critical"),
    [
        ("extendedKeyUsage=critical,timeStamping", (oids.KP_TIME_STAMPING,), True),
        ("extendedKeyUsage=timeStamping,1.2.3.4", (oids.KP_TIME_STAMPING, "1.2.3.4"), False),
        ("keyUsage=digitalSignature", None, False),
    ],
)  # fmt: skip
def test_extended_key_usage(tmp_path: Path, written: str, purposes: tuple[str, ...] | None, critical: bool) -> None:
    fields = sm2_certificate(tmp_path, "Purposes", written).certificate.fields
    assert (fields.extended_key_usage, fields.extended_key_usage_critical) == (purposes, critical)


def test_extended_key_usage_as_it_is_written() -> None:
    """An empty list breaks RFC 5280 and allows nothing; critical FALSE written out is not critical."""
    purpose = bytes.fromhex("06032a0304")
    plain = tlv(0x30, bytes.fromhex("0603551d25"), b"\x01\x01\x00", tlv(0x04, tlv(0x30, purpose)))
    for extensions, expected in (((extension("551d25", tlv(0x30)),), ()), ((plain,), ("1.2.3.4",))):
        fields = Certificate.from_der(odd_certificate(KEY, extensions=extensions)).fields
        assert (fields.extended_key_usage, fields.extended_key_usage_critical) == (expected, False)


def test_unique_identifiers_are_passed_over_and_other_fields_refused() -> None:
    basic = tlv(0xA3, tlv(0x30, BASIC))

    def with_fields(*fields: bytes) -> bytes:
        spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return odd_certificate(KEY, spki=spki + b"".join(fields))

    assert Certificate.from_der(with_fields(b"\x81\x02\0\1", b"\x82\x02\0\1", basic)).is_ca
    for fields in ((basic, basic), (basic, b"\x82\x02\0\1"), (b"\x05\x00",), (tlv(0xA3),), (tlv(0xA3, b"\x05\x00"),)):
        refused(with_fields(*fields))


def test_a_defect_of_ours_is_not_reported_as_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise NameError("a slip of the programmer")

    monkeypatch.setattr(asn1, "_name", broken)
    with pytest.raises(NameError):
        Certificate.from_der(odd_certificate(KEY, serial=b"\x77"))


def test_the_size_limit_is_named() -> None:
    error = refused(bytes(MAX_CERTIFICATE_OCTETS + 1))
    assert isinstance(error, LimitExceeded)
    assert str(MAX_CERTIFICATE_OCTETS) in error.message
    assert not isinstance(refused(bytes(MAX_CERTIFICATE_OCTETS)), LimitExceeded)


def test_a_certificate_filled_to_the_limits_is_read_quickly() -> None:
    filler = [extension(f"2a03{index >> 7 | 0x90:02x}{index & 0x7F:02x}", b"\x05\x00") for index in range(1500)]
    subject = name(*[("550403", 0x0C, "ﷺ".encode() * 20)] * 100)
    started = time.perf_counter()
    found = Certificate.from_der(odd_certificate(KEY, subject=subject, extensions=tuple(filler)))
    assert time.perf_counter() - started < 1
    assert len(found.der) > 20_000


# Files


def test_pem_with_several_certificates_and_other_blocks() -> None:
    certificates = [issue(f"C{index}").certificate for index in range(3)]
    text = "words before\n" + "\n".join(
        pem("CERTIFICATE", each.der) + pem("EC PARAMETERS", b"\x05\x00") for each in certificates
    )
    assert load_certificates(text.encode()) == certificates
    assert load_certificates(text.replace("\n", "\r\n").encode()) == certificates
    assert load_certificates(certificates[0].der) == certificates[:1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no certificate",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n",
        b"-----BEGIN CERTIFICATE-----\nM!IB\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMIIB=\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----" * 100_000,
        bytes(MAX_BUNDLE_OCTETS + 1),
    ],
)
def test_text_without_whole_certificates_is_refused(data: bytes) -> None:
    started = time.perf_counter()
    with pytest.raises(FormatError) as caught:
        load_certificates(data)
    assert caught.value.code == "certificate_invalid"
    assert time.perf_counter() - started < 1


def test_asn1crypto_knows_the_chinese_identifiers_and_still_its_own() -> None:
    before = dict(algos.SignedDigestAlgorithmId._map)
    asn1._register_oids()
    assert algos.SignedDigestAlgorithmId._map == before
    for table, known, oid in [
        (algos.SignedDigestAlgorithmId, "sm3_sm2", oids.SM2_WITH_SM3),
        (algos.SignedDigestAlgorithmId, "sha1_rsa", oids.SHA1_RSA),  # has three identifiers: the common one is written
        (algos.DigestAlgorithmId, "sm3", oids.SM3),
        (algos.DigestAlgorithmId, "sha256", oids.SHA256),
        (keys.NamedCurve, "sm2p256v1", oids.SM2_CURVE),
        (keys.NamedCurve, "secp256r1", oids.P256),
    ]:
        assert table(known).dotted == oid
        assert table(oid).native == known


def test_the_test_parts_themselves_are_sound() -> None:
    """Guards the refusals above: the unchanged odd certificate is accepted, by openssl too."""
    found = Certificate.from_der(odd_certificate(KEY, extensions=(BASIC,)))
    assert found.is_ca
    assert found.algorithm is not None
    assert found.algorithm.oid == oids.ECDSA_SHA256
    assert ECDSA_SHA256 in found.der
    assert openssl("x509", "-inform", "DER", "-noout", "-subject", stdin=found.der) == b"subject=CN = Test\n"
    assert isinstance(issue("x", ca=True), Issued)
    assert NOW.tzinfo is UTC
