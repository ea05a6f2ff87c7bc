"""Digital signatures of GB/T 35275 in the forms met in files, and bare SM2 signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ofd_samples import NOW, policy_of
from sample_parties import noted
from sample_seals import Identity, authority, identity, integer, oid, tlv, utc
from sealagent.documents.digital import Context, judge_bare, judge_cms, judge_unsupported
from sealagent.errors import FormatError
from sealagent.pki import oids
from sealagent.pki.cms import issuer_and_serial, parse_signed_data
from sealagent.pki.digests import digest
from sealagent.verdict import SignatureReport, Verdict
from timestamp_parts import make_token, time_stamper

FILE = "<ofd:Signature>被签名的文件</ofd:Signature>".encode()
HASH = digest("sm3", FILE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cms")


@pytest.fixture(scope="module")
def signer(folder: Path) -> Identity:
    return identity(folder, "sm2", "signer")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Identity:
    return identity(folder, "sm2", "stranger")


def raw_64(signature: bytes) -> bytes:
    """Return r‖s of a DER signature."""
    r_length = signature[3]
    r, s = signature[4 : 4 + r_length], signature[6 + r_length :]
    return b"".join(int.from_bytes(part, "big").to_bytes(32, "big") for part in (r, s))


def algorithm(dotted: str, *, null: bool = False) -> bytes:
    return tlv(0x30, oid(dotted), tlv(5) if null else b"")


def attribute(kind: str, value: bytes) -> bytes:
    return tlv(0x30, oid(kind), tlv(0x31, value))


def cms(
    who: Identity,
    *,
    content: bytes | None = HASH,
    attributes: list[bytes] | None = None,
    message: bytes = b"",
    outer: str = oids.GM_SIGNED_DATA,
    inner: str = oids.GM_DATA,
    signer_algorithm: str = oids.SM2_SIGN,
    digest_algorithm: str = oids.SM3,
    null: bool = False,
    raw: bool = False,
    carry: bool = True,
    others: tuple[Identity, ...] = (),
    name: Identity | None = None,
    unsigned: bytes | Callable[[bytes], bytes] = b"",
) -> bytes:
    """Return a SignedData; what is signed follows from the form unless ``message`` says it."""
    if attributes is not None:
        message = message or tlv(0x31, *attributes)
    signature = who.sign(message or content or FILE)
    found = issuer_and_serial((name or who).der)
    assert found is not None
    info = tlv(
        0x30,
        integer(1),
        tlv(0x30, found[0], tlv(2, found[1])),
        algorithm(digest_algorithm, null=null),
        b"" if attributes is None else tlv(0xA0, *attributes),
        algorithm(signer_algorithm, null=null),
        tlv(4, raw_64(signature) if raw else signature),
        unsigned(signature) if callable(unsigned) else unsigned,
    )
    signed = tlv(
        0x30,
        integer(1),
        tlv(0x31, algorithm(digest_algorithm)),
        tlv(0x30, oid(inner), b"" if content is None else tlv(0xA0, tlv(4, content))),
        tlv(0xA0, who.der, *(each.der for each in others)) if carry else b"",
        tlv(0x31, info),
    )
    return tlv(0x30, oid(outer), tlv(0xA0, signed))


def judged(
    data: bytes, *pins: Identity, content: bytes | None = FILE, claimed: datetime | None = NOW
) -> SignatureReport:
    return judge_cms(data, Context("1", content, claimed_time=claimed), policy_of(*(each.der for each in pins)))


def reasons(report: SignatureReport) -> list[str]:
    return [reason.code for reason in report.reasons]


def notes(report: SignatureReport) -> set[str]:
    return set(noted(report))


TYPE = attribute(oids.CMS_CONTENT_TYPE, oid(oids.GM_DATA))
DIGEST = attribute(oids.CMS_MESSAGE_DIGEST, tlv(4, HASH))
TIME = attribute(oids.CMS_SIGNING_TIME, utc(NOW.strftime("%y%m%d%H%M%SZ")))
SORTED = sorted([TYPE, DIGEST, TIME])


def test_form_a_the_digest_is_the_content(signer: Identity) -> None:
    report = judged(cms(signer), signer)
    assert (report.verdict, report.intact, report.signed_at) == (Verdict.VALID, True, NOW)
    assert notes(report) == {"pinned"}
    assert report.signer is not None
    assert report.signer.sha256 == hashlib.sha256(signer.der).hexdigest()


def test_form_b_the_digest_is_an_attribute(signer: Identity) -> None:
    report = judged(cms(signer, content=None, attributes=SORTED), signer, claimed=None)
    assert (report.verdict, report.intact, report.signed_at) == (Verdict.VALID, True, NOW)
    assert notes(report) == {"pinned"}


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"content": None, "attributes": SORTED[::-1]}, "quirk_cms_order"),
        ({"raw": True}, "quirk_raw_signature"),
        ({"signer_algorithm": oids.SM2_WITH_SM3}, "quirk_cms_oid"),
        ({"inner": oids.CMS_DATA}, "quirk_cms_oid"),
        ({"outer": oids.CMS_SIGNED_DATA}, "quirk_cms_oid"),
        ({"null": True}, "pinned"),
        ({"digest_algorithm": oids.SM3_WITHOUT_KEY}, "pinned"),
        ({"content": FILE}, "pinned"),
        ({"content": None}, "pinned"),
        ({"content": HASH, "attributes": [attribute(oids.CMS_MESSAGE_DIGEST, tlv(4, digest("sm3", HASH)))]}, "pinned"),
    ],
)
def test_variants_of_the_field_are_survived_and_noted(signer: Identity, options: dict[str, object], note: str) -> None:
    report = judged(cms(signer, **options), signer)  # type: ignore[arg-type]
    assert report.verdict is Verdict.VALID
    assert note in notes(report)


def test_the_attributes_are_verified_as_received(signer: Identity) -> None:
    """Sorting them again would make these two signatures good and bad the wrong way round."""
    unsorted = SORTED[::-1]
    assert judged(cms(signer, content=None, attributes=unsorted), signer).intact is True
    resorted = cms(signer, content=None, attributes=unsorted, message=tlv(0x31, *SORTED))
    assert reasons(judged(resorted, signer)) == ["sig_value"]


def test_other_content(signer: Identity) -> None:
    for data in (cms(signer), cms(signer, content=None, attributes=SORTED), cms(signer, content=FILE)):
        report = judged(data, signer, content=FILE + b" ")
        assert (reasons(report), report.intact) == (["data_hash"], False)
    assert reasons(judged(cms(signer, content=None), signer, content=FILE + b" ")) == ["sig_value"]


def test_an_attribute_digest_that_does_not_fit_its_content(signer: Identity) -> None:
    """messageDigest fits the file, the encapsulated content does not: both links of the chain are checked."""
    report = judged(cms(signer, content=b"other", attributes=SORTED), signer)
    assert reasons(report) == ["data_hash"]
    fitting = [attribute(oids.CMS_MESSAGE_DIGEST, tlv(4, digest("sm3", b"other")))]
    assert reasons(judged(cms(signer, content=b"other", attributes=fitting), signer)) == ["data_hash"]


def test_without_the_file_nothing_is_valid(signer: Identity) -> None:
    for data in (cms(signer), cms(signer, content=None, attributes=SORTED), cms(signer, content=None)):
        report = judged(data, signer, content=None)
        assert (report.verdict, reasons(report), report.intact) == (
            Verdict.INDETERMINATE,
            ["document_not_checked"],
            None,
        )


def test_a_wrong_value(signer: Identity, stranger: Identity) -> None:
    report = judged(cms(signer, message=b"other"), signer)
    assert (reasons(report), report.intact) == (["sig_value"], False)
    # The right key's certificate under another's name does not help.
    forged = cms(stranger, name=signer, carry=False)
    assert reasons(judged(forged, signer)) == ["sig_value"]


def test_whose_certificate(signer: Identity, stranger: Identity) -> None:
    assert reasons(judged(cms(signer))) == ["signer_not_trusted"]
    assert judged(cms(signer)).intact is True
    missing = judged(cms(signer, carry=False), stranger)
    assert (reasons(missing), missing.intact, missing.verdict) == (
        ["signer_certificate_missing"], None, Verdict.INDETERMINATE,
    )  # fmt: skip
    supplied = judged(cms(signer, carry=False), stranger, signer)
    assert (supplied.verdict, "signer_certificate_supplied" in notes(supplied)) == (Verdict.VALID, True)


def test_a_chain_to_an_anchor(folder: Path) -> None:
    ca = authority(folder, "sm2", "ca")
    leaf = identity(folder, "sm2", "leaf", ca=ca)
    report = judged(cms(leaf), ca)
    assert (report.verdict, notes(report)) == (Verdict.VALID, set())


def test_the_intermediate_comes_with_the_signature(folder: Path) -> None:
    usage = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
    root = authority(folder, "sm2", "root")
    intermediate = identity(folder, "sm2", "intermediate", ca=root, extensions=usage)
    leaf = identity(folder, "sm2", "two links", ca=intermediate)
    report = judged(cms(leaf, others=(intermediate,)), root)
    assert (report.verdict, notes(report), report.trust) == (Verdict.VALID, set(), {"list": "test", "region": ""})
    without = judged(cms(leaf), root)
    assert (reasons(without), without.trust) == (["signer_not_trusted"], None)
    assert reasons(judged(cms(leaf, others=(intermediate, root)))) == ["signer_not_trusted"], "carried is not trusted"


def test_the_signing_time_counts(signer: Identity) -> None:
    late = judged(cms(signer), signer, claimed=NOW + timedelta(days=4000))
    assert reasons(late) == ["signed_outside_cert_validity"]
    unknown = judged(cms(signer), signer, claimed=None)
    assert (reasons(unknown), unknown.intact) == (["signing_time_unknown"], True)
    signed = judged(cms(signer, content=None, attributes=SORTED), signer, claimed=datetime(1999, 1, 1, tzinfo=UTC))
    assert signed.signed_at == NOW, "the attribute is what the signer signed"


@pytest.mark.parametrize(
    "options",
    [{"signer_algorithm": "1.2.840.113549.1.1.1"}, {"digest_algorithm": oids.SHA256}, {"digest_algorithm": "1.2.3"}],
)
def test_other_algorithms_are_not_judged(signer: Identity, options: dict[str, str]) -> None:
    report = judged(cms(signer, **options), signer)  # type: ignore[arg-type]
    assert (reasons(report), report.intact) == (["algorithm_not_supported"], None)
    assert report.verdict is Verdict.INDETERMINATE


def test_a_timestamp_is_not_passed_over_in_silence(signer: Identity) -> None:
    token = tlv(0xA1, attribute("1.2.840.113549.1.9.16.2.14", tlv(0x30)))
    assert reasons(judged(cms(signer, unsigned=token), signer)) == ["sig_timestamp"]


def test_a_timestamp_that_covers_the_signature_value(folder: Path, signer: Identity) -> None:
    """RFC 3161 appendix A: the token is an unsigned attribute over encryptedDigest."""
    tsa = time_stamper(folder, "sm2", "tsa")

    def judge(covered: Callable[[bytes], bytes]) -> SignatureReport:
        def token(value: bytes) -> bytes:
            return tlv(0xA1, attribute("1.2.840.113549.1.9.16.2.14", make_token(tsa, covered(value), NOW)))

        return judged(cms(signer, unsigned=token), signer, tsa)

    good = judge(lambda value: value)
    assert (reasons(good), good.verdict) == ([], Verdict.VALID)
    assert "time_stamped" in notes(good)
    assert reasons(judge(lambda value: value + b"x")) == ["sig_timestamp"]


def test_malformed(signer: Identity) -> None:
    good = cms(signer)
    broken = [
        b"", b"\x30\x80" + good[4:] + b"\0\0", good + b"\0", good[:-1], b"\x30\x84\xff\xff\xff\xff",
        tlv(0x30, oid("1.2.840.113549.1.7.3"), tlv(0xA0, b"")),
        cms(signer, content=None, attributes=[TYPE]),
        cms(signer, content=None, attributes=[DIGEST, DIGEST]),
    ]  # fmt: skip
    for data in broken:
        report = judged(data, signer)
        assert (reasons(report), report.intact) == (["sig_format"], False)
        with pytest.raises(FormatError) as caught:
            parse_signed_data(data)
        assert caught.value.code == "sig_format"
    assert issuer_and_serial(b"\x30\x03\x02\x01\x01") is None


def bare(signature: bytes, *pins: Identity, content: bytes | None = FILE) -> SignatureReport:
    return judge_bare(signature, Context("1", content, claimed_time=NOW), policy_of(*(each.der for each in pins)))


def test_a_bare_signature_needs_a_certificate_from_outside(signer: Identity, stranger: Identity, folder: Path) -> None:
    other_kind = identity(folder, "p256", "other kind")
    value = signer.sign(FILE)
    for form in (value, raw_64(value)):
        report = bare(form, other_kind, stranger, signer)
        assert (report.verdict, report.intact) == (Verdict.VALID, True)
        assert "signer_certificate_supplied" in notes(report)
        assert report.signer is not None
        assert report.signer.sha256 == hashlib.sha256(signer.der).hexdigest()
    for pins in ((), (stranger, other_kind)):
        report = bare(value, *pins)
        assert (report.verdict, reasons(report), report.intact) == (
            Verdict.INDETERMINATE, ["signer_certificate_missing"], None,
        )  # fmt: skip
    assert reasons(bare(value, signer, content=FILE + b" ")) == ["signer_certificate_missing"]
    assert reasons(bare(value, signer, content=None)) == ["document_not_checked"]
    assert reasons(bare(b"rubbish", signer)) == ["signer_certificate_missing"]


def test_an_unsupported_format_is_said_to_be_so() -> None:
    report = judge_unsupported(Context("1", FILE), "1.2.840.113549.1.1.11")
    assert (report.verdict, report.intact, reasons(report)) == (
        Verdict.INDETERMINATE, None, ["algorithm_not_supported"],
    )  # fmt: skip
