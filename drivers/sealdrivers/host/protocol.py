"""What the daemon and a worker process say to each other over their socket pair.

A frame is two unsigned 32-bit big-endian numbers (octets of the header, octets of the body), the header, the body.

- The header is one JSON object in UTF-8. A request is ``{"id", "op", "parts", …arguments}``, its answer
  ``{"id", "parts", "result"}`` or ``{"id", "parts", "error"}``; ``error`` is ``DriverError.to_wire()``.
- The body holds the octets that are no text (PINs, digests, certificates, signatures) one behind the other;
  ``parts`` says how long each is. A PIN is never in the header.
- ``login``, ``sign``, ``change_pin`` and ``unblock_pin`` take ``"confirmed_last_try": true``, without which the worker
  refuses to spend the last try of a PIN.

A worker answers a request before it begins the next, in the order they came. The daemon sends a request when the one
before it is answered; only signatures may wait in the socket behind another. The first request is ``open``; it carries
``protocol`` = :data:`PROTOCOL_VERSION`. Nothing here depends on Python at the other end: a worker may be a 32-bit
build, or another program.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import socket
import struct
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from sealdrivers.errors import DriverError, WorkerProtocolError

__all__ = [
    "MAX_ANSWER_HEADER",
    "MAX_BODY",
    "MAX_REQUEST_HEADER",
    "PROTOCOL_VERSION",
    "Frame",
    "FrameBuffer",
    "decode_error",
    "encode_frame",
    "from_json",
    "to_json",
    "wipe",
]

PROTOCOL_VERSION = 1

MAX_REQUEST_HEADER = 64 << 10
"""Octets of a request's header: URIs and labels."""

MAX_ANSWER_HEADER = 8 << 20
"""Octets of an answer's header: the contents of a token with all certificates and seals, in base64."""

MAX_BODY = 4 << 20
"""Octets of a body: the largest seal that may be stored on a token, and more."""

MAX_PARTS = 4
"""Octet strings in one body; no request has more than a digest and a PIN, or two PINs."""

MAX_MESSAGE = 500
"""Characters of an error message that are taken over from a worker."""

_PREFIX = struct.Struct(">II")
_FIRST_CAPACITY = 64 << 10
_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode_json = json.JSONDecoder().decode

T = TypeVar("T")


def wipe(buffer: bytearray | memoryview) -> None:
    """Overwrite a buffer with zeros."""
    buffer[:] = bytes(len(buffer))


class Frame(NamedTuple):
    """One received frame."""

    header: dict[str, Any]
    parts: list[bytearray]
    """The octet strings of the body; whoever takes a PIN out of them wipes it."""


def encode_frame(header: dict[str, Any], parts: Sequence[bytes | bytearray] = ()) -> bytearray:
    """Return a frame. ``parts`` is added to the header; the frame is a copy, which the caller wipes after sending."""
    header["parts"] = lengths = [len(part) for part in parts]
    text = _encode_json(header).encode()
    frame = bytearray(_PREFIX.pack(len(text), sum(lengths)))
    frame += text
    for part in parts:
        frame += part
    return frame


class FrameBuffer:
    """Takes frames out of a stream, with limits that hold before anything is read. Consumed octets are wiped."""

    def __init__(self, max_header: int, max_body: int = MAX_BODY) -> None:
        self._max_header = max_header
        self._max_body = max_body
        self._data = bytearray(_FIRST_CAPACITY)
        self._end = 0

    def fill(self, sock: socket.socket) -> int:
        """Read once from the socket and return the number of octets; 0 is the end of the stream."""
        with memoryview(self._data) as view:
            count = sock.recv_into(view[self._end :])
        self._end += count
        return count

    @property
    def pending(self) -> bool:
        """Whether part of a frame is there."""
        return self._end > 0

    def take(self) -> Frame | None:
        """Return the next frame, or None while it is not complete.

        :raises WorkerProtocolError: too long, or not a frame; the stream cannot be used any further.
        """
        if self._end < _PREFIX.size:
            return None
        header_length, body_length = _PREFIX.unpack_from(self._data)
        if header_length > self._max_header or body_length > self._max_body:
            raise WorkerProtocolError(f"a frame of {header_length} and {body_length} octets is too long")
        total = _PREFIX.size + header_length + body_length
        if self._end < total:
            self._grow(total)
            return None
        body_start = _PREFIX.size + header_length
        try:
            header = _decode_json(self._data[_PREFIX.size : body_start].decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise WorkerProtocolError(f"a frame's header is no JSON ({type(error).__name__})") from None
        if not isinstance(header, dict):
            raise WorkerProtocolError("a frame's header is no JSON object")
        parts = self._split(header.get("parts"), body_start, body_length)
        rest = self._data[total : self._end]
        self._data[: self._end] = bytes(self._end)
        if len(self._data) > _FIRST_CAPACITY and len(rest) <= _FIRST_CAPACITY:
            self._data = bytearray(_FIRST_CAPACITY)
        self._data[: len(rest)] = rest
        self._end = len(rest)
        return Frame(header, parts)

    def _split(self, lengths: Any, start: int, body_length: int) -> list[bytearray]:
        if not isinstance(lengths, list) or len(lengths) > MAX_PARTS:
            raise WorkerProtocolError("a frame does not say what its body consists of")
        if not all(type(length) is int and length >= 0 for length in lengths) or sum(lengths) != body_length:
            raise WorkerProtocolError("a frame's body has another length than its parts")
        parts = []
        for length in lengths:
            parts.append(self._data[start : start + length])
            start += length
        return parts

    def _grow(self, total: int) -> None:
        if total > len(self._data):
            larger = bytearray(total)
            larger[: self._end] = self._data[: self._end]
            wipe(self._data)
            self._data = larger


# The values of the contract as JSON


def to_json(value: Any) -> Any:
    """Return a value of the contract as JSON values: dataclasses as objects, octets as base64, tuples as arrays."""
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value


def from_json(kind: type[T], value: Any) -> T:
    """Build a value of the contract again, checking every type.

    :param kind: a dataclass of :mod:`sealdrivers.contract`, or ``tuple[X, ...]`` of one.
    :raises WorkerProtocolError: the JSON does not describe one.
    """
    built: T = _build(kind, value)
    return built


@functools.cache
def _field_types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin is tuple:
        if isinstance(value, list):
            item_kind = typing.get_args(kind)[0]
            return tuple(_build(item_kind, item) for item in value)
    elif origin is types.UnionType:  # X | None
        return None if value is None else _build(typing.get_args(kind)[0], value)
    elif is_dataclass(kind):
        wanted = _field_types(typing.cast("type", kind))
        if isinstance(value, dict) and value.keys() == wanted.keys():
            return typing.cast("Any", kind)(**{name: _build(wanted[name], value[name]) for name in wanted})
    elif kind is bytes:
        if isinstance(value, str):
            try:
                return base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                pass
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        if value in kind.__members__.values():
            return kind(value)
    elif type(value) is kind:
        return value
    raise WorkerProtocolError(f"an answer holds no {getattr(kind, '__name__', kind)} where one belongs")


_ERROR_FACTS: Mapping[str, type] = {
    "native_code": int,
    "native_name": str,
    "tries_left": int,
    "count_low": bool,
    "final_try": bool,
    "locked": bool,
}


def decode_error(wire: Any) -> DriverError:
    """Build the error of an answer again; what is not of the expected type is left out."""
    if not isinstance(wire, dict):
        return WorkerProtocolError("an answer's error is no JSON object")
    facts = {name: wire[name] for name, kind in _ERROR_FACTS.items() if type(wire.get(name)) is kind}
    return DriverError.from_wire({"code": wire.get("code"), "message": str(wire.get("message"))[:MAX_MESSAGE], **facts})
