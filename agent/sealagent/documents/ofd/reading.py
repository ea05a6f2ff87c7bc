"""The bodies and pages of a package (GB/T 33190-2016, 7): as much as signing and verifying need."""

from __future__ import annotations

from dataclasses import dataclass

from sealagent.documents.ofd import names, xml
from sealagent.documents.ofd.package import Package
from sealagent.documents.ofd.values import Box, Location, parse_box, resolve
from sealagent.errors import FormatError, LimitExceeded

__all__ = ["Body", "Document", "Page", "is_encrypted", "read_bodies", "read_document", "read_page_box"]


@dataclass(frozen=True, slots=True)
class Body:
    """A DocBody of OFD.xml."""

    number: int
    """From 0."""
    root: Location
    """Of its Document.xml."""
    signatures: Location | None
    """Of its signature list; None when it has none yet."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of Document.xml."""

    id: str
    location: Location


@dataclass(frozen=True, slots=True)
class Document:
    """What signing needs of a Document.xml."""

    pages: tuple[Page, ...]
    area: Box | None
    """PhysicalBox of pages that state none."""
    may_sign: bool
    """Permissions/Signature; true where it is not said."""


def is_encrypted(package: Package) -> bool:
    """Tell whether the package is one of GM/T 0099-2020 encryption."""
    return names.ENCRYPTIONS in package


def read_bodies(package: Package) -> tuple[Body, ...]:
    """Read OFD.xml.

    :raises FormatError: ``ofd_main_missing``, ``ofd_main`` (not the root element of OFD, no DocBody), ``xml_…``.
    :raises LimitExceeded: ``ofd_too_many_bodies``.
    """
    if names.MAIN not in package:
        raise FormatError("ofd_main_missing", "the package has no OFD.xml")
    root = xml.read(package, names.MAIN)
    elements = list(xml.children(root, names.DOC_BODY))
    if not xml.is_named(root, names.OFD) or not elements:
        raise FormatError("ofd_main", "OFD.xml holds no document")
    if len(elements) > package.limits.bodies:
        raise LimitExceeded("ofd_too_many_bodies", "OFD.xml has too many documents", limit=package.limits.bodies)
    bodies = []
    for number, element in enumerate(elements):
        document = resolve(package, names.MAIN, xml.text_of(xml.child(element, names.DOC_ROOT)))
        listed = xml.text_of(xml.child(element, names.SIGNATURES))
        bodies.append(Body(number, document, resolve(package, names.MAIN, listed) if listed else None))
    return tuple(bodies)


def read_document(package: Package, body: Body) -> Document:
    """Read the Document.xml of a body.

    :raises FormatError: ``ofd_document`` (missing, other root, a page without ID), ``xml_…``.
    :raises LimitExceeded: ``ofd_too_many_pages``.
    """
    name = body.root.name
    if name is None or name not in package:
        raise FormatError("ofd_document", f"document {body.number} has no root file", location=body.root.text)
    root = xml.read(package, name)
    if not xml.is_named(root, names.DOCUMENT):
        raise FormatError("ofd_document", f"/{name} is no document root", file=f"/{name}")
    pages = []
    for group in xml.children(root, names.PAGES):
        for element in xml.children(group, names.PAGE):
            page = Page(element.get("ID", "").strip(), resolve(package, name, element.get(names.BASE_LOC, "")))
            if not page.id:
                raise FormatError("ofd_document", f"/{name} has a page without ID", file=f"/{name}")
            pages.append(page)
    if len(pages) > package.limits.pages:
        raise LimitExceeded("ofd_too_many_pages", f"/{name} has too many pages", limit=package.limits.pages)
    area = xml.child(xml.child(root, names.COMMON_DATA), names.PAGE_AREA)
    permission = xml.text_of(xml.child(xml.child(root, names.PERMISSIONS), names.SIGNATURE))
    return Document(
        tuple(pages),
        parse_box(xml.text_of(xml.child(area, names.PHYSICAL_BOX))),
        permission.lower() not in ("false", "0"),
    )


def read_page_box(package: Package, document: Document, page: Page) -> Box:
    """Return a page's PhysicalBox: its own, else that of the document. Templates do not count.

    :raises FormatError: ``ofd_page`` (no such file, no size anywhere), ``xml_…``.
    """
    name = page.location.name
    if name is None or name not in package:
        raise FormatError("ofd_page", f"page {page.id} has no file", location=page.location.text)
    text = xml.text_before(package.chunks(name), name, names.PHYSICAL_BOX, names.CONTENT, package.limits)
    box = parse_box(text or "") or document.area
    if box is None:
        raise FormatError("ofd_page", f"the size of page {page.id} is not known", file=f"/{name}")
    return box
