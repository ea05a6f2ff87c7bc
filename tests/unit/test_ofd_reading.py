"""What a package says, quirks included (standards §8.2): read, and noted where it deviates."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from ofd_samples import NS, document_files, document_xml, list_xml, main_xml, pack, page_xml, record, signature_xml
from sealagent.documents.limits import DEFAULT_LIMITS, Limits
from sealagent.documents.ofd.package import Package
from sealagent.documents.ofd.reading import read_bodies, read_document, read_page_box
from sealagent.documents.ofd.signatures import read_list, read_signature
from sealagent.documents.ofd.values import Box, parse_box, resolve
from sealagent.errors import FormatError, LimitExceeded

LIST = "Doc_0/Signs/Signatures.xml"
SIGN = "Doc_0/Signs/Sign_0/Signature.xml"


def opened(changes: dict[str, bytes], limits: Limits = DEFAULT_LIMITS) -> Package:
    return Package(io.BytesIO(pack({**document_files(), **changes})), limits)


@pytest.mark.parametrize(
    ("base", "text", "name", "note"),
    [
        ("OFD.xml", "Doc_0/Document.xml", "Doc_0/Document.xml", None),
        ("OFD.xml", "/Doc_0/Document.xml", "Doc_0/Document.xml", None),
        ("Doc_0/Document.xml", "Pages/Page_0/Content.xml", "Doc_0/Pages/Page_0/Content.xml", None),
        ("Doc_0/Pages/Page_0/Content.xml", "../../Document.xml", "Doc_0/Document.xml", None),
        ("Doc_0/Pages/Page_0/Content.xml", "./../../Document.xml", "Doc_0/Document.xml", None),
        (SIGN, "Doc_0/Document.xml", "Doc_0/Document.xml", "quirk_path"),  # the slash left out
        (SIGN, "//Doc_0//Document.xml", "Doc_0/Document.xml", "quirk_path"),
        (SIGN, "Missing.xml", "Doc_0/Signs/Sign_0/Missing.xml", None),
        (SIGN, "/../etc/passwd", None, "unsafe_reference"),
        (SIGN, "../../../../etc/passwd", None, "unsafe_reference"),
        (SIGN, "..\\..\\OFD.xml", None, "unsafe_reference"),
        (SIGN, "", None, "unsafe_reference"),
        (SIGN, "/", None, "unsafe_reference"),
    ],
)
def test_locations(base: str, text: str, name: str | None, note: str | None) -> None:
    location = resolve(opened({}), base, text)
    assert location.name == name
    assert [each.code for each in location.notes] == ([note] if note else [])


def test_several_documents_and_both_namespaces() -> None:
    bodies = (
        "<ofd:DocRoot>Doc_0/Document.xml</ofd:DocRoot>",
        "<ofd:DocRoot>/Doc_1/Document.xml</ofd:DocRoot><ofd:Signatures>Doc_1/S/Signatures.xml</ofd:Signatures>",
    )
    for ns in (NS, 'xmlns:ofd="http://www.ofdspec.org"'):
        first, second = read_bodies(opened({"OFD.xml": main_xml(bodies, ns).encode()}))
        assert (first.number, first.root.name, first.signatures) == (0, "Doc_0/Document.xml", None)
        assert second.root.name == "Doc_1/Document.xml"
        assert second.signatures is not None
        assert second.signatures.name == "Doc_1/S/Signatures.xml"


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("ofd_main", b"<OFD/>"),
        ("ofd_main", f"<ofd:OFD {NS}/>".encode()),
        ("ofd_main", f"<ofd:Document {NS}><ofd:DocBody/></ofd:Document>".encode()),
        ("xml_malformed", b"no XML"),
        ("xml_doctype", b"<!DOCTYPE OFD><OFD/>"),
    ],
)
def test_a_main_file_that_is_none(code: str, data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        read_bodies(opened({"OFD.xml": data}))
    assert caught.value.code == code


def test_no_main_file_at_all() -> None:
    with pytest.raises(FormatError) as caught:
        read_bodies(Package(io.BytesIO(pack({"a.xml": b"<a/>"}))))
    assert caught.value.code == "ofd_main_missing"


def test_too_many_documents_pages_and_signatures_are_named_limits() -> None:
    package = opened({LIST: list_xml(record(), record())}, replace(DEFAULT_LIMITS, bodies=0, pages=1, signatures=1))
    with pytest.raises(LimitExceeded, match="documents"):
        read_bodies(package)
    body = read_bodies(opened({}))[0]
    with pytest.raises(LimitExceeded, match="pages"):
        read_document(package, body)
    with pytest.raises(LimitExceeded, match="signatures"):
        read_list(package, LIST)


@pytest.mark.parametrize(("text", "allowed"), [("", True), ("true", True), ("false", False), ("0", False)])
def test_permission_to_sign(text: str, allowed: bool) -> None:
    extra = f"<ofd:Permissions><ofd:Signature>{text}</ofd:Signature></ofd:Permissions>" if text else ""
    package = opened({"Doc_0/Document.xml": document_xml(extra=extra).encode()})
    assert read_document(package, read_bodies(package)[0]).may_sign is allowed


def test_a_page_has_its_own_size_or_that_of_the_document() -> None:
    area = "<ofd:Area><ofd:PhysicalBox>0 0 100.5 50</ofd:PhysicalBox></ofd:Area>"
    package = opened({"Doc_0/Pages/Page_1/Content.xml": page_xml(area).encode()})
    document = read_document(package, read_bodies(package)[0])
    assert [page.id for page in document.pages] == ["10", "11"]
    assert read_page_box(package, document, document.pages[0]) == Box(0, 0, 210, 297)
    assert read_page_box(package, document, document.pages[1]) == Box(0, 0, 100.5, 50)


def test_a_page_without_size_or_file_or_id() -> None:
    package = opened({"Doc_0/Document.xml": document_xml(3, box="none").encode()})
    document = read_document(package, read_bodies(package)[0])
    for page in (document.pages[0], document.pages[2]):
        with pytest.raises(FormatError) as caught:
            read_page_box(package, document, page)
        assert caught.value.code == "ofd_page"
    package = opened({"Doc_0/Document.xml": document_xml().replace('ID="10"', "").encode()})
    with pytest.raises(FormatError) as caught:
        read_document(package, read_bodies(package)[0])
    assert caught.value.code == "ofd_document"


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 4 5", "a b c d", "0 0 nan 1", "0 0 inf 1", "0 0 0 1", "0 0 1 -1"])
def test_boxes_that_are_none(text: str) -> None:
    assert parse_box(text) is None


def test_a_list_with_all_its_quirks() -> None:
    data = list_xml(
        record("1"),
        record("1", "Sign_1/Signature.xml", 'Type="Sign" Relative="1"'),
        record("3", "Doc_0/Signs/Sign_0/Signature.xml"),
        max_id="<ofd:MaxSignId>1</ofd:MaxSignId><ofd:MaxSignId>3</ofd:MaxSignId>",
    )
    listed = read_list(opened({LIST: data, SIGN: b"<a/>"}), LIST)
    assert [(each.id, each.type, each.location.name, each.relative) for each in listed.records] == [
        ("1", "Seal", SIGN, None),
        ("1", "Sign", "Doc_0/Signs/Sign_1/Signature.xml", "1"),
        ("3", "Seal", SIGN, None),
    ]
    assert listed.max_ids == ("1", "3")
    assert [note.code for note in listed.notes] == ["quirk_duplicate_id", "quirk_xml"]
    assert [note.code for note in listed.records[2].location.notes] == ["quirk_path"]


def test_a_signature_as_the_standard_has_it() -> None:
    stamps = '<ofd:StampAnnot ID="s002" PageRef="10" Boundary="1 2 3 4" Clip="0 0 1 4"/>'
    data = signature_xml({"/OFD.xml": bytes(32)}, stamps=stamps, time="2024-01-02T03:04:05Z")
    file = read_signature(opened({SIGN: data}), SIGN)
    assert file.date_time == "2024-01-02T03:04:05Z"
    assert [(each.file.name, each.method, each.value) for each in file.references] == [("OFD.xml", "sm3", bytes(32))]
    assert [(each.id, each.page, each.boundary, each.clip) for each in file.stamps] == [
        ("s002", "10", Box(1, 2, 3, 4), Box(0, 0, 1, 4))
    ]
    assert file.seal is not None
    assert file.notes == ()


def test_a_signature_with_all_its_quirks() -> None:
    data = signature_xml(
        {"/OFD.xml": bytes(32), "Doc_0/Document.xml": b""},
        provider="<ofd:Provider><ofd:ProviderName>x</ofd:ProviderName></ofd:Provider>",
        stamps='<ofd:StampAnnot ID="1" PageRef="10" Boundary="?"/><ofd:StampAnnot ID="1" PageRef="11"/>',
        seal="",
        value="SignValue.dat",
    )
    value = b"<ofd:SignedValue>SignValue.dat</ofd:SignedValue>"
    data = data.replace(value, b"").replace(b"<ofd:SignedInfo>", value + b"<ofd:SignedInfo>")
    file = read_signature(opened({SIGN: data, "Doc_0/Signs/Sign_0/SignValue.dat": b"x"}), SIGN)
    assert [note.code for note in file.notes] == ["quirk_xml", "quirk_xml", "quirk_duplicate_id"]
    assert file.signed_value is not None
    assert file.signed_value.name == "Doc_0/Signs/Sign_0/SignValue.dat"
    assert file.seal is None
    assert [each.value for each in file.references] == [bytes(32), None]
    assert [each.boundary for each in file.stamps] == [None, None]


@pytest.mark.parametrize(
    ("written", "method"),
    [
        ("SM3", "sm3"), ("1.2.156.10197.1.401", "sm3"), ("sm3", "sm3"), ("MD5", "md5"), ("SHA1", "sha1"),
        ("SHA-1", "sha1"), ("SHA-256", "sha256"), ("1.3.14.3.2.26", "sha1"), ("CRC32", None), ("", None),
    ],
)  # fmt: skip
def test_check_methods(written: str, method: str | None) -> None:
    file = read_signature(opened({SIGN: signature_xml({"/OFD.xml": b"x"}, method=written)}), SIGN)
    assert file.references[0].method == method


def test_no_check_method_means_md5() -> None:
    data = signature_xml({"/OFD.xml": b"x"}).replace(b' CheckMethod="SM3"', b"")
    assert read_signature(opened({SIGN: data}), SIGN).references[0].method == "md5"


def test_too_many_references_and_stamps_are_named_limits() -> None:
    data = signature_xml({"/OFD.xml": b"x", "/a": b"y"}, stamps='<ofd:StampAnnot ID="1"/><ofd:StampAnnot ID="2"/>')
    with pytest.raises(LimitExceeded, match="References"):
        read_signature(opened({SIGN: data}, replace(DEFAULT_LIMITS, references=1)), SIGN)
    with pytest.raises(LimitExceeded, match="stamps"):
        read_signature(opened({SIGN: data}, replace(DEFAULT_LIMITS, stamps=1)), SIGN)


@pytest.mark.parametrize("data", [b"<a/>", f"<ofd:Signature {NS}/>".encode(), f"<ofd:Other {NS}/>".encode()])
def test_a_file_that_is_no_signature_or_list(data: bytes) -> None:
    package = opened({SIGN: data})
    for read, code in ((read_signature, "ofd_signature"), (read_list, "ofd_signature_list")):
        with pytest.raises(FormatError) as caught:
            read(package, SIGN)
        assert caught.value.code == code
