"""XML of a package: parsed without DTD, entities or network, within limits; looked up without regard to prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from lxml import etree

from sealagent.documents.limits import Limits
from sealagent.documents.ofd.names import NAMESPACES
from sealagent.documents.ofd.package import Package
from sealagent.errors import FormatError, LimitExceeded

__all__ = ["child", "children", "is_named", "parse", "read", "serialise", "text_before", "text_of"]

_ENCODINGS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "gb18030": "gb18030",
    "gbk": "gb18030",
    "gb2312": "gb18030",
}
"""Encodings an XML declaration may name (UTF-16 needs its byte order mark). Others serve only to hide something."""
_DECLARATION = re.compile(rb"<\?xml(?P<inside>[^>]*)\?>")
_ENCODING = re.compile(rb"""\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_PROLOG = re.compile(rb"(?:\s++|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)


def parse(data: bytes, name: str, limits: Limits, *, keep_comments: bool = False) -> etree._Element:
    """Return the root element of an XML file.

    :param name: the file's name, for the error.
    :param keep_comments: True when the tree is to be written again.
    :raises FormatError: ``xml_encoding``, ``xml_doctype`` (any document type declaration), ``xml_malformed``.
    :raises LimitExceeded: ``xml_too_large``, ``xml_too_deep``.
    """
    if len(data) > limits.xml_octets:
        raise LimitExceeded("xml_too_large", f"/{name} is too large", file=f"/{name}", limit=limits.xml_octets)
    text = _as_utf8(data, name)
    if text.count(b"<") > 2 * limits.xml_elements:  # a start and an end each, at most
        raise LimitExceeded("xml_too_large", f"/{name} has too many elements", file=f"/{name}")
    _refuse_doctype(text, name)
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the declaration says: the octets are UTF-8 by now
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=not keep_comments,
        remove_pis=not keep_comments,
    )
    try:
        root = etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise FormatError("xml_malformed", f"/{name} is not well-formed XML", file=f"/{name}") from exc
    if root.getroottree().docinfo.internalDTD is not None:
        raise _doctype(name)
    if _deeper_than(limits.xml_depth)(root):
        raise LimitExceeded("xml_too_deep", f"/{name} is nested too deeply", file=f"/{name}", limit=limits.xml_depth)
    return root


def read(package: Package, name: str, *, keep_comments: bool = False) -> etree._Element:
    """Read and :func:`parse` an XML file of a package."""
    return parse(package.read(name, package.limits.xml_octets), name, package.limits, keep_comments=keep_comments)


def text_before(chunks: Iterable[bytes], name: str, wanted: str, stop: str, limits: Limits) -> str | None:
    """Return the text of the first element ``wanted`` that ends before an element ``stop`` starts, or None.

    Reads no more of the file than that needs.

    :raises FormatError: as :func:`parse`.
    """
    source = iter(chunks)
    first = next(source, b"")
    try:
        plain = _as_utf8(first, name, partial=True)
    except FormatError:
        plain = None  # a first chunk may end within a character of another encoding: then the whole file is needed
    if plain is None or not _reaches_root(plain):
        root = parse(b"".join([first, *source]), name, limits)
        found = next(iter(root.iter(*_tags(wanted))), None)
        return None if found is None else text_of(found)
    _refuse_doctype(plain, name)
    parser = etree.XMLPullParser(
        events=("start", "end"),
        tag=[*_tags(wanted), *_tags(stop)],
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        for chunk in _chain(plain, source):
            parser.feed(chunk)
            for event, element in parser.read_events():
                assert isinstance(element, etree._Element)  # start and end events carry nothing else
                if is_named(element, stop):
                    return None
                if event == "end":
                    return text_of(element)
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise FormatError("xml_malformed", f"/{name} is not well-formed XML", file=f"/{name}") from exc
    return None


def children(element: etree._Element, name: str) -> Iterator[etree._Element]:
    """Yield the child elements of that OFD name, whichever OFD namespace and prefix they use."""
    return element.iterchildren(*_tags(name))


def child(element: etree._Element | None, name: str) -> etree._Element | None:
    """Return the first child element of that OFD name; None stays None."""
    if element is not None:
        tags = _tags(name)
        for each in element:
            if each.tag in tags:
                return each
    return None


def is_named(element: etree._Element, name: str) -> bool:
    """Tell whether the element has that OFD name."""
    return element.tag in _tags(name)


def text_of(element: etree._Element | None) -> str:
    """Return the element's own text without surrounding space; empty for None."""
    return "" if element is None else (element.text or "").strip()


def serialise(root: etree._Element) -> bytes:
    """Return the document as UTF-8 with a declaration."""
    # The library's own declaration has single quotes, which not every OFD reader expects.
    body: bytes = etree.tostring(root.getroottree(), encoding="UTF-8", xml_declaration=False)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body


@lru_cache(maxsize=128)
def _tags(name: str) -> tuple[str, ...]:
    return tuple(f"{{{namespace}}}{name}" for namespace in NAMESPACES)


@lru_cache(maxsize=8)
def _deeper_than(depth: int) -> etree.XPath:
    return etree.XPath(f"boolean({'/*' * (depth + 1)})")


def _doctype(name: str) -> FormatError:
    return FormatError("xml_doctype", f"/{name} has a document type declaration", file=f"/{name}")


def _refuse_doctype(text: bytes, name: str) -> None:
    """Only the prolog can hold a DOCTYPE, and there nothing but a comment starts with ``<!``."""
    rest = text[_prolog_end(text) :][:4]
    if rest.startswith(b"<!") and rest != b"<!--":
        raise _doctype(name)


def _reaches_root(text: bytes) -> bool:
    """Tell whether the beginning of a file holds its whole prolog, so that a DOCTYPE would have been seen."""
    rest = text[_prolog_end(text) :][:4]
    return len(rest) == 4 and rest != b"<!--" and not rest.startswith(b"<?")


def _prolog_end(text: bytes) -> int:
    """Return where the closed comments, instructions and spaces at the beginning end."""
    prolog = _PROLOG.match(text)
    assert prolog is not None  # it matches the empty string
    return prolog.end()


def _as_utf8(data: bytes, name: str, *, partial: bool = False) -> bytes:
    """Return the text as UTF-8 without byte order mark.

    :raises FormatError: ``xml_encoding``.
    """
    unknown = FormatError("xml_encoding", f"/{name} is in an encoding that is not accepted", file=f"/{name}")
    if data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        raise unknown
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif data.startswith(b"\xef\xbb\xbf"):
        encoding, data = "utf-8", data[3:]
    else:
        encoding = "utf-8"
        declaration = _DECLARATION.match(data)
        declared = declaration and _ENCODING.search(declaration["inside"])
        if declared:
            try:
                encoding = _ENCODINGS[declared[1].decode("ascii").lower()]
            except KeyError:
                raise unknown from None
        if b"\x00" in data:
            raise unknown
    if encoding == "utf-8":
        return data  # the parser rejects octets that are not UTF-8
    if partial:
        raise unknown
    try:
        return data.decode(encoding).encode("utf-8")
    except UnicodeError:
        raise unknown from None


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
