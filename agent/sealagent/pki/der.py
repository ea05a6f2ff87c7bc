"""A bounded look at hostile DER before asn1crypto sees it, and slices of the received octets.

Only what certificates and algorithm identifiers need; nothing is decoded here.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DerError", "Span", "check", "children", "first"]

MAX_DEPTH = 24  # a certificate nests to about 10
MAX_ELEMENTS = 8192  # a certificate of 64 KiB with the shortest sensible fields has fewer
MAX_OID_OCTETS = 64  # asn1crypto takes quadratic time over an identifier
MAX_LENGTH_OCTETS = 4  # a length field longer than this names more than any limit allows


class DerError(ValueError):
    """Octets that are not the structure asked for. Callers turn it into their own named error."""


@dataclass(frozen=True, slots=True)
class Span:
    """An element: its identifier octet, where that is, where the content starts and where it ends."""

    tag: int
    start: int
    content: int
    end: int

    def octets(self, data: bytes) -> bytes:
        """Return the whole element as received."""
        return data[self.start : self.end]

    def value(self, data: bytes) -> bytes:
        """Return the content as received."""
        return data[self.content : self.end]


def check(data: bytes) -> bool:
    """Walk over every element without recursion; return whether every length is written in the shortest way.

    :raises DerError: lengths that are indefinite or reach beyond their parent, octets after the end, tags above 30,
        strings in pieces, nesting or a number of elements beyond the limits.
    """
    shortest, count = True, 0
    ends = [len(data)]
    position = 0
    while True:
        while position == ends[-1]:
            ends.pop()
            if not ends:
                return shortest
        if len(ends) == 1 and count:
            raise DerError("octets after the end of the structure")
        count += 1
        if count > MAX_ELEMENTS or len(ends) > MAX_DEPTH:
            raise DerError("the structure has too many elements or is nested too deeply")
        span, minimal = _header(data, position, ends[-1])
        shortest = shortest and minimal
        if span.tag in (0x30, 0x31) or span.tag & 0xE0 in (0x60, 0xA0, 0xE0):
            ends.append(span.end)
            position = span.content
        elif span.tag & 0x20 or (span.tag == 0x06 and span.end - span.content > MAX_OID_OCTETS):
            raise DerError("a string in pieces, or an object identifier beyond the limit")
        else:
            position = span.end


def _header(data: bytes, start: int, end: int) -> tuple[Span, bool]:
    if end - start < 2:
        raise DerError("the structure is cut short")
    tag, length = data[start], data[start + 1]
    if tag & 0x1F == 0x1F:
        raise DerError("a tag above 30")
    content, minimal = start + 2, True
    if length >= 0x80:
        size = length & 0x7F
        if not 0 < size <= MAX_LENGTH_OCTETS:
            raise DerError("an indefinite or absurd length")
        octets = data[content : content + size]
        content += size
        if content > end:
            raise DerError("a length is cut short")
        length = int.from_bytes(octets, "big")
        minimal = length >= 0x80 and octets[0] != 0
    if content + length > end:
        raise DerError("a length reaches beyond its parent")
    return Span(tag, start, content, content + length), minimal


def first(data: bytes) -> Span:
    """Return the element at the start.

    :raises DerError: there is none.
    """
    return _header(data, 0, len(data))[0]


def children(data: bytes, parent: Span) -> list[Span]:
    """Return the elements directly within another."""
    spans, position = [], parent.content
    while position < parent.end:
        span, _ = _header(data, position, parent.end)
        spans.append(span)
        position = span.end
    return spans
