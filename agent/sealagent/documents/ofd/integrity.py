"""The integrity list of GM/T 0099-2020 (防夹带): a signed list of names that stops files from being added."""

from __future__ import annotations

from sealagent.documents.digital import Context, judge_cms
from sealagent.documents.ofd import names, xml
from sealagent.documents.ofd.package import Package
from sealagent.documents.ofd.times import read_time
from sealagent.documents.ofd.values import resolve
from sealagent.errors import FormatError
from sealagent.seals.verify import Policy
from sealagent.verdict import Note, Reason, SignatureReport

__all__ = ["judge_integrity"]

_ID = "integrity"


def judge_integrity(package: Package, policy: Policy) -> SignatureReport:
    """Judge ``OFDEntries.xml``: its signature, and that no file of the package is missing from it.

    The names carry no digests, so a changed file is not noticed; the report says so.
    """
    try:
        raw = package.read(names.INTEGRITY_LIST, package.limits.xml_octets)
        root = xml.parse(raw, names.INTEGRITY_LIST, package.limits)
        files = xml.child(root, names.FILE_LIST)
        if not xml.is_named(root, names.DOC_ENTRIES) or files is None:
            raise FormatError("ofd_integrity", f"/{names.INTEGRITY_LIST} is no integrity list")
        value = resolve(package, names.INTEGRITY_LIST, xml.text_of(xml.child(root, names.SIGNED_VALUE_LOC)))
        if value.name is None or value.name not in package:
            raise FormatError("ofd_integrity", f"the signature {value.text!r} of the integrity list is missing")
        signature = package.read(value.name, package.limits.signed_value_octets)
        listed = {
            location.name: location.text
            for element in xml.children(files, names.FILE)
            for location in [resolve(package, names.INTEGRITY_LIST, element.get("FileLoc", ""))]
        }
    except FormatError as error:
        return SignatureReport(_ID, "integrity", None, False, (Reason("integrity_format", error.message),))
    exempt = {names.INTEGRITY_LIST, value.name}
    reasons = [
        Reason("integrity_unlisted_file", f"/{name}")
        for name in package.files
        if name not in listed and name not in exempt
    ]
    reasons += [Reason("reference_missing", text) for name, text in listed.items() if name not in package]
    notes = [Note("integrity_names_only"), *value.notes]
    moment, exact = read_time(root.get("CreationDate", ""))
    if moment is not None and not exact:
        notes.append(Note("quirk_signing_time_text", root.get("CreationDate", "")))
    return judge_cms(signature, Context(_ID, raw, "integrity", moment, reasons, notes), policy)
