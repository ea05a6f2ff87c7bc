"""Draws a round organisation seal: ring, five-pointed star, name along the upper arc, a line below the star.

One geometry in millimetres, y downwards, origin in the centre, written as SVG and filled as PNG.
Proportions follow what seals of Chinese organisations look like: 40 mm across, a ring of about 1 mm, a star of 14 mm.
"""

from __future__ import annotations

import io
import itertools
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw

from .fonts import find_font

Point = tuple[float, float]
Polygon = list[Point]

RED = (0xD7, 0x00, 0x0F)

# The default font's table of glyphs is four octets longer than its index says; fontTools warns of it at each start.
logging.getLogger("fontTools.ttLib").setLevel(logging.ERROR)

SQUARE = "国"  # fills the square of a character: where its middle is, the middle of all is
CURVE_STEPS = 8  # straight pieces a curve of a glyph becomes; at 300 dpi each is shorter than a pixel
OVERSAMPLING = 4  # the PNG is drawn this many times larger, then averaged, for smooth edges


@dataclass(frozen=True, slots=True)
class SealDesign:
    """What is written on the seal, and its measures in millimetres."""

    name: str
    line: str = ""
    diameter: float = 40.0
    ring: float = 1.1
    star: float = 14.0
    """Diameter of the circle through the points of the star."""
    gap: float = 1.1
    """Between the ring and the tops of the name's characters."""
    name_height: float = 6.2
    name_step: float = 27.0
    """Degrees between two characters of a short name; a long name is set closer."""
    name_arc: float = 246.0
    """Degrees from the first character of a long name to the last."""
    line_height: float = 3.7
    line_position: float = 12.2
    """Middle of the line, below the centre."""
    weight: float = 0.25
    """Added to each stroke of a character: seals are cut bolder than text faces."""


def outlines(path: Path, characters: str) -> dict[str, list[Polygon]]:
    """Return the closed outlines of each character, in ems, y downwards, origin in the middle of its square.

    A hole turns the other way than the outline around it.

    :param path: TrueType or OpenType font; of a collection, the first
    :raises ValueError: the font does not have one of the characters
    """
    with TTFont(path, fontNumber=0, lazy=True) as font:
        glyphs, names, em = font.getGlyphSet(), font.getBestCmap(), font["head"].unitsPerEm
        found: dict[str, list[Polygon]] = {}
        for character in SQUARE + characters:
            if ord(character) not in names:
                raise ValueError(f"the font has no character {character}")
            pen = DecomposingRecordingPen(glyphs)
            glyphs[names[ord(character)]].draw(pen)
            found[character] = _flattened(pen.value)
    # Ascender and descender differ too much between fonts to tell where the middle is.
    x0, y0 = (
        (min(axis) + max(axis)) / 2 for axis in zip(*(p for polygon in found[SQUARE] for p in polygon), strict=True)
    )
    return {
        character: [[((x - x0) / em, (y0 - y) / em) for x, y in polygon] for polygon in polygons]
        for character, polygons in found.items()
    }


def _flattened(operations: Iterable[tuple[str, tuple[Point, ...]]]) -> list[Polygon]:
    """Turn the operations of a pen into polygons."""
    polygons: list[Polygon] = []
    for operation, points in operations:
        if operation == "moveTo":
            polygons.append([points[0]])
        elif operation == "lineTo":
            polygons[-1].append(points[0])
        elif operation == "qCurveTo":
            polygons[-1].extend(_quadratics(polygons[-1][-1], points))
        elif operation == "curveTo":
            polygons[-1].extend(_bezier([polygons[-1][-1], *points]))
    return polygons


def _quadratics(start: Point, points: tuple[Point, ...]) -> Iterable[Point]:
    """Flatten a TrueType spline: between two control points lies an implied point on the curve, half-way."""
    *controls, end = points
    for index, control in enumerate(controls):
        following = controls[index + 1] if index + 1 < len(controls) else None
        stop = end if following is None else ((control[0] + following[0]) / 2, (control[1] + following[1]) / 2)
        yield from _bezier([start, control, stop])
        start = stop


def _bezier(points: list[Point]) -> Iterable[Point]:
    """Flatten one Bézier curve, its first point left out (de Casteljau)."""
    for step in range(1, CURVE_STEPS + 1):
        t = step / CURVE_STEPS
        row = points
        while len(row) > 1:
            row = [(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for a, b in itertools.pairwise(row)]
        yield row[0]


def _placed(
    polygons: list[Polygon], width: float, height: float, place: Callable[[float, float], Point]
) -> list[Polygon]:
    return [[place(x * width, y * height) for x, y in polygon] for polygon in polygons]


def _on_arc(angle: float, radius: float) -> Callable[[float, float], Point]:
    """Turn a character so that its foot points to the centre; ``angle`` in radians, clockwise from the top."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return lambda x, y: (x * cosine - (y - radius) * sine, x * sine + (y - radius) * cosine)


def _moved(x0: float, y0: float) -> Callable[[float, float], Point]:
    return lambda x, y: (x + x0, y + y0)


def star(diameter: float) -> Polygon:
    """Return the regular five-pointed star, one point up, whose points lie on a circle of ``diameter``."""
    inner = math.sin(math.radians(18)) / math.sin(math.radians(54))
    radii = [diameter / 2 * (inner if step % 2 else 1.0) for step in range(10)]
    return [
        (radius * math.sin(step * math.pi / 5), -radius * math.cos(step * math.pi / 5))
        for step, radius in enumerate(radii)
    ]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A seal as outlines in millimetres around its centre."""

    design: SealDesign
    glyphs: tuple[list[Polygon], ...]
    star: Polygon

    def svg(self) -> str:
        """Return a self-contained SVG document of ``diameter`` millimetres; the text is outlines, no font is needed."""
        design = self.design
        half = design.diameter / 2
        red = "#{:02X}{:02X}{:02X}".format(*RED)
        paths = "\n".join(f'<path d="{_path(glyph)}"/>' for glyph in self.glyphs)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{design.diameter:g}mm" height="{design.diameter:g}mm" '
            f'viewBox="{-half:g} {-half:g} {design.diameter:g} {design.diameter:g}" fill="{red}" stroke="none">\n'
            f"<title>{escape(design.name + design.line)}</title>\n"
            f'<circle r="{half - design.ring / 2:g}" fill="none" stroke="{red}" stroke-width="{design.ring:g}"/>\n'
            f'<path d="{_path([self.star])}"/>\n'
            f'<g stroke="{red}" stroke-width="{design.weight:g}" stroke-linejoin="round">\n{paths}\n</g>\n</svg>\n'
        )

    def png(self, dpi: int = 300) -> bytes:
        """Return a PNG with a transparent background, ``diameter`` millimetres wide at ``dpi`` dots per inch."""
        design = self.design
        pixels = round(design.diameter / 25.4 * dpi)
        size = pixels * OVERSAMPLING
        scale = size / design.diameter
        alpha = Image.new("L", (size, size), 0)
        draw = ImageDraw.Draw(alpha)
        draw.ellipse((0, 0, size - 1, size - 1), outline=255, width=round(design.ring * scale))
        for glyph in self.glyphs:
            _fill(draw, _scaled(glyph, scale, size / 2), round(design.weight * scale))
        _fill(draw, _scaled([self.star], scale, size / 2), 0)
        picture = Image.new("RGBA", (pixels, pixels), RED)
        picture.putalpha(alpha.reduce(OVERSAMPLING))
        out = io.BytesIO()
        picture.save(out, "PNG", dpi=(dpi, dpi), optimize=True)
        return out.getvalue()


def _path(polygons: list[Polygon]) -> str:
    return "".join("M" + "L".join(f"{x:.3f} {y:.3f}" for x, y in polygon) + "Z" for polygon in polygons)


def _scaled(polygons: list[Polygon], scale: float, middle: float) -> list[Polygon]:
    return [[(x * scale + middle, y * scale + middle) for x, y in polygon] for polygon in polygons]


def _area(polygon: Polygon) -> float:
    """Return the signed area: its sign tells which way the outline turns."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, [*polygon[1:], polygon[0]], strict=True)) / 2


def _fill(draw: ImageDraw.ImageDraw, polygons: list[Polygon], weight: int) -> None:
    """Fill a glyph. From the largest outline to the smallest, one that turns like the first is ink, another a hole."""
    ordered = sorted(polygons, key=lambda polygon: -abs(_area(polygon)))
    for polygon in ordered:
        draw.polygon(polygon, fill=255 if _area(polygon) * _area(ordered[0]) > 0 else 0)
    if weight:
        for polygon in polygons:
            draw.line([*polygon, *polygon[:2]], fill=255, width=weight, joint="curve")


def draw_seal(design: SealDesign, font: Path | None = None) -> Drawing:
    """Lay out a seal.

    :param font: TrueType or OpenType file; :func:`demo.fonts.find_font` when left out
    :raises ValueError: the font lacks a character of the seal
    """
    shapes = outlines(font or find_font(), design.name + design.line)
    glyphs: list[list[Polygon]] = []

    radius = design.diameter / 2 - design.ring - design.gap - design.name_height / 2
    step = min(design.name_step, design.name_arc / max(len(design.name) - 1, 1))
    # A character may be as wide as its share of the arc at its foot, less a little air, and never wider than high.
    width = min(design.name_height * 0.86, math.radians(step) * (radius - design.name_height / 4) * 0.92)
    for index, character in enumerate(design.name):
        angle = math.radians((index - (len(design.name) - 1) / 2) * step)
        glyphs.append(_placed(shapes[character], width, design.name_height, _on_arc(angle, radius)))

    step = design.line_height * 1.06
    for index, character in enumerate(design.line):
        x0 = (index - (len(design.line) - 1) / 2) * step
        place = _moved(x0, design.line_position)
        glyphs.append(_placed(shapes[character], design.line_height, design.line_height, place))
    return Drawing(design, tuple(glyphs), star(design.star))
