"""Seal pictures: the types the standards name, and whether the octets are what the type says."""

from __future__ import annotations

from sealagent.errors import LimitExceeded
from sealagent.seals.model import Picture
from sealagent.seals.parse import MAX_PICTURE
from sealagent.verdict import Note

__all__ = ["NAMED_TYPES", "check_picture", "looks_like", "picture_note"]

NAMED_TYPES = ("GIF", "BMP", "JPG", "PNG", "SVG")
"""GM/T 0031-2014 names the first three, GM/T 0031-2025 adds PNG and SVG."""

MAX_MM = 200
"""Sides of a seal that is made, mm: the largest official seal has 60."""
SHAPE = 0.05
"""How far the picture's proportions may be off those of the seal: its sides are whole millimetres in the structure."""
GOOD_DPI = 200
"""Below, the characters of a seal are not sharp in print."""
CLEAR = 0.01
"""A ground is transparent when at least this part of the picture is."""

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


def check_picture(
    kind: str, data: bytes, width_mm: int, height_mm: int, *, transparent: bool = False
) -> tuple[Note, ...]:
    """Check a picture strictly, before a seal is made of it.

    It is decoded to its end, is not blank, has the proportions of the seal, and nothing in it or behind it is anything
    but a picture. Seals that others made are judged by :func:`picture_note` alone.

    :param kind: one of :data:`NAMED_TYPES`.
    :param width_mm: as :obj:`height_mm` what the seal will say, GM/T 0031-2025 SES_ESPictureInfo.
    :param transparent: refuse a ground that hides what lies under the seal, instead of noting it.
    :return: what is worth knowing: ``picture_opaque``, ``picture_resolution``, ``picture_font``.
    :raises FormatError: ``picture_invalid``.
    :raises LimitExceeded: ``picture_too_large``.
    :raises SealAgentError: ``drawing_unavailable``: the extra ``maker`` is not installed (SVG without embedded pictures
        does not need it).
    """
    from sealagent.seals.rasters import invalid, read_raster  # of use to makers only

    if kind not in NAMED_TYPES:
        raise invalid(f"the type must be one of {', '.join(NAMED_TYPES)}")
    if not (1 <= width_mm <= MAX_MM and 1 <= height_mm <= MAX_MM):
        raise invalid(f"the seal's sides must be from 1 to {MAX_MM} mm")
    if len(data) > MAX_PICTURE:
        raise LimitExceeded("picture_too_large", f"the picture has more than {MAX_PICTURE} octets", limit=MAX_PICTURE)
    if not looks_like(kind, data):
        raise invalid(f"the octets are not {kind}")
    notes: list[Note] = []
    if kind == "SVG":
        from sealagent.seals.svg import read_svg

        drawing = read_svg(data, (width_mm, height_mm), SHAPE)
        opaque = drawing.ground or any(raster.clear < CLEAR for raster in drawing.rasters)
        if drawing.text:
            notes.append(Note("picture_font", "draw the characters as outlines"))
    else:
        raster = read_raster(kind, data)
        off = raster.width / raster.height * height_mm / width_mm
        if not 1 / (1 + SHAPE) <= off <= 1 + SHAPE:
            size = f"{raster.width} × {raster.height} pixels"
            raise invalid(f"{size} do not have the proportions of {width_mm} × {height_mm} mm")
        opaque = raster.clear < CLEAR
        dpi = int(min(raster.width / width_mm, raster.height / height_mm) * 25.4 + 0.5)
        if dpi < GOOD_DPI:
            notes.append(Note("picture_resolution", f"{dpi} dpi at {width_mm} × {height_mm} mm"))
    if opaque and transparent:
        raise invalid(f"the {kind} has no transparent ground: it would hide what is under the seal")
    if opaque:
        notes.insert(0, Note("picture_opaque", "use PNG or SVG with a transparent ground"))
    return tuple(notes)
