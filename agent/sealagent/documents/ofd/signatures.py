"""Signature lists and signatures of a package (GB/T 33190-2016, 18; GM/T 0099-2020).

Deviations met in real files are read and noted; nothing here judges.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree

from sealagent.documents.ofd import names, xml
from sealagent.documents.ofd.package import Package
from sealagent.documents.ofd.reading import Body
from sealagent.documents.ofd.values import SHOWN, Box, Location, existing, parse_box, resolve
from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki.digests import DIGEST_BY_OID, DIGEST_SIZES
from sealagent.verdict import Note

__all__ = [
    "Reference",
    "SignatureFile",
    "SignatureList",
    "SignatureRecord",
    "SignedBody",
    "Stamp",
    "read_list",
    "read_signature",
    "read_signatures",
]


@dataclass(frozen=True, slots=True)
class SignatureRecord:
    """A record of the signature list."""

    id: str
    type: str
    """``Seal`` (also when absent) or ``Sign``."""
    location: Location
    relative: str | None
    """ID of the signature this one builds on (GM/T 0099)."""


@dataclass(frozen=True, slots=True)
class SignatureList:
    """A Signatures.xml."""

    name: str
    records: tuple[SignatureRecord, ...]
    max_ids: tuple[str, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A protected file."""

    file: Location
    method: str | None
    """Digest name, or None when the CheckMethod is unknown."""
    method_text: str
    value: bytes | None
    """The CheckValue, or None when it is not base64."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A StampAnnot."""

    id: str
    page: str
    boundary: Box | None
    clip: Box | None


@dataclass(frozen=True, slots=True)
class SignatureFile:
    """A Signature.xml."""

    name: str
    method: str
    """SignatureMethod as written; empty when absent."""
    date_time: str
    """SignatureDateTime as written; empty when absent."""
    references: tuple[Reference, ...]
    stamps: tuple[Stamp, ...]
    seal: Location | None
    signed_value: Location | None
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class SignedBody:
    """A body that names a signature list, with all that could be read of its signatures."""

    body: Body
    listed: SignatureList | FormatError
    files: tuple[SignatureFile | FormatError, ...]
    """One for each record of the list."""


def read_signatures(package: Package, bodies: Sequence[Body]) -> list[SignedBody]:
    """Read every signature list and signature of a package; what cannot be read is kept as its error.

    :raises LimitExceeded: ``ofd_too_many_signatures``, ``ofd_too_many_references``, over the whole package.
    """
    limits = package.limits
    read: dict[str, SignatureFile | FormatError] = {}  # many records may name one file
    signatures = references = 0
    found = []
    for body in bodies:
        if body.signatures is None:
            continue
        try:
            listed = read_list(package, existing(package, body.signatures))
        except FormatError as error:
            found.append(SignedBody(body, error, ()))
            continue
        signatures += len(listed.records)
        if signatures > limits.signatures:
            raise LimitExceeded(
                "ofd_too_many_signatures", "the package has too many signatures", limit=limits.signatures
            )
        files = []
        for record in listed.records:
            location = record.location.name or ""
            if location not in read:
                try:
                    file = read_signature(package, existing(package, record.location))
                    references += len(file.references)
                    read[location] = file
                except FormatError as error:
                    read[location] = error
                if references > limits.references:
                    raise LimitExceeded("ofd_too_many_references", "too many References", limit=limits.references)
            files.append(read[location])
        found.append(SignedBody(body, listed, tuple(files)))
    return found


def read_list(package: Package, name: str) -> SignatureList:
    """Read a signature list.

    :raises FormatError: ``ofd_signature_list``, ``xml_…``, ``ofd_entry_missing``.
    :raises LimitExceeded: ``ofd_too_many_signatures``.
    """
    root = xml.read(package, name)
    if not xml.is_named(root, names.SIGNATURES):
        raise FormatError("ofd_signature_list", f"/{name} is no signature list", file=f"/{name}")
    notes: list[Note] = []
    records: list[SignatureRecord] = []
    for element in xml.children(root, names.SIGNATURE):
        location = resolve(package, name, element.get(names.BASE_LOC, ""))
        identifier = element.get("ID", "")
        if any(record.id == identifier for record in records):
            notes.append(Note("quirk_duplicate_id", f"/{name}: {identifier}"))
        records.append(
            SignatureRecord(identifier, element.get("Type", "Seal"), location, element.get("Relative") or None)
        )
        if len(records) > package.limits.signatures:
            raise LimitExceeded("ofd_too_many_signatures", f"/{name} has too many signatures", file=f"/{name}")
    max_ids = tuple(xml.text_of(element) for element in xml.children(root, names.MAX_SIGN_ID))
    if len(max_ids) > 1:
        notes.append(Note("quirk_xml", f"/{name}: {len(max_ids)} MaxSignId"))
    return SignatureList(name, tuple(records), max_ids, tuple(notes))


def read_signature(package: Package, name: str) -> SignatureFile:
    """Read a Signature.xml.

    :raises FormatError: ``ofd_signature``, ``xml_…``, ``ofd_entry_missing``, ``ofd_entry_damaged``.
    :raises LimitExceeded: ``ofd_too_many_references``, ``ofd_too_many_stamps``.
    """
    limits = package.limits
    root = xml.read(package, name)
    info = xml.child(root, names.SIGNED_INFO)
    if not xml.is_named(root, names.SIGNATURE) or info is None:
        raise FormatError("ofd_signature", f"/{name} is no signature", file=f"/{name}")
    value = xml.child(root, names.SIGNED_VALUE)
    notes = _signature_quirks(name, info, value)
    references: list[Reference] = []
    for group in xml.children(info, names.REFERENCES):
        references += _references(package, name, group)
        if len(references) > limits.references:
            raise LimitExceeded("ofd_too_many_references", f"/{name} has too many References", limit=limits.references)
    stamps = tuple(
        Stamp(
            element.get("ID", ""),
            element.get("PageRef", ""),
            parse_box(element.get("Boundary", "")),
            parse_box(element.get("Clip", "")),
        )
        for element in xml.children(info, names.STAMP_ANNOT)
    )
    if len(stamps) > limits.stamps:
        raise LimitExceeded("ofd_too_many_stamps", f"/{name} has too many stamps", limit=limits.stamps)
    if len({stamp.id for stamp in stamps}) < len(stamps):
        notes.append(Note("quirk_duplicate_id", f"/{name}: StampAnnot"))
    seal = xml.child(info, names.SEAL)
    seal_text = xml.text_of(xml.child(seal, names.BASE_LOC)) if seal is not None else ""
    if seal is not None and not seal_text:
        seal_text = seal.get(names.BASE_LOC, "")
    return SignatureFile(
        name,
        xml.text_of(xml.child(info, names.SIGNATURE_METHOD))[:SHOWN],
        xml.text_of(xml.child(info, names.SIGNATURE_DATE_TIME))[:SHOWN],
        tuple(references),
        stamps,
        resolve(package, name, seal_text) if seal is not None else None,
        resolve(package, name, xml.text_of(value)) if value is not None else None,
        tuple(notes),
    )


def _references(package: Package, name: str, group: etree._Element) -> list[Reference]:
    method_text = group.get("CheckMethod", "MD5")[:SHOWN]  # MD5 is the schema's default
    method = DIGEST_BY_OID.get(method_text) or method_text.lower().replace("-", "")
    found = []
    for element in xml.children(group, names.REFERENCE):
        try:
            text = "".join(xml.text_of(xml.child(element, names.CHECK_VALUE)).split())
            value = base64.b64decode(text, validate=True) or None
        except (binascii.Error, ValueError):
            value = None
        location = resolve(package, name, element.get("FileRef", ""), certain=True)
        found.append(Reference(location, method if method in DIGEST_SIZES else None, method_text, value))
    return found


def _signature_quirks(name: str, info: etree._Element, value: etree._Element | None) -> list[Note]:
    notes = []
    if value is not None and info in value.itersiblings():  # ofdrw up to 2.4
        notes.append(Note("quirk_xml", f"/{name}: SignedValue before SignedInfo"))
    provider = xml.child(info, names.PROVIDER)
    if provider is None:
        notes.append(Note("quirk_xml", f"/{name}: no Provider"))
    elif not provider.get("ProviderName"):
        notes.append(Note("quirk_xml", f"/{name}: Provider not written as attributes"))
    return notes
