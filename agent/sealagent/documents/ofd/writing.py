"""The XML a new signature writes: its Signature.xml, its record in the list, the list's location in OFD.xml.

What is new is written in the order of the schema (GB/T 33190-2016, 18); what was there stays, comments included.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime

from lxml import etree

import sealagent
from sealagent.documents.ofd import names, xml
from sealagent.documents.ofd.package import Package
from sealagent.documents.ofd.placement import StampPlan
from sealagent.documents.ofd.reading import Body, Page
from sealagent.pki.oids import SM3

__all__ = ["format_id", "list_xml", "main_xml", "signature_xml"]

_PROVIDER = "SealAgent"


def format_id(number: int) -> str:
    """Return the recommended form of a signature's or stamp's ID."""
    return f"s{number:03d}"


def list_xml(package: Package, list_name: str, first_id: int, stamps: int, signature_name: str) -> bytes:
    """Return the signature list with a record more (or the first).

    :param first_id: of the signature; its stamps have the numbers that follow.
    """
    attributes = {"ID": format_id(first_id), "Type": "Seal", names.BASE_LOC: f"/{signature_name}"}
    last_id = format_id(first_id + stamps)
    if list_name not in package:
        root = _root(names.SIGNATURES)
        _add(root, names.MAX_SIGN_ID, last_id)
        etree.SubElement(root, _tag(names.SIGNATURE), attributes)
        return xml.serialise(root)
    root = xml.read(package, list_name, keep_comments=True)
    for element in xml.children(root, names.MAX_SIGN_ID):
        element.text = last_id
    present = list(xml.children(root, names.SIGNATURE))
    record = etree.SubElement(root, _like(root, names.SIGNATURE), attributes)
    if present:
        _move_after(present[-1], record)
    return xml.serialise(root)


def main_xml(package: Package, body: Body, list_name: str) -> bytes:
    """Return OFD.xml with the location of the body's signature list."""
    root = xml.read(package, names.MAIN, keep_comments=True)
    element = list(xml.children(root, names.DOC_BODY))[body.number]
    location = xml.child(element, names.SIGNATURES)  # there, but empty
    if location is None:
        before = xml.child(element, names.VERSIONS)
        before = xml.child(element, names.DOC_ROOT) if before is None else before
        assert before is not None  # or the document could not have been read
        location = etree.SubElement(element, _like(before, names.SIGNATURES))
        _move_after(before, location)
    location.text = f"/{list_name}"
    return xml.serialise(root)


def signature_xml(
    algorithm_oid: str,
    time: datetime,
    references: Sequence[tuple[str, bytes]],
    pages: Sequence[Page],
    plans: Sequence[StampPlan],
    first_id: int,
    seal_name: str,
    value_name: str,
) -> bytes:
    """Return a Signature.xml.

    :param time: UTC.
    :param references: names of the protected files with their SM3 digests.
    :param first_id: of the signature.
    """
    root = _root(names.SIGNATURE)
    info = _add(root, names.SIGNED_INFO)
    _add(info, names.PROVIDER, ProviderName=_PROVIDER, Version=sealagent.__version__)
    _add(info, names.SIGNATURE_METHOD, algorithm_oid)
    _add(info, names.SIGNATURE_DATE_TIME, time.strftime("%Y-%m-%dT%H:%M:%SZ"))
    group = _add(info, names.REFERENCES, CheckMethod=SM3)  # never the schema's MD5 or SHA1
    for name, value in references:
        _add(_add(group, names.REFERENCE, FileRef=f"/{name}"), names.CHECK_VALUE, b64encode(value).decode("ascii"))
    for number, plan in enumerate(plans, first_id + 1):
        stamp = _add(
            info,
            names.STAMP_ANNOT,
            ID=format_id(number),
            PageRef=pages[plan.page].id,
            Boundary=_box(plan.boundary),
        )
        if plan.clip is not None:
            stamp.set("Clip", _box(plan.clip))
    _add(_add(info, names.SEAL), names.BASE_LOC, f"/{seal_name}")
    _add(root, names.SIGNED_VALUE, f"/{value_name}")
    return xml.serialise(root)


def _root(name: str) -> etree._Element:
    return etree.Element(_tag(name), nsmap={names.PREFIX: names.NAMESPACE})


def _add(parent: etree._Element, name: str, text: str | None = None, **attributes: str) -> etree._Element:
    element = etree.SubElement(parent, _tag(name), attributes)
    element.text = text
    return element


def _tag(name: str) -> str:
    return f"{{{names.NAMESPACE}}}{name}"


def _like(element: etree._Element, name: str) -> str:
    """Return the name in the OFD namespace that this element uses."""
    return f"{{{etree.QName(element).namespace}}}{name}"


def _move_after(present: etree._Element, new: etree._Element) -> None:
    """Move the new element behind its sibling, with the same indentation."""
    tail = present.tail  # addnext() takes it along
    present.addnext(new)
    present.tail = new.tail = tail


def _box(values: Sequence[float]) -> str:
    """Write mm with at most three digits after the point, and no negative zero."""
    return " ".join(f"{round(value, 3) + 0.0:.3f}".rstrip("0").rstrip(".") for value in values)
