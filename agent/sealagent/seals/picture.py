"""Seal pictures: the types the standards name, and whether the octets are what the type says."""

from __future__ import annotations

from sealagent.seals.model import Picture
from sealagent.verdict import Note

__all__ = ["NAMED_TYPES", "looks_like", "picture_note"]

NAMED_TYPES = ("GIF", "BMP", "JPG", "PNG", "SVG")
"""GM/T 0031-2014 names the first three, GM/T 0031-2025 adds PNG and SVG."""

_MAGIC: dict[str, tuple[bytes, ...]] = {
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "JPG": (b"\xff\xd8\xff",),
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "SVG": (b"<svg", b"<?xml", b"<!--", b"<!DOCTYPE svg"),
    "OFD": (b"PK\x03\x04",),  # a whole OFD package as vector image (GOMAIN and others)
}


def looks_like(kind: str, data: bytes) -> bool:
    """Say whether the octets begin as a picture of this type (any case) does; an unknown type never does."""
    if kind.upper() == "SVG":
        data = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return data.startswith(_MAGIC.get(kind.upper(), ()))


def picture_note(picture: Picture) -> Note | None:
    """Return what is remarkable about the type, or None."""
    if picture.type not in NAMED_TYPES:
        return Note("picture_type", f"{picture.type} is not a type the standard names")
    if not looks_like(picture.type, picture.data):
        return Note("picture_type", f"the octets are not {picture.type}")
    return None
