"""Sealing a package (GB/T 33190-2016, 18; steps of GM/T 0099-2020): prepare, let the device sign, write.

Everything that needs the document happens in :func:`prepare`; the slow or human part (PIN, token) sits between it and
:meth:`Prepared.write`, which only puts the finished SES_Signature in its place.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

from sealagent.documents.limits import DEFAULT_LIMITS, Limits
from sealagent.documents.ofd import names
from sealagent.documents.ofd.package import Entry, Package
from sealagent.documents.ofd.packing import NewFile, write_package
from sealagent.documents.ofd.placement import AtPosition, Invisible, Placement, Riding, plan_stamps
from sealagent.documents.ofd.reading import Body, is_encrypted, read_bodies, read_document, read_page_box
from sealagent.documents.ofd.signatures import SignatureFile, SignatureList, read_signatures
from sealagent.documents.ofd.writing import list_xml, main_xml, signature_xml
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki.digests import digest
from sealagent.seals.model import Seal

__all__ = ["AtPosition", "Invisible", "Placement", "Prepared", "Riding", "prepare"]

_DIGEST = "sm3"
_TRAILING_NUMBER = re.compile(r"(\d{1,9})$")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that lacks nothing but the value of its new signature.

    The source must stay open and unchanged until written: its files are copied without a second look.
    """

    signature_xml: bytes
    """The new Signature.xml, final."""
    data_hash: bytes
    """SM3 of :attr:`signature_xml`: the dataHash of TBS_Sign."""
    property_info: str
    """Package path of the Signature.xml: the propertyInfo of TBS_Sign."""
    document_digest: bytes
    """SM3 of the package as it came in."""
    pages: int
    """How many pages the document has."""
    package: Package = field(repr=False)
    items: tuple[Entry | NewFile, ...] = field(repr=False)
    """All of the new package but the value."""
    value_name: str
    time: datetime

    def write(self, signed_value: bytes, out: BinaryIO) -> None:
        """Write the sealed package.

        :param signed_value: SES_Signature, DER.
        :param out: written from its present position on, never read or sought.
        :raises FormatError: ``ofd_entry_damaged`` when the source was cut off meanwhile.
        """
        write_package(self.package, [*self.items, NewFile(self.value_name, signed_value)], self.time, out)


def prepare(
    source: BinaryIO,
    seal: Seal,
    placements: Sequence[Placement],
    *,
    algorithm_oid: str,
    time: datetime,
    close: bool = False,
    doc: int = 0,
    limits: Limits = DEFAULT_LIMITS,
) -> Prepared:
    """Add a seal signature to a package, all but its value.

    :param source: the package, seekable; it stays the caller's.
    :param algorithm_oid: SignatureMethod, dotted.
    :param time: timezone-aware; the time of TBS_Sign, whole seconds are written.
    :param close: protect the signature list too, so that no further signature can be added.
    :param doc: which document of the package, from 0.
    :raises FormatError: whatever is wrong with the package (:class:`~sealagent.documents.ofd.package.Package`,
        :mod:`~sealagent.documents.ofd.reading`).
    :raises SealAgentError: ``ofd_closed`` (an earlier signature protects a file that would change),
        ``ofd_signing_forbidden`` (Permissions/Signature), ``ofd_encrypted``, ``ofd_integrity_protected`` (a GM/T 0099
        list that new files would break), ``ofd_no_pages``, ``ofd_document_not_found`` and those of
        :func:`~sealagent.documents.ofd.placement.plan_stamps`.
    """
    package = Package(source, limits)
    time = time.astimezone(UTC).replace(microsecond=0)
    body, existing = _signable(package, doc)
    document = read_document(package, body)
    if not document.may_sign:
        raise SealAgentError("ofd_signing_forbidden", "the document forbids signatures (Permissions/Signature)")
    if not document.pages:
        raise SealAgentError("ofd_no_pages", "the document has no pages")
    picture = seal.picture
    plans = plan_stamps(
        placements,
        picture.width,
        picture.height,
        len(document.pages),
        lambda index: read_page_box(package, document, document.pages[index]),
    )
    if len(plans) > limits.stamps:
        raise LimitExceeded("ofd_too_many_stamps", "a signature cannot have so many stamps", limit=limits.stamps)

    list_name = _list_name(package, body)
    folder = _new_folder(package, list_name)
    signature_name, seal_name, value_name = (
        f"{folder}/{name}" for name in ("Signature.xml", "Seal.esl", "SignedValue.dat")
    )
    first_id = _highest_id(existing.get(body.number)) + 1
    changed = {list_name: list_xml(package, list_name, first_id, len(plans), signature_name)}
    if body.signatures is None:
        changed[names.MAIN] = main_xml(package, body, list_name)

    items: list[Entry | NewFile] = [
        NewFile(entry.name, changed.pop(entry.name)) if entry.name in changed else entry for entry in package.entries
    ]
    items += [NewFile(name, data) for name, data in changed.items()]
    items.append(NewFile(seal_name, seal.raw))
    open_lists = set() if close else {list_name, *(listed.name for listed, _ in existing.values())}
    signature = signature_xml(
        algorithm_oid,
        time,
        _references(package, items, open_lists),
        document.pages,
        plans,
        first_id,
        seal_name,
        value_name,
    )
    items.append(NewFile(signature_name, signature))
    if len(items) + 1 > limits.entries:
        raise LimitExceeded("ofd_too_many_entries", "the package would have too many entries", limit=limits.entries)
    return Prepared(
        signature,
        digest(_DIGEST, signature),
        f"/{signature_name}",
        package.whole_digest(_DIGEST),
        len(document.pages),
        package,
        tuple(items),
        value_name,
        time,
    )


_Existing = dict[int, tuple[SignatureList, list[SignatureFile]]]
"""Signature lists and signatures that are there already, by document."""


def _signable(package: Package, doc: int) -> tuple[Body, _Existing]:
    """Return the document to sign and every signature there is, or refuse."""
    if is_encrypted(package):
        raise SealAgentError("ofd_encrypted", "the package is encrypted")
    if names.INTEGRITY_LIST in package:
        raise SealAgentError("ofd_integrity_protected", "the package has an integrity list: no file may be added")
    bodies = read_bodies(package)
    if not 0 <= doc < len(bodies):
        raise SealAgentError("ofd_document_not_found", f"the package has no document {doc}", documents=len(bodies))
    body = bodies[doc]
    will_change = names.MAIN if body.signatures is None else body.signatures.name
    existing: _Existing = {}
    for signed in read_signatures(package, bodies):
        if isinstance(signed.listed, FormatError):
            raise signed.listed
        files: list[SignatureFile] = []
        existing[signed.body.number] = (signed.listed, files)
        for file in signed.files:
            if isinstance(file, FormatError):
                raise file  # it may have closed the document: nothing is added beside what cannot be read
            files.append(file)
            if any(reference.file.name == will_change for reference in file.references):
                raise SealAgentError(
                    "ofd_closed", f"the signature /{file.name} protects /{will_change}", signature=f"/{file.name}"
                )
    return body, existing


def _list_name(package: Package, body: Body) -> str:
    if body.signatures is not None:
        if body.signatures.name is None:
            raise FormatError("ofd_signature_list", f"the list {body.signatures.text!r} lies outside the package")
        return body.signatures.name
    folder = posixpath.dirname(str(body.root.name))
    if not folder.isascii():  # propertyInfo is an IA5String
        folder = f"Doc_{body.number}"
    name = posixpath.join(folder, "Signs", "Signatures.xml")
    if name in package:
        raise FormatError("ofd_signature_list", f"/{name} exists but OFD.xml does not name it", file=f"/{name}")
    return name


def _new_folder(package: Package, list_name: str) -> str:
    """Return the first free Sign_N beside the list, N above every N there is."""
    base = posixpath.dirname(list_name) if list_name.isascii() else "Signs"
    prefix = posixpath.join(base, "Sign_")
    used = -1
    for entry in package.entries:
        if entry.name.lower().startswith(prefix.lower()):
            number = entry.name[len(prefix) :].partition("/")[0]
            if number.isdecimal() and len(number) < 10:
                used = max(used, int(number))
    return f"{prefix}{used + 1}"


def _highest_id(existing: tuple[SignatureList, list[SignatureFile]] | None) -> int:
    """Return the highest number among the IDs of signatures and stamps: they share one space."""
    if existing is None:
        return 0
    listed, files = existing
    identifiers = [*listed.max_ids, *(record.id for record in listed.records)]
    identifiers += [stamp.id for file in files for stamp in file.stamps]
    return max(
        (int(found[1]) for identifier in identifiers if (found := _TRAILING_NUMBER.search(identifier))), default=0
    )


def _references(package: Package, items: Sequence[Entry | NewFile], left_out: set[str]) -> list[tuple[str, bytes]]:
    """Return every file to be protected with the digest of its new contents."""
    found = []
    for item in items:
        if item.name in left_out or item.name.endswith("/"):
            continue
        value = digest(_DIGEST, item.data) if isinstance(item, NewFile) else package.digest(item.name, _DIGEST)
        found.append((item.name, value))
    return found
