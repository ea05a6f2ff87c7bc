"""A document inside JSON: taken out of the body while it arrives, so that no copy of it is held in text.

The body is one JSON object whose member ``content`` is the document in base64 (RFC 4648 §4). The octets of that string
go through a decoder to where the document is kept; everything else is kept as it came, with ``content`` left empty, and
is read as JSON afterwards. What is no JSON before is none then.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable

from sealagent.errors import FormatError, LimitExceeded

__all__ = ["DocumentReader", "encoded_length"]

MAX_DEPTH = 64
"""Nesting of a request; ours have four levels."""

_OUTSIDE = re.compile(rb'["{}\[\],:]')
_IN_STRING = re.compile(rb'["\\]')
_ESCAPE = re.compile(rb"\\(?:[^u]|u[0-9A-Fa-f]{4})")
LONGEST_ESCAPE = 6
"""``\\u002b``"""


def encoded_length(octets: int) -> int:
    """Return how many characters of base64 so many octets take."""
    return (octets + 2) // 3 * 4


class DocumentReader:
    """Reads a body piece by piece.

    :param sink: takes the document's octets. :param rest_octets: octets that all but the document may have.
    """

    def __init__(self, sink: Callable[[bytes], None], *, rest_octets: int) -> None:
        self._decoder = _Base64(sink)
        self._rest = bytearray()
        self._rest_octets = rest_octets
        self._reading = self._outside
        self._depth = 0
        self._name_next = False
        """Whether the next string of the outermost object is a member's name."""
        self._name_at: int | None = None
        """Where in the rest the name that is being read begins."""
        self._name: object = None
        self._found = False
        self._left = b""
        """An escape whose end has not come yet."""

    def feed(self, piece: bytes) -> None:
        """Take the next octets.

        :raises FormatError: ``request_invalid``: the document is no base64, or there are two.
        :raises LimitExceeded: ``body_too_large``.
        """
        piece, self._left = self._left + piece, b""
        at = 0
        while at < len(piece):
            at = self._reading(piece, at)

    def close(self) -> bytes:
        """Return the rest: the JSON with an empty document.

        :raises FormatError: ``request_invalid``: there is no document, or it is cut off.
        """
        if self._left or self._reading == self._content:
            raise FormatError("request_invalid", "the body is cut off")
        if not self._found:
            raise FormatError("request_invalid", "content: the document is missing", field="content")
        self._decoder.close()
        return bytes(self._rest)

    # Each reads from a place in a piece and returns where the next goes on.

    def _outside(self, piece: bytes, at: int) -> int:
        found = _OUTSIDE.search(piece, at)
        if found is None:
            return self._keep(piece, at, len(piece))
        at = self._keep(piece, at, found.end())
        mark = found[0]
        if mark == b'"':
            if self._depth == 1 and self._name_next:
                self._name_at = len(self._rest) - 1
                self._reading = self._string
            elif self._depth == 1 and self._name == "content":
                if self._found:
                    raise FormatError("request_invalid", "content: there are two documents", field="content")
                self._found = True
                self._reading = self._content
            else:
                self._reading = self._string
        elif mark in b"{[":
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise LimitExceeded("request_invalid", f"a request has at most {MAX_DEPTH} levels")
            self._name_next = self._depth == 1 and mark == b"{"
        elif mark in b"}]":
            self._depth -= 1
        elif self._depth == 1:
            self._name_next = mark == b","
        return at

    def _string(self, piece: bytes, at: int) -> int:
        found = _IN_STRING.search(piece, at)
        if found is None:
            return self._keep(piece, at, len(piece))
        if found[0] == b"\\":
            if found.end() == len(piece):
                self._left = b"\\"
                self._keep(piece, at, found.start())
                return len(piece)
            return self._keep(piece, at, found.end() + 1)
        at = self._keep(piece, at, found.end())
        if self._name_at is not None:
            self._name = _text(bytes(self._rest[self._name_at :]))
            self._name_at = None
        self._reading = self._outside
        return at

    def _content(self, piece: bytes, at: int) -> int:
        found = _IN_STRING.search(piece, at)
        end = len(piece) if found is None else found.start()
        if end > at:
            self._decoder.feed(piece[at:end])
        if found is None:
            return end
        if found[0] == b'"':
            self._name = None
            self._reading = self._outside
            return self._keep(piece, end, found.end())
        # "\/" and "\u002b" are ways to write what base64 is made of.
        escape = _ESCAPE.match(piece, end)
        if escape is None:
            if len(piece) - end >= LONGEST_ESCAPE:
                raise _no_base64()
            self._left = piece[end:]
            return len(piece)
        text = _text(b'"' + escape[0] + b'"')
        if not isinstance(text, str) or not text.isascii():
            raise _no_base64()
        self._decoder.feed(text.encode())
        return escape.end()

    def _keep(self, piece: bytes, at: int, end: int) -> int:
        if len(self._rest) + end - at > self._rest_octets:
            raise LimitExceeded("body_too_large", f"beside the document, a body may have {self._rest_octets} octets")
        self._rest += piece[at:end]
        return end


def _text(octets: bytes) -> object:
    """Return what a JSON string says; None where it is none, which whoever reads the rest will say."""
    try:
        return json.loads(octets)
    except ValueError:
        return None


def _no_base64() -> FormatError:
    return FormatError("request_invalid", "content: the document must be in base64", field="content")


class _Base64:
    """Decodes base64 that comes in pieces."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._left = b""
        self._padded = False

    def feed(self, text: bytes) -> None:
        if self._padded:
            raise _no_base64()
        text = self._left + text
        whole = len(text) // 4 * 4
        self._left = text[whole:]
        if not whole:
            return
        try:
            octets = binascii.a2b_base64(text[:whole], strict_mode=True)
        except binascii.Error:
            raise _no_base64() from None
        self._padded = text[whole - 1 : whole] == b"="
        if self._padded and self._left:
            raise _no_base64()
        self._sink(octets)

    def close(self) -> None:
        if self._left:
            raise _no_base64()
