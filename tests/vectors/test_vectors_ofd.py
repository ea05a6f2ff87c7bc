"""Every OFD vector ends with exactly the verdict its README states (sections 4 and 5 there)."""

from __future__ import annotations

import hashlib
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ofd_samples import Sealer, repack, unpack
from sealagent.documents.ofd.package import Package
from sealagent.documents.ofd.placement import Invisible
from sealagent.documents.ofd.seal import prepare
from sealagent.documents.ofd.signatures import read_signature
from sealagent.documents.verify import verify_document
from sealagent.errors import SealAgentError
from sealagent.pki.certificates import Certificate
from sealagent.pki.trust import TrustStore
from sealagent.seals.parse import parse_seal, parse_signature
from sealagent.seals.verify import Policy
from sealagent.verdict import FileReport, Verdict

pytestmark = pytest.mark.vectors

NOW = datetime(2026, 9, 1, tzinfo=UTC)
OWN = "/Doc_0/Signs/Sign_0/"


@pytest.fixture(scope="module")
def user(vectors: Path) -> bytes:
    """The USER certificate, which the seals of the set list."""
    return parse_seal((vectors / "UserV4.esl").read_bytes()).certificates[0]


@pytest.fixture(scope="module")
def maker(vectors: Path) -> bytes:
    return parse_seal((vectors / "UserV4.esl").read_bytes()).maker_certificate


def policy(*certificates: bytes) -> Policy:
    return Policy(TrustStore(tuple(Certificate.from_der(each) for each in certificates), "vectors"), NOW)


def judged(data: bytes, *pins: bytes) -> FileReport:
    return verify_document(io.BytesIO(data), "a.ofd", policy(*pins))


def test_the_files_are_the_ones_described(vectors: Path) -> None:
    listed = dict(re.findall(r"^([0-9a-f]{64})  (\S+\.ofd)$", (vectors / "README.md").read_text(), re.MULTILINE))
    found = {
        sum: path.name for path in vectors.glob("*.ofd") for sum in [hashlib.sha256(path.read_bytes()).hexdigest()]
    }
    assert len(found) == 7
    assert found == listed


def test_helloworld(vectors: Path) -> None:
    report = judged((vectors / "helloworld.ofd").read_bytes())
    assert (report.format, report.verdict, report.signatures) == ("ofd", Verdict.INDETERMINATE, ())
    assert [each.code for each in report.reasons] == ["no_signature"]


def test_v4signed(vectors: Path) -> None:
    report = judged((vectors / "v4signed.ofd").read_bytes())
    (signature,) = report.signatures
    assert (signature.kind, signature.version, signature.intact, signature.closed) == ("seal", 4, True, False)
    assert signature.verdict is report.verdict is Verdict.INDETERMINATE
    assert [each.code for each in signature.reasons] == ["signer_not_trusted", "maker_not_trusted"]
    assert signature.signed_at == datetime(2020, 10, 10, 7, 11, 20, tzinfo=UTC)
    noted = [(each.code, each.detail) for each in signature.notes]
    assert ("quirk_signing_time_text", "20201010151120") in noted
    assert ("seal_file_absent", "") in noted
    assert "not_covered" not in dict(noted)


def test_v4signed_with_its_certificates_pinned(vectors: Path) -> None:
    data = (vectors / "v4signed.ofd").read_bytes()
    value = unpack(data)["Doc_0/Signs/Sign_0/SignedValue.dat"]
    signature = parse_signature(value)
    report = judged(data, signature.certificate, signature.seal.maker_certificate)
    assert report.verdict is Verdict.VALID


def test_v4signed_tampered(vectors: Path) -> None:
    (signature,) = judged((vectors / "v4signed-tampered.ofd").read_bytes()).signatures
    wrong = [(each.code, each.detail) for each in signature.reasons if each.effect is Verdict.INVALID]
    assert wrong == [("reference_digest", "/Doc_0/Document.xml")]
    assert signature.reasons[0].code == "reference_digest"
    assert (signature.intact, signature.verdict) == (False, Verdict.INVALID)


def test_v4_ride_right(vectors: Path, user: bytes, maker: bytes) -> None:
    data = (vectors / "V4RideRight.ofd").read_bytes()
    (signature,) = judged(data, user, maker).signatures
    assert (signature.verdict, signature.intact, signature.closed) == (Verdict.VALID, True, True)
    assert signature.signed_at == datetime(2021, 5, 19, 12, 53, 44, tzinfo=UTC)
    assert "not_covered" not in {each.code for each in signature.notes}
    (untrusted,) = judged(data).signatures
    assert [each.code for each in untrusted.reasons] == ["signer_not_trusted", "maker_not_trusted"]
    file = read_signature(Package(io.BytesIO(data)), "Doc_0/Signs/Sign_0/Signature.xml")
    assert len(file.references) == 9
    clips = [stamp.clip for stamp in file.stamps]
    assert [stamp.page for stamp in file.stamps] == ["1", "21", "43", "63", "83"]
    assert [(clip.x, clip.width, clip.height) for clip in clips if clip] == [(x, 8, 40) for x in (0, 8, 16, 24, 32)]


def test_v4_ride_right_is_closed(vectors: Path) -> None:
    seal = parse_seal((vectors / "UserV4.esl").read_bytes())
    with (vectors / "V4RideRight.ofd").open("rb") as source, pytest.raises(SealAgentError) as caught:
        prepare(source, seal, [Invisible()], algorithm_oid="1.2.156.10197.1.501", time=NOW)
    assert caught.value.code == "ofd_closed"


def test_ses_v4_sign_doc(vectors: Path, user: bytes, maker: bytes) -> None:
    (signature,) = judged((vectors / "SESV4SignDoc.ofd").read_bytes(), user, maker).signatures
    assert [each.code for each in signature.reasons] == ["signed_outside_cert_validity", "seal_not_valid_at_signing"]
    assert (signature.verdict, signature.intact, signature.closed) == (Verdict.INVALID, True, False)
    assert signature.signed_at == datetime(2026, 8, 4, 2, 8, 9, tzinfo=UTC)
    assert "not_covered" not in {each.code for each in signature.notes}


def test_digital_sign(vectors: Path, user: bytes, maker: bytes) -> None:
    data = (vectors / "DigitalSign.ofd").read_bytes()
    (good,) = judged(data, maker, user).signatures
    assert (good.kind, good.verdict, good.intact, good.closed) == ("signature", Verdict.VALID, True, False)
    assert "signer_certificate_supplied" in {each.code for each in good.notes}
    assert good.signer is not None
    assert good.signer.sha256 == hashlib.sha256(user).hexdigest()
    assert good.signed_at == datetime(2020, 4, 22, 8, 22, 44, tzinfo=UTC), "local time in the file"
    for pins in ((), (maker,)):
        report = judged(data, *pins)
        (unknown,) = report.signatures
        assert (unknown.verdict, unknown.intact) == (Verdict.INDETERMINATE, None)
        assert [each.code for each in unknown.reasons] == ["signer_certificate_missing"]
    assert "not_covered" not in {each.code for each in good.notes}


def test_hello_integrity(vectors: Path) -> None:
    data = (vectors / "hello-integrity.ofd").read_bytes()
    report = judged(data)
    assert [each.code for each in report.reasons] == ["no_signature"]
    (entry,) = report.signatures
    assert (entry.kind, entry.intact) == ("integrity", True)
    assert [each.code for each in entry.reasons] == ["signer_not_trusted"]
    assert "integrity_names_only" in {each.code for each in entry.notes}


def test_hello_integrity_notices_an_added_file_and_not_a_changed_one(vectors: Path) -> None:
    data = (vectors / "hello-integrity.ofd").read_bytes()
    (changed,) = judged(repack(data, {"Doc_0/Pages/Page_0/Content.xml": b"<a/>"})).signatures
    assert changed.intact is True
    added = judged(repack(data, {"Doc_0/Res/added.png": b"x"}))
    (entry,) = added.signatures
    assert [(each.code, each.detail) for each in entry.reasons if each.effect is Verdict.INVALID] == [
        ("integrity_unlisted_file", "/Doc_0/Res/added.png")
    ]
    assert added.verdict is Verdict.INVALID
    (removed,) = judged(repack(data, {"Doc_0/PublicRes.xml": None})).signatures
    assert removed.reasons[0].code == "reference_missing"
    (relisted,) = judged(repack(data, {"OFDEntries.xml": unpack(data)["OFDEntries.xml"] + b"\n"})).signatures
    assert [each.code for each in relisted.reasons if each.effect is Verdict.INVALID] == ["data_hash"]
    for name, content in (("OFDEntries.xml", b"<a/>"), ("signedvalue.dat", None)):
        (broken,) = judged(repack(data, {name: content})).signatures
        assert [each.code for each in broken.reasons] == ["integrity_format"]


def test_hello_integrity_cannot_be_sealed_without_breaking_it(vectors: Path) -> None:
    seal = parse_seal((vectors / "UserV4.esl").read_bytes())
    with (vectors / "hello-integrity.ofd").open("rb") as source, pytest.raises(SealAgentError) as caught:
        prepare(source, seal, [Invisible()], algorithm_oid="1.2.156.10197.1.501", time=NOW)
    assert caught.value.code == "ofd_integrity_protected"


@pytest.mark.parametrize("name", ["v4signed.ofd", "SESV4SignDoc.ofd", "DigitalSign.ofd"])
def test_open_documents_of_others_take_a_second_signature(vectors: Path, sealer: Sealer, name: str) -> None:
    """The first is as good afterwards as before."""
    before = (vectors / name).read_bytes()
    after = sealer.seal(before, [Invisible()])
    was, (now, added) = judged(before).signatures[0], judged(after).signatures
    assert now == was
    assert added.intact
    assert "Doc_0/Signs/Sign_1/Signature.xml" in unpack(after)
