"""The seals and bare seal signatures of the interoperability vectors end with exactly the verdicts of their README."""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pytest

from sample_parties import noted
from sealagent.pki.certificates import Certificate
from sealagent.pki.digests import digest
from sealagent.pki.sm2 import SM2PublicKey
from sealagent.pki.trust import TrustStore
from sealagent.seals.model import Seal
from sealagent.seals.parse import parse_seal, parse_signature, sniff
from sealagent.seals.verify import Policy, Rule, judge_seal, judge_signature, seal_signature_ok, signed_octets
from sealagent.verdict import SignatureReport

pytestmark = pytest.mark.vectors

SEALS = ["UserV1.esl", "UserV4.esl", "UserV5.esl", "UserV5_ts.esl"]
SIGNATURES = ["SignedValueV4.dat", "SignedValueV5.dat"]
PATH = "/Doc_0/Signs/Sign_0/Signature.xml"
NO_TRUST = TrustStore(())


def on(year: int, month: int = 1, day: int = 1, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def reasons(report: SignatureReport) -> list[str]:
    return [reason.code for reason in report.reasons]


def notes(report: SignatureReport) -> list[str]:
    return noted(report)


@pytest.fixture(scope="module")
def pins(vectors: Path) -> TrustStore:
    """The maker's and the signer's test certificates, pinned."""
    seal = parse_seal((vectors / "UserV4.esl").read_bytes())
    return TrustStore(
        (Certificate.from_der(seal.maker_certificate), Certificate.from_der(seal.certificates[0])), "test pins"
    )


@pytest.fixture(scope="module")
def root(vectors: Path) -> TrustStore:
    """ROOT.p12's certificate, which is no CA certificate, as the anchor."""
    command = ["openssl", "pkcs12", "-legacy", "-in", str(vectors / "ROOT.p12"), "-nokeys", "-passin", "pass:123456"]
    pem = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    der = subprocess.run(
        ["openssl", "x509", "-outform", "DER"], input=pem, capture_output=True, check=True, timeout=60
    ).stdout
    return TrustStore((Certificate.from_der(der),), "root")


@pytest.mark.parametrize(
    ("name", "version", "es_id", "vendor", "kind", "start", "end"),
    [
        ("UserV1.esl", 1, "40C8CDD24DEF43388B86E62CCE1D6832", "OFDR&WTest", 1, "200422021807", "220422021807"),
        ("UserV4.esl", 4, "51f044b76510434e9bc67a1185c2fba5", "OFDR&WTest", 3, "200422020900", "220422020900"),
        ("UserV5.esl", 5, "09aaf39291e049e4b3d716414590937e", "OFDR&WTestV5", 3, "260424085323", "280424085323"),
        ("UserV5_ts.esl", 5, "55a4a957189a48f596706fb431e962c5", "OFDR&WTestV5", 3, "260424085322", "280424085322"),
    ],
)
def test_fields(
    vectors: Path, name: str, version: int, es_id: str, vendor: str, kind: int, start: str, end: str
) -> None:
    octets = (vectors / name).read_bytes()
    seal = parse_seal(octets)
    assert sniff(octets) == "seal"
    assert (seal.version, seal.es_id, seal.vendor, seal.type) == (version, es_id, vendor, kind)
    assert seal.valid_from.strftime("%y%m%d%H%M%S") == seal.created.strftime("%y%m%d%H%M%S") == start
    assert seal.valid_until.strftime("%y%m%d%H%M%S") == end
    assert (seal.picture.type, seal.picture.width, seal.picture.height) == ("PNG", 40, 40)
    assert seal.picture.data == (vectors / "StampImg.png").read_bytes()
    assert seal.cert_list_type == 1
    assert "Test Certificate" in Certificate.from_der(seal.certificates[0]).subject
    assert seal.timestamp == (b"\1\2\3" if name == "UserV5_ts.esl" else None)
    assert seal.quirks == ()


def all_seals(vectors: Path) -> list[Seal]:
    seals = [parse_seal((vectors / name).read_bytes()) for name in SEALS]
    return seals + [parse_signature((vectors / name).read_bytes()).seal for name in SIGNATURES]


def test_each_seal_is_good_under_one_rule_and_bad_under_the_other(vectors: Path) -> None:
    for seal in all_seals(vectors):
        good, bad = (Rule.V1, Rule.V4) if seal.version == 1 else (Rule.V4, Rule.V1)
        assert seal_signature_ok(seal, good).ok
        assert not seal_signature_ok(seal, bad).ok


@pytest.mark.parametrize(
    ("name", "rule", "sm3", "e"),
    [
        (
            "UserV1.esl",
            Rule.V1,
            "ded50a45fbb77d6122bc6390b85c094544e5feef167dcf408d0e40f90d52d2af",
            "4c031ee99ac902b4f5e06e4fd533763dd823a90a90103a50a4254e43452ec96a",
        ),
        (
            "UserV4.esl",
            Rule.V4,
            "6aefcd84f3d768777d0031628defada2f9626b3ea46c06dacc669fb0b2737449",
            "93788669d714f0dbf04b1830ecd63a90b2146953fa1936e9454bafef360c6ded",
        ),
    ],
)
def test_signed_octets_of_the_seals(vectors: Path, name: str, rule: Rule, sm3: str, e: str) -> None:
    octets = (vectors / name).read_bytes()
    seal = parse_seal(octets)
    signed = signed_octets(seal, rule)
    if rule is Rule.V4:
        assert signed == octets[4:16397]
    else:
        assert len(signed) == 16925
    assert digest("sm3", signed).hex() == sm3
    key = Certificate.from_der(seal.maker_certificate).public_key
    assert isinstance(key, SM2PublicKey)
    assert key.z().hex() == "5c92fdaead7c45e6eea2194573113a34568c9c28e300581e566048a7313d6468"
    assert key.e(signed).hex() == e


def test_signed_octets_of_the_signature(vectors: Path) -> None:
    octets = (vectors / "SignedValueV4.dat").read_bytes()
    signature = parse_signature(octets)
    assert signature.tbs == octets[4 : 4 + 17105]
    key = Certificate.from_der(signature.certificate).public_key
    assert isinstance(key, SM2PublicKey)
    assert key.z().hex() == "565bd8146e3c2b3568e37dadce4fa090aad1f044eba07b0714ecf92ab4508209"
    assert key.e(signature.tbs).hex() == "f6d52c3dd9cff17773d800ac6f2ca1dd53d5bbc03d699135954dd55bbdb03ebc"


@pytest.mark.parametrize(
    ("name", "now", "strict", "expected", "noted"),
    [
        ("UserV1.esl", on(2021), False, [], ["pinned"]),
        ("UserV4.esl", on(2021), False, [], ["pinned"]),
        ("UserV4.esl", on(2021), True, [], ["pinned"]),
        ("UserV4.esl", on(2023), False, ["seal_expired"], ["pinned", "maker_cert_expired_since"]),
        ("UserV4.esl", on(2023), True, ["maker_cert_expired", "seal_expired"], ["pinned"]),
        ("UserV4.esl", on(2020), False, ["seal_not_yet_valid"], ["pinned"]),
        ("UserV4.esl", on(2020), True, ["maker_cert_not_yet_valid", "seal_not_yet_valid"], ["pinned"]),
        ("UserV4.esl", on(2022, 4, 22), False, [], ["pinned", "maker_cert_expired_since"]),
        ("UserV5.esl", on(2027), False, ["maker_cert_expired"], ["pinned"]),
        ("UserV5.esl", on(2027), True, ["maker_cert_expired"], ["pinned"]),
        ("UserV5_ts.esl", on(2027), False, ["maker_cert_expired", "seal_timestamp"], ["pinned"]),
    ],
)
def test_seals_with_pinned_certificates(
    vectors: Path, pins: TrustStore, name: str, now: datetime, strict: bool, expected: list[str], noted: list[str]
) -> None:
    report = judge_seal((vectors / name).read_bytes(), Policy(pins, now, strict))
    assert (reasons(report), notes(report)) == (expected, noted)
    assert report.verdict == ("invalid" if expected else "valid")
    assert report.intact is True
    assert report.maker is not None
    assert report.seal is not None


@pytest.mark.parametrize(
    ("name", "now", "expected", "verdict"),
    [
        ("UserV4.esl", on(2021), ["maker_not_trusted"], "indeterminate"),
        ("UserV1.esl", on(2021), ["maker_not_trusted"], "indeterminate"),
        ("UserV4.esl", on(2023), ["seal_expired", "maker_not_trusted"], "invalid"),
        ("UserV5.esl", on(2027), ["maker_cert_expired", "maker_not_trusted"], "invalid"),
        ("UserV5_ts.esl", on(2027), ["maker_cert_expired", "seal_timestamp", "maker_not_trusted"], "invalid"),
    ],
)
def test_seals_without_a_trust_anchor(
    vectors: Path, name: str, now: datetime, expected: list[str], verdict: str
) -> None:
    report = judge_seal((vectors / name).read_bytes(), Policy(NO_TRUST, now))
    assert (reasons(report), report.verdict, report.intact) == (expected, verdict, True)


def test_an_anchor_that_is_no_ca_breaks_the_chain(vectors: Path, root: TrustStore) -> None:
    report = judge_seal((vectors / "UserV4.esl").read_bytes(), Policy(root, on(2021)))
    assert (reasons(report), report.verdict, report.intact) == (["maker_cert_chain"], "invalid", True)
    report = judge_signature((vectors / "SignedValueV4.dat").read_bytes(), Policy(root, on(2021)), lambda _: bytes(32))
    assert reasons(report) == ["maker_cert_chain", "signer_cert_chain"]
    assert (report.verdict, report.intact, report.trust) == ("invalid", True, None)


def test_signature_of_version_4(vectors: Path, pins: TrustStore) -> None:
    octets = (vectors / "SignedValueV4.dat").read_bytes()
    policy = Policy(pins, on(2021))
    assert sniff(octets) == "ses"
    assert parse_signature(octets).seal.raw == (vectors / "UserV4.esl").read_bytes()

    report = judge_signature(octets, policy, None, expected_property=PATH)
    assert (reasons(report), report.verdict, report.intact) == (["document_not_checked"], "indeterminate", None)
    assert notes(report) == ["pinned"] * 2
    assert report.signed_at == on(2020, 10, 12, 11, 14, 3)
    assert report.trust == {"list": "test pins", "region": ""}
    assert report.signer is not None
    assert report.maker is not None
    assert report.signer.subject == report.maker.subject
    assert report.signer.sha256 != report.maker.sha256

    any_document = judge_signature(octets, policy, lambda name: digest(name, b"any document"))
    assert (reasons(any_document), any_document.verdict, any_document.intact) == (["data_hash"], "invalid", False)

    untrusted = judge_signature(octets, Policy(NO_TRUST, on(2021)), None)
    assert reasons(untrusted) == ["signer_not_trusted", "maker_not_trusted", "document_not_checked"]
    assert untrusted.verdict == "indeterminate"


def test_signature_of_version_4_is_judged_at_its_signing_time(vectors: Path, pins: TrustStore) -> None:
    octets = (vectors / "SignedValueV4.dat").read_bytes()
    for strict in (False, True):
        report = judge_signature(octets, Policy(pins, on(2026), strict), lambda _: bytes(32))
        assert (reasons(report), report.verdict) == ([], "valid")
        assert notes(report) == [
            "pinned",
            "maker_cert_expired_since",
            "pinned",
            "signer_cert_expired_since",
            "seal_expired_since",
            "signing_time_not_proven",
        ]


@pytest.mark.parametrize("strict", [False, True])
def test_signature_of_version_5(vectors: Path, pins: TrustStore, strict: bool) -> None:
    octets = (vectors / "SignedValueV5.dat").read_bytes()
    assert parse_signature(octets).seal.es_id == "309093c121454e56955f3be47ff728a3"
    report = judge_signature(octets, Policy(pins, on(2026, 6), strict), None)
    assert reasons(report) == ["maker_cert_expired", "signed_outside_cert_validity", "document_not_checked"]
    assert (report.verdict, report.version) == ("invalid", 5)
    assert report.signed_at == on(2026, 4, 24, 8, 53, 26)
    assert reasons(judge_signature(octets, Policy(pins, on(2026, 6), strict), lambda name: digest(name, b"x"))) == [
        "maker_cert_expired",
        "signed_outside_cert_validity",
        "data_hash",
    ]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("SESV4SignDoc.ofd", ["signed_outside_cert_validity", "seal_not_valid_at_signing"]),
        ("V4RideRight.ofd", []),
    ],
)
def test_signatures_inside_packages(vectors: Path, pins: TrustStore, package: str, expected: list[str]) -> None:
    with ZipFile(vectors / package) as file:
        document, stored, octets = (
            file.read(f"Doc_0/Signs/Sign_0/{name}") for name in ("Signature.xml", "Seal.esl", "SignedValue.dat")
        )
    report = judge_signature(
        octets,
        Policy(pins, on(2026, 9)),
        lambda name: digest(name, document),
        stored_seal=stored,
        expected_property=PATH,
    )
    assert reasons(report) == expected
    assert (report.intact, report.verdict) == (True, "invalid" if expected else "valid")


def test_invoice_of_another_vendor(vectors: Path) -> None:
    with ZipFile(vectors / "v4signed.ofd") as file:
        document, octets = (file.read(f"Doc_0/Signs/Sign_0/{name}") for name in ("Signature.xml", "SignedValue.dat"))
    report = judge_signature(
        octets, Policy(NO_TRUST, on(2021)), lambda name: digest(name, document), expected_property=PATH
    )
    assert (reasons(report), report.intact) == (["signer_not_trusted", "maker_not_trusted"], True)
    assert [(note.code, note.detail) for note in report.notes if note.code.startswith("quirk_critical")] == [
        ("quirk_critical_false", "1.2.156.10197.6.7.2.2.1")
    ]
    assert {"picture_type", "create_after_start"} <= set(notes(report))
    seal = parse_signature(octets).seal
    assert seal_signature_ok(seal, Rule.V4).ok
    assert not seal_signature_ok(seal, Rule.V1).ok


@pytest.mark.parametrize("name", ["UserV1.esl", "UserV4.esl", "SignedValueV4.dat"])
def test_no_changed_bit_stays_valid(vectors: Path, pins: TrustStore, name: str) -> None:
    octets = (vectors / name).read_bytes()
    policy = Policy(pins, on(2021))
    picture = octets.index((vectors / "StampImg.png").read_bytes())
    end = picture + (vectors / "StampImg.png").stat().st_size
    chance = random.Random(name)
    offsets = [
        *chance.sample([*range(picture), *range(end, len(octets))], 200),
        *chance.sample(range(picture, end), 10),
    ]

    def judge(changed: bytes) -> SignatureReport:
        if name.endswith(".esl"):
            return judge_seal(changed, policy)
        return judge_signature(changed, policy, lambda _: bytes(32))

    assert judge(octets).verdict == "valid"
    for offset in offsets:
        changed = bytearray(octets)
        changed[offset] ^= 1 << chance.randrange(8)
        assert judge(bytes(changed)).verdict != "valid", offset
