"""OFD packages for tests: written with ``zipfile`` or octet by octet, and sealed with keys that OpenSSL made."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sample_seals import Identity, identity, png
from sealagent.documents.ofd.seal import AtPosition, Placement, prepare
from sealagent.documents.verify import verify_document
from sealagent.pki.certificates import Certificate
from sealagent.pki.digests import digest
from sealagent.pki.trust import TrustStore
from sealagent.seals.build import assemble_seal, assemble_signature, build_seal_info, build_tbs
from sealagent.seals.model import Picture
from sealagent.seals.parse import parse_seal
from sealagent.seals.verify import Policy
from sealagent.verdict import FileReport, SignatureReport

NOW = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
"""Within the validity of the test certificates, which begins when they are made."""

NS = 'xmlns:ofd="http://www.ofdspec.org/2016"'


def main_xml(bodies: Sequence[str] = ("<ofd:DocRoot>Doc_0/Document.xml</ofd:DocRoot>",), ns: str = NS) -> str:
    inside = "".join(
        f"<ofd:DocBody><ofd:DocInfo><ofd:DocID>1</ofd:DocID></ofd:DocInfo>{body}</ofd:DocBody>" for body in bodies
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ofd:OFD {ns} Version="1.0" DocType="OFD">{inside}</ofd:OFD>'


def document_xml(pages: int = 2, extra: str = "", box: str = "0 0 210 297") -> str:
    listed = "".join(f'<ofd:Page ID="{10 + n}" BaseLoc="Pages/Page_{n}/Content.xml"/>' for n in range(pages))
    return (
        f"<ofd:Document {NS}><ofd:CommonData><ofd:MaxUnitID>99</ofd:MaxUnitID><ofd:PageArea>"
        f"<ofd:PhysicalBox>{box}</ofd:PhysicalBox></ofd:PageArea></ofd:CommonData>"
        f"<ofd:Pages>{listed}</ofd:Pages>{extra}</ofd:Document>"
    )


def page_xml(area: str = "", text: str = "电子印章") -> str:
    content = f"<ofd:Layer ID='1'><ofd:TextObject>{text}</ofd:TextObject></ofd:Layer>"
    return f"<ofd:Page {NS}>{area}<ofd:Content>{content}</ofd:Content></ofd:Page>"


def document_files(pages: int = 2, extra: str = "") -> dict[str, bytes]:
    """Return the files of a small document without signatures."""
    files = {"OFD.xml": main_xml(), "Doc_0/Document.xml": document_xml(pages, extra)}
    files |= {f"Doc_0/Pages/Page_{n}/Content.xml": page_xml(text=f"第 {n + 1} 页") for n in range(pages)}
    return {name: text.encode() for name, text in files.items()} | {"Doc_0/Res/图.png": png()}


def pack(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a package written by the standard library; a name ending in a slash is a folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(
                zipfile.ZipInfo(name, (2024, 2, 3, 4, 5, 6)), data, zipfile.ZIP_STORED if name.endswith("/") else method
            )
    return buffer.getvalue()


def unpack(package: bytes) -> dict[str, bytes]:
    """Return the files of a package as the standard library reads them."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def repack(package: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """Return the package with files replaced, added or (None) removed."""
    files: dict[str, bytes | None] = {**unpack(package), **changes}
    return pack({name: data for name, data in files.items() if data is not None})


class Pipe(io.BytesIO):
    """Makes ``zipfile`` write as to a pipe: sizes follow the data."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError

    def tell(self) -> int:
        raise OSError


@dataclass(frozen=True)
class RawEntry:
    """A zip entry in which everything can be a lie. None means the truth."""

    name: bytes
    data: bytes = b"x"
    method: int = 0
    flags: int = 0
    crc: int | None = None
    packed: int | None = None
    size: int | None = None
    offset: int | None = None
    external: int = 0
    stored: bytes | None = None
    local_name: bytes | None = None
    central_extra: bytes = b""
    local_size: int | None = None
    needed: int = 20


def raw_zip(
    entries: Sequence[RawEntry],
    *,
    prefix: bytes = b"",
    count: int | None = None,
    directory_shift: int = 0,
    comment: bytes = b"",
    trailing: bytes = b"",
    before_end: bytes = b"",
    end_fields: tuple[int, ...] | None = None,
) -> bytes:
    """Return a zip file written field by field."""
    out, directory = bytearray(prefix), bytearray()
    for entry in entries:
        stored = entry.stored
        if stored is None:
            stored = entry.data if entry.method != 8 else zlib.compress(entry.data, 9, -15)
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        packed = len(stored) if entry.packed is None else entry.packed
        size = len(entry.data) if entry.size is None else entry.size
        offset = len(out) if entry.offset is None else entry.offset
        local_name = entry.name if entry.local_name is None else entry.local_name
        local_size = size if entry.local_size is None else entry.local_size
        out += struct.pack(
            "<4s5H3L2H", b"PK\3\4", 20, entry.flags, entry.method, 0, 0x21, crc, packed, local_size, len(local_name), 0
        )
        out += local_name + stored
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 0x0314, entry.needed, entry.flags, entry.method, 0, 0x21, crc, packed, size,
            len(entry.name), len(entry.central_extra), 0, 0, 0, entry.external, offset,
        )  # fmt: skip
        directory += entry.name + entry.central_extra
    at = len(out)
    out += directory + before_end
    number = len(entries) if count is None else count
    fields = end_fields or (0, 0, number, number, len(directory), at + directory_shift)
    out += struct.pack("<4s4H2LH", b"PK\5\6", *fields, len(comment)) + comment + trailing
    return bytes(out)


def signature_xml(
    references: Mapping[str, bytes],
    *,
    method: str = "SM3",
    stamps: str = "",
    seal: str = "<ofd:Seal><ofd:BaseLoc>/Doc_0/Signs/Sign_0/Seal.esl</ofd:BaseLoc></ofd:Seal>",
    value: str = "/Doc_0/Signs/Sign_0/SignedValue.dat",
    provider: str = '<ofd:Provider ProviderName="other"/>',
    time: str = "",
    signature_method: str = "1.2.156.10197.1.501",
) -> bytes:
    """Return a Signature.xml with given CheckValues, the way another product would write it."""
    listed = "".join(
        f'<ofd:Reference FileRef="{name}"><ofd:CheckValue>{b64encode(value).decode()}</ofd:CheckValue></ofd:Reference>'
        for name, value in references.items()
    )
    return (
        f"<ofd:Signature {NS}><ofd:SignedInfo>{provider}"
        f"<ofd:SignatureMethod>{signature_method}</ofd:SignatureMethod>"
        f"<ofd:SignatureDateTime>{time}</ofd:SignatureDateTime>"
        f'<ofd:References CheckMethod="{method}">{listed}</ofd:References>{stamps}{seal}</ofd:SignedInfo>'
        f"<ofd:SignedValue>{value}</ofd:SignedValue></ofd:Signature>"
    ).encode()


def list_xml(*records: str, max_id: str = "<ofd:MaxSignId>s001</ofd:MaxSignId>") -> bytes:
    return f"<ofd:Signatures {NS}>{max_id}{''.join(records)}</ofd:Signatures>".encode()


def record(identifier: str = "s001", location: str = "/Doc_0/Signs/Sign_0/Signature.xml", more: str = "") -> str:
    return f'<ofd:Signature ID="{identifier}" BaseLoc="{location}" {more}/>'


@dataclass
class Sealer:
    """A maker and a signer with software keys and the seal between them."""

    folder: Path
    kind: Literal["p256", "sm2"] = "p256"
    maker: Identity = field(init=False)
    signer: Identity = field(init=False)
    seal_der: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.maker = identity(self.folder, self.kind, "maker")
        self.signer = identity(self.folder, self.kind, "signer")
        info = build_seal_info(
            version=4,
            es_id="0001",
            vendor="Test",
            type=1,
            name="测试章",
            created=NOW - timedelta(minutes=30),
            valid_from=NOW - timedelta(minutes=30),
            valid_until=NOW + timedelta(days=100),
            picture=Picture("PNG", png(), 40, 30),
            certificates=[self.signer.der],
        )
        self.seal_der = assemble_seal(info, self.maker.der, self.maker.algorithm, sign(self.maker, info))

    def seal(self, package: bytes, placements: Sequence[Placement] = (AtPosition(1, 10, 10),), **options: Any) -> bytes:
        """Return the package sealed."""
        seal = parse_seal(self.seal_der)
        prepared = prepare(
            io.BytesIO(package), seal, placements, algorithm_oid=self.signer.algorithm, **{"time": NOW, **options}
        )
        out = io.BytesIO()
        prepared.write(self.signed_value(prepared.data_hash, prepared.property_info), out)
        return out.getvalue()

    def signed_value(self, data_hash: bytes, property_info: str, time: datetime = NOW) -> bytes:
        """Return an SES_Signature."""
        tbs = build_tbs(self.seal_der, 4, time, data_hash, property_info)
        return assemble_signature(tbs, self.signer.der, self.signer.algorithm, sign(self.signer, tbs))

    @property
    def policy(self) -> Policy:
        """Both certificates pinned."""
        return policy_of(self.maker.der, self.signer.der)


def policy_of(*certificates: bytes, now: datetime = NOW) -> Policy:
    return Policy(TrustStore(tuple(Certificate.from_der(each) for each in certificates), "test"), now)


def sign(who: Identity, message: bytes) -> bytes:
    """Sign P-256 in process, for the property tests seal by the hundred; leave SM2 to OpenSSL."""
    if who.kind != "p256":
        return who.sign(message)
    key = serialization.load_pem_private_key(who.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


SIGN = "Doc_0/Signs/Sign_0/Signature.xml"
VALUE = "Doc_0/Signs/Sign_0/SignedValue.dat"
SEAL = "Doc_0/Signs/Sign_0/Seal.esl"
LIST = "Doc_0/Signs/Signatures.xml"
MAIN = main_xml([f"<ofd:DocRoot>Doc_0/Document.xml</ofd:DocRoot><ofd:Signatures>/{LIST}</ofd:Signatures>"]).encode()


def judged(package: bytes, policy: Policy) -> FileReport:
    return verify_document(io.BytesIO(package), "a.ofd", policy)


def only(package: bytes, policy: Policy) -> SignatureReport:
    (signature,) = judged(package, policy).signatures
    return signature


def reasons(report: SignatureReport) -> list[tuple[str, str]]:
    return [(each.code, each.detail) for each in report.reasons]


def codes(report: SignatureReport) -> list[str]:
    return [each.code for each in report.reasons]


def notes(report: SignatureReport, code: str) -> list[str]:
    return [each.detail for each in report.notes if each.code == code]


def foreign(
    sealer: Sealer,
    references: Mapping[str, bytes] | None = None,
    *,
    files: Mapping[str, bytes] | None = None,
    record_xml: str = record(),
    property_info: str = f"/{SIGN}",
    **signature: str,
) -> bytes:
    """Return a package sealed the way another product might do it."""
    content = {**document_files(), "OFD.xml": MAIN, SEAL: sealer.seal_der, **(files or {})}
    if references is None:
        references = {f"/{name}": digest("sm3", data) for name, data in content.items()}
    xml = signature_xml(references, **signature)
    value = sealer.signed_value(digest("sm3", xml), property_info)
    return pack({**content, LIST: list_xml(record_xml), SIGN: xml, VALUE: value})
