"""What the command line seals, checked with the OpenSSL command line and the standard library alone.

Nothing of our own verifier is used: ``unzip`` unpacks, the digests are OpenSSL's, the places of the fields are those
``openssl asn1parse`` names, the fields are cut out of the files by these offsets, and OpenSSL verifies signatures and
certificates (GB/T 38540-2020 7.3, GB/T 33190 ch. 18).
"""

from __future__ import annotations

import base64
import io
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agent_world import TestAuthority, World
from cli_parts import Shell
from demo.ofdmaker import demo_document
from openssl_parts import openssl, parsed, sm3
from softhsm2_fixtures import SoftHsm

KEYS = {  # the OBJECT as OpenSSL names it, its OID, the digest
    "rsa-2048": ("sha256WithRSAEncryption", "1.2.840.113549.1.1.11", "-sha256"),
    "ec-p256": ("ecdsa-with-SHA256", "1.2.840.10045.4.3.2", "-sha256"),
    "ec-p384": ("ecdsa-with-SHA384", "1.2.840.10045.4.3.3", "-sha384"),
}
STAMPS = {"position": 1, "riding": 2, "invisible": 0}
OFD = "{http://www.ofdspec.org/2016}"
SM3_OID = "1.2.156.10197.1.401"


def verifies(certificate: bytes, digest: str, signature: bytes, signed: bytes, folder: Path) -> bool:
    """Say whether OpenSSL accepts a signature with the certificate's public key."""
    (folder / "public.pem").write_bytes(openssl("x509", "-inform", "DER", "-pubkey", "-noout", data=certificate))
    (folder / "signature").write_bytes(signature)
    done = subprocess.run(
        ["openssl", "dgst", digest, "-verify", folder / "public.pem", "-signature", folder / "signature"],
        input=signed,
        capture_output=True,
        check=False,
    )
    assert (done.returncode == 0) == (done.stdout == b"Verified OK\n")
    return done.returncode == 0


def chains(certificate: bytes, root: Path, folder: Path) -> None:
    (folder / "leaf.pem").write_bytes(openssl("x509", "-inform", "DER", data=certificate))
    assert openssl("verify", "-CAfile", root, folder / "leaf.pem").endswith(b": OK\n")


@dataclass
class Sealed:
    """A sealed package, unpacked by ``unzip``."""

    before: bytes
    path: Path

    def __post_init__(self) -> None:
        folder = self.path.with_suffix("")
        subprocess.run(["unzip", "-qq", self.path, "-d", folder], check=True, timeout=30)
        files = [file for file in folder.rglob("*") if file.is_file()]
        self.entries = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    def at(self, location: str | None) -> bytes:
        assert location is not None
        return self.entries[location.removeprefix("/")]

    def xml(self, location: str | None) -> ElementTree.Element:
        return ElementTree.fromstring(self.at(location))


@dataclass
class Office:
    """A daemon with one signing key and a v4 and a v5 seal, all on the token."""

    kind: str
    shell: Shell
    certificate: bytes
    root: Path
    documents: dict[str, bytes]

    def seal(self, version: int, place: str, folder: Path) -> Sealed:
        """Seal with the command line."""
        before = self.documents[place]
        (folder / "文件.ofd").write_bytes(before)
        where = {"position": ("--at", "1,120,200"), "riding": ("--riding",), "invisible": ("--invisible",)}[place]
        done = self.shell("document", "seal", folder / "文件.ofd", "--seal", f"公章{version}", *where)
        assert done.status == 0, done.err
        return Sealed(before, folder / "文件-sealed.ofd")


@pytest.fixture(scope="module", params=list(KEYS))
def office(
    request: pytest.FixtureRequest, softhsm: SoftHsm, authority: TestAuthority, vectors: Path
) -> Iterator[Office]:
    token = softhsm.new_token()
    with tempfile.TemporaryDirectory(prefix="seal") as directory:
        world = World(Path(directory), token, authority)
        certificate = world.add_signer(request.param)
        for version in (4, 5):
            der = authority.make_seal([certificate], version=version, name=f"公章{version}", es_id=f"1101{version}")
            token.add_data(der, label=f"seal {version}")
        hello = (vectors / "helloworld.ofd").read_bytes()
        two_pages = demo_document(date(2026, 1, 2)).data
        daemon = world.start()
        yield Office(
            request.param,
            Shell.of(daemon),
            certificate,
            world.root_file,
            {"position": hello, "riding": two_pages, "invisible": hello},
        )
        world.close()
    token.destroy()


@pytest.mark.vectors
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("place", list(STAMPS))
def test_openssl_accepts_what_the_command_line_seals(office: Office, version: int, place: str, tmp_path: Path) -> None:
    sealed = office.seal(version, place, tmp_path)
    named, oid, digest = KEYS[office.kind]

    # From OFD.xml to the signature, by the locations the files themselves name.
    listed = sealed.xml("OFD.xml").findtext(f"{OFD}DocBody/{OFD}Signatures")
    record = sealed.xml(listed).find(f"{OFD}Signature")
    assert record is not None
    description = record.get("BaseLoc")
    signature_xml = sealed.at(description)
    root = ElementTree.fromstring(signature_xml)
    value_at, seal_at = root.findtext(f"{OFD}SignedValue"), root.findtext(f"{OFD}SignedInfo/{OFD}Seal/{OFD}BaseLoc")
    assert root.findtext(f"{OFD}SignedInfo/{OFD}SignatureMethod") == oid

    # Every reference is right, and everything is referred to but the list and the signature's own two files.
    references = root.find(f"{OFD}SignedInfo/{OFD}References")
    assert references is not None
    assert references.get("CheckMethod") == SM3_OID
    covered = set()
    for reference in references:
        name = str(reference.get("FileRef"))
        assert sm3(sealed.at(name)) == base64.b64decode(str(reference.findtext(f"{OFD}CheckValue")), validate=True)
        covered.add(name)
    outside = {str(listed), str(description), str(value_at)}
    assert covered | outside == {f"/{name}" for name in sealed.entries}
    assert not covered & outside

    # The stamps: none, one, or one a page whose clips make up the whole picture (40 mm).
    stamps = root.findall(f"{OFD}SignedInfo/{OFD}StampAnnot")
    assert len(stamps) == STAMPS[place]
    clips = [[float(number) for number in str(stamp.get("Clip")).split()] for stamp in stamps if stamp.get("Clip")]
    if place == "riding":
        assert len({stamp.get("PageRef") for stamp in stamps}) == 2
        assert clips == [[0, 0, 20, 40], [20, 0, 20, 40]]
    else:
        assert clips == []

    # The seal signature: SEQ{toSign, cert, signatureAlgID, signature}.
    signed = parsed(sealed.at(value_at))
    assert signed.tags == ["SEQUENCE", "OCTET STRING", "OBJECT", "BIT STRING"]
    tbs, certificate, algorithm, signature = signed.children
    assert tbs.tags == ["INTEGER", "SEQUENCE", "GENERALIZEDTIME", "BIT STRING", "IA5STRING"]
    number, seal, time, data_hash, property_info = tbs.children
    assert int(number.text, 16) == version
    assert algorithm.text == named
    assert certificate.content == office.certificate
    assert property_info.content.decode() == description
    assert data_hash.bits == sm3(signature_xml)
    moment = datetime.strptime(time.content.decode(), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert verifies(certificate.content, digest, signature.bits, tbs.whole, tmp_path)
    assert not verifies(certificate.content, digest, signature.bits, tbs.whole[:-1] + b"!", tmp_path)
    chains(certificate.content, office.root, tmp_path)

    # The seal: SEQ{eSealInfo, cert, signAlgID, signedValue}, stored as it is signed over, listing the signer.
    assert seal.tags == ["SEQUENCE", "OCTET STRING", "OBJECT", "BIT STRING"]
    assert sealed.at(seal_at) == seal.whole
    info, maker, maker_algorithm, maker_signature = seal.children
    header, es_id, properties, picture = info.children
    assert [child.text for child in header.children[:2]] == ["ES", f"{version:02X}"]
    assert es_id.text == f"1101{version}"
    assert picture.children[0].text == "PNG"
    assert properties.children[1].content.decode() == f"公章{version}"
    assert properties.children[2].text == "01"
    assert certificate.content in [listed_one.content for listed_one in properties.children[3].children]
    begin, end = properties.children[5].content, properties.children[6].content
    assert begin <= time.content <= end
    assert maker_algorithm.text == "ecdsa-with-SHA256"
    assert verifies(maker.content, "-sha256", maker_signature.bits, info.whole, tmp_path)
    chains(maker.content, office.root, tmp_path)

    # Nothing else in the package was touched but OFD.xml, which now names the list.
    with zipfile.ZipFile(io.BytesIO(sealed.before)) as package:
        for entry in package.infolist():
            assert entry.is_dir() or entry.filename == "OFD.xml" or package.read(entry) == sealed.at(entry.filename)


@pytest.mark.vectors
def test_asn1parse_cuts_the_certificate_out(office: Office, tmp_path: Path) -> None:
    """With ``-strparse`` at the offset it names, as somebody at a shell would do it."""
    sealed = office.seal(4, "position", tmp_path)
    value = tmp_path / "SignedValue.dat"
    value.write_bytes(sealed.at("Doc_0/Signs/Sign_0/SignedValue.dat"))
    lines = openssl("asn1parse", "-inform", "DER", "-in", value).decode().splitlines()
    (line,) = [line for line in lines if ":d=1 " in line and "OCTET STRING" in line]
    place, out = line.split(":")[0].strip(), tmp_path / "certificate.der"
    openssl("asn1parse", "-inform", "DER", "-in", value, "-strparse", place, "-noout", "-out", out)
    assert out.read_bytes() == office.certificate
