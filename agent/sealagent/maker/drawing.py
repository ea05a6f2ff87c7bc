"""A drawn seal: outlines in millimetres, written as SVG and filled as PNG.

The same geometry serves both: origin in the middle, y downwards. What each kind of seal looks like says
:mod:`sealagent.maker.layouts`.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from sealagent.errors import FormatError
from sealagent.maker.glyphs import Point, Polygon
from sealagent.maker.tracks import Written
from sealagent.seals.extras import missing_extra

if TYPE_CHECKING:
    from PIL import ImageDraw

__all__ = ["COLOURS", "DPI", "Drawing", "Frame", "Ring"]

COLOURS: dict[str, tuple[int, int, int]] = {"red": (0xD7, 0x00, 0x0F), "blue": (0x1B, 0x3F, 0xA0)}
"""What a seal may be printed in; the law of most seals is red."""
DPI = 300
MIN_DPI, MAX_DPI = 72, 1200
"""Below, characters cannot be read; above, no printer shows the difference, and a seal goes into every document."""
MITRE = 2.0
"""The corner of a stroke may stick out so many times half its width; a sharper one is cut off (as SVG defines it)."""
OVERSAMPLING = 4
"""The PNG is drawn this many times larger, then averaged, for smooth edges."""
LARGE = 1600
"""Pixels on a side from which half the oversampling does: pixels are small enough by themselves."""


@dataclass(frozen=True, slots=True)
class Ring:
    """The border of a round or oval seal; it touches the edges of the picture."""

    line: float
    """Millimetres."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The border of a square seal."""

    line: float
    """Millimetres."""
    radius: float
    """Of its outer corners, millimetres."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A seal as outlines."""

    title: str
    width: float
    """Millimetres, as :attr:`height`."""
    height: float
    colour: tuple[int, int, int]
    border: Ring | Frame
    written: tuple[Written, ...]
    solids: tuple[Polygon, ...] = ()
    """Filled shapes other than characters: the star."""
    reversed: bool = False
    """白文: the ground is printed, the characters are left out. Only with a :class:`Frame`."""

    def svg(self) -> str:
        """Return a self-contained SVG document of the seal's size; its text is outlines, no font is needed."""
        ink = "#{:02X}{:02X}{:02X}".format(*self.colour)
        w, h = self.width, self.height
        box = f'x="{-w / 2:g}" y="{-h / 2:g}" width="{w:g}" height="{h:g}"'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:g}mm" height="{h:g}mm" '
            f'viewBox="{-w / 2:g} {-h / 2:g} {w:g} {h:g}" fill="{ink}" stroke="none">\n'
            f"<title>{escape(self.title)}</title>\n"
        )
        solids = "".join(f'<path d="{_path([solid])}"/>\n' for solid in self.solids)
        if self.reversed:
            assert isinstance(self.border, Frame)
            return (
                f'{head}<mask id="text" maskUnits="userSpaceOnUse" {box}>\n<rect {box} fill="#FFFFFF"/>\n'
                f"{self._characters('#000000')}</mask>\n"
                f'<rect {box} rx="{self.border.radius:g}" mask="url(#text)"/>\n</svg>\n'
            )
        return f"{head}{self._border(ink)}{solids}{self._characters(ink)}</svg>\n"

    def _border(self, ink: str) -> str:
        line = self.border.line
        stroke = f'fill="none" stroke="{ink}" stroke-width="{line:g}"'
        rx, ry = self.width / 2 - line / 2, self.height / 2 - line / 2
        if isinstance(self.border, Ring):
            return f'<ellipse rx="{rx:g}" ry="{ry:g}" {stroke}/>\n'
        corner = max(self.border.radius - line / 2, 0)
        return f'<rect x="{-rx:g}" y="{-ry:g}" width="{2 * rx:g}" height="{2 * ry:g}" rx="{corner:g}" {stroke}/>\n'

    def _characters(self, ink: str) -> str:
        groups = []
        for weight, group in itertools.groupby(self.written, lambda each: each.weight):
            paths = "\n".join(f'<path d="{_path(each.polygons)}"/>' for each in group if each.polygons)
            stroke = f'stroke="{ink}" stroke-width="{weight:.3g}" stroke-miterlimit="{MITRE:g}"'
            groups.append(f'<g fill="{ink}" {stroke}>\n{paths}\n</g>\n')
        return "".join(groups)

    def png(self, dpi: int = DPI) -> bytes:
        """Return a PNG with a transparent ground, the seal's size at ``dpi`` dots per inch.

        :raises FormatError: ``design_invalid``: a resolution out of bounds.
        :raises SealAgentError: ``drawing_unavailable``.
        """
        if not MIN_DPI <= dpi <= MAX_DPI:
            raise FormatError("design_invalid", f"the resolution must be from {MIN_DPI} to {MAX_DPI} dpi", field="dpi")
        try:
            from PIL import Image, ImageChops, ImageDraw
        except ImportError as exc:
            raise missing_extra("pillow") from exc
        pixels = (max(round(self.width / 25.4 * dpi), 1), max(round(self.height / 25.4 * dpi), 1))
        times = OVERSAMPLING if max(pixels) <= LARGE else OVERSAMPLING // 2
        size = (pixels[0] * times, pixels[1] * times)
        scale = (size[0] / self.width, size[1] / self.height)

        ground = Image.new("L", size, 0)
        self._draw_border(ImageDraw.Draw(ground), size, scale[0])
        text = Image.new("L", size, 0)
        draw = ImageDraw.Draw(text)
        for solid in self.solids:
            draw.polygon(_scaled(solid, scale, size), fill=255)
        for each in self.written:
            _fill(draw, [_scaled(polygon, scale, size) for polygon in each.polygons], each.weight * scale[0])
        alpha = ImageChops.subtract(ground, text) if self.reversed else ImageChops.lighter(ground, text)
        picture = Image.new("RGBA", pixels, self.colour)
        picture.putalpha(alpha.reduce(times))
        out = io.BytesIO()
        picture.save(out, "PNG", dpi=(dpi, dpi), optimize=True)
        return out.getvalue()

    def _draw_border(self, draw: ImageDraw.ImageDraw, size: tuple[int, int], scale: float) -> None:
        whole = (0, 0, size[0] - 1, size[1] - 1)
        width = round(self.border.line * scale)
        if isinstance(self.border, Ring):
            draw.ellipse(whole, outline=255, width=width)
        elif self.reversed:
            draw.rounded_rectangle(whole, self.border.radius * scale, fill=255)
        else:
            draw.rounded_rectangle(whole, self.border.radius * scale, outline=255, width=width)


def _path(polygons: Sequence[Polygon]) -> str:
    return "".join("M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in polygon) + "Z" for polygon in polygons)


def _short(value: float) -> str:
    """Write a measure to a thousandth of a millimetre, without zeros that say nothing."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _scaled(polygon: Polygon, scale: tuple[float, float], size: tuple[int, int]) -> Polygon:
    # A pixel's number is that of its middle.
    return [(x * scale[0] + (size[0] - 1) / 2, y * scale[1] + (size[1] - 1) / 2) for x, y in polygon]


def _area(polygon: Polygon) -> float:
    """Return the signed area: its sign tells which way the outline turns."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, [*polygon[1:], polygon[0]], strict=True)) / 2


def _fill(draw: ImageDraw.ImageDraw, polygons: Sequence[Polygon], weight: float) -> None:
    """Fill a glyph. From the largest outline to the smallest, one that turns like the first is ink, another a hole."""
    ordered = sorted(polygons, key=lambda polygon: -abs(_area(polygon)))
    for polygon in ordered:
        draw.polygon(polygon, fill=255 if _area(polygon) * _area(ordered[0]) > 0 else 0)
    for polygon in polygons:
        for piece in _stroke(polygon, weight / 2):
            draw.polygon(piece, fill=255)


def _stroke(polygon: Polygon, half: float) -> Iterator[Polygon]:
    """Yield what a line along a closed outline covers: each side as an oblong, each corner mitred as in SVG."""
    if half <= 0:
        return
    points = [a for a, b in itertools.pairwise([*polygon, polygon[0]]) if math.dist(a, b) > 1e-6]
    sides = []
    for a, b in itertools.pairwise([*points, *points[:1]]):
        length = math.dist(a, b)
        sides.append((a, b, ((b[0] - a[0]) / length, (b[1] - a[1]) / length)))
    for a, b, (dx, dy) in sides:
        nx, ny = -dy * half, dx * half
        yield [(a[0] + nx, a[1] + ny), (b[0] + nx, b[1] + ny), (b[0] - nx, b[1] - ny), (a[0] - nx, a[1] - ny)]
    for (_, corner, before), (_, _, after) in itertools.pairwise([*sides, *sides[:1]]):
        yield _corner(corner, before, after, half)


def _corner(corner: Point, before: Point, after: Point, half: float) -> Polygon:
    side = -half if before[0] * after[1] - before[1] * after[0] > 0 else half  # the outer one
    first = (-before[1] * side, before[0] * side)
    second = (-after[1] * side, after[0] * side)
    cosine = before[0] * after[0] + before[1] * after[1]
    x, y = corner
    joined = [(x, y), (x + first[0], y + first[1]), (x + second[0], y + second[1])]
    if 2 / max(1 + cosine, 1e-9) <= MITRE**2:
        joined.insert(2, (x + (first[0] + second[0]) / (1 + cosine), y + (first[1] + second[1]) / (1 + cosine)))
    return joined
