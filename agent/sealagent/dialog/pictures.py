"""Pictures of seals, before Tk sees them: Tk is C, and the process holds a PIN.

A picture comes from whoever made the seal. So its size in pixels is read here first, everything that is no picture is
left out, and a PNG is inflated here within limits: Tk gets a container written anew, of which the only thing not known
to be right is which colours it has.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

__all__ = ["MAX_OCTETS", "MAX_PIXELS", "MAX_SIDE", "Picture", "PictureRefused", "cleaned"]

MAX_OCTETS = 1 << 20
"""Octets of a picture: pictures of seals have some ten thousand."""
MAX_SIDE = 6_000
"""Pixels on a side: 60 mm at 2400 dpi."""
MAX_PIXELS = 9_000_000
"""60 mm at 1200 dpi are 8 million, which Tk keeps in 36 MB."""
MAX_BLOCKS = 10_000
"""Chunks of a PNG, blocks of a GIF before its picture."""

_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of an interlaced PNG: first column and row, steps between columns and rows (PNG, clause 8.2)."""


class PictureRefused(Exception):
    """The picture is not shown: of another format, damaged, or too large."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as the client sent it."""

    type: str
    """Lower case, as the seal names it: ``png``, ``gif``, ``svg``, …"""
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A picture that may be given to Tk."""

    type: str
    octets: bytes = field(repr=False)
    width: int
    """Pixels."""
    height: int


def cleaned(picture: Picture) -> Cleaned:
    """Return a picture that Tk may decode.

    :raises PictureRefused: it has another format than PNG or GIF, is damaged, or too large.
    """
    if len(picture.octets) > MAX_OCTETS:
        raise PictureRefused(f"{len(picture.octets)} octets are too many")
    try:
        if picture.octets.startswith(_PNG):
            return _png(picture.octets)
        if picture.octets.startswith((b"GIF87a", b"GIF89a")):
            return _gif(picture.octets)
    except (struct.error, IndexError, zlib.error):
        raise PictureRefused("it is cut short or damaged") from None
    raise PictureRefused("it is neither PNG nor GIF")


def _checked(width: int, height: int) -> None:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise PictureRefused(f"{width} × {height} pixels")


def _png(data: bytes) -> Cleaned:
    """Walk the chunks; keep those that make the picture."""
    at, header, palette, transparency = len(_PNG), b"", b"", b""
    packed: list[bytes] = []
    for _ in range(MAX_BLOCKS):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        (check,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body, zlib.crc32(name)) != check:
            raise PictureRefused("a check sum is wrong")
        at += 12 + length
        if not header and name != b"IHDR":
            raise PictureRefused("it does not begin with its size")
        if name == b"IHDR":
            header = body
            width, height, depth, colours, interlaced = _png_header(body)
        elif name == b"PLTE":
            palette = body
        elif name == b"tRNS":
            transparency = body
        elif name == b"IDAT":
            packed.append(body)
        elif name == b"IEND":
            break
    else:
        raise PictureRefused("it has too many chunks")
    if len(palette) % 3 or len(palette) > 768 or (colours == 3 and not palette):
        raise PictureRefused("its palette is wrong")
    if len(transparency) > (len(palette) // 3 if colours == 3 else {0: 2, 2: 6}.get(colours, 0)):
        raise PictureRefused("its transparency is wrong")
    raw = _inflated(b"".join(packed), _raw_length(width, height, depth, colours, interlaced))
    parts = [_PNG, _chunk(b"IHDR", header)]
    if palette and colours == 3:
        parts.append(_chunk(b"PLTE", palette))
    if transparency:
        parts.append(_chunk(b"tRNS", transparency))
    parts += [_chunk(b"IDAT", zlib.compress(raw, 1)), _chunk(b"IEND", b"")]
    return Cleaned("png", b"".join(parts), width, height)


def _png_header(body: bytes) -> tuple[int, int, int, int, bool]:
    """Return width, height, bits of a sample, kind of colours, and whether it is interlaced."""
    width, height, depth, colours, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if depth not in _DEPTHS.get(colours, ()) or compression or filtering or interlace > 1:
        raise PictureRefused("its header is wrong")
    _checked(width, height)
    return width, height, depth, colours, interlace == 1


def _raw_length(width: int, height: int, depth: int, colours: int, interlaced: bool) -> int:
    """Return the octets of the picture when inflated, the filter's octet of each row included."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for column, row, across, down in passes:
        wide, high = -(-(width - column) // across), -(-(height - row) // down)
        if wide > 0 and high > 0:
            total += high * (1 + (wide * depth * _CHANNELS[colours] + 7) // 8)
    return total


def _inflated(packed: bytes, length: int) -> bytes:
    inflating = zlib.decompressobj()
    raw = inflating.decompress(packed, length + 1)
    if len(raw) != length or not inflating.eof:
        raise PictureRefused("it has more or less pixels than it says")
    return raw


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _gif(data: bytes) -> Cleaned:
    """Walk the blocks; keep the tables of colours, and the first picture with its transparency."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    _checked(width, height)
    at = 13 + _gif_colours(flags)
    parts = [data[:at]]
    for _ in range(MAX_BLOCKS):
        if data[at] == 0x21:  # an extension
            end = _gif_blocks(data, at + 2)
            if data[at + 1] == 0xF9 and end - at == 8:  # which colour is transparent
                parts[1:] = [data[at:end]]
            at = end
        elif data[at] == 0x2C:
            left, top, wide, high, local = struct.unpack_from("<HHHHB", data, at + 1)
            codes = at + 10 + _gif_colours(local)
            if left + wide > width or top + high > height or not (wide and high) or not 2 <= data[codes] <= 8:
                raise PictureRefused("its picture does not fit")
            parts += [data[at : _gif_blocks(data, codes + 1)], b"\x3b"]
            return Cleaned("gif", b"".join(parts), width, height)
        else:
            break
    raise PictureRefused("it has no picture")


def _gif_colours(flags: int) -> int:
    """Return the octets of a table of colours."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_blocks(data: bytes, at: int) -> int:
    """Return where the sub-blocks that begin here end."""
    for _ in range(MAX_OCTETS):
        length = data[at]
        at += 1 + length
        if length == 0:
            if at > len(data):
                break
            return at
    raise PictureRefused("it is cut short")
