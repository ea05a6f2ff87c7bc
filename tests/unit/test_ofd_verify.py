"""Verdicts on packages made or spoilt here: every reason and note that a package can bring."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ofd_samples import (
    LIST,
    MAIN,
    NOW,
    SEAL,
    SIGN,
    VALUE,
    RawEntry,
    Sealer,
    codes,
    document_files,
    foreign,
    judged,
    list_xml,
    main_xml,
    notes,
    only,
    pack,
    policy_of,
    raw_zip,
    reasons,
    record,
    repack,
    signature_xml,
    unpack,
)
from sample_parties import noted
from sample_seals import identity
from sealagent.documents.limits import DEFAULT_LIMITS
from sealagent.documents.ofd.times import read_time
from sealagent.documents.verify import verify_document
from sealagent.errors import LimitExceeded
from sealagent.pki.digests import digest
from sealagent.verdict import FileReport, SignatureReport, Verdict


def test_no_signature() -> None:
    report = judged(pack(document_files()), policy_of())
    assert (report.verdict, report.signatures) == (Verdict.INDETERMINATE, ())
    assert [each.code for each in report.reasons] == ["no_signature"]


def test_an_empty_list_is_no_signature_and_a_missing_one_is_no_excuse(sealer: Sealer) -> None:
    files = {**document_files(), "OFD.xml": MAIN}
    empty = judged(pack({**files, LIST: list_xml()}), sealer.policy)
    assert [each.code for each in empty.reasons] == ["no_signature"]
    for broken in (files, {**files, LIST: b"<a/>"}, {**files, LIST: b"<a"}):
        report = judged(pack(broken), sealer.policy)
        assert [each.code for each in report.reasons] == ["signature_incomplete"]
        assert report.verdict is Verdict.INVALID


def test_without_trust_a_good_signature_is_intact_and_not_trusted(sealed: bytes) -> None:
    report = only(sealed, policy_of())
    assert (report.intact, report.verdict) == (True, Verdict.INDETERMINATE)
    assert codes(report)[0] == "signer_not_trusted"


def test_a_foreign_signature_in_the_form_of_the_standard_has_no_notes(sealer: Sealer) -> None:
    report = only(foreign(sealer, time=NOW.isoformat()), sealer.policy)
    assert (report.verdict, set(noted(report))) == (Verdict.VALID, {"pinned"})


def test_each_changed_and_missing_file_is_named(sealer: Sealer, sealed: bytes) -> None:
    package = repack(sealed, {"Doc_0/Document.xml": b"<a/>", "Doc_0/Pages/Page_1/Content.xml": None})
    report = only(package, sealer.policy)
    assert reasons(report) == [
        ("reference_digest", "/Doc_0/Document.xml"),
        ("reference_missing", "/Doc_0/Pages/Page_1/Content.xml"),
    ]
    assert (report.intact, report.verdict) == (False, Verdict.INVALID)


def test_a_damaged_file_is_a_changed_file(sealer: Sealer, sealed: bytes) -> None:
    entries = [
        RawEntry(name.encode(), data, 8, 0x800, crc=1 if "Page_0" in name else None)
        for name, data in unpack(sealed).items()
    ]
    assert reasons(only(raw_zip(entries), sealer.policy)) == [("reference_digest", "/Doc_0/Pages/Page_0/Content.xml")]


def test_added_files_are_reported_and_change_no_verdict(sealer: Sealer, sealed: bytes) -> None:
    package = repack(sealed, {"Doc_0/Res/added.png": b"x", "Doc_0/Res/": b"", "Doc_0/Signs/Sign_7/x": b"y"})
    report = only(package, sealer.policy)
    assert notes(report, "not_covered") == ["/Doc_0/Res/added.png", "/Doc_0/Signs/Sign_7/x"]
    assert report.verdict is Verdict.VALID


def test_an_uncovered_main_file_is_reported(sealer: Sealer) -> None:
    references = {"/Doc_0/Document.xml": digest("sm3", document_files()["Doc_0/Document.xml"])}
    report = only(foreign(sealer, references), sealer.policy)
    assert "/OFD.xml" in notes(report, "not_covered")
    assert f"/{SEAL}" in notes(report, "not_covered")
    assert f"/{LIST}" not in notes(report, "not_covered")


def test_digest_methods(sealer: Sealer) -> None:
    document = document_files()["Doc_0/Document.xml"]

    def report(method: str, algorithm: str) -> SignatureReport:
        return only(foreign(sealer, {"/Doc_0/Document.xml": digest(algorithm, document)}, method=method), sealer.policy)

    for method, algorithm in (("MD5", "md5"), ("SHA1", "sha1")):
        weak = report(method, algorithm)
        assert (weak.verdict, notes(weak, "weak_algorithm")) == (Verdict.VALID, [f"/Doc_0/Document.xml: {method}"])
    assert notes(report("SHA256", "sha256"), "weak_algorithm") == []
    unknown = report("WHIRLPOOL", "sm3")
    assert reasons(unknown) == [("check_method_unknown", "/Doc_0/Document.xml: WHIRLPOOL")]
    assert unknown.verdict is Verdict.INVALID
    assert codes(report("SM3", "sha256")) == ["reference_digest"]


def test_references_that_lead_out_of_the_package_or_nowhere(sealer: Sealer) -> None:
    report = only(foreign(sealer, {"/../../etc/passwd": bytes(32), "": bytes(32)}), sealer.policy)
    assert reasons(report) == [("reference_missing", "/../../etc/passwd"), ("reference_missing", "")]
    assert notes(report, "unsafe_reference") == ["/../../etc/passwd", ""]


def test_a_signature_that_protects_nothing(sealer: Sealer) -> None:
    assert codes(only(foreign(sealer, {}), sealer.policy)) == ["sig_format"]


@pytest.mark.parametrize(
    ("name", "code"), [(SIGN, "signature_incomplete"), (VALUE, "signature_incomplete"), (SEAL, "signature_incomplete")]
)
def test_a_record_whose_files_are_missing(sealer: Sealer, sealed: bytes, name: str, code: str) -> None:
    report = only(repack(sealed, {name: None}), sealer.policy)
    assert code in codes(report)
    assert (report.intact, report.verdict) == (False, Verdict.INVALID)


@pytest.mark.parametrize(
    ("name", "data"), [(SIGN, b"<a"), (SIGN, b"<!DOCTYPE a><a/>"), (SIGN, b"<a/>"), (VALUE, b"x"), (VALUE, b"")]
)
def test_a_record_whose_files_are_malformed(sealer: Sealer, sealed: bytes, name: str, data: bytes) -> None:
    report = only(repack(sealed, {name: data}), sealer.policy)
    assert "sig_format" in codes(report)
    assert (report.intact, report.verdict) == (False, Verdict.INVALID)


def test_another_seal_in_the_package_than_in_the_signature(sealer: Sealer, tmp_path: Path) -> None:
    other = Sealer(tmp_path).seal_der
    report = only(foreign(sealer, files={SEAL: other}), sealer.policy)
    assert codes(report) == ["seal_mismatch"]
    assert (report.intact, report.verdict) == (False, Verdict.INVALID)


def test_no_separate_seal_is_noted(sealer: Sealer) -> None:
    report = only(foreign(sealer, seal=""), sealer.policy)
    assert (report.verdict, notes(report, "seal_file_absent")) == (Verdict.VALID, [""])


def test_a_signature_moved_to_another_document(sealer: Sealer, sealed: bytes) -> None:
    """The value fits its own Signature.xml; under another it does not."""
    other = foreign(sealer)
    report = only(repack(other, {VALUE: unpack(sealed)[VALUE]}), sealer.policy)
    assert codes(report) == ["data_hash"]


def test_property_info_that_names_something_else_is_noted(sealer: Sealer) -> None:
    assert notes(only(foreign(sealer, property_info="/elsewhere"), sealer.policy), "property_info") == ["/elsewhere"]
    entry = f'{{"DocId":"1","DocName":"a","Entry":"/{SIGN}"}}'
    assert notes(only(foreign(sealer, property_info=entry), sealer.policy), "property_info") == []


def test_the_displayed_time_is_compared_with_the_signed_one(sealer: Sealer) -> None:
    local = (NOW + timedelta(hours=8)).strftime("%Y%m%d%H%M%S")
    for text, shown in (
        (NOW.isoformat(), []),
        (NOW.strftime("%Y-%m-%dT%H:%M:%SZ"), []),
        (local, [local]),
        ((NOW + timedelta(seconds=1)).isoformat(), [(NOW + timedelta(seconds=1)).isoformat()]),
        ("yesterday", ["yesterday"]),
        ("", [""]),
    ):
        report = only(foreign(sealer, time=text), sealer.policy)
        assert notes(report, "quirk_signing_time_text") == shown
        assert report.signed_at == NOW


@pytest.mark.parametrize(
    ("text", "iso", "exact"),
    [
        ("2020-10-10T15:11:20Z", "2020-10-10T15:11:20+00:00", True),
        ("2020-10-10T15:11:20+08:00", "2020-10-10T07:11:20+00:00", True),
        ("20201010151120Z", "2020-10-10T15:11:20+00:00", True),
        ("20201010151120", "2020-10-10T07:11:20+00:00", False),
        ("2020-10-10 15:11:20", "2020-10-10T07:11:20+00:00", False),
        ("2020-10-10 15:11:20.123", "2020-10-10T07:11:20.123000+00:00", False),
        ("2023-03-21", "2023-03-20T16:00:00+00:00", False),
        ("99999999999999", None, False),
        ("0001-01-01", None, False),
        ("now", None, False),
    ],
)
def test_spellings_of_times(text: str, iso: str | None, exact: bool) -> None:
    moment, certain = read_time(text)
    assert (moment.isoformat() if moment else None, certain) == (iso, exact)


def test_a_closed_first_signature_broken_by_a_second(sealer: Sealer) -> None:
    """First fails, second passes (standards §8.2.13)."""
    closed = sealer.seal(pack(document_files()), close=True)
    files = unpack(closed)
    second, folder = "Doc_0/Signs/Sign_1/Signature.xml", "/Doc_0/Signs/Sign_1"
    xml = signature_xml(
        {f"/{name}": digest("sm3", data) for name, data in files.items() if name != LIST},
        seal="",
        value=f"{folder}/SignedValue.dat",
        time=NOW.isoformat(),
    )
    value = sealer.signed_value(digest("sm3", xml), f"{folder}/Signature.xml")
    package = repack(
        closed,
        {
            LIST: list_xml(record("s001"), record("s002", f"{folder}/Signature.xml")),
            second: xml,
            "Doc_0/Signs/Sign_1/SignedValue.dat": value,
        },
    )
    first, last = judged(package, sealer.policy).signatures
    assert (reasons(first), first.closed, first.verdict) == ([("reference_digest", f"/{LIST}")], True, Verdict.INVALID)
    assert (last.verdict, last.closed) == (Verdict.VALID, False)
    assert notes(first, "not_covered") == [], "files of a later signature are no surprise"
    assert notes(last, "not_covered") == []


def test_a_signature_relative_to_another_is_no_better_than_it(sealer: Sealer) -> None:
    def second(base: str, *, spoil: bool) -> SignatureReport:
        package = sealer.seal(sealer.seal(pack(document_files())))
        listed = unpack(package)[LIST].replace(b'ID="s003"', f'ID="s003" Relative="{base}"'.encode())
        changes: dict[str, bytes | None] = {LIST: listed}
        if spoil:
            changes[VALUE] = b"\x30\x00"
        return judged(repack(package, changes), sealer.policy).signatures[1]

    assert second("s001", spoil=False).verdict is Verdict.VALID
    assert reasons(second("s001", spoil=True))[-1] == ("base_signature", "s001")
    for base in ("s999", "s003"):
        report = second(base, spoil=False)
        assert (reasons(report), report.intact) == ([("base_signature", base)], True)


def test_type_and_content_may_disagree(sealer: Sealer) -> None:
    report = only(foreign(sealer, record_xml=record(more='Type="Sign"')), sealer.policy)
    assert (report.kind, report.verdict, len(notes(report, "quirk_xml"))) == ("seal", Verdict.VALID, 1)


def test_a_digital_signature_in_a_package(sealer: Sealer, tmp_path: Path) -> None:
    signer = identity(tmp_path, "sm2", "sm2 signer")
    content = {**document_files(), "OFD.xml": MAIN}
    references = {f"/{name}": digest("sm3", data) for name, data in content.items()}
    xml = signature_xml(references, seal="", time=NOW.isoformat())
    package = pack({**content, LIST: list_xml(record(more='Type="Sign"')), SIGN: xml, VALUE: signer.sign(xml)})
    report = only(package, policy_of(signer.der))
    assert (report.kind, report.verdict, report.intact, report.closed) == ("signature", Verdict.VALID, True, False)
    assert {each.code for each in report.notes} == {"pinned", "signer_certificate_supplied"}
    unknown = only(package, policy_of())
    assert (codes(unknown), unknown.intact) == (["signer_certificate_missing"], None)
    changed = only(repack(package, {"Doc_0/Document.xml": b"<a/>"}), policy_of())
    assert (codes(changed), changed.intact) == (["reference_digest", "signer_certificate_missing"], False)
    typed_as_seal = only(repack(package, {LIST: list_xml(record())}), policy_of(signer.der))
    assert (typed_as_seal.kind, len(notes(typed_as_seal, "quirk_xml"))) == ("signature", 1)


@pytest.mark.parametrize(("method", "value"), [("1.2.840.113549.1.1.11", b"\x30\x00"), ("", b"rubbish")])
def test_formats_of_other_algorithms_are_not_judged(sealer: Sealer, method: str, value: bytes) -> None:
    package = foreign(sealer, record_xml=record(more='Type="Sign"'), seal="", signature_method=method)
    report = only(repack(package, {VALUE: value}), sealer.policy)
    assert (codes(report), report.intact, report.verdict) == (["algorithm_not_supported"], None, Verdict.INDETERMINATE)


def test_limits_hold_over_the_whole_package(sealer: Sealer) -> None:
    """Bodies may share a list and records a signature: work and report stay bounded."""
    body = f"<ofd:DocRoot>Doc_0/Document.xml</ofd:DocRoot><ofd:Signatures>/{LIST}</ofd:Signatures>"
    package = repack(
        foreign(sealer),
        {
            "OFD.xml": main_xml([body] * 3).encode(),
            LIST: list_xml(*(record(f"s{n}") for n in range(5))),
            **{f"Doc_0/Res/{n}": b"" for n in range(20)},
        },
    )

    def limited(**limits: int) -> FileReport:
        return verify_document(io.BytesIO(package), "a", sealer.policy, replace(DEFAULT_LIMITS, **limits))

    assert len(limited(signatures=15).signatures) == 15
    with pytest.raises(LimitExceeded) as caught:
        limited(signatures=14)
    assert caught.value.code == "ofd_too_many_signatures"
    report = limited(references=6, uncovered_listed=7).signatures[0]
    assert len(report.reasons) == 1, "OFD.xml was changed"
    assert notes(report, "not_covered") == [*(f"/Doc_0/Res/{n}" for n in range(7)), "13 more files"]
    (first, *_) = limited(references=5).signatures
    assert codes(first) == ["sig_format"]


def test_long_texts_of_a_signature_are_cut(sealer: Sealer) -> None:
    long = "x" * 100_000
    package = foreign(sealer, {f"/{n}{long}": b"" for n in range(3)} | {"/OFD.xml": b"x"}, method=long, time=long)
    report = only(package, sealer.policy)
    assert max(len(each.detail) for each in (*report.reasons, *report.notes)) < 1000


def test_an_encrypted_package_is_said_to_be_so(sealer: Sealer, sealed: bytes) -> None:
    report = judged(repack(sealed, {"Encryptions.xml": b"<a/>"}), sealer.policy)
    assert (report.verdict, [each.code for each in report.reasons]) == (Verdict.INDETERMINATE, ["document_encrypted"])
    assert report.signatures == ()


def test_the_file_is_as_bad_as_its_worst_signature(sealer: Sealer) -> None:
    package = sealer.seal(sealer.seal(pack(document_files())))
    spoilt = repack(package, {"Doc_0/Signs/Sign_1/SignedValue.dat": b"\x30\x00"})
    report = judged(spoilt, sealer.policy)
    assert [each.verdict for each in report.signatures] == [Verdict.VALID, Verdict.INVALID]
    assert report.verdict is Verdict.INVALID


def test_signatures_of_several_documents_are_told_apart(sealer: Sealer) -> None:
    files = {**document_files(), **{name.replace("Doc_0", "Doc_1"): data for name, data in document_files().items()}}
    roots = [
        f"<ofd:DocRoot>Doc_{n}/Document.xml</ofd:DocRoot><ofd:Signatures>Doc_{n}/Signs/Signatures.xml</ofd:Signatures>"
        for n in range(2)
    ]
    lists = {f"Doc_{n}/Signs/Signatures.xml": list_xml(max_id="") for n in range(2)}
    package = pack({**files, **lists, "OFD.xml": main_xml(roots).encode()})
    for doc in range(2):
        package = sealer.seal(package, doc=doc)
    report = judged(package, sealer.policy)
    assert [each.id for each in report.signatures] == ["s001", "1/s001"]
    assert report.verdict is Verdict.VALID
    # Lists stay open, also those of other documents; what the second signature added was added after the first.
    assert all("/Doc_1/" in detail for detail in notes(report.signatures[0], "not_covered"))
    assert notes(report.signatures[1], "not_covered") == [f"/{LIST}"]
