"""Names on SKF devices: octets to text and back, lists of names, and how a container stands for a key.

A container has a name and nothing else, while a key of the contract has an identifier and a label. The label of a
container is its name as text, its identifier the octets of the name. A key that is generated with an identifier of its
own goes into a container named ``label#identifier``, the identifier in base64url without padding; such a name is read
back in two parts.
"""

from __future__ import annotations

import base64
import binascii

from sealdrivers.errors import DeviceFailure, ObjectInvalid

__all__ = [
    "MAX_CONTAINER_NAME",
    "MAX_FILE_NAME",
    "container_name",
    "field_text",
    "file_name",
    "key_names",
    "name_list",
    "text_of",
]

MAX_CONTAINER_NAME = 64
"""Octets of a container's name that the driver makes; GM3000 takes 39 and says so with an error."""

MAX_FILE_NAME = 32
"""Octets of a file's name (FILEATTRIBUTE)."""

MAX_READ_NAME = 256
"""Octets of a name that a device shows; headers allow 128 at most."""

MAX_NAMES = 512
"""Names in one list."""

_SEPARATOR = "#"


def text_of(octets: bytes) -> str:
    """Return a name as text: UTF-8, else GB18030, which old Windows libraries use; octets of neither as ``\\xNN``."""
    for encoding in ("utf-8", "gb18030"):
        try:
            return octets.decode(encoding)
        except UnicodeDecodeError:
            continue
    return octets.decode("ascii", "backslashreplace")


def field_text(octets: bytes) -> str:
    """Return the text of a field of fixed length: up to NUL, if there is one, and without the padding spaces."""
    return text_of(octets.split(b"\0", 1)[0].strip(b" "))


def name_list(octets: bytes) -> list[bytes]:
    """Return the names of a list. They end at two NULs, or where the octets end: products leave out one NUL, or both.

    :raises DeviceFailure: longer than any list or name can be.
    """
    names = octets.split(b"\0\0", 1)[0].split(b"\0")
    names = [name for name in names if name]
    if len(names) > MAX_NAMES or any(len(name) > MAX_READ_NAME for name in names):
        raise DeviceFailure("the library lists names that are longer or more than a device can hold")
    return names


def key_names(container: bytes) -> tuple[str, bytes]:
    """Return label and identifier of the key in a container."""
    text = text_of(container)
    label, separator, encoded = text.rpartition(_SEPARATOR)
    if label and separator:
        try:
            identifier = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            identifier = b""
        if identifier and _encoded(identifier) == encoded:
            return label, identifier
    return text, container


def container_name(label: str, object_id: bytes) -> bytes:
    """Return the name of the container of a key. :raises ObjectInvalid: it cannot have one."""
    if not object_id:
        raise ObjectInvalid("an identifier has at least one octet")
    plain = _octets(label, MAX_CONTAINER_NAME, "a label")
    if key_names(plain) == (label, object_id):
        return plain
    return _octets(label + _SEPARATOR + _encoded(object_id), MAX_CONTAINER_NAME, "label and identifier together")


def file_name(label: str) -> bytes:
    """Return the name of the file of a data object. :raises ObjectInvalid: it cannot have one."""
    return _octets(label, MAX_FILE_NAME, "a label")


def _encoded(identifier: bytes) -> str:
    return base64.urlsafe_b64encode(identifier).rstrip(b"=").decode("ascii")


def _octets(text: str, longest: int, what: str) -> bytes:
    try:
        octets = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ObjectInvalid("a name on a token is Unicode text without surrogates") from None
    if b"\0" in octets:
        raise ObjectInvalid("a name on a token cannot contain NUL")
    if not 0 < len(octets) <= longest:
        raise ObjectInvalid(f"{what} has 1 to {longest} octets on an SKF device")
    return octets
