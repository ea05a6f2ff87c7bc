"""The framing of native messaging: a 32-bit length in native byte order, then that many octets of UTF-8 JSON.

What is too large for one message goes in parts: ``{"id": n, "part": k, "last": bool, "data": base64}``, ``part``
counting from 0 without gaps. The octets of all parts together are the UTF-8 JSON of the message they stand for.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sealagent.errors import FormatError, LimitExceeded

__all__ = [
    "MAX_ASSEMBLED",
    "MAX_MESSAGE_IN",
    "MAX_MESSAGE_OUT",
    "Assembly",
    "FrameReader",
    "Oversized",
    "framed",
    "in_messages",
]

MAX_MESSAGE_OUT = 1 << 20
"""Octets of a message to the browser; browsers end a host that sends more."""
MAX_MESSAGE_IN = 1 << 20
"""Octets of a message from the browser, which may send 64 MiB (Chromium) or 4 GiB (Firefox): ours is the same in both
directions, so that what one message costs is bounded. More goes in parts."""
MAX_ASSEMBLED = 48 << 20
"""Octets of a request in parts: a document of 36 MB in base64, several times what official documents have."""
PART_OCTETS = 720 << 10
"""Octets in a part; base64 makes 960 KiB of them, and what stands around them is under 200."""

_LENGTH = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Oversized:
    """Stands for a message over :data:`MAX_MESSAGE_IN`, whose octets were passed over."""

    octets: int


class FrameReader:
    """Takes the octets of the stream apart. Never holds more than one message of :data:`MAX_MESSAGE_IN`."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._passing = 0
        """Octets of an oversized message that are still to come."""

    @property
    def within(self) -> bool:
        """Whether the stream stands in the middle of a message."""
        return bool(self._held) or self._passing > 0

    def feed(self, octets: bytes) -> Iterator[bytes | Oversized]:
        """Yield the messages that are complete with these octets; use it up before the next call."""
        if self._passing:
            passed = min(self._passing, len(octets))
            self._passing -= passed
            octets = octets[passed:]
        self._held += octets
        start = 0
        while len(self._held) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._held, start)
            first = start + _LENGTH.size
            there = len(self._held) - first
            if length > MAX_MESSAGE_IN:
                self._passing = max(0, length - there)
                start = first + min(length, there)
                yield Oversized(length)
            elif there < length:
                break
            else:
                start = first + length
                yield bytes(self._held[first:start])
        del self._held[:start]


def framed(message: bytes) -> bytes:
    """Return a message with its length before it. :raises LimitExceeded: ``message_too_large``."""
    if len(message) > MAX_MESSAGE_OUT:
        raise LimitExceeded("message_too_large", f"a message to the browser may have {MAX_MESSAGE_OUT} octets")
    return _LENGTH.pack(len(message)) + message


def in_messages(ident: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an answer as one message, or in parts when it is too large for one.

    :param ident: id of the request. :param pieces: the octets of the answer (UTF-8 JSON); never held all at once.
    """
    held = bytearray()
    part = 0
    whole = True
    for piece in pieces:
        held += piece
        whole = whole and len(held) <= MAX_MESSAGE_OUT
        while not whole and len(held) > PART_OCTETS:  # one octet stays, so that there always is a last part
            yield _part(ident, part, False, held[:PART_OCTETS])
            del held[:PART_OCTETS]
            part += 1
    yield bytes(held) if whole else _part(ident, part, True, held)


def _part(ident: int, number: int, last: bool, octets: bytes | bytearray) -> bytes:
    data = base64.b64encode(octets).decode()
    return json.dumps({"id": ident, "part": number, "last": last, "data": data}).encode()


class Assembly:
    """A request that comes in parts."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._next = 0

    def __len__(self) -> int:
        """Octets so far."""
        return len(self._octets)

    def add(self, number: int, data: str) -> int:
        """Add the next part; return how many octets it brought.

        :raises FormatError: ``message_invalid``: not the part that was due, or no base64.
        :raises LimitExceeded: ``message_too_large``: over :data:`MAX_ASSEMBLED` together.
        """
        if number != self._next:
            raise FormatError("message_invalid", f"part {self._next} was due, and part {number} came")
        try:
            octets = base64.b64decode(data, validate=True)
        except ValueError:
            raise FormatError("message_invalid", "data is no base64 (RFC 4648 section 4, with padding)") from None
        if len(self._octets) + len(octets) > MAX_ASSEMBLED:
            raise LimitExceeded("message_too_large", f"a request in parts may have {MAX_ASSEMBLED} octets")
        self._octets += octets
        self._next += 1
        return len(octets)

    def octets(self) -> bytes:
        """Return what the parts make together."""
        return bytes(self._octets)
