"""Raster pictures of seals: PNG, JPG, BMP and GIF, read to their last octet within limits.

The container is walked here first, so that its size in pixels is known, nothing follows its end, and no decoder meets
what is not wanted; then Pillow decodes all of it. Pillow comes with the extra ``maker`` and is loaded when it is used.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealagent.errors import FormatError, LimitExceeded
from sealagent.seals.extras import missing_extra

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "MAX_SIDE", "Raster", "invalid", "read_raster"]

MAX_PIXELS = 9_000_000
"""60 mm at 1200 dpi are 8 million. Decoding that many takes about 150 MB for a moment."""
MAX_SIDE = 6_000
"""Pixels on a side: 60 mm at 2400 dpi."""
MAX_CHUNKS = 10_000
"""Chunks of a PNG. Encoders write one for every 8 KiB or more."""
MAX_SEGMENTS = 1_000
"""Segments of a JPG, the scans included: comments, colour profiles and tables make some twenty."""
MAX_EXTRAS = 64 << 10
"""Octets of a GIF besides its picture (comments and the like): the decoder's time grows with their square."""
MAX_SCANS = 64
"""Scans of a progressive JPG, each of which costs as much as a picture. Encoders write ten."""
DEPTHS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""What Pillow may decode it to: up to 8 bits in a channel. Readers of seals differ over more."""
SOLID = 128
"""Opacity from which a pixel hides what is under it, of 255."""
INK = 200
"""A pixel on white paper is seen when its darkest channel is below this, of 255."""
MIN_INK = 0.002
"""Part of the picture that must be seen: a thin ring has more."""
SAME = 8
"""Values of a channel that differ by no more than this are one colour: JPG never keeps them equal."""

_PILLOW = {"PNG": "PNG", "JPG": "JPEG", "BMP": "BMP", "GIF": "GIF"}


@dataclass(frozen=True, slots=True)
class Raster:
    """A picture that was decoded completely."""

    width: int
    """Pixels."""
    height: int
    clear: float
    """Part of it that lets through what lies under it, 0 to 1."""


def invalid(message: str, **facts: object) -> FormatError:
    """Return the error for a picture of which no seal is made: ``picture_invalid``."""
    return FormatError("picture_invalid", message, **facts)


def read_raster(kind: str, data: bytes) -> Raster:
    """Decode a picture and look at it.

    :param kind: ``PNG``, ``JPG``, ``BMP`` or ``GIF``.
    :raises FormatError: ``picture_invalid``: damaged, cut short, followed by something, animated, blank.
    :raises LimitExceeded: ``picture_too_large``.
    :raises SealAgentError: ``drawing_unavailable``.
    """
    try:
        width, height, end = _WALKERS[kind](data)
    except (struct.error, IndexError):
        raise invalid(f"the {kind} is cut short") from None
    if width < 1 or height < 1:
        raise invalid(f"the {kind} has no pixels")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise LimitExceeded("picture_too_large", f"{width} × {height} pixels are too many", limit=MAX_PIXELS)
    if end > len(data):
        raise invalid(f"the {kind} is cut short")
    if end < len(data):
        raise invalid(f"{len(data) - end} octets follow the end of the {kind}")
    return _decode(kind, data, (width, height))


def _decode(kind: str, data: bytes, size: tuple[int, int]) -> Raster:
    try:
        from PIL import Image
    except ImportError as exc:
        raise missing_extra("pillow") from exc
    try:
        with Image.open(io.BytesIO(data), formats=[_PILLOW[kind]]) as picture:
            if picture.size != size or picture.format != _PILLOW[kind] or getattr(picture, "n_frames", 1) != 1:
                raise invalid(f"the {kind} is something else for another reader")
            picture.load()
            if picture.mode not in DEPTHS:
                raise invalid(f"the {kind} has more than 8 bits in a channel")
            pixels = picture.convert("RGBA")
    except (FormatError, MemoryError):
        raise
    except Exception as exc:  # decoders of hostile octets raise whatever they come to
        raise invalid(f"the {kind} cannot be decoded: it is damaged or cut short") from exc
    return _looked_at(pixels)


def _looked_at(pixels: Image.Image) -> Raster:
    from PIL import Image, ImageChops

    total = pixels.width * pixels.height
    alpha = pixels.getchannel("A")
    clear = sum(alpha.histogram()[:SOLID]) / total
    paper = Image.new("RGBA", pixels.size, "white")
    paper.alpha_composite(pixels)
    red, green, blue, _ = paper.split()
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    if sum(darkest.histogram()[:INK]) < MIN_INK * total:
        raise invalid("the picture is blank: on white paper nothing of it is seen")
    extremes = [channel.getextrema() for channel in (red, green, blue)]
    if all(isinstance(low, int) and isinstance(high, int) and high - low <= SAME for low, high in extremes):
        raise invalid("the picture is blank: all of it has one colour")
    return Raster(pixels.width, pixels.height, clear)


# --- containers: width, height, and where the picture ends ------------------------------------------------------------


def _png(data: bytes) -> tuple[int, int, int]:
    """Walk the chunks (ISO/IEC 15948 clause 5)."""
    position, size = 8, (0, 0)
    for number in range(MAX_CHUNKS):
        length, name = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        (crc,) = struct.unpack_from(">I", data, position + 8 + length)
        position += length + 12
        if zlib.crc32(content, zlib.crc32(name)) != crc:
            raise invalid("a checksum of the PNG is wrong")
        if number == 0:
            if name != b"IHDR" or length != 13:
                raise invalid("the PNG has no header")
            size = struct.unpack_from(">II", content)
        elif name == b"acTL":
            raise invalid("the PNG is animated; a seal has one picture")
        elif name == b"IEND":
            return *size, position
    raise invalid("the PNG has too many parts")


def _gif(data: bytes) -> tuple[int, int, int]:
    """Walk the blocks (GIF89a clauses 15 to 27)."""
    width, height, packed = struct.unpack_from("<HHB", data, 6)
    position = 13 + _table(packed)
    pictures, extras = 0, 0
    while True:
        introducer = data[position]
        if introducer == 0x3B:
            if not pictures:
                raise invalid("the GIF has no picture")
            return width, height, position + 1
        if introducer == 0x21:
            end = _blocks(data, position + 2)
            extras += end - position
            if extras > MAX_EXTRAS:
                raise invalid("the GIF has too much besides its picture")
            position = end
        elif introducer == 0x2C:
            left, top, wide, high, packed = struct.unpack_from("<HHHHB", data, position + 1)
            pictures += 1
            if pictures > 1:
                raise invalid("the GIF is animated; a seal has one picture")
            if left + wide > width or top + high > height:
                raise invalid("the GIF's picture is larger than the GIF")
            position = _blocks(data, position + 11 + _table(packed))
        else:
            raise invalid("the GIF is damaged")


def _table(packed: int) -> int:
    """Return the octets of the colour table that follows."""
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _blocks(data: bytes, position: int) -> int:
    """Return where the sub-blocks end."""
    while length := data[position]:
        position += length + 1
    return position + 1


_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def _jpg(data: bytes) -> tuple[int, int, int]:
    """Walk the segments (ITU-T T.81 annex B)."""
    position, size, scans = 2, (0, 0), 0
    for _ in range(MAX_SEGMENTS):
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1  # fill octets
        lead, marker = data[position], data[position + 1]
        if lead != 0xFF or marker < 0xC0:
            raise invalid("the JPG is damaged")
        position += 2
        if marker == 0xD9:
            if not scans:
                raise invalid("the JPG has no picture")
            return *size, position
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _FRAMES:
            if size != (0, 0):
                raise invalid("the JPG has more than one picture")
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = (width, height)
        position += length
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise invalid("the JPG has too many scans")
            following = _NEXT_MARKER.search(data, position)
            if following is None:
                raise invalid("the JPG is cut short")
            position = following.start()
    raise invalid("the JPG has too many parts")


def _bmp(data: bytes) -> tuple[int, int, int]:
    """Read both headers."""
    end, header = struct.unpack_from("<I8xI", data, 2)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height, end
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in (0, 3):
        raise invalid("the BMP is compressed; save it uncompressed")
    return width, abs(height), end


_WALKERS: dict[str, Callable[[bytes], tuple[int, int, int]]] = {"PNG": _png, "GIF": _gif, "JPG": _jpg, "BMP": _bmp}
