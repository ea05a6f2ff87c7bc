"""Calls to a module's own functions whose answers have a size: attributes, searches, lists, signatures.

python-pkcs11 believes the sizes that a module names (defects 11 and 14 of :mod:`sealdrivers.pkcs11.binding`): an absurd
one costs it gigabytes and minutes, one beyond its buffer its memory. Here each answer has a bound and spare room.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import byref
from typing import Any, Final

from pkcs11 import Attribute

from sealdrivers.buffers import FILLS, Buffer
from sealdrivers.errors import AccessRefused, DeviceFailure, NotSupported
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.errors import CKR, failure

__all__ = [
    "MAX_ATTRIBUTE",
    "MAX_MECHANISMS",
    "MAX_SIGNATURE",
    "MAX_SLOTS",
    "Signer",
    "find",
    "mechanisms",
    "read",
    "read_long",
    "slots",
    "template",
]

MAX_ATTRIBUTE: Final = 1 << 10
"""Octets of a small attribute; the largest that is read as such is the modulus of an RSA key. A longer one is left
out."""

MAX_SIGNATURE: Final = 1024
"""Octets of a signature as the module returns it: RSA with 8192 bits."""

MAX_SLOTS: Final = 256
"""Slots of one module."""

MAX_MECHANISMS: Final = 1024
"""Mechanisms of one token; the longest known list has some two hundred."""

_BATCH: Final = 64
"""Handles asked for at once while searching."""

_WORD: Final = ctypes.sizeof(ctypes.c_ulong)
_UNWRITTEN: Final = int.from_bytes(bytes([FILLS[0]]) * _WORD, "little")
"""A number that a buffer holds before the call."""

# Answers to a list of attributes of which the object lacks some, or does not show them: the others are there.
_PARTLY: Final = frozenset(
    CKR[f"CKR_{name}"] for name in ("ATTRIBUTE_SENSITIVE", "ATTRIBUTE_TYPE_INVALID", "BUFFER_TOO_SMALL")
)


def template(values: Mapping[Attribute, Any]) -> tuple[Any, list[Any]]:
    """Return an array of CK_ATTRIBUTE, and what it points to, which has to live as long."""
    array = (abi.CK_ATTRIBUTE * len(values))()
    buffers = []
    for item, (attribute, value) in zip(array, values.items(), strict=True):
        match value:
            case bool():
                octets = bytes([value])
            case int():
                octets = bytes(ctypes.c_ulong(value))
            case str():
                octets = value.encode()
            case _:
                octets = value
        buffer = ctypes.create_string_buffer(octets, max(len(octets), 1))
        item.type, item.ulValueLen = int(attribute), len(octets)
        item.pValue = ctypes.addressof(buffer)
        buffers.append(buffer)
    return array, buffers


def read(functions: Any, session: int, handle: int, types: Sequence[int]) -> dict[int, bytes]:
    """Read small attributes; those that the object lacks or hides are left out.

    :raises DeviceFailure: an answer makes no sense.
    """
    doing = "C_GetAttributeValue"
    found: dict[int, bytes] = {}
    # All at once; one by one where the module answers a list of which it lacks some with an error.
    for some in [types, *((each,) for each in types)]:
        buffers = [Buffer(MAX_ATTRIBUTE) for _ in some]
        array = (abi.CK_ATTRIBUTE * len(some))()
        for item, number, buffer in zip(array, some, buffers, strict=True):
            item.type, item.pValue, item.ulValueLen = int(number), buffer.address, MAX_ATTRIBUTE
        code = functions.C_GetAttributeValue(session, handle, array, len(some))
        if code != 0 and code not in _PARTLY:
            error = failure(code, doing)
            if isinstance(error, (AccessRefused, NotSupported)) or code == CKR["CKR_FUNCTION_FAILED"]:
                continue
            raise error
        for item, number, buffer in zip(array, some, buffers, strict=True):
            length = int(item.ulValueLen)
            too_long = code == CKR["CKR_BUFFER_TOO_SMALL"] and length > MAX_ATTRIBUTE
            if length == abi.CK_UNAVAILABLE_INFORMATION or too_long:
                continue
            value = buffer.take(length, doing)
            if length == MAX_ATTRIBUTE and buffer.looks_unwritten(value):
                raise DeviceFailure(f"{doing}: success without output")
            found[int(number)] = value
        if len(some) > 1:
            break
    return found


def read_long(functions: Any, session: int, handle: int, number: int, limit: int) -> bytes | None:
    """Read one attribute of any length up to ``limit`` octets; None where there is none to read or it is longer.

    :raises DeviceFailure: the module says more than it writes, or writes more than it said.
    """
    doing = "C_GetAttributeValue"
    attribute = abi.CK_ATTRIBUTE(type=int(number))
    code = functions.C_GetAttributeValue(session, handle, byref(attribute), 1)
    length = int(attribute.ulValueLen)
    if code != 0 or length in (0, abi.CK_UNAVAILABLE_INFORMATION):
        return None
    if length > limit:
        return None
    buffer = Buffer(length)
    attribute.pValue = buffer.address
    code = functions.C_GetAttributeValue(session, handle, byref(attribute), 1)
    if code != 0:
        raise failure(code, doing)
    value = buffer.take(int(attribute.ulValueLen), doing)
    if buffer.looks_unwritten(value):
        raise DeviceFailure(f"{doing}: success without output, or with less than the module says")
    return value


def find(functions: Any, session: int, wanted: Mapping[Attribute, Any], limit: int) -> list[int]:
    """Return the handles of the objects that match.

    :raises DeviceFailure: more than ``limit``, or an answer that makes no sense.
    """
    array, kept_alive = template(wanted)
    code = functions.C_FindObjectsInit(session, array, len(array))
    del kept_alive
    if code != 0:
        raise failure(code, "C_FindObjects")
    found: list[int] = []
    try:
        while some := _batch(functions, session):
            found += some
            if len(found) > limit:
                raise DeviceFailure(f"the token holds more than {limit} objects of one kind")
    finally:
        functions.C_FindObjectsFinal(session)
    return found


def _batch(functions: Any, session: int) -> list[int]:
    count = ctypes.c_ulong(_UNWRITTEN)
    buffer = Buffer(_BATCH * _WORD)
    code = functions.C_FindObjects(session, buffer.address, _BATCH, byref(count))
    if code != 0:
        raise failure(code, "C_FindObjects")
    return _numbers(buffer, count, "C_FindObjects")


def _numbers(buffer: Buffer, count: ctypes.c_ulong, doing: str) -> list[int]:
    """Return the CK_ULONGs of an answer. :raises DeviceFailure: more than fit, or not written."""
    if count.value == _UNWRITTEN:
        raise DeviceFailure(f"{doing}: success without output")
    octets = buffer.take(count.value * _WORD, doing)
    numbers = [int(number) for number in (ctypes.c_ulong * count.value).from_buffer_copy(octets)] if octets else []
    if _UNWRITTEN in numbers:
        raise DeviceFailure(f"{doing}: success without output, or with less than the module says")
    return numbers


def slots(functions: Any) -> list[int]:
    """Return the slots with a token in them.

    The call without a buffer comes first: by the standard (2.40 clause 5.5) that is when a module looks for new ones.

    :raises DeviceFailure: an answer that makes no sense.
    """
    doing = "C_GetSlotList"
    count = ctypes.c_ulong(_UNWRITTEN)
    code = functions.C_GetSlotList(True, None, byref(count))
    if code != 0:
        raise failure(code, doing)
    if count.value > MAX_SLOTS:
        raise DeviceFailure(f"{doing}: the module claims {count.value} slots")
    count.value, buffer = MAX_SLOTS, Buffer(MAX_SLOTS * _WORD)
    code = functions.C_GetSlotList(True, buffer.address, byref(count))
    if code != 0:
        raise failure(code, doing)
    return _numbers(buffer, count, doing)


def mechanisms(functions: Any, slot: int) -> dict[int, abi.CK_MECHANISM_INFO]:
    """Return the mechanism list of a slot's token, vendors' numbers included.

    :raises DeviceFailure: an answer that makes no sense.
    """
    doing = "C_GetMechanismList"
    count, buffer = ctypes.c_ulong(MAX_MECHANISMS), Buffer(MAX_MECHANISMS * _WORD)
    code = functions.C_GetMechanismList(slot, buffer.address, byref(count))
    if code != 0:
        raise failure(code, doing)
    found = {}
    for number in _numbers(buffer, count, doing):
        info = abi.CK_MECHANISM_INFO()
        code = functions.C_GetMechanismInfo(slot, number, byref(info))
        if code == 0:  # some modules list what they then know nothing of
            found[number] = info
    return found


class Signer:
    """C_Sign into one buffer that is used again, since signing is what has to be fast."""

    def __init__(self, functions: Any) -> None:
        self._functions = functions
        self._buffer = Buffer(MAX_SIGNATURE)
        self._length = ctypes.c_ulong()

    def sign(self, session: int, data: bytes) -> bytes:
        """Call C_Sign once. :raises DeviceFailure: an answer that makes no sense."""
        length = self._length
        length.value = MAX_SIGNATURE
        code = self._functions.C_Sign(session, data, len(data), self._buffer.octets, byref(length))
        if code != 0:
            raise failure(code, "C_Sign")
        answer = self._buffer.take(length.value, "C_Sign")
        self._buffer.refill()
        if not answer or self._buffer.looks_unwritten(answer):
            raise DeviceFailure("C_Sign: success without output")
        return answer
