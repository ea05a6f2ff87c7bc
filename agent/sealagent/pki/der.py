"""A small, bounded reader of DER (X.690 ch. 10) that hands out slices of the received octets.

Signatures are verified over the octets received, so reading must never re-encode. The general ASN.1 library drops an
explicit ``critical FALSE`` when it copies, accepts BER everywhere, raises nearly anything on hostile octets and cannot
tell the untagged alternatives of SES_CertList apart; it therefore writes, and this module reads.

One level is read at a time and only where the caller asks, so hostile nesting costs nothing. Refused: indefinite
lengths, constructed strings, lengths beyond the buffer, tags above 30. A length with needless octets is BER, but
unambiguous: it is accepted and noted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from re import fullmatch

from sealagent.verdict import Note

__all__ = [
    "BIT_STRING",
    "BOOLEAN",
    "CONTEXT_0",
    "CONTEXT_0_PRIMITIVE",
    "GENERALIZED_TIME",
    "IA5_STRING",
    "INTEGER",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "PRINTABLE_STRING",
    "SEQUENCE",
    "SET",
    "UTC_TIME",
    "UTF8_STRING",
    "DerError",
    "Element",
    "parse_time",
    "read",
    "read_first",
    "sequence",
    "walk",
]

# Identifier octets.
BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING = 0x01, 0x02, 0x03, 0x04
OBJECT_IDENTIFIER, UTF8_STRING = 0x06, 0x0C
PRINTABLE_STRING, IA5_STRING, UTC_TIME, GENERALIZED_TIME = 0x13, 0x16, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
CONTEXT_0_PRIMITIVE, CONTEXT_0 = 0x80, 0xA0

MAX_LENGTH_OCTETS = 4  # a length field longer than this names more than any limit allows
MAX_INTEGER_OCTETS = 16  # versions, types, millimetres: small numbers, with room for needless zeros
MAX_OID_OCTETS = 64
MAX_TIME_OCTETS = 32
MAX_DEPTH = 24  # of a structure that is walked; a certificate nests to about 10
MAX_ELEMENTS = 8192  # likewise; a certificate of 64 KiB with the shortest sensible fields has fewer

_CONSTRUCTED = 0x20


class DerError(ValueError):
    """The octets are not the DER that was asked for. The parsers turn it into their own named error."""


@dataclass(slots=True)
class _Source:
    """The received octets and what was remarkable about them."""

    data: bytes
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Element:
    """One tag-length-value of the received octets."""

    source: _Source = field(repr=False)
    tag: int
    """The identifier octet."""
    start: int
    """Offset of the identifier octet."""
    body: int
    """Offset of the first content octet."""
    end: int
    """Offset after the last content octet."""

    @property
    def raw(self) -> bytes:
        """The whole element as received."""
        return self.source.data[self.start : self.end]

    @property
    def contents(self) -> bytes:
        """The content octets as received."""
        return self.source.data[self.body : self.end]

    @property
    def size(self) -> int:
        """Number of content octets."""
        return self.end - self.body

    def note(self, code: str, detail: str) -> None:
        """Remember a deviation that is survived."""
        self.source.notes.append(Note(code, detail))

    def expect(self, tag: int, what: str) -> Element:
        """Return this element if it has the tag.

        :raises DerError: it has another tag.
        """
        if self.tag != tag:
            raise DerError(f"{what}: tag {self.tag:02x} where {tag:02x} belongs (offset {self.start})")
        return self

    def children(self, what: str, limit: int, minimum: int = 0) -> list[Element]:
        """Return the elements inside a constructed element.

        :raises DerError: not constructed, malformed inside, or their number is not between minimum and limit.
        """
        if not self.tag & _CONSTRUCTED:
            raise DerError(f"{what}: not a constructed element (offset {self.start})")
        found: list[Element] = []
        offset = self.body
        while offset < self.end:
            if len(found) == limit:
                raise DerError(f"{what}: more than {limit} elements")
            child = _element(self.source, offset, self.end)
            found.append(child)
            offset = child.end
        if len(found) < minimum:
            raise DerError(f"{what}: {len(found)} elements where {minimum} are needed")
        return found

    def integer(self, what: str, limit: int = MAX_INTEGER_OCTETS) -> int:
        """Return the value of an INTEGER of at most limit octets; needless leading zeros are noted.

        :raises DerError: no INTEGER, empty, or too long.
        """
        octets = self.expect(INTEGER, what).contents
        if not 1 <= len(octets) <= limit:
            raise DerError(f"{what}: an INTEGER of {len(octets)} octets")
        if len(octets) > 1 and octets[0] == 0 and octets[1] < 0x80:
            self.note("quirk_long_integer", what)
        return int.from_bytes(octets, "big", signed=True)

    def boolean(self, what: str) -> bool:
        """Return a BOOLEAN; a true value other than FF is BER and noted.

        :raises DerError: no BOOLEAN or not one octet.
        """
        octets = self.expect(BOOLEAN, what).contents
        if len(octets) != 1:
            raise DerError(f"{what}: a BOOLEAN of {len(octets)} octets")
        if octets[0] not in (0x00, 0xFF):
            self.note("quirk_ber", f"{what}: BOOLEAN {octets[0]:02x}")
        return octets[0] != 0

    def octets(self, what: str, limit: int) -> bytes:
        """Return the content of an OCTET STRING of at most limit octets.

        :raises DerError: another tag or too long.
        """
        return self.expect(OCTET_STRING, what).bounded(what, limit)

    def bits(self, what: str, limit: int) -> bytes:
        """Return the content of a BIT STRING without its unused-bits octet, which must be 0.

        :raises DerError: another tag, too long, empty, or a number of bits that is no multiple of 8.
        """
        return self.expect(BIT_STRING, what).bit_contents(what, limit)

    def bit_contents(self, what: str, limit: int) -> bytes:
        """As :meth:`bits` for an implicitly tagged BIT STRING, whatever its tag."""
        octets = self.bounded(what, limit + 1)
        if not octets or octets[0] != 0:
            raise DerError(f"{what}: a BIT STRING that does not hold whole octets")
        return octets[1:]

    def text(self, tag: int, what: str, limit: int) -> str:
        """Return a UTF8String, IA5String or PrintableString of at most limit octets; UTF-8 in the latter two is noted.

        :raises DerError: another tag, too long, or no UTF-8.
        """
        octets = self.expect(tag, what).bounded(what, limit)
        if tag != UTF8_STRING and not octets.isascii():
            self.note("quirk_text", what)
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DerError(f"{what}: octets that are no text") from error

    def oid(self, what: str) -> str:
        """Return an OBJECT IDENTIFIER in dotted form.

        :raises DerError: another tag, empty, truncated or longer than :data:`MAX_OID_OCTETS`.
        """
        octets = self.expect(OBJECT_IDENTIFIER, what).bounded(what, MAX_OID_OCTETS)
        if not octets or octets[-1] & 0x80:
            raise DerError(f"{what}: a truncated OBJECT IDENTIFIER")
        arcs: list[int] = []
        value = 0
        for octet in octets:
            if octet == 0x80 and value == 0:
                raise DerError(f"{what}: an OBJECT IDENTIFIER with needless octets")
            value = value << 7 | octet & 0x7F
            if not octet & 0x80:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))

    def time(self, tag: int, what: str) -> datetime:
        """Return a UTCTime or GeneralizedTime in UTC. The other of the two than demanded is accepted and noted.

        :raises DerError: neither, or not a time with a zone.
        """
        if self.tag not in (UTC_TIME, GENERALIZED_TIME):
            raise DerError(f"{what}: tag {self.tag:02x} where a time belongs")
        if self.tag != tag:
            self.note("quirk_ber", f"{what}: {'UTCTime' if self.tag == UTC_TIME else 'GeneralizedTime'}")
        value = self.bounded(what, MAX_TIME_OCTETS).decode("latin-1")
        moment, strict = parse_time(value, century=self.tag == GENERALIZED_TIME, what=what)
        if not strict:
            self.note("quirk_ber", f"{what}: {value}")
        return moment

    def bounded(self, what: str, limit: int) -> bytes:
        """Return the content octets if they are at most limit.

        :raises DerError: there are more.
        """
        if self.size > limit:
            raise DerError(f"{what}: {self.size} octets, more than {limit}")
        return self.contents


def read(data: bytes, what: str) -> Element:
    """Return the outermost element of the octets.

    :raises DerError: not one definite-length element, or octets after its end.
    """
    element = _element(_Source(data), 0, len(data))
    if element.end != len(data):
        raise DerError(f"{what}: {len(data) - element.end} octets after its end")
    return element


def read_first(data: bytes) -> Element:
    """Return the first element of the octets, whatever follows it.

    :raises DerError: not a definite-length element.
    """
    return _element(_Source(data), 0, len(data))


def walk(data: bytes, what: str) -> Element:
    """As :func:`read`, after a look at every element within, for octets that a recursive reader will see later.

    :raises DerError: malformed anywhere, nested deeper than :data:`MAX_DEPTH`, or more than :data:`MAX_ELEMENTS`.
    """
    top = read(data, what)
    count, ends, offset = 0, [top.end], top.start
    while ends:
        if offset == ends[-1]:
            ends.pop()
            continue
        count += 1
        if count > MAX_ELEMENTS or len(ends) > MAX_DEPTH:
            raise DerError(f"{what}: too many elements, or nested too deeply")
        element = _element(top.source, offset, ends[-1])
        if element.tag in (SEQUENCE, SET) or element.tag & 0xE0 in (0x60, 0xA0, 0xE0):  # or not of the universal class
            ends.append(element.end)
            offset = element.body
        elif element.tag & _CONSTRUCTED:
            raise DerError(f"{what}: a string in pieces (BER) at offset {offset}")
        elif element.tag == OBJECT_IDENTIFIER and element.size > MAX_OID_OCTETS:
            raise DerError(f"{what}: an OBJECT IDENTIFIER of {element.size} octets")
        else:
            offset = element.end
    return top


def sequence(contents: bytes) -> bytes:
    """Put a SEQUENCE header in front of content octets."""
    size = len(contents)
    if size < 0x80:
        return bytes([SEQUENCE, size]) + contents
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([SEQUENCE, 0x80 | len(length)]) + length + contents


def parse_time(value: str, *, century: bool, what: str) -> tuple[datetime, bool]:
    """Read the text of a GeneralizedTime (century) or UTCTime; say whether it is in the form DER demands.

    A two-digit year below 50 is 20xx (RFC 5280 4.1.2.5.1).

    :raises DerError: no such time, or without a zone: hours would be guessed.
    """
    pattern = r"([0-9]{%d})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})?(?:[.,]([0-9]{1,9}))?(Z|[+-][0-9]{4})"
    match = fullmatch(pattern % (4 if century else 2), value)
    if match is None:
        raise DerError(f"{what}: not a time with a zone")
    year, month, day, hour, minute = (int(part) for part in match.groups()[:5])
    second, fraction, zone = match.group(6), match.group(7), match.group(8)
    if not century:
        year += 2000 if year < 50 else 1900
    microsecond = int((fraction or "0").ljust(6, "0")[:6])
    try:
        offset = timedelta()
        if zone != "Z":
            offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5])) * (-1 if zone[0] == "-" else 1)
        local = datetime(year, month, day, hour, minute, int(second or 0), microsecond, timezone(offset))
        moment = local.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise DerError(f"{what}: no such time") from error
    return moment, second is not None and fraction is None and zone == "Z"


def _element(source: _Source, start: int, end: int) -> Element:
    """Read the header at start; the element must end within end."""
    data = source.data
    if end - start < 2:
        raise DerError(f"truncated at offset {start}")
    tag, length, body = data[start], data[start + 1], start + 2
    if tag & 0x1F == 0x1F:
        raise DerError(f"a tag number above 30 at offset {start}")
    if tag in (BIT_STRING | _CONSTRUCTED, OCTET_STRING | _CONSTRUCTED):
        raise DerError(f"a string in pieces (BER) at offset {start}")
    if length == 0x80:
        raise DerError(f"an indefinite length (BER) at offset {start}")
    if length > 0x80:
        count = length & 0x7F
        if count > MAX_LENGTH_OCTETS or body + count > end:
            raise DerError(f"a length field of {count} octets at offset {start}")
        length = int.from_bytes(data[body : body + count], "big")
        if length < 0x80 or length >> 8 * (count - 1) == 0:
            source.notes.append(Note("quirk_ber", f"needless length octets at offset {start}"))
        body += count
    if body + length > end:
        raise DerError(f"a length beyond the end at offset {start}")
    return Element(source, tag, start, body, body + length)
