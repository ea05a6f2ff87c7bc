"""What somebody without the signer's key can do to a package, or a careless signer can leave open: nothing says valid
that should not, and what is not protected is named."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from ofd_samples import (
    LIST,
    MAIN,
    NOW,
    NS,
    SEAL,
    SIGN,
    VALUE,
    Sealer,
    codes,
    document_files,
    foreign,
    judged,
    list_xml,
    notes,
    only,
    pack,
    policy_of,
    reasons,
    record,
    repack,
    signature_xml,
    unpack,
)
from sample_seals import Identity, identity
from sealagent.documents.limits import DEFAULT_LIMITS
from sealagent.documents.verify import verify_document
from sealagent.errors import SealAgentError
from sealagent.pki.digests import digest
from sealagent.verdict import SignatureReport, Verdict

FILES = document_files()
PAGES = [name for name in FILES if "/Pages/" in name]


def listing(*names: str) -> dict[str, bytes]:
    """Return References to files of the sample document, as it is with the list named in OFD.xml."""
    content = {**FILES, "OFD.xml": MAIN}
    return {f"/{name}": digest("sm3", content[name]) for name in names}


# --- what is covered ---


@pytest.mark.parametrize(
    "references",
    [
        "",
        '<ofd:References CheckMethod="SM3"/>',
        '<References CheckMethod="SM3"><Reference FileRef="/OFD.xml"/></References>',  # not in the namespace of OFD
    ],
)
def test_a_signature_without_references_is_not_valid(sealer: Sealer, references: str) -> None:
    xml = (
        f'<ofd:Signature {NS}><ofd:SignedInfo><ofd:Provider ProviderName="x"/>{references}</ofd:SignedInfo>'
        f"<ofd:SignedValue>/{VALUE}</ofd:SignedValue></ofd:Signature>"
    ).encode()
    value = sealer.signed_value(digest("sm3", xml), f"/{SIGN}")
    report = only(pack({**FILES, "OFD.xml": MAIN, LIST: list_xml(record()), SIGN: xml, VALUE: value}), sealer.policy)
    assert reasons(report) == [("sig_format", "the signature protects no file")]
    assert (report.verdict, report.intact) == (Verdict.INVALID, False)


def test_a_signature_over_no_page_says_so(sealer: Sealer) -> None:
    report = only(foreign(sealer, listing("OFD.xml")), sealer.policy)
    uncovered = notes(report, "not_covered")
    assert {f"/{name}" for name in FILES if name != "OFD.xml"} | {f"/{SEAL}"} == set(uncovered)


def test_added_files_do_not_push_the_main_file_out_of_the_notes(sealer: Sealer) -> None:
    added = {f"Doc_0/{n}": b"" for n in range(20)}
    package = pack({**added, **unpack(foreign(sealer, listing("Doc_0/Document.xml")))})
    limits = replace(DEFAULT_LIMITS, uncovered_listed=3)
    (report,) = verify_document(io.BytesIO(package), "a", sealer.policy, limits).signatures
    assert notes(report, "not_covered")[0] == "/OFD.xml"


def test_a_record_of_rubbish_excuses_no_file(sealer: Sealer) -> None:
    """A later record may name any file as its own; only a signature that holds explains the files it brought."""
    package = foreign(sealer, listing("OFD.xml", "Doc_0/Document.xml"))
    second = "Doc_0/Signs/Sign_1/Signature.xml"
    seal = f"<ofd:Seal><ofd:BaseLoc>/{PAGES[1]}</ofd:BaseLoc></ofd:Seal>"
    for method in ("1.2.156.10197.1.501", "1.2.3"):
        rubbish = signature_xml(listing("OFD.xml"), seal=seal, value=f"/{PAGES[0]}", signature_method=method)
        for kind in ("Seal", "Sign"):
            records = list_xml(record(), record("s002", f"/{second}", f'Type="{kind}"'))
            first, last = judged(repack(package, {LIST: records, second: rubbish}), sealer.policy).signatures
            assert {f"/{name}" for name in (*PAGES, second)} <= set(notes(first, "not_covered"))
            assert (first.verdict, last.verdict) == (Verdict.VALID, Verdict.INVALID)


# --- what a Reference means ---


@pytest.mark.parametrize(
    "text",
    ["/ofd.xml", "/OFD.XML", "/OFD%2Exml", "/OFD.xml?", "/OFD.xml#a", "\\OFD.xml", "/OFD.xml ", "/../OFD.xml", "/"],
)
def test_other_spellings_of_a_name_are_no_file(sealer: Sealer, text: str) -> None:
    report = only(foreign(sealer, {**listing(*FILES), text: digest("sm3", MAIN)}), sealer.policy)
    assert reasons(report) == [("reference_missing", text)]
    assert report.verdict is Verdict.INVALID


def test_a_roundabout_name_is_the_file_it_leads_to(sealer: Sealer) -> None:
    for text in ("/Doc_0/../OFD.xml", "//OFD.xml", "/./OFD.xml", "../../../OFD.xml"):
        report = only(foreign(sealer, {text: digest("sm3", MAIN)}), sealer.policy)
        assert report.verdict is Verdict.VALID
        assert "/OFD.xml" not in notes(report, "not_covered")


def test_every_reference_to_a_file_counts(sealer: Sealer) -> None:
    for order in (1, -1):
        twice = dict([("/OFD.xml", digest("sm3", MAIN)), ("//OFD.xml", digest("sm3", b"other"))][::order])
        assert reasons(only(foreign(sealer, twice), sealer.policy)) == [("reference_digest", "/OFD.xml")]


def test_references_to_the_signatures_own_files_cannot_hold(sealer: Sealer) -> None:
    for name in (SIGN, VALUE):
        report = only(foreign(sealer, {f"/{name}": bytes(32)}), sealer.policy)
        assert reasons(report) == [("reference_digest", f"/{name}")]


def test_an_added_file_cannot_take_the_place_of_a_protected_one(sealer: Sealer) -> None:
    """Some writers leave the slash out; a copy where a relative path would lead must not stand in for the original."""
    name = "Doc_0/Document.xml"
    package = foreign(sealer, {name: digest("sm3", FILES[name])})
    honest = only(package, sealer.policy)
    assert (honest.verdict, notes(honest, "quirk_path")) == (Verdict.VALID, [name])
    copy = f"Doc_0/Signs/Sign_0/{name}"
    for changes in ({copy: FILES[name]}, {copy: FILES[name], name: b"<changed/>"}):
        report = only(repack(package, changes), sealer.policy)
        assert (reasons(report), report.verdict) == ([("reference_missing", name)], Verdict.INVALID)
        assert notes(report, "unsafe_reference") == [name]


def test_a_roundabout_reference_to_the_list_closes_the_document(sealer: Sealer) -> None:
    for text, value in ((f"//{LIST}", digest("sm3", list_xml(record()))), (f"/Doc_0/../{LIST}", b"wrong")):
        package = foreign(sealer, {**listing(*FILES), text: value})
        assert only(package, sealer.policy).closed is True
        with pytest.raises(SealAgentError) as caught:
            sealer.seal(package)
        assert caught.value.code == "ofd_closed"


# --- seals and values ---


@pytest.fixture(scope="module")
def digital(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity(tmp_path_factory.mktemp("digital"), "sm2", "digital")


@pytest.mark.parametrize("kind", ["Seal", "Sign"])
def test_a_digital_signature_vouches_for_no_seal(sealer: Sealer, digital: Identity, kind: str) -> None:
    """A trusted person puts the stolen seal of another into the package: readers would show it."""
    content = {**FILES, "OFD.xml": MAIN, SEAL: sealer.seal_der}
    xml = signature_xml({f"/{name}": digest("sm3", data) for name, data in content.items()}, time=NOW.isoformat())
    files = {**content, LIST: list_xml(record(more=f'Type="{kind}"')), SIGN: xml, VALUE: digital.sign(xml)}
    report = only(pack(files), policy_of(digital.der))
    assert (codes(report), report.verdict, report.intact) == (["seal_mismatch"], Verdict.INVALID, False)


def test_a_seal_element_that_names_another_file(sealer: Sealer) -> None:
    for name, code in (("OFD.xml", "seal_mismatch"), (VALUE, "seal_mismatch"), ("gone", "signature_incomplete")):
        seal = f"<ofd:Seal><ofd:BaseLoc>/{name}</ofd:BaseLoc></ofd:Seal>"
        report = only(foreign(sealer, seal=seal), sealer.policy)
        assert (codes(report), report.verdict) == ([code], Verdict.INVALID)


def test_a_value_outside_its_folder_is_read_where_it_is(sealer: Sealer) -> None:
    package = unpack(foreign(sealer, value="/elsewhere.dat"))
    package["elsewhere.dat"] = package.pop(VALUE)
    assert only(pack(package), sealer.policy).verdict is Verdict.VALID


def test_rubbish_under_the_name_of_sm2_is_malformed(sealer: Sealer) -> None:
    package = foreign(sealer, record_xml=record(more='Type="Sign"'), seal="")
    report = only(repack(package, {VALUE: b"rubbish"}), sealer.policy)
    assert (codes(report), report.verdict, report.intact) == (["sig_format"], Verdict.INVALID, False)


# --- records ---


def relative(sealer: Sealer, bases: list[str]) -> list[SignatureReport]:
    """Seal three times and make each signature Relative to another ID (or none)."""
    package = pack(FILES)
    for _ in bases:
        package = sealer.seal(package)
    listed = unpack(package)[LIST]
    for identifier, base in zip(("s001", "s003", "s005"), bases, strict=True):
        if base:
            listed = listed.replace(f'ID="{identifier}"'.encode(), f'ID="{identifier}" Relative="{base}"'.encode())
    return list(judged(repack(package, {LIST: listed}), sealer.policy).signatures)


def test_a_bad_base_is_bad_for_all_that_build_on_it(sealer: Sealer) -> None:
    assert [each.verdict for each in relative(sealer, ["", "s001", "s003"])] == [Verdict.VALID] * 3
    reports = relative(sealer, ["s999", "s001", "s003"])
    assert [reasons(each) for each in reports] == [[("base_signature", base)] for base in ("s999", "s001", "s003")]


def test_signatures_that_build_on_each_other_have_no_base(sealer: Sealer) -> None:
    for report in relative(sealer, ["s005", "s001", "s003"]):
        assert (codes(report), report.verdict) == (["base_signature"], Verdict.INVALID)


def test_a_base_that_cannot_be_verified_leaves_the_verdict_open(sealer: Sealer, digital: Identity) -> None:
    content = {**FILES, "OFD.xml": MAIN}
    xml = signature_xml({f"/{name}": digest("sm3", data) for name, data in content.items()}, seal="")
    package = pack({**content, LIST: list_xml(record(more='Type="Sign"')), SIGN: xml, VALUE: digital.sign(xml)})
    sealed = sealer.seal(package)
    listed = unpack(sealed)[LIST].replace(b'ID="s002"', b'ID="s002" Relative="s001"')
    assert b"Relative" in listed
    base, report = judged(repack(sealed, {LIST: listed}), sealer.policy).signatures
    assert base.verdict is Verdict.INDETERMINATE
    assert (reasons(report), report.verdict) == ([("base_not_verified", "s001")], Verdict.INDETERMINATE)


def test_two_records_of_one_id_are_both_judged_and_both_the_base(sealer: Sealer) -> None:
    package = sealer.seal(sealer.seal(pack(FILES)))
    second = "/Doc_0/Signs/Sign_1/Signature.xml"
    listed = list_xml(record("s001"), record("s001", "/gone.xml"), record("s003", second, 'Relative="s001"'))
    good, gone, last = judged(repack(package, {LIST: listed}), sealer.policy).signatures
    assert [good.verdict, gone.verdict] == [Verdict.VALID, Verdict.INVALID]
    assert all("quirk_duplicate_id" in {note.code for note in each.notes} for each in (good, gone, last))
    assert codes(last) == ["base_signature"]
