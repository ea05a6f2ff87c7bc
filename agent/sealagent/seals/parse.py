"""Read SESeal and SES_Signature of GM/T 0031-2014 (1), GB/T 38540-2020 (4) and GM/T 0031-2025 (5).

Strict where a reading could be ambiguous, tolerant where real products deviate: each deviation becomes a note, never a
change of the octets. Both standards demand DER, so indefinite lengths, strings in pieces, octets after a structure and
elements beyond its definition are refused, as is what exceeds the limits below. Needless octets in a length or an
INTEGER, a default written out, other tags of optional parts and other spellings of a time leave no doubt: noted.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal, NamedTuple

from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki import der
from sealagent.pki.der import DerError, Element
from sealagent.pki.timestamp import read_token
from sealagent.seals.model import Extension, Picture, Seal, SealSignature
from sealagent.verdict import Note

__all__ = ["parse_seal", "parse_signature", "sniff"]

MAX_SEAL = 8 << 20  # octets of a whole seal
MAX_SIGNATURE = MAX_SEAL + (1 << 20)  # octets of a seal signature: a seal, a certificate, a token
MAX_PICTURE = 4 << 20  # octets of picture.data
MAX_PICTURE_SIDE = 10_000  # millimetres
MAX_CERTIFICATES = 256  # entries of certList
MAX_CERTIFICATE = 64 << 10  # octets of one certificate
MAX_EXTENSIONS = 256
MAX_EXTENSION = 1 << 20  # octets of one extnValue
MAX_TEXT = 4 << 10  # octets of esID, Vid, name, picture type, digest name
MAX_PROPERTY_INFO = 64 << 10  # octets; real products put JSON there
MAX_DIGEST = 64
MAX_SIGNATURE_VALUE = 4 << 10  # octets; RSA with 32768 bits would fit
MAX_TOKEN = 256 << 10  # octets of a time-stamp token
MAX_TIME_INFO = MAX_TOKEN  # version 1 may hold a token there

CHINA = timezone(timedelta(hours=8))

_V1_HEADER_VERSIONS = (1, 10, 11)  # practice, a reading of the example, and the example of GM/T 0031-2014


def parse_seal(data: bytes) -> Seal:
    """Read a seal (the content of an ``.esl`` file).

    :param data: DER.
    :raises FormatError: ``seal_format``; :class:`LimitExceeded` with the same code when it is too large.
    """
    if len(data) > MAX_SEAL:
        raise LimitExceeded("seal_format", f"the seal has {len(data)} octets, more than {MAX_SEAL}")
    try:
        return _seal(der.read(data, "the seal"))
    except DerError as error:
        raise FormatError("seal_format", f"malformed seal: {error}") from error


def parse_signature(data: bytes) -> SealSignature:
    """Read a seal signature (``SignedValue.dat`` of an OFD, /Contents of a PDF).

    :param data: DER.
    :raises FormatError: ``sig_format``, also when the embedded seal is what is malformed; :class:`LimitExceeded` with
        the same code when it is too large.
    """
    if len(data) > MAX_SIGNATURE:
        raise LimitExceeded("sig_format", f"the signature has {len(data)} octets, more than {MAX_SIGNATURE}")
    try:
        return _signature(der.read(data, "the signature"))
    except DerError as error:
        raise FormatError("sig_format", f"malformed signature: {error}") from error


def sniff(data: bytes) -> Literal["seal", "ses", "cms", "sm2"] | None:
    """Tell what a blob is from the tags at its beginning (a full parse may still refuse it).

    :return: a seal, a seal signature (``ses``), CMS, a bare SM2 signature (two INTEGERs), or None.
    """
    try:
        top = [child.tag for child in _peek(data)]
        if top[:1] == [der.OBJECT_IDENTIFIER]:
            return "cms"
        if top == [der.INTEGER, der.INTEGER]:
            return "sm2"
        if top[:1] != [der.SEQUENCE] or top[1:2] not in ([der.SEQUENCE], [der.BIT_STRING], [der.OCTET_STRING]):
            return None
        inner = _peek(_peek(data)[0].raw)
    except DerError:
        return None
    if inner and inner[0].tag == der.SEQUENCE and top[1] != der.BIT_STRING:
        return "seal"
    if inner and inner[0].tag == der.INTEGER and top[1] != der.SEQUENCE:
        return "ses"
    return None


def _peek(data: bytes) -> list[Element]:
    first = der.read_first(data).expect(der.SEQUENCE, "the blob")
    return first.children("the blob", 8)


# --- the seal ---


def _seal(element: Element) -> Seal:
    if element.size > MAX_SEAL:
        raise DerError(f"SESeal: {element.size} octets, more than {MAX_SEAL}")
    children = element.expect(der.SEQUENCE, "SESeal").children("SESeal", 5, 2)
    info = children[0]
    if len(children) == 3:
        raise DerError("SESeal: three elements belong to no version")
    if len(children) == 2:
        certificate, algorithm, signature = _exactly(children[1].expect(der.SEQUENCE, "signInfo"), "signInfo", 3)
    else:
        certificate, algorithm, signature = children[1:4]
    timestamp = children[4] if len(children) == 5 else None

    parts = info.expect(der.SEQUENCE, "SES_SealInfo").children("SES_SealInfo", 5, 4)
    header = _exactly(parts[0].expect(der.SEQUENCE, "header"), "header", 3)
    if header[0].text(der.IA5_STRING, "header.ID", MAX_TEXT) != "ES":
        raise DerError("header.ID: not ES")
    version = _seal_version(header[1], two_elements=len(children) == 2)
    if timestamp is not None and version != 5:
        raise DerError(f"SESeal: five elements in version {version}")
    listed = _property(parts[2], version)
    return Seal(
        raw=element.raw,
        info=info.raw,
        maker_fields=certificate.raw + algorithm.raw,
        version=version,
        es_id=parts[1].text(der.IA5_STRING, "esID", MAX_TEXT),
        vendor=header[2].text(der.IA5_STRING, "header.Vid", MAX_TEXT),
        type=listed.type,
        name=listed.name,
        cert_list_type=listed.list_type,
        certificates=listed.certificates,
        certificate_digests=listed.digests,
        created=listed.created,
        valid_from=listed.valid_from,
        valid_until=listed.valid_until,
        picture=_picture(parts[3]),
        extensions=_seal_extensions(parts[4]) if len(parts) == 5 else (),
        maker_certificate=certificate.octets("the maker's certificate", MAX_CERTIFICATE),
        algorithm=algorithm.oid("the maker's algorithm"),
        signature=signature.bits("signedValue", MAX_SIGNATURE_VALUE),
        timestamp=None if timestamp is None else _timestamp(timestamp),
        quirks=_notes(element),
    )


def _seal_version(element: Element, *, two_elements: bool) -> int:
    """Return 1, 4 or 5. The number of elements tells version 1 from the others, header.version 4 from 5."""
    version = element.integer("header.version")
    if two_elements and version in _V1_HEADER_VERSIONS:
        if version != 1:
            element.note("quirk_version", f"header.version {version} in a version 1 seal")
        return 1
    if not two_elements and version in (4, 5):
        return version
    raise DerError(f"header.version: {version} does not belong to this structure")


class _Property(NamedTuple):
    type: int
    name: str
    list_type: int
    certificates: tuple[bytes, ...]
    digests: tuple[tuple[str, bytes], ...]
    created: datetime
    valid_from: datetime
    valid_until: datetime


def _property(element: Element, version: int) -> _Property:
    """SES_ESPropertyInfo: version 1 has no certListType and UTCTime."""
    fields = _exactly(element.expect(der.SEQUENCE, "property"), "property", 6 if version == 1 else 7)
    kind, name = fields[0].integer("property.type"), fields[1].text(der.UTF8_STRING, "property.name", MAX_TEXT)
    list_type = 1 if version == 1 else fields[2].integer("certListType")
    entries = fields[-4].expect(der.SEQUENCE, "certList").children("certList", MAX_CERTIFICATES)
    certificates: tuple[bytes, ...] = ()
    digests: tuple[tuple[str, bytes], ...] = ()
    if list_type == 1:
        certificates = tuple(_listed_certificate(entry) for entry in entries)
    elif list_type == 2:
        digests = tuple(_listed_digest(entry) for entry in entries)
    else:
        raise DerError(f"certListType: {list_type} is neither 1 nor 2")
    tag = der.UTC_TIME if version == 1 else der.GENERALIZED_TIME
    created, start, end = (
        field.time(tag, what) for field, what in zip(fields[-3:], ("createDate", "validStart", "validEnd"), strict=True)
    )
    return _Property(kind, name, list_type, certificates, digests, created, start, end)


def _listed_certificate(element: Element) -> bytes:
    """An OCTET STRING, or (GM/T 0031-2014 leaves the type open, and a product writes this) an IA5String with base64."""
    if element.tag != der.IA5_STRING:
        return element.octets("certList entry", MAX_CERTIFICATE)
    element.note("quirk_cert_list_text", "certList entry")
    text = element.bounded("certList entry", 2 * MAX_CERTIFICATE)
    try:
        return base64.b64decode(b"".join(line for line in text.split() if b"-----" not in line), validate=True)
    except binascii.Error:
        return text


def _listed_digest(element: Element) -> tuple[str, bytes]:
    name, value = _exactly(element.expect(der.SEQUENCE, "CertDigestObj"), "CertDigestObj", 2)
    return (
        name.text(der.PRINTABLE_STRING, "CertDigestObj.type", MAX_TEXT),
        value.octets("CertDigestObj.value", MAX_DIGEST),
    )


def _picture(element: Element) -> Picture:
    kind, data, width, height = _exactly(element.expect(der.SEQUENCE, "picture"), "picture", 4)
    picture = Picture(
        kind.text(der.IA5_STRING, "picture.type", MAX_TEXT),
        data.octets("picture.data", MAX_PICTURE),
        width.integer("picture.width"),
        height.integer("picture.height"),
    )
    if not (1 <= picture.width <= MAX_PICTURE_SIDE and 1 <= picture.height <= MAX_PICTURE_SIDE):
        raise DerError("picture: a side that is no sensible number of millimetres")
    return picture


# --- parts of both structures ---


def _seal_extensions(element: Element) -> tuple[Extension, ...]:
    """Untagged in every real seal; the 2014 text can be read as [0]."""
    if element.tag == der.CONTEXT_0:
        element.note("quirk_ext_wrapped", "the seal's extensions are wrapped in [0]")
        return _tagged_extensions(element)
    return _extensions(element)


def _tagged_extensions(element: Element) -> tuple[Extension, ...]:
    """[0] EXPLICIT; [0] IMPLICIT is told by its first ExtData starting with an OID."""
    inner = element.children("extDatas", MAX_EXTENSIONS)
    if len(inner) == 1 and inner[0].tag == der.SEQUENCE:
        first = inner[0].children("extDatas", MAX_EXTENSIONS)
        if not first or first[0].tag == der.SEQUENCE:
            return tuple(_extension(item) for item in first)
    element.note("quirk_ext_wrapped", "extDatas is tagged [0] IMPLICIT")
    return tuple(_extension(item) for item in inner)


def _extensions(element: Element) -> tuple[Extension, ...]:
    items = element.expect(der.SEQUENCE, "extDatas").children("extDatas", MAX_EXTENSIONS)
    return tuple(_extension(item) for item in items)


def _extension(element: Element) -> Extension:
    fields = element.expect(der.SEQUENCE, "ExtData").children("ExtData", 3, 2)
    oid = fields[0].oid("extnID")
    critical = False
    if len(fields) == 3:
        critical = fields[1].boolean("critical")
        if not critical:
            element.note("quirk_critical_false", oid)
    return Extension(oid, critical, fields[-1].octets("extnValue", MAX_EXTENSION))


def _timestamp(element: Element) -> bytes:
    """[0] EXPLICIT BIT STRING; products also leave the tag out, and a reading of the standard is [0] IMPLICIT."""
    if element.tag == der.CONTEXT_0:
        return _exactly(element, "timeStamp", 1)[0].bits("timeStamp", MAX_TOKEN)
    if element.tag in (der.BIT_STRING, der.CONTEXT_0_PRIMITIVE):
        element.note("quirk_timestamp_tag", "no tag" if element.tag == der.BIT_STRING else "[0] IMPLICIT")
        return element.bit_contents("timeStamp", MAX_TOKEN)
    raise DerError(f"timeStamp: tag {element.tag:02x}")


def _exactly(element: Element, what: str, count: int) -> list[Element]:
    return element.children(what, count, count)


def _notes(element: Element) -> tuple[Note, ...]:
    return tuple(dict.fromkeys(element.source.notes))


# --- the seal signature ---


def _signature(element: Element) -> SealSignature:
    children = element.expect(der.SEQUENCE, "SES_Signature").children("SES_Signature", 5, 2)
    if len(children) == 2:
        return _signature_v1(element, *children)
    if len(children) == 3:
        raise DerError("SES_Signature: three elements belong to no version")
    tbs, certificate, algorithm, value = children[:4]
    fields = tbs.expect(der.SEQUENCE, "TBS_Sign").children("TBS_Sign", 6, 5)
    version = fields[0].integer("TBS_Sign.version")
    seal = _seal(fields[1])
    if version not in (4, 5) or seal.version not in (4, 5):
        raise DerError(f"TBS_Sign.version {version} with a seal of version {seal.version}")
    if version != seal.version:
        tbs.note("quirk_version", f"TBS_Sign.version {version} with a seal of version {seal.version}")
    return SealSignature(
        raw=element.raw,
        tbs=tbs.raw,
        version=version,
        seal=seal,
        time=fields[2].time(der.GENERALIZED_TIME, "timeInfo"),
        time_raw=fields[2].contents,
        data_hash=fields[3].bits("dataHash", MAX_DIGEST),
        property_info=_property_info(fields[4]),
        extensions=_signature_extensions(fields[5]) if len(fields) == 6 else (),
        certificate=certificate.octets("the signer's certificate", MAX_CERTIFICATE),
        algorithm=algorithm.oid("the signer's algorithm"),
        signature=value.bits("signature", MAX_SIGNATURE_VALUE),
        timestamp=_timestamp(children[4]) if len(children) == 5 else None,
        quirks=_notes(element),
    )


def _signature_v1(element: Element, tbs: Element, value: Element) -> SealSignature:
    fields = _exactly(tbs.expect(der.SEQUENCE, "TBS_Sign"), "TBS_Sign", 7)
    version = fields[0].integer("TBS_Sign.version")
    seal = _seal(fields[1])
    if version not in _V1_HEADER_VERSIONS or seal.version != 1:
        raise DerError(f"TBS_Sign.version {version} with a seal of version {seal.version}")
    if version != 1:
        tbs.note("quirk_version", f"TBS_Sign.version {version} in a version 1 signature")
    time_raw = fields[2].bits("timeInfo", MAX_TIME_INFO)
    time, token = _time_info_v1(time_raw, tbs.note)
    return SealSignature(
        raw=element.raw,
        tbs=tbs.raw,
        version=1,
        seal=seal,
        time=time,
        time_raw=time_raw,
        data_hash=fields[3].bits("dataHash", MAX_DIGEST),
        property_info=_property_info(fields[4]),
        extensions=(),
        certificate=fields[5].octets("the signer's certificate", MAX_CERTIFICATE),
        algorithm=fields[6].oid("the signer's algorithm"),
        signature=value.bits("signature", MAX_SIGNATURE_VALUE),
        timestamp=token,
        quirks=_notes(element),
    )


def _signature_extensions(element: Element) -> tuple[Extension, ...]:
    if element.tag == der.CONTEXT_0:
        return _tagged_extensions(element)
    element.note("quirk_ext_wrapped", "extDatas of TBS_Sign is not tagged")
    return _extensions(element)


def _property_info(element: Element) -> str:
    return element.text(der.IA5_STRING, "propertyInfo", MAX_PROPERTY_INFO)


def _time_info_v1(octets: bytes, note: Callable[[str, str], None]) -> tuple[datetime | None, bytes | None]:
    """Read timeInfo of version 1: a DER time, a time-stamp token, or text.

    Text without a zone is the maker's wall clock; the products that write it run in China, so UTC+8 is assumed and
    the note says so. What cannot be read is no format error: the signing time is then unknown.

    :return: the time, and the token if it was one.
    """
    try:
        element = der.read(octets, "timeInfo")
        if element.tag == der.SEQUENCE:
            return read_token(octets).time, octets
        return element.time(der.UTC_TIME, "timeInfo"), None
    except DerError:
        pass
    text = octets.strip(b"\0 ").decode("latin-1")[:64]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, None
    if moment.tzinfo is None:
        note("quirk_time_text", f"timeInfo {text!r} has no zone; read as UTC+8")
        moment = moment.replace(tzinfo=CHINA)
    else:
        note("quirk_time_text", f"timeInfo {text!r}")
    try:
        return moment.astimezone(UTC), None
    except OverflowError:
        return None, None
