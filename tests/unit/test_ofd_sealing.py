"""Sealing a package: what is added, what stays byte for byte, what is refused, and that the result verifies."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import zipfile
from base64 import b64decode
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from ofd_samples import (
    NOW,
    NS,
    Pipe,
    RawEntry,
    Sealer,
    document_files,
    document_xml,
    list_xml,
    main_xml,
    pack,
    raw_zip,
    record,
    repack,
    signature_xml,
    unpack,
)
from sample_parties import noted
from sample_seals import openssl
from sealagent.documents.limits import DEFAULT_LIMITS
from sealagent.documents.ofd.package import Package
from sealagent.documents.ofd.placement import AtPosition, Invisible, Riding
from sealagent.documents.ofd.seal import prepare
from sealagent.documents.verify import verify_document
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki.digests import digest
from sealagent.seals.parse import parse_seal
from sealagent.verdict import FileReport, Verdict

OFD = {"ofd": "http://www.ofdspec.org/2016"}
LIST = "Doc_0/Signs/Signatures.xml"
ROOT = "<ofd:DocRoot>Doc_0/Document.xml</ofd:DocRoot>"
FORBIDDEN = "<ofd:Permissions><ofd:Signature>false</ofd:Signature></ofd:Permissions>"


def verified(sealer: Sealer, package: bytes) -> FileReport:
    return verify_document(io.BytesIO(package), "a.ofd", sealer.policy)


def raw_entries(package: bytes) -> dict[str, tuple[object, ...]]:
    """Return, per entry and in order, what the directory says and the compressed octets, read by other code."""
    found: dict[str, tuple[object, ...]] = {}
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        for info in archive.infolist():
            local = package[info.header_offset : info.header_offset + 30]
            start = (
                info.header_offset
                + 30
                + int.from_bytes(local[26:28], "little")
                + int.from_bytes(local[28:30], "little")
            )
            found[info.filename] = (
                info.date_time, info.compress_type, info.CRC, info.file_size, info.external_attr, info.create_system,
                info.comment, package[start : start + info.compress_size],
            )  # fmt: skip
    return found


def assert_untouched(before: bytes, after: bytes, *but: str) -> None:
    old, new = raw_entries(before), raw_entries(after)
    assert [name for name in new if name in old] == list(old), "order"
    for name in old:
        if name not in but:
            assert new[name] == old[name], name


def xml_of(package: bytes, name: str) -> etree._Element:
    return etree.fromstring(unpack(package)[name])


def test_a_seal_on_a_page(sealer: Sealer) -> None:
    before = pack({"Doc_0/": b"", **document_files()})
    after = sealer.seal(before, [AtPosition(2, 10.5, 20)])
    assert_untouched(before, after, "OFD.xml")
    assert set(unpack(after)) - set(unpack(before)) == {
        LIST, *(f"Doc_0/Signs/Sign_0/{name}" for name in ("Signature.xml", "SignedValue.dat", "Seal.esl")),
    }  # fmt: skip
    root = xml_of(after, "Doc_0/Signs/Sign_0/Signature.xml")
    stamp = root.find("ofd:SignedInfo/ofd:StampAnnot", OFD)
    assert stamp is not None
    assert dict(stamp.attrib) == {"ID": "s002", "PageRef": "11", "Boundary": "10.5 20 40 30"}
    provider = root.find("ofd:SignedInfo/ofd:Provider", OFD)
    assert provider is not None
    assert provider.get("ProviderName") == "SealAgent"
    assert provider.get("Company") is None
    assert root.findtext("ofd:SignedInfo/ofd:SignatureDateTime", None, OFD) == NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    listed = xml_of(after, LIST)
    assert [each.get("BaseLoc") for each in listed.iterfind("ofd:Signature", OFD)] == [
        "/Doc_0/Signs/Sign_0/Signature.xml"
    ]
    assert listed.findtext("ofd:MaxSignId", None, OFD) == "s002"
    assert xml_of(after, "OFD.xml").findtext("ofd:DocBody/ofd:Signatures", None, OFD) == f"/{LIST}"
    report = verified(sealer, after)
    assert report.verdict is Verdict.VALID
    (signature,) = report.signatures
    assert signature.intact is True
    assert signature.closed is False
    assert signature.signed_at == NOW
    assert noted(signature) == ["pinned", "pinned"]


def test_every_file_is_protected_but_the_list_and_the_two_own_files(sealer: Sealer) -> None:
    after = sealer.seal(pack(document_files()))
    files = set(unpack(after))
    own = {"Doc_0/Signs/Sign_0/Signature.xml", "Doc_0/Signs/Sign_0/SignedValue.dat"}
    for name in files - own - {LIST}:
        report = verified(
            sealer,
            repack(
                after, {name: unpack(after)[name] + b" "} if name != "OFD.xml" else {name: unpack(after)[name] + b"\n"}
            ),
        )
        reasons = [(each.code, each.detail) for each in report.signatures[0].reasons]
        expected = [("reference_digest", f"/{name}")]
        assert reasons == ([*expected, ("seal_mismatch", "")] if name.endswith("Seal.esl") else expected)
        assert report.verdict is Verdict.INVALID
    for name in own:
        assert verified(sealer, repack(after, {name: unpack(after)[name] + b" "})).verdict is Verdict.INVALID


def test_several_pages_a_riding_seal_and_an_invisible_signature(sealer: Sealer) -> None:
    before = pack(document_files(5))
    for placements, count in (
        ([AtPosition(1, 0, 0), AtPosition(4, 100, 200)], 2),
        ([Riding()], 5),
        ([Riding("left", pages=(2, 3, 4), at=50)], 3),
        ([Riding(), AtPosition(5, 100, 200)], 6),
        ([Invisible()], 0),
    ):
        after = sealer.seal(before, placements)
        stamps = xml_of(after, "Doc_0/Signs/Sign_0/Signature.xml").findall("ofd:SignedInfo/ofd:StampAnnot", OFD)
        assert len(stamps) == count
        assert len({stamp.get("ID") for stamp in stamps}) == count
        assert all(
            (stamp.get("Clip") is not None) == (index < 5 and isinstance(placements[0], Riding))
            for index, stamp in enumerate(stamps)
        )
        assert len(verified(sealer, after).signatures) == 1
        assert verified(sealer, after).verdict is Verdict.VALID


def test_a_second_seal_leaves_the_first_intact_and_covers_its_files(sealer: Sealer) -> None:
    first = sealer.seal(pack(document_files()))
    second = sealer.seal(first, [Riding()])
    third = sealer.seal(second, [Invisible()])
    assert_untouched(first, second, LIST)
    assert_untouched(second, third, LIST)
    report = verified(sealer, third)
    assert [(each.id, each.verdict, each.closed) for each in report.signatures] == [
        ("s001", "valid", False),
        ("s003", "valid", False),
        ("s006", "valid", False),
    ]
    assert all("not_covered" not in {note.code for note in each.notes} for each in report.signatures)
    value = "Doc_0/Signs/Sign_0/SignedValue.dat"
    broken = verified(sealer, repack(third, {value: unpack(third)["Doc_0/Signs/Sign_1/SignedValue.dat"]}))
    assert [(each.code, each.detail) for each in broken.signatures[1].reasons] == [("reference_digest", f"/{value}")]


def test_closing_keeps_others_from_signing(sealer: Sealer) -> None:
    closed = sealer.seal(sealer.seal(pack(document_files())), close=True)
    report = verified(sealer, closed)
    assert [each.closed for each in report.signatures] == [False, True]
    assert report.verdict is Verdict.VALID
    with pytest.raises(SealAgentError) as caught:
        sealer.seal(closed)
    assert caught.value.code == "ofd_closed"


def test_several_documents_in_one_package(sealer: Sealer) -> None:
    files = document_files()
    files |= {name.replace("Doc_0", "Doc_1"): data for name, data in document_files().items() if name != "OFD.xml"}
    roots = [f"<ofd:DocRoot>Doc_{n}/Document.xml</ofd:DocRoot><ofd:Versions/>" for n in range(2)]
    before = pack({**files, "OFD.xml": main_xml(roots).encode()})
    first = sealer.seal(before, doc=1)
    bodies = xml_of(first, "OFD.xml").findall("ofd:DocBody", OFD)
    assert [body.findtext("ofd:Signatures", None, OFD) for body in bodies] == [None, "/Doc_1/Signs/Signatures.xml"]
    assert [etree.QName(each).localname for each in bodies[1]] == ["DocInfo", "DocRoot", "Versions", "Signatures"]
    assert verified(sealer, first).verdict is Verdict.VALID
    # The first signature protects OFD.xml, which a first signature of the other document would have to change.
    with pytest.raises(SealAgentError) as caught:
        sealer.seal(first, doc=0)
    assert caught.value.code == "ofd_closed"
    for doc in (-1, 2):
        with pytest.raises(SealAgentError) as caught:
            sealer.seal(before, doc=doc)
        assert caught.value.code == "ofd_document_not_found"


def test_a_list_of_another_product_is_extended_in_its_own_style(sealer: Sealer) -> None:
    other = (
        list_xml(record("7"), max_id="<ofd:MaxSignId>8</ofd:MaxSignId><!-- theirs -->")
        .replace(b"ofd:", b"x:")
        .replace(b":ofd", b":x")
    )
    references = {"/Doc_0/Document.xml": digest("sm3", document_files()["Doc_0/Document.xml"])}
    stamp = '<ofd:StampAnnot ID="12" PageRef="10" Boundary="0 0 1 1"/>'
    main = main_xml(
        ["<ofd:DocRoot>Doc_0/Document.xml</ofd:DocRoot><ofd:Signatures>Elsewhere/Sigs.xml</ofd:Signatures>"]
    )
    before = pack(
        document_files()
        | {
            "OFD.xml": main.encode(),
            "Elsewhere/Sigs.xml": other,
            "Elsewhere/sign_4/x": b"",
            "Doc_0/Signs/Sign_0/Signature.xml": signature_xml(references, stamps=stamp),
        }
    )
    after = sealer.seal(before)
    assert_untouched(before, after, "Elsewhere/Sigs.xml")
    text = unpack(after)["Elsewhere/Sigs.xml"].decode()
    assert "<!-- theirs -->" in text
    assert '<x:Signature ID="s013" Type="Seal" BaseLoc="/Elsewhere/Sign_5/Signature.xml"/>' in text
    assert "<x:MaxSignId>s014</x:MaxSignId>" in text


def test_an_empty_list_location_is_filled(sealer: Sealer) -> None:
    main = main_xml(["<ofd:DocRoot>Doc_0/Document.xml</ofd:DocRoot><ofd:Signatures/>"])
    after = sealer.seal(pack({**document_files(), "OFD.xml": main.encode()}))
    assert unpack(after)["OFD.xml"].count(b"Signatures.xml") == 1
    assert verified(sealer, after).verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("ofd_signing_forbidden", {"Doc_0/Document.xml": document_xml(extra=FORBIDDEN)}),
        ("ofd_no_pages", {"Doc_0/Document.xml": document_xml(0)}),
        ("ofd_document", {"OFD.xml": main_xml(["<ofd:DocRoot>Doc_9/Document.xml</ofd:DocRoot>"])}),
        ("ofd_encrypted", {"Encryptions.xml": "<a/>"}),
        ("ofd_integrity_protected", {"OFDEntries.xml": "<a/>"}),
        ("ofd_signature_list", {LIST: "<a/>"}),
        ("ofd_entry_missing", {"OFD.xml": main_xml([ROOT + f"<ofd:Signatures>{LIST}</ofd:Signatures>"])}),
        ("xml_doctype", {"OFD.xml": "<!DOCTYPE a><a/>"}),
    ],
)  # fmt: skip
def test_documents_that_cannot_be_sealed(sealer: Sealer, code: str, changes: dict[str, str]) -> None:
    before = pack({**document_files(), **{name: text.encode() for name, text in changes.items()}})
    with pytest.raises(SealAgentError) as caught:
        sealer.seal(before)
    assert caught.value.code == code


def test_an_earlier_signature_that_cannot_be_read_may_have_closed_the_document(sealer: Sealer) -> None:
    sealed = sealer.seal(pack(document_files()))
    name = "Doc_0/Signs/Sign_0/Signature.xml"
    for change, code in ((None, "ofd_entry_missing"), (b"<a/>", "ofd_signature"), (b"<a", "xml_malformed")):
        with pytest.raises(FormatError) as caught:
            sealer.seal(repack(sealed, {name: change}))
        assert caught.value.code == code


def test_no_package_is_made_that_would_pass_the_limits(sealer: Sealer) -> None:
    entries = len(unpack(pack(document_files())))
    limits = replace(DEFAULT_LIMITS, entries=entries + 3)
    with pytest.raises(LimitExceeded):
        sealer.seal(pack(document_files()), limits=limits)
    sealer.seal(pack(document_files()), limits=replace(limits, entries=entries + 4))
    with pytest.raises(LimitExceeded):
        sealer.seal(pack(document_files()), [Riding()], limits=replace(DEFAULT_LIMITS, stamps=1))


def test_a_damaged_file_is_not_sealed_over(sealer: Sealer) -> None:
    files = document_files()
    entries = [RawEntry(name.encode(), data, 8, 0x800) for name, data in files.items()]
    entries[-1] = replace(entries[-1], crc=1)
    with pytest.raises(FormatError) as caught:
        sealer.seal(raw_zip(entries))
    assert caught.value.code == "ofd_entry_damaged"


def test_the_output_depends_on_nothing_but_the_input(sealer: Sealer) -> None:
    before = pack(document_files())
    seal = parse_seal(sealer.seal_der)

    def sealed() -> bytes:
        prepared = prepare(io.BytesIO(before), seal, [AtPosition(1, 0, 0)], algorithm_oid="1.2.3", time=NOW)
        assert prepared.data_hash == digest("sm3", prepared.signature_xml)
        assert prepared.document_digest == digest("sm3", before)
        assert prepared.property_info == "/Doc_0/Signs/Sign_0/Signature.xml"
        out = io.BytesIO()
        prepared.write(b"value", out)
        return out.getvalue()

    assert sealed() == sealed()


def test_times_are_written_in_whole_seconds_of_utc(sealer: Sealer) -> None:
    local = NOW.astimezone(timezone(timedelta(hours=8))) + timedelta(microseconds=7)
    after = sealer.seal(pack(document_files()), time=local)
    root = xml_of(after, "Doc_0/Signs/Sign_0/Signature.xml")
    assert root.findtext("ofd:SignedInfo/ofd:SignatureDateTime", None, OFD) == NOW.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_streamed_package_loses_its_descriptors_and_nothing_else(sealer: Sealer, tmp_path: Path) -> None:
    target = Pipe()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in document_files().items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                entry.write(data)
    before = target.getvalue()
    after = sealer.seal(before)
    assert_untouched(before, after, "OFD.xml")
    assert all(not entry.record.flags & 8 for entry in Package(io.BytesIO(after)).entries)
    assert verified(sealer, after).verdict is Verdict.VALID


def test_info_zip_accepts_what_is_written(sealer: Sealer, tmp_path: Path) -> None:
    unzip = shutil.which("unzip")
    assert unzip, "unzip is needed: apt-get install unzip"
    path = tmp_path / "sealed.ofd"
    path.write_bytes(sealer.seal(sealer.seal(pack(document_files(3)), [Riding()])))
    done = subprocess.run([unzip, "-t", str(path)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert b"warning" not in done.stdout.lower() + done.stderr.lower()


def children(folder: Path, data: bytes, depth: int) -> list[bytes]:
    """Return the elements at a depth as OpenSSL finds them, tag and length included."""
    path = folder / "der"
    path.write_bytes(data)
    lines = openssl("asn1parse", "-inform", "DER", "-in", path).decode().splitlines()
    found = [re.match(r" *(\d+):d=(\d+) +hl=(\d+) +l= *(\d+)", line) for line in lines]
    places = [tuple(map(int, each.groups())) for each in found if each]
    return [data[at : at + head + length] for at, level, head, length in places if level == depth]


@pytest.mark.parametrize("kind", ["sm2", "p256"])
def test_openssl_agrees_with_every_digest_and_signature(tmp_path: Path, kind: Literal["sm2", "p256"]) -> None:
    """Nothing of the agent takes part in the checking."""
    sealer = Sealer(tmp_path, kind)
    files = unpack(sealer.seal(pack(document_files()), [Riding()]))
    assert verified(sealer, pack(files)).verdict is Verdict.VALID
    root = etree.fromstring(files["Doc_0/Signs/Sign_0/Signature.xml"])
    references = root.findall("ofd:SignedInfo/ofd:References/ofd:Reference", OFD)
    assert len(references) == len(files) - 3
    for reference in references:
        value = b64decode(reference.findtext("ofd:CheckValue", "", OFD))
        assert openssl("dgst", "-sm3", "-binary", data=files[reference.get("FileRef", "")[1:]]) == value
    tbs, certificate, _, signature = children(tmp_path, files["Doc_0/Signs/Sign_0/SignedValue.dat"], 1)
    seal, _, data_hash = children(tmp_path, tbs, 1)[1:4]
    assert seal == files["Doc_0/Signs/Sign_0/Seal.esl"]
    assert data_hash[3:] == openssl("dgst", "-sm3", "-binary", data=files["Doc_0/Signs/Sign_0/Signature.xml"])
    assert certificate.endswith(sealer.signer.der)
    header = 3 if signature[1] < 0x80 else 4
    sealer.signer.verify(tbs, signature[header:])
    info, _, _, made = children(tmp_path, seal, 1)
    sealer.maker.verify(info, made[3:])


names = st.text(
    st.characters(codec="utf-8", categories=["L", "N"], include_characters=" -_.&'<>\"%"), min_size=1, max_size=12
)
extra_files = st.dictionaries(
    names.filter(lambda name: name.strip(".")).map(lambda name: f"Doc_0/Res/x{name}"),
    st.binary(max_size=300),
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=extra_files,
    pages=st.integers(2, 6),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    folders=st.booleans(),
    placements=st.lists(
        st.one_of(
            st.builds(AtPosition, st.integers(1, 2), st.floats(0, 170), st.floats(0, 267)),
            st.builds(Riding, st.sampled_from(["right", "left"]), st.just(None), st.none() | st.floats(0, 267)),
        ),
        max_size=3,
    ),
    close=st.booleans(),
)
def test_whatever_is_sealed_is_intact_and_otherwise_unchanged(
    sealer, files, pages, method, folders, placements, close
) -> None:  # type: ignore[no-untyped-def]
    unique = {name.casefold(): name for name in files}
    before = pack(
        {
            **({"Doc_0/": b"", "Doc_0/Res/": b""} if folders else {}),
            **document_files(pages),
            **{name: files[name] for name in unique.values()},
        },
        method=method,
    )
    after = sealer.seal(before, placements or [Invisible()], close=close)
    assert_untouched(before, after, "OFD.xml")
    (signature,) = verified(sealer, after).signatures
    assert signature.intact is True
    assert signature.verdict is Verdict.VALID
    assert signature.closed is close
    assert not [note for note in signature.notes if note.code == "not_covered" and note.detail != f"/{LIST}"]


def test_what_stays_open_can_be_signed_by_others_until_closed(sealer: Sealer) -> None:
    """The list is left out of the References of every open signature, its own included."""
    package = pack(document_files())
    for _ in range(3):
        package = sealer.seal(package)
    root = xml_of(package, "Doc_0/Signs/Sign_2/Signature.xml")
    refs = [each.get("FileRef") for each in root.iterfind("ofd:SignedInfo/ofd:References/ofd:Reference", OFD)]
    assert f"/{LIST}" not in refs
    assert len(refs) == len(unpack(package)) - 3
    assert NS in unpack(package)[LIST].decode()
