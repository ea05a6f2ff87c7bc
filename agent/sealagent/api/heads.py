"""Heads of HTTP/1.1 requests, read strictly: for a listener that web pages reach.

One reading only: what a lenient parser would guess at (RFC 9112 §11.2) is refused here, and what passes is written anew
for the server behind, which so never sees an octet of it that was not understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sealagent.errors import FormatError, LimitExceeded

__all__ = ["END", "MAX_HEAD", "Head", "parse_head", "write_head"]

MAX_HEAD = 16 << 10
"""Octets of a request line and its fields. Browsers send about one thousand; a token and a name fit in many times."""
MAX_FIELDS = 64
"""Fields of a head. Browsers send about twenty."""
END = b"\r\n\r\n"
"""Ends a head."""

_LINE = re.compile(rb"([A-Z]{1,16}) (\S{1,4096}) (HTTP/\d\.\d)")
_TARGET = re.compile(rb"/(?!/)[!-\"$-~]*")  # origin-form (RFC 9112 §3.2.1); no fragment
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Head:
    """Request line and fields."""

    method: str
    target: str
    """Path and query as sent, ASCII."""
    fields: Mapping[str, tuple[str, ...]]
    """All values by name in lower case, ASCII."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def values(self, name: str) -> tuple[str, ...]:
        """Return all values of a field. :param name: in lower case."""
        return self.fields.get(name, ())

    def one(self, name: str) -> str | None:
        """Return the value of a field that may be there once.

        :raises FormatError: ``http_refused``: it is there more than once.
        """
        values = self.values(name)
        if len(values) > 1:
            raise FormatError("http_refused", f"{name} is there {len(values)} times")
        return values[0] if values else None


def parse_head(octets: bytes) -> Head:
    """Read a head.

    :param octets: up to and including the empty line.
    :raises FormatError: ``http_refused``: this is no plain HTTP/1.1 request for a path of this server.
    :raises LimitExceeded: ``head_too_large``.
    """
    if len(octets) > MAX_HEAD:
        raise LimitExceeded("head_too_large", f"the head of a request may have {MAX_HEAD} octets")
    line, *lines = octets.removesuffix(END).split(b"\r\n")
    found = _LINE.fullmatch(line)
    if found is None:
        raise FormatError("http_refused", "the request line is malformed")
    method, target, version = found.groups()
    if version != b"HTTP/1.1":
        raise FormatError("http_refused", f"{version.decode()} is not spoken here, only HTTP/1.1")
    if not _TARGET.fullmatch(target):
        raise FormatError("http_refused", "the target of a request must be a path")
    if len(lines) > MAX_FIELDS:
        raise LimitExceeded("head_too_large", f"a request may have {MAX_FIELDS} fields")
    fields: dict[str, tuple[str, ...]] = {}
    for number, text in enumerate(lines, 1):
        name, colon, value = text.partition(b":")
        value = value.strip(b" \t")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise FormatError("http_refused", f"field {number} is malformed")
        key = name.decode().lower()
        fields[key] = (*fields.get(key, ()), value.decode())
    return Head(method.decode(), target.decode(), fields)


def write_head(method: str, target: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Return the octets of a head, its empty line included."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("ascii") + END
